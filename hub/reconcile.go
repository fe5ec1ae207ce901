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

// reconcile plans, orders what has changed, and says what is. Everything that
// is said is compared with what was said before, so it may be called freely.
// It looks at what has changed alone (changes).
func (h *Hub) reconcile(now time.Time) {
	h.scaling.Touch() // of instances that came or went
	h.scaleAll(now)
	c := h.begin()
	h.takeRows(c)
	h.takeCatalogs(c)
	h.findEndpoints(c)
	h.updatePlanner(c)
	h.updateHolds(now)
	h.plan = h.planner.Plan()
	h.planned(c, h.planner.Changes())
	if h.fleet.Ready() {
		h.directory.Settle() // whoever was there before us is, and the endpoints go on from here
		h.order(c, now)
	}
	h.dropRetired(now)
	h.clearLeftoverServices(now)
	h.stepRestarts(now)
	h.expireMoves(now)
	h.viewServices(c, now)
	h.publishHub(now)
	h.publishConditions(c)
	h.announceChanged(c, now)
}

// input is the observed home as the planner takes it.
func (h *Hub) input() planner.Input {
	in := planner.Input{
		Services:  slices.Collect(maps.Values(h.defs)),
		Retired:   slices.Collect(maps.Values(h.retired)),
		Overrides: h.store.Overrides(),
		Scaled:    h.scaling.AllPlanned(),
		Holds:     h.holds(time.Now()),
	}
	for d := range h.fleet.All() {
		in.Domains = append(in.Domains, h.observed(d))
	}
	return in
}

func (h *Hub) observed(d *domain) planner.Domain {
	p := planner.Domain{
		Name: d.Name, State: d.State, Gone: d.Gone, Micro: d.Micro,
		Flapping: d.Flaps(), Machine: d.Machine,
		Ordered:  d.Ordered.Services,
		Chosen:   d.Chosen,
		Moving:   h.moves.leaving(d.Name),
		Awaited:  h.fleet.Awaits(d),
		Unknown:  d.Status == nil,
		Catalog:  make(map[string]string),
		Observed: make(map[string]planner.Instance),
	}
	if d.Status == nil {
		return p
	}
	p.Draining, p.Traits = d.Status.Draining, d.Status.Traits
	if !d.Micro && !topics.SameMajor(d.Status.Protocol) {
		p.Problem = "speaks protocol " + d.Status.Protocol + ", this hub " + topics.Protocol
	}
	for _, row := range d.Status.Catalog {
		p.Catalog[row.Service] = row.Version
	}
	for _, i := range d.Status.Services {
		if d.Gone {
			break // nobody knows what runs there
		}
		if d.Micro && !d.Available {
			p.Observed[i.Service] = planner.Instance{} // it is built in, and away
			continue
		}
		p.Observed[i.Service] = planner.Instance{
			State: i.State, Done: done(i), Health: d.HealthOf(i), Version: i.Version, Order: d.RunningOrder[i.Service],
			Best: h.best(i.Service) == d.Name,
		}
		if h.rollouts.Hopeless(i.Service, d.Name) {
			tried := p.Observed[i.Service]
			tried.State, tried.Health = topics.Failed, topics.UnknownHealth
			p.Observed[i.Service] = tried
		}
	}
	return p
}

// order gives each domain whose desired set has changed a start command.
func (h *Hub) order(c *changes, now time.Time) {
	h.updateRollouts(c, now)
	timing := topics.Encode(h.cfg.Timing)
	known := make(map[string]ordered)
	for _, d := range h.touched(c) {
		if !d.TakesOrders() {
			continue
		}
		encoded, desired := slices.Clone(timing), h.planner.Desired(d.Name)
		desired = slices.DeleteFunc(desired, func(service string) bool { return !h.mayOrder(d, h.definition(service), now) })
		for _, service := range desired {
			o := h.written(known, d, service)
			encoded = append(append(encoded, service...), o.encoded...)
		}
		if string(encoded) == d.Ordered.Encoded {
			continue
		}
		specs := make(map[string]topics.Spec, len(desired))
		for _, service := range desired {
			specs[service] = h.written(known, d, service).spec
		}
		h.reportMoved(d, specs)
		h.noteChoices(d, specs)
		h.noteStops(d, specs)
		d.Ordered = h.command(d, specs, string(encoded), now)
		h.leases.Assigned(d.ID, h.epoch, d.Ordered.Generation, d.Ordered.Services)
		h.pub.Publish(d.Ordered.Message)
		h.touch(d.Name) // the plan's lines follow from what is ordered
	}
}

// ordered is a service as start commands carry it.
type ordered struct {
	spec    topics.Spec
	encoded []byte
}

func (h *Hub) command(d *domain, specs map[string]topics.Spec, encoded string, now time.Time) fleet.Order {
	o := fleet.Order{
		// A generation that the domain has seen in this epoch and we have not
		// given was forged: stay above it, or our commands would be refused.
		Generation: h.fencedGeneration(max(d.Ordered.Generation, d.SeenGeneration(h.epoch))+1, d, specs),
		Services:   make(map[string]bool, len(specs)),
		Encoded:    encoded, At: now,
	}
	for service := range specs {
		o.Services[service] = true
	}
	o.Message = h.tree.Message(topics.Address{Kind: topics.DomainServicesSet, Domain: d.Name}, topics.Encode(topics.StartCommand{
		Dominion: h.ID(), Domain: d.ID, Epoch: h.epoch, Generation: o.Generation, Run: h.leases.Run(),
		At: topics.At(now), Timing: h.cfg.Timing, Services: specs,
	}))
	return o
}

// noteChoices keeps why a domain was chosen for what it is given now: a plan
// that is made later cannot tell any more. A restart of the hub forgets it.
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

// reportMoved says which services leave a lost domain.
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

// dependencies returns address:port of what a service needs, as last known: a
// dependency that is away for a moment keeps its place, so that nothing is
// ordered anew for it.
func (h *Hub) dependencies(def services.Definition) map[string]string {
	known := make(map[string]string)
	for _, dep := range def.Dependencies {
		if address, is := h.directory.Address(dep.Service); is {
			known[dep.Service] = address
		}
	}
	return known
}

func (h *Hub) definition(name string) services.Definition {
	if d, ok := h.defs[name]; ok {
		return d
	}
	return h.retired[name]
}

// dropRetired ends what is gone from the configuration once nothing of it is left.
func (h *Hub) dropRetired(now time.Time) {
	for name := range h.retired {
		o := h.plan.Services[name]
		if o == nil || slices.ContainsFunc(o.Choices, func(c planner.Choice) bool { return c.Action != "" }) {
			continue
		}
		delete(h.retired, name)
		h.dirty = true // what it needed may not be needed any more
		delete(h.views, name)
		h.statuses.Remove(name)
		h.directory.Remove(name)
		h.forgetOverride(name)
		h.rollouts.Remove(name)
		h.announcer.RemoveService(name, now)
		h.events.Add(topics.Event{Type: topics.ServiceRemoved, Service: name, Message: name + " is gone from the configuration"})
	}
}
