package hub

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/hub/directory"
	"github.com/jmbarzee/dominion/hub/rollouts"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// newRollouts returns the rollouts of this hub's services.
func (h *Hub) newRollouts() *rollouts.Rollouts {
	return rollouts.New(rollouts.Home{
		Definition: h.defs.Get, Secrets: h.secretRevisions, Needs: h.needsOf, Domains: h.holders, Instance: h.rolloutInstance,
		Message: h.messageOf, Record: h.store.Rollout, Persist: h.persistRollout,
	})
}

// updateRollouts decides what the instances are assigned: those of the services of which
// something has changed.
func (h *Hub) updateRollouts(c *changes, now time.Time) {
	work := make(map[string][]string) // the domains that changed, of those that are to have an instance
	add := func(service string, changed ...string) { work[service] = append(work[service], changed...) }
	for service := range c.Services {
		add(service)
	}
	for name := range c.Domains {
		d := h.fleet.Get(name)
		if d == nil {
			continue
		}
		desired := h.planner.Desired(name)
		for _, service := range h.ops.rollouts.Retain(name, desired) {
			add(service)
		}
		if d.TakesOrders() {
			for _, service := range desired {
				add(service, name)
			}
		}
	}
	if c.Whole {
		for _, service := range h.ops.rollouts.Services() {
			add(service)
		}
	}
	for _, service := range slices.Sorted(maps.Keys(work)) {
		h.carryOutRollout(c, service, h.ops.rollouts.Step(service, work[service], c.Whole, now))
	}
	h.dueUnlessZero(h.ops.rollouts.Next())
}

// carryOutRollout does what follows from a step of a service's rollout.
func (h *Hub) carryOutRollout(c *changes, service string, r rollouts.Result) {
	for _, e := range r.Events {
		h.events.Add(e)
	}
	if r.Decided {
		c.Services[service] = true
	}
	for _, domain := range r.Assigned {
		c.Domains[domain] = true
	}
	for _, domain := range r.Replan {
		h.touch(domain)
	}
}

// expireRollouts has the services decided on of which time has changed something.
func (h *Hub) expireRollouts(now time.Time) {
	for _, service := range h.ops.rollouts.Expire(now) {
		h.touchService(service)
	}
	h.dueUnlessZero(h.ops.rollouts.Next())
}

// holders returns the domains that are to have an instance of a service, and are given
// start commands, by name.
func (h *Hub) holders(service string) []string {
	o := h.plan.Services[service]
	if o == nil {
		return nil
	}
	holders := make([]string, 0, len(o.Choices))
	for _, choice := range o.Choices {
		if d := h.fleet.Get(choice.Domain); choice.Runs() && d != nil && d.TakesOrders() {
			holders = append(holders, d.Name)
		}
	}
	return holders
}

// rolloutInstance returns the state of a service on a domain.
func (h *Hub) rolloutInstance(service, domain string) rollouts.Instance {
	d := h.fleet.Get(domain)
	if d == nil || d.Status == nil {
		return rollouts.Instance{Domain: domain}
	}
	i := rollouts.Instance{
		Domain: domain, Online: d.State == topics.DomainIsOnline, Draining: d.Status.Draining,
		Reported: d.Instance(service), Catalog: d.CatalogVersion(service), CatalogSince: d.CatalogSince[service],
		Current: d.Heartbeat.Epoch == h.epoch && d.Heartbeat.Generation >= d.Ordered.Generation,
	}
	if i.Reported != nil {
		i.Health = d.HealthOf(*i.Reported)
	}
	return i
}

// messageOf returns the first line of what a domain reports about an instance.
func (h *Hub) messageOf(service, domain string) string {
	d := h.fleet.Get(domain)
	if d == nil {
		return ""
	}
	i := d.Instance(service)
	if i == nil {
		return ""
	}
	line, _, _ := strings.Cut(topics.CutNextTry(i.Message), "\n")
	return line
}

// needsOf returns the ranges of versions in which services that are wanted need one.
func (h *Hub) needsOf(service string) (all []rollout.Need) {
	for name, def := range h.defs.Configured() {
		for _, dep := range def.Dependencies {
			if o := h.plan.Services[name]; dep.Service == service && dep.Version.String() != "" && o != nil && o.On {
				all = append(all, rollout.Need{By: name, Service: service, Version: dep.Version})
			}
		}
	}
	slices.SortFunc(all, func(a, b rollout.Need) int { return strings.Compare(a.By, b.By) })
	return all
}

func (h *Hub) persistRollout(service string, r rollout.Record) {
	h.store.Change(func(s *store.State) {
		if r.IsZero() {
			delete(s.Rollouts, service)
		} else {
			s.Rollouts[service] = r
		}
	})
}

// pruneRollouts forgets services that are gone from the configuration since the last run:
// what was rolled out then is of no use, and may hold secrets.
func (h *Hub) pruneRollouts() {
	for _, service := range h.store.Rollouts() {
		if !h.defs.Has(service) {
			h.ops.rollouts.Remove(service)
		}
	}
}

// written returns a service as the start command of a domain carries it. What is assigned
// alike is encoded once a pass, not once a domain.
func (h *Hub) written(specOf map[string]ordered, d *domain, service string) ordered {
	spec, variant := h.ops.rollouts.Assigned(service, d.Name)
	key := service
	if variant != "" {
		key += " " + variant
	}
	secret := topics.SecretNames(spec.Environment)
	if len(secret) > 0 {
		key += "\n" + d.ID // they are sealed for it alone
	}
	choice := h.plan.Services[service].At(d.Name)
	if choice.Ranges != "" {
		key += "\n" + choice.Ranges
	}
	o, done := specOf[key]
	if !done {
		o.spec = *spec
		if addresses := h.dependencies(h.defs.Get(service)); len(addresses) > 0 {
			o.spec.Dependencies = addresses
		}
		o.spec.Versions = choice.Versions()
		o.spec.Secrets = h.seal(d, service, secret)
		o.spec.Former = h.formerBundle(service, o.spec.Bundle)
		o.encoded = topics.Encode(o.spec)
		specOf[key] = o
	}
	h.ops.rollouts.MarkSent(service, d.Name)
	return o
}

// updateService rolls out what waits for a person, and tries again what did not get
// healthy.
func (h *Hub) updateService(name string) error {
	if err := h.checkService(name); err != nil {
		return err
	}
	var approved []string
	if h.defs.Configured()[name].Update == services.UpdateManual {
		approved = h.versionsOf(name)
	}
	restarted, ok := h.ops.rollouts.Update(name, approved, h.schedule.stall.ObservedAt())
	if !ok {
		return nil
	}
	for _, domain := range restarted {
		h.touch(domain)
	}
	h.save() // before it is answered, unless such changes come too fast
	h.touchService(name)
	h.events.Add(topics.Event{Type: topics.ServiceWanted, Service: name, Message: name + ": an update was asked for"})
	return nil
}

// versionsOf lists the versions of a service in the catalogs.
func (h *Hub) versionsOf(service string) []string {
	all := make(map[string]bool)
	for d := range h.fleet.All() {
		if v := d.CatalogVersion(service); v != "" {
			all[v] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// takeCatalogs passes on which versions of which services the domains that changed may run.
func (h *Hub) takeCatalogs(c *changes) {
	for name := range c.Domains {
		versions := make(map[string]string)
		if d := h.fleet.Get(name); d != nil && d.Status != nil && !d.Gone && !d.Micro {
			for _, row := range d.Status.Catalog {
				if def, defined := h.defs.Configured()[row.Service]; defined && row.Version != "" && mayRun(def, d, row.Version) {
					versions[row.Service] = row.Version
					h.views.statuses.AddRelease(row)
				}
			}
		}
		changed, gone := h.ops.rollouts.SetCatalog(name, versions)
		for _, service := range changed {
			c.Services[service] = true
		}
		for _, release := range gone {
			h.views.statuses.RemoveRelease(release.Service, release.Version)
		}
	}
}

// mayRun reports whether a domain may run a version of a service, now or later.
func mayRun(def services.Definition, d *domain, version string) bool {
	for _, t := range def.Traits {
		if !slices.Contains(d.Status.Traits, t) {
			return false
		}
	}
	return (len(def.Domains) == 0 || slices.Contains(def.Domains, d.Name)) && def.Version.Contains(version)
}

// viewUpdate is how a service changes, as it is published.
func (h *Hub) viewUpdate(name string, rows []directory.Row) topics.ServiceUpdate {
	copies := make([]rollouts.Copy, 0, len(rows))
	for _, r := range rows {
		d := h.fleet.Get(r.Domain)
		if d == nil || !r.State.Listed() || r.Version == "" {
			continue
		}
		c := rollouts.Copy{Domain: r.Domain, Version: r.Version, Catalog: d.CatalogVersion(name)}
		c.Updatable = c.Catalog != "" && c.Catalog != c.Version && !d.Micro && mayRun(h.defs.Get(name), d, c.Catalog)
		copies = append(copies, c)
	}
	u := h.ops.rollouts.View(name, copies)
	local := func(c rollouts.Copy) bool { return c.Catalog != "" }
	if b := h.defs.Get(name).Bundle; b != nil && !slices.ContainsFunc(copies, local) {
		u.Latest = b.Version
		if !u.InProgress {
			u.Waits = ""
		}
	}
	notes := h.views.statuses.Release(name, u.Latest)
	u.ReleaseURL, u.Summary = notes.ReleaseURL, notes.Summary
	return u
}

// rolloutReason is what a rollout adds to the reason for an instance.
func (h *Hub) rolloutReason(service, domain string) string {
	if reason := h.ops.rollouts.Reason(service, domain); reason != "" {
		return "; " + reason
	}
	return ""
}
