package hub

import (
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// street is a hub of rooms, each of ten domains that run two services of their
// own: what happens in a room concerns no other one.
func street(tb testing.TB, domains int) *Hub {
	log := slog.New(slog.DiscardHandler)
	cfg, err := config.LoadDominion("", nil)
	if err != nil {
		tb.Fatal(err)
	}
	for room := range domains / 10 {
		for i := range 2 {
			d := services.Default(fmt.Sprintf("room-%d-%d", room, i))
			d.Priority, d.Traits = services.Required, []string{fmt.Sprintf("room-%d", room)}
			cfg.Services = append(cfg.Services, d)
		}
	}
	disk, err := store.Open(tb.TempDir(), log)
	if err != nil {
		tb.Fatal(err)
	}
	h := New(Options{Config: cfg, Store: disk, Bus: deafBus{}, Log: log})
	h.beginEpoch()
	var events []event
	for n := range domains {
		name := fmt.Sprintf("domain-%04d", n)
		events = append(events,
			arrival(h.tree, topics.Message{Topic: "dominion/domain/" + name + "/availability", Payload: []byte(topics.Online)}, false),
			inRoom(n, 0),
			beatOf(n))
	}
	now := time.Now()
	h.round(append(events, connected{}), now)
	for h.changed.Pending() {
		h.reconcile(now)
	}
	if !h.fleet.Ready() || len(h.plan.Services) != domains/5 {
		tb.Fatalf("ready %v, %d services", h.fleet.Ready(), len(h.plan.Services))
	}
	return h
}

func beatOf(n int) arrived {
	name := fmt.Sprintf("domain-%04d", n)
	return arrival(topics.NewTree(""), topics.Message{Topic: "dominion/domain/" + name + "/heartbeat", Payload: topics.Encode(topics.Heartbeat{ID: name, Session: "s", Seq: 1})}, false)
}

// inRoom is the status of a domain that runs both services of its room.
func inRoom(n, restarts int) arrived {
	name := fmt.Sprintf("domain-%04d", n)
	s := topics.Domain{ID: name, Name: name, Protocol: topics.Protocol, Address: "192.0.2.1", Traits: []string{fmt.Sprintf("room-%d", n/10)}}
	for i := range 2 {
		service := fmt.Sprintf("room-%d-%d", n/10, i)
		s.Catalog = append(s.Catalog, topics.CatalogRow{Service: service})
		s.Services = append(s.Services, topics.Instance{Service: service, State: topics.Running, Health: topics.Healthy, Port: 20000 + i + restarts%2, Restarts: restarts})
	}
	return arrival(topics.NewTree(""), topics.Message{Topic: "dominion/domain/" + name + "/status", Payload: topics.Encode(s)}, false)
}

// What happens at one domain costs about the same however many there are, and
// what happens at all of them grows with their number and not with its square.
// Times are the least of several: a busy machine makes some of them longer, and
// none shorter.
func TestGrowth(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const few, many = 100, 1600
	small, large := street(t, few), street(t, many)
	for _, c := range []struct {
		what string
		do   func(h *Hub, domains, n int)
		most float64 // times what few cost
	}{
		{"a heartbeat", func(h *Hub, domains, n int) {
			h.round([]event{beatOf(n % domains)}, h.schedule.stall.ObservedAt())
		}, 4},
		{"a status that changes something", func(h *Hub, domains, n int) {
			h.round([]event{inRoom(n%domains, n)}, h.schedule.stall.ObservedAt())
			for h.changed.Pending() {
				h.reconcile(h.schedule.stall.ObservedAt())
			}
		}, 6},
		{"a plan of all", func(h *Hub, _, _ int) {
			h.changed.TouchAll()
			h.reconcile(h.schedule.stall.ObservedAt())
		}, 4 * many / few},
	} {
		least := func(h *Hub, domains int) float64 {
			best := math.Inf(1)
			for n := range 30 {
				began := onProcessor(t)
				c.do(h, domains, n+1)
				best = min(best, float64(onProcessor(t)-began))
			}
			return best
		}
		a, b := least(small, few), least(large, many)
		t.Logf("%s: %v with %d domains, %v with %d: %.1f times", c.what, time.Duration(a), few, time.Duration(b), many, b/a)
		if b/a > c.most {
			t.Errorf("%s: %.1f times as long with %d domains as with %d, want at most %.0f times", c.what, b/a, many, few, c.most)
		}
	}
}

// onProcessor is the processor time of this thread: other programs on the
// machine do not count.
func onProcessor(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}
