package identity

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// Domain is the identity of a domain: its key, and, once it was adopted, its certificate
// and what it has pinned. Its methods write files; it has one owner at a time.
type Domain struct {
	Key *ecdsa.PrivateKey
	// Chain is the domain's certificate and its issuers without the root; nil before adoption.
	Chain []*x509.Certificate
	// Trust is what was pinned; zero before adoption.
	Trust Trust

	store *Store
}

// OpenDomain reads the identity of a domain, and makes its key at the first start. known
// reports whether data_dir remembers a dominion: a key that is missing is then lost, and OpenDomain
// returns a KeyError.
func OpenDomain(dataDir string, known bool) (*Domain, error) {
	store, err := openStore(dataDir, domainRemedy)
	if err != nil {
		return nil, err
	}
	d := &Domain{store: store}
	trust, found, err := store.Read(trustFile)
	if err != nil {
		return nil, err
	}
	if found {
		if err := json.Unmarshal(trust, &d.Trust); err != nil {
			return nil, store.broken(trustFile, err)
		}
		if _, err := d.Trust.Verifier(nil); err != nil {
			return nil, store.broken(trustFile, err)
		}
	}
	if d.Key, err = store.Key(domainKeyFile, known || found); err != nil {
		return nil, err
	}
	if c := store.Certificates(domainCertFile); c != nil && d.Key.PublicKey.Equal(c[0].PublicKey) {
		d.Chain = c
	}
	return d, nil
}

// KeyHash returns the hash of the domain's key.
func (d *Domain) KeyHash() (string, error) { return HashKey(&d.Key.PublicKey) }

// CertificateCounts reports whether the domain's certificate is of an authority that is
// pinned, by issuers that are not revoked. Else it is to be renewed, before its end.
func (d *Domain) CertificateCounts(v Verifier) bool {
	_, err := chainEnd(d.Chain, v.Roots, v.Keys)
	return err == nil
}

// Adopted reports whether the domain has pinned an authority.
func (d *Domain) Adopted() bool { return len(d.Trust.Authority) > 0 }

// Pin stores what an adoption gave. Whoever stores what was pinned last is adopted: a power cut
// before that leaves a domain that waits.
func (d *Domain) Pin(t Trust, chain []*x509.Certificate) error {
	if err := d.SetCertificate(chain); err != nil {
		return err
	}
	return d.SetTrust(t)
}

// SetTrust stores what is pinned, such as a newer key list.
func (d *Domain) SetTrust(t Trust) error {
	if _, err := t.Verifier(nil); err != nil {
		return fmt.Errorf("cannot pin an authority: %w", err)
	}
	if err := atomicfile.WriteJSON(d.store.Path(trustFile), t); err != nil {
		return err
	}
	d.Trust = t
	return nil
}

// SetCertificate stores a certificate of the domain's key, and its issuers.
func (d *Domain) SetCertificate(chain []*x509.Certificate) error {
	if len(chain) == 0 || !d.Key.PublicKey.Equal(chain[0].PublicKey) {
		return errors.New("cannot store a certificate: it is not of this domain's key")
	}
	if err := d.store.PutCertificates(domainCertFile, chain...); err != nil {
		return err
	}
	d.Chain = chain
	return nil
}

// TLS returns the domain's certificate for TLS; empty before adoption.
func (d *Domain) TLS() tls.Certificate {
	if d.Chain == nil {
		return tls.Certificate{}
	}
	return TLSCertificate(d.Key, d.Chain)
}

// Store returns where the domain's keys are, for those of other packages.
func (d *Domain) Store() *Store { return d.store }

// RemoveDomain removes the keys and certificates of a domain, what it has pinned, and other files of
// data_dir/identity that are named. Those of a hub stay. What is pinned goes first: a power cut never
// leaves a domain that has pinned something and lost its key.
func RemoveDomain(dataDir string, more ...string) error {
	dir := filepath.Join(dataDir, Directory)
	for _, name := range append([]string{trustFile, domainCertFile, domainKeyFile}, more...) {
		file := filepath.Join(dir, name)
		for _, f := range []string{file + atomicfile.Previous, file} {
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("cannot remove the keys of this domain: %w", err)
			}
		}
	}
	if err := os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil // it held nothing else
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot remove the keys of this domain: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
