package macs

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"testing"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

const (
	dominion = "7d0f6d0e-7a51-4a5c-9d4f-0f4f6b1c2d3e"
	kitchen  = "3f2b8c1e-0000-4000-8000-000000000001"
	attic    = "3f2b8c1e-0000-4000-8000-000000000002"
)

// agent is the side of a domain.
type agent struct {
	tb      testing.TB
	id, run string
	session string
	own     *ecdh.PrivateKey
	keys    signed.Keys
}

func newAgent(tb testing.TB, id, session, run string) *agent {
	own, err := signed.NewEphemeral()
	if err != nil {
		tb.Fatal(err)
	}
	return &agent{tb: tb, id: id, session: session, run: run, own: own}
}

// join has the domain join: its keys count at the hub.
func (a *agent) join(m *MACs) *agent {
	a.tb.Helper()
	e := signed.Exchange{Dominion: dominion, Domain: a.id, Session: a.session, Run: a.run}
	s, err := Exchange(e, a.own.PublicKey().Bytes())
	if err != nil {
		a.tb.Fatal(err)
	}
	m.Put(a.id, s)
	other, err := signed.ParseEphemeral(s.Answer())
	if err != nil {
		a.tb.Fatal(err)
	}
	if a.keys, err = e.Derive(a.own, other); err != nil {
		a.tb.Fatal(err)
	}
	return a
}

func (a *agent) message(k topics.Kind, payload any) []byte {
	a.tb.Helper()
	m, err := signed.AppendMAC(a.keys.FromDomain, signed.Context{Kind: k.SignedKind(), Dominion: dominion, Domain: a.id}, topics.Encode(payload))
	if err != nil {
		a.tb.Fatal(err)
	}
	return m
}

func (a *agent) heartbeat(seq uint64) []byte {
	return a.message(topics.DomainHeartbeat, topics.Heartbeat{ID: a.id, Session: a.session, Seq: seq})
}

func TestHeartbeats(t *testing.T) {
	m := New(dominion)
	former := newAgent(t, kitchen, "s1", "run0").join(New(dominion)) // at a run of the hub before this one
	before := newAgent(t, kitchen, "s1", "run1").join(m)
	restarted := newAgent(t, kitchen, "s2", "run1")
	other := newAgent(t, attic, "s1", "run1")
	expect := func(what string, message []byte, want error) {
		t.Helper()
		b, err := m.Heartbeat(kitchen, "heartbeat", message)
		if !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%s: %+v, %v, want %v", what, b, err, want)
		}
	}
	if _, err := m.Heartbeat(attic, "heartbeat", former.heartbeat(9)); !errors.Is(err, ErrNoExchange) {
		t.Errorf("a domain that has not joined: %v", err)
	}
	unsigned := topics.Encode(topics.Heartbeat{ID: kitchen, Session: "s1", Seq: 9})
	expect("of a former run of the hub, right after the join", former.heartbeat(9), ErrFormer)
	expect("without a MAC, right after the join", unsigned, ErrFormer)
	first := before.heartbeat(1)
	expect("the first", first, nil)
	expect("the first once more", first, ErrReplayed)
	third := before.heartbeat(3)
	expect("after one that was lost", third, nil)
	expect("one that came late", before.heartbeat(2), ErrReplayed)
	expect("a replayed one", third, ErrReplayed)
	expect("of a former run of the hub", former.heartbeat(9), signed.ErrSignature)
	expect("without a MAC", unsigned, signed.ErrUnsigned)
	expect("altered", bytes.Replace(before.heartbeat(4), []byte(`"seq":4`), []byte(`"seq":5`), 1), signed.ErrSignature)
	expect("of another domain", other.join(m).heartbeat(4), signed.ErrSignature)
	expect("of another kind", before.message(topics.DomainMetrics, topics.Heartbeat{ID: kitchen, Session: "s1", Seq: 4}), signed.ErrSignature)
	expect("in the name of another run of the agent", before.message(topics.DomainHeartbeat, topics.Heartbeat{ID: kitchen, Session: "s2", Seq: 4}), ErrSession)
	expect("the next", before.heartbeat(4), nil)
	// What was refused has not moved the number, and another join ends the keys before it.
	last := before.heartbeat(5)
	restarted.join(m)
	expect("of the run of the agent before", last, ErrFormer)
	expect("the first of the next run of the agent", restarted.heartbeat(1), nil)
	expect("of the run of the agent before, later", last, signed.ErrSignature)
	m.Remove(kitchen)
	expect("after it was revoked", restarted.heartbeat(2), ErrNoExchange)
}

func TestMetrics(t *testing.T) {
	m := New(dominion)
	a := newAgent(t, kitchen, "s1", "run1").join(m)
	expect := func(what string, message []byte, want error) {
		t.Helper()
		if _, err := m.Metrics(kitchen, "metrics", message); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	second := a.message(topics.DomainMetrics, topics.Metrics{Seq: 2})
	expect("before any heartbeat", second, nil)
	expect("replayed", second, ErrReplayed)
	expect("without a number", a.message(topics.DomainMetrics, topics.Metrics{Load1: 1}), ErrReplayed)
	expect("a heartbeat", a.heartbeat(3), ErrFormer)
	expect("the next", a.message(topics.DomainMetrics, topics.Metrics{Seq: 3}), nil)
}

func TestExchangeRefuses(t *testing.T) {
	for what, key := range map[string][]byte{"none": nil, "too short": append([]byte{4}, make([]byte, 63)...), "not on the curve": append([]byte{4}, make([]byte, 64)...)} {
		if _, err := Exchange(signed.Exchange{Dominion: dominion, Domain: kitchen, Session: "s1", Run: "run1"}, key); err == nil {
			t.Errorf("the key that is %s is taken", what)
		}
	}
}

func TestLease(t *testing.T) {
	m := New(dominion)
	a := newAgent(t, kitchen, "s1", "run1").join(m)
	message, err := m.Lease(kitchen, topics.Encode(topics.Lease{Epoch: 1, Session: "s1", Seq: 1, Seconds: 10}))
	if err != nil {
		t.Fatal(err)
	}
	c := signed.Context{Kind: topics.DomainLease.SignedKind(), Dominion: dominion, Domain: kitchen}
	if _, err := signed.VerifyMAC(a.keys.FromHub, c, message); err != nil {
		t.Error(err)
	}
	if _, err := signed.VerifyMAC(a.keys.FromDomain, c, message); err == nil {
		t.Error("the directions have one key")
	}
	if _, err := m.Lease(attic, []byte(`{"seq":1}`)); !errors.Is(err, ErrNoExchange) {
		t.Errorf("a lease for a domain that has not joined: %v", err)
	}
}

// What a heartbeat costs beyond one without a MAC: BenchmarkDecode is that.
func BenchmarkHeartbeat(b *testing.B) {
	m := New(dominion)
	a := newAgent(b, kitchen, "s1", "run1").join(m)
	message := a.heartbeat(1)
	b.ReportAllocs()
	for b.Loop() {
		m.domains[kitchen].heartbeat = 0
		if _, err := m.Heartbeat(kitchen, "heartbeat", message); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	payload := topics.Encode(topics.Heartbeat{ID: kitchen, Session: "s1", Seq: 1})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := topics.Decode[topics.Heartbeat]("heartbeat", payload); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExchange is what a join costs the hub beside its loop.
func BenchmarkExchange(b *testing.B) {
	e := signed.Exchange{Dominion: dominion, Domain: kitchen, Session: "s1", Run: "run1"}
	asked := newAgent(b, kitchen, "s1", "run1").own.PublicKey().Bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Exchange(e, asked); err != nil {
			b.Fatal(err)
		}
	}
}
