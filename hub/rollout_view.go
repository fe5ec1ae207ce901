package hub

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/hub/directory"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// updateService rolls out what waits for a person, and tries again what did
// not get healthy.
func (h *Hub) updateService(name string) error {
	if err := h.known(name); err != nil {
		return err
	}
	w := &rolloutStep{service: name, kept: h.store.Rollout(name)}
	again := w.kept.Refused != "" || len(w.kept.Versions) > 0
	approved := h.versionsOf(name)
	if h.defs[name].Update != services.UpdateManual {
		approved = nil
	}
	if !again && slices.Equal(approved, w.kept.Approved) {
		return nil // it is as up to date as it can be
	}
	h.keepRollout(w, func(k *store.Rollout) {
		k.Approved = approved
		if again {
			k.Refused, k.Why, k.Excused, k.Versions = "", "", nil, nil
			k.Attempt++
		}
	})
	if again {
		h.again(w)
	}
	h.save() // before it is answered, unless such changes come too fast
	if r := h.rollouts[name]; r != nil {
		r.quiet = false
	}
	h.touchService(name)
	h.events.Add(topics.Event{Type: topics.ServiceWanted, Service: name, Message: name + ": an update was asked for"})
	return nil
}

// again restarts what is in trouble under what was refused: nothing else would
// tell whether it is better now.
func (h *Hub) again(w *rolloutStep) {
	now := h.looked
	for d := range h.fleet.All() {
		g, seen := assignmentsOf(d)[w.service], d.Instance(w.service)
		if g == nil || seen == nil || d.State != topics.DomainIsOnline || seen.State == topics.Finished ||
			seen.State == topics.Running && d.HealthOf(*seen) == topics.Healthy {
			continue
		}
		g.version = d.CatalogVersion(w.service)
		g.spec.Revision = rollout.Revise(g.spec.Revision, g.version, w.kept.Attempt)
		g.begin(seen, now)
		g.excused, g.hopeless, g.plain = false, false, false
		h.touch(d.Name)
	}
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

// takeCatalogs counts the versions of each service in the catalogs of the
// domains that may run it: of the domains that changed.
func (h *Hub) takeCatalogs(c *changes) {
	for name := range c.domains {
		now := make(map[string]string)
		if d := h.fleet.Get(name); d != nil && d.Status != nil && !d.Gone && !d.Micro {
			for _, row := range d.Status.Catalog {
				if def, defined := h.defs[row.Service]; defined && row.Version != "" && mayRun(def, d, row.Version) {
					now[row.Service] = row.Version
					h.statuses.AddRelease(row)
				}
			}
		}
		before := h.counted[name]
		if maps.Equal(before, now) {
			continue
		}
		for service, version := range before {
			if now[service] != version {
				h.count(c, service, version, -1)
			}
		}
		for service, version := range now {
			if before[service] != version {
				h.count(c, service, version, 1)
			}
		}
		if h.counted[name] = now; len(now) == 0 {
			delete(h.counted, name)
		}
	}
}

func (h *Hub) count(c *changes, service, version string, n int) {
	c.services[service] = true
	if h.versions[service] == nil {
		h.versions[service] = make(map[string]int)
	}
	if h.versions[service][version] += n; h.versions[service][version] == 0 {
		delete(h.versions[service], version)
		h.statuses.RemoveRelease(service, version)
	}
}

// newest is the newest version of a service in these catalogs, "" unknown.
func (h *Hub) newest(service string) (newest string) {
	for version := range h.versions[service] {
		if newest == "" || services.Newer(version, newest) {
			newest = version
		}
	}
	return newest
}

// otherContent returns the code that an instance is not started from yet. Which
// of two is the newer nobody can tell: what a machine has on its disk is what
// it is to run. Where each does, that is what is installed.
func (h *Hub) otherContent(service string, rows []directory.Row, installed string) string {
	for _, r := range rows {
		d := h.fleet.Get(r.Domain)
		if d == nil || !r.State.Listed() || r.Version == "" {
			continue
		}
		if v := d.CatalogVersion(service); v != "" && v != r.Version {
			return v
		}
	}
	if installed == "" {
		return slices.Min(slices.Collect(maps.Keys(h.versions[service])))
	}
	return installed
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

// viewUpdate says how a service changes.
func (h *Hub) viewUpdate(name string, rows []directory.Row) topics.ServiceUpdate {
	u := topics.ServiceUpdate{Latest: h.newest(name)}
	for _, r := range rows {
		if v := r.Version; r.State.Listed() && v != "" && v != u.Installed && (u.Installed == "" || services.Newer(u.Installed, v)) {
			u.Installed = v
		}
	}
	if services.IsContentVersion(u.Latest) {
		u.Latest = h.otherContent(name, rows, u.Installed)
	}
	h.reachable(name, rows, &u)
	notes := h.statuses.Release(name, u.Latest)
	u.ReleaseURL, u.Summary = notes.ReleaseURL, notes.Summary
	r := h.rollouts[name]
	if r == nil {
		return u
	}
	u.InProgress, u.Problem = r.out.Active, r.out.Problem
	if u.InProgress {
		u.Updated, u.Total = r.out.Updated, r.out.Total
		percent := 100 * u.Updated / max(u.Total, 1)
		u.Percentage, u.Waits = &percent, r.out.Waits
	}
	return u
}

// reachable takes back an offer that cannot be had: an instance is updated to what
// its own domain has on its disk, and none of those that run has a newer version
// there than it runs. It says why.
func (h *Hub) reachable(name string, rows []directory.Row, u *topics.ServiceUpdate) {
	if u.Installed == "" || u.Latest == u.Installed {
		return
	}
	var behind []string
	for _, r := range rows {
		if !r.State.Listed() || r.Version == "" {
			continue
		}
		d := h.fleet.Get(r.Domain)
		switch has := d.CatalogVersion(name); {
		case has == "" || has == r.Version:
			if r.Version != u.Latest {
				behind = append(behind, fmt.Sprintf("%s has only %s", r.Domain, r.Version))
			}
		case d.Micro || !mayRun(h.definition(name), d, has):
		default:
			return // it can be had
		}
	}
	if len(behind) == 0 {
		return
	}
	u.Waits = fmt.Sprintf("%s cannot be reached: %s; put it into the services_dir there", u.Latest, strings.Join(behind, ", "))
	u.Latest = u.Installed
}

// updating says it in words, "" where nothing changes and nothing was refused.
func (h *Hub) updating(name string, u topics.ServiceUpdate) string {
	switch r := h.rollouts[name]; {
	case u.InProgress && r.out.Back:
		return "goes back to the definition before: " + itoa(u.Updated) + " of " + count(u.Total, "instance") + "; " + u.Problem
	case u.InProgress && r.out.Version != "":
		return "version " + r.out.Version + " is rolled out: " + itoa(u.Updated) + " of " + count(u.Total, "instance") + "; " + u.Waits
	case u.InProgress:
		return "the changed definition is rolled out: " + itoa(u.Updated) + " of " + count(u.Total, "instance") + "; " + u.Waits
	}
	return u.Problem
}

// rollReason is what a rollout adds to the reason for an instance.
func (h *Hub) rollReason(service, domain string) string {
	if r := h.rollouts[service]; r != nil && r.reasons[domain] != "" {
		return "; " + r.reasons[domain]
	}
	return ""
}
