package hub

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/macs"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// town is a hub of many domains, each with every service in its catalog: half
// of the services run on all of them.
func town(tb testing.TB, domains, kinds int) *Hub {
	log := slog.New(slog.DiscardHandler)
	cfg, err := config.LoadDominion("", nil)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range kinds {
		d := services.Default(fmt.Sprintf("service-%02d", i))
		if i%2 == 0 {
			d.Priority = services.Required
		} else {
			d.Dependencies = []services.Dependency{{Service: fmt.Sprintf("service-%02d", i-1)}}
		}
		cfg.Services = append(cfg.Services, d)
	}
	disk, err := store.Open(tb.TempDir(), log)
	if err != nil {
		tb.Fatal(err)
	}
	h := New(Options{Config: cfg, Store: disk, Bus: deafBus{}, Log: log})
	now := time.Now()
	h.beginEpoch()
	for n := range domains {
		name := fmt.Sprintf("domain-%04d", n)
		h.availability(name, topics.Online, false, now)
		h.handle(statusOf(h, name, 0), now)
		h.heartbeat(name, topics.Heartbeat{ID: name, Session: "s", Seq: 1}, topics.Message{}, now)
	}
	h.connect(now)
	h.expire(now)
	for h.changed.Pending() {
		h.reconcile(now)
	}
	return h
}

// statusOf is the status of a domain that runs all it was ordered to.
func statusOf(h *Hub, name string, restarts int) arrived {
	s := topics.Domain{ID: name, Name: name, Protocol: topics.Protocol, Address: "192.0.2.1"}
	for i, d := range h.cfg.Services {
		s.Catalog = append(s.Catalog, topics.CatalogRow{Service: d.Name, Version: "1.0.0"})
		if i%2 == 0 {
			s.Services = append(s.Services, topics.Instance{Service: d.Name, State: topics.Running, Health: topics.Healthy, Version: "1.0.0", Revision: d.Spec(nil).Revision, Port: 20000 + i, Restarts: restarts})
		}
	}
	return arrival(h.tree, topics.Message{Topic: "dominion/domain/" + name + "/status", Payload: topics.Encode(s)}, false)
}

// A status that changes nothing: what a hub does most of its time.
func BenchmarkStatus(b *testing.B) {
	h := town(b, 100, 20)
	status, now := statusOf(h, "domain-0007", 1), time.Now()
	for b.Loop() {
		h.handle(status, now)
		h.reconcile(now)
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	h := town(b, 1000, 20)
	beat := arrival(h.tree, topics.Message{Topic: "dominion/domain/domain-0007/heartbeat", Payload: topics.Encode(topics.Heartbeat{ID: "domain-0007", Session: "s", Seq: 1})}, false)
	events, now := []event{beat}, time.Now()
	b.ReportAllocs()
	for b.Loop() {
		h.round(events, now)
	}
}

// adoptInTown gives a domain of a town a key and has it join, and returns its heartbeats from
// the second on.
func adoptInTown(b *testing.B, h *Hub, name string) (heartbeats [][]byte) {
	b.Helper()
	own, err := keys.Open(keys.Options{
		DataDir: b.TempDir(), Dominion: h.ID(), Name: "home", Log: slog.New(slog.DiscardHandler),
		Names: func() (identity.Names, error) { return identity.MakeNames("hub", nil), nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	own.SetDomains(map[string]keys.Domain{name: {Name: name}})
	h.keys = own
	key, err := signed.NewEphemeral()
	if err != nil {
		b.Fatal(err)
	}
	e := signed.Exchange{Dominion: h.ID(), Domain: name, Session: "s", Run: "run"}
	session, err := macs.Exchange(e, key.PublicKey().Bytes())
	if err != nil {
		b.Fatal(err)
	}
	h.macs.Put(name, session)
	other, err := signed.ParseEphemeral(session.Answer())
	if err != nil {
		b.Fatal(err)
	}
	derived, err := e.Derive(key, other)
	if err != nil {
		b.Fatal(err)
	}
	c := signed.Context{Kind: topics.DomainHeartbeat.SignedKind(), Dominion: h.ID(), Domain: name}
	for seq := range b.N {
		m, err := signed.AppendMAC(derived.FromDomain, c, topics.Encode(topics.Heartbeat{ID: name, Session: "s", Seq: uint64(seq + 2)}))
		if err != nil {
			b.Fatal(err)
		}
		heartbeats = append(heartbeats, m)
	}
	return heartbeats
}

// BenchmarkHeartbeatWithMAC is BenchmarkHeartbeat for a domain that has a key.
func BenchmarkHeartbeatWithMAC(b *testing.B) {
	h, now := town(b, 1000, 20), time.Now()
	heartbeats := adoptInTown(b, h, "domain-0007")
	beat := arrival(h.tree, topics.Message{Topic: "dominion/domain/domain-0007/heartbeat"}, false)
	events := []event{nil}
	b.ReportAllocs()
	b.ResetTimer()
	for _, m := range heartbeats {
		beat.Payload = m
		events[0] = beat
		h.round(events, now)
	}
	b.StopTimer()
	if d := h.fleet.Get("domain-0007"); d.Heartbeat.Seq != uint64(b.N+1) {
		b.Errorf("the last heartbeat is %d of %d", d.Heartbeat.Seq, b.N+1)
	}
}

// BenchmarkHeartbeatFromBroker measures a heartbeat from its publishing at the hub's own
// broker until the hub has handled it.
func BenchmarkHeartbeatFromBroker(b *testing.B) {
	h := town(b, 1000, 20)
	own, err := broker.New(broker.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer own.Stop(context.Background())
	if err := h.Attach(own); err != nil {
		b.Fatal(err)
	}
	m := h.tree.Message(topics.Address{Kind: topics.DomainHeartbeat, Domain: "domain-0007"}, topics.Encode(topics.Heartbeat{ID: "domain-0007", Session: "s", Seq: 1}))
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		own.Publish(m)
		<-h.box.Ready()
		events, _ := h.box.Take()
		h.round(events, now)
	}
}

// BenchmarkThousandJoins measures a thousand domains with keys that join at once: from their
// requests until all have their signed grants. The loop's own part of that is reported apart: so
// long it does nothing else.
func BenchmarkThousandJoins(b *testing.B) {
	const domains = 1000
	h := town(b, 1, 20)
	var ids []string
	for n := range domains {
		ids = append(ids, fmt.Sprintf("domain-%04d", n))
	}
	key := adoptWithKey(b, h, ids...)
	now, number := time.Now(), uint64(0)
	var loop time.Duration
	for b.Loop() {
		b.StopTimer()
		number++
		transaction := fmt.Sprint(number)
		var joins []event
		for id := range h.adoption.Members() {
			ephemeral, err := signed.NewEphemeral()
			if err != nil {
				b.Fatal(err)
			}
			ask := topics.HubRequest{Transaction: transaction, ID: id, Name: id, Session: "s", Number: number, Word: "w", Protocol: topics.Protocol, Ephemeral: ephemeral.PublicKey().Bytes()}
			m, err := signed.Sign(key, signed.Context{Kind: topics.Request.SignedKind(), Dominion: h.ID(), Domain: id}, topics.Encode(ask))
			if err != nil {
				b.Fatal(err)
			}
			joins = append(joins, arrival(h.tree, topics.Message{Topic: "dominion/request/join", Payload: m}, false))
		}
		b.StartTimer()
		for events := joins; len(h.adoption.answers) < domains || h.openJoins(transaction) > 0; events, _ = h.box.Take() {
			began := time.Now()
			now = now.Add(10 * time.Millisecond)
			h.round(events, now)
			if loop += time.Since(began); len(h.adoption.grants) == 0 && h.openJoins(transaction) > 0 {
				<-h.box.Ready()
			}
		}
	}
	b.ReportMetric(float64(loop.Milliseconds())/float64(number), "ms-in-loop/op")
}

// adoptWithKey opens the keys of a hub, has it adopt domains by their ids, which are their names
// too, and returns the key that all of them have.
func adoptWithKey(tb testing.TB, h *Hub, ids ...string) *ecdsa.PrivateKey {
	tb.Helper()
	h.beginLeases()
	own, err := keys.Open(keys.Options{
		DataDir: tb.TempDir(), Dominion: h.ID(), Name: "home", Log: slog.New(slog.DiscardHandler),
		Names: func() (identity.Names, error) { return identity.MakeNames("hub", nil), nil },
	})
	if err != nil {
		tb.Fatal(err)
	}
	h.keys = own
	key, err := identity.NewKey()
	if err != nil {
		tb.Fatal(err)
	}
	public, err := identity.EncodePublicKey(&key.PublicKey)
	if err != nil {
		tb.Fatal(err)
	}
	for _, id := range ids {
		h.adoption.Members()[id] = protocol.Member{ID: id, Name: id, Key: public, KeyHash: "k", Words: protocol.Words{Confirmed: "w"}}
	}
	h.setDomains(nil)
	return key
}

// openJoins returns how many domains have no grant of a transaction.
func (h *Hub) openJoins(transaction string) (n int) {
	for id := range h.adoption.Members() {
		if h.adoption.answers[id].transaction != transaction {
			n++
		}
	}
	return n
}
