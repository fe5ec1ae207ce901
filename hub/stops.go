package hub

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// noteStops keeps why a domain has to stop what its next start command does not
// hold: the plan that follows the stop no longer tells.
func (h *Hub) noteStops(d *domain, specs map[string]topics.Spec) {
	note := func(service string) {
		if _, stays := specs[service]; stays || d.stops[service] != "" {
			return
		}
		if reason := h.stopReason(d, service); reason != "" {
			if d.stops == nil {
				d.stops = make(map[string]string)
			}
			d.stops[service] = reason
		}
	}
	for service := range specs {
		delete(d.stops, service)
	}
	for service := range d.ordered.services {
		note(service)
	}
	if d.ordered.encoded == "" && d.status != nil { // what an earlier run of the hub ordered
		for _, i := range d.status.Services {
			if i.State.Alive() {
				note(i.Service)
			}
		}
	}
}

// stopReason is why a service has to stop on a domain, "" where that is not known.
func (h *Hub) stopReason(d *domain, service string) string {
	o := h.plan.Services[service]
	if o == nil {
		return ""
	}
	c := o.At(d.name)
	if c.Runs() { // it is to run there, and held back
		return ""
	}
	return c.Reason
}

// withStopReason adds to service_stopped why the hub had ordered it: an agent only
// sees that its start command no longer holds the service.
func (d *domain) withStopReason(e topics.Event) topics.Event {
	if e.Type != topics.ServiceStopped {
		return e
	}
	reason := d.stops[e.Service]
	if delete(d.stops, e.Service); reason == "" {
		return e
	}
	if before, after, found := strings.Cut(e.Message, topics.NotWanted); found {
		e.Message = before + reason + after
	} else {
		e.Message += ": " + reason
	}
	return e
}
