package servicestatus

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// pendingProblem is how long a service may be pending before that is a problem: at each
// switching on it is for a moment.
const pendingProblem = 5 * time.Second

// trouble is what a problem of a service follows from besides its present state: one that
// crashes once a minute runs most of the time and is not well.
type trouble struct {
	// pending is since when the service is pending; zero: it is not.
	pending time.Time
	// crashes are the last ones of its instances, by domain.
	crashes map[string]*crash
	// due is when the problem may be another one without a change; zero: never.
	due time.Time
}

// crash is the last crash of an instance. It counts until the instance has been well for as
// long as its agent takes to forgive its crashes.
type crash struct {
	message string
	// listed reports that its domain has the instance still, in whatever state.
	listed bool
	// well is since when the instance runs and is not unhealthy; zero: it does not.
	well time.Time
}

// trouble returns the trouble of a service, which may be changed.
func (s *Statuses) trouble(name string) *trouble {
	t := s.troubled[name]
	if t == nil {
		t = &trouble{crashes: make(map[string]*crash)}
		s.troubled[name] = t
	}
	return t
}

func (t *trouble) dueAt(at time.Time) {
	if t.due.IsZero() || at.Before(t.due) {
		t.due = at
	}
}

// Crashed notes that an instance ended by itself or did not start, as an event reports:
// instances that are started again at once may never be reported in backoff.
func (s *Statuses) Crashed(name, domain, message string, now time.Time) {
	s.crashed(name, domain, message, true, now)
}

// crashed notes the crash of an instance; again: it may be one more with the same message.
func (s *Statuses) crashed(name, domain, message string, again bool, now time.Time) {
	t := s.trouble(name)
	message, _, _ = strings.Cut(message, "\n")
	message = topics.CutNextTry(message)
	if was := t.crashes[domain]; again || was == nil || was.message != message {
		s.setError(name, domain, message, again, now)
	}
	t.crashes[domain] = &crash{message: message}
}

// HasCrashed reports whether a crash of the instance on a domain counts still.
func (s *Statuses) HasCrashed(name, domain string) bool {
	t := s.troubled[name]
	return t != nil && t.crashes[domain] != nil
}

// Instance is what a domain reports of an instance.
type Instance struct {
	Domain  string
	State   topics.State
	Health  topics.Health
	Message string
}

// Observed is what a problem follows from.
type Observed struct {
	// Status is the status of the service without its problem.
	Status topics.Service
	// On reports that somebody wants the service.
	On bool
	// Ready reports that the hub assigns services: before that pending is no problem.
	Ready bool
	// Instances are those that domains report, in any state.
	Instances iter.Seq[Instance]
}

// Problem returns what is wrong with a service; "": nothing is.
func (s *Statuses) Problem(o Observed, now time.Time) string {
	v, name := o.Status, o.Status.Service
	if !o.On {
		delete(s.troubled, name)
		return v.Update.Problem
	}
	s.updateCrashes(name, o.Instances, now)
	pending := s.pendingTooLong(name, o, now)
	if v.State == topics.Failed || v.State == topics.Backoff || pending {
		return v.Reason
	}
	if t := s.troubled[name]; t != nil && len(t.crashes) > 0 {
		domain := slices.Min(slices.Collect(maps.Keys(t.crashes)))
		return fmt.Sprintf("crashed on %s: %s", domain, t.crashes[domain].message)
	}
	unhealthy := 0
	for _, i := range v.Instances {
		if i.Health == topics.Unhealthy {
			unhealthy++
		}
	}
	if unhealthy > 0 {
		return fmt.Sprintf("is unhealthy on %d of %d", unhealthy, len(v.Instances))
	}
	return v.Update.Problem
}

// updateCrashes takes over what domains report: new crashes, instances that are well, and
// those that are well for long enough or gone.
func (s *Statuses) updateCrashes(name string, instances iter.Seq[Instance], now time.Time) {
	if t := s.troubled[name]; t != nil {
		for _, c := range t.crashes {
			c.listed = false
		}
	}
	for i := range instances {
		if i.State == topics.Failed || i.State == topics.Backoff {
			s.crashed(name, i.Domain, i.Message, false, now)
		}
		if !s.HasCrashed(name, i.Domain) {
			continue
		}
		c := s.troubled[name].crashes[i.Domain]
		c.listed = i.State.Listed()
		if i.State != topics.Running || i.Health == topics.Unhealthy {
			c.well = time.Time{}
		} else if c.well.IsZero() {
			c.well = now
		}
	}
	t := s.troubled[name]
	if t == nil {
		return
	}
	t.due = time.Time{}
	for domain, c := range t.crashes {
		forgiven := c.well.Add(topics.RestartReset)
		if !c.listed || !c.well.IsZero() && !now.Before(forgiven) {
			delete(t.crashes, domain)
		} else if !c.well.IsZero() {
			t.dueAt(forgiven)
		}
	}
}

// pendingTooLong reports whether a service is pending and that is a problem. A service that
// is not pending and whose crashes do not count any more has no trouble.
func (s *Statuses) pendingTooLong(name string, o Observed, now time.Time) bool {
	if o.Status.State != topics.Pending || !o.Ready {
		if t := s.troubled[name]; t != nil {
			t.pending = time.Time{}
			if len(t.crashes) == 0 {
				delete(s.troubled, name)
			}
		}
		return false
	}
	t := s.trouble(name)
	if t.pending.IsZero() {
		t.pending = now
	}
	if tooLong := t.pending.Add(pendingProblem); now.Before(tooLong) {
		t.dueAt(tooLong)
		return false
	}
	return true
}

// Expire returns the services whose problem may be another one by the time alone.
func (s *Statuses) Expire(now time.Time) (changed []string) {
	for name, t := range s.troubled {
		if !t.due.IsZero() && !now.Before(t.due) {
			t.due = time.Time{}
			changed = append(changed, name)
		}
	}
	return changed
}

// Next returns when Expire has something to return; zero: never.
func (s *Statuses) Next() (next time.Time) {
	for _, t := range s.troubled {
		if !t.due.IsZero() && (next.IsZero() || t.due.Before(next)) {
			next = t.due
		}
	}
	return next
}
