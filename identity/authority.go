package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Authority signs the certificates and the key list of a dominion.
type Authority struct {
	// Root is what domains pin. Its key may be elsewhere.
	Root *x509.Certificate
	// Certificate is of Key: the root, or an intermediate of it.
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
	// between holds the certificates from Certificate up to the root, without the root.
	// It is empty if Certificate is the root.
	between []*x509.Certificate
}

// NewAuthority makes an authority for a dominion.
func NewAuthority(dominion string, at time.Time) (*Authority, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	root, err := selfSign(dominion, key, at)
	if err != nil {
		return nil, err
	}
	return &Authority{Root: root, Certificate: root, Key: key}, nil
}

// selfSign makes the certificate of an authority's key.
func selfSign(dominion string, key *ecdsa.PrivateKey, at time.Time) (*x509.Certificate, error) {
	if !topics.ValidID(dominion) {
		return nil, fmt.Errorf("cannot make an authority: %.80q is not a valid dominion id", dominion)
	}
	t, err := authorityTemplate(dominion, &key.PublicKey, at)
	if err != nil {
		return nil, err
	}
	return create(t, t, &key.PublicKey, key)
}

// authorityTemplate returns what stands in an authority's certificate. The name has a
// part of the key's hash: two authorities of one dominion are told apart by it.
func authorityTemplate(dominion string, key *ecdsa.PublicKey, at time.Time) (*x509.Certificate, error) {
	hash, err := HashKey(key)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:          serial(at),
		Subject:               pkix.Name{CommonName: "Dominion authority " + hash[:8], Organization: []string{dominion}},
		NotBefore:             notBefore,
		NotAfter:              end(at, AuthorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            2, // one that replaces this one, and an intermediate of that
	}, nil
}

// create signs a certificate and reads it back.
func create(template, parent *x509.Certificate, key *ecdsa.PublicKey, by *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// end returns a NotAfter that a certificate can hold.
func end(at time.Time, lifetime time.Duration) time.Time {
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	if e := at.Add(lifetime).UTC().Truncate(time.Second); e.Before(last) {
		return e
	}
	return last
}

// A serial number of ours has the second at which it was issued: NotBefore does not
// tell it. It is serialMark, 5 bytes of Unix time, and 10 random bytes.
const (
	serialMark = 0x44
	serialSize = 16
)

// serial returns a new serial number.
func serial(at time.Time) *big.Int {
	var b [serialSize]byte
	rand.Read(b[6:])
	binary.BigEndian.PutUint64(b[:8], serialMark<<56|uint64(max(at.Unix(), 0))&0xff_ffff_ffff<<16|uint64(b[6])<<8|uint64(b[7]))
	return new(big.Int).SetBytes(b[:])
}

// Issued returns when a certificate was issued: by its serial number, else NotBefore.
func Issued(cert *x509.Certificate) time.Time {
	b := cert.SerialNumber.Bytes()
	if len(b) != serialSize || b[0] != serialMark {
		return cert.NotBefore
	}
	return time.Unix(int64(binary.BigEndian.Uint64(b[:8])>>16&0xff_ffff_ffff), 0).UTC()
}

// RenewAt returns when a certificate is renewed: after two thirds of its lifetime.
func RenewAt(cert *x509.Certificate) time.Time {
	issued := Issued(cert)
	return issued.Add(cert.NotAfter.Sub(issued) / 3 * 2)
}

// RenewalDue reports whether a certificate must be renewed.
func RenewalDue(cert *x509.Certificate, now time.Time) bool {
	return !Clock(now).Before(RenewAt(cert))
}

// Offline reports whether the root's key is elsewhere: Key is of an intermediate.
func (a *Authority) Offline() bool { return len(a.between) > 0 }

// Between returns the certificates between a leaf and the root: a leaf is sent with
// these. It is empty if the root signs by itself.
func (a *Authority) Between() []*x509.Certificate { return slices.Clone(a.between) }

// RootHash returns SHA-256 of the root's public key, which a token names.
func (a *Authority) RootHash() [sha256.Size]byte {
	return sha256.Sum256(a.Root.RawSubjectPublicKeyInfo)
}

// ParseAuthority reads what authority_cert and authority_key hold: a certificate, its
// issuers up to the root if it is an intermediate, and the key.
func ParseAuthority(certs, key []byte) (*Authority, error) {
	chain, err := ParseCertificates(certs)
	if err != nil {
		return nil, err
	}
	k, err := ParseKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot read the authority's key: %w", err)
	}
	return newAuthority(chain, k)
}

// newAuthority checks that a chain leads from the certificate of the key to a root.
func newAuthority(chain []*x509.Certificate, key *ecdsa.PrivateKey) (*Authority, error) {
	if !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, errors.New("cannot use the authority: its first certificate is not of its key")
	}
	root := chain[len(chain)-1]
	for i, cert := range chain {
		if !cert.BasicConstraintsValid || !cert.IsCA {
			return nil, fmt.Errorf("cannot use the authority: certificate %d, %q, is not one of an authority", i+1, cert.Subject)
		}
		issuer := root
		if i+1 < len(chain) {
			issuer = chain[i+1]
		}
		if err := cert.CheckSignatureFrom(issuer); err != nil {
			return nil, fmt.Errorf("cannot use the authority: certificate %d, %q, is not signed by the next one, or the last one is not a root: give the certificates from the authority's own up to the root: %w", i+1, cert.Subject, err)
		}
	}
	return &Authority{Root: root, Certificate: chain[0], Key: key, between: chain[:len(chain)-1]}, nil
}

// Request is a certificate that an authority is asked for.
type Request struct {
	Subject Subject
	Key     *ecdsa.PublicKey
	// At is what the lifetime counts from: see Reference.
	At time.Time
	// Lifetime is DefaultLifetime if it is zero.
	Lifetime time.Duration
	// Names is how a hub is reached; nothing for others.
	Names Names
}

// Issue makes the certificate of a hub, domain, user or service.
func (a *Authority) Issue(r Request) (*x509.Certificate, error) {
	if err := r.Subject.check(); err != nil {
		return nil, fmt.Errorf("cannot issue a certificate: %w", err)
	}
	if r.Lifetime == 0 {
		r.Lifetime = DefaultLifetime
	}
	if r.Lifetime < 0 {
		return nil, fmt.Errorf("cannot issue a certificate: its lifetime %v is negative", r.Lifetime)
	}
	if r.Key == nil || r.Key.Equal(&a.Key.PublicKey) || r.Key.Equal(a.Root.PublicKey) {
		return nil, errors.New("cannot issue a certificate: its key is missing, or the authority's own")
	}
	t := &x509.Certificate{
		SerialNumber:          serial(r.At),
		Subject:               pkix.Name{CommonName: commonName(r.Subject)},
		URIs:                  []*url.URL{r.Subject.URI()},
		NotBefore:             notBefore,
		NotAfter:              end(r.At, r.Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if r.Subject.Use == HubUse {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		t.DNSNames, t.IPAddresses = r.Names.Hosts, ipsOf(r.Names.Addresses)
	}
	return create(t, a.Certificate, r.Key, a.Key)
}

// commonName returns what people and other programs are shown. Nothing here reads it.
func commonName(s Subject) string {
	const longest = 64 // RFC 5280, ub-common-name
	if len(s.Name) > longest || !validPrintable(s.Name) {
		return string(s.Use)
	}
	return s.Name
}

// validPrintable reports whether a name has only characters that every encoding of a
// certificate's name has.
func validPrintable(s string) bool {
	for _, r := range s {
		if r < ' ' || r > '~' {
			return false
		}
	}
	return true
}

func ipsOf(addrs []netip.Addr) []net.IP {
	var ips []net.IP
	for _, a := range addrs {
		ips = append(ips, a.AsSlice())
	}
	return ips
}

// Intermediate makes a key and a certificate that sign in the place of the authority, so
// that its own key can be kept elsewhere.
func (a *Authority) Intermediate(dominion string, at time.Time) (*Authority, error) {
	if a.Offline() {
		return nil, errors.New("cannot make an intermediate authority: the root's key is not here")
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	t, err := authorityTemplate(dominion, &key.PublicKey, at)
	if err != nil {
		return nil, err
	}
	t.Subject.CommonName += " (intermediate)"
	t.MaxPathLen, t.MaxPathLenZero = 0, true
	t.NotAfter = a.Root.NotAfter
	cert, err := create(t, a.Certificate, &key.PublicKey, a.Key)
	if err != nil {
		return nil, err
	}
	return newAuthority([]*x509.Certificate{cert, a.Root}, key)
}

// cross makes a certificate of the next authority's key, issued by this one: those who trust
// this one alone verify by it what the next one issues.
func (a *Authority) cross(dominion string, next *Authority, at time.Time) (*x509.Certificate, error) {
	t, err := authorityTemplate(dominion, &next.Key.PublicKey, at)
	if err != nil {
		return nil, err
	}
	t.MaxPathLen = 1 // an intermediate of the next one
	t.NotAfter = a.Root.NotAfter
	return create(t, a.Certificate, &next.Key.PublicKey, a.Key)
}
