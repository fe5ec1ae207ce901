package hub

import (
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/fleet"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// reconcile is a pass: it takes over what has changed, plans, orders, and publishes what
// follows. Everything that is published is compared with what was published before, so it may
// be called freely. It looks at what has changed alone (changes); what a step changes that an
// earlier one has used is for the next pass.
//
// This is the one place that names the order of the steps.
func (h *Hub) reconcile(now time.Time) {
	// Scaling is first: its numbers are among the changes that are planned below.
	h.ops.scaling.Touch()
	h.scaleAll(now)

	// From here on, what is touched is for the next pass.
	c := h.begin()

	// The directory comes before all that reads it: endpoints, versions, plan and views.
	h.takeRows(c)
	// Versions of catalogs follow the rows: what may update is judged by both.
	h.takeCatalogs(c)
	// Endpoints follow from the rows; the planner has to know which domain has the best one.
	h.findEndpoints(c)

	// The planner has all changes before it plans once.
	h.updatePlanner(c)
	// Holds change by time alone and are among no changes: they are those of this moment.
	h.updateHolds(now)
	h.plan = h.planner.Plan()
	// What the plan changed is ordered and shown, whatever else has changed.
	h.planned(c, h.planner.Changes())

	// Start commands follow the plan, and are published before what describes them. Before
	// the domains from earlier have reported, a command could take from them what they run.
	if h.fleet.Ready() {
		h.directory.Settle() // who has the best endpoint in this run keeps it
		h.order(c, now)
	}

	// A service that is gone from the configuration is removed when no command holds it.
	h.dropRetired(now)
	// Leftovers of earlier runs are cleared once all definitions are there.
	h.clearLeftoverServices(now)
	// Restarts and moves go on by what was ordered above.
	h.expireRestarts(now)
	h.expireMoves(now)

	// Statuses describe what is decided by now.
	h.viewServices(c, now)
	// The hub's own status counts the statuses, so it follows them.
	h.publishHub(now)
	// How the hub sees a domain follows from the fleet alone; nothing above waits for it.
	h.publishConditions(c)
	// Home Assistant is last: an entity that it is announced has its state already.
	h.announceChanged(c, now)
}

// input is the observed home as the planner takes it.
func (h *Hub) input() planner.Input {
	in := planner.Input{
		Services:  slices.Collect(maps.Values(h.defs.Configured())),
		Retired:   slices.Collect(maps.Values(h.defs.RetiredDefinitions())),
		Overrides: h.store.Overrides(),
		Scaled:    h.ops.scaling.AllPlanned(),
		Holds:     h.holds(time.Now()),
	}
	for d := range h.fleet.All() {
		in.Domains = append(in.Domains, h.observed(d))
	}
	return in
}

// observed returns a domain as the planner takes it. Of one that is gone no instance counts;
// one that failed beyond hope is shown as failed, so that it is tried elsewhere.
func (h *Hub) observed(d *domain) planner.Domain {
	p := planner.Domain{
		Name: d.Name, State: d.State, Gone: d.Gone, Micro: d.Micro,
		Flapping: d.Flaps(), Machine: d.Machine,
		Ordered:  d.Ordered.Services,
		Chosen:   d.Chosen,
		Moving:   h.ops.moves.From(d.Name),
		Awaited:  h.fleet.Awaits(d),
		Unknown:  d.Status == nil,
		Catalog:  make(map[string]string),
		Observed: make(map[string]planner.Instance),
	}
	if d.Status == nil {
		return p
	}
	p.Secrets, p.NoSecrets = h.secretsFor(d)
	p.Draining, p.Traits = d.Status.Draining, d.Status.Traits
	p.Platform, p.Accept = d.Status.Platform, d.Status.Accept
	if !d.Micro && !topics.SameMajor(d.Status.Protocol) {
		p.Problem = "speaks protocol " + d.Status.Protocol + ", this hub " + topics.Protocol
	}
	for _, row := range d.Status.Catalog {
		p.Catalog[row.Service] = row.Version
	}
	for _, def := range h.defs.Bundled() {
		offerBundle(&p, def)
	}
	for _, i := range d.Status.Services {
		if d.Gone {
			break // it is unknown what runs there
		}
		if d.Micro && !d.Available {
			p.Observed[i.Service] = planner.Instance{} // it is built in, and away
			continue
		}
		p.Observed[i.Service] = planner.Instance{
			State: i.State, Done: done(i), Health: d.HealthOf(i), Version: i.Version, Order: d.RunningOrder[i.Service],
			Best: h.best(i.Service) == d.Name,
		}
		if h.ops.rollouts.Hopeless(i.Service, d.Name) {
			tried := p.Observed[i.Service]
			tried.State, tried.Health = topics.Failed, topics.UnknownHealth
			p.Observed[i.Service] = tried
		}
	}
	return p
}

// offerBundle has a service be in the catalog of a domain that takes its bundle. What is on
// the domain's own disk counts before it.
func offerBundle(p *planner.Domain, def *services.Definition) {
	if _, local := p.Catalog[def.Name]; !local && !p.Micro && planner.RefusesBundle(def, p) == "" {
		p.Catalog[def.Name] = def.Bundle.Version
	}
}

// order gives each domain whose desired set has changed a start command.
func (h *Hub) order(c *changes, now time.Time) {
	h.updateRollouts(c, now)
	timing := topics.Encode(h.cfg.Timing)
	specOf := make(map[string]ordered)
	for _, d := range h.touched(c) {
		if !d.TakesOrders() {
			continue
		}
		encoded, desired := append(slices.Clone(timing), h.signer(d)...), h.planner.Desired(d.Name)
		desired = slices.DeleteFunc(desired, func(service string) bool { return !h.mayOrder(d, h.defs.Get(service), now) })
		for _, service := range desired {
			o := h.written(specOf, d, service)
			encoded = append(append(encoded, service...), o.encoded...)
		}
		if string(encoded) == d.Ordered.Encoded {
			continue
		}
		specs := make(map[string]topics.Spec, len(desired))
		for _, service := range desired {
			specs[service] = h.written(specOf, d, service).spec
		}
		h.reportMoved(d, specs)
		h.noteChoices(d, specs)
		h.noteStops(d, specs)
		d.Ordered = h.command(d, specs, string(encoded), now)
		h.leases.Assigned(d.ID, h.epoch, d.Ordered.Generation, d.Ordered.Services)
		h.permitBundles(d, specs)
		h.pub.Publish(d.Ordered.Message)
		h.touch(d.Name) // the plan's lines follow from what is ordered
	}
	h.saveSecrets()
}

// ordered is a service as start commands carry it.
type ordered struct {
	spec    topics.Spec
	encoded []byte
}

// command returns the start command of a domain with the next generation, and the message
// that carries it.
func (h *Hub) command(d *domain, specs map[string]topics.Spec, encoded string, now time.Time) fleet.Order {
	o := fleet.Order{
		// A generation that the domain has received in this epoch and the hub has not
		// published was forged: stay above it, or the domain would refuse the commands.
		Generation: h.fencedGeneration(max(d.Ordered.Generation, d.ObeyedGeneration(h.epoch))+1, d, specs),
		Services:   make(map[string]bool, len(specs)),
		Encoded:    encoded, At: now,
	}
	for service := range specs {
		o.Services[service] = true
	}
	payload := topics.Encode(topics.StartCommand{
		Dominion: h.ID(), Domain: d.ID, Epoch: h.epoch, Generation: o.Generation, Run: h.leases.Run(),
		At: topics.At(now), Timing: h.cfg.Timing, Key: h.signer(d), Services: specs,
	})
	o.Message = h.tree.Message(topics.Address{Kind: topics.DomainServicesSet, Domain: d.Name}, h.signedFor(d, topics.DomainServicesSet, payload))
	return o
}

// noteChoices records why a domain was chosen for what it is assigned now: a later plan does
// not contain it any more. It is lost at a restart of the hub.
func (h *Hub) noteChoices(d *domain, specs map[string]topics.Spec) {
	before := d.Chosen
	d.Chosen = make(map[string]string)
	for service := range specs {
		because := before[service]
		if c := h.plan.Services[service].At(d.Name); c.Action == topics.ActionStart {
			because = c.Because
		}
		if because != "" {
			d.Chosen[service] = because
		}
	}
}

// reportMoved reports which services leave a lost domain.
func (h *Hub) reportMoved(d *domain, specs map[string]topics.Spec) {
	if !d.Gone {
		return
	}
	for _, service := range slices.Sorted(maps.Keys(d.Ordered.Services)) {
		_, stays := specs[service]
		if o := h.plan.Services[service]; !stays && o != nil && o.On {
			h.events.Add(topics.Event{Type: topics.ServiceMoved, Domain: d.Name, Service: service, Message: service + " moves away from " + d.Name + ", which is lost"})
		}
	}
}

// dependencies returns address:port of what a service needs, as last published: a
// dependency that is away for a moment keeps its place, so that nothing is
// ordered again for it.
func (h *Hub) dependencies(def services.Definition) map[string]string {
	addresses := make(map[string]string)
	for _, dep := range def.Dependencies {
		if address, is := h.directory.Address(dep.Service); is {
			addresses[dep.Service] = address
		}
	}
	return addresses
}

// dropRetired ends what is gone from the configuration once nothing of it is left.
func (h *Hub) dropRetired(now time.Time) {
	for _, name := range h.defs.Retired() {
		o := h.plan.Services[name]
		if o == nil || slices.ContainsFunc(o.Choices, func(c planner.Choice) bool { return c.Action != "" }) {
			continue
		}
		h.defs.Remove(name)
		h.changed.TouchAll() // what it needed may not be needed any more
		h.views.statuses.Remove(name)
		h.directory.Remove(name)
		h.forgetOverride(name)
		h.ops.rollouts.Remove(name)
		h.views.announcer.RemoveService(name, now)
		h.events.Add(topics.Event{Type: topics.ServiceRemoved, Service: name, Message: name + " is gone from the configuration"})
	}
}
