package planner_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// city is a thousand domains that run ten thousand instances of a thousand
// services, far more than a home has: some run everywhere, some on one domain
// in five, most in a few copies on domains that have them; half of them need
// others. It is at rest: what is planned runs.
func city(tb testing.TB) planner.Input {
	const domains, kinds, instances = 1000, 1000, 10_000
	r := rand.New(rand.NewPCG(1, 2))
	in := planner.Input{}
	for i := range domains {
		in.Domains = append(in.Domains, planner.Domain{
			Name: fmt.Sprintf("d%04d", i), State: topics.DomainIsOnline, Traits: []string{"compute", fmt.Sprintf("group%d", i%5)},
			Catalog: map[string]string{}, Ordered: map[string]bool{}, Observed: map[string]planner.Instance{},
		})
	}
	for i := range kinds {
		d := services.Default(fmt.Sprintf("s%03d", i))
		d.Priority = services.Required
		has := 6 + r.IntN(14) // domains that have it in their catalog
		switch {
		case i < 3: // on every domain
			has = domains
		case i < 13: // on each of a group
			has, d.Traits = domains, []string{fmt.Sprintf("group%d", i%5)}
		case i%3 == 0: // while something needs it
			d.Priority, d.Replicas = services.OnDemand, 1+r.IntN(3)
		default:
			d.Replicas = 1 + r.IntN(12)
		}
		if i > 3 && i%2 == 0 {
			d.Dependencies = []services.Dependency{{Service: fmt.Sprintf("s%03d", r.IntN(i))}, {Service: "s000"}}
			if d.Dependencies[0].Service == "s000" {
				d.Dependencies = d.Dependencies[:1]
			}
		}
		in.Services = append(in.Services, d)
		for j, n := range r.Perm(domains) {
			if j == has {
				break
			}
			in.Domains[n].Catalog[d.Name] = "1.0.0"
		}
	}
	rest(in)
	running := 0
	for _, d := range in.Domains {
		running += len(d.Observed)
	}
	if running < instances*9/10 || running > instances*11/10 {
		tb.Fatalf("%d instances run", running)
	}
	return in
}

// rest lets all that is planned run, until nothing changes.
func rest(in planner.Input) {
	for changed := true; changed; {
		changed = false
		desired := planner.New(in).Desired()
		for i := range in.Domains {
			d := &in.Domains[i]
			for _, service := range desired[d.Name] {
				changed = changed || !d.Ordered[service]
				d.Ordered[service] = true
				d.Observed[service] = planner.Instance{State: topics.Running, Health: topics.Healthy, Version: "1.0.0", Order: 1}
			}
		}
	}
}

// The goal is 50 ms for a whole plan.
func BenchmarkWholePlan(b *testing.B) {
	in := city(b)
	b.ReportAllocs()
	for b.Loop() {
		if p := planner.New(in); len(p.Services) != len(in.Services) {
			b.Fatal("no plan")
		}
	}
}

// The goal is 1 ms for one change.
func BenchmarkChange(b *testing.B) {
	in := city(b)
	busy := in.Domains[7] // as many services as most have
	few := ""             // a service of it that runs in few copies
	for name := range sorted(busy.Observed) {
		few = name
	}
	with := func(d planner.Domain, change func(*planner.Domain)) planner.Domain {
		d.Ordered, d.Observed = maps.Clone(d.Ordered), maps.Clone(d.Observed)
		change(&d)
		return d
	}
	health := func(service string, to topics.Health) planner.Domain {
		return with(busy, func(d *planner.Domain) {
			i := d.Observed[service]
			i.Health = to
			d.Observed[service] = i
		})
	}
	lost := with(busy, func(d *planner.Domain) {
		d.State, d.Gone = topics.DomainIsLost, true
		clear(d.Observed)
	})
	set := func(a, b planner.Domain) [2]func(*planner.Planner) {
		return [2]func(*planner.Planner){func(p *planner.Planner) { p.SetDomain(a) }, func(p *planner.Planner) { p.SetDomain(b) }}
	}
	want := func(service, to string) func(*planner.Planner) {
		return func(p *planner.Planner) { p.SetOverride(service, planner.Override{Switch: to}) }
	}
	for _, change := range []struct {
		name string
		do   [2]func(*planner.Planner) // in turn
	}{
		{"health", set(health(few, topics.Unhealthy), health(few, topics.Healthy))},
		{"health-everywhere", set(health("s000", topics.Unhealthy), health("s000", topics.Healthy))}, // 1,000 copies, 500 dependents
		{"lost", set(lost, busy)},
		{"draining", set(with(busy, func(d *planner.Domain) { d.Draining = true }), busy)},
		{"switch", [2]func(*planner.Planner){want(few, topics.Off), want(few, "")}},
		{"switch-everywhere", [2]func(*planner.Planner){want("s001", topics.Off), want("s001", "")}},
		{"nothing", set(busy, busy)},
	} {
		b.Run(change.name, func(b *testing.B) {
			p := planner.NewPlanner(in)
			p.Plan()
			p.Changes()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				change.do[i%2](p)
				p.Plan()
				p.Changes()
			}
		})
	}
}
