package identity

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// Store returns where the hub's keys are, for those of other packages.
func (h *Hub) Store() *Store { return h.store }

// TakeOffline writes the authority's key to a file, which must not exist, and leaves an
// intermediate here: `dominionctl authority offline FILE`. After a power cut in the middle
// the key is here or there, or at both places; asking again ends it.
func (h *Hub) TakeOffline(file string, now time.Time) error {
	// An intermediate that is there already was made by a try that was cut short.
	text, found, err := h.store.Read(authorityKeyFile)
	if err != nil {
		return err
	}
	if !found {
		return errors.New("cannot take the authority offline: its key is not here")
	}
	text = append(text, EncodeCertificates(h.Authority.Root)...)
	if err := atomicfile.Create(file, text, 0o600); err != nil {
		if there, errRead := os.ReadFile(file); errRead != nil || !bytes.Equal(there, text) {
			return err
		}
	}
	if !h.Authority.Offline() {
		a, err := h.Authority.Intermediate(h.dominion, Reference(now, h.Ledger.NewestIssued))
		if err != nil {
			return err
		}
		key, err := EncodeKey(a.Key)
		if err != nil {
			return err
		}
		// The certificate is written first: the key's file decides who signs.
		if err := h.store.PutCertificates(intermediateCertFile, append([]*x509.Certificate{a.Certificate}, a.Root)...); err != nil {
			return err
		}
		if err := atomicfile.Create(h.store.Path(intermediateKeyFile), key, 0o600); err != nil {
			return err
		}
		h.Authority = a
	}
	// A hub certificate of the root stays valid; the next one is of the intermediate.
	for _, name := range []string{authorityKeyFile, authorityKeyFile + atomicfile.Previous} {
		if err := os.Remove(h.store.Path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot remove the authority's key, which is now at %s too: %w", file, err)
		}
	}
	return nil
}

// NextAuthority returns the authority that will replace the present one, and makes it if
// there is none: `dominionctl authority rotate`. Its certificate goes into the key list as Next,
// which the present authority signs; UseNextAuthority follows when every domain has that list.
func (h *Hub) NextAuthority(now time.Time) (*Authority, error) {
	key, err := h.store.Key(nextAuthorityKey, false)
	if err != nil {
		return nil, err
	}
	if c := h.store.Certificates(nextAuthorityCert); c != nil && key.PublicKey.Equal(c[0].PublicKey) {
		return newAuthority(c[:1], key)
	}
	cert, err := selfSign(h.dominion, key, Reference(now, h.Ledger.NewestIssued))
	if err != nil {
		return nil, err
	}
	if err := h.store.PutCertificates(nextAuthorityCert, cert); err != nil {
		return nil, err
	}
	return newAuthority([]*x509.Certificate{cert}, key)
}

// Rotating reports whether there is an authority that will replace the present one.
func (h *Hub) Rotating() bool {
	_, err := os.Lstat(h.store.Path(nextAuthorityKey))
	return err == nil
}

// UseNextAuthority ends the present authority: the next one signs from now on, and the
// hub's certificate is made anew. The former one's key stays as a backup file unless
// compromised is true.
func (h *Hub) UseNextAuthority(compromised bool, now time.Time) error {
	if !h.Rotating() {
		return errors.New("cannot replace the authority: there is no next one")
	}
	next, err := h.NextAuthority(now)
	if err != nil {
		return err
	}
	// The hub has one authority after a power cut at any step: a certificate that is not
	// of the key is made anew, and an intermediate decides as long as its key is there.
	text, err := EncodeKey(next.Key)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(h.store.Path(authorityKeyFile), text, 0o600); err != nil {
		return err
	}
	if err := h.store.PutCertificates(authorityCertFile, next.Root); err != nil {
		return err
	}
	stale := []string{intermediateKeyFile, intermediateCertFile, nextAuthorityKey, nextAuthorityCert}
	if compromised {
		stale = append(stale, authorityKeyFile+atomicfile.Previous)
	}
	for _, name := range stale {
		if err := os.Remove(h.store.Path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot end the former authority: %w", err)
		}
	}
	names := h.Names()
	h.Authority = next
	return h.Renew(names, now)
}
