package keys

import (
	"crypto/ecdsa"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/topics"
)

// Issued returns the certificates that were issued, the newest one of each key.
func (k *Keys) Issued() []topics.CertificateView {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := []topics.CertificateView{}
	for _, i := range k.hub.Ledger.Issues {
		all = append(all, view(i))
	}
	return all
}

// view returns an issue as it is shown.
func view(i identity.Issue) topics.CertificateView {
	return topics.CertificateView{Name: i.Name, Use: string(i.Use), Key: i.Key, Issued: topics.At(i.Issued), Expires: topics.At(i.Expires)}
}

// IssueForUser issues a certificate for the key of a request, and returns it as the one
// row of a list. A lifetime of zero is the configured one.
func (k *Keys) IssueForUser(user string, request []byte, lifetime time.Duration, now time.Time) ([]topics.CertificateView, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	chain, err := k.hub.SignRequest(request, identity.Subject{Use: identity.UserUse, Name: user}, lifetime, now)
	if err != nil {
		return nil, err
	}
	public, _ := chain[0].PublicKey.(*ecdsa.PublicKey) // of all that it signs
	key, err := identity.HashKey(public)
	if err != nil {
		return nil, err
	}
	for _, i := range k.hub.Ledger.Issues {
		if i.Key == key {
			v := view(i)
			v.Certificate = string(identity.EncodeCertificates(chain...))
			return []topics.CertificateView{v}, nil
		}
	}
	return []topics.CertificateView{}, nil
}
