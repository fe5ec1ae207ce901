package hub

import (
	"slices"
	"time"

	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// look says how an instance is, and notes what has to be remembered of that.
func (w *rolloutStep) look(d *domain, now time.Time) rollout.Instance {
	i := rollout.Instance{
		Domain: d.Name, Online: d.State == topics.DomainIsOnline, Draining: d.Status.Draining,
		Catalog: d.CatalogVersion(w.service),
	}
	since := d.CatalogSince[w.service]
	i.CatalogSettled = !since.IsZero() && now.Sub(since) >= rollout.SettleCatalog
	seen := d.Instance(w.service)
	if seen != nil {
		i.State, i.Health, i.Version = seen.State, d.HealthOf(*seen), seen.Version
	}
	g := assignmentsOf(d)[w.service]
	if g == nil {
		if g = w.found(d, seen, now); g == nil {
			return i
		}
		assignmentsOf(d)[w.service] = g
	}
	switch g.identity {
	case w.nextID:
		i.Runs = rollout.Next
		revision := g.spec.Revision
		g.spec = w.next
		g.spec.Revision = revision
	case w.stableID:
		i.Runs = rollout.Stable
	default:
		i.Runs = rollout.Other
	}
	g.plain = i.Runs == rollout.Next && g.spec.Revision == w.next.Revision
	g.observe(d, seen, w.epoch, &i, now)
	i.RestartedFor, i.Changed, i.Excused, i.Crashes = g.version, g.tried, g.excused, g.crashes
	return i
}

// found makes the record of an instance that this run of the hub did not order:
// of the last one, or of a hub before it. Nil where there is none, or one that
// is on its way out: what is ordered is a new one.
func (w *rolloutStep) found(d *domain, seen *topics.Instance, now time.Time) *assignment {
	if seen == nil || seen.Revision == "" || !seen.State.Listed() && seen.State != topics.Finished || seen.State == topics.Stopping {
		return nil
	}
	g := &assignment{spec: w.next, identity: w.nextID, sent: true, since: now, restarts: seen.Restarts}
	switch base := rollout.Base(seen.Revision); {
	case w.stable != nil && base == w.stable.Revision:
		g.spec, g.identity = *w.stable, w.stableID
	case base == w.next.Revision:
		g.excused = slices.Contains(w.kept.Excused, d.Name)
	default:
		g.identity = "" // it goes on under its revision, until its turn comes
	}
	g.spec.Revision = seen.Revision
	if catalog := d.CatalogVersion(w.service); seen.Revision == rollout.Revise(seen.Revision, catalog, w.kept.Attempt) {
		g.version = catalog
		g.tried = seen.State != topics.Running || seen.Health != topics.Healthy
	}
	return g
}

// observe takes what the domain says of an instance.
func (g *assignment) observe(d *domain, seen *topics.Instance, epoch uint64, i *rollout.Instance, now time.Time) {
	i.Applied = g.sent && seen != nil && seen.Revision == g.spec.Revision
	if i.Applied && g.soft && g.good.IsZero() {
		// It had that revision before: its heartbeat reports that it took the rest.
		i.Applied = d.Heartbeat.Epoch == epoch && d.Heartbeat.Generation >= d.Ordered.Generation
	}
	if i.Online && !g.online || !g.sent || i.State == topics.Pending {
		// It is given its time anew. An exclusive one may wait until it is sent, and
		// then for a lease, which a hub that has just started gives nobody.
		g.since = now
	}
	g.online = i.Online
	if i.Applied && (i.State == topics.Backoff || i.State == topics.Failed) && seen.Since != g.backoff {
		g.backoff = seen.Since
		g.crashes++
	}
	if i.Applied {
		// A start counts where the crash before it was not seen.
		g.crashes = max(g.crashes, seen.Restarts-g.restarts)
	}
	well := i.Applied && i.Online && (i.State == topics.Running && i.Health == topics.Healthy || i.State == topics.Finished)
	switch {
	case !well && !g.good.IsZero():
		g.good, g.since = time.Time{}, now
	case well && g.good.IsZero():
		g.good = now
	}
	if well && (now.Sub(g.good) >= rollout.Watch(g.spec) || i.State == topics.Finished) {
		i.Proved = true
		g.tried, g.excused, g.hopeless, g.crashes, g.restarts = false, false, false, 0, seen.Restarts
	}
	i.Overdue = !well && now.Sub(g.since) >= rollout.Patience(g.spec)
}
