package hub

import (
	"maps"
	"slices"

	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// changes are what a pass has to look at. The zero value is nothing.
//
// Whoever changes what the hub knows says so in one of three ways: touch, of a
// domain; touchService, of what is wanted of a service; or by setting dirty,
// which means anything at all, is always right, and costs a look at everything.
type changes struct {
	whole    bool
	domains  map[string]bool // of which something else is known; some may be forgotten
	services map[string]bool // of which something else is to be said
	moved    []string        // services that are reached somewhere else
}

// touch notes that something else is known of a domain than before.
func (h *Hub) touch(domain string) {
	if h.changed.domains == nil {
		h.changed.domains = make(map[string]bool)
	}
	h.changed.domains[domain] = true
}

// touchService notes that something else is wanted of a service.
func (h *Hub) touchService(name string) {
	if h.changed.services == nil {
		h.changed.services = make(map[string]bool)
	}
	h.changed.services[name] = true
}

// pending reports whether a pass has anything to do.
func (h *Hub) pending() bool {
	return h.dirty || len(h.changed.domains)+len(h.changed.services) > 0
}

// begin takes what has changed since the last pass.
func (h *Hub) begin() *changes {
	c := h.changed
	c.whole = h.dirty
	h.changed, h.dirty = changes{}, false
	if c.domains == nil || c.whole {
		c.domains = make(map[string]bool)
	}
	if c.services == nil || c.whole {
		c.services = make(map[string]bool)
	}
	if c.whole {
		for name := range h.domains {
			c.domains[name] = true
		}
		for name := range h.told {
			c.domains[name] = true
		}
	}
	return &c
}

// updatePlanner tells the planner what it does not know yet.
func (h *Hub) updatePlanner(c *changes) {
	if c.whole {
		h.planner.Set(h.input())
		return
	}
	for name := range c.domains {
		if d := h.domains[name]; d != nil {
			h.planner.SetDomain(h.observed(d))
		} else {
			h.planner.RemoveDomain(name)
		}
	}
	for name := range c.services {
		h.planner.SetWant(name, h.store.Want(name))
		if scaled, is := h.scaling.Planned(name); is {
			h.planner.SetScaled(name, scaled)
		}
	}
}

// planned adds what the plan changed.
func (h *Hub) planned(c *changes, by planner.Changes) {
	maps.Copy(c.services, by.Services)
	maps.Copy(c.domains, by.Domains)
	if c.whole {
		for name := range h.plan.Services {
			c.services[name] = true
		}
	}
	for _, service := range c.moved { // who needs it is told where it is
		for name, o := range h.plan.Services {
			if !h.definition(name).DependsOn(service) {
				continue
			}
			for _, choice := range o.Choices {
				if choice.Runs() {
					c.domains[choice.Domain] = true
				}
			}
		}
	}
}

// touched are the domains of the changes that are known, by name.
func (h *Hub) touched(c *changes) []*domain {
	all := make([]*domain, 0, len(c.domains))
	for _, name := range slices.Sorted(maps.Keys(c.domains)) {
		if d := h.domains[name]; d != nil {
			all = append(all, d)
		}
	}
	return all
}

// takeRows brings the instances that are told of up to date: those of the
// domains that changed.
func (h *Hub) takeRows(c *changes) {
	for name := range c.domains {
		var now []row
		if d := h.domains[name]; d != nil {
			now = d.rows()
		}
		for _, service := range h.told[name] {
			if !slices.ContainsFunc(now, func(r row) bool { return r.service == service }) {
				h.dropRow(service, name)
				c.services[service] = true
			}
		}
		delete(h.told, name)
		for _, r := range now {
			h.told[name] = append(h.told[name], r.service)
			if h.setRow(r) {
				c.services[r.service] = true
			}
		}
	}
}

// setRow reports whether the row is another one than before.
func (h *Hub) setRow(r row) bool {
	rows := h.rows[r.service]
	i, there := slices.BinarySearchFunc(rows, r.domain, row.compare)
	switch {
	case !there:
		h.rows[r.service] = slices.Insert(rows, i, r)
	case rows[i] != r:
		rows[i] = r
	default:
		return false
	}
	return true
}

func (h *Hub) dropRow(service, domain string) {
	rows := h.rows[service]
	if i, there := slices.BinarySearchFunc(rows, domain, row.compare); there {
		rows = slices.Delete(rows, i, i+1)
	}
	if h.rows[service] = rows; len(rows) == 0 {
		delete(h.rows, service)
	}
}

// silent reports that nothing counts of what the domain said of its instances:
// it is lost, or a microcontroller that is away, or has said nothing yet.
func (d *domain) silent() bool {
	return d.status == nil || d.state == topics.DomainIsLost || d.micro && !d.available
}

// rows are the instances that a domain tells of, where that counts.
func (d *domain) rows() []row {
	if d.silent() {
		return nil
	}
	rows := make([]row, 0, len(d.status.Services))
	for _, i := range d.status.Services {
		rows = append(rows, row{
			domain: d.name, service: i.Service, state: i.State, health: d.healthOf(i), version: i.Version,
			address: addressOf(i, d.status), port: i.Port, message: withoutSpan(i.Message), next: i.NextTry, done: done(i), seen: d.runningOrder[i.Service],
		})
	}
	return rows
}
