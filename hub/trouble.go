package hub

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// pendingProblem is how long a service may be pending before that is a problem:
// at each switching on it is for a moment.
const pendingProblem = 5 * time.Second

// trouble is what a verdict on a service needs besides its present state: one
// that crashes once a minute runs most of the time and is not well. It is not
// kept over a restart of the hub.
type trouble struct {
	pending time.Time         // since when it is; zero: it is not
	crashes map[string]*crash // by domain
	due     time.Time         // when the verdict may be another one; zero: not by itself
}

// crash is the last crash of an instance. It counts until the instance has been
// well for as long as its agent takes to forgive its crashes.
type crash struct {
	message string
	well    time.Time // since when it runs and is not unhealthy; zero: it is not well
}

// noteCrash notes that an instance ended by itself or did not start; again: it may
// be once more with the same message.
func (h *Hub) noteCrash(service, domain, message string, again bool, now time.Time) {
	t := h.troubles[service]
	if t == nil {
		t = &trouble{crashes: make(map[string]*crash)}
		h.troubles[service] = t
	}
	message, _, _ = strings.Cut(message, "\n")
	message = withoutSpan(message)
	if was := t.crashes[domain]; again || was == nil || was.message != message {
		h.noteError(service, domain, message, again, now)
	}
	t.crashes[domain] = &crash{message: message}
}

// withoutSpan cuts the time until the next try out of what an agent says of an
// instance: it does not count down where it is retained. Events hold it, and the
// messages of agents before NextTry.
func withoutSpan(message string) string {
	head, lines, more := strings.Cut(message, "\n")
	for _, before := range []string{"; next try in ", ", next try in "} {
		head, _, _ = strings.Cut(head, before)
	}
	if more {
		head += "\n" + lines
	}
	return head
}

// passedCrash takes an event of a domain: an instance that is started again at
// once may never be reported in backoff.
func (h *Hub) passedCrash(e topics.Event, now time.Time) {
	if (e.Type == topics.ServiceCrashed || e.Type == topics.ServiceFailed) && h.defined(e.Service) {
		h.noteCrash(e.Service, e.Domain, e.Message, true, now)
		h.touchService(e.Service)
	}
}

// inCrashLoop reports whether an event says no more than that an instance that
// crashes again and again was started again.
func (h *Hub) inCrashLoop(e topics.Event) bool {
	t := h.troubles[e.Service]
	return e.Type == topics.ServiceReady && t != nil && t.crashes[e.Domain] != nil
}

// judgeService returns what is wrong with a service that somebody wants, "" where it is
// well.
func (h *Hub) judgeService(name string, v topics.Service, o *planner.Outcome, now time.Time) string {
	if !o.On {
		delete(h.troubles, name)
		return v.Update.Problem
	}
	h.noteRows(name, now)
	pending := h.notePending(name, v, now)
	unhealthy := 0
	for _, i := range v.Instances {
		if i.Health == topics.Unhealthy {
			unhealthy++
		}
	}
	t := h.troubles[name]
	switch {
	case v.State == topics.Failed, v.State == topics.Backoff, pending:
		return v.Reason
	case t != nil && len(t.crashes) > 0:
		domain := slices.Min(slices.Collect(maps.Keys(t.crashes)))
		return fmt.Sprintf("crashed on %s: %s", domain, t.crashes[domain].message)
	case unhealthy > 0:
		return fmt.Sprintf("is unhealthy on %d of %d", unhealthy, len(v.Instances))
	}
	return v.Update.Problem
}

// noteRows brings the crashes of a service up to date with what its domains
// report.
func (h *Hub) noteRows(name string, now time.Time) {
	there := make(map[string]bool)
	for _, r := range h.directory.Rows(name) {
		there[r.Domain] = r.State.Listed()
		if r.State == topics.Failed || r.State == topics.Backoff {
			h.noteCrash(name, r.Domain, r.Message, false, now)
		}
		t := h.troubles[name]
		if t == nil || t.crashes[r.Domain] == nil {
			continue
		}
		switch c := t.crashes[r.Domain]; {
		case r.State != topics.Running || r.Health == topics.Unhealthy:
			c.well = time.Time{}
		case c.well.IsZero():
			c.well = now
		}
	}
	t := h.troubles[name]
	if t == nil {
		return
	}
	t.due = time.Time{}
	for domain, c := range t.crashes {
		over := c.well.Add(topics.RestartReset)
		switch {
		case !there[domain], !c.well.IsZero() && !now.Before(over):
			delete(t.crashes, domain)
		case !c.well.IsZero():
			h.judgeAt(t, over)
		}
	}
}

// notePending reports whether a service has been pending for too long.
func (h *Hub) notePending(name string, v topics.Service, now time.Time) bool {
	t := h.troubles[name]
	if v.State != topics.Pending || !h.ready {
		if t != nil {
			t.pending = time.Time{}
			if len(t.crashes) == 0 {
				delete(h.troubles, name)
			}
		}
		return false
	}
	if t == nil {
		t = &trouble{crashes: make(map[string]*crash)}
		h.troubles[name] = t
	}
	if t.pending.IsZero() {
		t.pending = now
	}
	over := t.pending.Add(pendingProblem)
	if now.Before(over) {
		h.judgeAt(t, over)
		return false
	}
	return true
}

func (h *Hub) judgeAt(t *trouble, at time.Time) {
	if t.due.IsZero() || at.Before(t.due) {
		t.due = at
	}
	h.due(at)
}

// expireTroubles judges anew where the time alone changes the verdict.
func (h *Hub) expireTroubles(now time.Time) {
	for name, t := range h.troubles {
		switch {
		case t.due.IsZero():
		case now.Before(t.due):
			h.due(t.due)
		default:
			t.due = time.Time{}
			h.touchService(name)
		}
	}
}
