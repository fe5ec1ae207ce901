package hub

import (
	"maps"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// usageChanged notes that the figures of all services of a domain may be others.
func (h *Hub) usageChanged(d *domain, now time.Time) {
	h.views.usage.Change(maps.Keys(d.Usage), now)
	h.dueUnlessZero(h.views.usage.Next())
}

// expireUsage publishes the figures that changed once they are due.
func (h *Hub) expireUsage(now time.Time) {
	online := func(yield func(map[string]topics.Usage) bool) {
		for d := range h.fleet.All() {
			if d.State == topics.DomainIsOnline && !yield(d.Usage) {
				return
			}
		}
	}
	for _, s := range h.views.usage.Expire(online, h.defs.Has, now) {
		h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.ServiceMetrics, Service: s.Service}, topics.Encode(s.ServiceUsage)))
	}
	h.dueUnlessZero(h.views.usage.Next())
}
