package e2e

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// followerKey is what a follower has that was adopted: it signs its joins and statuses, and its
// heartbeats and metrics have MACs. It verifies nothing: it is the hub that is measured.
type followerKey struct {
	key                       *ecdsa.PrivateKey
	dominion, word            string
	joins, statuses, measured uint64
	// ephemeral is that of the last question, unanswered its transaction and payload while it
	// was not granted, mac of the last grant.
	ephemeral  *ecdh.PrivateKey
	unanswered struct {
		transaction string
		payload     []byte
	}
	mac *signed.MAC
}

// adoptCrowd gives each follower a key, and a hub that has not started yet the domains that it
// has adopted.
func adoptCrowd(t testing.TB, c *crowd, dataDir string) {
	t.Helper()
	const word = "first"
	dominion, members := topics.NewID(), make(map[string]adoption.Member)
	for _, f := range c.followers {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public, err := identity.EncodePublicKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := identity.HashKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		f.adopted = &followerKey{key: key, dominion: dominion, word: word}
		members[f.id] = adoption.Member{ID: f.id, Name: f.name, Key: public, KeyHash: hash, Words: adoption.Words{Confirmed: word}, Method: adoption.ByCode}
	}
	writeHubState(t, dataDir, map[string]any{"id": dominion, "adoption": adoption.HubState{Members: members}})
}

// knowCrowd gives a hub that has not started yet the followers as domains of before there were
// keys, which go on without.
func knowCrowd(t testing.TB, c *crowd, dataDir string) {
	t.Helper()
	domains := make(map[string]any)
	for _, f := range c.followers {
		domains[f.name] = map[string]any{"id": f.id, "lost": true}
	}
	writeHubState(t, dataDir, map[string]any{"id": topics.NewID(), "domains": domains})
}

// writeHubState writes the hub.json of a hub that has not started yet.
func writeHubState(t testing.TB, dataDir string, content map[string]any) {
	t.Helper()
	state, err := json.Marshal(content)
	if err == nil {
		err = os.MkdirAll(dataDir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dataDir, "hub.json"), state, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sign returns a payload as the follower signs it. One without a key publishes it as it is.
func (f *follower) sign(k topics.Kind, payload []byte) []byte {
	if f.adopted == nil {
		return payload
	}
	m, err := signed.Sign(f.adopted.key, signed.Context{Kind: k.SignedKind(), Dominion: f.adopted.dominion, Domain: f.id}, payload)
	if err != nil {
		panic(err)
	}
	return m
}

// withMAC returns a payload with the MAC of the last grant.
func (f *follower) withMAC(k topics.Kind, payload []byte) []byte {
	if f.adopted == nil {
		return payload
	}
	m, err := f.adopted.mac.Append(signed.Context{Kind: k.SignedKind(), Dominion: f.adopted.dominion, Domain: f.id}, payload)
	if err != nil {
		panic(err)
	}
	return m
}

// transaction returns that of the next question: as an agent does, a follower with a key makes the
// same request again until it is granted.
func (f *follower) transaction() string {
	if k := f.adopted; k != nil && k.unanswered.transaction != "" {
		return k.unanswered.transaction
	}
	return topics.NewID()
}

// question returns a request to join as it is published.
func (f *follower) question(ask topics.HubRequest) ([]byte, error) {
	k := f.adopted
	if k == nil {
		return topics.Encode(ask), nil
	}
	if k.unanswered.transaction == ask.Transaction {
		return k.unanswered.payload, nil
	}
	var err error
	if k.ephemeral, err = signed.NewEphemeral(); err != nil {
		return nil, err
	}
	k.joins++
	ask.Number, ask.Word, ask.Ephemeral = k.joins, k.word, k.ephemeral.PublicKey().Bytes()
	k.unanswered.transaction, k.unanswered.payload = ask.Transaction, f.sign(topics.Request, topics.Encode(ask))
	return k.unanswered.payload, nil
}

// granted takes the grant of a join.
func (f *follower) granted(reply topics.Reply) error {
	k := f.adopted
	if k == nil {
		return nil
	}
	g, err := topics.Decode[topics.Grant]("grant", reply.Data)
	if err != nil {
		return err
	}
	other, err := signed.ParseEphemeral(g.Ephemeral)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	keys, err := signed.Exchange{Dominion: g.Dominion, Domain: f.id, Session: f.session, Run: g.Run}.Derive(k.ephemeral, other)
	if err != nil {
		return err
	}
	k.word, k.unanswered.transaction = g.Word, ""
	k.mac, err = signed.NewMAC(keys.FromDomain)
	return err
}

// confirm says that the word of the last grant is stored. The mutex is held.
func (f *follower) confirm() {
	k := f.adopted
	if k == nil || k.word == "" {
		return
	}
	k.joins++
	request, _ := f.crowd.tree.Request(topics.VerbJoin)
	f.packetID = f.packetID%60_000 + 1
	f.line.publish(2, f.packetID+100, request, string(f.sign(topics.Request, topics.Encode(topics.HubRequest{
		ID: f.id, Name: f.name, Session: f.session, Protocol: topics.Protocol, Number: k.joins, Confirm: k.word,
	}))))
}
