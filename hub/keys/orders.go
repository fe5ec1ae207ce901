package keys

import (
	"crypto/ecdsa"

	"github.com/jmbarzee/dominion/identity/signed"
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
	_, adopted := k.domain(id)
	return adopted
}

// SignOrder returns an order to a domain, by its id, as a signed message of a kind. It
// does not wait for anything.
func (k *Keys) SignOrder(kind, domain string, payload []byte) ([]byte, error) {
	return signed.Sign(k.signer.Load().key, signed.Context{Kind: kind, Dominion: k.options.Dominion, Domain: domain}, payload)
}
