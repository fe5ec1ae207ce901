package planner

import (
	"fmt"
	"maps"
	"slices"

	"github.com/jmbarzee/dominion/topics"
)

// Rebalance returns which copies would be better elsewhere, were they placed
// now: by service, the domains that they are to leave. What it returns belongs
// into Domain.Moving. A copy moves only where it runs well now, another domain
// could take it, and the first criterion of placement in which the two differ,
// the name left out, is for that domain. What runs on every domain and what is
// exclusive stays. ok is false where stop reported true before the end.
func Rebalance(in Input, stop func() bool) (moving map[string][]string, ok bool) {
	p := newPlanner(in, stop)
	p.Plan()
	moving = make(map[string][]string)
	for _, s := range p.order {
		if p.stopped() {
			return nil, false
		}
		if !p.movable(s) {
			continue
		}
		for _, from := range slices.Clone(s.cells) {
			if to, _ := p.betterThan(s, from); to != nil {
				moving[s.name] = append(moving[s.name], from.site.Name)
				p.moveCopy(s.name, from.site.Domain, to.site.Domain)
			}
		}
	}
	return moving, !p.stopped()
}

// Better describes the domain that a copy of a service would be assigned to, were it
// placed now, and why; "" where that is the one on which it runs.
func (p *Planner) Better(service, domain string) string {
	s := p.subjects[service]
	if s == nil || s.index < 0 || !p.movable(s) {
		return ""
	}
	at, there := s.at(domain)
	if !there {
		return ""
	}
	_, why := p.betterThan(s, s.cells[at])
	return why
}

// movable reports whether a rebalance moves copies of a service.
func (p *Planner) movable(s *subject) bool {
	def := p.defs[s.name]
	_, all := p.target(s.name)
	return !all && p.on[s.name] && !p.retired[s.name] && !def.Exclusive && !def.Oneshot
}

// betterThan returns the best domain for a copy that runs well where it is, and in
// what it is better; nil where that is the one on which it is.
func (p *Planner) betterThan(s *subject, from *cell) (*cell, string) {
	d := &from.site.Domain
	if d.Micro || d.Gone || unavailable(d) != "" || !from.ordered || !from.instance.usable() || p.unfitAt(from).reason != "" {
		return nil, ""
	}
	p.placing = s
	defer func() { p.placing = nil }()
	at := func(c *cell) score { return p.score(s.name, &candidate{Domain: &c.site.Domain, cell: c}) }
	best := at(from)
	needs := p.defs[s.name].Needs
	best.subtract(needs)
	own, is := from, best
	to := own
	for _, c := range s.cells {
		if c == own || c.ordered || c.runs() || unavailable(&c.site.Domain) != "" || p.unfitAt(c).reason != "" {
			continue
		}
		one := at(c)
		if n, why := compareScores(&one, &best); n < 0 && (why != byName || to != own) {
			best, to = one, c
		}
	}
	if to == own {
		return nil, ""
	}
	return to, p.because(s.name, &best, &is, false)
}

// moveCopy sets that a copy has moved.
func (p *Planner) moveCopy(service string, from, to Domain) {
	from.Ordered, from.Observed = maps.Clone(from.Ordered), maps.Clone(from.Observed)
	to.Ordered, to.Observed = maps.Clone(to.Ordered), maps.Clone(to.Observed)
	delete(from.Ordered, service)
	delete(from.Observed, service)
	if to.Ordered == nil {
		to.Ordered = make(map[string]bool)
	}
	if to.Observed == nil {
		to.Observed = make(map[string]Instance)
	}
	to.Ordered[service] = true
	to.Observed[service] = Instance{State: topics.Running, Health: topics.Healthy, Version: to.Catalog[service]}
	p.SetDomain(from)
	p.SetDomain(to)
}

// WithMoving returns the input with copies that are to leave their domains. The
// domains of in are not changed.
func (in Input) WithMoving(moving map[string][]string) Input {
	in.Domains = slices.Clone(in.Domains)
	for service, domains := range moving {
		for i := range in.Domains {
			if d := &in.Domains[i]; slices.Contains(domains, d.Name) {
				d.Moving = maps.Clone(d.Moving)
				if d.Moving == nil {
					d.Moving = make(map[string]bool)
				}
				d.Moving[service] = true
			}
		}
	}
	return in
}

// explainMoves sets the reason of each copy that starts in place of one that moves: in
// what its domain is better than that one's. The other free domains did not decide it.
func (h *home) explainMoves(name string, o *Outcome, candidates []candidate) {
	next := 0 // of the candidates, that may move
	for i := range candidates {
		to := &candidates[i]
		if to.choice.Action != topics.ActionStart {
			continue
		}
		for next < len(candidates) && (!candidates[next].moving || !candidates[next].usable()) {
			next++
		}
		if next == len(candidates) {
			return
		}
		from := h.score(name, &candidates[next])
		next++
		from.subtract(h.defs[name].Needs)
		is := h.score(name, to)
		if n, _ := compareScores(&is, &from); n < 0 {
			to.choice.Reason = fmt.Sprintf("%s; it leaves %s: %s", o.Reason, from.Name, h.because(name, &is, &from, false))
		}
	}
}
