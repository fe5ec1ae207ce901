package supervisor

import (
	"errors"
	"fmt"
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
