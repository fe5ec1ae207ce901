package supervisor

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Guards starts and finds the guards of exclusive services: the interface between
// decisions and the processes that outlive the agent. A guard is beside each life
// of such a service and ends it when its lease expires, whether an agent runs or
// not.
//
// All its times are since the boot of the machine, by a clock that goes on
// while the machine is suspended.
type Guards interface {
	Now() time.Duration

	// Start starts the guard of a life that is about to begin. lost is called,
	// from another goroutine, when it is there no more, unless it was closed.
	Start(t Term, service, token string, lost func()) (Guard, error)

	// Find finds the guard of a life that another run of the agent began, and
	// until when it lets that live.
	Find(token string, lost func()) (Guard, Term, error)

	// Close lets go of all guards.
	Close()
}

// Term is how long a life may last.
type Term struct {
	// Until is when its lease ends: SIGTERM.
	Until time.Duration
	// Stop is the time after Until: SIGKILL.
	Stop time.Duration
}

// Guard is one of them. It may hang and miss a message: then it ends the life too
// early, and never too late.
type Guard interface {
	Lease(Term)              // it holds until then
	Life(Group)              // it has begun
	Ends(kill time.Duration) // it was sent SIGTERM; SIGKILL is due then
	Void()                   // no life begins
	Close()                  // the guard goes on alone
}

// noGuards are the Guards of a Runner of tests.
type noGuards struct{}

func (noGuards) Now() time.Duration { return time.Duration(time.Now().UnixNano()) }
func (noGuards) Close()             {}
func (noGuards) Start(Term, string, string, func()) (Guard, error) {
	return nil, errors.New("there are no guards here")
}

func (noGuards) Find(string, func()) (Guard, Term, error) {
	return nil, Term{}, errors.New("there are no guards here")
}

// Clock is the time since boot that leases go by.
func (s *Supervisor) Clock() time.Duration { return s.o.Guards.Now() }

// Leased is until when the lease holds that exclusive services run under.
func (s *Supervisor) Leased() time.Duration { return s.lease.until() }

// Lease sets until when exclusive services may run, by Clock.
func (s *Supervisor) Lease(until time.Duration, now time.Time) {
	s.lease.extend(until)
	for _, name := range s.names() {
		v := s.services[name]
		if !v.Spec.Exclusive {
			continue
		}
		if g := v.life.guard; g != nil && (v.State == topics.Starting || v.State == topics.Running) {
			s.lease.add(g, v.stopTimeout())
		}
		s.step(v, leased{s.leaseEnd(now)}, now) // one that waits begins
	}
	s.afterStep(now)
}

// Extend passes a renewed lease to the guards of running services, at once and from
// any goroutine: the loop may be waiting for a disk. Lease follows.
func (s *Supervisor) Extend(until time.Duration) { s.lease.extend(until) }

// leaseTerm is until when exclusive services may run, by Guards.Now, and the
// guards of those that run.
type leaseTerm struct {
	mu  sync.Mutex
	end time.Duration
	// guards are the guards with the stop timeout of each.
	guards map[Guard]time.Duration
}

func (l *leaseTerm) until() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

func (l *leaseTerm) extend(until time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until <= l.end {
		return
	}
	l.end = until
	for g, stop := range l.guards {
		g.Lease(Term{until, stop})
	}
}

// add passes the lease to a guard, now and whenever it is extended.
func (l *leaseTerm) add(g Guard, stop time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was, there := l.guards[g]; there && was == stop {
		return // extend has passed it
	}
	if l.guards == nil {
		l.guards = make(map[Guard]time.Duration)
	}
	l.guards[g] = stop
	g.Lease(Term{l.end, stop})
}

// remove removes a guard whose life is to end: its lease is not extended.
func (l *leaseTerm) remove(g Guard) {
	l.mu.Lock()
	delete(l.guards, g)
	l.mu.Unlock()
}

func (s *Supervisor) term(v *service) Term { return Term{s.lease.until(), v.stopTimeout()} }

// leaseEnd is when the lease ends by the loop's clock, which stands still while
// the machine is suspended: the guard's does not.
func (s *Supervisor) leaseEnd(now time.Time) time.Time { return now.Add(s.lease.until() - s.Clock()) }

// refreshLeaseEnd computes again when the lease of a life ends by the loop's clock:
// that stood still while the machine was suspended.
func (s *Supervisor) refreshLeaseEnd(v *service, now time.Time) {
	if !v.Run.LeaseEnd.IsZero() && (v.State == topics.Starting || v.State == topics.Running) {
		s.step(v, leased{s.leaseEnd(now)}, now)
	}
}

// StopExclusive stops the exclusive services, for good as far as this run of
// the agent goes. It reports whether there is anything to wait for.
func (s *Supervisor) StopExclusive(now time.Time) bool {
	for _, name := range s.names() {
		if v := s.services[name]; v.Spec.Exclusive {
			s.step(v, unwanted{}, now)
		}
	}
	s.afterStep(now)
	return !s.IdleExclusive()
}

// IdleExclusive reports whether no process of an exclusive service is left.
func (s *Supervisor) IdleExclusive() bool {
	for _, v := range s.services {
		if v.Spec.Exclusive && v.State.Alive() {
			return false
		}
	}
	return true
}

// guard starts the guard of a life that is about to begin.
func (s *Supervisor) guard(v *service, token string) (Guard, error) {
	post := s.poster(v.Service, token)
	g, err := s.o.Guards.Start(s.term(v), v.Service, token, func() { post(guardLost{}) })
	if err != nil {
		return nil, fmt.Errorf("cannot start its guard: %w", err)
	}
	return g, nil
}

// maxGuards is how many guards a life may lose.
const maxGuards = 5

// replaceGuard replaces a guard that was ended. The new one has the same term: the
// life does not get more time by it.
func (s *Supervisor) replaceGuard(v *service, now time.Time) {
	s.lease.remove(v.life.guard)
	v.life.guard.Close()
	v.life.guard = nil
	if !v.State.Alive() {
		return
	}
	s.o.Log.Warn("the guard of an exclusive service is gone, another one is started", "service", v.Service)
	v.life.guardsLost++
	err := errors.New("it was ended again and again")
	var g Guard
	if v.life.guardsLost <= maxGuards {
		g, err = s.guard(v, v.Run.Token)
	}
	if err != nil {
		s.step(v, unguarded{fmt.Sprintf("there is no guard beside it: %v", err)}, now)
		return
	}
	v.life.guard = g
	g.Life(v.life.group)
	if v.State == topics.Stopping {
		g.Ends(s.Clock() + max(v.Kill.Sub(now), 0))
		return
	}
	s.lease.add(g, v.stopTimeout())
}

// findGuard finds the guard of a life that was adopted. Without one the end of its
// lease is unknown: it is stopped.
func (s *Supervisor) findGuard(v *service, now time.Time) {
	post := s.poster(v.Service, v.Run.Token)
	g, term, err := s.o.Guards.Find(v.Run.Token, func() { post(guardLost{}) })
	if err != nil {
		s.step(v, unguarded{"its guard is gone, and with it its lease"}, now)
		return
	}
	v.life.guard = g
	g.Life(v.life.group) // the previous agent may have been killed before it sent this
	if v.State == topics.Stopping {
		g.Ends(s.Clock() + max(v.Kill.Sub(now), 0))
		return
	}
	s.lease.extend(term.Until)
	s.lease.add(g, v.stopTimeout())
	s.step(v, leased{now.Add(term.Until - s.Clock())}, now)
}
