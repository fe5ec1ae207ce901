// Package leases decides to which domains exclusive services may be assigned, and which
// heartbeats are answered by a lease. The rules are those of services/lease, on whose
// table of the hub this is built: here is which run of the hub grants, how long its leases
// may be valid at most, when something expires, and how what a service waits for is
// explained to people.
//
// It does no I/O and knows no other part of the hub: heartbeats, reports and start
// commands in, leases and holds out. What has to be on disk before a lease is granted is
// MaxValidity. Package hub alone imports it, and calls it from its loop.
package leases

import (
	"crypto/rand"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/services/lease"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// Terms are what the configuration determines of leases.
type Terms struct {
	// Length is how long a lease is valid.
	Length time.Duration
	// StopTimeouts is how long each exclusive service may take to stop.
	StopTimeouts map[string]time.Duration
}

// Home is what explanations need of the rest of the hub.
type Home struct {
	// NameOf returns the name of the domain with an id; "" where none has it.
	NameOf func(id string) string
	// StateOf returns the state of the domain with a name; "" where there is none.
	StateOf func(name string) topics.DomainState
}

// Leases holds the leases of this run of the hub. Make it with New.
type Leases struct {
	home  Home
	table *lease.Table
	// run distinguishes the start commands of this run of the hub from those of others.
	run string
	// maxValidity is how long a lease of this run may keep a service from others.
	maxValidity time.Duration
	// expires is when the next lease expires, as of the last Expire; zero: none does.
	expires time.Time
	// retry is when to plan again what was held back; zero: nothing was.
	retry time.Time
}

// New returns the leases of a hub that does not run yet. Begin begins the run.
func New(home Home) *Leases {
	return &Leases{home: home, table: lease.NewTable("", time.Time{}, 0)}
}

// Begin begins a run of the hub. former is how long leases of earlier runs may be valid, as
// far as it is on disk. At least as long as those of this run is assumed: the file may be a
// backup.
func (l *Leases) Begin(terms Terms, former time.Duration, now time.Time) {
	l.run = strings.ToLower(rand.Text()[:8]) // short: it travels with each heartbeat
	l.Configure(terms)
	l.table = lease.NewTable(l.run, now, max(former, l.maxValidity))
	l.Configure(terms)
}

// Configure takes over the terms. What MaxValidity returns then has to be on disk before
// the next heartbeat is answered.
func (l *Leases) Configure(terms Terms) {
	l.table.Configure(terms.Length, terms.StopTimeouts)
	l.maxValidity = max(l.maxValidity, l.table.Validity())
}

// MaxValidity returns how long a lease of this run may keep a service from others: what the
// next run of the hub has to wait.
func (l *Leases) MaxValidity() time.Duration { return l.maxValidity }

// Run returns what distinguishes the start commands of this run of the hub.
func (l *Leases) Run() string { return l.run }

// OtherRun reports whether a domain obeys a start command that has the epoch of this run of
// the hub and is of another one: one of the two was restored from a backup.
func (l *Leases) OtherRun(b topics.Heartbeat, epoch uint64) bool {
	return b.Epoch == epoch && b.Run != "" && b.Run != l.run
}

// Report takes the status of the domain with an id. One without a session is of no agent.
func (l *Leases) Report(id string, s topics.Domain) {
	if s.Session == "" {
		return
	}
	states := make(map[string]topics.State, len(s.Services))
	for _, i := range s.Services {
		states[i.Service] = i.State
	}
	l.table.Report(lease.Status{
		Run:      lease.Run{Domain: id, Session: s.Session},
		At:       lease.Position{Epoch: s.Epoch, Generation: s.Generation, Run: s.Run},
		Services: states,
	})
}

// Lost notes that the domain with an id is lost.
func (l *Leases) Lost(id string) { l.table.Lost(id) }

// Assigned notes a start command of this run for the domain with an id, with all services
// in it.
func (l *Leases) Assigned(id string, epoch, generation uint64, services map[string]bool) {
	l.table.Ordered(id, lease.Position{Epoch: epoch, Generation: generation, Run: l.run}, services)
}

// Answer returns the lease that answers a heartbeat of the domain with an id and a name, and
// whether one is granted.
func (l *Leases) Answer(id, name string, b topics.Heartbeat, epoch uint64, now time.Time) (topics.Lease, bool) {
	length, ok := l.table.Answer(beat(id, name, b), now)
	if !ok {
		return topics.Lease{}, false
	}
	return topics.Lease{Epoch: epoch, Session: b.Session, Seq: b.Seq, Seconds: length.Seconds()}, true
}

// AwaitsStatus reports whether a domain gets no lease until it reports what runs on it.
func (l *Leases) AwaitsStatus(id, name string, b topics.Heartbeat) bool {
	return l.table.AwaitsStatus(beat(id, name, b))
}

func beat(id, name string, b topics.Heartbeat) lease.Beat {
	return lease.Beat{
		Run: lease.Run{Domain: id, Session: b.Session}, Name: name,
		At: lease.Position{Epoch: b.Epoch, Generation: b.Generation, Run: b.Run}, Left: b.Lease.Duration(),
	}
}

// May reports whether an exclusive service may be assigned to the domain with an id that
// did not have it before.
func (l *Leases) May(service, id string, now time.Time) bool { return l.table.May(service, id, now) }

// HoldBack notes that a service was held back which the plan assigns: it is planned again a
// second later.
func (l *Leases) HoldBack(now time.Time) { l.retry = now.Add(time.Second) }

// Expired is what became due.
type Expired struct {
	// Holds reports that a service may be assigned that could not be.
	Holds bool
	// Former reports that the leases of earlier runs of the hub have expired now: from here
	// on the next run has to wait for those of this run alone.
	Former bool
	// Retry reports that what was held back is to be planned again.
	Retry bool
}

// Expire removes what has expired.
func (l *Leases) Expire(now time.Time) (e Expired) {
	before := l.table.FormerExpired()
	l.expires, e.Holds = l.table.Expire(now)
	e.Former = !before && l.table.FormerExpired()
	if !l.retry.IsZero() && !now.Before(l.retry) {
		l.retry, e.Retry = time.Time{}, true
	}
	return e
}

// Next returns when Expire has something to do; zero: nothing is scheduled.
func (l *Leases) Next() time.Time {
	if l.expires.IsZero() || !l.retry.IsZero() && l.retry.Before(l.expires) {
		return l.retry
	}
	return l.expires
}

// Hold returns to whom an exclusive service may be assigned now, as the planner takes it;
// false: to any domain.
func (l *Leases) Hold(service string, now time.Time) (planner.Hold, bool) {
	h := l.table.Hold(service, now)
	if h.Free {
		return planner.Hold{}, false
	}
	only := l.home.NameOf(h.Only)
	return planner.Hold{Only: only, Has: l.home.NameOf(h.Has), Why: l.explain(h, only)}, true
}

// explain describes what a service waits for that may be on no other domain than only: by a
// moment where there is one, since the text stays the same while the time passes.
func (l *Leases) explain(hold lease.Hold, only string) string {
	switch {
	case hold.By == "" && !hold.Until.IsZero():
		return "waits until what an earlier run of the hub allowed is over, at " + clock(hold.Until)
	case hold.By == "" && only != "":
		return "waits until it has stopped on " + only
	case hold.By == "":
		return "waits until it has stopped where it runs"
	}
	switch l.home.StateOf(hold.By) {
	case topics.DomainIsOnline:
		return "waits until " + hold.By + " says that it has stopped there, or its lease is over"
	case topics.DomainIsLost, "":
		return "waits until the lease of " + hold.By + " is over, at " + clock(hold.Until) + ": it may run there still"
	default: // its lease may be renewed
		return "waits until the lease of " + hold.By + " is over: it may run there still"
	}
}

// clock writes the first full second that is not before t.
func clock(t time.Time) string {
	return t.Add(time.Second - 1).Truncate(time.Second).Format("15:04:05 MST")
}
