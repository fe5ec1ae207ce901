package hub

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// city is a hub of a thousand domains that run ten thousand instances of about
// a thousand services, all as they were ordered: two services run everywhere,
// the others on eight domains each; half of them need another one.
func city(tb testing.TB) (*Hub, time.Time) {
	const domains, kinds, copies = 1000, 1000, 8
	log := slog.New(slog.DiscardHandler)
	cfg, err := config.LoadDominion("", nil)
	if err != nil {
		tb.Fatal(err)
	}
	catalogs := make([][]topics.CatalogRow, domains)
	for i := range kinds + 2 {
		d := services.Default(fmt.Sprintf("s%04d", i))
		d.Priority = services.Required
		has := domains
		if i >= 2 {
			d.Replicas, has = copies, copies+4
			if i%2 == 0 {
				d.Dependencies = []services.Dependency{{Service: fmt.Sprintf("s%04d", i/2)}, {Service: "s0000"}}
			}
		}
		cfg.Services = append(cfg.Services, d)
		for n := range has {
			at := (i*7 + n*83) % domains
			catalogs[at] = append(catalogs[at], topics.CatalogRow{Service: d.Name, Version: "1.0.0"})
		}
	}
	slices.SortFunc(cfg.Services, func(a, b services.Definition) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	disk, err := store.Open(tb.TempDir(), log)
	if err != nil {
		tb.Fatal(err)
	}
	h := New(Options{Config: cfg, Store: disk, Bus: deafBus{}, Log: log})
	now := time.Now()
	h.beginEpoch()
	for n := range domains {
		name := fmt.Sprintf("d%04d", n)
		h.availability(name, topics.Online, false, now)
		if err := h.domainStatus(name, topics.Domain{ID: name, Name: name, Protocol: topics.Protocol, Address: "192.0.2.1", Catalog: catalogs[n]}, topics.Message{}, now); err != nil {
			tb.Fatal(err)
		}
		h.heartbeat(name, topics.Heartbeat{ID: name, Session: "s", Seq: 1}, topics.Message{}, now)
	}
	h.connect(now)
	h.expire(now)
	for range 20 { // what is ordered runs, and what waited for it is ordered
		for h.changed.Pending() {
			h.reconcile(now)
		}
		for _, d := range h.fleet.Sorted() {
			s := h.obeyed(d)
			if len(s.Services) == len(d.Status.Services) {
				continue
			}
			if err := h.domainStatus(d.Name, s, topics.Message{}, now); err != nil {
				tb.Fatal(err)
			}
		}
		if !h.changed.Pending() {
			break
		}
	}
	for range 2 { // and is known to be good
		now = now.Add(10 * time.Minute)
		for _, d := range h.fleet.Sorted() {
			h.heartbeat(d.Name, topics.Heartbeat{ID: d.ID, Session: "s", Epoch: h.epoch, Generation: d.Ordered.Generation}, topics.Message{}, now)
			if err := h.domainStatus(d.Name, h.obeyed(d), topics.Message{}, now); err != nil {
				tb.Fatal(err)
			}
		}
		for h.changed.Pending() {
			h.reconcile(now)
		}
	}
	running := 0
	for _, v := range h.views.statuses.All() {
		running += v.Running
	}
	if running != 2*domains+kinds*copies || h.changed.Pending() {
		tb.Fatalf("%d instances run", running)
	}
	return h, now
}

// obeyed is the status of a domain that runs what it was ordered to.
func (h *Hub) obeyed(d *domain) topics.Domain {
	s := *d.Status
	s.Services = nil
	for i, row := range s.Catalog {
		if spec, _ := h.ops.rollouts.Assigned(row.Service, d.Name); spec != nil {
			s.Services = append(s.Services, topics.Instance{
				Service: row.Service, State: topics.Running, Health: topics.Healthy, Version: row.Version, Port: 20000 + i, Revision: spec.Revision,
			})
		}
	}
	return s
}

// One change in a city, from the message to all that follows from it: the
// goal is a millisecond for the plan, and little more for the whole.
func BenchmarkCity(b *testing.B) {
	h, now := city(b)
	d := h.fleet.Get("d0500")
	few := d.Status.Services[slices.IndexFunc(d.Status.Services, func(i topics.Instance) bool { return i.Service > "s0001" })].Service
	say := func(service string, to topics.Health) arrived {
		s := h.obeyed(d)
		for i := range s.Services {
			if s.Services[i].Service == service {
				s.Services[i].Health = to
			}
		}
		return arrival(h.tree, topics.Message{Topic: "dominion/domain/d0500/status", Payload: topics.Encode(s)}, false)
	}
	for _, bench := range []struct {
		name    string
		service string
		whole   bool
	}{{"health", few, false}, {"health-everywhere", "s0001", false}, {"nothing", "", false}, {"health-whole", few, true}} {
		b.Run(bench.name, func(b *testing.B) {
			messages := [2]arrived{say(bench.service, topics.Unhealthy), say(bench.service, topics.Healthy)}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				h.handle(messages[i%2], now)
				if bench.whole {
					h.changed.TouchAll()
				}
				for h.changed.Pending() {
					h.reconcile(now)
				}
			}
		})
	}
	b.Run("switch", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if err := h.switchService(few, []string{topics.Off, topics.On}[i%2]); err != nil {
				b.Fatal(err)
			}
			for h.changed.Pending() {
				h.reconcile(now)
			}
		}
	})
}
