package planner

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Presence is where the services of a home are: by service and domain, whether the
// copy serves or may soon. A copy that has failed does not.
type Presence map[string]map[string]bool

// PresenceOf returns where the services of a home are.
func PresenceOf(in Input) Presence {
	p := make(Presence)
	add := func(service, domain string, serves bool) {
		if p[service] == nil {
			p[service] = make(map[string]bool)
		}
		p[service][domain] = serves
	}
	for _, d := range in.Domains {
		if d.Gone {
			continue
		}
		for service, ordered := range d.Ordered {
			if _, observed := d.Observed[service]; ordered && !observed && !d.Micro {
				add(service, d.Name, true)
			}
		}
		for service, i := range d.Observed {
			if i.State.Listed() && i.State != topics.Stopping {
				add(service, d.Name, i.State != topics.Failed && i.State != topics.Backoff)
			}
		}
	}
	return p
}

// Forecast returns what becomes of the services that are present now when in is
// planned and executed until nothing changes any more: what is started becomes
// healthy, what is exclusive starts when its lease has expired. Losses come first. ok
// is false where stop reported true before the end.
func Forecast(now Presence, in Input, stop func() bool) (lines []topics.PlanLine, ok bool) {
	in.Holds = nil
	f := forecast{Planner: newPlanner(in, stop), began: make(map[string]map[string]string)}
	// Each round starts or ends at least one copy; the bound is for what
	// would go on for ever.
	for range 2*len(in.Services) + 2*len(in.Domains) + 4 {
		f.Plan()
		if f.stopped() {
			return nil, false
		}
		if !f.execute() {
			break
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.plan.Services)) {
		lines = append(lines, f.linesOf(name, now[name])...)
	}
	rank := map[string]int{topics.ActionGoesDown: 0, topics.ActionStop: 1, topics.ActionMoves: 2, topics.ActionStarts: 3, topics.ActionWait: 4, topics.ActionStays: 5}
	slices.SortStableFunc(lines, func(a, b topics.PlanLine) int { return rank[a.Action] - rank[b.Action] })
	f.noteMissingDependencies(lines)
	return lines, !f.stopped()
}

// forecast is a home that executes its plans at once.
type forecast struct {
	*Planner
	began map[string]map[string]string // by service and domain: why it was started
}

// execute has the domains that are online run what is planned. It reports whether
// that changed anything.
func (f *forecast) execute() (changed bool) {
	for _, site := range slices.Clone(f.domains) {
		d := site.Domain
		if d.Micro || d.State != topics.DomainIsOnline || d.Gone {
			continue
		}
		ordered, observed := make(map[string]bool), make(map[string]Instance)
		for service, i := range d.Observed {
			if !i.State.Listed() { // what has finished stays reported
				observed[service] = i
			}
		}
		for _, service := range f.Desired(d.Name) {
			ordered[service] = true
			observed[service] = f.runs(service, &d)
			if c := f.plan.Services[service].At(d.Name); c.Action == topics.ActionStart {
				if f.began[service] == nil {
					f.began[service] = make(map[string]string)
				}
				f.began[service][d.Name] = c.Reason
			}
		}
		if maps.Equal(ordered, d.Ordered) && maps.Equal(observed, d.Observed) {
			continue
		}
		d.Ordered, d.Observed = ordered, observed
		f.SetDomain(d)
		changed = true
	}
	return changed
}

// runs returns a copy as it will be: one that has not started yet becomes healthy.
func (f *forecast) runs(service string, d *Domain) Instance {
	i, there := d.Observed[service]
	switch {
	case there && (i.State == topics.Running && i.Health != topics.UnknownHealth || i.State == topics.Failed || i.State == topics.Backoff || i.State == topics.Finished):
		return i
	case f.defs[service].Oneshot:
		return Instance{State: topics.Finished, Done: true, Version: d.Catalog[service], Order: i.Order}
	case !there:
		i = Instance{Version: d.Catalog[service], Order: math.MaxUint64}
	}
	i.State, i.Health = topics.Running, topics.Healthy
	return i
}

// linesOf returns what becomes of one service. was has where it is now.
func (f *forecast) linesOf(name string, was map[string]bool) (lines []topics.PlanLine) {
	o := f.plan.Services[name]
	add := func(action, domain, from, reason string) {
		lines = append(lines, topics.PlanLine{Action: action, Service: name, Domain: domain, From: from, Reason: reason})
	}
	will := make(map[string]bool)
	for i := range o.Choices {
		c := &o.Choices[i]
		s := f.sites[c.Domain]
		if c.Runs() && !s.Gone {
			will[c.Domain] = true
		} else if at, there := s.find(name); there {
			_, will[c.Domain] = s.cells[at].builtIn()
		}
	}
	var lost, gained, up []string
	for _, domain := range slices.Sorted(maps.Keys(was)) {
		if was[domain] && !will[domain] {
			lost = append(lost, domain)
		}
	}
	maps.DeleteFunc(will, func(_ string, runs bool) bool { return !runs })
	for _, domain := range slices.Sorted(maps.Keys(will)) {
		serves, present := was[domain]
		if present {
			add(topics.ActionStays, domain, "", o.At(domain).Reason)
		} else {
			gained = append(gained, domain)
		}
		if serves || !present {
			up = append(up, domain)
		}
	}
	for len(lost) > 0 && len(gained) > 0 {
		add(topics.ActionMoves, gained[0], lost[0], f.began[name][gained[0]])
		lost, gained = lost[1:], gained[1:]
	}
	for _, domain := range lost {
		switch {
		case !o.On:
			add(topics.ActionStop, domain, "", o.Reason)
		case len(up) == 0:
			add(topics.ActionGoesDown, domain, "", o.Reason)
		default:
			add(topics.ActionStop, domain, "", fmt.Sprintf("%s; %d of %d go on: %s", f.leftBecause(domain), len(up), max(o.Wanted, len(was)), list(up)))
		}
	}
	for _, domain := range gained {
		add(topics.ActionStarts, domain, "", f.began[name][domain])
	}
	if len(lines) == 0 && o.On && o.BuiltIn == 0 {
		add(topics.ActionWait, "", "", o.Reason)
	}
	return lines
}

// leftBecause returns what about a domain ends the copies there.
func (f *forecast) leftBecause(domain string) string {
	switch d := f.sites[domain]; {
	case d == nil:
		return domain + " is not there"
	case d.Gone:
		return domain + " is lost"
	case d.Draining:
		return domain + " is draining"
	}
	return "it is not to run on " + domain
}

// noteMissingDependencies adds to the reasons of what stays, moves or starts which of
// its dependencies goes down.
func (f *forecast) noteMissingDependencies(lines []topics.PlanLine) {
	down := make(map[string]bool)
	for _, l := range lines {
		if l.Action == topics.ActionGoesDown {
			down[l.Service] = true
		}
	}
	for i := range lines {
		l := &lines[i]
		def := f.defs[l.Service]
		if l.Action == topics.ActionGoesDown || l.Action == topics.ActionStop || def == nil {
			continue
		}
		if at := slices.IndexFunc(def.Dependencies, func(dep services.Dependency) bool { return down[dep.Service] }); at >= 0 {
			l.Reason += "; it needs " + def.Dependencies[at].Service + ", which goes down"
		}
	}
}
