package adoption

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
)

// HubOptions says which hub answers.
type HubOptions struct {
	// Dominion and Name are of the dominion.
	Dominion, Name string
	Root           *x509.Certificate
	// Key and Chain are the hub's; the chain is without the root.
	Key   *ecdsa.PrivateKey
	Chain []*x509.Certificate
}

// Offer is the hub's side of one adoption, from its answer to the domain's confirmation. One
// that was abandoned is dropped: nothing was stored before Complete.
type Offer struct {
	// Question is what is answered.
	Question Question
	// Method is by what the domain is adopted.
	Method Method

	hub        HubOptions
	answer     Answer
	transcript []byte
	domain     *ecdsa.PublicKey
	ephemeral  *ecdh.PrivateKey
	code       CodeKey
	token      ed25519.PublicKey
	until      time.Time
	proved     bool
	completion *Completion // nil: not made yet
}

// OfferByCode answers a question with the key of the code that a person typed: Code.Key of the
// question's key, which is computed beside the loop. The code itself is not stored anywhere.
func (o HubOptions) OfferByCode(q Question, k CodeKey, grant []byte, now time.Time) (*Offer, error) {
	if len(k) == 0 {
		return nil, errors.New("cannot offer to adopt: the code's key is missing")
	}
	offer := &Offer{Method: ByCode, code: k}
	return offer, offer.make(o, q, grant, now)
}

// OfferByToken answers a question that names a token, whose public key is given.
func (o HubOptions) OfferByToken(q Question, token ed25519.PublicKey, grant []byte, now time.Time) (*Offer, error) {
	if len(token) != ed25519.PublicKeySize || !bytes.Equal(token, q.Token) {
		return nil, fmt.Errorf("cannot offer to adopt: %w: the question names another token", ErrMethod)
	}
	offer := &Offer{Method: ByToken, token: token}
	return offer, offer.make(o, q, grant, now)
}

// OfferByWindow answers a question of a domain that is open, while the hub's window is.
func (o HubOptions) OfferByWindow(q Question, grant []byte, now time.Time) (*Offer, error) {
	if !q.Open {
		return nil, fmt.Errorf("cannot offer to adopt: %w: the domain is not open", ErrMethod)
	}
	offer := &Offer{Method: ByWindow}
	return offer, offer.make(o, q, grant, now)
}

// OfferByUpgrade answers a question of a domain that joined this dominion before it had a key. The
// caller has found that it is that one.
func (o HubOptions) OfferByUpgrade(q Question, grant []byte, now time.Time) (*Offer, error) {
	if q.Upgrade != o.Dominion {
		return nil, fmt.Errorf("cannot offer to adopt: %w: the domain was of another dominion", ErrMethod)
	}
	offer := &Offer{Method: ByUpgrade}
	return offer, offer.make(o, q, grant, now)
}

// OfferByCertificate answers a question of a domain that has a certificate of the dominion, which
// the caller has verified.
func (o HubOptions) OfferByCertificate(q Question, grant []byte, now time.Time) (*Offer, error) {
	if len(q.Certificate) == 0 {
		return nil, fmt.Errorf("cannot offer to adopt: %w: the domain has no certificate", ErrMethod)
	}
	offer := &Offer{Method: ByCertificate}
	return offer, offer.make(o, q, grant, now)
}

// make makes the answer of an offer.
func (o *Offer) make(h HubOptions, q Question, grant []byte, now time.Time) error {
	key, err := q.check()
	if err != nil {
		return fmt.Errorf("cannot offer to adopt: %w", err)
	}
	if o.ephemeral, err = signed.NewEphemeral(); err != nil {
		return err
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	a := Answer{
		Question: q.Nonce, Dominion: h.Dominion, Authority: h.Root.Raw, Certificate: identity.EncodeChain(h.Chain),
		Ephemeral: o.ephemeral.PublicKey().Bytes(), Nonce: nonce, Grant: grant, Method: o.Method, Name: h.Name,
	}
	o.transcript = transcript(q, a)
	if o.Method == ByCode {
		a.Proof = o.code.prove(hubLabel, o.transcript)
	}
	if a.Signature, err = signed.SignBytes(h.Key, labelled(hubLabel, o.transcript)); err != nil {
		return err
	}
	o.Question, o.hub, o.answer, o.domain, o.until = q, h, a, key, now.Add(replyTimeout)
	return nil
}

// Answer returns the message to the domain. It may be sent again.
func (o *Offer) Answer() Answer { return o.answer }

// Refused returns ErrWrongCode if a later question of the domain says that it refused the
// answer. It is a hint: the domain may be another machine that pretends to be it.
func (o *Offer) Refused(q Question) error {
	if o.Method == ByCode && !o.proved && bytes.Equal(q.Refused, o.transcript) {
		return ErrWrongCode
	}
	return nil
}

// Prove takes the domain's proof. The domain may then be adopted: it has the key of its
// question, and the code or token. A proof that comes again is answered by the same completion; one
// with ErrSender says nothing of the domain.
func (o *Offer) Prove(p Proof, now time.Time) error {
	if err := o.prove(p, now); err != nil {
		return fmt.Errorf("cannot adopt %s: %w", o.Question.Name, err)
	}
	o.proved = true
	return nil
}

func (o *Offer) prove(p Proof, now time.Time) error {
	if !bytes.Equal(p.Transcript, o.transcript) {
		return ErrNotAsked
	}
	if o.Expired(now) {
		return errors.New("its proof came too late")
	}
	if !signed.VerifyBytes(o.domain, labelled(domainLabel, o.transcript), p.Signature) {
		return ErrSender
	}
	switch o.Method {
	case ByCode:
		if !o.code.proves(domainLabel, o.transcript, p.Proof) {
			return ErrWrongCode
		}
	case ByToken:
		if !ed25519.Verify(o.token, labelled(tokenLabel, o.transcript), p.Token) {
			return ErrProof
		}
	}
	return nil
}

// Complete returns the message that makes the domain a member. Before it is sent, the hub must
// have stored the domain: its key, unconfirmed, its word, and that a token was used. keys is the
// key list as at hub/keys. Once there is a completion, Complete returns it again.
func (o *Offer) Complete(certificate []*x509.Certificate, keys []byte, word string) (Completion, error) {
	if !o.proved {
		return Completion{}, fmt.Errorf("cannot adopt %s: it has proved nothing", o.Question.Name)
	}
	if o.completion != nil {
		return *o.completion, nil
	}
	c := Completion{Transcript: o.transcript, Certificate: identity.EncodeChain(certificate), Keys: keys, Word: word}
	var err error
	if c.Signature, err = signed.SignBytes(o.hub.Key, labelled(joinedLabel, c.digest())); err != nil {
		return Completion{}, err
	}
	o.completion = &c
	return c, nil
}

// Confirm takes the confirmation: the domain has stored everything, and its word is confirmed.
func (o *Offer) Confirm(c Confirmation) error {
	if o.completion == nil || c.Word != o.completion.Word || !bytes.Equal(c.Transcript, o.transcript) {
		return fmt.Errorf("cannot take the confirmation of %s: %w", o.Question.Name, ErrNotAsked)
	}
	if !signed.VerifyBytes(o.domain, labelled(confirmLabel, c.digest()), c.Signature) {
		return fmt.Errorf("cannot take the confirmation of %s: %w", o.Question.Name, ErrProof)
	}
	return nil
}

// Completed reports whether there is a completion: the domain is stored, and may be confirmed.
func (o *Offer) Completed() bool { return o.completion != nil }

// Domain returns the domain's public key.
func (o *Offer) Domain() *ecdsa.PublicKey { return o.domain }

// Exchange returns the keys of the exchange, for the session's MACs.
func (o *Offer) Exchange() (own *ecdh.PrivateKey, domain *ecdh.PublicKey, err error) {
	domain, err = signed.ParseEphemeral(o.Question.Ephemeral)
	return o.ephemeral, domain, err
}

// Expired reports whether the domain did not prove itself in time.
func (o *Offer) Expired(now time.Time) bool { return !o.proved && !now.Before(o.until) }

// Next returns when the offer expires.
func (o *Offer) Next() time.Time { return o.until }
