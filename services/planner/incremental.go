package planner

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Planner holds a home and its plan. Its setters take what changes, and it plans
// again what that affects:
//
//   - a service of which a domain reports something else, or whose domain changed;
//   - one whose last placing read of another service that changed (a dependency
//     that it waits for, a dependent that has to stop first);
//   - one that was to be placed by load, when the load of any domain changed;
//   - one that is wanted now, or not any more, or for another reason.
//
// The law is that its plan equals New's of the same home. A Planner is not for
// several goroutines at once.
type Planner struct {
	home
	plan Plan
	// changedServices are those whose outcome changed since the last Changes, and
	// changedDomains those that are to run something else.
	changedServices, changedDomains map[string]bool
	// loadChanged is set where the load of some domain changed.
	loadChanged bool
	// stop reports that the plan is not needed any more; nil: it is.
	stop func() bool
}

// NewPlanner returns a planner of a home. It uses the maps and slices of the
// domains and definitions, which must not be changed afterwards.
func NewPlanner(in Input) *Planner { return newPlanner(in, nil) }

// newPlanner returns a planner that ends early when stop reports true.
func newPlanner(in Input, stop func() bool) *Planner {
	p := &Planner{
		stop: stop,
		home: home{
			overrides: maps.Clone(in.Overrides), numbers: maps.Clone(in.Scaled), holds: maps.Clone(in.Holds), sites: make(map[string]*site, len(in.Domains)), subjects: make(map[string]*subject),
			domains: make([]*site, 0, len(in.Domains)),
		},
		changedServices: make(map[string]bool), changedDomains: make(map[string]bool),
	}
	if p.overrides == nil {
		p.overrides = make(map[string]Override)
	}
	if p.numbers == nil {
		p.numbers = make(map[string]Scaled)
	}
	if p.holds == nil {
		p.holds = make(map[string]Hold)
	}
	for _, d := range slices.SortedFunc(slices.Values(in.Domains), func(a, b Domain) int { return strings.Compare(a.Name, b.Name) }) {
		if p.stopped() {
			return p
		}
		p.SetDomain(d)
	}
	p.SetServices(in.Services, in.Retired)
	return p
}

func (p *Planner) needs(s *subject) []services.Dependency {
	if s.index < 0 {
		return nil
	}
	return p.defs[s.name].Dependencies
}

// Plan plans again what was invalidated and returns the whole. It updates what it
// returned before.
func (p *Planner) Plan() Plan {
	// Whether a service is wanted follows from its dependents.
	for _, s := range slices.Backward(p.order) {
		if p.stopped() {
			return p.plan
		}
		if s.reviseWanted {
			s.reviseWanted = false
			p.decideWanted(s)
		}
	}
	// Where it runs may follow from where those before it do.
	for _, s := range p.order {
		if p.stopped() {
			return p.plan
		}
		if !s.replan && !(s.readLoad && p.loadChanged) {
			continue
		}
		s.replan, s.readLoad, s.readAll = false, false, false
		p.placing = s
		p.round++
		o := p.place(s.name)
		p.placing = nil
		p.replace(s, o)
	}
	p.loadChanged = false
	return p.plan
}

// stopped reports whether the plan is not needed any more.
func (p *Planner) stopped() bool { return p.stop != nil && p.stop() }

// decideWanted decides whether a service is wanted.
func (p *Planner) decideWanted(s *subject) {
	was, reason := p.on[s.name], p.why[s.name]
	on, why := p.wanted(s.name)
	if on {
		why += p.numberReason(s.name)
	}
	if _, decided := p.why[s.name]; decided && was == on && reason == why {
		return
	}
	p.on[s.name], p.why[s.name] = on, why
	s.replan = true
	p.invalidateReaders(s)
	if was == on {
		return
	}
	for _, dep := range p.needs(s) {
		p.subject(dep.Service).reviseWanted = true
	}
	for _, c := range s.cells {
		if c.burdens() {
			c.site.workValid, p.loadChanged = false, true
		}
	}
}

// replace takes a new outcome, or nil of a service that is gone.
func (p *Planner) replace(s *subject, o *Outcome) {
	was := s.outcome
	if was != nil && o != nil && was.On == o.On && was.Wanted == o.Wanted && was.Reason == o.Reason && was.Broken == o.Broken && slices.Equal(was.Choices, o.Choices) {
		return
	}
	p.changedServices[s.name] = true
	s.outcome = o
	for _, reader := range s.readers { // cannotCome reads what was placed before
		reader.replan = reader.replan || reader.index > s.index
	}
	if o == nil {
		delete(p.plan.Services, s.name)
	} else {
		p.plan.Services[s.name] = o
	}
	var before, after []Choice
	if was != nil {
		before = was.Choices
	}
	if o != nil {
		after = o.Choices
	}
	for len(before) > 0 || len(after) > 0 {
		var a, b Choice
		switch order := compareHeads(before, after); {
		case order <= 0:
			a, before = before[0], before[1:]
			if order < 0 {
				break
			}
			fallthrough
		default:
			b, after = after[0], after[1:]
		}
		name := cmp.Or(a.Domain, b.Domain)
		if a.Runs() != b.Runs() || a.Ranges != b.Ranges {
			p.changedDomains[name] = true
		}
		if a.starts() != b.starts() {
			p.noteStart(s, name, b.starts())
		}
	}
}

// compareHeads compares the first domains of two lists of choices.
func compareHeads(a, b []Choice) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	default:
		return strings.Compare(a[0].Domain, b[0].Domain)
	}
}

// noteStart records what the plan starts on a domain: it counts for the services that
// are placed later.
func (p *Planner) noteStart(s *subject, domain string, starts bool) {
	p.loadChanged = true
	d := p.sites[domain]
	if d == nil {
		return
	}
	if starts {
		at, _ := slices.BinarySearchFunc(d.starts, s, bySubject)
		d.starts = slices.Insert(d.starts, at, s)
	} else {
		d.starts = slices.DeleteFunc(d.starts, func(other *subject) bool { return other == s })
	}
}

func bySubject(a, b *subject) int { return cmp.Compare(a.index, b.index) }

// Changes are what has changed since the last call.
type Changes struct {
	Services map[string]bool // whose outcome changed, or is gone
	Domains  map[string]bool // that are to run something else, were added or removed
}

// Changes returns what the plans since the last call changed.
func (p *Planner) Changes() Changes {
	c := Changes{p.changedServices, p.changedDomains}
	p.changedServices, p.changedDomains = make(map[string]bool), make(map[string]bool)
	return c
}

// Desired returns the services that belong into a domain's start command, by name.
func (p *Planner) Desired(domain string) []string {
	d := p.sites[domain]
	if d == nil {
		return nil
	}
	var all []string
	for _, c := range d.cells {
		if o := c.subject.outcome; o != nil {
			if i, there := find(o.Choices, domain); there && o.Choices[i].Runs() {
				all = append(all, c.subject.name)
			}
		}
	}
	return all
}

// Why returns what becomes of a service on each domain, by name, also on those that
// have nothing to do with it, by the last plan.
func (p *Planner) Why(service string) []Choice {
	s := p.subjects[service]
	if s == nil || s.outcome == nil {
		return nil
	}
	all := make([]Choice, 0, len(p.domains))
	for _, d := range p.domains {
		if i, there := find(s.outcome.Choices, d.Name); there {
			all = append(all, s.outcome.Choices[i])
			continue
		}
		c := Choice{Domain: d.Name, Reason: s.outcome.Reason}
		if s.outcome.On {
			c.Reason = unfit(p.defs[service], &d.Domain).reason
		}
		all = append(all, c)
	}
	return all
}

func find(choices []Choice, domain string) (int, bool) {
	return slices.BinarySearchFunc(choices, domain, func(c Choice, name string) int { return strings.Compare(c.Domain, name) })
}

// starts reports whether a choice adds to the load of the domain.
func (c Choice) starts() bool { return c.Action == topics.ActionStart }
