package hub

import (
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// scheduleLeftovers has former prefixes looked at in a moment.
func (h *Hub) scheduleLeftovers(now time.Time) {
	if h.fleet.Ready() {
		h.views.leftovers.Schedule(now)
		h.dueUnlessZero(h.views.leftovers.Next())
	}
}

// clearLeftoverServices clears what an earlier run published of services that are gone
// from the configuration.
func (h *Hub) clearLeftoverServices(now time.Time) {
	for _, name := range h.views.leftovers.TakeServices() {
		if !h.defs.Has(name) {
			h.views.announcer.RemoveService(name, now)
		}
	}
}

// expireLeftovers clears what is retained below former prefixes, as far as it may be.
func (h *Hub) expireLeftovers(now time.Time) {
	cleared, finished := h.views.leftovers.Expire(leftoversHome{h}, now)
	for _, topic := range cleared {
		h.pub.Publish(topics.Message{Topic: topic, QoS: 1, Retain: true})
	}
	for _, prefix := range finished {
		h.log.Info("nothing is left below a former topic_prefix", "prefix", prefix)
	}
	if len(finished) > 0 {
		h.updateWatch()
		h.store.Change(func(s *store.State) { s.Prefix, s.FormerPrefixes = h.tree.Prefix(), h.views.leftovers.Prefixes() })
	}
	h.dueUnlessZero(h.views.leftovers.Next())
}

// leftoversHome is the hub as its leftovers need it.
type leftoversHome struct{ *Hub }

// Announced reports whether Home Assistant has received everything.
func (h leftoversHome) Announced() bool { return h.views.announcer.Idle() }

// Domain returns whether a domain has joined, and whether it has reported its status.
func (h leftoversHome) Domain(name string) (joined, reported bool) {
	d := h.fleet.Get(name)
	return d != nil, d != nil && d.Status != nil
}
