package hub

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// expireDevices publishes the devices that are due.
func (h *Hub) expireDevices(now time.Time) {
	updates, otherTopics := h.views.tracker.Expire(now)
	if otherTopics {
		h.updateWatch()
	}
	for _, u := range updates {
		if u.Cleared {
			h.pub.Clear(h.tree.Device(u.ID))
			continue
		}
		h.pub.Retain(h.tree.Device(u.ID), topics.Encode(u.Device))
		if d := h.fleet.Get(u.Device.Domain); d != nil && d.Micro {
			h.touch(d.Name)
		}
	}
	h.dueUnlessZero(h.views.tracker.Next())
}
