package hub

import (
	"crypto/ecdsa"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// grantBus counts the answers to joins.
type grantBus struct {
	tree  topics.Tree
	count *int
}

func (b grantBus) Publish(m topics.Message) {
	if a, ok := b.tree.Parse(m.Topic); ok && a.Kind == topics.ResponseTo {
		*b.count++
	}
}

// BenchmarkJoins is a thousand domains with keys that join a hub at once, as after its restart,
// until all are answered.
func BenchmarkJoins(b *testing.B) {
	const domains = 1000
	log := slog.New(slog.DiscardHandler)
	cfg, err := config.LoadDominion("", nil)
	if err != nil {
		b.Fatal(err)
	}
	disk, err := store.Open(b.TempDir(), log)
	if err != nil {
		b.Fatal(err)
	}
	own, err := keys.Open(keys.Options{
		DataDir: b.TempDir(), Dominion: disk.ID(), Name: "home", Log: log,
		Names: func() (identity.Names, error) { return identity.MakeNames("hub", nil), nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	ephemeral, err := signed.NewEphemeral()
	if err != nil {
		b.Fatal(err)
	}
	members, private := make(map[string]adoption.Member), make(map[string]*ecdsa.PrivateKey)
	for n := range domains {
		name := fmt.Sprintf("domain-%04d", n)
		key, err := identity.NewKey()
		if err != nil {
			b.Fatal(err)
		}
		public, err := identity.EncodePublicKey(&key.PublicKey)
		if err != nil {
			b.Fatal(err)
		}
		hash, err := identity.HashKey(&key.PublicKey)
		if err != nil {
			b.Fatal(err)
		}
		private[name] = key
		members[name] = adoption.Member{ID: name, Name: name, Key: public, KeyHash: hash, Words: adoption.Words{Confirmed: "w"}, Method: adoption.ByCode}
	}
	disk.Change(func(s *store.State) { s.Adoption.Members = members })
	granted, tree := 0, topics.NewTree("")
	h := New(Options{Config: cfg, Store: disk, Bus: grantBus{tree, &granted}, Keys: own, Log: log})
	h.beginEpoch()
	h.connect(time.Now())
	number := uint64(0)
	for b.Loop() {
		granted, number = 0, number+1
		var events []event
		for name, key := range private {
			ask := topics.HubRequest{
				Transaction: fmt.Sprint(name, number), ID: name, Name: name, Session: "s", Protocol: topics.Protocol, Number: number, Word: "w",
				Ephemeral: ephemeral.PublicKey().Bytes(), Response: tree.Topic(topics.Address{Kind: topics.ResponseTo, Verb: topics.VerbJoin, Domain: name}),
			}
			m, err := signed.Sign(key, signed.Context{Kind: topics.Request.SignedKind(), Dominion: disk.ID(), Domain: name}, topics.Encode(ask))
			if err != nil {
				b.Fatal(err)
			}
			request, _ := tree.Request(topics.VerbJoin)
			events = append(events, arrival(tree, topics.Message{Topic: request, Payload: m}, false))
		}
		h.round(events, time.Now())
		rounds := 0
		for granted < domains {
			select {
			case <-h.box.Ready():
			case <-time.After(max(time.Until(h.schedule.wake), time.Millisecond)):
			}
			events, _ := h.box.Take()
			h.round(events, time.Now())
			rounds++
		}
		b.ReportMetric(float64(rounds), "rounds")
	}
}
