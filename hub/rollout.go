package hub

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// rolloutState is how one service changes.
type rolloutState struct {
	out       rollout.Output
	next      topics.Spec // of the definition, and its identity
	nextID    string
	quiet     bool              // all is as it is to be, and only what changes can change that
	at        time.Time         // when time changes something; zero: never
	announced string            // what was announced: "the changed definition"; "" nothing
	reasons   map[string]string // by domain
}

// updateRollouts decides what the instances are ordered as: those of the services that
// something has changed about.
func (h *Hub) updateRollouts(c *changes, now time.Time) {
	work := make(map[string][]*domain) // those that changed, of those that are to hold it
	look := func(service string, changed ...*domain) { work[service] = append(work[service], changed...) }
	for service := range c.services {
		look(service)
	}
	for name := range c.domains {
		d := h.fleet.Get(name)
		if d == nil {
			continue
		}
		desired := h.planner.Desired(name)
		for service := range assignmentsOf(d) {
			if !slices.Contains(desired, service) {
				delete(assignmentsOf(d), service)
				look(service)
			}
		}
		if d.TakesOrders() {
			for _, service := range desired {
				look(service, d)
			}
		}
	}
	if c.whole {
		for service := range h.rollouts {
			look(service)
		}
	}
	for _, service := range slices.Sorted(maps.Keys(work)) {
		h.rollService(c, service, work[service], now)
	}
	h.dueRollouts()
}

// holders are the domains that are to hold an instance of a service, and are
// given orders, by name.
func (h *Hub) holders(service string) []*domain {
	o := h.plan.Services[service]
	if o == nil {
		return nil
	}
	holders := make([]*domain, 0, len(o.Choices))
	for _, choice := range o.Choices {
		if d := h.fleet.Get(choice.Domain); choice.Runs() && d != nil && d.TakesOrders() {
			holders = append(holders, d)
		}
	}
	return holders
}

// dueRollouts sets the moment at which time changes something.
func (h *Hub) dueRollouts() {
	h.rollAt = time.Time{}
	for _, r := range h.rollouts {
		if !r.at.IsZero() && (h.rollAt.IsZero() || r.at.Before(h.rollAt)) {
			h.rollAt = r.at
		}
	}
	if !h.rollAt.IsZero() {
		h.due(h.rollAt)
	}
}

// expireRollouts looks again where time has changed something.
func (h *Hub) expireRollouts(now time.Time) {
	if h.rollAt.IsZero() {
		return
	}
	if now.Before(h.rollAt) {
		h.due(h.rollAt)
		return
	}
	for service, r := range h.rollouts {
		if !r.at.IsZero() && !now.Before(r.at) {
			r.at = time.Time{}
			h.touchService(service)
		}
	}
	h.dueRollouts()
}

// pruneRollouts forgets services that are gone from the configuration since the
// last run: what was rolled out then is of no use, and may hold secrets.
func (h *Hub) pruneRollouts() {
	for _, service := range h.store.Rollouts() {
		if !h.defined(service) {
			h.store.Change(func(s *store.State) { delete(s.Rollouts, service) })
		}
	}
}

// rolloutStep is one service while it is decided on.
type rolloutStep struct {
	service  string
	def      services.Definition
	next     topics.Spec
	nextID   string
	stable   *topics.Spec
	stableID string
	kept     store.Rollout
	holders  []*domain
	needs    []rollout.Need
	epoch    uint64
}

func (h *Hub) rollService(c *changes, service string, changed []*domain, now time.Time) {
	r := h.rollouts[service]
	w := &rolloutStep{service: service, epoch: h.epoch}
	if r != nil && r.quiet && !c.whole {
		w.next, w.nextID, w.stableID = r.next, r.nextID, r.nextID
		w.stable, w.kept = &r.next, h.store.Rollout(service)
		if h.staysQuiet(w, changed, now) {
			return
		}
	}
	if w.holders = h.holders(service); len(w.holders) == 0 {
		delete(h.rollouts, service) // switched off
		return
	}
	w.def = h.definition(service)
	if r == nil || c.whole {
		next := w.def.Spec(nil)
		if r == nil {
			r = new(rolloutState)
			h.rollouts[service] = r
		}
		r.next, r.nextID = next, rollout.Identity(next)
	}
	w.next, w.nextID, w.needs = r.next, r.nextID, h.rangesOf(service)
	h.loadRollout(w)
	var in rollout.Input
	for { // each failure refuses something, so that this ends
		in = w.input(now)
		r.out = rollout.Decide(in)
		if r.out.Failure == nil {
			break
		}
		h.refuseChange(w, *r.out.Failure)
		r.announced = ""
	}
	h.reportRollout(w, r)
	if r.out.Done {
		h.rolledOut(w)
	}
	h.applyOrders(c, w, r, now)
	h.judgeHopeless(w, in)
	c.services[service] = true
	r.quiet = in.HasStable && in.Same && !r.out.Active && r.out.Problem == "" && len(w.kept.Versions) == 0 &&
		!slices.ContainsFunc(in.Instances, func(i rollout.Instance) bool { return !upToDate(i) })
	r.at = time.Time{}
	if !r.quiet {
		r.at = w.due(r.out.Active || w.stable == nil || w.stableID != w.nextID, now)
	}
}

// upToDate reports whether nothing is to be done about an instance.
func upToDate(i rollout.Instance) bool {
	return i.Runs == rollout.Next && !i.Changed && (i.Catalog == "" || i.Catalog == i.Version || i.State == topics.Finished)
}

// staysQuiet looks at those instances of a quiet service that something has
// changed about. A home of many has many that nothing has.
func (h *Hub) staysQuiet(w *rolloutStep, changed []*domain, now time.Time) bool {
	for _, d := range changed {
		switch {
		case upToDate(w.look(d, now)):
		case assignmentsOf(d)[w.service] == nil: // a new one, of what runs everywhere
			h.assignDefinition(w, d, rollout.Next, now)
		default:
			return false
		}
	}
	return true
}

// loadRollout reads what is kept of a service, and drops what another definition has
// made void.
func (h *Hub) loadRollout(w *rolloutStep) {
	w.kept = h.store.Rollout(w.service)
	if w.kept.Refused != "" && w.kept.Refused != w.nextID || len(w.kept.Excused) > 0 && w.kept.Stable != nil && rollout.Identity(*w.kept.Stable) == w.nextID {
		h.keepRollout(w, func(k *store.Rollout) { k.Refused, k.Why, k.Excused = "", "", nil })
	}
	w.stable = w.kept.Stable
	if w.stable == nil {
		return
	}
	w.stableID = rollout.Identity(*w.stable)
	if w.stableID == w.nextID && !reflect.DeepEqual(*w.stable, w.next) {
		h.rolledOut(w) // timeouts and the like are in force at once
	}
}

func (h *Hub) keepRollout(w *rolloutStep, change func(*store.Rollout)) {
	change(&w.kept)
	h.store.Change(func(s *store.State) { s.Rollouts[w.service] = w.kept })
}

// rolledOut makes the definition of the configuration the stable one.
func (h *Hub) rolledOut(w *rolloutStep) {
	next := w.next
	w.stable, w.stableID = &next, w.nextID
	h.keepRollout(w, func(k *store.Rollout) { k.Stable, k.Excused = &next, nil })
}

// input is the service as package rollout takes it.
func (w *rolloutStep) input(now time.Time) rollout.Input {
	in := rollout.Input{
		Same: w.stable != nil && w.stableID == w.nextID, HasStable: w.stable != nil,
		Refused: w.kept.Why, RefusedVersions: w.kept.Versions,
		Needs:  w.needs,
		Manual: w.def.Update == services.UpdateManual, Approved: w.kept.Approved,
	}
	for _, d := range w.holders {
		in.Instances = append(in.Instances, w.look(d, now))
	}
	return in
}

// rangesOf returns the ranges of versions in which services that are wanted need
// one.
func (h *Hub) rangesOf(service string) (all []rollout.Need) {
	for name, def := range h.defs {
		for _, dep := range def.Dependencies {
			if o := h.plan.Services[name]; dep.Service == service && dep.Version.String() != "" && o != nil && o.On {
				all = append(all, rollout.Need{By: name, Service: service, Version: dep.Version})
			}
		}
	}
	slices.SortFunc(all, func(a, b rollout.Need) int { return strings.Compare(a.By, b.By) })
	return all
}

// refuseChange remembers what did not get healthy, so that nobody tries it again, a
// hub that is started anew neither, and says it.
func (h *Hub) refuseChange(w *rolloutStep, f rollout.Failure) {
	why := fmt.Sprintf("on %s %s", f.Domain, f.Why)
	if d := h.fleet.Get(f.Domain); d != nil {
		if seen := d.Instance(w.service); seen != nil && seen.Message != "" {
			line, _, _ := strings.Cut(topics.CutNextTry(seen.Message), "\n")
			why += " (" + line + ")"
		}
	}
	message := fmt.Sprintf("%s: version %s did not get healthy, %s: it goes no further", w.service, f.Version, why)
	h.keepRollout(w, func(k *store.Rollout) {
		if f.Version != "" {
			k.Versions = maps.Clone(k.Versions)
			if k.Versions == nil || len(k.Versions) >= maxVersions {
				k.Versions = make(map[string]string)
			}
			k.Versions[f.Version] = why
			return
		}
		k.Refused, k.Why = w.nextID, why
		if w.stable != nil {
			message = fmt.Sprintf("%s: the changed definition did not get healthy, %s: back to the one before", w.service, why)
		} else {
			message = fmt.Sprintf("%s: the changed definition did not get healthy, %s: it goes no further", w.service, why)
		}
	})
	h.events.Add(topics.Event{Type: topics.ServiceReverted, Domain: f.Domain, Service: w.service, Message: message})
}

// maxVersions bounds how many refused versions are remembered of one service.
const maxVersions = 50

// reportRollout says when a rollout begins and when it is done.
func (h *Hub) reportRollout(w *rolloutStep, r *rolloutState) {
	what := "the changed definition"
	if r.out.Version != "" {
		what = "version " + r.out.Version
	}
	switch {
	case r.out.Active && !r.out.Back && r.announced == "":
		r.announced = what
		h.events.Add(topics.Event{Type: topics.ServiceUpdating, Service: w.service, Message: fmt.Sprintf("%s: %s is rolled out, %s one by one", w.service, what, count(r.out.Total, "instance"))})
	case !r.out.Active && r.announced != "":
		if r.out.Updated == r.out.Total && r.out.Total > 0 {
			h.events.Add(topics.Event{Type: topics.ServiceUpdated, Service: w.service, Message: fmt.Sprintf("%s: %s is rolled out, %s healthy", w.service, r.announced, count(r.out.Total, "instance"))})
		}
		r.announced = ""
	}
}

// due returns when time changes something about a service; zero: never.
func (w *rolloutStep) due(active bool, now time.Time) (due time.Time) {
	at := func(t time.Time) {
		if t.After(now) && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	for _, d := range w.holders {
		g := assignmentsOf(d)[w.service]
		if catalog, seen := d.CatalogVersion(w.service), d.Instance(w.service); seen != nil && catalog != "" && catalog != seen.Version {
			at(d.CatalogSince[w.service].Add(rollout.SettleCatalog))
		}
		switch {
		case g == nil || !active && !g.tried && len(w.kept.Versions) == 0:
		case !g.good.IsZero():
			at(g.good.Add(rollout.Watch(g.spec)))
		case g.soft:
			at(now.Add(time.Second)) // the heartbeat that shows that it took it wakes nobody
		default:
			at(g.since.Add(rollout.Patience(g.spec)))
		}
	}
	return due
}
