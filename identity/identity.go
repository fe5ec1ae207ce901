// Package identity owns the keys and certificates of a dominion: its authority, the hub's,
// the domains', those of users and services, and the root for browsers. It makes
// them, stores them in data_dir/identity, decides when one is renewed, and verifies
// those of others. The key list says which hub keys count and which keys are revoked.
//
// A certificate says what its key is for by a URI, dominion:<dominion id>:<use>:<name>.
// Every NotBefore is 2020-01-01 and never checked: a machine that starts in 1970 can
// both issue and verify. Only NotAfter is checked, against the greater of the clock
// and the build date.
//
// The package decides without a clock: the time is handed in. Files are written by
// Store, by what opens an identity from it, and by nothing else; these belong beside a loop,
// not in it. Hub, agent and command line use it; it imports none of them.
//
// # Files
//
//	authority.go  the authority: root, intermediate, issuing
//	browser.go    the root and certificate for browsers
//	domain.go     the keys of a domain
//	hub.go        the keys of the hub
//	identity.go   lifetimes, encoding of keys and certificates, the clock
//	keylist.go    the key list: hubs, revoked keys, who may sign it
//	names.go      the names and addresses in the hub's certificate
//	renewal.go    when the hub's certificate is made anew
//	request.go    certificate requests of users
//	rotate.go     a new key or authority
//	store.go      the files in data_dir/identity
//	subject.go    the URI that says what a key is for
//	verify.go     verifying certificates
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// buildDate is when the program's commit was made, in RFC 3339. The build sets it:
// -ldflags "-X github.com/jmbarzee/dominion/identity.buildDate=2026-11-30T00:00:00Z".
var buildDate string

// BuildDate returns when the program's commit was made; zero if the build did not say so.
func BuildDate() time.Time {
	t, err := time.Parse(time.RFC3339, buildDate)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// notBefore is the beginning of every certificate but the browsers' leaf.
var notBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// Lifetimes.
const (
	// DefaultLifetime is the default of [identity] lifetime.
	DefaultLifetime = 365 * day
	// MinLifetime is the least [identity] lifetime.
	MinLifetime = time.Minute
	// AuthorityLifetime is how long an authority lasts.
	AuthorityLifetime = 20 * 365 * day
	// BrowserLifetime is the most that browsers take of a leaf, from beginning to end.
	BrowserLifetime = 397 * day

	day = 24 * time.Hour
)

// Reference returns the time that lifetimes count from: the greatest of the clock, the
// build date and the newest certificate issued.
func Reference(now, newest time.Time) time.Time {
	return later(Clock(now), newest.Round(0))
}

// Clock returns the time that NotAfter is checked against: the greater of the clock and
// the build date, and never before certificates begin, as the build may have no date.
func Clock(now time.Time) time.Time { return later(later(now.Round(0), BuildDate()), notBefore) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// NewKey makes a private key, of ECDSA on the curve P-256 as all keys of a dominion are.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}
	return key, nil
}

// EncodePublicKey returns a public key as it stands in messages: DER of a
// SubjectPublicKeyInfo (RFC 5280).
func EncodePublicKey(key *ecdsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a public key: %w", err)
	}
	return der, nil
}

// ParsePublicKey reads what EncodePublicKey returned, and takes no other encoding of
// the same key.
func ParsePublicKey(der []byte) (*ecdsa.PublicKey, error) {
	v, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("cannot read a public key: %w", err)
	}
	key, is := v.(*ecdsa.PublicKey)
	if !is || key.Curve != elliptic.P256() {
		return nil, errors.New("cannot read a public key: it is not of ECDSA on the curve P-256")
	}
	if again, err := EncodePublicKey(key); err != nil || string(again) != string(der) {
		return nil, errors.New("cannot read a public key: it is not in its standard encoding")
	}
	return key, nil
}

// HashKey returns the name of a key in lists, messages and topics: SHA-256 of its
// encoding, 64 hexadecimal digits.
func HashKey(key *ecdsa.PublicKey) (string, error) {
	der, err := EncodePublicKey(key)
	if err != nil {
		return "", err
	}
	return HashEncodedKey(der), nil
}

// HashEncodedKey is HashKey of a key that EncodePublicKey encoded.
func HashEncodedKey(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// ValidKeyHash reports whether s may be the hash of a key.
func ValidKeyHash(s string) bool {
	if len(s) != 2*sha256.Size {
		return false
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f') {
			return false
		}
	}
	return true
}

// Label returns the first 16 digits of a key's hash in groups of four, as hub and
// domain both show them. It is a label for people to tell machines apart, not a proof.
func Label(hash string) string {
	if !ValidKeyHash(hash) {
		return ""
	}
	return strings.Join([]string{hash[:4], hash[4:8], hash[8:12], hash[12:16]}, " ")
}

// hashOf returns the hash of a certificate's key, "" for a key that is not of P-256.
func hashOf(cert *x509.Certificate) string {
	key, is := cert.PublicKey.(*ecdsa.PublicKey)
	if !is || key.Curve != elliptic.P256() {
		return ""
	}
	return HashEncodedKey(cert.RawSubjectPublicKeyInfo)
}

// The types of PEM blocks.
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY" // PKCS #8
	pemRequest     = "CERTIFICATE REQUEST"
)

// EncodeKey returns a private key as PEM (PKCS #8).
func EncodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// ParseKey reads a private key from PEM: PKCS #8, or SEC 1 as openssl writes it.
func ParseKey(text []byte) (*ecdsa.PrivateKey, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var v any
		var err error
		switch block.Type {
		case pemKey:
			v, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			v, err = x509.ParseECPrivateKey(block.Bytes)
		default: // such as EC PARAMETERS
			continue
		}
		if err != nil {
			return nil, err
		}
		key, is := v.(*ecdsa.PrivateKey)
		if !is || key.Curve != elliptic.P256() {
			return nil, errors.New("it is not a key of ECDSA on the curve P-256")
		}
		return key, nil
	}
	return nil, errors.New("it holds no private key in PEM")
}

// EncodeCertificates returns certificates as PEM.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	var text []byte
	for _, cert := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: cert.Raw})...)
	}
	return text
}

// maxCertificates is the most certificates of a file or a chain.
const maxCertificates = 8

// ParseCertificates reads certificates from PEM. There is at least one.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var chain [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == pemCertificate {
			chain = append(chain, block.Bytes)
		}
	}
	return ParseChain(chain)
}

// ParseChain reads certificates in DER, as they stand in messages. There is at least one.
func ParseChain(chain [][]byte) ([]*x509.Certificate, error) {
	if len(chain) == 0 || len(chain) > maxCertificates {
		return nil, fmt.Errorf("cannot read certificates: there are %d, want 1 to %d", len(chain), maxCertificates)
	}
	var certs []*x509.Certificate
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("cannot read a certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// EncodeChain returns certificates in DER, as they stand in messages.
func EncodeChain(certs []*x509.Certificate) [][]byte {
	chain := make([][]byte, 0, len(certs))
	for _, cert := range certs {
		chain = append(chain, cert.Raw)
	}
	return chain
}
