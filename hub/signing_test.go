package hub_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"log/slog"
	"testing"

	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// openKeys opens the keys of a hub.
func openKeys(t testing.TB, dataDir string, state *store.Store) *keys.Keys {
	t.Helper()
	k, err := keys.Open(keys.Options{
		DataDir: dataDir, Dominion: state.ID(), Name: "home", Known: state.HasKeys(), Log: slog.New(slog.DiscardHandler),
		Names: func() (identity.Names, error) { return identity.MakeNames("hub", nil), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signingDomain is a domain that has a key, and signs what it publishes.
type signingDomain struct {
	t        testing.TB
	key      *ecdsa.PrivateKey
	id       string
	dominion string
	number   uint64
	// ephemeral is the key of the last request to join, mac what the grant made of it.
	ephemeral *ecdh.PrivateKey
	mac       signed.Keys
	// run is that of the last grant.
	run string
}

// newSigningDomain makes the key of a domain.
func newSigningDomain(t testing.TB, id string) *signingDomain {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return &signingDomain{t: t, key: key, id: id}
}

// member returns the domain as a hub has adopted it.
func (d *signingDomain) member(name, word string) adoption.Member {
	public, err := identity.EncodePublicKey(&d.key.PublicKey)
	if err != nil {
		d.t.Fatal(err)
	}
	hash, err := identity.HashKey(&d.key.PublicKey)
	if err != nil {
		d.t.Fatal(err)
	}
	return adoption.Member{ID: d.id, Name: name, Key: public, KeyHash: hash, Words: adoption.Words{Confirmed: word}}
}

// sign returns a payload as a signed message; without a key, as it is.
func (d *signingDomain) sign(k topics.Kind, payload []byte) []byte {
	if d == nil {
		return payload
	}
	message, err := signed.Sign(d.key, signed.Context{Kind: k.SignedKind(), Dominion: d.dominion, Domain: d.id}, payload)
	if err != nil {
		d.t.Error(err)
	}
	return message
}

// join returns a request to join as it is published: numbered, if it has no number, and signed.
func (d *signingDomain) join(ask topics.HubRequest) []byte {
	if d != nil && ask.Number == 0 {
		d.number++
		ask.Number = d.number
	}
	if d != nil && ask.Ephemeral == nil {
		var err error
		if d.ephemeral, err = signed.NewEphemeral(); err != nil {
			d.t.Fatal(err)
		}
		ask.Ephemeral = d.ephemeral.PublicKey().Bytes()
	}
	return d.sign(topics.Request, topics.Encode(ask))
}

// granted takes the grant of the last request to join.
func (d *signingDomain) granted(g topics.Grant) {
	if d == nil {
		return
	}
	d.run = g.Run
	other, err := signed.ParseEphemeral(g.Ephemeral)
	if err == nil {
		d.mac, err = signed.Exchange{Dominion: g.Dominion, Domain: d.id, Session: "s", Run: g.Run}.Derive(d.ephemeral, other)
	}
	if err != nil {
		d.t.Error(err)
	}
}

// withMAC returns a payload with the MAC of the last join; without a key, as it is.
func (d *signingDomain) withMAC(k topics.Kind, payload []byte) []byte {
	if d == nil {
		return payload
	}
	message, err := signed.AppendMAC(d.mac.FromDomain, signed.Context{Kind: k.SignedKind(), Dominion: d.dominion, Domain: d.id}, payload)
	if err != nil {
		d.t.Error(err)
	}
	return message
}
