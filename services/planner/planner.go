// Package planner decides which services run on which domains. It is pure:
// New takes all it needs as a value and returns data with reasons. It reads
// no clock, logs nothing, uses no randomness; the same input gives the same plan.
//
// hub holds a Planner, passes every change to it and executes its plan: a Planner
// plans again only what a change affects (incremental.go), and its plan is always the
// one that New makes of the whole home. What depends on time (that a domain has been
// lost for too long) is part of the input.
//
// # Files
//
//	exclusive.go      which copy of an exclusive service stays, and when another may start
//	explain.go        why a service waits or does not run
//	fit.go            which domain can run a service
//	forecast.go       what a plan would do, in order
//	home.go           the home as the rules read it
//	incremental.go    planning again only what changed
//	inputs.go         changes of the home in: domains, definitions, overrides
//	microdomains.go   what is built into microdomains
//	place.go          placing the copies of a service
//	planner.go        input, plan, what is wanted
//	rebalance.go      what a rebalance moves
//	scaled_number.go  numbers by a figure
//	score.go          which domain is the best: criteria, load, resources
//	surplus.go        which of too many copies stays
//	versions.go       versions that dependents need
package planner

import (
	"maps"
	"slices"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Input is the observed home.
type Input struct {
	Services  []services.Definition
	Retired   []services.Definition // gone from the configuration, but something of them may run
	Overrides map[string]Override   // what users have set, by service
	Scaled    map[string]Scaled     // by service, of those that are scaled by a figure
	Holds     map[string]Hold       // by service, of the exclusive ones
	Domains   []Domain
}

// Override is what a user has set for a service at run time. The zero Override sets nothing.
type Override struct {
	Switch   string `json:"switch,omitempty"`   // topics.On, topics.Off, or "": by the priority
	Replicas int    `json:"replicas,omitempty"` // 0: by the configuration
}

// Domain is what is known of one domain.
type Domain struct {
	Name     string
	State    topics.DomainState
	Gone     bool   // lost for so long that its services move
	Micro    bool   // runs what is built into it, and takes no orders
	Draining bool   // is assigned nothing, and what runs there moves
	Problem  string // why it takes no orders; "" when it does
	Flapping bool   // was lost too often lately: nothing is moved to it that can run elsewhere
	Machine  Machine
	Traits   []string
	// Catalog has the version by service: of what is on its disk, and of the bundles that it
	// takes (RefusesBundle).
	Catalog  map[string]string
	Ordered  map[string]bool     // what the last start command held
	Observed map[string]Instance // what its agent reports
	Moving   map[string]bool     // services whose copy is to move elsewhere, for a rebalance
	Awaited  bool                // it is lost, and may be back in a moment: the hub has just started
	// Platform is which programs run on it, and Accept how far it trusts its dominion; "": its
	// agent is older.
	Platform, Accept string
	// Secrets are the names of those that it can be given. NoSecrets is why it can be given
	// none, as a part of a reason; "": it can.
	Secrets   map[string]bool
	NoSecrets string
	Unknown   bool              // nothing is known of what it has
	Chosen    map[string]string // Choice.Because of what it was ordered, where that is known
}

// Instance is what the agent reports of one service on its domain. The zero one is of
// a microdomain that is offline and has the service built in.
type Instance struct {
	State   topics.State
	Health  topics.Health
	Version string
	Done    bool   // it finished with exit code 0
	Order   uint64 // orders instances of otherwise equal rank: the least was seen running first
	Best    bool   // the first of the service's endpoints
}

func (i Instance) usable() bool { return i.State == topics.Running && i.Health == topics.Healthy }

// Plan is what should be.
type Plan struct {
	Services map[string]*Outcome
}

// Outcome is what should become of one service. It is never changed.
type Outcome struct {
	On      bool     // whether it is wanted at all
	Wanted  int      // how many instances should run
	Reason  string   // why, in words
	Broken  string   // a dependency runs in no version that it can use, and what to do; "": none
	BuiltIn int      // how many of them are microdomains', which run whatever is planned
	Choices []Choice // by domain: of those that could run it, were given it or tell of it
}

// At returns what should become of the service on a domain; the zero Choice where the
// domain has none, or o is nil: the service is not planned yet.
func (o *Outcome) At(domain string) Choice {
	if o == nil {
		return Choice{}
	}
	i, found := find(o.Choices, domain)
	if !found {
		return Choice{}
	}
	return o.Choices[i]
}

// Choice is what should become of a service on a domain.
type Choice struct {
	Domain string
	Action string // topics.ActionStart, …Keep, …Stop, …Wait; "" when it is not to run there and does not
	Reason string
	// Because is, of a start, in what this domain was better than the next one, for
	// later descriptions; "" where there was no choice.
	Because string
	// Ranges are the ranges of versions in which it is to be started, "app <2, tv
	// >=1", each with the service that runs and needs it; see Versions.
	Ranges string
}

// Runs reports whether the service belongs into the domain's start command.
func (c Choice) Runs() bool { return c.Action == topics.ActionStart || c.Action == topics.ActionKeep }

// Desired returns the services that belong into each domain's start command,
// by name.
func (p Plan) Desired() map[string][]string {
	desired := make(map[string][]string)
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		for _, c := range p.Services[name].Choices {
			if c.Runs() {
				desired[c.Domain] = append(desired[c.Domain], name)
			}
		}
	}
	return desired
}

// Lines returns the plan as people read it: what changes first, in the order
// of service and domain.
func (p Plan) Lines() []topics.PlanLine {
	lines := []topics.PlanLine{}
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		o := p.Services[name]
		for _, c := range o.Choices {
			if c.Action != "" {
				lines = append(lines, topics.PlanLine{Action: c.Action, Service: name, Domain: c.Domain, Reason: c.Reason})
			}
		}
		if o.On && o.BuiltIn == 0 && !slices.ContainsFunc(o.Choices, func(c Choice) bool { return c.Runs() || c.Action == topics.ActionWait }) {
			lines = append(lines, topics.PlanLine{Action: topics.ActionWait, Service: name, Reason: o.Reason})
		}
	}
	rank := map[string]int{topics.ActionStart: 0, topics.ActionStop: 1, topics.ActionWait: 2, topics.ActionKeep: 3}
	slices.SortStableFunc(lines, func(a, b topics.PlanLine) int { return rank[a.Action] - rank[b.Action] })
	return lines
}

// New plans. It is what a Planner's plan of the same home is, too, line by line.
func New(in Input) Plan { return NewPlanner(in).Plan() }

// NewUntil plans as New does, unless stop reports true meanwhile, which it is
// asked between domains and between services: ok is false then, and there is no
// plan.
func NewUntil(in Input, stop func() bool) (plan Plan, ok bool) {
	plan = newPlanner(in, stop).Plan()
	return plan, !stop()
}

// wanted is an ordered table: the first row that fits decides.
func (h *home) wanted(name string) (on bool, why string) {
	d, want := h.defs[name], h.overrides[name]
	var needers []string
	needed := func() bool { // not computed where it does not matter: there may be hundreds
		needers = h.needers(name)
		return len(needers) > 0
	}
	switch {
	case h.retired[name]:
		return false, "gone from the configuration"
	case want.Switch == topics.Off:
		return false, "switched off"
	case d.Priority == services.Required:
		return true, "required"
	case want.Switch == topics.On:
		return true, "switched on"
	case needed():
		return true, "needed by " + list(needers)
	case len(h.dependents[name]) == 0:
		return false, "nothing depends on it"
	default:
		return false, "nothing that is wanted and could run needs it"
	}
}

// needers are the wanted services that depend on name and have an online
// domain that could run them. One whose domains are offline starts nothing, but
// does not stop what runs for it either: an agent may just be restarting.
func (h *home) needers(name string) []string {
	var all []string
	for _, t := range h.dependents[name] {
		if h.on[t] && (h.hasPlace(t) == open || h.hasPlace(t) == away && h.isPresent(name)) {
			all = append(all, t)
		}
	}
	slices.Sort(all)
	return all
}

// room is whether a service has a place.
type room int

const (
	none room = iota
	away      // it has, as soon as a domain is back
	open      // it has, or it is where its domain is only offline
)

// findPlace reports whether a domain that is not gone could run a service, or goes on
// running it because nothing can replace it.
func (h *home) findPlace(s *subject) room {
	found := none
	for _, c := range s.cells {
		d := c.site
		if d.Gone || d.Draining {
			continue
		}
		if has, runs := c.builtIn(); runs {
			return open
		} else if has && d.State != topics.DomainIsOnline {
			found = away
			continue
		}
		switch u := h.unfitAt(c); {
		case u.reason != "" && (u.ends != endsWhenReplaced || !c.ordered || !c.instance.State.Listed()):
		case d.State == topics.DomainIsOnline || c.ordered || c.runs():
			return open
		default:
			found = away
		}
	}
	return found
}

// isPresent reports whether anything of a service runs or was ordered.
func (h *home) isPresent(name string) bool {
	return slices.ContainsFunc(h.subject(name).cells, func(c *cell) bool { return !c.site.Gone && c.burdens() })
}

// target is the number of instances that are wanted of a service that is on;
// all is true where that is one on every domain that can run it.
func (h *home) target(name string) (n int, all bool) {
	d := h.defs[name]
	switch {
	case d.Exclusive:
		return 1, false
	case h.overrides[name].Replicas > 0:
		return h.overrides[name].Replicas, false
	case d.Scale != nil:
		return h.scaled(name, d.Scale), false
	case d.Replicas > 0:
		return d.Replicas, false
	case d.Priority == services.Required:
		return 0, true
	default:
		return 1, false
	}
}
