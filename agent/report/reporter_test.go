package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/services/lease"
	"github.com/jmbarzee/dominion/topics"
)

// conn is a connection that notes what is published.
type conn struct {
	messages []topics.Message
	closed   bool
}

func (c *conn) Publish(m topics.Message)    { c.messages = append(c.messages, m) }
func (c *conn) Flush(context.Context) error { return nil }
func (c *conn) Close()                      { c.closed = true }

// published returns the last levels of the topics published so far, and forgets them.
func (c *conn) published() string {
	var all []string
	for _, m := range c.messages {
		all = append(all, m.Topic[strings.LastIndex(m.Topic, "/")+1:])
	}
	c.messages = nil
	return strings.Join(all, " ")
}

// last decodes the last message on a topic that ends in a level.
func last[T any](t *testing.T, c *conn, level string) (v T) {
	t.Helper()
	for _, m := range c.messages {
		if !strings.HasSuffix(m.Topic, "/"+level) {
			continue
		}
		if err := json.Unmarshal(m.Payload, &v); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// reporter returns the reporter of a domain pi, its heartbeats, and its log.
func reporter(now time.Time) (*Reporter, *Heartbeats, *bytes.Buffer) {
	out := new(bytes.Buffer)
	log, tree := slog.New(slog.NewTextHandler(out, nil)), topics.NewTree("")
	h := NewHeartbeats(tree, "pi", log)
	h.Begin("id1", "s1", now, func() time.Duration { return time.Second }, func(time.Duration) {})
	return New(Options{
		ID: "id1", Name: "pi", Session: "s1", Version: "1.0.0", Started: now, Tree: tree, Log: log,
		MetricsInterval: 30 * time.Second, Metrics: func(time.Time) topics.Metrics { return topics.Metrics{Load1: 0.5} }, Heartbeats: h,
	}), h, out
}

// state returns what a loop reports that obeys a generation of epoch 5.
func state(generation uint64) State {
	return State{Domain: topics.Domain{Address: "192.0.2.7"}, Position: lease.Position{Epoch: 5, Generation: generation}, Heartbeat: time.Second}
}

// A join publishes all of the state in an order that the hub relies on: metrics before
// the heartbeat that makes the domain online, the status before the heartbeat that
// names it, and what happened before the join after it.
func TestJoin(t *testing.T) {
	now := time.Now()
	r, _, _ := reporter(now)
	r.Event(topics.DomainProblem, "", "first")
	r.Event(topics.DomainProblem, "web", "second")
	r.Update(state(1), now) // has not joined
	c := &conn{}
	r.Join(c, 1, state(1), now)
	d, b := last[topics.Domain](t, c, "status"), last[topics.Heartbeat](t, c, "heartbeat")
	if d.ID != "id1" || d.Name != "pi" || d.Session != "s1" || d.Seq != 1 || d.Epoch != 5 || d.Generation != 1 || d.Protocol != topics.Protocol || d.Address != "192.0.2.7" || d.StartedAt.IsZero() {
		t.Errorf("status %+v", d)
	}
	if b.Status != d.Seq || b.Session != "s1" || b.Generation != 1 || b.Seq != 1 {
		t.Errorf("heartbeat %+v", b)
	}
	if got := c.published(); got != "availability status metrics heartbeat event event" {
		t.Errorf("published %s", got)
	}

	r.Leave()
	r.Event(topics.DomainProblem, "", "third")
	r.Update(state(2), now)
	r.Expire(now.Add(time.Hour))
	if got := c.published(); got != "" || !r.Next().IsZero() {
		t.Errorf("published on a connection that is over: %s", got)
	}
	c = &conn{}
	r.Join(c, 2, state(1), now)
	if d := last[topics.Domain](t, c, "status"); d.Seq != 2 {
		t.Errorf("the same status has number %d on another connection", d.Seq)
	}
	if got := c.published(); got != "availability status metrics heartbeat event" {
		t.Errorf("published %s", got)
	}
}

// A status is published when it changed, before a heartbeat that is due at once.
func TestUpdate(t *testing.T) {
	now := time.Now()
	r, _, _ := reporter(now)
	c := &conn{}
	r.Join(c, 1, state(1), now)
	c.published()
	for _, s := range []struct {
		name string
		do   func()
		want string
	}{
		{"nothing changed", func() {}, ""},
		{"a new generation", func() { r.HeartbeatAtOnce(); r.Update(state(2), now) }, "status heartbeat"},
		{"the same again", func() { r.Update(state(2), now) }, ""},
		{"metrics are not due", func() { r.Expire(now.Add(29 * time.Second)) }, ""},
		{"metrics are due", func() { r.Expire(now.Add(30 * time.Second)); r.Expire(now.Add(30 * time.Second)) }, "metrics"},
		{"the machine was suspended", func() { r.Expire(now.Add(time.Hour)); r.Expire(now.Add(time.Hour)) }, "metrics"},
		{"repeated", func() { r.Repeat(now); r.Update(state(2), now); r.Expire(now) }, "availability status metrics"},
	} {
		s.do()
		if got := c.published(); got != s.want {
			t.Errorf("%s: published %q, want %q", s.name, got, s.want)
		}
	}
}

// Of events without a connection the last hundred are published later.
func TestOutboxIsBounded(t *testing.T) {
	now := time.Now()
	r, _, _ := reporter(now)
	for n := range maxOutbox + 7 {
		r.Event(topics.DomainProblem, "", fmt.Sprint("event ", n))
	}
	c := &conn{}
	r.Join(c, 1, state(1), now)
	if n := strings.Count(c.published(), "event"); n != maxOutbox || r.outbox != nil {
		t.Errorf("%d events", n)
	}
}

// What is repeated is reported once a minute.
func TestRefusalsAreRateLimited(t *testing.T) {
	now := time.Now()
	r, _, log := reporter(now)
	c := &conn{}
	r.Join(c, 1, state(1), now)
	c.published()
	for n := range 30 {
		at := now.Add(time.Duration(n) * time.Second)
		r.Refused("an order of another dominion", at)
		r.Invalid(errors.New("cannot read it"), at)
	}
	if got := c.published(); got != "event event" || strings.Count(log.String(), "level=WARN") != 2 {
		t.Errorf("published %s, logged %s", got, log)
	}
	r.Refused("an order of another dominion", now.Add(2*time.Minute))
	if got := c.published(); got != "event" {
		t.Errorf("published %q in another minute", got)
	}
	r.WriteError(nil)
	r.WriteError(errors.New("cannot write"))
	if e := last[topics.Event](t, c, "event"); e.Type != topics.DomainProblem || e.Message != "cannot write" || len(c.messages) != 1 {
		t.Errorf("event %+v", e)
	}
}

// A lease counts for the connection by which the domain has joined; the loop gets what
// cannot be read.
func TestAcceptLease(t *testing.T) {
	now := time.Now()
	r, h, _ := reporter(now)
	extended := 0
	h.extend = func(time.Duration) { extended++ }
	c := &conn{}
	r.Join(c, 3, state(1), now)
	message := func(k topics.Kind, payload any, retain bool) topics.Message {
		m := r.message(k, topics.Encode(payload))
		m.Retain = retain
		return m
	}
	given := topics.Lease{Epoch: 5, Session: "s1", Seq: 1, Seconds: 10}
	for _, s := range []struct {
		name     string
		connID   int
		m        topics.Message
		accepted bool
		extended int
	}{
		{"a retained lease", 3, message(topics.DomainLease, given, true), false, 0},
		{"one that cannot be read", 3, message(topics.DomainLease, "x", false), false, 0},
		{"one of another connection", 2, message(topics.DomainLease, given, false), true, 0},
		{"one of another run", 3, message(topics.DomainLease, topics.Lease{Epoch: 5, Session: "s0", Seq: 1, Seconds: 10}, false), true, 0},
		{"a valid one", 3, message(topics.DomainLease, given, false), true, 1},
	} {
		extended = 0
		if accepted := h.AcceptLease(s.connID, s.m); accepted != s.accepted || extended != s.extended {
			t.Errorf("%s: accepted %v, extended %d times", s.name, accepted, extended)
		}
	}
}

// Of a domain that has a key, heartbeats and metrics have the MAC of its last join, and leases
// must have it.
func TestMACs(t *testing.T) {
	now := time.Now()
	r, h, _ := reporter(now)
	extended := 0
	h.extend = func(time.Duration) { extended++ }
	c := &conn{}
	keys := func(first byte) *signed.Keys {
		return &signed.Keys{FromDomain: bytes.Repeat([]byte{first}, 32), FromHub: bytes.Repeat([]byte{first + 1}, 32)}
	}
	session := Session{Dominion: "d1", Domain: "id1", Keys: keys(1)}
	r.SetSession(session, now)
	r.Join(c, 3, state(1), now)
	verified := func(keys *signed.Keys, level string) (n int) {
		for _, m := range c.messages {
			kind := "domain/<domain>/" + level
			if _, err := signed.VerifyMAC(keys.FromDomain, signed.Context{Kind: kind, Dominion: "d1", Domain: "id1"}, m.Payload); err == nil {
				n++
			}
		}
		return n
	}
	if verified(session.Keys, "heartbeat") != 1 || verified(session.Keys, "metrics") != 1 {
		t.Errorf("published %s", c.published())
	}
	given := topics.Lease{Epoch: 5, Session: "s1", Seq: 1, Seconds: 10}
	lease := func(key []byte, kind string, l topics.Lease) topics.Message {
		m, err := signed.AppendMAC(key, signed.Context{Kind: kind, Dominion: "d1", Domain: "id1"}, topics.Encode(l))
		if err != nil {
			t.Fatal(err)
		}
		return r.message(topics.DomainLease, m)
	}
	const kind = "domain/<domain>/lease"
	valid := lease(session.Keys.FromHub, kind, given)
	altered := r.message(topics.DomainLease, bytes.Replace(valid.Payload, []byte(`"seconds":10`), []byte(`"seconds":99`), 1))
	for _, s := range []struct {
		name     string
		m        topics.Message
		accepted bool
		extended int
	}{
		{"without a MAC", r.message(topics.DomainLease, topics.Encode(given)), false, 0},
		{"altered", altered, false, 0},
		{"by the key of the other direction", lease(session.Keys.FromDomain, kind, given), false, 0},
		{"of another kind", lease(session.Keys.FromHub, "domain/<domain>/heartbeat", given), false, 0},
		{"of a former run", lease(keys(9).FromHub, kind, given), false, 0},
		{"of another run of the agent", lease(session.Keys.FromHub, kind, topics.Lease{Epoch: 5, Session: "s0", Seq: 1, Seconds: 10}), true, 0},
		{"valid", valid, true, 1},
	} {
		extended = 0
		if accepted := h.AcceptLease(3, s.m); accepted != s.accepted || extended != s.extended || (h.CheckLease(s.m) == nil) != s.accepted {
			t.Errorf("%s: accepted %v, extended %d times, %v", s.name, accepted, extended, h.CheckLease(s.m))
		}
	}
	until := h.leases.Until()
	if h.AcceptLease(3, valid); h.leases.Until() != until {
		t.Errorf("a replayed lease prolongs it from %v to %v", until, h.leases.Until())
	}
	// Another join over the same connection: metrics and a heartbeat follow at once.
	before := session.Keys
	session.Keys = keys(5)
	c.published()
	r.SetSession(session, now)
	r.Update(state(1), now)
	if verified(session.Keys, "heartbeat") != 1 || verified(session.Keys, "metrics") != 1 || verified(before, "heartbeat") != 0 {
		t.Errorf("published %s", c.published())
	}
	if last[topics.Metrics](t, c, "metrics").Seq != 2 || last[topics.Heartbeat](t, c, "heartbeat").Seq != 2 {
		t.Error("their numbers do not grow")
	}
	if h.AcceptLease(3, valid) {
		t.Error("a lease of the former run is accepted")
	}
}

// A loop that stalls is reported once, and its heartbeats go on; who ends the agent
// then publishes that it is offline.
func TestStall(t *testing.T) {
	now := time.Now()
	r, h, log := reporter(now)
	c := &conn{}
	r.Join(c, 1, state(1), now)
	c.published()
	h.Busy(now)
	for n := 1; n <= 7; n++ {
		if next := h.publishDue(now.Add(time.Duration(n) * time.Second)); !next.Equal(now.Add(time.Duration(n+1) * time.Second)) {
			t.Errorf("the next heartbeat is due after %v", next.Sub(now))
		}
	}
	if got := c.published(); got != "heartbeat heartbeat heartbeat heartbeat heartbeat event heartbeat heartbeat" {
		t.Errorf("published %s", got)
	}
	if got := h.Stalled(now.Add(7 * time.Second)); got != 7*time.Second {
		t.Errorf("stalled for %v", got)
	}
	stopped := false
	h.OnOffline(func() { stopped = true })
	h.PublishOffline()
	h.PublishOffline()
	if got := c.published(); got != "availability" || !stopped || !c.closed {
		t.Errorf("published %s, stopped %v, closed %v", got, stopped, c.closed)
	}
	h.Idle(now.Add(8 * time.Second))
	if h.Stalled(now.Add(time.Hour)) != 0 || !strings.Contains(log.String(), "services are supervised again") {
		t.Errorf("it still stalls: %s", log)
	}
}
