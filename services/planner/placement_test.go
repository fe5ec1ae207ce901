package planner_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

const furnished = 3000

// TestPlacement holds of random fleets with machines of all sizes and loads,
// some of which flap: where a service is started is what the rules say, what
// they rank by moves nothing, and one change moves only what it must.
func TestPlacement(t *testing.T) {
	for seed := range uint64(furnished) {
		f := newFleet(seed + 2_000_000)
		f.furnish()
		for step := range 5 {
			at := fmt.Sprintf("seed %d step %d", seed, step)
			f.settleSoberly(t, at)
			f.scoresMoveNothing(t, at)
			if f.r.IntN(3) == 0 {
				f.upset()
				f.furnish()
			} else {
				f.disturb()
			}
			plan := planner.New(f.input())
			if again := planner.New(f.shuffled()); !reflect.DeepEqual(plan, again) {
				t.Fatalf("%s: the order of the input matters:\n%v\n%v", at, plan.Lines(), again.Lines())
			}
			f.check(t, plan, at)
			f.rest(t, at)
			for range f.r.IntN(3) {
				f.last = planner.New(f.input())
				f.checkAll(t, f.last, at+" limping")
				f.limp()
			}
		}
	}
}

// furnish gives services needs and domains machines.
func (f *fleet) furnish() {
	for name, d := range sorted(f.defs) {
		d.Needs = services.Needs{}
		if f.r.IntN(3) == 0 {
			d.Needs = services.Needs{CPU: float64(f.r.IntN(8)) / 4, Memory: f.r.Int64N(4) * 300_000_000}
		}
		f.defs[name] = d
	}
	for name, d := range sorted(f.domains) {
		d.Flapping = f.r.IntN(3) == 0
		d.Machine = planner.Machine{}
		if f.r.IntN(4) > 0 {
			d.Machine = planner.Machine{Cores: 1 << f.r.IntN(4), Memory: 500_000_000 << f.r.IntN(4)}
		}
		f.domains[name] = d
		f.busy(name)
	}
}

// busy changes what a machine tells of its load.
func (f *fleet) busy(name string) {
	d := f.domains[name]
	d.Machine.Load, d.Machine.Full = f.r.IntN(7), f.r.IntN(4) == 0
	f.domains[name] = d
}

// settleSoberly obeys until nothing changes. On the way only what must moves.
func (f *fleet) settleSoberly(t *testing.T, at string) {
	t.Helper()
	var off []string // at some time, or not to be judged
	starts := map[string]int{}
	healthy := map[string]map[string]bool{}
	for name := range f.defs {
		healthy[name] = map[string]bool{}
		for _, d := range f.domains {
			if d.Observed[name].State == topics.Failed {
				off = append(off, name) // obeying, it gets well again, and is one too many
			}
			if f.usable(name, d) && f.fits(name, d) && !d.Draining && !d.Gone {
				healthy[name][d.Name] = true
			}
		}
	}
	for round := 0; ; round++ {
		f.last = planner.New(f.input())
		f.checkAll(t, f.last, at)
		changes := 0
		for name, o := range f.last.Services {
			if !o.On {
				off = append(off, name)
			}
			for _, c := range o.Choices {
				switch {
				case f.domains[c.Domain].State != topics.DomainIsOnline:
				case c.Action == topics.ActionStart:
					starts[name]++
					changes++
				case c.Action == topics.ActionStop:
					changes++
				}
			}
		}
		if changes == 0 {
			break
		}
		if round > 3*len(f.defs)+3 {
			t.Fatalf("%s: never settles: %v", at, f.last.Lines())
		}
		f.obey()
	}
	f.enough(t, at)
	for name, o := range f.last.Services {
		if slices.Contains(off, name) || f.retired[name].Name != "" {
			continue
		}
		was, calm, stayed := healthy[name], 0, 0
		for _, c := range o.Choices {
			d := f.domains[c.Domain]
			if was[d.Name] && c.Runs() {
				stayed++
			}
			if was[d.Name] && !d.Flapping && d.State == topics.DomainIsOnline { // one that flaps gives way
				calm++
			}
		}
		if stayed < min(calm, o.Wanted) {
			t.Fatalf("%s: %d healthy %s of %v must stay, %d did, %d are wanted: %v", at, calm, name, was, stayed, o.Wanted, o.Choices)
		}
		if starts[name] > max(0, o.Wanted-len(was)) {
			t.Fatalf("%s: %s was started %d times, with %d of %d healthy: %v", at, name, starts[name], len(was), o.Wanted, o.Choices)
		}
	}
}

// scoresMoveNothing: load, memory in use, flapping and the reasons of before
// only rank domains for what is to be started.
func (f *fleet) scoresMoveNothing(t *testing.T, at string) {
	t.Helper()
	plan := planner.New(f.input())
	before := plan.Desired()
	tooMany := slices.ContainsFunc(plan.Lines(), func(l topics.PlanLine) bool { // which of them stays may change
		return l.Action == topics.ActionStop || strings.HasSuffix(l.Reason, "lost too often lately; stays until its replacement is healthy")
	})
	kept := make(map[string]planner.Domain)
	for name, d := range sorted(f.domains) {
		kept[name] = d
		if !tooMany {
			d.Flapping = f.r.IntN(2) == 0
		}
		d.Chosen = map[string]string{"s0": "it had less to do"}
		f.domains[name] = d
		f.busy(name)
	}
	if after := planner.New(f.input()); !reflect.DeepEqual(before, after.Desired()) {
		t.Fatalf("%s: scores moved something: %v, before %v", at, after.Lines(), before)
	}
	if f.r.IntN(2) == 0 {
		for name, d := range kept {
			f.domains[name] = d
		}
	}
}

// checkAll checks a plan, and what the placing of a service has to regard.
func (f *fleet) checkAll(t *testing.T, plan planner.Plan, at string) {
	t.Helper()
	f.check(t, plan, at)
	for name, o := range plan.Services {
		for _, c := range o.Choices {
			d := f.domains[c.Domain]
			switch {
			case c.Action == topics.ActionStart && d.Flapping:
				f.noCalmPlace(t, name, d, o, at)
			case c.Action == topics.ActionStop && !o.On && f.wants[name].Switch != topics.Off:
				for _, other := range f.domains {
					for dependent := range f.defs {
						if f.defs[dependent].DependsOn(name) && !other.Gone && !other.Micro && other.Observed[dependent].State.Listed() {
							t.Fatalf("%s: %s stopped before %s on %s, which needs it", at, name, dependent, other.Name)
						}
					}
				}
			}
		}
	}
}

// noCalmPlace: what is given to a domain that flaps has no other place, in a
// version that as many of its dependents can use.
func (f *fleet) noCalmPlace(t *testing.T, name string, flapping planner.Domain, o *planner.Outcome, at string) {
	t.Helper()
	users := func(version string) (n int) {
		for t, d := range f.defs {
			for _, dep := range d.Dependencies {
				if dep.Service == name && f.last.Services[t].On && dep.Version.Contains(version) {
					n++
				}
			}
		}
		return n
	}
	for _, c := range o.Choices {
		d := f.domains[c.Domain]
		if c.Action == "" && !d.Flapping && !d.Draining && d.State == topics.DomainIsOnline && f.fits(name, d) &&
			d.Observed[name].State != topics.Stopping && users(d.Catalog[name]) >= users(flapping.Catalog[name]) {
			t.Fatalf("%s: %s is given to %s, which flaps, and not to %s: %v", at, name, flapping.Name, d.Name, o.Choices)
		}
	}
}
