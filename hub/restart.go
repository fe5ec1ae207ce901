package hub

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/hub/restarts"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// newRestarts returns the restarts of this hub's services.
func (h *Hub) newRestarts() *restarts.Restarts {
	return restarts.New(restarts.Home{
		Instance: h.restartedInstance,
		Patience: func(service string) time.Duration { return rollout.Patience(h.defs.Get(service).Spec(nil)) },
	})
}

// restart orders the agents that run a service to restart it, one after the other. What its
// dependencies do not let start is not ended first.
func (h *Hub) restart(service, only string, now time.Time) error {
	if err := h.checkService(service); err != nil {
		return err
	}
	if only != "" {
		if _, err := h.findDomain(only); err != nil {
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
	h.ops.restarts.Add(service, on)
	h.expireRestarts(now)
	return nil
}

// outOfRange returns why an instance would not start again: the version that its domain has
// now is out of a range that a service which runs needs; "": it would.
func (h *Hub) outOfRange(service, domain string) string {
	versions, has := h.plan.Services[service].At(domain).Versions(), h.fleet.Get(domain).CatalogVersion(service)
	for _, by := range slices.Sorted(maps.Keys(versions)) {
		if in, err := services.ParseRange(versions[by]); err == nil && !in.Contains(has) {
			return fmt.Sprintf("%s needs %s %s, and %s has %s now: it would not start again", by, service, in, domain, cmp.Or(has, "no version"))
		}
	}
	return ""
}

// cannotRestart returns why nothing of a service can be restarted.
func (h *Hub) cannotRestart(service, only string) error {
	status, _ := h.views.statuses.Get(service)
	micro := h.builtIn(status.Instances)
	if only != "" {
		return fmt.Errorf("%s does not run on %s, or %s is not online", service, only, only)
	}
	if len(micro) > 0 {
		return fmt.Errorf("%s is built into %s: restart the device itself", service, strings.Join(micro, ", "))
	}
	return fmt.Errorf("%s runs on no domain that is online", service)
}

// expireRestarts orders the restarts that are to follow now.
func (h *Hub) expireRestarts(now time.Time) {
	commands, events := h.ops.restarts.Expire(now)
	for _, e := range events {
		h.events.Add(e)
	}
	for _, c := range commands {
		h.commandDomain(h.fleet.Get(c.Domain), topics.Command{Action: topics.ActionRestart, Service: c.Service})
	}
	h.dueUnlessZero(h.ops.restarts.Next())
}

// restartedInstance returns the state of a service on a domain, for its restart.
func (h *Hub) restartedInstance(service, domain string) restarts.Instance {
	d := h.fleet.Get(domain)
	if d == nil || !h.defs.Has(service) {
		return restarts.Instance{}
	}
	i := restarts.Instance{
		Reported: d.Instance(service), Online: d.State == topics.DomainIsOnline,
		Expected: d.State != topics.DomainIsLost && h.plan.Services[service].At(domain).Runs(),
	}
	if i.Reported != nil {
		i.Health = d.HealthOf(*i.Reported)
	}
	return i
}
