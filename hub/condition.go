package hub

import (
	"github.com/jmbarzee/dominion/topics"
)

// publishConditions says how we see the domains that changed: of one that is
// away nobody else can. Before we are ready we see nothing that counts.
func (h *Hub) publishConditions(c *changes) {
	if !h.fleet.Ready() {
		return
	}
	for _, d := range h.touched(c) {
		h.publishCondition(d)
	}
}

func (h *Hub) publishCondition(d *domain) {
	v := topics.Condition{Domain: d.Name, State: d.State, Reason: h.fleet.Condition(d)}
	v.Problem = v.Reason != ""
	if !d.Since.IsZero() {
		v.Since = topics.At(d.Since)
	}
	h.pub.Retain(h.tree.Domain(topics.DomainCondition, d.Name), topics.Encode(v))
}
