// Package rollouts holds how each service changes: what its instances are assigned, what
// has come of that since, and which versions the catalogs have. services/rollout decides
// what follows from it; this package is its memory, and makes its decisions assignments,
// events and the update that is published of a service.
//
// It does no I/O and knows no other part of the hub: it asks the functions of Home for
// instances and definitions, and returns what changed. Package hub alone imports it, and
// calls it from its loop.
package rollouts

import (
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// Rollouts holds the rollouts of all services. Make it with New.
type Rollouts struct {
	home Home
	// services are those that have an instance somewhere.
	services map[string]*serviceState
	// due is when time changes something about a service; those without are not in it.
	due map[string]time.Time
	// assigned holds by domain and service what each instance is assigned.
	assigned map[string]map[string]*assignment
	// catalogs holds the version of each service by domain, and versions counts by service
	// how many of them have a version.
	catalogs map[string]map[string]string
	versions map[string]map[string]int

	// instances and inputs are buffers of Step, empty between two of them.
	instances []Instance
	inputs    []rollout.Instance
}

// serviceState is how one service changes.
type serviceState struct {
	output rollout.Output
	// next is the spec of the configured definition, nextID its identity.
	next   topics.Spec
	nextID string
	// upToDate is set where all instances are as configured: only a change of one of them,
	// or of the definition, can make a difference.
	upToDate bool
	// announced is what the last service_updating event was about; "": nothing is rolled out.
	announced string
	// reasons are by domain.
	reasons map[string]string
}

// Home is what the hub knows. Its functions are called within Step and Update alone.
type Home struct {
	// Definition returns the definition of a service.
	Definition func(service string) services.Definition
	// Secrets returns what stands for the values of a service's secrets in its revision, by
	// name.
	Secrets func(service string) map[string]string
	// Needs returns in which ranges of versions others need a service, in a fixed order.
	Needs func(service string) []rollout.Need
	// Domains returns the domains that are to have an instance of a service, and are given
	// start commands, by name.
	Domains func(service string) []string
	// Instance returns the state of a service on a domain.
	Instance func(service, domain string) Instance
	// Message returns what the agent of a domain reports about an instance, in one line.
	Message func(service, domain string) string
	// Record returns what is persisted of a service. It is not changed.
	Record func(service string) rollout.Record
	// Persist replaces what is persisted of a service.
	Persist func(service string, r rollout.Record)
}

// Instance is the state of a service on one domain.
type Instance struct {
	Domain string
	// Online and Draining are states of the domain.
	Online, Draining bool
	// Reported is what the domain reports of the service; nil: nothing.
	Reported *topics.Instance
	// Health is that of Reported.
	Health topics.Health
	// Catalog is the version in the domain's catalog; "": unknown.
	Catalog string
	// CatalogSince is since when it has that version.
	CatalogSince time.Time
	// Current reports that the domain obeys the last start command that it was given.
	Current bool
}

// Result is what a step changed.
type Result struct {
	// Decided reports that a decision was made: what is published of the service may be
	// another thing.
	Decided bool
	// Assigned are the domains of which an instance was assigned something else.
	Assigned []string
	// Replan are the domains of which Hopeless reports something else than before.
	Replan []string
	// Events are those to report, in order.
	Events []topics.Event
}

// New returns rollouts of no service.
func New(home Home) *Rollouts {
	return &Rollouts{
		home: home, services: make(map[string]*serviceState), due: make(map[string]time.Time),
		assigned: make(map[string]map[string]*assignment),
		catalogs: make(map[string]map[string]string), versions: make(map[string]map[string]int),
	}
}

// Services returns the services that have an instance somewhere.
func (r *Rollouts) Services() []string { return slices.Collect(maps.Keys(r.services)) }

// Expire returns the services of which time has changed something: they need a Step.
func (r *Rollouts) Expire(now time.Time) (services []string) {
	for service, at := range r.due {
		if !now.Before(at) {
			delete(r.due, service)
			services = append(services, service)
		}
	}
	return services
}

// Next returns when Expire has something to return; zero: not by itself.
func (r *Rollouts) Next() (next time.Time) {
	for _, at := range r.due {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// Remove forgets a service, and what is persisted of it.
func (r *Rollouts) Remove(service string) {
	r.end(service)
	if !r.home.Record(service).IsZero() {
		r.home.Persist(service, rollout.Record{})
	}
}

// end forgets how a service changes that has no instances any more.
func (r *Rollouts) end(service string) {
	delete(r.services, service)
	delete(r.due, service)
}

// RemoveDomain forgets what the instances of a domain are assigned.
func (r *Rollouts) RemoveDomain(domain string) { delete(r.assigned, domain) }

// RenameDomain has a domain go on under another name, in place of the one that had it.
func (r *Rollouts) RenameDomain(from, to string) {
	assigned := r.assigned[from]
	delete(r.assigned, from)
	delete(r.assigned, to)
	if assigned != nil {
		r.assigned[to] = assigned
	}
}

// Retain forgets what the instances of a domain are assigned, but for the services that it
// is to have. It returns those that it forgot: they need a Step.
func (r *Rollouts) Retain(domain string, desired []string) (removed []string) {
	assigned := r.assigned[domain]
	for service := range assigned {
		if !slices.Contains(desired, service) {
			delete(assigned, service)
			removed = append(removed, service)
		}
	}
	return removed
}

// Assigned returns the spec that an instance is assigned, without addresses; nil: none. It
// must not be changed. Instances of a service that have the same variant have the same
// spec; that of the configuration has the variant "".
func (r *Rollouts) Assigned(service, domain string) (spec *topics.Spec, variant string) {
	a := r.assigned[domain][service]
	if a == nil {
		return nil, ""
	}
	if !a.configured {
		variant = a.identity + " " + a.spec.Revision
	}
	return &a.spec, variant
}

// MarkSent notes that a start command with what an instance is assigned is given now: from
// now on the instance has to get healthy with it.
func (r *Rollouts) MarkSent(service, domain string) {
	if a := r.assigned[domain][service]; a != nil {
		a.sent = true
	}
}

// Hopeless reports whether the planner has to try an instance elsewhere: its version was
// refused and it is in trouble, and files on a domain's disk cannot be taken back.
func (r *Rollouts) Hopeless(service, domain string) bool {
	a := r.assigned[domain][service]
	return a != nil && a.hopeless
}

func (r *Rollouts) assign(service, domain string, a *assignment) {
	if r.assigned[domain] == nil {
		r.assigned[domain] = make(map[string]*assignment)
	}
	r.assigned[domain][service] = a
}
