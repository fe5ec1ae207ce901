package hub

import (
	"cmp"
	"maps"

	"github.com/jmbarzee/dominion/topics"
)

// done reports whether an instance has ended with success. One that ended without an exit
// code (by a signal, or while its agent was away) has not.
func done(i topics.Instance) bool {
	return i.State == topics.Finished && i.ExitCode != nil && *i.ExitCode == 0
}

func addressOf(i topics.Instance, of *topics.Domain) string { return cmp.Or(i.Address, of.Address) }

// findEndpoints brings the endpoints of the services that changed up to date.
func (h *Hub) findEndpoints(c *changes) {
	changed := maps.Keys(c.Services)
	if c.Whole {
		all := maps.Clone(c.Services)
		for _, service := range h.directory.Services() {
			all[service] = true
		}
		changed = maps.Keys(all)
	}
	for service := range changed {
		moved, before, now := h.directory.Update(service, h.defs.Has(service))
		if moved {
			c.Moved = append(c.Moved, service)
		}
		if before == now {
			continue
		}
		for _, name := range []string{before, now} { // the planner knows of a domain whether it has the best
			if h.fleet.Get(name) != nil {
				c.Domains[name] = true
			}
		}
	}
}

// recall takes what an earlier run published of a service, until the hub has settled.
func (h *Hub) recall(service string, m topics.Message) {
	s, err := topics.Decode[topics.Service](m.Topic, m.Payload)
	if err != nil || !h.directory.Recalls() {
		return
	}
	h.views.statuses.Recall(service, s)
	if s.Running > 0 {
		h.views.usage.Recall(service)
		h.dueUnlessZero(h.views.usage.Next())
	}
	if len(s.Instances) == 0 {
		return
	}
	if best := s.Instances[0]; best.State == topics.Running && topics.ValidName(best.Domain) && h.directory.Recall(service, best.Domain) {
		h.touchService(service)
	}
}

// best returns the domain of a service's best endpoint, "" where there is none.
func (h *Hub) best(service string) string { return h.directory.Best(service) }
