package leases

import (
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const (
	length   = 20 * time.Second
	stopTime = 9 * time.Second
	validity = 30 * time.Second // with the slack of services/lease
)

// home is a home in which the tests set the states of domains. The id of a domain is "id-"
// and its name.
type home struct {
	*Leases
	states map[string]topics.DomainState
	now    time.Time
}

// newHome returns a home with the exclusive service lock, whose hub begins to run.
func newHome(former time.Duration) *home {
	h := &home{states: make(map[string]topics.DomainState), now: time.Unix(1000, 0).UTC()}
	h.Leases = New(Home{
		NameOf: func(id string) string {
			for name := range h.states {
				if "id-"+name == id {
					return name
				}
			}
			return ""
		},
		StateOf: func(name string) topics.DomainState { return h.states[name] },
	})
	h.Begin(terms("lock"), former, h.now)
	return h
}

func terms(services ...string) Terms {
	t := Terms{Length: length, StopTimeouts: make(map[string]time.Duration)}
	for _, s := range services {
		t.StopTimeouts[s] = stopTime
	}
	return t
}

// assign has a domain obey a start command of some generation with services, which it
// reports in a state.
func (h *home) assign(name string, generation uint64, state topics.State, services ...string) {
	h.states[name] = topics.DomainIsOnline
	in := make(map[string]bool)
	s := topics.Domain{Session: "s", Epoch: 7, Generation: generation, Run: h.Run()}
	for _, service := range services {
		in[service] = true
		s.Services = append(s.Services, topics.Instance{Service: service, State: state})
	}
	h.Assigned("id-"+name, 7, generation, in)
	h.Report("id-"+name, s)
}

// beat returns whether a heartbeat of a domain is answered by a lease.
func (h *home) beat(t *testing.T, name string, generation uint64, left time.Duration) bool {
	t.Helper()
	l, ok := h.Answer("id-"+name, name, topics.Heartbeat{
		ID: "id-" + name, Session: "s", Seq: 3, Epoch: 7, Generation: generation, Run: h.Run(), Lease: topics.Seconds(left),
	}, 7, h.now)
	if want := (topics.Lease{Epoch: 7, Session: "s", Seq: 3, Seconds: length.Seconds()}); ok && l != want {
		t.Errorf("the lease is %+v, want %+v", l, want)
	}
	return ok
}

// The validity that has to be on disk is that of the longest lease of this run, whatever is
// configured later.
func TestMaxValidity(t *testing.T) {
	h := newHome(0)
	for _, step := range []struct {
		what  string
		terms Terms
		want  time.Duration
	}{
		{"at the start", terms("lock"), validity},
		{"with a longer one", Terms{Length: time.Minute, StopTimeouts: map[string]time.Duration{"lock": stopTime}}, time.Minute + stopTime + time.Second},
		{"with a shorter one again", terms("lock"), time.Minute + stopTime + time.Second},
		{"without exclusive services", terms(), time.Minute + stopTime + time.Second},
	} {
		h.Configure(step.terms)
		if got := h.MaxValidity(); got != step.want {
			t.Errorf("%s: %v, want %v", step.what, got, step.want)
		}
	}
	idle := New(Home{})
	idle.Begin(terms(), 0, h.now)
	if got := idle.MaxValidity(); got != 0 {
		t.Errorf("without any exclusive service: %v, want 0", got)
	}
}

// Leases of earlier runs are waited for as long as the disk says, and at least as long as
// those of this run.
func TestFormerLeasesExpire(t *testing.T) {
	for _, c := range []struct{ onDisk, want time.Duration }{{0, validity}, {time.Second, validity}, {time.Hour, time.Hour}} {
		h := newHome(c.onDisk)
		begun := h.now
		if e := h.Expire(h.now); e != (Expired{}) || !h.Next().Equal(begun.Add(c.want)) {
			t.Errorf("%v on disk: at the start %+v, next %v, want nothing until %v", c.onDisk, e, h.Next(), c.want)
		}
		held, is := h.Hold("lock", h.now)
		if want := "waits until what an earlier run of the hub allowed is over, at " + clock(begun.Add(c.want)); !is || held.Why != want {
			t.Errorf("%v on disk: held %v, %q, want %q", c.onDisk, is, held.Why, want)
		}
		if h.May("lock", "id-kitchen", h.now) {
			t.Errorf("%v on disk: lock may be assigned at the start", c.onDisk)
		}
		h.now = begun.Add(c.want)
		if e := h.Expire(h.now); e != (Expired{Holds: true, Former: true}) || !h.Next().IsZero() {
			t.Errorf("%v on disk: after %v %+v, next %v", c.onDisk, c.want, e, h.Next())
		}
		if _, is := h.Hold("lock", h.now); is || !h.May("lock", "id-kitchen", h.now) {
			t.Errorf("%v on disk: lock is held after %v", c.onDisk, c.want)
		}
		if e := h.Expire(h.now.Add(time.Second)); e != (Expired{}) {
			t.Errorf("%v on disk: once more: %+v", c.onDisk, e)
		}
	}
}

// A service that a domain may be running is held for that domain, and the explanation
// follows the state of the domain.
func TestHold(t *testing.T) {
	h := newHome(0)
	h.now = h.now.Add(validity)
	h.Expire(h.now)
	h.assign("kitchen", 1, topics.Running, "lock", "web")
	if h.beat(t, "attic", 1, 0) {
		t.Error("a domain without exclusive services gets a lease")
	}
	held, is := h.Hold("lock", h.now)
	if want := "waits until it has stopped on kitchen"; !is || held.Only != "kitchen" || held.Has != "" || held.Why != want {
		t.Errorf("that runs without a lease: held %v, %+v, want %q", is, held, want)
	}
	if !h.beat(t, "kitchen", 1, 0) {
		t.Fatal("a domain that reports its exclusive service gets no lease")
	}
	until := h.now.Add(validity)
	for _, c := range []struct {
		state topics.DomainState
		want  string
	}{
		{topics.DomainIsOnline, "waits until kitchen says that it has stopped there, or its lease is over"},
		{topics.DomainIsOffline, "waits until the lease of kitchen is over: it may run there still"},
		{topics.DomainIsLost, "waits until the lease of kitchen is over, at " + clock(until) + ": it may run there still"},
		{"", "waits until the lease of kitchen is over, at " + clock(until) + ": it may run there still"},
	} {
		h.states["kitchen"] = c.state
		held, is := h.Hold("lock", h.now)
		if !is || held.Only != "kitchen" || held.Has != "kitchen" || held.Why != c.want {
			t.Errorf("in state %q: held %v, %+v, want %q", c.state, is, held, c.want)
		}
	}
	if h.May("lock", "id-attic", h.now) || !h.May("lock", "id-kitchen", h.now) {
		t.Error("the service may be assigned elsewhere, or not to its holder")
	}
	h.Expire(h.now)
	if !h.Next().Equal(until) {
		t.Errorf("the lease expires at %v, want %v", h.Next(), until)
	}
	delete(h.states, "kitchen")
	if held, _ := h.Hold("lock", h.now); held.Only != "" || held.Has != "" {
		t.Errorf("held for a domain that is removed: %+v", held)
	}
}

// What runs on two domains is held for none, until they have stopped it.
func TestHoldForNone(t *testing.T) {
	h := newHome(0)
	h.now = h.now.Add(validity)
	h.Expire(h.now)
	h.assign("kitchen", 1, topics.Running, "lock")
	h.assign("attic", 2, topics.Running, "lock")
	held, is := h.Hold("lock", h.now)
	if want := "waits until it has stopped where it runs"; !is || held.Only != "" || held.Why != want {
		t.Errorf("held %v, %+v, want %q", is, held, want)
	}
	h.Lost("id-attic")
	if held, _ := h.Hold("lock", h.now); held.Only != "kitchen" {
		t.Errorf("after attic is lost: %+v", held)
	}
}

// A domain that ends a service by the next start command frees it at once.
func TestReportFrees(t *testing.T) {
	h := newHome(0)
	h.now = h.now.Add(validity)
	h.Expire(h.now)
	h.assign("kitchen", 1, topics.Running, "lock")
	if !h.beat(t, "kitchen", 1, 0) {
		t.Fatal("no lease")
	}
	h.assign("kitchen", 2, topics.Running)
	if _, is := h.Hold("lock", h.now); is {
		t.Error("held although it was reported gone")
	}
	if h.beat(t, "kitchen", 2, length) {
		t.Error("a lease for nothing")
	}
}

// A status without a session is of a microdomain, or of nobody: it frees nothing.
func TestReportWithoutSession(t *testing.T) {
	h := newHome(0)
	h.now = h.now.Add(validity)
	h.Expire(h.now)
	h.Report("id-kitchen", topics.Domain{Services: []topics.Instance{{Service: "lock", State: topics.Running}}})
	if _, is := h.Hold("lock", h.now); is {
		t.Error("held for a domain without a session")
	}
}

// What was held back is planned again once, a second later, however far the next lease is.
func TestHoldBack(t *testing.T) {
	h := newHome(0)
	h.Expire(h.now)
	h.HoldBack(h.now)
	if want := h.now.Add(time.Second); !h.Next().Equal(want) {
		t.Errorf("next %v, want %v", h.Next(), want)
	}
	if e := h.Expire(h.now); e.Retry {
		t.Error("it is planned again too soon")
	}
	h.now = h.now.Add(time.Second)
	if e := h.Expire(h.now); !e.Retry {
		t.Error("it is not planned again")
	}
	if e := h.Expire(h.now); e.Retry {
		t.Error("it is planned again twice")
	}
}

// A start command of another run is recognised by its epoch: lower ones are of earlier
// runs, whose start commands are replaced anyway.
func TestOtherRun(t *testing.T) {
	h := newHome(0)
	for _, c := range []struct {
		what  string
		epoch uint64
		run   string
		want  bool
	}{
		{"ours", 7, h.Run(), false},
		{"of another run", 7, "other", true},
		{"of an earlier epoch", 6, "other", false},
		{"of an agent that does not say", 7, "", false},
	} {
		if got := h.OtherRun(topics.Heartbeat{Epoch: c.epoch, Run: c.run}, 7); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
	if other := newHome(0); other.Run() == h.Run() {
		t.Error("two runs have the same name")
	}
}

// A heartbeat gets no lease until the status of that run of the agent has come.
func TestAwaitsStatus(t *testing.T) {
	h := newHome(0)
	b := topics.Heartbeat{Session: "s", Epoch: 7, Generation: 1, Run: h.Run()}
	if h.AwaitsStatus("id-kitchen", "kitchen", b) {
		t.Error("a domain without exclusive services awaits a status")
	}
	h.Assigned("id-kitchen", 7, 1, map[string]bool{"lock": true})
	if !h.AwaitsStatus("id-kitchen", "kitchen", b) {
		t.Error("a domain with an exclusive service awaits no status")
	}
	h.assign("kitchen", 1, topics.Starting, "lock")
	if h.AwaitsStatus("id-kitchen", "kitchen", b) {
		t.Error("it awaits the status that has come")
	}
}
