package planner_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// fleet is a random home whose domains obey.
type fleet struct {
	*script
	r *rand.Rand
}

const fleets = 3000

// TestProperties holds of random fleets through random changes: nothing runs
// where it may not, what waits waits for a reason, a plan that was obeyed is
// followed by an empty one, and the order of the input never matters.
func TestProperties(t *testing.T) {
	for seed := range uint64(fleets) {
		f := newFleet(seed)
		for step := range 4 {
			f.disturb()
			plan := planner.New(f.input())
			if again := planner.New(f.shuffled()); !reflect.DeepEqual(plan, again) {
				t.Fatalf("seed %d step %d: the order of the input matters:\n%v\n%v", seed, step, plan.Lines(), again.Lines())
			}
			f.check(t, plan, fmt.Sprintf("seed %d step %d", seed, step))
			f.settle(t, fmt.Sprintf("seed %d step %d", seed, step))
		}
	}
}

func newFleet(seed uint64) *fleet {
	f := &fleet{&script{map[string]services.Definition{}, map[string]services.Definition{}, map[string]planner.Domain{}, map[string]planner.Want{}, planner.Plan{}}, rand.New(rand.NewPCG(seed, 1))}
	traits := []string{"x", "y"}
	for i := range 1 + f.r.IntN(7) {
		d := services.Default(fmt.Sprintf("s%d", i))
		if f.r.IntN(3) == 0 {
			d.Priority = services.Required
		}
		for j := range i {
			if f.r.IntN(4) == 0 {
				d.Dependencies = append(d.Dependencies, services.Dependency{Service: fmt.Sprintf("s%d", j)})
			}
		}
		if f.r.IntN(3) == 0 {
			d.Traits = traits[:1+f.r.IntN(2)]
		}
		if f.r.IntN(5) == 0 {
			d.Replicas = 1 + f.r.IntN(3)
		}
		f.defs[d.Name] = d
	}
	for i := range f.r.IntN(6) {
		d := planner.Domain{
			Name: fmt.Sprintf("d%d", i), State: topics.DomainIsOnline, Traits: traits[:f.r.IntN(3)],
			Catalog: map[string]string{}, Ordered: map[string]bool{}, Observed: map[string]planner.Instance{},
		}
		for name := range sorted(f.defs) {
			if f.r.IntN(3) > 0 {
				d.Catalog[name] = "1.0.0"
			}
		}
		f.domains[d.Name] = d
	}
	return f
}

// disturb changes one thing.
func (f *fleet) disturb() {
	for name, d := range sorted(f.domains) {
		if f.r.IntN(len(f.domains)) > 0 {
			continue
		}
		switch f.r.IntN(4) {
		case 0:
			d.State, d.Gone = topics.DomainIsLost, true
			clear(d.Observed)
		case 1:
			d.State, d.Gone, d.Draining = topics.DomainIsOnline, false, false
		case 2:
			d.Draining = true
		case 3:
			for service := range sorted(d.Observed) {
				d.Observed[service] = planner.Instance{State: topics.Backoff, Health: topics.UnknownHealth}
				break
			}
		}
		f.domains[name] = d
		return
	}
	for name := range sorted(f.defs) {
		if f.r.IntN(len(f.defs)) == 0 {
			f.want(name, []string{"on", "off", "2"}[f.r.IntN(3)])
			return
		}
	}
}

func (f *fleet) shuffled() planner.Input {
	in := f.input()
	f.r.Shuffle(len(in.Services), func(i, j int) { in.Services[i], in.Services[j] = in.Services[j], in.Services[i] })
	f.r.Shuffle(len(in.Domains), func(i, j int) { in.Domains[i], in.Domains[j] = in.Domains[j], in.Domains[i] })
	return in
}

func (f *fleet) check(t *testing.T, plan planner.Plan, at string) {
	t.Helper()
	for name, o := range plan.Services {
		def, running := f.defs[name], 0
		for _, c := range o.Choices {
			d := f.domains[c.Domain]
			_, catalogued := d.Catalog[name]
			fits := catalogued && !slices.ContainsFunc(def.Traits, func(trait string) bool { return !slices.Contains(d.Traits, trait) })
			switch {
			case c.Reason == "":
				t.Fatalf("%s: %s on %s: no reason", at, name, c.Domain)
			case c.Runs() && !fits:
				t.Fatalf("%s: %s on %s, which may not have it: %s", at, name, c.Domain, c.Reason)
			case c.Action == topics.ActionStart && (d.State != topics.DomainIsOnline || d.Draining):
				t.Fatalf("%s: %s started on %s, which is %s", at, name, c.Domain, d.State)
			case c.Action == topics.ActionStart && !f.met(name):
				t.Fatalf("%s: %s started before what it needs", at, name)
			case c.Action == topics.ActionStop && o.On && d.Observed[name].Health == topics.Healthy && !d.Draining && o.Wanted > f.healthy(name):
				t.Fatalf("%s: healthy %s stopped on %s without cause: %s", at, name, c.Domain, c.Reason)
			}
			if c.Runs() && !d.Gone {
				running++
			}
		}
		if o.On && running > o.Wanted && !f.anyDraining() {
			t.Fatalf("%s: %d of %s run, %d wanted", at, running, name, o.Wanted)
		}
	}
}

func (f *fleet) healthy(name string) (n int) {
	for _, d := range f.domains {
		if d.Observed[name].Health == topics.Healthy {
			n++
		}
	}
	return n
}

func (f *fleet) anyDraining() bool {
	for _, d := range f.domains {
		if d.Draining {
			return true
		}
	}
	return false
}

func (f *fleet) met(name string) bool {
	for _, dep := range f.defs[name].Dependencies {
		if f.healthy(dep.Service) == 0 {
			return false
		}
	}
	return true
}

// settle obeys until nothing changes, which must be soon.
func (f *fleet) settle(t *testing.T, at string) {
	t.Helper()
	for range 3*len(f.defs) + 3 {
		f.last = planner.New(f.input())
		f.obey()
		changes := slices.DeleteFunc(planner.New(f.input()).Lines(), func(l topics.PlanLine) bool {
			return l.Action == topics.ActionKeep || l.Action == topics.ActionWait
		})
		if len(changes) == 0 {
			return
		}
	}
	t.Fatalf("%s: never settles: %v", at, planner.New(f.input()).Lines())
}

func sorted[V any](m map[string]V) func(func(string, V) bool) {
	return func(yield func(string, V) bool) {
		for _, k := range sortedKeys(m) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
