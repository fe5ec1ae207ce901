package hub

import (
	"github.com/jmbarzee/dominion/topics"
)

// publishConditions publishes the conditions of the domains that changed: nobody else can
// publish that of a domain that is away. Until the hub is ready their states do not count.
func (h *Hub) publishConditions(c *changes) {
	if !h.fleet.Ready() {
		return
	}
	for _, d := range h.touched(c) {
		h.publishCondition(d)
	}
}

// publishCondition publishes the state of a domain and what is wrong with it.
func (h *Hub) publishCondition(d *domain) {
	v := topics.Condition{Domain: d.Name, State: d.State, Reason: h.fleet.Condition(d)}
	v.Problem = v.Reason != ""
	if !d.Since.IsZero() {
		v.Since = topics.At(d.Since)
	}
	h.pub.Retain(h.tree.Domain(topics.DomainCondition, d.Name), topics.Encode(v))
}
