package agent

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// A domain joins again when the hub is another run, and not again and again when somebody
// replays the status of a former one.
func TestRejoining(t *testing.T) {
	now := time.Unix(1000, 0)
	var r rejoining
	r.join("run1")
	expect := func(what string, due bool, next time.Duration) {
		t.Helper()
		if got := r.Next(); r.due(now) != due || !due && (got.IsZero() != (next < 0) || next >= 0 && !got.Equal(now.Add(next))) {
			t.Errorf("%s: due %v, next %v", what, r.due(now), got.Sub(now))
		}
	}
	expect("after the join", false, -1)
	r.other = "run2"
	expect("another run", true, 0)
	r.busy = true
	expect("while it asks", false, -1)
	r.done("", errors.New("no answer"), now)
	expect("without an answer", false, time.Second)
	now = now.Add(time.Second)
	expect("a second later", true, 0)
	r.done("run2", nil, now)
	expect("joined", false, -1)
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		r.other = "run1"
		if !r.due(now) {
			t.Errorf("not due at %v", now)
		}
		r.done("run2", nil, now)
		r.other = "run1"
		now = now.Add(want*time.Second - 1)
		expect("a replayed status", false, 1)
		now = now.Add(1)
	}
	r.other = "run3"
	r.done("run3", nil, now)
	r.other = "run4"
	expect("after a run that is new", true, 0)
	r.done("run4", nil, now)
	for _, want := range []time.Duration{1, 2} {
		r.behind = true
		if !r.due(now) {
			t.Errorf("behind: not due at %v", now)
		}
		r.done("run4", nil, now)
		expect("behind, and joined", false, -1)
		r.behind = true
		now = now.Add(want*time.Second - 1)
		expect("behind again", false, 1)
		now = now.Add(1)
	}
}

// macsOf returns how many of the last heartbeats and metrics have the MAC of keys.
func (s signer) macsOf(k topics.Kind, keys signed.Keys) (n int) {
	u := s.u
	for _, m := range u.of(k) {
		if _, err := signed.VerifyMAC(keys.FromDomain, signed.Context{Kind: k.SignedKind(), Dominion: s.dominion, Domain: s.domain}, []byte(m)); err == nil {
			n++
		}
	}
	return n
}

// The hub is another run behind a broker of others: the domain joins it again over the
// connection that it has, once it has verified the hub's status, and goes on with new keys.
func TestJoinsAnotherRunOverItsConnection(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u, a := h.adoptedPi(true)
		s := u.signer()
		var first signed.Keys
		var joins int
		u.state(func(a *adopter) { first, joins = a.mac, a.joins })
		for _, k := range []topics.Kind{topics.DomainHeartbeat, topics.DomainMetrics} {
			if all := len(u.of(k)); all == 0 || s.macsOf(k, first) != all {
				t.Fatalf("%d of %d messages at %v have a MAC", s.macsOf(k, first), all, k.SignedKind())
			}
		}
		status := u.tree.Hub(topics.HubStatus)
		former := u.adopts.status(5)
		var next string
		u.state(func(a *adopter) { a.run = "run2"; next = a.status(6) })
		granted := func() (n int) {
			time.Sleep(5 * time.Second)
			u.state(func(a *adopter) { n = a.joins - joins })
			return n
		}
		for what, forged := range map[string]string{
			"unsigned":      string(topics.Encode(topics.Hub{ID: "d1", Name: "home", Protocol: topics.Protocol, Epoch: 9, Run: "run9", Key: u.adopts.own.KeyHash()})),
			"altered":       strings.Replace(next, `"run":"run2"`, `"run":"run9"`, 1),
			"by a stranger": newAdopter(t, "d1", 0).status(9),
			"for a domain":  string(s.sign(topics.HubStatus, topics.Encode(topics.Hub{ID: "d1", Protocol: topics.Protocol, Run: "run9", Key: u.adopts.own.KeyHash()}))),
			"twice":         strings.Replace(next, `"run":"run2"`, `"run":"run2","RUN":"run9"`, 1),
			"protocol 9":    string(topics.Encode(topics.Hub{ID: "d1", Protocol: "9.0", Epoch: 9})),
		} {
			u.send(status, forged, false)
			if n := granted(); n != 0 {
				t.Errorf("%s: joined %d times by a forged status", what, n)
			}
		}
		if u.receivedEvent(topics.DomainProblem, "protocol") {
			t.Errorf("a forged status was believed: %q", u.events())
		}
		if !u.receivedEvent(topics.MessageRefused, "it is not signed") || !u.receivedEvent(topics.MessageRefused, "signature is not valid") {
			t.Errorf("forged statuses were not reported: %q", u.events())
		}
		u.forget()
		u.send(status, next, true)
		if n := granted(); n != 1 {
			t.Fatalf("joined the other run %d times; events %q", n, u.events())
		}
		var second signed.Keys
		u.state(func(a *adopter) { second = a.mac })
		u.h.mu.Lock()
		lines := len(u.h.lines)
		u.h.mu.Unlock()
		for _, k := range []topics.Kind{topics.DomainHeartbeat, topics.DomainMetrics} {
			if bytes.Equal(first.FromDomain, second.FromDomain) || s.macsOf(k, second) == 0 {
				t.Errorf("nothing at %v has the MAC of the other run", k.SignedKind())
			}
		}
		if got := u.of(topics.DomainAvailability); len(got) > 0 {
			t.Errorf("its connection did not go on: %q", got)
		}
		// Somebody replays the status of the former run: it asks, and not each time.
		joins++
		for range 30 {
			u.send(status, former, false)
			u.send(status, next, false)
			time.Sleep(time.Second)
		}
		if n := granted(); n > 6 {
			t.Errorf("joined %d times in 35 s as a former status was replayed", n)
		}
		u.h.mu.Lock()
		defer u.h.mu.Unlock()
		if len(u.h.lines) != lines || a.runner.living() != 0 {
			t.Errorf("%d connections, %d before", len(u.h.lines), lines)
		}
	})
}

// A hub that is slow has granted a join when the domain has given up to wait: the domain asks
// for the same one again, and not for another one each time, which would be too late as well.
func TestJoinIsAskedForUntilItIsAnswered(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u, _ := h.adoptedPi(true)
		asked := make(map[string]int)
		answer := u.answer
		u.mu.Lock()
		u.answer = func(r topics.HubRequest) (topics.Reply, bool) {
			if r.Confirm != "" {
				return answer(r)
			}
			asked[r.Transaction]++
			if asked[r.Transaction] < 12 { // six seconds
				return topics.Reply{}, false
			}
			return answer(r)
		}
		u.mu.Unlock()
		u.forget()
		h.cut()
		time.Sleep(20 * time.Second)
		u.mu.Lock()
		defer u.mu.Unlock()
		if len(asked) != 1 || len(u.received) == 0 {
			t.Errorf("asked %v", asked)
		}
		if !slices.ContainsFunc(u.received, func(m topics.Message) bool { return m.Topic == u.tree.Domain(topics.DomainHeartbeat, "pi") }) {
			t.Error("it has not joined")
		}
	})
}
