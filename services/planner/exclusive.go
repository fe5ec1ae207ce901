package planner

import (
	"cmp"
	"slices"

	"github.com/jmbarzee/dominion/topics"
)

// Hold is which domain may be assigned an exclusive service now. The zero Hold: any.
type Hold struct {
	// Why is the reason that it must not start elsewhere; "": it may.
	Why string
	// Only is the domain that may be assigned it all the same; "": none.
	Only string
	// Has is the domain whose lease covers it; "": none, or several.
	Has string
}

func (h Hold) lets(domain string) bool { return h.Why == "" || h.Only == domain }

// SetHold sets which domain may be assigned an exclusive service.
func (p *Planner) SetHold(name string, hold Hold) {
	if p.holds[name] == hold {
		return
	}
	if hold == (Hold{}) {
		delete(p.holds, name)
	} else {
		p.holds[name] = hold
	}
	s := p.subject(name)
	s.replan = true
	p.dropUnused(s)
}

// makeExclusive changes a plan for copies to one for a service that must never run
// twice: where others get a replacement before they stop, it stops first, and starts
// elsewhere when no other domain can run it.
func (h *home) makeExclusive(name string, o *Outcome, candidates []candidate) {
	begins, waits := h.holdStarts(name, o, candidates)
	keeps := h.remaining(candidates)
	if has := h.leaseHolder(name, candidates); o.On && has != nil {
		keeps, begins = has, nil
		if has.choice.Action != topics.ActionKeep {
			has.keep(stays(o.Reason, has))
		}
	}
	for i := range candidates {
		s := &candidates[i]
		switch s.choice.Action {
		case topics.ActionStart:
			if begins == nil && s != keeps {
				s.choice = Choice{Domain: s.Name, Reason: "could run it, but never two at once: " + keeps.Name + " has it"}
			}
		case topics.ActionKeep:
			s.endForExclusive(begins, waits, keeps)
		}
	}
}

// holdStarts has the starts wait that the lease of another domain does not allow. It
// returns a copy that begins, and one that waits; nil: there is none.
func (h *home) holdStarts(name string, o *Outcome, candidates []candidate) (begins, waits *candidate) {
	hold := h.holds[name]
	for i := range candidates {
		s := &candidates[i]
		if s.choice.Action != topics.ActionStart {
			continue
		}
		if hold.lets(s.Name) {
			begins = s
			continue
		}
		s.choice = Choice{Domain: s.Name, Action: topics.ActionWait, Reason: hold.Why}
		o.Reason = hold.Why
		waits = s
	}
	return begins, waits
}

// endForExclusive ends a copy that was to be kept, where another one begins, waits or is
// kept in its place. An ordered table: the first row that fits decides.
func (s *candidate) endForExclusive(begins, waits, keeps *candidate) {
	switch {
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

// leaseHolder is the copy whose lease covers the service, if it is one that can stay:
// any other one would have to wait for it.
func (h *home) leaseHolder(name string, candidates []candidate) *candidate {
	has := cmp.Or(h.holds[name].Has, h.holds[name].Only)
	for i := range candidates {
		if s := &candidates[i]; s.Name == has && s.present && !s.Gone && !s.Micro && !s.leaves() && s.instance.State != topics.Failed && s.State != topics.DomainIsLost {
			return s
		}
	}
	return nil
}

// because returns why a copy does not stay where it is.
func because(s *candidate) string {
	if s.Draining {
		return s.Name + " is draining"
	}
	if s.unfit.reason != "" {
		return s.unfit.reason
	}
	return "it failed on " + s.Name
}

// remaining is the copy that stays of those that were to stay: not one on a domain
// that is gone, unless all are, and one that serves if there is one.
func (h *home) remaining(candidates []candidate) *candidate {
	var all []*candidate
	for i := range candidates {
		if s := &candidates[i]; s.choice.Action == topics.ActionKeep {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b *candidate) int {
		return cmp.Or(first(!a.Gone, !b.Gone), first(a.State != topics.DomainIsLost, b.State != topics.DomainIsLost), first(a.usable(), b.usable()), rank(a, b))
	})
	if len(all) == 0 {
		return nil
	}
	return all[0]
}
