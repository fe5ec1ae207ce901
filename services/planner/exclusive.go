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
	Has  string // the domain whose lease covers it; "": none, or several
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
	keeps := h.keeper(spots)
	if has := h.holder(name, spots); o.On && has != nil {
		keeps, begins = has, nil
		if has.choice.Action != topics.ActionKeep {
			has.keep(stays(o.Reason, has))
		}
	}
	for i := range spots {
		s := &spots[i]
		switch {
		case begins == nil && s != keeps && s.choice.Action == topics.ActionStart:
			s.choice = Choice{Domain: s.Name, Reason: "could run it, but never two at once: " + keeps.Name + " has it"}
		case s.choice.Action != topics.ActionKeep:
		case begins != nil:
			s.stop("never two at once: " + begins.Name + " gets it")
		case waits != nil && !s.Gone && (s.leaves() || s.instance.State == topics.Failed):
			s.stop(because(s) + "; it stops here before it begins on " + waits.Name)
		case waits != nil && s.Gone && s == keeps:
			s.keep(s.Name + " is lost; it may run there until its lease is over")
		case keeps != nil && s != keeps:
			s.stop("never two at once: " + keeps.Name + " keeps it")
		}
	}
}

// holder is the copy that may be running it now, if it is one that can stay:
// whatever speaks for another one, that would have to wait for it.
func (h *home) holder(name string, spots []spot) *spot {
	has := cmp.Or(h.held[name].Has, h.held[name].Only)
	for i := range spots {
		if s := &spots[i]; s.Name == has && s.holds && !s.Gone && !s.Micro && !s.leaves() && s.instance.State != topics.Failed && s.State != topics.DomainIsLost {
			return s
		}
	}
	return nil
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
