package identity

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// Store returns where the hub's keys are, for those of other packages.
func (h *Hub) Store() *Store { return h.store }

// ErrNotHere means that the key of the authority itself is not in this directory.
var ErrNotHere = errors.New("the authority's key is not here")

// hasRootKey returns why the authority cannot be replaced or taken away: its key is not here.
func (h *Hub) hasRootKey() error {
	if h.configured {
		return fmt.Errorf("%w: authority_key in dominion.toml names the one that signs", ErrNotHere)
	}
	if h.Authority.Offline() {
		return fmt.Errorf("%w: an intermediate signs in its place, and the key is where `dominionctl authority offline` wrote it", ErrNotHere)
	}
	return nil
}

// ExportAuthority returns the authority's key and certificate as PEM, which
// `dominionctl authority offline FILE` writes.
func (h *Hub) ExportAuthority() ([]byte, error) {
	if err := h.hasRootKey(); err != nil {
		return nil, err
	}
	if h.Rotating() {
		return nil, errors.New("the authority is being replaced: wait until the next one is used")
	}
	key, err := EncodeKey(h.Authority.Key)
	if err != nil {
		return nil, err
	}
	return append(key, EncodeCertificates(h.Authority.Root)...), nil
}

// FormerIntermediate returns the hash of the key of an intermediate that signed here while
// the authority's key was away; "": there is none.
func (h *Hub) FormerIntermediate() string {
	chain := h.store.Certificates(intermediateCertFile)
	if len(chain) == 0 || h.Authority.Offline() {
		return ""
	}
	return hashOf(chain[0])
}

// TakeOffline leaves an intermediate here, and removes the authority's key, which
// ExportAuthority returned and which is stored elsewhere now. After a power cut in the middle
// the key is still here: asking again ends it.
func (h *Hub) TakeOffline(now time.Time) error {
	if err := h.hasRootKey(); err != nil {
		return err
	}
	a, err := h.Authority.Intermediate(h.dominion, Reference(now, h.Ledger.NewestIssued))
	if err != nil {
		return err
	}
	key, err := EncodeKey(a.Key)
	if err != nil {
		return err
	}
	// While the authority's key is here, it signs.
	if err := h.store.PutCertificates(intermediateCertFile, append([]*x509.Certificate{a.Certificate}, a.Root)...); err != nil {
		return err
	}
	if err := atomicfile.Write(h.store.Path(intermediateKeyFile), key, 0o600); err != nil {
		return err
	}
	if err := h.remove(intermediateKeyFile+atomicfile.Previous, authorityKeyFile, authorityKeyFile+atomicfile.Previous); err != nil {
		return err
	}
	h.Authority = a
	return h.Renew(h.Names(), now)
}

// remove removes files of the store, those that there are.
func (h *Hub) remove(names ...string) error {
	for _, name := range names {
		if err := os.Remove(h.store.Path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot remove a former key: %w", err)
		}
	}
	return h.store.sync()
}

// openFormer reads the authorities before the present one.
func (h *Hub) openFormer() {
	h.cross, h.former = nil, h.store.Certificates(formerCertFile)
	if c := h.store.Certificates(crossCertFile); c != nil && h.Authority.Root.PublicKey.(*ecdsa.PublicKey).Equal(c[0].PublicKey) {
		h.cross = c[0]
	}
}

// NextAuthority returns the authority that will replace the present one, and makes it if
// there is none: `dominionctl authority rotate`. Its certificate goes into the key list as Next,
// which the present authority signs, and NextKey into its hubs; UseNextAuthority follows when every
// domain has that list.
func (h *Hub) NextAuthority(now time.Time) (*Authority, error) {
	if err := h.hasRootKey(); err != nil {
		return nil, err
	}
	key, err := h.store.Key(nextAuthorityKey, false)
	if err != nil {
		return nil, err
	}
	at := Reference(now, h.Ledger.NewestIssued)
	chain := h.store.Certificates(nextAuthorityCert)
	if chain == nil || !key.PublicKey.Equal(chain[0].PublicKey) {
		cert, err := selfSign(h.dominion, key, at)
		if err != nil {
			return nil, err
		}
		chain = []*x509.Certificate{cert}
		if err := h.store.PutCertificates(nextAuthorityCert, cert); err != nil {
			return nil, err
		}
	}
	next, err := newAuthority(chain[:1], key)
	if err != nil || h.Authority.Key.Equal(key) {
		return next, err
	}
	if c := h.store.Certificates(nextCrossCertFile); c == nil || !key.PublicKey.Equal(c[0].PublicKey) {
		cross, err := h.Authority.cross(h.dominion, next, at)
		if err != nil {
			return nil, err
		}
		if err := h.store.PutCertificates(nextCrossCertFile, cross); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// NextKey returns the hash of the hub's next key, and makes that if there is none. It is
// used with the next authority.
func (h *Hub) NextKey() (string, error) {
	key, err := h.store.Key(nextHubKeyFile, false)
	if err == nil && key.Equal(h.Key) { // left by a power cut
		if err = h.remove(nextHubKeyFile); err == nil {
			key, err = h.store.Key(nextHubKeyFile, false)
		}
	}
	if err != nil {
		return "", err
	}
	return HashKey(&key.PublicKey)
}

// Rotating reports whether there is an authority that will replace the present one.
func (h *Hub) Rotating() bool {
	_, err := os.Lstat(h.store.Path(nextAuthorityKey))
	return err == nil
}

// UseNextAuthority ends the present authority and the hub's present key: the next ones sign from now
// on, and the hub's certificate is made anew. The caller has stored a key list that
// the next authority signed, by which whoever opens this hub after a power cut in the middle
// learns that this is to be called again. The former keys are removed. With compromised, nothing
// counts any more that the former authority has issued, but for domains that are known by
// their key.
func (h *Hub) UseNextAuthority(compromised bool, now time.Time) error {
	if !h.Rotating() {
		return errors.New("cannot replace the authority: there is no next one")
	}
	next, err := h.NextAuthority(now)
	if err != nil {
		return err
	}
	key, err := h.store.Key(nextHubKeyFile, false)
	if err != nil {
		return err
	}
	if !h.Authority.Key.Equal(next.Key) { // else this was done before a power cut
		if err := h.putFormer(compromised); err != nil {
			return err
		}
	}
	hubKey, err := EncodeKey(key)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(h.store.Path(hubKeyFile), hubKey, 0o600); err != nil {
		return err
	}
	authorityKey, err := EncodeKey(next.Key)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(h.store.Path(authorityKeyFile), authorityKey, 0o600); err != nil {
		return err
	}
	if err := h.store.PutCertificates(authorityCertFile, next.Root); err != nil {
		return err
	}
	names := h.Names()
	h.Authority, h.Key = next, key
	h.openFormer()
	if err := h.Renew(names, now); err != nil {
		return err
	}
	// The key of the next authority is removed last: as long as it is here, this is not done.
	return h.remove(
		intermediateKeyFile, intermediateCertFile, hubKeyFile+atomicfile.Previous, authorityKeyFile+atomicfile.Previous,
		nextCrossCertFile, nextAuthorityCert, nextHubKeyFile, nextAuthorityKey,
	)
}

// maxFormer bounds the authorities before the present one.
const maxFormer = maxCertificates

// putFormer stores what remains of the authority that ends: who trusts it alone verifies the next
// one by the cross certificate, and what it has issued to users and services still counts. Nothing
// remains of one that is compromised.
func (h *Hub) putFormer(compromised bool) error {
	if compromised {
		ledger := h.Ledger
		ledger.Issues = slices.DeleteFunc(slices.Clone(ledger.Issues), func(i Issue) bool { return i.Use == UserUse || i.Use == ServiceUse })
		if err := atomicfile.WriteJSON(h.store.Path(ledgerFile), ledger); err != nil {
			return err
		}
		h.Ledger = ledger
		return h.remove(crossCertFile, formerCertFile)
	}
	cross := h.store.Certificates(nextCrossCertFile)
	if cross == nil {
		return errors.New("cannot replace the authority: the certificate of the next one by the present one is missing")
	}
	if err := h.store.PutCertificates(crossCertFile, cross...); err != nil {
		return err
	}
	former := append([]*x509.Certificate{h.Authority.Root}, slices.DeleteFunc(h.former, h.Authority.Root.Equal)...)
	return h.store.PutCertificates(formerCertFile, former[:min(len(former), maxFormer)]...)
}
