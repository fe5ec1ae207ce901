package hub

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/directory"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// recorder keeps what was published.
type recorder struct{ published []string }

func (r *recorder) Publish(m topics.Message) {
	r.published = append(r.published, m.Topic+" "+string(m.Payload))
}

// A pass looks at what has changed alone. Whatever happened: a pass over
// everything has nothing to add to it, and the plan is that of the whole home.
func TestNothingIsOverlooked(t *testing.T) {
	const seeds, steps = 60, 60
	dir := t.TempDir()
	for seed := range uint64(seeds) {
		f := newFuss(t, seed, fmt.Sprintf("%s/%d", dir, seed))
		for step := range steps {
			what := f.happen()
			f.h.expire(f.now)
			for pass := 0; f.pending(); pass++ {
				f.h.reconcile(f.now)
				if pass > 20 {
					t.Fatalf("seed %d step %d: %s: never comes to rest", seed, step, what)
				}
			}
			rows := make(map[string][]directory.Row)
			for _, d := range f.h.fleet.Sorted() {
				for _, r := range rowsOf(d) {
					rows[r.Service] = append(rows[r.Service], r)
				}
			}
			for _, service := range slices.Concat(f.h.directory.Services(), slices.Collect(maps.Keys(rows))) {
				if got := f.h.directory.Rows(service); !reflect.DeepEqual(rows[service], got) {
					t.Fatalf("seed %d step %d: %s: the rows of %s are\n%v\nand of the whole home\n%v", seed, step, what, service, got, rows[service])
				}
			}
			if want := planner.New(f.h.input()); !reflect.DeepEqual(f.h.plan.Services, want.Services) {
				t.Fatalf("seed %d step %d: %s: the plan is\n%v\nand of the whole home\n%v", seed, step, what, f.h.plan.Lines(), want.Lines())
			}
			f.bus.published = nil
			f.h.changed.TouchAll()
			f.h.reconcile(f.now)
			if len(f.bus.published) > 0 {
				t.Fatalf("seed %d step %d: %s: was overlooked:\n%s", seed, step, what, strings.Join(f.bus.published, "\n"))
			}
		}
	}
}

// fuss is a hub to which much happens.
type fuss struct {
	h    *Hub
	bus  *recorder
	r    *rand.Rand
	now  time.Time
	defs []services.Definition
}

func newFuss(t *testing.T, seed uint64, dir string) *fuss {
	log := slog.New(slog.DiscardHandler)
	cfg, err := config.LoadDominion("", nil)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := store.Open(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	f := &fuss{bus: &recorder{}, r: rand.New(rand.NewPCG(seed, 9)), now: time.Now()}
	for i := range 6 {
		d := services.Default(fmt.Sprintf("s%d", i))
		if f.r.IntN(2) == 0 {
			d.Priority = services.Required
		}
		d.Replicas = f.r.IntN(3)
		if f.r.IntN(4) == 0 {
			d.Scale = &services.Scale{Min: 1, Max: 4, Metric: services.ScaleByMQTT + "queue", Target: 2, Cooldown: time.Second}
		}
		for j := range i {
			if f.r.IntN(3) == 0 {
				d.Dependencies = append(d.Dependencies, services.Dependency{Service: fmt.Sprintf("s%d", j)})
			}
		}
		f.defs = append(f.defs, d)
	}
	cfg.Services = f.defs
	f.h = New(Options{Config: cfg, Store: disk, Bus: f.bus, Log: log})
	f.h.beginEpoch()
	f.h.followFigures()
	f.h.connect(f.now)
	return f
}

// pending reports whether the hub has anything to do. A number follows its figure
// as soon as the plan wants the service.
func (f *fuss) pending() bool {
	f.h.ops.scaling.Touch()
	f.h.scaleAll(f.now)
	return f.h.changed.Pending()
}

// happen lets one thing happen and says what.
func (f *fuss) happen() string {
	h, name := f.h, fmt.Sprintf("d%d", f.r.IntN(5))
	service := f.defs[f.r.IntN(len(f.defs))].Name
	f.now = f.now.Add(time.Duration(f.r.IntN(900)) * time.Millisecond)
	h.schedule.stall.Observe(f.now, 0, time.Hour)
	for _, d := range h.fleet.Sorted() {
		if f.r.IntN(8) > 0 && d.Name != name {
			h.heartbeat(d.Name, topics.Heartbeat{ID: d.ID, Session: "s", Epoch: h.epoch, Generation: d.Ordered.Generation}, topics.Message{}, f.now)
		}
	}
	switch f.r.IntN(15) {
	case 9:
		h.receive(arrival(h.tree, topics.Message{Topic: "queue", Payload: []byte(fmt.Sprint(f.r.IntN(10)))}, false), f.now)
		h.scaleAll(f.now)
		return "queue"
	case 0:
		word := []string{topics.Online, topics.Offline}[f.r.IntN(2)]
		h.availability(name, word, false, f.now)
		return name + " " + word
	case 1:
		return "forget " + name + fmt.Sprint(h.forget(name, f.now))
	case 2:
		word := []string{topics.On, topics.Off}[f.r.IntN(2)]
		return service + " " + word + fmt.Sprint(h.switchService(service, word))
	case 3:
		return "scale " + service + fmt.Sprint(h.scale(service, f.r.IntN(4)))
	case 4:
		cfg := h.cfg
		cfg.Services = slices.Clone(f.defs[:len(f.defs)-f.r.IntN(3)])
		if last := &cfg.Services[len(cfg.Services)-1]; f.r.IntN(2) == 0 {
			last.Port = 80 + f.r.IntN(2)
		}
		h.reload(cfg, nil)
		return "reload"
	case 5:
		degrees := 20.0
		h.metrics(name, topics.Metrics{Temperature: &degrees, Load1: float64(f.r.IntN(4)), MemoryTotal: 1 << 30, MemoryUsed: f.r.Uint64N(1 << 30)}, false, f.now)
		return "metrics of " + name
	case 6:
		f.now = f.now.Add([]time.Duration{5 * time.Second, 5 * time.Second, 12 * time.Minute}[f.r.IntN(3)])
		h.schedule.stall.Observe(f.now, 0, time.Hour)
		return "silence"
	case 7, 8:
		h.heartbeat(name, topics.Heartbeat{ID: name, Session: "s"}, topics.Message{}, f.now)
		h.availability(name, topics.Online, false, f.now)
		return name + " beats"
	default:
		s := f.status(name)
		err := h.domainStatus(name, s, topics.Message{Topic: h.tree.Domain(topics.DomainStatus, name)}, f.now)
		return fmt.Sprintf("%s says %+v %v", name, s, err)
	}
}

// status is what a domain reports that does about what it was ordered.
func (f *fuss) status(name string) topics.Domain {
	s := topics.Domain{ID: name, Name: name, Protocol: topics.Protocol, Address: "192.0.2." + name[1:], Micro: name == "d4", Draining: f.r.IntN(10) == 0}
	for _, d := range f.defs {
		if f.r.IntN(8) > 0 {
			s.Catalog = append(s.Catalog, topics.CatalogRow{Service: d.Name, Version: []string{"1.0.0", "2.0.0"}[f.r.IntN(12)/11]})
		}
		ordered := f.h.fleet.Get(name) != nil && f.h.fleet.Get(name).Ordered.Services[d.Name]
		if ordered == (f.r.IntN(6) > 0) {
			revision := "of-another-time"
			if spec, _ := f.h.ops.rollouts.Assigned(d.Name, name); spec != nil && f.r.IntN(4) > 0 {
				revision = spec.Revision
			}
			s.Services = append(s.Services, topics.Instance{
				Service: d.Name, Version: []string{"1.0.0", "2.0.0"}[f.r.IntN(12)/11], Revision: revision, Restarts: f.r.IntN(4), Port: 80 + f.r.IntN(2),
				State:  []topics.State{topics.Running, topics.Running, topics.Running, topics.Starting, topics.Failed, topics.Stopping, topics.Finished}[f.r.IntN(7)],
				Health: []topics.Health{topics.Healthy, topics.Healthy, topics.Unhealthy, ""}[f.r.IntN(4)],
			})
		}
	}
	return s
}
