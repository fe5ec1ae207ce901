package planner

import (
	"cmp"
	"slices"

	"github.com/jmbarzee/dominion/topics"
)

// Held says who may be given an exclusive service now. The zero Held: anybody.
type Held struct {
	Why  string // it must not begin elsewhere, in words
	Only string // the domain that may be given it all the same; "": none
}

func (h Held) lets(domain string) bool { return h.Why == "" || h.Only == domain }

// SetHeld takes who may be given an exclusive service.
func (p *Planner) SetHeld(name string, held Held) {
	if p.held[name] == held {
		return
	}
	if held == (Held{}) {
		delete(p.held, name)
	} else {
		p.held[name] = held
	}
	s := p.subject(name)
	s.replan = true
	p.drop(s)
}

// alone makes of a plan for copies one for a service that must never run
// twice: where others get a replacement before they stop, it stops first, and
// begins elsewhere when nobody else can have it.
func (h *home) alone(name string, o *Outcome, spots []spot) {
	held := h.held[name]
	var begins, waits *spot
	for i := range spots {
		s := &spots[i]
		if s.choice.Action == topics.ActionStart && !held.lets(s.Name) {
			s.choice = Choice{Domain: s.Name, Action: topics.ActionWait, Reason: held.Why}
			o.Reason = held.Why
			waits = s
		}
		if s.choice.Action == topics.ActionStart {
			begins = s
		}
	}
	stays := h.keeper(spots)
	for i := range spots {
		s := &spots[i]
		switch {
		case s.choice.Action != topics.ActionKeep:
		case begins != nil:
			s.stop("never two at once: " + begins.Name + " gets it")
		case waits != nil && !s.Gone && (s.leaves() || s.instance.State == topics.Failed):
			s.stop(because(s) + "; it stops here before it begins on " + waits.Name)
		case waits != nil && s.Gone && s == stays:
			s.keep(s.Name + " is lost; it may run there until its lease is over")
		case stays != nil && s != stays:
			s.stop("never two at once: " + stays.Name + " keeps it")
		}
	}
}

// because says why a copy does not stay where it is.
func because(s *spot) string {
	switch {
	case s.Draining:
		return s.Name + " is draining"
	case s.unfit.reason != "":
		return s.unfit.reason
	}
	return "it failed on " + s.Name
}

// keeper is the copy that stays of those that were to stay: not one on a domain
// that is gone, unless all are, and one that serves if there is one.
func (h *home) keeper(spots []spot) *spot {
	var all []*spot
	for i := range spots {
		if s := &spots[i]; s.choice.Action == topics.ActionKeep {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b *spot) int {
		return cmp.Or(first(!a.Gone, !b.Gone), first(a.State != topics.DomainIsLost, b.State != topics.DomainIsLost), first(a.usable(), b.usable()), rank(a, b))
	})
	if len(all) == 0 {
		return nil
	}
	return all[0]
}
