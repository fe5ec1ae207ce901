package planner

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
)

// Set takes the whole home, and invalidates only what differs.
func (p *Planner) Set(in Input) {
	if !p.sameServices(in) {
		p.SetServices(in.Services, in.Retired)
	}
	setAll(p.overrides, in.Overrides, p.SetOverride)
	setAll(p.numbers, in.Scaled, p.SetScaled)
	setAll(p.holds, in.Holds, p.SetHold)
	present := make(map[string]bool, len(in.Domains))
	for _, d := range in.Domains {
		present[d.Name] = true
		p.SetDomain(d)
	}
	for _, d := range slices.Clone(p.domains) {
		if !present[d.Name] {
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

// SetServices replaces the definitions, and invalidates everything.
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
		s.index, s.readers, s.roomValid = -1, nil, false
		for _, c := range s.cells {
			c.unfitValid = false
		}
	}
	p.order = nil
	for i, name := range services.StartOrder(all) {
		s := p.subject(name)
		p.order = append(p.order, s)
		s.index, s.reviseWanted, s.replan = i, true, true
		for _, dep := range p.defs[name].Dependencies {
			p.dependents[dep.Service] = append(p.dependents[dep.Service], name)
		}
	}
	for _, d := range p.domains {
		d.workValid = false
		slices.SortFunc(d.starts, bySubject)
	}
	outcomes := make(map[string]*Outcome, len(p.order))
	for _, s := range before {
		if s.index >= 0 {
			if s.outcome != nil {
				outcomes[s.name] = s.outcome
			}
			continue
		}
		p.replace(s, nil)
		s.reviseWanted, s.replan = false, false
		p.dropUnused(s)
	}
	p.plan.Services = outcomes
}

// SetOverride sets what users have set for a service.
func (p *Planner) SetOverride(name string, w Override) {
	if p.overrides[name] == w {
		return
	}
	if w == (Override{}) {
		delete(p.overrides, name)
	} else {
		p.overrides[name] = w
	}
	s := p.subject(name)
	s.reviseWanted, s.replan = true, true
	p.invalidateReaders(s)
	p.dropUnused(s)
}

// SetScaled sets the number of instances by a service's figure.
func (p *Planner) SetScaled(name string, n Scaled) {
	if p.numbers[name] == n {
		return
	}
	p.numbers[name] = n
	s := p.subject(name)
	s.reviseWanted, s.replan = true, true
	p.invalidateReaders(s)
	p.dropUnused(s)
}

// RemoveDomain removes a domain.
func (p *Planner) RemoveDomain(name string) {
	d := p.sites[name]
	if d == nil {
		return
	}
	p.domainsChanged()
	for _, c := range slices.Clone(d.cells) {
		p.removeCell(c)
	}
	for _, s := range d.starts {
		s.replan = true
	}
	delete(p.sites, name)
	p.domains = slices.DeleteFunc(p.domains, func(other *site) bool { return other == d })
	p.changedDomains[name] = true
}

// SetDomain sets the state of a domain. The planner uses its maps.
func (p *Planner) SetDomain(now Domain) {
	d := p.sites[now.Name]
	if d == nil {
		d = &site{Domain: Domain{Name: now.Name}}
		p.sites[now.Name] = d
		at, _ := slices.BinarySearchFunc(p.domains, now.Name, func(d *site, name string) int { return strings.Compare(d.Name, name) })
		p.domains = slices.Insert(p.domains, at, d)
		p.domainsChanged()
		p.changedDomains[now.Name] = true
	}
	changed := !sameFacts(&d.Domain, &now)
	p.loadChanged = p.loadChanged || d.Machine != now.Machine
	d.Domain = now
	d.workValid = d.workValid && !changed
	p.setCells(d)
	if !changed {
		return
	}
	p.domainsChanged()
	for _, c := range d.cells {
		mattered := !c.unfitValid || p.matters(c)
		c.unfitValid = false
		if mattered || c.subject.index < 0 || p.matters(c) {
			p.invalidate(c.subject)
		}
	}
}

// sameFacts compares all but what depends on the service, and the figures
// of the machine that only those read who read its load.
func sameFacts(a, b *Domain) bool {
	x, y := *a, *b
	x.Catalog, x.Ordered, x.Observed, x.Chosen, x.Moving = nil, nil, nil, nil, nil
	y.Catalog, y.Ordered, y.Observed, y.Chosen, y.Moving = nil, nil, nil, nil, nil
	x.Machine.Load, x.Machine.Full = y.Machine.Load, y.Machine.Full
	return reflect.DeepEqual(x, y)
}

// setCells compares what a domain has to do with each service with what it
// had, and invalidates what differs.
func (p *Planner) setCells(d *site) {
	for i := 0; i < len(d.cells); {
		c := d.cells[i]
		if p.setCell(c) {
			i++
		} else {
			p.removeCell(c)
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

// setCell sets what the domain of a cell has now. It reports whether there is still
// anything.
func (p *Planner) setCell(c *cell) bool {
	d, name := c.site, c.subject.name
	was, burdened := *c, c.burdens()
	c.version, c.inCatalog = d.Catalog[name]
	c.ordered = d.Ordered[name]
	c.instance, c.observed = d.Observed[name]
	c.chosen = d.Chosen[name]
	c.moving = d.Moving[name]
	if c.version != was.version || c.inCatalog != was.inCatalog {
		c.unfitValid = false
	}
	if c.burdens() != burdened {
		d.workValid, p.loadChanged = false, true
	}
	was.unfitValid = c.unfitValid
	if *c != was {
		p.invalidate(c.subject)
	}
	return c.inCatalog || c.ordered || c.observed
}

// removeCell removes a cell of which nothing is left.
func (p *Planner) removeCell(c *cell) {
	c.site.workValid, p.loadChanged = false, true
	if i, there := c.site.find(c.subject.name); there {
		c.site.cells = slices.Delete(c.site.cells, i, i+1)
	}
	if i, there := c.subject.at(c.site.Name); there {
		c.subject.cells = slices.Delete(c.subject.cells, i, i+1)
	}
	p.invalidate(c.subject)
	p.dropUnused(c.subject)
}

// dropUnused removes a name that is not used any more.
func (p *Planner) dropUnused(s *subject) {
	if s.index < 0 && len(s.cells) == 0 && len(s.readers) == 0 {
		delete(p.subjects, s.name)
	}
}

// invalidate notes that the state of a service has changed.
func (p *Planner) invalidate(s *subject) {
	s.replan = true
	s.reviseWanted = s.reviseWanted || len(p.dependents[s.name]) > 0 // needers reads whether it is present
	p.invalidateReaders(s)
	if s.roomValid {
		s.roomValid = false
		for _, dep := range p.needs(s) {
			p.subject(dep.Service).reviseWanted = true
		}
	}
}

// invalidateReaders has all services placed again whose placing read a service. They
// read it again then.
func (p *Planner) invalidateReaders(s *subject) {
	for _, reader := range s.readers {
		reader.replan = true
	}
	s.readers = s.readers[:0]
}

// domainsChanged notes that the facts of some domain changed.
func (p *Planner) domainsChanged() {
	p.loadChanged = true
	for _, s := range p.order {
		s.replan = s.replan || s.readAll
	}
}
