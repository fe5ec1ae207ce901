package usage

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const interval = topics.MetricsInterval

// home is a home whose domains use what figures says.
type home struct {
	*Usage
	t       *testing.T
	now     time.Time
	figures map[string]map[string]topics.Usage
}

func newHome(t *testing.T) *home {
	h := &home{Usage: New(), t: t, now: time.Unix(1000, 0), figures: make(map[string]map[string]topics.Usage)}
	h.Connected(h.now)
	return h
}

// report takes figures of a domain over.
func (h *home) report(domain string, figures map[string]topics.Usage) {
	h.Change(maps.Keys(h.figures[domain]), h.now)
	h.figures[domain] = figures
	h.Change(maps.Keys(figures), h.now)
}

// published checks what is published now.
func (h *home) published(want ...Sum) {
	h.t.Helper()
	defined := func(service string) bool { return service != "unknown" }
	if got := h.Expire(maps.Values(h.figures), defined, h.now); !slices.Equal(got, want) {
		h.t.Errorf("published %+v, want %+v", got, want)
	}
}

func web(cpu float64, memory uint64) map[string]topics.Usage {
	return map[string]topics.Usage{"web": {CPU: cpu, Memory: memory}}
}

func sum(service string, cpu float64, memory uint64, instances int) Sum {
	return Sum{service, topics.ServiceUsage{CPU: cpu, Memory: memory, Instances: instances}}
}

// The first figures are published at once, later ones together when the interval is over,
// and those that did not change not at all.
func TestAtMostOnceInAnInterval(t *testing.T) {
	h := newHome(t)
	h.published()
	if !h.Next().IsZero() {
		t.Errorf("due at %v without figures", h.Next())
	}
	h.report("a", web(0.1, 1000))
	if !h.Next().Equal(h.now) {
		t.Errorf("the first figures are due at %v, want now", h.Next())
	}
	h.published(sum("web", 0.1, 1000, 1))
	first := h.now
	h.now = h.now.Add(time.Second)
	h.report("b", web(0.2, 500))
	if want := first.Add(interval); !h.Next().Equal(want) {
		t.Errorf("the next figures are due at %v, want %v", h.Next(), want)
	}
	h.published()
	h.now = first.Add(interval)
	h.published(sum("web", 0.3, 1500, 2)) // rounded: the sum of the floats is 0.30000000000000004
	h.now = h.now.Add(10 * interval)
	h.report("a", web(0.1, 1000))
	if !h.Next().Equal(h.now) {
		t.Errorf("after a long time figures are due at %v, want now", h.Next())
	}
	h.published()
	if !h.Next().IsZero() {
		t.Errorf("due at %v without a change", h.Next())
	}
}

// A service whose instances are gone uses nothing, as soon as all domains must have
// reported in this connection.
func TestGone(t *testing.T) {
	h := newHome(t)
	h.report("a", web(0.1, 1000))
	h.published(sum("web", 0.1, 1000, 1))
	connected := h.now
	h.now = connected.Add(interval / 2)
	h.report("a", nil)
	h.now = connected.Add(interval - 1)
	h.published()
	h.now = connected.Add(interval)
	h.published(sum("web", 0, 0, 0))
	h.published()
}

// What an earlier run of the hub published, and of a service that nobody runs, is published
// once all domains have reported.
func TestRecallAndIdle(t *testing.T) {
	h := newHome(t)
	connected := h.now
	h.Recall("web")
	h.Idle("lamp")
	h.Idle("unknown")
	if want := connected.Add(interval); !h.Next().Equal(want) {
		t.Errorf("due at %v, want %v", h.Next(), want)
	}
	h.published()
	h.now = connected.Add(interval)
	h.published(sum("lamp", 0, 0, 0), sum("web", 0, 0, 0))
	h.Idle("lamp")
	if !h.Next().IsZero() {
		t.Errorf("what is published is due again at %v", h.Next())
	}
	h.now = h.now.Add(time.Hour)
	h.Connected(h.now) // to a broker that may have lost it
	h.Idle("lamp")
	h.now = h.now.Add(interval)
	h.published(sum("lamp", 0, 0, 0))
}

// What was not reported yet in this connection waits, and does not hold up what was.
func TestUnreportedWaits(t *testing.T) {
	h := newHome(t)
	connected := h.now
	h.Recall("lamp")
	h.now = h.now.Add(time.Second)
	h.report("a", web(0.1, 1000))
	h.published(sum("web", 0.1, 1000, 1))
	if want := connected.Add(interval); !h.Next().Equal(want) {
		t.Errorf("the rest is due at %v, want %v", h.Next(), want)
	}
	h.now = connected.Add(interval)
	h.published(sum("lamp", 0, 0, 0))
}

// Of what nobody uses and of services that are not defined nothing is published.
func TestUndefined(t *testing.T) {
	h := newHome(t)
	h.report("a", map[string]topics.Usage{"unknown": {CPU: 1}})
	h.published()
	h.now = h.now.Add(2 * interval)
	h.report("a", map[string]topics.Usage{"unknown": {CPU: 2}})
	h.published()
}
