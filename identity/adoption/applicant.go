package adoption

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
)

const (
	// replyTimeout is how long a side waits for the other's next message.
	replyTimeout = 30 * time.Second
	// openSettle is how long answers of open dominions are gathered before one is chosen.
	openSettle = 5 * time.Second
	// openExpiry is how long the answer of an open dominion counts.
	openExpiry = replyTimeout
	// maxOpen bounds the open dominions that are gathered.
	maxOpen = 8
)

// ApplicantOptions says who applies.
type ApplicantOptions struct {
	Key *ecdsa.PrivateKey
	// Protocol, ID, Name and Recipient are as in Question.
	Protocol, ID, Name, Recipient string
	// Session, Stranger, Address and Model are hints of Question.
	Session, Stranger, Address, Model string
	// Upgrade is the id of the dominion that the domain joined before it had a key; it is adopted
	// by that without a proof. "": there is none. Ask nobody but that dominion's hub then, by a
	// connection as trusted as the one of its joins.
	Upgrade string
	// Home is the dominion that the domain belongs to; nil: to none.
	Home *Home
}

// Home is the dominion that a domain belongs to, which may adopt it again by its certificate.
type Home struct {
	Trust    identity.Trust
	Verifier identity.Verifier
	// Chain is the domain's certificate and its issuers.
	Chain []*x509.Certificate
}

// pinned reports whether the key of an authority is pinned.
func (h *Home) pinned(root *x509.Certificate) bool {
	return slices.ContainsFunc(h.Verifier.Roots, func(r *x509.Certificate) bool {
		return bytes.Equal(r.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo)
	})
}

// Means are by what a domain lets itself be adopted.
type Means struct {
	// Code is the key of its code; nil while it is being computed.
	Code CodeKey
	// Token is a token that it was given.
	Token *Token
	// Open is true while its own machine says that it joins any dominion that is open.
	Open bool
}

// Applicant is the domain's side of an adoption. It asks until a hub proves itself by one of its
// means, and believes nothing before.
type Applicant struct {
	options   ApplicantOptions
	means     Means
	question  Question
	ephemeral *ecdh.PrivateKey
	limiter   Limiter
	throttle  signed.Throttle
	// open are answers of dominions that are open, which proved nothing but their own keys.
	open []opening
	// chosen is the hub that has proved itself; nil: none.
	chosen *hubSide
	// until is when chosen is given up.
	until time.Time
	// adopted is what was received; nil: nothing yet.
	adopted *Adopted
}

// opening is an answer of a dominion that is open.
type opening struct {
	side hubSide
	// first and last are when it answered first and last.
	first, last time.Time
}

// hubSide is a hub's answer after it was checked.
type hubSide struct {
	answer     Answer
	transcript []byte
	root       *x509.Certificate
	hub        identity.Peer
}

// Adopted is what a domain stores when it was adopted.
type Adopted struct {
	Method Method
	// Trust has the authority to pin, the key list, and the word that the domain shows at its next join.
	Trust identity.Trust
	// Chain is the domain's certificate and its issuers without the authority.
	Chain []*x509.Certificate
	// Grant is the grant, in JSON, that the hub's proof covers.
	Grant []byte
	// Hub is the hub's key.
	Hub identity.Peer
	// Ephemeral and HubEphemeral are the keys of the exchange, for the session's MACs.
	Ephemeral    *ecdh.PrivateKey
	HubEphemeral *ecdh.PublicKey

	transcript []byte
}

// NewApplicant returns a domain that asks.
func NewApplicant(o ApplicantOptions) (*Applicant, error) {
	a := &Applicant{options: o}
	if err := a.reset(); err != nil {
		return nil, err
	}
	if _, err := a.question.check(); err != nil {
		return nil, fmt.Errorf("cannot ask to join: %w", err)
	}
	return a, nil
}

// reset begins a new question.
func (a *Applicant) reset() error {
	key, err := identity.EncodePublicKey(&a.options.Key.PublicKey)
	if err != nil {
		return err
	}
	if a.ephemeral, err = signed.NewEphemeral(); err != nil {
		return err
	}
	o := a.options
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	a.question = Question{
		Protocol: o.Protocol, ID: o.ID, Name: o.Name, Key: key, Recipient: o.Recipient,
		Ephemeral: a.ephemeral.PublicKey().Bytes(), Nonce: nonce,
		Session: o.Session, Upgrade: o.Upgrade, Stranger: o.Stranger, Address: o.Address, Model: o.Model,
	}
	if o.Home != nil {
		a.question.Certificate = identity.EncodeChain(o.Home.Chain)
	}
	a.open, a.chosen, a.adopted, a.until = nil, nil, nil, time.Time{}
	a.hint()
	return nil
}

// hint writes into the question by which means the domain may be adopted.
func (a *Applicant) hint() {
	a.question.Open, a.question.Token = a.mayJoinOpen(), nil
	if a.means.Token != nil {
		a.question.Token = a.means.Token.PublicKey()
	}
}

// mayJoinOpen reports whether the domain joins a dominion that is open. One that belongs to a
// dominion which it does not hear is moved by code or token alone.
func (a *Applicant) mayJoinOpen() bool { return a.means.Open && a.options.Stranger == "" }

// SetMeans says by what the domain may be adopted from now on. The question stays.
func (a *Applicant) SetMeans(m Means) {
	a.means = m
	if !a.mayJoinOpen() {
		a.open = nil
	}
	a.hint()
}

// Question returns what the domain asks every hub that it reaches. It is the same until a hub was
// chosen and did not go on.
func (a *Applicant) Question() (Question, error) {
	q := a.question
	var err error
	q.Signature, err = signed.SignBytes(a.options.Key, labelled(questionLabel, q.digest()))
	return q, err
}

// SetProblems says why the domain could not join, for people who look at the hub.
func (a *Applicant) SetProblems(problems ...string) { a.question.Problems = problems }

// Answer takes a hub's answer, and returns the proof to send it; nil if there is nothing to
// send. from tells hubs apart for the slowing of wrong codes. Nothing is sent to a hub that has not
// proved that it has the code, is of the token's authority, or is the only open one.
func (a *Applicant) Answer(m Answer, from string, now time.Time) (*Proof, error) {
	if err := a.Expire(now); err != nil {
		return nil, err
	}
	if a.chosen != nil {
		if bytes.Equal(m.Nonce, a.chosen.answer.Nonce) && m.Method == a.chosen.answer.Method {
			return a.proof(*a.chosen) // it did not get it
		}
		return nil, fmt.Errorf("cannot take the answer of %.80s: another hub has proved itself", m.Dominion)
	}
	if !bytes.Equal(m.Question, a.question.Nonce) || len(m.Nonce) != nonceSize {
		return nil, fmt.Errorf("cannot take the answer of %.80s: %w", m.Dominion, ErrNotAsked)
	}
	if err := a.mayTake(m, from, now); err != nil {
		return nil, fmt.Errorf("cannot take the answer of %.80s: %w", m.Dominion, err)
	}
	if !a.throttle.Allow(from, now) {
		return nil, fmt.Errorf("cannot take the answer of %.80s: %w", m.Dominion, ErrTooSoon)
	}
	side, err := a.check(m, now)
	if err != nil {
		a.throttle.Failed(from, now)
		return nil, fmt.Errorf("cannot take the answer of %.80s: %w", m.Dominion, err)
	}
	if m.Method == ByWindow {
		return nil, a.gather(side, now)
	}
	return a.choose(side, now)
}

// mayTake checks what is cheap, and the proof of a code, before any certificate is parsed.
func (a *Applicant) mayTake(m Answer, from string, now time.Time) error {
	switch m.Method {
	case ByCode:
		if a.means.Code == nil {
			return fmt.Errorf("%w: the code's key is not computed yet", ErrMethod)
		}
		if err := a.limiter.Check(from, now); err != nil {
			return err
		}
		if t := transcript(a.question, m); !a.means.Code.proves(hubLabel, t, m.Proof) {
			wait := a.limiter.Wrong(from, now)
			a.question.Refused = t
			return fmt.Errorf("%w: the next one is heard in %v", ErrWrongCode, wait)
		}
		a.limiter.Right(from)
	case ByToken:
		if a.means.Token == nil || a.means.Token.Use != ForDomain {
			return fmt.Errorf("%w: %s", ErrMethod, m.Method)
		}
	case ByWindow:
		if !a.mayJoinOpen() {
			return fmt.Errorf("%w: %s", ErrMethod, m.Method)
		}
	case ByUpgrade:
		if a.options.Upgrade == "" || m.Dominion != a.options.Upgrade {
			return fmt.Errorf("%w: %s", ErrMethod, m.Method)
		}
	case ByCertificate:
		if a.options.Home == nil || a.options.Home.Trust.Dominion != m.Dominion {
			return fmt.Errorf("%w: %s", ErrMethod, m.Method)
		}
	default:
		return fmt.Errorf("%w: %.20q", ErrMethod, m.Method)
	}
	return nil
}

// check verifies that a hub has the key of a certificate of the authority that it shows.
func (a *Applicant) check(m Answer, now time.Time) (hubSide, error) {
	roots, err := identity.ParseChain([][]byte{m.Authority})
	if err != nil {
		return hubSide{}, err
	}
	root := roots[0]
	if m.Method == ByToken && sha256.Sum256(root.RawSubjectPublicKeyInfo) != a.means.Token.Authority {
		return hubSide{}, ErrOtherAuthority
	}
	if !root.BasicConstraintsValid || !root.IsCA || root.CheckSignatureFrom(root) != nil {
		return hubSide{}, fmt.Errorf("%w: its authority is not a root", ErrProof)
	}
	chain, err := identity.ParseChain(m.Certificate)
	if err != nil {
		return hubSide{}, err
	}
	v := identity.Verifier{Dominion: m.Dominion, Roots: []*x509.Certificate{root}}
	if m.Method == ByCertificate { // by what is pinned, and by its key list
		if v = a.options.Home.Verifier; !a.options.Home.pinned(root) {
			return hubSide{}, ErrOtherAuthority
		}
	}
	hub, err := v.Verify(chain, now, identity.HubUse)
	if err != nil {
		return hubSide{}, err
	}
	if _, err := signed.ParseEphemeral(m.Ephemeral); err != nil {
		return hubSide{}, err
	}
	t := transcript(a.question, m)
	if !signed.VerifyBytes(hub.Key, labelled(hubLabel, t), m.Signature) {
		return hubSide{}, ErrProof
	}
	return hubSide{answer: m, transcript: t, root: root, hub: hub}, nil
}

// labelled returns what is signed of a transcript.
func labelled(label string, parts ...[]byte) []byte {
	return slices.Concat([]byte(label), bytes.Join(parts, nil))
}

// gather records that a dominion is open. One authority counts once, whatever hub of it answers.
func (a *Applicant) gather(side hubSide, now time.Time) error {
	for i, o := range a.open {
		if o.side.root.Equal(side.root) {
			a.open[i].side, a.open[i].last = side, now
			return nil
		}
	}
	if len(a.open) >= maxOpen {
		return ErrTwoOpen
	}
	a.open = append(a.open, opening{side, now, now})
	return nil
}

// Choose returns the proof for the only dominion that is open, once answers were gathered for a
// while; nil if there is nothing to send. If there are two, it waits: the error names them.
func (a *Applicant) Choose(now time.Time) (*Proof, error) {
	if a.chosen != nil || len(a.open) == 0 || now.Sub(a.open[0].first) < openSettle {
		return nil, nil
	}
	if len(a.open) > 1 {
		var names []string
		for _, o := range a.open {
			names = append(names, fmt.Sprintf("%s (%s)", o.side.answer.Name, o.side.answer.Dominion))
		}
		return nil, fmt.Errorf("cannot choose a dominion: %w: %s: close one of them, or use the code", ErrTwoOpen, strings.Join(names, ", "))
	}
	return a.choose(a.open[0].side, now)
}

// choose decides for a hub that has proved itself.
func (a *Applicant) choose(side hubSide, now time.Time) (*Proof, error) {
	p, err := a.proof(side)
	if err != nil {
		return nil, err
	}
	a.chosen, a.until = &side, now.Add(replyTimeout)
	return p, nil
}

// proof returns the domain's proof for a hub.
func (a *Applicant) proof(side hubSide) (*Proof, error) {
	signature, err := signed.SignBytes(a.options.Key, labelled(domainLabel, side.transcript))
	if err != nil {
		return nil, err
	}
	p := &Proof{Transcript: side.transcript, Signature: signature}
	switch side.answer.Method {
	case ByCode:
		p.Proof = a.means.Code.prove(domainLabel, side.transcript)
	case ByToken:
		if a.means.Token == nil {
			return nil, ErrMethod
		}
		p.Token = a.means.Token.sign(side.transcript)
	}
	return p, nil
}

// Complete takes the completion of the hub that was chosen, and returns what the domain must store
// before it sends the Confirmation.
func (a *Applicant) Complete(c Completion, now time.Time) (Adopted, error) {
	adopted, err := a.complete(c, now)
	if err != nil {
		return Adopted{}, fmt.Errorf("cannot complete the adoption: %w", err)
	}
	a.adopted = &adopted
	return adopted, nil
}

func (a *Applicant) complete(c Completion, now time.Time) (Adopted, error) {
	if a.chosen == nil || !bytes.Equal(c.Transcript, a.chosen.transcript) {
		return Adopted{}, ErrNotAsked
	}
	s := a.chosen
	if !signed.VerifyBytes(s.hub.Key, labelled(joinedLabel, c.digest()), c.Signature) {
		return Adopted{}, ErrProof
	}
	chain, err := identity.ParseChain(c.Certificate)
	if err != nil {
		return Adopted{}, err
	}
	trust, err := a.trust(c)
	if err != nil {
		return Adopted{}, err
	}
	v, err := trust.Verifier(nil)
	if err != nil {
		return Adopted{}, err
	}
	if !v.Keys.HasHub(s.hub.KeyHash) {
		return Adopted{}, identity.ErrNotListed
	}
	own, err := v.Verify(chain, now, identity.DomainUse)
	if err != nil {
		return Adopted{}, err
	}
	if own.Subject.Name != a.question.ID || !own.Key.Equal(&a.options.Key.PublicKey) {
		return Adopted{}, errors.New("the certificate is of another domain")
	}
	if c.Word == "" {
		return Adopted{}, errors.New("it has no word")
	}
	hubEphemeral, err := signed.ParseEphemeral(s.answer.Ephemeral)
	if err != nil {
		return Adopted{}, err
	}
	return Adopted{
		Method: s.answer.Method, Trust: trust, Chain: chain, Grant: s.answer.Grant, Hub: s.hub,
		Ephemeral: a.ephemeral, HubEphemeral: hubEphemeral, transcript: s.transcript,
	}, nil
}

// trust returns what a completion has the domain pin. The dominion that it belongs to does not
// take back what it has pinned: a hub that was restored from a backup has an older key list.
func (a *Applicant) trust(c Completion) (identity.Trust, error) {
	s := a.chosen
	trust, again := identity.Trust{Dominion: s.answer.Dominion, Authority: s.root.Raw}, false
	if home := a.options.Home; home != nil && home.Trust.Dominion == trust.Dominion && home.pinned(s.root) {
		trust, again = home.Trust, true
	}
	trust.Word = c.Word
	next, _, err := trust.TakeKeyList(c.Keys)
	if again && (errors.Is(err, identity.ErrOlderList) || errors.Is(err, identity.ErrOtherList)) {
		return trust, nil
	}
	return next, err
}

// digest returns what the hub signs of a completion.
func (c Completion) digest() []byte {
	parts := [][]byte{c.Transcript, c.Keys, []byte(c.Word)}
	return hashParts(append(parts, c.Certificate...)...)
}

// Confirmation returns the last message. It may be sent only after what Complete returned was
// stored.
func (a *Applicant) Confirmation() (Confirmation, error) {
	if a.adopted == nil {
		return Confirmation{}, fmt.Errorf("cannot confirm an adoption: %w", ErrNotAsked)
	}
	c := Confirmation{Transcript: a.adopted.transcript, Word: a.adopted.Trust.Word}
	var err error
	c.Signature, err = signed.SignBytes(a.options.Key, labelled(confirmLabel, c.digest()))
	return c, err
}

// digest returns what the domain signs of a confirmation.
func (c Confirmation) digest() []byte { return hashParts(c.Transcript, []byte(c.Word)) }

// Expire gives up a hub that proved itself and did not go on, and open dominions that are silent.
func (a *Applicant) Expire(now time.Time) error {
	if a.chosen != nil && a.adopted == nil && !now.Before(a.until) {
		return a.reset()
	}
	a.open = slices.DeleteFunc(a.open, func(o opening) bool { return now.Sub(o.last) >= openExpiry })
	return nil
}

// Next returns when Choose or Expire have something to do; zero: not by time.
func (a *Applicant) Next() time.Time {
	if a.adopted != nil {
		return time.Time{}
	}
	if a.chosen != nil {
		return a.until
	}
	if len(a.open) == 0 {
		return time.Time{}
	}
	if len(a.open) == 1 {
		return a.open[0].first.Add(openSettle)
	}
	next := a.open[0].last
	for _, o := range a.open {
		if o.last.Before(next) {
			next = o.last
		}
	}
	return next.Add(openExpiry)
}

// Proved reports whether a hub has proved itself, and is to complete the adoption.
func (a *Applicant) Proved() bool { return a.chosen != nil }

// Chosen returns the id of the dominion whose hub has proved itself; "" before.
func (a *Applicant) Chosen() string {
	if a.chosen == nil {
		return ""
	}
	return a.chosen.answer.Dominion
}
