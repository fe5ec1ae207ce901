package hub

import (
	"maps"
	"slices"

	"github.com/jmbarzee/dominion/hub/directory"
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
		for d := range h.fleet.All() {
			c.domains[d.Name] = true
		}
		for _, name := range h.directory.Domains() {
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
		if d := h.fleet.Get(name); d != nil {
			h.planner.SetDomain(h.observed(d))
		} else {
			h.planner.RemoveDomain(name)
		}
	}
	for name := range c.services {
		h.planner.SetOverride(name, h.store.Override(name))
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
			if !h.defs.Get(name).DependsOn(service) {
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
		if d := h.fleet.Get(name); d != nil {
			all = append(all, d)
		}
	}
	return all
}

// takeRows brings the directory up to date: with the instances of the domains that changed.
func (h *Hub) takeRows(c *changes) {
	for name := range c.domains {
		var rows []directory.Row
		if d := h.fleet.Get(name); d != nil {
			rows = rowsOf(d)
		}
		for _, service := range h.directory.SetDomain(name, rows) {
			c.services[service] = true
		}
	}
}

// rowsOf returns the instances that a domain reports, where that counts.
func rowsOf(d *domain) []directory.Row {
	if d.Silent() {
		return nil
	}
	rows := make([]directory.Row, 0, len(d.Status.Services))
	for _, i := range d.Status.Services {
		rows = append(rows, directory.Row{
			Domain: d.Name, Service: i.Service, State: i.State, Health: d.HealthOf(i), Version: i.Version,
			Address: addressOf(i, d.Status), Port: i.Port, Message: topics.CutNextTry(i.Message), NextTry: i.NextTry, Done: done(i), Order: d.RunningOrder[i.Service],
		})
	}
	return rows
}
