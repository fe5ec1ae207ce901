package hub

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// noteStops records why a domain has to stop what its next start command does not
// contain: the plan that follows the stop does not have the reason.
func (h *Hub) noteStops(d *domain, specs map[string]topics.Spec) {
	note := func(service string) {
		if _, stays := specs[service]; stays || d.StopReasons[service] != "" {
			return
		}
		if reason := h.stopReason(d, service); reason != "" {
			if d.StopReasons == nil {
				d.StopReasons = make(map[string]string)
			}
			d.StopReasons[service] = reason
		}
	}
	for service := range specs {
		delete(d.StopReasons, service)
	}
	for service := range d.Ordered.Services {
		note(service)
	}
	if d.Ordered.Encoded == "" && d.Status != nil { // what an earlier run of the hub ordered
		for _, i := range d.Status.Services {
			if i.State.Alive() {
				note(i.Service)
			}
		}
	}
}

// stopReason returns why a service has to stop on a domain, "" where that is unknown.
func (h *Hub) stopReason(d *domain, service string) string {
	o := h.plan.Services[service]
	if o == nil {
		return ""
	}
	c := o.At(d.Name)
	if c.Runs() { // it is to run there, and held back
		return ""
	}
	return c.Reason
}

// withStopReason adds to service_stopped why the hub had ordered it: an agent only
// sees that its start command no longer holds the service.
func withStopReason(d *domain, e topics.Event) topics.Event {
	if e.Type != topics.ServiceStopped {
		return e
	}
	reason := d.StopReasons[e.Service]
	if delete(d.StopReasons, e.Service); reason == "" {
		return e
	}
	if before, after, found := strings.Cut(e.Message, topics.NotWanted); found {
		e.Message = before + reason + after
	} else {
		e.Message += ": " + reason
	}
	return e
}
