package hub

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// publishAgain publishes what another client has overwritten.
func (h *Hub) publishAgain(now time.Time) {
	for _, a := range h.pub.Expire(now) {
		topic := h.tree.Topic(a)
		switch a.Kind {
		case topics.HubAvailability:
			h.pub.Retain(topic, []byte(topics.Online))
		case topics.HubStatus:
			h.tally = tally{}
			h.publishHub(now)
		case topics.ServiceStatus:
			if v, known := h.views[a.Service]; known {
				h.pub.Retain(topic, topics.Encode(v))
			}
		case topics.ServiceEndpoints:
			if h.defined(a.Service) {
				h.pub.Retain(topic, h.encodedEndpoints(a.Service))
			}
		}
	}
	h.dueUnlessZero(h.pub.Next())
}

// statusCleared asks a domain to publish its status again that another client removed
// from the broker: the next run of the hub would miss it.
func (h *Hub) statusCleared(name string, now time.Time) {
	const most = 3 // a minute
	d := h.domains[name]
	if d == nil || d.Micro || d.Status == nil || d.State != topics.DomainIsOnline || !h.events.MayReport("status of "+name, most, now) {
		return
	}
	h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainCommand, Domain: name}, topics.Encode(topics.Command{Action: topics.ActionReport})))
}
