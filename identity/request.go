package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// MaxUserLifetime bounds the lifetime of a user's certificate.
const MaxUserLifetime = 10 * 365 * day

// maxRequest is the longest certificate request, in bytes of DER.
const maxRequest = 4096

// NewRequest returns a certificate request (PKCS #10, PEM) of a key. The name in it is for
// people: the hub issues for the name that it was asked for, and takes nothing but the key.
func NewRequest(key *ecdsa.PrivateKey, name string) ([]byte, error) {
	t := &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName(Subject{Use: UserUse, Name: name})}}
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}), nil
}

// ParseRequest returns the key of a certificate request (PKCS #10, PEM), which its sender has proved
// to have. Names, uses and whatever else stands in it are not looked at.
func ParseRequest(text []byte) (*ecdsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemRequest || len(block.Bytes) > maxRequest {
		return nil, fmt.Errorf("cannot read a certificate request: it is not one in PEM of at most %d bytes", maxRequest)
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cannot read a certificate request: %w", err)
	}
	key, is := r.PublicKey.(*ecdsa.PublicKey)
	if !is {
		return nil, errors.New("cannot take a certificate request: its key is not of ECDSA")
	}
	der, err := EncodePublicKey(key)
	if err != nil {
		return nil, err
	}
	if key, err = ParsePublicKey(der); err != nil {
		return nil, fmt.Errorf("cannot take a certificate request: %w", err)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("cannot take a certificate request: its sender does not have the key: %w", err)
	}
	return key, nil
}

// SignRequest issues a certificate of a user or service for the key of a request.
func (h *Hub) SignRequest(request []byte, s Subject, lifetime time.Duration, now time.Time) ([]*x509.Certificate, error) {
	if s.Use != UserUse && s.Use != ServiceUse {
		return nil, fmt.Errorf("cannot sign a certificate request: %w: it asks for a %s", ErrUse, s.Use)
	}
	if lifetime < 0 || lifetime > MaxUserLifetime {
		return nil, fmt.Errorf("cannot sign a certificate request: its lifetime must be more than 0 and at most %d days", MaxUserLifetime/day)
	}
	key, err := ParseRequest(request)
	if err != nil {
		return nil, err
	}
	return h.Issue(s, key, lifetime, now)
}

// addrOf returns an address as netip has it.
func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
