package identity

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Why a certificate is refused.
var (
	// ErrUse means that a certificate is not of a use that is taken here.
	ErrUse = errors.New("the certificate is of another use")
	// ErrDominion means that a certificate is of another dominion.
	ErrDominion = errors.New("the certificate is of another dominion")
	// ErrChain means that the dominion's authority did not issue a certificate.
	ErrChain = errors.New("the certificate is not issued by the dominion's authority")
	// ErrExpired means that a certificate has ended.
	ErrExpired = errors.New("the certificate has expired")
	// ErrRevoked means that the key list revokes a key.
	ErrRevoked = errors.New("the key is revoked")
	// ErrNotListed means that a hub's key is not in the key list.
	ErrNotListed = errors.New("the key is not in the dominion's key list")
)

// Verifier verifies the certificates of others.
type Verifier struct {
	// Dominion is the id that certificates must have.
	Dominion string
	// Roots are the authorities that are pinned.
	Roots []*x509.Certificate
	// Former are authorities that Roots replaced. A certificate of a user or service counts that one
	// of them, or an intermediate that is revoked, has issued, if Issued lists its key.
	Former []*x509.Certificate
	Issued func(s Subject, key string) bool
	// Keys is the newest key list; nil before the first one came.
	Keys *KeyList
	// Known reports whether this side had verified a key of this subject before: such a hub or domain
	// is accepted after its certificate's end, and such a domain whichever authority has issued
	// its certificate, as after a change of the authority. nil: nobody is.
	Known func(s Subject, key string) bool
}

// Peer is whoever has the key of a certificate that was verified.
type Peer struct {
	Subject     Subject
	Certificate *x509.Certificate
	Key         *ecdsa.PublicKey
	// KeyHash is the hash of Key.
	KeyHash string
	// Expired is true for a hub or domain that was accepted after its certificate's end, or after
	// that of its authority. The certificate must be renewed at this contact, and this is reported.
	Expired bool
}

// Verify verifies a certificate and its issuers, leaf first, as they came from a peer: use,
// dominion, chain, end, and key list. The name of the host, the common name and
// NotBefore are not looked at. The peer must prove that it has the key by other means.
func (v Verifier) Verify(chain []*x509.Certificate, now time.Time, uses ...Use) (Peer, error) {
	if len(chain) == 0 || len(chain) > maxCertificates {
		return Peer{}, fmt.Errorf("cannot verify a certificate: %w", ErrChain)
	}
	p, err := v.verify(chain, now, uses)
	if err != nil {
		return Peer{}, fmt.Errorf("cannot verify the certificate of %s: %w", describe(chain[0]), err)
	}
	return p, nil
}

// describe names a certificate in a message.
func describe(cert *x509.Certificate) string {
	if s, err := SubjectOf(cert); err == nil {
		return string(s.Use) + " " + s.Name
	}
	return fmt.Sprintf("%.80q", cert.Subject.CommonName)
}

func (v Verifier) verify(chain []*x509.Certificate, now time.Time, uses []Use) (Peer, error) {
	leaf := chain[0]
	s, err := SubjectOf(leaf)
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", ErrUse, err)
	}
	if s.Dominion != v.Dominion {
		return Peer{}, fmt.Errorf("%w: %s", ErrDominion, s.Dominion)
	}
	if !slices.Contains(uses, s.Use) {
		return Peer{}, fmt.Errorf("%w: it is of a %s", ErrUse, s.Use)
	}
	key, is := leaf.PublicKey.(*ecdsa.PublicKey)
	hash := hashOf(leaf)
	if !is || hash == "" || leaf.IsCA {
		return Peer{}, fmt.Errorf("%w: its key is not of the curve P-256, or it is an authority's", ErrChain)
	}
	end, err := v.end(s, hash, chain)
	if err != nil {
		return Peer{}, err
	}
	if v.Keys != nil {
		if v.Keys.IsRevoked(hash) {
			return Peer{}, ErrRevoked
		}
		if s.Use == HubUse && !v.Keys.HasHub(hash) {
			return Peer{}, ErrNotListed
		}
	}
	p := Peer{Subject: s, Certificate: leaf, Key: key, KeyHash: hash}
	if Clock(now).After(end) {
		known := (s.Use == HubUse || s.Use == DomainUse) && v.Known != nil && v.Known(s, hash)
		if !known {
			return Peer{}, fmt.Errorf("%w on %s", ErrExpired, end.Format(time.DateOnly))
		}
		p.Expired = true
	}
	return p, nil
}

// end returns when a certificate ends, with its issuers. It is the zero time for that of a
// domain that is known by its key, and whose authority was replaced.
func (v Verifier) end(s Subject, key string, chain []*x509.Certificate) (time.Time, error) {
	end, err := chainEnd(chain, v.Roots, v.Keys)
	if err == nil {
		return end, nil
	}
	switch s.Use {
	case DomainUse:
		if v.Known != nil && v.Known(s, key) {
			return time.Time{}, nil
		}
	case UserUse, ServiceUse:
		if v.Issued != nil && v.Issued(s, key) {
			return chainEnd(chain, slices.Concat(v.Roots, v.Former), nil)
		}
	}
	return end, err
}

// chainEnd returns when a chain ends, which leads from a leaf to a root by authorities that
// are not revoked: the latest end of those that there are.
func chainEnd(chain, trusted []*x509.Certificate, keys *KeyList) (time.Time, error) {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	// NotBefore is not checked: the standard verifier is given the last one, and the
	// ends are compared by the caller.
	at := chain[0].NotBefore
	for _, root := range trusted {
		roots.AddCert(root)
		at = later(at, root.NotBefore)
	}
	for _, cert := range chain[1:] {
		between.AddCert(cert)
		at = later(at, cert.NotBefore)
	}
	found, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", ErrChain, err)
	}
	var latest time.Time
	for _, c := range found {
		if keys != nil && slices.ContainsFunc(c[1:], keys.revokes) {
			continue
		}
		first := c[0].NotAfter
		for _, cert := range c[1:] {
			if cert.NotAfter.Before(first) {
				first = cert.NotAfter
			}
		}
		latest = later(latest, first)
	}
	if latest.IsZero() {
		return latest, fmt.Errorf("%w: its issuer is revoked", ErrChain)
	}
	return latest, nil
}

// VerifyHub returns a TLS configuration of a client that takes a hub of the dominion alone,
// by chain, use and key, never by host name. own is the client's certificate, or empty.
// verified is called in the handshake with the hub that was verified; nil calls nothing.
func (v Verifier) VerifyHub(own tls.Certificate, now func() time.Time, verified func(Peer)) *tls.Config {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         topics.HubServerName,
		InsecureSkipVerify: true, // by the standard rules; VerifyConnection applies ours
		VerifyConnection: func(state tls.ConnectionState) error {
			p, err := v.Verify(state.PeerCertificates, now(), HubUse)
			if err == nil && verified != nil {
				verified(p)
			}
			return err
		},
	}
	if own.PrivateKey != nil {
		config.Certificates = []tls.Certificate{own}
	}
	return config
}

// TLSCertificate returns a key with its certificate and the issuers of that, for TLS.
func TLSCertificate(key *ecdsa.PrivateKey, chain []*x509.Certificate) tls.Certificate {
	c := tls.Certificate{Certificate: EncodeChain(chain), PrivateKey: key}
	if len(chain) > 0 {
		c.Leaf = chain[0]
	}
	return c
}
