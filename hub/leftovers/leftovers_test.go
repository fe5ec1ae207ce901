package leftovers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/leftovers"
	"github.com/jmbarzee/dominion/topics"
)

const id = "12345678-9abc-def0-1234-56789abcdef0"

var start = time.Unix(1_000_000, 0)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// home is what the rest of the hub is.
type home struct {
	busy    bool            // Home Assistant has not received everything
	domains map[string]bool // those that joined, and whether they reported
}

func (h home) Announced() bool { return !h.busy }

func (h home) Domain(name string) (joined, reported bool) {
	reported, joined = h.domains[name]
	return joined, reported
}

// receive takes retained messages, which are topics below the prefix old, and the status
// of a hub with an id.
func receive(l *leftovers.Leftovers, hub string, retained ...string) {
	for _, topic := range retained {
		l.Receive(topics.Message{Topic: "old/" + topic, Payload: []byte("x"), Retain: true})
	}
	if hub != "" {
		status := topics.Encode(topics.Hub{ID: hub, Name: "home", Version: "1.0.0", Protocol: topics.Protocol, StartedAt: topics.At(start)})
		l.Receive(topics.Message{Topic: "old/hub/status", Payload: status, Retain: true})
	}
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func wantNext(t *testing.T, l *leftovers.Leftovers, want time.Time) {
	t.Helper()
	if got := l.Next(); !got.Equal(want) {
		t.Errorf("next %v, want %v", got, want)
	}
}

// The former prefixes are those that are not the present one, each once.
func TestPrefixes(t *testing.T) {
	l := leftovers.New(id, []string{"old", "", "house", "older", "old"}, "house")
	want(t, "prefixes", l.Prefixes(), "old", "older")
	if l.Receive(topics.Message{Topic: "house/hub/status", Payload: []byte("x"), Retain: true}) {
		t.Error("the present prefix is a former one")
	}
	if !l.Receive(topics.Message{Topic: "older/hub/availability", Payload: []byte("online"), Retain: true}) {
		t.Error("a former prefix is not received")
	}
	for _, filter := range []string{"old/hub/status", "older/service/+/status", "old/domain/+/services/set"} {
		if !slices.Contains(l.Filters(), filter) {
			t.Errorf("%s is not followed", filter)
		}
	}
	if slices.ContainsFunc(l.Filters(), func(f string) bool { return strings.HasPrefix(f, "house/") }) || !slices.IsSorted(l.Filters()) {
		t.Errorf("followed: %q", l.Filters())
	}
	none := leftovers.New(id, []string{"house"}, "house")
	if none.Schedule(at(0)); !none.Next().IsZero() || len(none.Filters()) > 0 {
		t.Error("there are none, and something is due")
	}
}

// What is ours is cleared, the hub's availability and status last, and then the prefix is
// finished.
func TestCleared(t *testing.T) {
	l := leftovers.New(id, []string{"old"}, "house")
	receive(l, id, "service/lamp/status", "hub/availability", "domain/kitchen/condition", "hub/discovery")
	wantNext(t, l, time.Time{})
	l.Schedule(at(0))
	wantNext(t, l, at(3))
	if cleared, _ := l.Expire(home{}, at(2)); len(cleared) > 0 {
		t.Errorf("too early: %q", cleared)
	}
	cleared, finished := l.Expire(home{}, at(3))
	want(t, "cleared", cleared, "old/domain/kitchen/condition", "old/hub/discovery", "old/service/lamp/status", "old/hub/availability", "old/hub/status")
	want(t, "finished", finished, "old")
	wantNext(t, l, time.Time{})
	if len(l.Prefixes())+len(l.Filters()) > 0 {
		t.Errorf("left: %q, %q", l.Prefixes(), l.Filters())
	}
}

// What was cleared meanwhile is not cleared again.
func TestClearedByAnother(t *testing.T) {
	l := leftovers.New(id, []string{"old"}, "house")
	receive(l, id, "service/lamp/status")
	l.Receive(topics.Message{Topic: "old/service/lamp/status", Retain: true})
	l.Schedule(at(0))
	cleared, _ := l.Expire(home{}, at(3))
	want(t, "cleared", cleared, "old/hub/status")
}

// Below the prefix of another dominion nothing is cleared, whatever was ours before.
func TestAnotherDominion(t *testing.T) {
	for _, hub := range []string{"another", "not even an id \x00"} {
		l := leftovers.New(id, []string{"old"}, "house")
		receive(l, id, "service/lamp/status")
		receive(l, hub)
		l.Schedule(at(0))
		cleared, finished := l.Expire(home{}, at(3))
		want(t, "cleared", cleared)
		want(t, "finished", finished, "old")
	}
}

// A domain may still have the former prefix: what it needs there stays until it has
// reported below the present one, and the hub's status with it.
func TestDomainsThatHaveNotCome(t *testing.T) {
	const condition, command = "old/domain/kitchen/condition", "old/domain/kitchen/services/set"
	for _, c := range []struct {
		name string
		live bool // something came that was not retained
		home home
		left bool
	}{
		{"it is unknown", false, home{}, false},
		{"it still publishes there", true, home{}, true},
		{"it has joined", true, home{domains: map[string]bool{"kitchen": false}}, true},
		{"it has joined, and was silent", false, home{domains: map[string]bool{"kitchen": false}}, true},
		{"it has reported", true, home{domains: map[string]bool{"kitchen": true}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := leftovers.New(id, []string{"old"}, "house")
			receive(l, id, "domain/kitchen/condition", "domain/kitchen/services/set")
			if c.live {
				l.Receive(topics.Message{Topic: "old/domain/kitchen/heartbeat", Payload: []byte("x")})
			}
			l.Schedule(at(0))
			cleared, finished := l.Expire(c.home, at(3))
			if !c.left {
				want(t, "cleared", cleared, condition, command, "old/hub/status")
				want(t, "finished", finished, "old")
				return
			}
			want(t, "cleared", cleared, command)
			want(t, "finished", finished)
			wantNext(t, l, time.Time{})
			l.Schedule(at(10)) // it comes
			cleared, finished = l.Expire(home{domains: map[string]bool{"kitchen": true}}, at(13))
			want(t, "then cleared", cleared, condition, "old/hub/status")
			want(t, "then finished", finished, "old")
		})
	}
}

// The present topics are announced to Home Assistant first, but not waited for for ever.
func TestHomeAssistantFirst(t *testing.T) {
	l := leftovers.New(id, []string{"old"}, "house")
	receive(l, id)
	l.Schedule(at(0))
	looks := 0
	for {
		cleared, _ := l.Expire(home{busy: true}, l.Next())
		if looks++; len(cleared) > 0 {
			break
		}
		if l.Next().After(at(60)) {
			t.Fatal("nothing is cleared in a minute")
		}
	}
	if looks != 10 { // at 3, 6, … 30 seconds
		t.Errorf("cleared at look %d", looks)
	}
}

// Another broker may take its time to replay; a prefix below which nothing came at all is
// finished after that.
func TestNothingComes(t *testing.T) {
	l := leftovers.New(id, []string{"old"}, "house")
	l.Schedule(at(0))
	_, finished := l.Expire(home{}, at(3))
	want(t, "at once", finished)
	wantNext(t, l, at(33))
	receive(l, id, "service/lamp/status")
	cleared, _ := l.Expire(home{}, at(33))
	want(t, "it came", cleared, "old/service/lamp/status", "old/hub/status")

	l = leftovers.New(id, []string{"old"}, "house")
	l.Schedule(at(0))
	l.Expire(home{}, at(3))
	_, finished = l.Expire(home{}, at(33))
	want(t, "it did not come", finished, "old")
}

// With another connection everything comes again: what it had is forgotten.
func TestDisconnected(t *testing.T) {
	l := leftovers.New(id, []string{"old"}, "house")
	receive(l, id, "service/lamp/status")
	l.Schedule(at(0))
	l.Disconnected()
	wantNext(t, l, time.Time{})
	if cleared, finished := l.Expire(home{}, at(3)); len(cleared)+len(finished) > 0 {
		t.Errorf("cleared %q, finished %q", cleared, finished)
	}
	l.Schedule(at(10))
	receive(l, id, "hub/availability")
	cleared, _ := l.Expire(home{}, at(13))
	want(t, "cleared", cleared, "old/hub/availability", "old/hub/status")
}

// Services are taken once, and their number is bounded.
func TestServices(t *testing.T) {
	l := leftovers.New(id, nil, "house")
	want(t, "none", l.TakeServices())
	l.AddService("web")
	l.AddService("lamp")
	l.AddService("web")
	want(t, "taken", l.TakeServices(), "lamp", "web")
	want(t, "again", l.TakeServices())
	taken := 0
	for i := range 20_000 {
		if l.AddService(fmt.Sprintf("s%d", i)) {
			taken++
		}
	}
	if got := len(l.TakeServices()); got != taken || got != 10_000 {
		t.Errorf("%d of %d were taken", got, taken)
	}
}
