package planner_test

import (
	"fmt"
	"testing"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// city is a thousand domains that run ten thousand instances of fifty
// services, far more than a home has: half of the services run on whole
// groups of domains, the others have two hundred copies.
func city() planner.Input {
	const domains, kinds, copies = 1000, 50, 200
	in := planner.Input{}
	for i := range kinds {
		d := services.Default(fmt.Sprintf("s%02d", i))
		d.Traits = []string{fmt.Sprintf("group%d", i%5)}
		if i%2 == 0 {
			d.Priority = services.Required
		} else {
			d.Priority, d.Replicas = services.Required, copies
		}
		if i >= 5 {
			d.Dependencies = []services.Dependency{{Service: fmt.Sprintf("s%02d", i-5)}}
		}
		in.Services = append(in.Services, d)
	}
	for i := range domains {
		d := planner.Domain{
			Name: fmt.Sprintf("d%04d", i), State: topics.DomainIsOnline, Traits: []string{"compute", fmt.Sprintf("group%d", i%5)},
			Catalog: map[string]string{}, Ordered: map[string]bool{}, Observed: map[string]planner.Instance{},
		}
		for _, s := range in.Services {
			d.Catalog[s.Name] = "1.0.0"
			if s.Traits[0] == d.Traits[1] {
				d.Ordered[s.Name] = true
				d.Observed[s.Name] = planner.Instance{State: topics.Running, Health: topics.Healthy, Version: "1.0.0"}
			}
		}
		in.Domains = append(in.Domains, d)
	}
	return in
}

// The goal is 50 ms for a whole plan.
func BenchmarkWholePlan(b *testing.B) {
	in := city()
	for b.Loop() {
		if p := planner.New(in); len(p.Services) != 50 {
			b.Fatal("no plan")
		}
	}
}
