package planner_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
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
		for step := range 6 {
			f.disturb()
			plan := planner.New(f.input())
			if again := planner.New(f.shuffled()); !reflect.DeepEqual(plan, again) {
				t.Fatalf("seed %d step %d: the order of the input matters:\n%v\n%v", seed, step, plan.Lines(), again.Lines())
			}
			at := fmt.Sprintf("seed %d step %d", seed, step)
			f.check(t, plan, at)
			f.rest(t, at)
			for range f.r.IntN(4) {
				f.last = planner.New(f.input())
				f.check(t, f.last, at+" limping")
				f.limp()
			}
			if f.r.IntN(2) == 0 {
				continue
			}
			f.settle(t, fmt.Sprintf("seed %d step %d", seed, step))
		}
	}
}

func newFleet(seed uint64) *fleet {
	f := &fleet{newScript(), rand.New(rand.NewPCG(seed, 1))}
	traits := []string{"x", "y"}
	for i := range 1 + f.r.IntN(7) {
		d := services.Default(fmt.Sprintf("s%d", i))
		if f.r.IntN(3) == 0 {
			d.Priority = services.Required
		}
		for j := range i {
			if f.r.IntN(4) == 0 {
				d.Dependencies = append(d.Dependencies, services.Dependency{Service: fmt.Sprintf("s%d", j), Version: f.versions(6)})
			}
		}
		if f.r.IntN(3) == 0 {
			d.Traits = traits[:1+f.r.IntN(2)]
		}
		switch f.r.IntN(10) {
		case 0, 1:
			d.Replicas = 1 + f.r.IntN(3)
		case 2:
			d.Scale = &services.Scale{Min: 1, Max: 1 + f.r.IntN(3)}
		}
		if d.Exclusive = f.r.IntN(4) == 0; d.Exclusive {
			d.Replicas = 0
		}
		if f.r.IntN(6) == 0 {
			d.Domains = []string{"d0", "d1", "d2"}[:1+f.r.IntN(3)]
		}
		d.Version = f.versions(6)
		f.defs[d.Name] = d
	}
	for i := range f.r.IntN(6) {
		d := planner.Domain{
			Name: fmt.Sprintf("d%d", i), State: topics.DomainIsOnline, Traits: traits[:f.r.IntN(3)],
			Catalog: map[string]string{}, Ordered: map[string]bool{}, Observed: map[string]planner.Instance{},
		}
		for name := range sorted(f.defs) {
			if f.r.IntN(3) > 0 {
				d.Catalog[name] = []string{"1.0.0", "2.0.0", ""}[f.r.IntN(3)]
			}
		}
		f.domains[d.Name] = d
	}
	return f
}

// versions asks for a version once in n times.
func (f *fleet) versions(n int) services.Range {
	if f.r.IntN(n) > 0 {
		return services.Range{}
	}
	r, err := services.ParseRange([]string{">=1", ">=2", "<2"}[f.r.IntN(3)])
	if err != nil {
		panic(err)
	}
	return r
}

// disturb changes one thing of a domain, or what is wanted of a service.
func (f *fleet) disturb() {
	for name, d := range sorted(f.domains) {
		if f.r.IntN(len(f.domains)) > 0 {
			continue
		}
		switch f.r.IntN(9) {
		case 0:
			d.State, d.Gone = topics.DomainIsLost, true
			clear(d.Observed)
		case 1:
			d.State, d.Gone, d.Draining = topics.DomainIsOnline, false, false
		case 2:
			d.Draining = true
		case 3:
			d.State = topics.DomainIsOffline
		case 4: // it returns, and everything goes on that ran before it was lost
			if d.Gone {
				d.State, d.Gone = topics.DomainIsOnline, false
				for service := range sorted(d.Catalog) {
					d.Observed[service] = planner.Instance{State: topics.Running, Health: topics.Healthy, Version: d.Catalog[service]}
				}
			}
		case 5:
			for service := range sorted(d.Catalog) {
				d.Catalog[service] = []string{"1.0.0", "2.0.0"}[f.r.IntN(2)]
				break
			}
		default:
			for service, i := range sorted(d.Observed) {
				if f.r.IntN(2) == 0 {
					i.State = []topics.State{topics.Backoff, topics.Failed, topics.Starting, topics.Running, topics.Stopping}[f.r.IntN(5)]
					i.Health = []topics.Health{topics.UnknownHealth, topics.Unhealthy}[f.r.IntN(2)]
					d.Observed[service] = i
				}
			}
		}
		f.domains[name] = d
		return
	}
	for name := range sorted(f.defs) {
		if f.r.IntN(len(f.defs)) == 0 {
			f.scaled[name] = planner.Scaled{Number: f.r.IntN(5), Reason: "scaled"}
			f.want(name, []string{"on", "off", "2"}[f.r.IntN(3)])
			return
		}
	}
}

// limp lets some domains obey, each as far as it comes: what is ordered
// begins, and what has begun may become ready or fail.
func (f *fleet) limp() {
	desired := f.last.Desired()
	for name, d := range sorted(f.domains) {
		d.Ordered = map[string]bool{}
		for _, service := range desired[name] {
			d.Ordered[service] = true
		}
		if d.State == topics.DomainIsOnline && f.r.IntN(3) > 0 {
			for service := range d.Observed {
				if !d.Ordered[service] {
					delete(d.Observed, service)
				}
			}
			for service := range sorted(d.Ordered) {
				i, there := d.Observed[service]
				switch {
				case !there:
					i = planner.Instance{State: topics.Starting, Health: topics.UnknownHealth, Version: d.Catalog[service]}
				case f.r.IntN(6) == 0:
					i.State, i.Health = topics.Failed, topics.UnknownHealth
				case f.r.IntN(2) == 0:
					i.State, i.Health = topics.Running, topics.Healthy
				}
				d.Observed[service] = i
			}
		}
		f.domains[name] = d
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
		kept := 0 // usable ones that go on
		for _, c := range o.Choices {
			if c.Runs() && f.usable(name, f.domains[c.Domain]) {
				kept++
			}
		}
		fresh, holds, failed := 0, 0, 0
		for _, c := range o.Choices {
			d := f.domains[c.Domain]
			_, there := d.Observed[name]
			switch {
			case c.Reason == "":
				t.Fatalf("%s: %s on %s: no reason", at, name, c.Domain)
			case c.Action == topics.ActionStart && !f.fits(name, d):
				t.Fatalf("%s: %s started on %s, which may not have it: %s", at, name, c.Domain, c.Reason)
			case c.Action == topics.ActionStart && (d.State != topics.DomainIsOnline || d.Draining):
				t.Fatalf("%s: %s started on %s, which is %s", at, name, c.Domain, d.State)
			case c.Action == topics.ActionStart && !f.met(name):
				t.Fatalf("%s: %s started before what it needs", at, name)
			case c.Action == topics.ActionStop && o.On && f.usable(name, d) && !d.Draining && f.fits(name, d) && kept < o.Wanted:
				t.Fatalf("%s: healthy %s stopped on %s without cause, %d of %d are left: %s", at, name, c.Domain, kept, o.Wanted, c.Reason)
			case c.Runs() && !o.On && !there && !d.Ordered[name]:
				t.Fatalf("%s: %s on %s is not wanted: %s", at, name, c.Domain, c.Reason)
			}
			if c.Action == topics.ActionStart {
				fresh++
			}
			givesWay := strings.HasSuffix(c.Reason, "stays until its replacement is healthy") || strings.Contains(c.Reason, " needs its version")
			if c.Runs() && !d.Gone && !d.Draining && !givesWay && f.fits(name, d) {
				holds++
				if d.Observed[name].State == topics.Failed {
					failed++
				}
			}
		}
		f.checkRanges(t, plan, name, at)
		if f.defs[name].Exclusive {
			f.checkAlone(t, name, o, at)
		}
		if o.On && holds-failed > o.Wanted {
			t.Fatalf("%s: %d of %s run, %d wanted", at, holds-failed, name, o.Wanted)
		}
		if fresh > 0 && holds-failed-fresh >= o.Wanted {
			t.Fatalf("%s: %d of %s started, %d wanted", at, fresh, name, o.Wanted)
		}
	}
}

// checkRanges holds of a service in whose range of versions others need it: what
// serves in that range is not stopped where no other copy in it goes on, and none
// out of it begins beside what runs and needs it.
func (f *fleet) checkRanges(t *testing.T, plan planner.Plan, name, at string) {
	t.Helper()
	o := plan.Services[name]
	if f.defs[name].Exclusive || !o.On {
		return
	}
	for _, c := range o.Choices {
		if c.Action == topics.ActionStart && f.barred(plan, name, f.domains[c.Domain]) {
			t.Fatalf("%s: %s starts on %s: %s", at, name, c.Domain, c.Reason)
		}
	}
	for by, def := range f.defs {
		for _, dep := range def.Dependencies {
			if dep.Service != name || !plan.Services[by].On {
				continue
			}
			stopped, goes := "", false
			for _, c := range o.Choices {
				d := f.domains[c.Domain]
				if !f.usable(name, d) || d.Draining || d.Moving[name] || !f.fits(name, d) || !dep.Version.Contains(d.Observed[name].Version) {
					continue
				}
				goes = goes || c.Runs()
				if c.Action == topics.ActionStop {
					stopped = c.Domain
				}
			}
			if stopped != "" && !goes {
				t.Fatalf("%s: %s needs %s %s, and the only copy in that range stops on %s: %v", at, by, name, dep.Version, stopped, o.Choices)
			}
		}
	}
}

// checkAlone holds of an exclusive service: it belongs into one start command
// at most, and begins nowhere while another domain may have it.
func (f *fleet) checkAlone(t *testing.T, name string, o *planner.Outcome, at string) {
	t.Helper()
	held, runs := f.input().Holds[name], 0
	for _, c := range o.Choices {
		if c.Runs() {
			runs++
		}
		if c.Action == topics.ActionStart && held.Why != "" && held.Only != c.Domain {
			t.Fatalf("%s: exclusive %s started on %s: %s", at, name, c.Domain, held.Why)
		}
	}
	if runs > 1 || o.Wanted > 1 {
		t.Fatalf("%s: exclusive %s on %d domains, %d wanted: %v", at, name, runs, o.Wanted, o.Choices)
	}
}

// fits says, in words of its own, whether a service may be started on a domain.
func (f *fleet) fits(name string, d planner.Domain) bool {
	def := f.defs[name]
	version, held := d.Catalog[name]
	memory := d.Machine.Memory == 0 || uint64(def.Needs.Memory) <= d.Machine.Memory
	return held && def.Version.Contains(version) && memory && !d.Micro && d.Problem == "" &&
		(len(def.Domains) == 0 || slices.Contains(def.Domains, d.Name)) &&
		!slices.ContainsFunc(def.Traits, func(trait string) bool { return !slices.Contains(d.Traits, trait) })
}

func (f *fleet) usable(name string, d planner.Domain) bool {
	i := d.Observed[name]
	return i.State == topics.Running && i.Health == topics.Healthy && d.State != topics.DomainIsLost
}

func (f *fleet) met(name string) bool {
	for _, dep := range f.defs[name].Dependencies {
		met := false
		for _, d := range f.domains {
			met = met || f.usable(dep.Service, d) && dep.Version.Contains(d.Observed[dep.Service].Version)
		}
		if !met {
			return false
		}
	}
	return true
}

// TestDrainEnds holds of random fleets: a domain that is drained is empty a few
// steps later, whatever becomes of the replacements.
func TestDrainEnds(t *testing.T) {
	for seed := range uint64(fleets) {
		f := newFleet(seed)
		for range 3 {
			f.disturb()
			f.last = planner.New(f.input())
			f.limp()
		}
		drained := ""
		for name, d := range sorted(f.domains) {
			if d.State == topics.DomainIsOnline && !d.Gone {
				d.Draining, drained = true, name
				f.domains[name] = d
				break
			}
		}
		if drained == "" {
			continue
		}
		bad := f.r.IntN(3) == 0 // nothing that is started gets well
		for range 30 {
			f.last = planner.New(f.input())
			f.obey()
			for name, d := range sorted(f.domains) {
				for service, i := range sorted(d.Observed) {
					if bad && name != drained && !f.defs[service].Exclusive {
						i.State = []topics.State{topics.Failed, topics.Running}[f.r.IntN(2)]
						i.Health = topics.Unhealthy
						d.Observed[service] = i
					}
				}
			}
		}
		for service, ordered := range f.domains[drained].Ordered {
			if ordered {
				t.Fatalf("seed %d: %s is draining and still has %s:\n%v", seed, drained, service, f.last.Lines())
			}
		}
	}
}

// TestRebalance holds of random fleets that came to rest: spreading them anew
// stops nothing without a replacement, and once more moves nothing.
func TestRebalance(t *testing.T) {
	for seed := range uint64(fleets) {
		f := newFleet(seed)
		for range 8 {
			f.last = planner.New(f.input())
			f.obey()
		}
		for again := range 2 {
			before := planner.New(f.input())
			moving, _ := planner.Rebalance(f.input(), nil)
			if again > 0 && len(moving) > 0 {
				t.Fatalf("seed %d: %v would move again", seed, moving)
			}
			in := f.input().WithMoving(moving)
			for _, d := range in.Domains {
				f.domains[d.Name] = d
			}
			for range 8 {
				f.last = planner.New(f.input())
				for name, o := range f.last.Services {
					runs := 0
					for _, c := range o.Choices {
						if c.Runs() && f.usable(name, f.domains[c.Domain]) {
							runs++
						}
					}
					if o.On && runs < min(before.Services[name].Wanted, f.usableOf(name)) {
						t.Fatalf("seed %d: %s has %d healthy copies while it moves: %v", seed, name, runs, o.Choices)
					}
				}
				f.obey()
			}
			for name, d := range f.domains {
				d.Moving = nil
				f.domains[name] = d
			}
		}
	}
}

func (f *fleet) usableOf(name string) (n int) {
	for _, d := range f.domains {
		if f.usable(name, d) {
			n++
		}
	}
	return n
}

// rest orders what is planned while no domain does anything: the orders alone
// must come to rest, as the hub plans again after each of them.
func (f *fleet) rest(t *testing.T, at string) {
	t.Helper()
	for range 4 {
		before := planner.New(f.input()).Desired()
		for name, d := range f.domains {
			d.Ordered = map[string]bool{}
			for _, service := range before[name] {
				d.Ordered[service] = true
			}
			f.domains[name] = d
		}
		if reflect.DeepEqual(before, planner.New(f.input()).Desired()) {
			return
		}
	}
	t.Fatalf("%s: the orders never come to rest: %v", at, planner.New(f.input()).Lines())
}

// settle obeys until nothing changes, which must be soon.
func (f *fleet) settle(t *testing.T, at string) {
	t.Helper()
	for range 3*len(f.defs) + 3 {
		f.last = planner.New(f.input())
		f.obey()
		changes := slices.DeleteFunc(planner.New(f.input()).Lines(), func(l topics.PlanLine) bool {
			return l.Action == topics.ActionKeep || l.Action == topics.ActionWait || f.domains[l.Domain].State != topics.DomainIsOnline
		})
		if len(changes) == 0 {
			f.enough(t, at)
			return
		}
	}
	t.Fatalf("%s: never settles: %v", at, planner.New(f.input()).Lines())
}

// barred reports whether the version that a domain has is out of a range that a
// service which runs needs and that no copy which is to run is in.
func (f *fleet) barred(plan planner.Plan, name string, d planner.Domain) bool {
	for by, def := range f.defs {
		for _, dep := range def.Dependencies {
			if dep.Service != name || !plan.Services[by].On || dep.Version.Contains(d.Catalog[name]) {
				continue
			}
			runs, covered := false, false
			for _, other := range f.domains {
				runs = runs || !other.Gone && other.Observed[by].State.Listed()
				i := other.Observed[name]
				covered = covered || !other.Gone && i.State.Listed() && dep.Version.Contains(i.Version)
			}
			if runs && !covered {
				return true
			}
		}
	}
	return false
}

// enough holds of a home that came to rest: what is missing has nowhere to run,
// or waits for something that has not.
func (f *fleet) enough(t *testing.T, at string) {
	t.Helper()
	for name, o := range planner.New(f.input()).Services {
		runs, room := 0, ""
		for _, d := range f.domains {
			if !d.Gone && (d.Ordered[name] || d.Observed[name].State.Listed()) {
				runs++
			} else if f.fits(name, d) && !f.barred(planner.New(f.input()), name, d) && d.State == topics.DomainIsOnline && !d.Draining {
				room = d.Name
			}
		}
		if o.On && runs < o.Wanted && room != "" && f.met(name) {
			t.Fatalf("%s: %d of %s run, %d wanted, and %s has room: %s", at, runs, name, o.Wanted, room, o.Reason)
		}
	}
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

// TestRanges holds of random fleets in which many need versions: no copy that
// serves is stopped as the only one in a range (checkRanges), while numbers and
// domains change.
func TestRanges(t *testing.T) {
	for seed := range uint64(fleets / 2) {
		f := newFleet(seed + 9_000_000)
		for name, d := range sorted(f.defs) {
			for i := range d.Dependencies {
				d.Dependencies[i].Version = f.versions(2)
			}
			d.Version, d.Replicas = services.Range{}, f.r.IntN(3)
			f.defs[name] = d
		}
		for step := range 8 {
			f.last = planner.New(f.input())
			f.check(t, f.last, fmt.Sprintf("seed %d step %d", seed, step))
			f.obey()
			for name := range sorted(f.defs) {
				if f.r.IntN(4) == 0 {
					f.want(name, []string{"1", "2", "3"}[f.r.IntN(3)])
				}
			}
			f.disturb()
		}
	}
}
