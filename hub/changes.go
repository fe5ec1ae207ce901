package hub

import (
	"maps"
	"slices"

	"github.com/jmbarzee/dominion/hub/changeset"
	"github.com/jmbarzee/dominion/hub/directory"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// changes are what a pass looks at.
type changes = changeset.Changes

// touch notes that something of a domain changed.
func (h *Hub) touch(domain string) { h.changed.Touch(domain) }

// touchService notes that something else is wanted of a service.
func (h *Hub) touchService(name string) { h.changed.TouchService(name) }

// begin takes what has changed since the last pass.
func (h *Hub) begin() *changes {
	c := h.changed.Take()
	if c.Whole {
		for d := range h.fleet.All() {
			c.Domains[d.Name] = true
		}
		for _, name := range h.directory.Domains() {
			c.Domains[name] = true
		}
	}
	return c
}

// updatePlanner passes the planner what has changed.
func (h *Hub) updatePlanner(c *changes) {
	if c.Whole {
		h.planner.Set(h.input())
		return
	}
	for name := range c.Domains {
		if d := h.fleet.Get(name); d != nil {
			h.planner.SetDomain(h.observed(d))
		} else {
			h.planner.RemoveDomain(name)
		}
	}
	for name := range c.Services {
		h.planner.SetOverride(name, h.store.Override(name))
		if scaled, is := h.ops.scaling.Planned(name); is {
			h.planner.SetScaled(name, scaled)
		}
	}
}

// planned adds what the plan changed.
func (h *Hub) planned(c *changes, by planner.Changes) {
	maps.Copy(c.Services, by.Services)
	maps.Copy(c.Domains, by.Domains)
	if c.Whole {
		for name := range h.plan.Services {
			c.Services[name] = true
		}
	}
	for _, service := range c.Moved { // its dependents get its new address
		for name, o := range h.plan.Services {
			if !h.defs.Get(name).DependsOn(service) {
				continue
			}
			for _, choice := range o.Choices {
				if choice.Runs() {
					c.Domains[choice.Domain] = true
				}
			}
		}
	}
}

// touched returns the domains of the changes that the fleet has, sorted by name.
func (h *Hub) touched(c *changes) []*domain {
	all := make([]*domain, 0, len(c.Domains))
	for _, name := range slices.Sorted(maps.Keys(c.Domains)) {
		if d := h.fleet.Get(name); d != nil {
			all = append(all, d)
		}
	}
	return all
}

// takeRows brings the directory up to date: with the instances of the domains that changed.
func (h *Hub) takeRows(c *changes) {
	for name := range c.Domains {
		var rows []directory.Row
		if d := h.fleet.Get(name); d != nil {
			rows = rowsOf(d)
		}
		for _, service := range h.directory.SetDomain(name, rows) {
			c.Services[service] = true
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
			Address: addressOf(i, d.Status), Port: i.Port, Message: topics.CutNextTry(i.Message), NextTry: i.NextTry, Progress: i.Progress, Done: done(i), Order: d.RunningOrder[i.Service],
		})
	}
	return rows
}
