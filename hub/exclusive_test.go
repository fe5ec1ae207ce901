package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const exclusiveTOML = `
[timing]
isolation = "6s"
settle = "2s"
[services.lock]
priority = "required"
exclusive = true
stop_timeout = "3s"
`

// over is how long a lease of exclusiveTOML may matter: with the time to stop,
// and a second for clocks and schedulers.
const over = 10 * time.Second

// tenant is a domain that speaks of leases, by hand.
type tenant struct {
	*home
	name, session string
	at            topics.StartCommand // as obeyed
	lease         time.Duration       // that it says it has left
	seq           uint64
	draining      bool
	states        map[string]topics.State
}

// tenants are domains that have joined, sent heartbeats and reported that nothing runs.
func (h *home) tenants(names ...string) []*tenant {
	h.Helper()
	var all []*tenant
	for _, name := range names {
		t := &tenant{home: h, name: name, session: "first", states: map[string]topics.State{}}
		t.arrive()
		all = append(all, t)
	}
	return all
}

func (t *tenant) arrive() {
	t.Helper()
	if r := t.ask(topics.VerbJoin, fmt.Sprintf(`{"transaction":"t","id":"id-%s","name":%q,"session":%q}`, t.name, t.name, t.session)); r.Status != topics.StatusOK {
		t.Fatal(r.Error)
	}
	t.publish(t.tree.Domain(topics.DomainAvailability, t.name), topics.Online, true)
	t.report()
	t.beat()
}

func (t *tenant) report() {
	s := topics.Domain{
		ID: "id-" + t.name, Name: t.name, Protocol: topics.Protocol, Session: t.session,
		Epoch: t.at.Epoch, Generation: t.at.Generation, Run: t.at.Run, Draining: t.draining,
		Catalog: []topics.CatalogRow{{Service: "lock", Version: "1.0.0"}},
	}
	for service, state := range t.states {
		s.Services = append(s.Services, topics.Instance{Service: service, State: state, Health: map[bool]topics.Health{true: topics.Healthy, false: topics.UnknownHealth}[state == topics.Running]})
	}
	t.publish(t.tree.Domain(topics.DomainStatus, t.name), string(topics.Encode(s)), true)
}

// beat sends a heartbeat and reports whether a lease answers it.
func (t *tenant) beat() bool {
	t.seq++
	t.publish(t.tree.Domain(topics.DomainHeartbeat, t.name), string(topics.Encode(topics.Heartbeat{
		ID: "id-" + t.name, Session: t.session, Seq: t.seq, Epoch: t.at.Epoch, Generation: t.at.Generation, Run: t.at.Run, Lease: topics.Seconds(t.lease),
	})), true)
	answer := t.last(t.tree.Domain(topics.DomainLease, t.name))
	if answer == "" {
		return false
	}
	l := get[topics.Lease](t.home, t.tree.Domain(topics.DomainLease, t.name))
	return l.Session == t.session && l.Seq == t.seq && l.Seconds == 6 && l.Epoch == t.status().Epoch
}

// obey takes the last start command, and says so.
func (t *tenant) obey() {
	t.at = t.command()
	for service := range t.states {
		if _, stays := t.at.Services[service]; !stays {
			delete(t.states, service)
		}
	}
	for service := range t.at.Services {
		if _, there := t.states[service]; !there {
			t.states[service] = topics.Pending
		}
	}
	t.report()
}

func (t *tenant) command() topics.StartCommand {
	return get[topics.StartCommand](t.home, t.tree.Domain(topics.DomainServicesSet, t.name))
}

func (t *tenant) has() bool {
	return strings.Contains(t.last(t.tree.Domain(topics.DomainServicesSet, t.name)), `"lock":`)
}

func (t *tenant) runs(state topics.State) {
	t.states["lock"] = state
	t.report()
}

// live lets the domains beat for a while.
func live(d time.Duration, all ...*tenant) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(time.Second)
		synctest.Wait()
		for _, t := range all {
			t.beat()
		}
	}
}

// awaitHolder waits until the service is ordered to one of the tenants, and returns
// that one, which runs it, and the others.
func awaitHolder(h *home, within time.Duration, all ...*tenant) (holder *tenant, others []*tenant) {
	h.Helper()
	for end := time.Now().Add(within); holder == nil && time.Now().Before(end); {
		live(time.Second, all...)
		for _, t := range all {
			if t.has() {
				holder = t
			}
		}
	}
	if holder == nil {
		h.Fatalf("it is ordered nowhere: %s%s", h.service("lock").Reason, h.story())
	}
	for _, t := range all {
		if t != holder {
			others = append(others, t)
		}
	}
	holder.obey()
	if !holder.beat() {
		h.Fatal("a domain that obeys gets no lease")
	}
	holder.lease = 6 * time.Second
	holder.runs(topics.Running)
	return holder, others
}

func TestExclusiveBeginsWhenAnEarlierHubsLeasesAreOver(t *testing.T) {
	inHome(t, exclusiveTOML, func(h *home) {
		began := time.Now()
		all := h.tenants("attic", "kitchen")
		live(7*time.Second, all...)
		if all[0].has() || all[1].has() {
			t.Fatal("ordered although an earlier hub may have given it to somebody else")
		}
		if why, want := h.service("lock").Reason, "waits until what an earlier run of the hub allowed is over, at "+began.Add(over).Format("15:04:05 MST"); why != want {
			t.Errorf("%q, want %q", why, want)
		}
		awaitHolder(h, 10*time.Second, all...)
		if took := time.Since(began); took < over || took > over+2*time.Second {
			t.Errorf("it began after %v", took)
		}
	})
}

func TestExclusiveMovesAfterTheLongestLease(t *testing.T) {
	inHome(t, exclusiveTOML, func(h *home) {
		all := h.tenants("attic", "kitchen")
		holder, others := awaitHolder(h, 20*time.Second, all...)
		live(5*time.Second, all...)
		lost, why := time.Now(), ""
		for !others[0].has() {
			if time.Since(lost) > 30*time.Second {
				t.Fatal("it never moves")
			}
			if time.Since(lost) == 6*time.Second {
				why = h.service("lock").Reason
			}
			live(time.Second, others...)
		}
		if took := time.Since(lost); took < over || took > over+2*time.Second {
			t.Errorf("it moved after %v", took)
		}
		// It was announced for the moment at which it moved, to a second.
		announced := false
		for _, at := range []time.Time{time.Now().Add(-time.Second), time.Now()} {
			announced = announced || why == "waits until the lease of "+holder.name+" is over, at "+at.Format("15:04:05 MST")+": it may run there still"
		}
		if !announced {
			t.Errorf("it moved at %v: %q", time.Now(), why)
		}
		// The one that lost it comes back and has not received that.
		holder.lease = 0
		holder.runs(topics.Pending)
		if holder.beat() {
			t.Error("a lease for who has not heard that it was taken away")
		}
		others[0].obey()
		if !others[0].beat() {
			t.Error("no lease for the one that has it now")
		}
	})
}

// An agent that was suspended beats, when it goes on, before it has looked at its
// processes: its last status still has the service that its guard has ended. That
// takes nothing from the domain that has the lease, whatever it does with it.
func TestExclusiveStaysWithTheLeaseWhenASuspendedAgentReturns(t *testing.T) {
	for _, state := range []topics.State{topics.Pending, topics.Starting, topics.Running, topics.Backoff} {
		t.Run(string(state), func(t *testing.T) {
			inHome(t, exclusiveTOML, func(h *home) {
				holder, others := awaitHolder(h, 20*time.Second, h.tenants("attic", "kitchen")...)
				next := others[0]
				for !next.has() {
					live(time.Second, next)
				}
				next.obey()
				if !next.beat() {
					t.Fatal("no lease for the one that has it now")
				}
				next.lease = 6 * time.Second
				next.runs(state)
				before := next.command()
				holder.lease = 0
				holder.publish(h.tree.Domain(topics.DomainAvailability, holder.name), topics.Online, true)
				for range 3 {
					if holder.beat() {
						t.Error("a lease for who has not heard that it was taken away")
					}
					if !next.beat() {
						t.Error("no lease for the one that has it")
					}
				}
				if now := next.command(); !next.has() || now.Generation != before.Generation {
					t.Errorf("it was taken from the domain that has the lease: generation %d, then %d%s", before.Generation, now.Generation, h.story())
				}
				if holder.has() {
					t.Error("it was given to a second domain")
				}
				delete(holder.states, "lock")
				holder.obey()
				live(5*time.Second, holder, next)
				if !next.has() || holder.has() {
					t.Error("it moved")
				}
			})
		})
	}
}

// One that returns before its lease is over goes on.
func TestExclusiveStaysWithWhoReturns(t *testing.T) {
	inHome(t, exclusiveTOML, func(h *home) {
		holder, others := awaitHolder(h, 20*time.Second, h.tenants("attic", "kitchen")...)
		live(8*time.Second, others...)
		if !holder.beat() {
			t.Fatal("no lease for who returns in time")
		}
		live(15*time.Second, holder, others[0])
		if others[0].has() || !holder.has() {
			t.Error("it moved")
		}
	})
}

// The agent's word that it stopped is enough, if it has received that it may not.
func TestExclusiveMovesByTheAgentsWord(t *testing.T) {
	inHome(t, exclusiveTOML, func(h *home) {
		holder, others := awaitHolder(h, 20*time.Second, h.tenants("attic", "kitchen")...)
		holder.draining = true
		holder.report()
		live(2*time.Second, holder, others[0])
		if holder.has() || others[0].has() {
			t.Fatalf("it must stop first: %v %v", holder.has(), others[0].has())
		}
		if holder.beat() {
			t.Error("a lease before it has heard that it was taken away")
		}
		holder.at = holder.command()
		holder.runs(topics.Stopping)
		live(2*time.Second, holder, others[0])
		if others[0].has() {
			t.Fatal("it is still stopping")
		}
		holder.runs(topics.Stopped)
		if !others[0].has() {
			t.Error("it stopped, and nobody is given it")
		}
		if before, after := holder.at.Generation, others[0].command().Generation; after <= before {
			t.Errorf("generation %d follows %d: a fence that goes down", after, before)
		}
	})
}

// An agent that ends says that it is stopped; then nobody has to wait for its lease.
func TestExclusiveMovesAfterAGoodbye(t *testing.T) {
	inHome(t, exclusiveTOML, func(h *home) {
		holder, others := awaitHolder(h, 20*time.Second, h.tenants("attic", "kitchen")...)
		holder.runs(topics.Stopped)
		h.publish(h.tree.Domain(topics.DomainAvailability, holder.name), topics.Offline, true)
		live(5*time.Second, others...)
		if !others[0].has() {
			t.Error("5 s after a goodbye nobody is given it: " + h.service("lock").Reason)
		}
	})
}

// A restart of the hub takes it from nobody, and gives it to nobody else.
func TestExclusiveOverARestartOfTheHub(t *testing.T) {
	inHome(t, exclusiveTOML, func(h *home) {
		holder, others := awaitHolder(h, 20*time.Second, h.tenants("attic", "kitchen")...)
		h.stop()
		time.Sleep(time.Second)
		h.start()
		holder.lease = 4 * time.Second
		for _, t := range []*tenant{holder, others[0]} {
			t.arrive()
		}
		if !holder.beat() {
			t.Fatal("no lease for who has one")
		}
		live(20*time.Second, holder, others[0])
		if !holder.has() || others[0].has() {
			t.Fatalf("holder %v, other %v", holder.has(), others[0].has())
		}
		holder.obey()
		if !holder.beat() {
			t.Error("no lease")
		}
	})
}

// A lease that ended while the hub was away is not given again before all that
// the earlier run gave is over: the hub may be a backup that knows nothing.
func TestExclusiveOverALongAbsenceOfTheHub(t *testing.T) {
	inHome(t, exclusiveTOML, func(h *home) {
		holder, others := awaitHolder(h, 20*time.Second, h.tenants("attic", "kitchen")...)
		h.stop()
		time.Sleep(time.Minute)
		h.start()
		began := time.Now()
		holder.lease = 0
		holder.states["lock"] = topics.Pending
		holder.arrive()
		others[0].arrive()
		for i := 0; ; i++ {
			live(time.Second, holder, others[0])
			if holder.has() && holder.at.Epoch != holder.command().Epoch {
				holder.obey()
			}
			if holder.beat() {
				break
			}
			if i > 30 {
				t.Fatal("never a lease")
			}
		}
		if took := time.Since(began); took < over || took > over+2*time.Second {
			t.Errorf("the first lease after %v", took)
		}
	})
}

func TestExclusiveIsNotScaled(t *testing.T) {
	inHome(t, exclusiveTOML, func(h *home) {
		if r := h.ask(topics.VerbScale, `{"transaction":"t","service":"lock","replicas":2}`); r.Status == topics.StatusOK || !strings.Contains(r.Error, "exclusive") {
			t.Errorf("%+v", r)
		}
	})
}
