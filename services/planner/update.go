package planner

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
)

// Set takes the whole home anew, and plans anew only what differs.
func (p *Planner) Set(in Input) {
	if !p.sameServices(in) {
		p.SetServices(in.Services, in.Retired)
	}
	setAll(p.wants, in.Wants, p.SetWant)
	setAll(p.numbers, in.Scaled, p.SetScaled)
	setAll(p.held, in.Held, p.SetHeld)
	there := make(map[string]bool, len(in.Domains))
	for _, d := range in.Domains {
		there[d.Name] = true
		p.SetDomain(d)
	}
	for _, d := range slices.Clone(p.domains) {
		if !there[d.Name] {
			p.RemoveDomain(d.Name)
		}
	}
}

// setAll sets what is, and the zero value for what is not any more.
func setAll[V any](was, is map[string]V, set func(string, V)) {
	for name := range maps.Clone(was) {
		set(name, is[name])
	}
	for name, v := range is {
		set(name, v)
	}
}

func (p *Planner) sameServices(in Input) bool {
	retired := 0
	for _, d := range in.Retired {
		if is := p.defs[d.Name]; is == nil || p.retired[d.Name] && !is.Equal(d) {
			return false
		} else if p.retired[d.Name] {
			retired++
		}
	}
	for _, d := range in.Services {
		if is := p.defs[d.Name]; is == nil || p.retired[d.Name] || !is.Equal(d) {
			return false
		}
	}
	return len(p.defs) == len(in.Services)+retired && len(p.retired) == retired
}

// SetServices replaces the definitions. All is planned anew.
func (p *Planner) SetServices(defined, retired []services.Definition) {
	before := p.order
	p.defs = make(map[string]*services.Definition, len(defined))
	p.retired, p.dependents = make(map[string]bool), make(map[string][]string)
	p.on, p.why = make(map[string]bool), make(map[string]string)
	all := slices.Clone(defined)
	for _, d := range defined {
		p.defs[d.Name] = &d
	}
	for _, d := range retired {
		if _, defined := p.defs[d.Name]; !defined {
			p.defs[d.Name] = &d
			p.retired[d.Name] = true
			all = append(all, d)
		}
	}
	for _, s := range p.subjects {
		s.place, s.readers, s.searched = -1, nil, false
		for _, c := range s.cells {
			c.judged = false
		}
	}
	p.order = nil
	for i, name := range services.StartOrder(all) {
		s := p.subject(name)
		p.order = append(p.order, s)
		s.place, s.judge, s.replan = i, true, true
		for _, dep := range p.defs[name].Dependencies {
			p.dependents[dep.Service] = append(p.dependents[dep.Service], name)
		}
	}
	for _, d := range p.domains {
		d.known = false
		slices.SortFunc(d.given, bySubject)
	}
	outcomes := make(map[string]*Outcome, len(p.order))
	for _, s := range before {
		if s.place >= 0 {
			if s.outcome != nil {
				outcomes[s.name] = s.outcome
			}
			continue
		}
		p.replace(s, nil)
		s.judge, s.replan = false, false
		p.drop(s)
	}
	p.plan.Services = outcomes
}

// SetWant takes what users said of a service.
func (p *Planner) SetWant(name string, w Want) {
	if p.wants[name] == w {
		return
	}
	if w == (Want{}) {
		delete(p.wants, name)
	} else {
		p.wants[name] = w
	}
	s := p.subject(name)
	s.judge, s.replan = true, true
	p.tell(s)
	p.drop(s)
}

// SetScaled takes what a service's figure calls for.
func (p *Planner) SetScaled(name string, n Scaled) {
	if p.numbers[name] == n {
		return
	}
	p.numbers[name] = n
	s := p.subject(name)
	s.judge, s.replan = true, true
	p.tell(s)
	p.drop(s)
}

// RemoveDomain forgets a domain.
func (p *Planner) RemoveDomain(name string) {
	d := p.sites[name]
	if d == nil {
		return
	}
	p.everywhere()
	for _, c := range slices.Clone(d.cells) {
		p.uncell(c)
	}
	for _, s := range d.given {
		s.replan = true
	}
	delete(p.sites, name)
	p.domains = slices.DeleteFunc(p.domains, func(other *site) bool { return other == d })
	p.moved[name] = true
}

// SetDomain takes what is known of a domain now. The planner keeps its maps.
func (p *Planner) SetDomain(now Domain) {
	d := p.sites[now.Name]
	if d == nil {
		d = &site{Domain: Domain{Name: now.Name}}
		p.sites[now.Name] = d
		at, _ := slices.BinarySearchFunc(p.domains, now.Name, func(d *site, name string) int { return strings.Compare(d.Name, name) })
		p.domains = slices.Insert(p.domains, at, d)
		p.everywhere()
		p.moved[now.Name] = true
	}
	changed := !sameFacts(&d.Domain, &now)
	p.loads = p.loads || d.Machine != now.Machine
	d.Domain = now
	d.known = d.known && !changed
	p.setCells(d)
	if !changed {
		return
	}
	p.everywhere()
	for _, c := range d.cells {
		mattered := !c.judged || p.matters(c)
		c.judged = false
		if mattered || c.subject.place < 0 || p.matters(c) {
			p.touch(c.subject)
		}
	}
}

// sameFacts compares all but what is known service by service, and the figures
// of the machine that only those read who read its load.
func sameFacts(a, b *Domain) bool {
	x, y := *a, *b
	x.Catalog, x.Ordered, x.Observed, x.Chosen, x.Leaving = nil, nil, nil, nil, nil
	y.Catalog, y.Ordered, y.Observed, y.Chosen, y.Leaving = nil, nil, nil, nil, nil
	x.Machine.Load, x.Machine.Full = y.Machine.Load, y.Machine.Full
	return reflect.DeepEqual(x, y)
}

// setCells compares what a domain has to do with each service with what it
// had, and touches what differs.
func (p *Planner) setCells(d *site) {
	for i := 0; i < len(d.cells); {
		c := d.cells[i]
		if p.setCell(c) {
			i++
		} else {
			p.uncell(c)
		}
	}
	add := func(name string) {
		if i, there := d.find(name); !there {
			c := &cell{site: d, subject: p.subject(name)}
			d.cells = slices.Insert(d.cells, i, c)
			at, _ := c.subject.at(d.Name)
			c.subject.cells = slices.Insert(c.subject.cells, at, c)
			p.setCell(c)
		}
	}
	for name := range d.Catalog {
		add(name)
	}
	for name, ordered := range d.Ordered {
		if ordered {
			add(name)
		}
	}
	for name := range d.Observed {
		add(name)
	}
}

// setCell takes what the domain of a cell says now. It tells whether anything
// is left of it.
func (p *Planner) setCell(c *cell) bool {
	d, name := c.site, c.subject.name
	was, burdened := *c, c.burdens()
	c.version, c.held = d.Catalog[name]
	c.ordered = d.Ordered[name]
	c.instance, c.told = d.Observed[name]
	c.chosen = d.Chosen[name]
	c.leaving = d.Leaving[name]
	if c.version != was.version || c.held != was.held {
		c.judged = false
	}
	if c.burdens() != burdened {
		d.known, p.loads = false, true
	}
	was.judged = c.judged
	if *c != was {
		p.touch(c.subject)
	}
	return c.held || c.ordered || c.told
}

// uncell ends what a domain had to do with a service.
func (p *Planner) uncell(c *cell) {
	c.site.known, p.loads = false, true
	if i, there := c.site.find(c.subject.name); there {
		c.site.cells = slices.Delete(c.site.cells, i, i+1)
	}
	if i, there := c.subject.at(c.site.Name); there {
		c.subject.cells = slices.Delete(c.subject.cells, i, i+1)
	}
	p.touch(c.subject)
	p.drop(c.subject)
}

// drop forgets a name that nobody uses.
func (p *Planner) drop(s *subject) {
	if s.place < 0 && len(s.cells) == 0 && len(s.readers) == 0 {
		delete(p.subjects, s.name)
	}
}

// touch notes that something is known of a service that was not.
func (p *Planner) touch(s *subject) {
	s.replan = true
	s.judge = s.judge || len(p.dependents[s.name]) > 0 // needers looks whether it is there
	p.tell(s)
	if s.searched {
		s.searched = false
		for _, dep := range p.needs(s) {
			p.subject(dep.Service).judge = true
		}
	}
}

// tell lets all be placed anew that read of a service. They read again then.
func (p *Planner) tell(s *subject) {
	for _, reader := range s.readers {
		reader.replan = true
	}
	s.readers = s.readers[:0]
}

// everywhere notes that what is known of some domain changed.
func (p *Planner) everywhere() {
	p.loads = true
	for _, s := range p.order {
		s.replan = s.replan || s.readAll
	}
}
