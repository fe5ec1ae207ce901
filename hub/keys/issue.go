package keys

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/topics"
)

// Issued returns the certificates that were issued, the newest one of each key.
func (k *Keys) Issued() []topics.CertificateView {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.rows()
}

// Row returns the row of a key, in a list of its own.
func (k *Keys) Row(key string) []topics.CertificateView {
	for _, v := range k.Issued() {
		if v.Key == key {
			return []topics.CertificateView{v}
		}
	}
	return []topics.CertificateView{}
}

// view returns an issue as it is shown. The caller holds mu.
func (k *Keys) view(i identity.Issue) topics.CertificateView {
	v := topics.CertificateView{
		Name: i.Name, Use: string(i.Use), Key: i.Key, Issued: topics.At(i.Issued), Expires: topics.At(i.Expires),
		Revoked: k.list.IsRevoked(i.Key), Domain: i.DomainName,
	}
	if all := k.domains.Load(); all != nil && i.Use == identity.DomainUse {
		if d := (*all)[i.Name]; d.Key == i.Key {
			v.Domain = d.Name
		}
	}
	return v
}

// IssueForUser issues a certificate for the key of a request, and returns it as the one
// row of a list. A lifetime of zero is the configured one. A key is of one user: revoking
// it ends all that it is good for.
func (k *Keys) IssueForUser(user string, request []byte, lifetime time.Duration, now time.Time) ([]topics.CertificateView, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	public, err := identity.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	key, err := identity.HashKey(public)
	if err != nil {
		return nil, err
	}
	subject := identity.Subject{Use: identity.UserUse, Name: user}
	before, issued := k.hub.Ledger.Find(key)
	switch {
	case k.list.IsRevoked(key):
		return nil, fmt.Errorf("cannot issue a certificate: the key %s was revoked: make a new key", identity.Label(key))
	case issued && (before.Use != subject.Use || before.Name != subject.Name):
		return nil, fmt.Errorf("cannot issue a certificate: the key %s is of the %s %.80s: make a new key", identity.Label(key), before.Use, before.Name)
	}
	chain, err := k.hub.SignRequest(request, subject, lifetime, now)
	if err != nil {
		return nil, err
	}
	i, _ := k.hub.Ledger.Find(key) // it was recorded before it was returned
	v := k.view(i)
	v.Certificate = string(identity.EncodeCertificates(chain...))
	return []topics.CertificateView{v}, nil
}
