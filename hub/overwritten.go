package hub

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// expireOverwritten publishes again what another client has overwritten.
func (h *Hub) expireOverwritten(now time.Time) {
	for _, a := range h.pub.Expire(now) {
		h.republish(a, now)
	}
	h.dueUnlessZero(h.pub.Next())
}

// republish publishes the present payload of one of the hub's retained topics, whatever
// was published there last. With a domain's condition its agent is asked for its status.
func (h *Hub) republish(a topics.Address, now time.Time) {
	topic := h.tree.Topic(a)
	h.pub.Forget(topic)
	switch a.Kind {
	case topics.HubAvailability:
		h.pub.Retain(topic, []byte(topics.Online))
	case topics.HubStatus:
		h.views.presence.Reset()
		h.publishHub(now)
	case topics.HubAdoption:
		h.adoption.TouchView()
		h.publishAdoption(now)
	case topics.HubKeys, topics.HubCertificate:
		h.publishCertificate()
	case topics.DomainCondition:
		if d := h.fleet.Get(a.Domain); d != nil {
			h.publishCondition(d)
			if d.State == topics.DomainIsOnline && !d.Micro {
				h.requestReport(d)
			}
		}
	case topics.ServiceStatus:
		if v, is := h.views.statuses.Get(a.Service); is {
			h.pub.Retain(topic, topics.Encode(v))
		}
	case topics.ServiceEndpoints:
		if h.defs.Has(a.Service) {
			h.pub.Retain(topic, h.encodedEndpoints(a.Service))
		}
	}
}

// statusCleared asks a domain to publish its status again that another client removed
// from the broker: the next run of the hub would miss it.
func (h *Hub) statusCleared(name string, now time.Time) {
	const most = 3 // a minute
	d := h.fleet.Get(name)
	if d == nil || d.Micro || d.Status == nil || d.State != topics.DomainIsOnline {
		return
	}
	if !h.events.MayReport("status of "+name, most, now) {
		d.StatusOverwritten() // it is asked for later
		return
	}
	h.requestReport(d)
}

// requestReport has the agent of a domain publish its status again.
func (h *Hub) requestReport(d *domain) {
	h.sendCommand(d, topics.Command{Action: topics.ActionReport})
}
