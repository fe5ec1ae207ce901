package supervisor

import (
	"sync"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

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
