package services

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// randomGraph returns definitions without a circle: each depends only on
// services of a smaller rank, ranks being unlike the order of the names.
func randomGraph(r *rand.Rand) []Definition {
	n := r.IntN(30)
	rank := r.Perm(n)
	var defs []Definition
	for i := range n {
		d := Default(fmt.Sprintf("s%02d", i))
		for j := range n {
			if rank[j] < rank[i] && r.IntN(4) == 0 {
				d.Dependencies = append(d.Dependencies, Dependency{Service: fmt.Sprintf("s%02d", j)})
			}
		}
		defs = append(defs, d)
	}
	return defs
}

func TestStartOrderOfRandomGraphs(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 0))
		defs := randomGraph(r)
		if faults := Validate(defs); len(faults) != 0 {
			t.Fatalf("seed %d: %v", seed, faults)
		}
		order := StartOrder(defs)

		place := make(map[string]int)
		for i, name := range order {
			if _, twice := place[name]; twice {
				t.Fatalf("seed %d: %s is there twice", seed, name)
			}
			place[name] = i
		}
		for _, d := range defs {
			if _, there := place[d.Name]; !there {
				t.Errorf("seed %d: %s is missing", seed, d.Name)
			}
			for _, dep := range d.Dependencies {
				if place[dep.Service] > place[d.Name] {
					t.Errorf("seed %d: %s starts before %s, which it needs", seed, d.Name, dep.Service)
				}
				if !d.DependsOn(dep.Service) {
					t.Errorf("seed %d: %s does not need %s", seed, d.Name, dep.Service)
				}
			}
		}
		if len(order) != len(defs) {
			t.Errorf("seed %d: %d of %d", seed, len(order), len(defs))
		}

		r.Shuffle(len(defs), func(i, j int) { defs[i], defs[j] = defs[j], defs[i] })
		for _, d := range defs {
			deps := d.Dependencies
			r.Shuffle(len(deps), func(i, j int) { deps[i], deps[j] = deps[j], deps[i] })
		}
		if again := StartOrder(defs); !slices.Equal(order, again) {
			t.Errorf("seed %d: shuffled, the order is another:\n%q\n%q", seed, order, again)
		}

		// Any one dependency turned round that closes a circle is found.
		if i := slices.IndexFunc(defs, func(d Definition) bool { return len(d.Dependencies) > 0 }); i >= 0 {
			dep := defs[i].Dependencies[0].Service
			j := slices.IndexFunc(defs, func(d Definition) bool { return d.Name == dep })
			defs[j].Dependencies = append(defs[j].Dependencies, Dependency{Service: defs[i].Name})
			if len(Validate(defs)) == 0 {
				t.Errorf("seed %d: the circle of %s and %s was not found", seed, defs[i].Name, dep)
			}
		}
	}
}

func TestStartOrderLeavesOutWhatIsNotThere(t *testing.T) {
	web := Default("web")
	web.Dependencies = []Dependency{{Service: "gone"}}
	if got := StartOrder([]Definition{web}); !slices.Equal(got, []string{"web"}) {
		t.Errorf("%q", got)
	}
	if got := StartOrder(nil); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
