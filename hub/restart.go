package hub

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// restarting is a service whose copies are restarted, one after the other: the
// next one follows when the last is healthy. A restart of the hub ends it.
type restarting struct {
	waiting []string // domains, by name
	now     string   // the domain whose turn it is
	was     topics.Instance
	until   time.Time // when it has had all the time that it may take
}

// restart orders the agents that run a service to start it anew. What its
// dependencies do not let start is not ended first.
func (h *Hub) restart(service, only string, now time.Time) error {
	if err := h.known(service); err != nil {
		return err
	}
	if only != "" {
		if _, err := h.knownDomain(only); err != nil {
			return err
		}
	}
	var on []string
	for _, d := range h.fleet.Sorted() {
		if d.Micro || d.State != topics.DomainIsOnline || only != "" && d.Name != only {
			continue
		}
		if i := d.Instance(service); i != nil && i.State != topics.Stopped {
			on = append(on, d.Name)
		}
	}
	if len(on) == 0 {
		return h.cannotRestart(service, only)
	}
	if unmet := h.planner.Unmet(service); unmet != "" {
		return fmt.Errorf("cannot restart %s: it could not start again, it %s; what runs goes on", service, unmet)
	}
	for _, domain := range on {
		if why := h.outOfRange(service, domain); why != "" {
			return fmt.Errorf("cannot restart %s: %s; what runs goes on", service, why)
		}
	}
	r := h.restarts[service]
	if r == nil {
		r = new(restarting)
		h.restarts[service] = r
	}
	for _, domain := range on {
		if !slices.Contains(r.waiting, domain) {
			r.waiting = append(r.waiting, domain)
		}
	}
	slices.Sort(r.waiting)
	h.stepRestarts(now)
	return nil
}

// outOfRange says why a copy would not start again: the version that its domain
// has now is out of a range that a service which runs needs. "" where it would.
func (h *Hub) outOfRange(service, domain string) string {
	versions, has := h.plan.Services[service].At(domain).Versions(), h.fleet.Get(domain).CatalogVersion(service)
	for _, by := range slices.Sorted(maps.Keys(versions)) {
		if in, err := services.ParseRange(versions[by]); err == nil && !in.Contains(has) {
			return fmt.Sprintf("%s needs %s %s, and %s has %s now: it would not start again", by, service, in, domain, cmp.Or(has, "no version"))
		}
	}
	return ""
}

func (h *Hub) cannotRestart(service, only string) error {
	micro := h.builtIn(h.views[service].Instances)
	switch {
	case only != "":
		return fmt.Errorf("%s does not run on %s, or %s is not online", service, only, only)
	case len(micro) > 0:
		return fmt.Errorf("%s is built into %s: restart the device itself", service, strings.Join(micro, ", "))
	}
	return fmt.Errorf("%s runs on no domain that is online", service)
}

// stepRestarts restarts the next copy of each service whose last one is healthy
// again.
func (h *Hub) stepRestarts(now time.Time) {
	for _, service := range slices.Sorted(maps.Keys(h.restarts)) {
		r := h.restarts[service]
		if r.now != "" {
			switch why := h.restarted(service, r, now); {
			case why == restarts:
				h.due(r.until)
				continue
			case why != "" && len(r.waiting) > 0:
				h.events.Add(topics.Event{Type: topics.ServiceReverted, Service: service, Domain: r.now, Message: fmt.Sprintf("%s: the restart goes no further: on %s %s; %s not restarted", service, r.now, why, were(r.waiting))})
				r.waiting = nil
			}
			r.now = ""
		}
		h.restartNext(service, r, now)
		if r.now == "" {
			delete(h.restarts, service)
		}
	}
}

func were(domains []string) string {
	if len(domains) == 1 {
		return domains[0] + " was"
	}
	return strings.Join(domains, ", ") + " were"
}

// restartNext restarts the copy whose turn it is; those that are gone meanwhile
// are left out.
func (h *Hub) restartNext(service string, r *restarting, now time.Time) {
	for len(r.waiting) > 0 {
		d := h.fleet.Get(r.waiting[0])
		r.waiting = r.waiting[1:]
		if d == nil || d.State != topics.DomainIsOnline {
			continue
		}
		i := d.Instance(service)
		if i == nil || i.State == topics.Stopped || !h.defs.Has(service) {
			continue
		}
		r.now, r.was, r.until = d.Name, *i, now.Add(rollout.Patience(h.defs.Get(service).Spec(nil)))
		h.commandDomain(d, topics.Command{Action: topics.ActionRestart, Service: service})
		h.due(r.until)
		return
	}
}

// restarts is what restarted returns while a copy may still get healthy.
const restarts = "restarts"

// restarted returns "" where the copy whose turn it is is healthy again, or is
// not expected any more; restarts where it may still get so; else what is wrong.
func (h *Hub) restarted(service string, r *restarting, now time.Time) string {
	d := h.fleet.Get(r.now)
	if d == nil || d.State == topics.DomainIsLost || !h.defs.Has(service) || !h.plan.Services[service].At(r.now).Runs() {
		return ""
	}
	late := !now.Before(r.until)
	i := d.Instance(service)
	if i == nil || !another(r.was, *i) {
		if late {
			return "it was not restarted in time"
		}
		return restarts
	}
	switch {
	case i.State == topics.Finished || i.State == topics.Running && d.HealthOf(*i) == topics.Healthy:
		return ""
	case i.State == topics.Failed:
		return "it failed"
	case late:
		return "it was not healthy in time"
	}
	return restarts
}

// another reports whether an instance is another run than before.
func another(was, is topics.Instance) bool {
	switch {
	case is.Restarts != was.Restarts:
		return true
	case was.PID != 0 || is.PID != 0:
		return is.PID != was.PID && is.State != topics.Stopping
	}
	return is.Since != was.Since
}
