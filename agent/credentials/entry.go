package credentials

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"time"

	"github.com/jmbarzee/dominion/identity"
)

// File is the file in data_dir/identity with the keys and certificates of services.
const File = "services.json"

// stored is the key and certificate of a service in File, as PEM.
type stored struct {
	Key         string `json:"key"`
	Certificate string `json:"certificate,omitempty"`
}

// entry is the key and certificate of a service.
type entry struct {
	key *ecdsa.PrivateKey
	// public is the public key as the hub is asked with it, hash its name.
	public []byte
	hash   string
	// chain is the certificate and its issuers without the root; nil: there is none yet.
	chain []*x509.Certificate
	// verifiedBy has verified chain, with the name of this service; nil: nothing has.
	verifiedBy *identity.Verifier
	// provided reports that the service's files had this content once.
	provided bool
	// renew reports that another certificate is asked for, whatever the clock of this machine says.
	renew bool
	// failures is how often the hub issued none; retry is when it is asked again.
	failures int
	retry    time.Time
}

// newEntry makes a key.
func newEntry() (*entry, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	return entryOf(key)
}

func entryOf(key *ecdsa.PrivateKey) (*entry, error) {
	public, err := identity.EncodePublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return &entry{key: key, public: public, hash: identity.HashEncodedKey(public)}, nil
}

// entry reads what is stored. A certificate that is damaged or of another key is left out.
func (s stored) entry() (*entry, error) {
	key, err := identity.ParseKey([]byte(s.Key))
	if err != nil {
		return nil, err
	}
	e, err := entryOf(key)
	if err != nil {
		return nil, err
	}
	if chain, err := identity.ParseCertificates([]byte(s.Certificate)); err == nil && key.PublicKey.Equal(chain[0].PublicKey) {
		e.chain = chain
	}
	return e, nil
}

// stored returns the entry as it is stored.
func (e *entry) stored() (stored, error) {
	key, err := identity.EncodeKey(e.key)
	return stored{string(key), string(identity.EncodeCertificates(e.chain...))}, err
}

// take takes a certificate that the hub has issued: one of this key and name alone, and no earlier
// one.
func (e *entry) take(encoded [][]byte, name string, verifier *identity.Verifier, now time.Time) error {
	if len(encoded) == 0 {
		return errors.New("the hub has issued none")
	}
	chain, err := identity.ParseChain(encoded)
	if err != nil {
		return err
	}
	p, err := verifier.Verify(chain, now, identity.ServiceUse)
	if err != nil {
		return err
	}
	if p.Subject.Name != name || !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, e.public) {
		return errors.New("it is of another service")
	}
	if e.current(name, verifier, now) && p.Certificate.NotAfter.Before(e.chain[0].NotAfter) {
		return errors.New("it ends before the present one")
	}
	e.chain, e.verifiedBy, e.provided, e.renew, e.failures, e.retry = chain, verifier, false, false, 0, time.Time{}
	return nil
}

// current reports whether the certificate is one that the dominion accepts, of a name.
func (e *entry) current(name string, verifier *identity.Verifier, now time.Time) bool {
	if e.chain == nil || e.verifiedBy == verifier {
		return e.chain != nil
	}
	p, err := verifier.Verify(e.chain, now, identity.ServiceUse)
	if err != nil || p.Subject.Name != name {
		return false
	}
	e.verifiedBy = verifier
	return true
}

// due returns when a certificate is to be asked for.
func (e *entry) due(name string, verifier *identity.Verifier, now time.Time) time.Time {
	at := now
	if !e.renew && e.current(name, verifier, now) && !identity.RenewalDue(e.chain[0], now) {
		at = identity.RenewAt(e.chain[0])
	}
	if at.Before(e.retry) {
		at = e.retry
	}
	return at
}

// failed notes that the hub issued no certificate.
func (e *entry) failed(now time.Time) {
	wait := lastRetry
	if e.failures < 16 {
		wait = min(lastRetry, firstRetry<<e.failures)
	}
	e.failures++
	e.retry = now.Add(wait)
}
