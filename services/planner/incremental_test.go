package planner_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

const sequences = 1500

// TestIncremental is the law of a Planner: whatever it was told and in which
// order, its plan is the one that New makes of the same home.
func TestIncremental(t *testing.T) {
	for seed := range uint64(sequences) {
		f := newFleet(seed + 1_000_000)
		p := planner.NewPlanner(planner.Input{})
		desired := map[string][]string{}
		told := planner.Input{}
		for step := range 25 {
			for range 1 + f.r.IntN(2) {
				f.upset()
			}
			told = f.tell(p, told)
			at := fmt.Sprintf("seed %d step %d", seed, step)
			f.last = f.same(t, p, at)
			f.follow(t, p, desired, at)
			switch f.r.IntN(4) {
			case 0:
				f.limp()
			case 1:
				f.obey()
			case 2: // only what was ordered reaches anybody
				for name, d := range sorted(f.domains) {
					d.Ordered = map[string]bool{}
					for _, service := range p.Desired(name) {
						d.Ordered[service] = true
					}
					f.domains[name] = d
				}
			}
		}
	}
}

// same compares a planner's plan with that of the whole home.
func (f *fleet) same(t *testing.T, p *planner.Planner, at string) planner.Plan {
	t.Helper()
	plan := p.Plan()
	whole := planner.NewPlanner(f.shuffled())
	want := whole.Plan()
	for _, name := range sortedKeys(want.Services) {
		if got := plan.Services[name]; !reflect.DeepEqual(got, want.Services[name]) {
			t.Fatalf("%s: %s is planned as\n%+v\nand in the whole home as\n%+v", at, name, got, want.Services[name])
		}
		if got, want := p.Why(name), whole.Why(name); !reflect.DeepEqual(got, want) || len(got) != len(f.domains) {
			t.Fatalf("%s: %s is explained as\n%+v\nand in the whole home as\n%+v", at, name, got, want)
		}
	}
	if len(plan.Services) != len(want.Services) || !reflect.DeepEqual(plan.Lines(), want.Lines()) {
		t.Fatalf("%s: the plan is\n%v\nand that of the whole home\n%v", at, plan.Lines(), want.Lines())
	}
	return plan
}

// follow holds what each domain is to run by the changes alone.
func (f *fleet) follow(t *testing.T, p *planner.Planner, desired map[string][]string, at string) {
	t.Helper()
	changes := p.Changes()
	for name := range changes.Domains {
		if _, known := f.domains[name]; known {
			desired[name] = p.Desired(name)
		} else {
			delete(desired, name)
		}
	}
	want := p.Plan().Desired()
	for name := range f.domains {
		if !slices.Equal(want[name], desired[name]) {
			t.Fatalf("%s: %s is to run %v, by what changed %v", at, name, want[name], desired[name])
		}
	}
	if again := p.Changes(); len(again.Services)+len(again.Domains) > 0 {
		t.Fatalf("%s: the same changes are told twice: %v", at, again)
	}
}

// upset changes one thing of the home, of every kind that there is.
func (f *fleet) upset() {
	names, hosts := sortedKeys(f.defs), sortedKeys(f.domains)
	switch f.r.IntN(12) {
	case 0: // a domain joins
		name := fmt.Sprintf("d%d", f.r.IntN(8))
		if _, known := f.domains[name]; !known {
			other := newFleet(f.r.Uint64())
			for _, d := range sorted(other.domains) {
				d.Name = name
				f.domains[name] = d
				break
			}
		}
	case 1: // one is forgotten
		if len(hosts) > 1 {
			delete(f.domains, hosts[f.r.IntN(len(hosts))])
		}
	case 2: // a service goes from the configuration
		if len(names) > 2 {
			name := names[len(names)-1] // which nobody needs
			f.retired[name] = f.defs[name]
			delete(f.defs, name)
		}
	case 3:
		if len(f.retired) > 0 {
			clear(f.retired)
		}
	case 4: // a definition changes
		name := names[f.r.IntN(len(names))]
		d := f.defs[name]
		switch f.r.IntN(5) {
		case 4:
			d.Needs = services.Needs{CPU: f.r.Float64(), Memory: f.r.Int64N(3) << 29}
		case 0:
			d.Replicas = f.r.IntN(4)
		case 1:
			d.Version = f.versions(2)
		case 2:
			d.Priority = []services.Priority{services.Required, services.OnDemand}[f.r.IntN(2)]
		default:
			d.Traits = []string{"x", "y"}[:f.r.IntN(3)]
		}
		f.defs[name] = d
	case 5:
		name := names[f.r.IntN(len(names))]
		f.scaled[name] = planner.Scaled{Number: f.r.IntN(5), Reason: fmt.Sprint("scaled ", f.r.IntN(3))}
		f.wants[name] = planner.Override{Switch: []string{topics.On, topics.Off, ""}[f.r.IntN(3)], Replicas: f.r.IntN(3)}
	case 6:
		if len(hosts) > 0 {
			name := hosts[f.r.IntN(len(hosts))]
			d := f.domains[name]
			switch f.r.IntN(7) {
			case 4:
				d.Flapping = !d.Flapping
			case 5:
				d.Machine = planner.Machine{Cores: f.r.IntN(3), Memory: f.r.Uint64N(3) << 30, Load: f.r.IntN(5), Full: f.r.IntN(4) == 0}
			case 6:
				d.Chosen = map[string]string{fmt.Sprintf("s%d", f.r.IntN(7)): "it had less to do"}
			case 0:
				d.Micro = !d.Micro
			case 1:
				d.Problem = []string{"", "speaks another protocol"}[f.r.IntN(2)]
			case 2:
				d.Traits = []string{"x", "y"}[:f.r.IntN(3)]
			default:
				d.Observed = maps.Clone(d.Observed)
				for service, i := range sorted(d.Observed) {
					i.Best, i.Order = f.r.IntN(2) == 0, f.r.Uint64N(5)
					d.Observed[service] = i
				}
			}
			f.domains[name] = d
		}
	default:
		f.disturb()
	}
}

// tell tells a planner how the home differs from what it was told last, in
// some order, and returns what it knows now.
func (f *fleet) tell(p *planner.Planner, told planner.Input) planner.Input {
	in := f.shuffled()
	in.Overrides, in.Scaled = maps.Clone(in.Overrides), maps.Clone(in.Scaled)
	for i, d := range in.Domains { // what a planner was given must not change
		in.Domains[i].Catalog, in.Domains[i].Ordered, in.Domains[i].Observed = maps.Clone(d.Catalog), maps.Clone(d.Ordered), maps.Clone(d.Observed)
		in.Domains[i].Chosen = maps.Clone(d.Chosen)
	}
	parts := []func(){
		func() {
			if !reflect.DeepEqual(by(in.Services), by(told.Services)) || !reflect.DeepEqual(by(in.Retired), by(told.Retired)) {
				p.SetServices(in.Services, in.Retired)
			}
		},
		func() {
			for name := range told.Overrides {
				p.SetOverride(name, in.Overrides[name])
			}
			for name, w := range in.Overrides {
				p.SetOverride(name, w)
			}
		},
		func() {
			for name, n := range in.Scaled {
				p.SetScaled(name, n)
			}
			for name := range told.Holds {
				p.SetHold(name, in.Holds[name])
			}
			for name, held := range in.Holds {
				p.SetHold(name, held)
			}
		},
		func() {
			for _, d := range told.Domains {
				if _, known := f.domains[d.Name]; !known {
					p.RemoveDomain(d.Name)
				}
			}
		},
		func() {
			for _, d := range in.Domains {
				p.SetDomain(d)
			}
		},
	}
	f.r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	for _, part := range parts {
		part()
	}
	return in
}

func by(defs []services.Definition) map[string]string {
	all := make(map[string]string)
	for _, d := range defs {
		all[d.Name] = fmt.Sprintf("%v %v %v %v %v %v %d %v %v %v", d.Exclusive, d.Priority, d.Dependencies, d.Traits, d.Version, d.Domains, d.Replicas, d.Update, d.Needs, d.Scale)
	}
	return all
}
