package keys

import (
	"crypto/ecdsa"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// signer is what orders are signed with. The hub's loop reads it without waiting for
// the disk.
type signer struct {
	key  *ecdsa.PrivateKey
	hash string
}

// KeyHash returns the hash of the hub's key, which orders name. It does not wait for
// anything.
func (k *Keys) KeyHash() string { return k.signer.Load().hash }

// Adopted reports whether a domain has a key that the dominion adopted. It does not wait
// for anything.
func (k *Keys) Adopted(id string) bool {
	d, adopted := k.domain(id)
	return adopted && !d.Unfinished
}

// SignOrder returns an order to a domain, by its id, as a signed message of a kind. It
// does not wait for anything.
func (k *Keys) SignOrder(kind, domain string, payload []byte) ([]byte, error) {
	return signed.Sign(k.signer.Load().key, signed.Context{Kind: kind, Dominion: k.options.Dominion, Domain: domain}, payload)
}

// LastOrder returns the head of the start command that a domain shows as the last one it
// obeyed, if it is of an epoch or a later one, and the hub's key signed it; else nil. It
// verifies a signature, and does not wait for anything.
func (k *Keys) LastOrder(domain, message string, epoch uint64) *topics.SignedHead {
	const what = "the last start command"
	payload, err := signed.Unverified([]byte(message))
	if err != nil {
		return nil
	}
	own := k.signer.Load()
	head, err := topics.Decode[topics.SignedHead](what, payload)
	if err != nil || head.Epoch < epoch || head.Key != own.hash {
		return nil
	}
	c := signed.Context{Kind: topics.DomainServicesSet.SignedKind(), Dominion: k.options.Dominion, Domain: domain}
	if payload, err = signed.Verify(&own.key.PublicKey, c, []byte(message)); err != nil || signed.CheckNames[topics.StartCommand](payload) != nil {
		return nil
	}
	return &head
}
