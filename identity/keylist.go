package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// KeyListKind is the kind of the key list as a signed message.
const KeyListKind = "hub/keys"

// KeyList is a key list, as it is the payload of hub/keys.
type KeyList topics.KeyList

// HubKey is a hub's key that counts, and RevokedKey a key that is not accepted any more.
type (
	HubKey     = topics.HubKey
	RevokedKey = topics.RevokedKey
)

// Bounds of a key list.
const (
	maxHubs    = 16
	maxRevoked = 4096
)

// Why a key list is not taken.
var (
	// ErrOlderList means that a key list has a lower number than the one that is there.
	ErrOlderList = errors.New("the key list is older than the one that is stored")
	// ErrOtherList means that a key list has the number of the one that is there, and other content: two
	// hubs number by themselves, or one was restored from a backup.
	ErrOtherList = errors.New("the key list has the number of the stored one and other content")
)

// HasHub reports whether a hub's key counts.
func (l *KeyList) HasHub(key string) bool {
	return slices.ContainsFunc(l.Hubs, func(h HubKey) bool { return h.Key == key }) && !l.IsRevoked(key)
}

// IsRevoked reports whether a key is revoked.
func (l *KeyList) IsRevoked(key string) bool {
	return slices.ContainsFunc(l.Revoked, func(r RevokedKey) bool { return r.Key == key })
}

// revokes reports whether the key of a certificate is revoked.
func (l *KeyList) revokes(cert *x509.Certificate) bool { return l.IsRevoked(hashOf(cert)) }

// RevokesSigner reports whether an intermediate is revoked that signed another list.
func (l *KeyList) RevokesSigner(o KeyList) bool {
	if len(o.Chain) == 0 {
		return false
	}
	chain, err := ParseChain(o.Chain)
	return err != nil || slices.ContainsFunc(chain, l.revokes)
}

// clone returns a list that shares nothing that WithHub and the like change.
func (l KeyList) clone() KeyList {
	l.Hubs, l.Revoked = slices.Clone(l.Hubs), slices.Clone(l.Revoked)
	l.Number++
	return l
}

// WithHub returns the next list, in which a hub's key counts.
func (l KeyList) WithHub(h HubKey) KeyList {
	next := l.clone()
	next.Hubs = append(slices.DeleteFunc(next.Hubs, func(o HubKey) bool { return o.Key == h.Key }), h)
	return next
}

// WithoutHub returns the next list, in which a hub's key does not count.
func (l KeyList) WithoutHub(key string) KeyList {
	next := l.clone()
	next.Hubs = slices.DeleteFunc(next.Hubs, func(o HubKey) bool { return o.Key == key })
	return next
}

// Revoke returns the next list, in which a key is revoked. Entries of users, services and domains
// whose certificates have ended are left out; of those that are too many, the
// ones that end first.
func (l KeyList) Revoke(r RevokedKey, now time.Time) KeyList {
	next := l.WithoutHub(r.Key)
	next.Revoked = slices.DeleteFunc(next.Revoked, func(o RevokedKey) bool {
		return RevocationEnded(o, now) || o.Key == r.Key
	})
	next.Revoked = append(next.Revoked, r)
	return next
}

// RevocationEnded reports whether an entry can leave the list: no certificate of its key is
// accepted any more. Those of domains and hubs are accepted after their end.
func RevocationEnded(r RevokedKey, now time.Time) bool {
	return (r.Use == UserUse || r.Use == ServiceUse) && r.Expires != 0 && time.Unix(r.Expires, 0).Before(now)
}

// Merge returns the next list after two that were made independently, such as by a hub that was restored
// from a backup: a key that one of them revokes is revoked, and the hubs of both count otherwise.
func (l KeyList) Merge(o KeyList) KeyList {
	next := l.clone()
	next.Number = max(l.Number, o.Number) + 1
	for _, r := range o.Revoked {
		if !next.IsRevoked(r.Key) {
			next.Revoked = append(next.Revoked, r)
		}
	}
	for _, h := range o.Hubs {
		if !next.HasHub(h.Key) {
			next.Hubs = append(next.Hubs, h)
		}
	}
	next.Hubs = slices.DeleteFunc(next.Hubs, func(h HubKey) bool { return next.IsRevoked(h.Key) })
	return next
}

// check returns an error for a list that no authority writes.
func (l *KeyList) check() error {
	if !topics.ValidID(l.Dominion) {
		return fmt.Errorf("field dominion: %.80q is not an id", l.Dominion)
	}
	if len(l.Hubs) > maxHubs || len(l.Revoked) > maxRevoked {
		return fmt.Errorf("it has %d hub keys and %d revoked keys, at most %d and %d are allowed: certificates of users and services that end sooner leave the list sooner", len(l.Hubs), len(l.Revoked), maxHubs, maxRevoked)
	}
	for _, h := range l.Hubs {
		if !ValidKeyHash(h.Key) {
			return fmt.Errorf("field hubs: %.80q is not the hash of a key", h.Key)
		}
	}
	for _, r := range l.Revoked {
		if !ValidKeyHash(r.Key) {
			return fmt.Errorf("field revoked: %.80q is not the hash of a key", r.Key)
		}
	}
	return nil
}

// Sign returns the list as a message for hub/keys. The same list gives the same bytes.
func (l KeyList) Sign(a *Authority) ([]byte, error) {
	l.Chain = nil
	if a.Offline() {
		l.Chain = EncodeChain(a.between)
	}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("cannot sign the key list: %w", err)
	}
	return signed.Sign(a.Key, signed.Context{Kind: KeyListKind, Dominion: l.Dominion}, topics.Encode(l))
}

// VerifyKeyList reads a message of hub/keys if it is of the dominion and was signed by one
// of the authorities, and returns which. No list revokes an authority.
func VerifyKeyList(message []byte, dominion string, roots ...*x509.Certificate) (KeyList, *x509.Certificate, error) {
	l, root, err := verifyKeyList(message, dominion, roots)
	if err != nil {
		return KeyList{}, nil, fmt.Errorf("cannot take a key list: %w", err)
	}
	return l, root, nil
}

func verifyKeyList(message []byte, dominion string, roots []*x509.Certificate) (KeyList, *x509.Certificate, error) {
	if len(message) > topics.MaxPayload {
		return KeyList{}, nil, fmt.Errorf("it has %d bytes, at most %d are allowed", len(message), topics.MaxPayload)
	}
	c := signed.Context{Kind: KeyListKind, Dominion: dominion}
	for _, root := range roots {
		key, is := root.PublicKey.(*ecdsa.PublicKey)
		if !is {
			continue
		}
		if payload, err := signed.Verify(key, c, message); err == nil {
			l, err := decodeKeyList(payload, dominion)
			if err == nil && len(l.Chain) > 0 {
				err = errors.New("field chain: an authority signed the list by itself")
			}
			return l, root, err
		}
	}
	// Signed by an intermediate, whose certificates are in the list. They are believed when
	// they lead to a root, and nothing else of it before its signature is verified.
	payload, err := signed.Unverified(message)
	if err != nil {
		return KeyList{}, nil, err
	}
	var claim struct {
		Chain [][]byte `json:"chain"`
	}
	if err := json.Unmarshal(payload, &claim); err != nil {
		return KeyList{}, nil, signed.ErrSignature
	}
	chain, err := ParseChain(claim.Chain)
	if err != nil {
		return KeyList{}, nil, signed.ErrSignature
	}
	for _, root := range roots {
		key, is := chain[0].PublicKey.(*ecdsa.PublicKey)
		if !is || !leadsTo(chain, root) {
			continue
		}
		if payload, err = signed.Verify(key, c, message); err != nil {
			return KeyList{}, nil, err
		}
		l, err := decodeKeyList(payload, dominion)
		return l, root, err
	}
	return KeyList{}, nil, signed.ErrSignature
}

// leadsTo reports whether a chain of authorities, from the signer on, ends at a root.
func leadsTo(chain []*x509.Certificate, root *x509.Certificate) bool {
	for i, cert := range chain {
		issuer := root
		if i+1 < len(chain) {
			issuer = chain[i+1]
		}
		if !cert.BasicConstraintsValid || !cert.IsCA || cert.CheckSignatureFrom(issuer) != nil {
			return false
		}
	}
	return true
}

// decodeKeyList reads the payload of a list that was verified.
func decodeKeyList(payload []byte, dominion string) (KeyList, error) {
	if err := signed.CheckNames[KeyList](payload); err != nil {
		return KeyList{}, err
	}
	l, err := topics.Decode[KeyList](KeyListKind, payload)
	if err != nil {
		return KeyList{}, err
	}
	if err := l.check(); err != nil {
		return KeyList{}, err
	}
	if l.Dominion != dominion {
		return KeyList{}, fmt.Errorf("%w: %.80s", ErrDominion, l.Dominion)
	}
	return l, nil
}

// Published returns the payload of hub/certificate, retained: the key that orders name is
// verified by it.
func (h *Hub) Published() topics.HubCertificateView {
	return topics.HubCertificateView{
		Key:         h.KeyHash(),
		Certificate: string(EncodeCertificates(h.Chain...)),
		Authority:   string(EncodeCertificates(h.Authority.Root)),
	}
}

// VerifyPublished verifies a payload of hub/certificate, and returns the hub whose orders it lets verify.
func (v Verifier) VerifyPublished(c topics.HubCertificateView, now time.Time) (Peer, error) {
	chain, err := ParseCertificates([]byte(c.Certificate))
	if err != nil {
		return Peer{}, err
	}
	p, err := v.Verify(chain, now, HubUse)
	if err != nil {
		return Peer{}, err
	}
	if p.KeyHash != c.Key {
		return Peer{}, fmt.Errorf("cannot verify the certificate of hub %s: it is not of the key %.64q", p.Subject.Name, c.Key)
	}
	return p, nil
}

// Trust is what a domain has pinned: the authority, and the newest key list. It is stored as
// JSON, and changes by TakeKeyList alone.
type Trust struct {
	Dominion string `json:"dominion"`
	// Authority is the certificate (DER) that is pinned.
	Authority []byte `json:"authority"`
	// Next is the certificate of an authority that will replace it.
	Next []byte `json:"next,omitempty"`
	// Keys is the newest key list, as the authority signed it.
	Keys []byte `json:"keys,omitempty"`
	// Word is the word of the last join, which the domain shows at the next one.
	Word string `json:"word,omitempty"`
}

// Verifier returns a verifier of the dominion's certificates.
func (t Trust) Verifier(known func(s Subject, key string) bool) (Verifier, error) {
	roots, err := t.roots()
	if err != nil {
		return Verifier{}, err
	}
	v := Verifier{Dominion: t.Dominion, Roots: roots, Known: known}
	if len(t.Keys) > 0 {
		l, _, err := VerifyKeyList(t.Keys, t.Dominion, roots...)
		if err != nil {
			return Verifier{}, err
		}
		v.Keys = &l
	}
	return v, nil
}

// roots returns the pinned authority, and the next one if there is one.
func (t Trust) roots() ([]*x509.Certificate, error) {
	chain := [][]byte{t.Authority}
	if len(t.Next) > 0 {
		chain = append(chain, t.Next)
	}
	roots, err := ParseChain(chain)
	if err != nil {
		return nil, fmt.Errorf("cannot read the pinned authority: %w", err)
	}
	return roots, nil
}

// TakeKeyList returns what is pinned after a message of hub/keys, and whether that is
// something else than before: then it must be stored before it is used. A list by the next authority
// ends the one that is pinned. A list that is older than the stored one, or another one
// of its number, is refused with ErrOlderList or ErrOtherList.
func (t Trust) TakeKeyList(message []byte) (Trust, bool, error) {
	if len(message) > 0 && bytes.Equal(message, t.Keys) {
		return t, false, nil
	}
	roots, err := t.roots()
	if err != nil {
		return t, false, err
	}
	l, root, err := VerifyKeyList(message, t.Dominion, roots...)
	if err != nil {
		return t, false, err
	}
	if len(t.Keys) > 0 {
		stored, _, err := VerifyKeyList(t.Keys, t.Dominion, roots...)
		if err != nil {
			return t, false, err
		}
		if err := l.follows(&stored); err != nil {
			return t, false, err
		}
	}
	if len(l.Next) > 0 && len(l.Chain) > 0 {
		return t, false, errors.New("cannot take a key list: an intermediate signed it, and only the authority itself names the next one")
	}
	after := Trust{Dominion: t.Dominion, Authority: root.Raw, Next: l.Next, Keys: bytes.Clone(message), Word: t.Word}
	if len(l.Next) > 0 {
		next, err := x509.ParseCertificate(l.Next)
		if err != nil || !next.IsCA || next.CheckSignatureFrom(next) != nil {
			return t, false, errors.New("cannot take a key list: the next authority in it is not a root")
		}
		if next.Equal(root) {
			after.Next = nil
		}
	}
	return after, true, nil
}

// follows returns why a list does not replace the stored one.
func (l *KeyList) follows(stored *KeyList) error {
	switch {
	case stored.RevokesSigner(*l):
		return fmt.Errorf("cannot take a key list: the intermediate that signed it: %w", ErrRevoked)
	case len(l.Chain) == 0 && l.RevokesSigner(*stored):
		return nil // whoever has a stolen intermediate may have counted as far as possible
	case l.Number < stored.Number:
		return fmt.Errorf("%w: number %d, stored is %d", ErrOlderList, l.Number, stored.Number)
	case l.Number == stored.Number:
		return fmt.Errorf("%w: number %d", ErrOtherList, l.Number)
	}
	return nil
}

// Newest returns the hash of the key of the newest authority that is pinned: the next one, if
// there is one; "" before an adoption.
func (t Trust) Newest() string {
	roots, err := t.roots()
	if err != nil {
		return ""
	}
	return hashOf(roots[len(roots)-1])
}

// String returns the number of a list and the labels of its hub keys, for a log.
func (l KeyList) String() string {
	var hubs []string
	for _, h := range l.Hubs {
		hubs = append(hubs, Label(h.Key))
	}
	return fmt.Sprintf("number %d, hubs %s, %d revoked", l.Number, strings.Join(hubs, ", "), len(l.Revoked))
}
