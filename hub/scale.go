package hub

import (
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/scaling"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// followFigures takes over from the configuration which service follows which figure.
func (h *Hub) followFigures() {
	if h.ops.scaling.Configure(h.defs.Configured()) {
		h.updateWatch()
	}
}

// subscribedTo reports whether a topic is among the hub's Filters anyway.
func (h *Hub) subscribedTo(topic string) bool {
	a, ours := h.tree.Parse(topic)
	return ours && slices.Contains(h.tree.HubFilters(), h.tree.Filter(a.Kind)) || slices.Contains(h.Filters(), topic)
}

// unsubscribable is a topic that the broker does not deliver to the hub.
type unsubscribable struct {
	topic string
	err   error
}

func (h *Hub) subscriptionRefused(u unsubscribable, now time.Time) {
	h.views.tracker.Refused(u.topic, u.err, now)
	h.ops.scaling.Refused(u.topic, u.err)
}

// takeUsage takes what a domain reports of its services. What the broker had retained is of
// any age.
func (h *Hub) takeUsage(d *domain, m topics.Metrics, retained bool, now time.Time) {
	if retained {
		return
	}
	h.usageChanged(d, now) // also of services that are no longer reported
	d.Usage, d.UsageAt = m.Services, now
	h.ops.scaling.Touch()
	h.usageChanged(d, now)
}

// scaleAll decides the numbers again where something has changed or is due.
func (h *Hub) scaleAll(now time.Time) {
	if h.ops.scaling.Pending(now) {
		for _, c := range h.ops.scaling.Step(h.scalingHome(), now) {
			if c.Reason != "" {
				h.events.Add(topics.Event{Type: topics.ServiceScaled, Service: c.Service, Message: c.Service + " is " + c.Reason})
			}
			if c.Planned {
				h.touchService(c.Service)
			}
		}
	}
	h.dueUnlessZero(h.ops.scaling.Next())
}

// scalingHome returns what a step of scaling needs of the home.
func (h *Hub) scalingHome() scaling.Home {
	home := scaling.Home{
		Started: h.views.presence.Started(), Connected: h.bus.connected, Follows: h.followsFigure,
		Ours: func(topic string) bool {
			_, ours := h.tree.Parse(topic)
			return ours
		},
	}
	for _, d := range h.fleet.Sorted() {
		if d.Status == nil || d.Gone || d.Micro {
			continue
		}
		for _, i := range d.Status.Services {
			if _, scaled := h.ops.scaling.Planned(i.Service); !scaled || !i.State.Listed() {
				continue
			}
			usage, has := d.Usage[i.Service]
			home.Instances = append(home.Instances, scaling.Instance{Domain: d.Name, Instance: i, Usage: usage, HasUse: has, UsageAt: d.UsageAt})
		}
	}
	return home
}

// replicas returns on how many domains a service is to run while it is wanted, 0 where
// that is each one that can.
func (h *Hub) replicas(name string) int {
	d, asked := h.defs.Get(name), h.store.Override(name).Replicas
	if d.Exclusive {
		return 1
	}
	if asked > 0 {
		return asked
	}
	if d.Scale != nil {
		scaled, _ := h.ops.scaling.Planned(name)
		return min(max(d.Scale.Min, scaled.Number), d.Scale.Max)
	}
	if d.Replicas == 0 && d.Priority != services.Required {
		return 1
	}
	return d.Replicas
}

// followsFigure reports whether a service's figure decides its number now: it is wanted,
// and nobody has asked for another number.
func (h *Hub) followsFigure(name string) bool {
	o := h.plan.Services[name]
	return h.fleet.Ready() && o != nil && o.On && h.store.Override(name).Replicas == 0
}
