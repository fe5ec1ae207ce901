package hub

import (
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// assignment is what an instance was ordered as, and what came of it since.
type assignment struct {
	spec     topics.Spec // with the revision it was ordered under, without addresses
	identity string      // of the definition behind it; "" unknown
	version  string      // the version it was restarted for, by a rollout
	soft     bool        // it had that revision before, too
	plain    bool        // spec is that of the configuration, to the letter

	tried    bool // changed by a rollout, and not well for long enough since
	excused  bool // it was in trouble before that
	hopeless bool // its version was refused, and it is in trouble

	sent     bool      // the start command that holds it is out
	online   bool      // its domain was, when it was last looked at
	since    time.Time // since when it is waited for
	good     time.Time // since when it is well; zero: it is not
	restarts int       // of the agent's count, those that are no crashes
	crashes  int
	backoff  topics.Time // of the last crash that was counted
}

// assignmentsOf returns what the instances of a domain were ordered as, by service.
func assignmentsOf(d *domain) map[string]*assignment {
	all, _ := d.Assigned.(map[string]*assignment)
	if all == nil {
		all = make(map[string]*assignment)
		d.Assigned = all
	}
	return all
}

// applyOrders carries the orders out: the next start commands hold them.
func (h *Hub) applyOrders(c *changes, w *rolloutStep, r *rolloutState, now time.Time) {
	r.reasons = nil
	for n, o := range r.out.Orders {
		d := w.holders[n]
		if o.Reason != "" {
			if r.reasons == nil {
				r.reasons = make(map[string]string)
			}
			r.reasons[o.Domain] = o.Reason
		}
		switch {
		case o.Runs != rollout.None:
			c.domains[d.Name] = true
			h.assignDefinition(w, d, o.Runs, now)
		case o.Restart != "":
			c.domains[d.Name] = true
			g := assignmentsOf(d)[w.service]
			g.version = o.Restart
			g.spec.Revision = rollout.Revise(g.spec.Revision, o.Restart, w.kept.Attempt)
			g.begin(d.Instance(w.service), now)
			g.plain = false
		}
	}
}

func (h *Hub) assignDefinition(w *rolloutStep, d *domain, which rollout.Definition, now time.Time) {
	spec, identity := w.next, w.nextID
	if which == rollout.Stable && w.stable != nil {
		spec, identity = *w.stable, w.stableID
	}
	before, seen := assignmentsOf(d)[w.service], d.Instance(w.service)
	g := &assignment{spec: spec, identity: identity, since: now, online: d.State == topics.DomainIsOnline}
	if before != nil {
		switch {
		case rollout.Base(before.spec.Revision) == spec.Revision:
			g.spec.Revision, g.version, g.soft = before.spec.Revision, before.version, true // nothing of it needs a restart
		case seen != nil && seen.State.Listed() && rollout.Base(seen.Revision) == spec.Revision:
			// It never took what is taken back: it was away, and runs on as it was.
			g.spec.Revision, g.soft = seen.Revision, true
			if catalog := d.CatalogVersion(w.service); seen.Revision == rollout.Revise(seen.Revision, catalog, w.kept.Attempt) {
				g.version = catalog
			}
		}
		g.tried, g.excused = before.tried, before.excused
		g.begin(seen, now)
		if g.excused && identity == w.nextID && !slices.Contains(w.kept.Excused, d.Name) {
			h.keepRollout(w, func(k *store.Rollout) { k.Excused = append(slices.Clone(k.Excused), d.Name) })
		}
	}
	g.plain = identity == w.nextID && g.spec.Revision == w.next.Revision
	assignmentsOf(d)[w.service] = g
}

// begin begins to wait for an instance that is changed now.
func (g *assignment) begin(seen *topics.Instance, now time.Time) {
	ours := g.tried && !g.excused // trouble that a rollout brought tells of that
	g.tried, g.sent, g.since, g.good = true, false, now, time.Time{}
	g.crashes, g.restarts, g.backoff = 0, 0, topics.Time{}
	if seen == nil {
		return
	}
	g.backoff = seen.Since
	g.restarts = seen.Restarts + 1 // the start that is ordered is no crash
	g.excused = !ours && (seen.State == topics.Backoff || seen.State == topics.Failed ||
		seen.State == topics.Running && seen.Health == topics.Unhealthy)
}

// judgeHopeless marks what the planner shall try elsewhere: an instance whose
// version was refused and that is in trouble. Files cannot be taken back.
func (h *Hub) judgeHopeless(w *rolloutStep, in rollout.Input) {
	for n, d := range w.holders {
		g, i := assignmentsOf(d)[w.service], &in.Instances[n]
		if g == nil {
			continue
		}
		hopeless := w.kept.Versions[i.Version] != "" && i.Trouble() != "" && !w.def.Exclusive
		if hopeless != g.hopeless {
			g.hopeless = hopeless
			h.touch(d.Name)
		}
	}
}

// written returns a service as the start command of a domain carries it. What
// is as configured is written once a pass, not once a domain.
func (h *Hub) written(known map[string]ordered, d *domain, service string) ordered {
	g := assignmentsOf(d)[service]
	key := service
	if !g.plain {
		key += " " + g.identity + " " + g.spec.Revision
	}
	choice := h.plan.Services[service].At(d.Name)
	if choice.Ranges != "" {
		key += "\n" + choice.Ranges
	}
	o, done := known[key]
	if !done {
		o.spec = g.spec
		if addresses := h.dependencies(h.definition(service)); len(addresses) > 0 {
			o.spec.Dependencies = addresses
		}
		o.spec.Versions = choice.Versions()
		o.encoded = topics.Encode(o.spec)
		known[key] = o
	}
	g.sent = true
	return o
}
