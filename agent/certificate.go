package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/identity"
)

// TLS returns how a client verifies the hub of home.
func (m *membership) TLS() *tls.Config {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.domain.Adopted() {
		return nil
	}
	c := m.verifier.VerifyHub(m.domain.TLS(), time.Now, m.o.VerifiedHub)
	verify := c.VerifyConnection
	c.VerifyConnection = func(state tls.ConnectionState) error {
		err := verify(state)
		if errors.Is(err, identity.ErrChain) {
			err = fmt.Errorf("%w; it was set up anew, or its authority was replaced while this domain was away, or another hub has its address: if it is to have this domain, run `domain code` here and `dominionctl adopt %s CODE` there", err, m.o.Config.Name)
		}
		return err
	}
	return c
}

// Authority returns the hash of the key of the newest authority that is pinned; "": none is.
func (m *membership) Authority() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.domain.Adopted() {
		return ""
	}
	return m.domain.Trust.Newest()
}

// RenewAt returns when the domain's certificate is to be renewed.
func (m *membership) RenewAt() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.renewal == nil {
		return time.Time{}
	}
	return m.renewal.Next(time.Now())
}

// RenewNow has the certificate renewed at once: the hub finds that it has ended. The clock of
// this machine, which may be wrong, does not count then.
func (m *membership) RenewNow() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.renewal != nil {
		m.renewal = identity.NewRenewal(identity.Names{})
	}
}

// StoreCertificate stores a certificate that the hub has issued. It takes one of this
// domain's key alone, and only a later one.
func (m *membership) StoreCertificate(encoded [][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.renewal == nil {
		return nil
	}
	err := m.storeCertificate(encoded, now)
	if err != nil {
		m.renewal.Failed(now)
		return err
	}
	m.renewal.Done(now, identity.Names{}, m.domain.Chain[0])
	m.o.Log.Info("the certificate of this domain is renewed", "until", m.domain.Chain[0].NotAfter.Format(time.DateTime))
	return nil
}

func (m *membership) storeCertificate(encoded [][]byte, now time.Time) error {
	if len(encoded) == 0 {
		return errors.New("the hub has issued none")
	}
	chain, err := identity.ParseChain(encoded)
	if err != nil {
		return err
	}
	own, err := m.verifier.Verify(chain, now, identity.DomainUse)
	if err != nil {
		return err
	}
	if own.Subject.Name != m.o.ID || !own.Key.Equal(&m.domain.Key.PublicKey) {
		return errors.New("it is of another domain")
	}
	if m.domain.CertificateCounts(m.verifier) && own.Certificate.NotAfter.Before(m.domain.Chain[0].NotAfter) {
		return errors.New("it ends before the present one")
	}
	return m.domain.SetCertificate(chain)
}
