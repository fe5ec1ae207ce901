package hub

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Why says of each of twenty domains what is so of that one: the first reason
// that rules it out, or in what another one was better.
func TestWhyOfTwentyDomains(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	cfg, err := config.LoadDominion("", nil)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := store.Open(t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	web := services.Default("web")
	web.Priority, web.Replicas, web.Traits = services.Required, 2, []string{"compute"}
	web.Version, _ = services.ParseRange(">=2")
	web.Needs.Memory = 1e9
	cfg.Services = []services.Definition{web}
	h := New(Options{Config: cfg, Store: disk, Bus: deafBus{}, Log: log})
	now := time.Now()
	h.beginEpoch()
	h.connect(now)
	loud := func(names ...string) {
		for _, name := range names {
			h.heartbeat(name, topics.Heartbeat{ID: name, Session: "s"}, topics.Message{}, now)
			h.availability(name, topics.Online, false, now)
		}
	}
	say := func(name string, change func(*topics.Domain), runs ...topics.Instance) {
		s := topics.Domain{
			ID: name, Name: name, Protocol: topics.Protocol, Address: "192.0.2.1", Traits: []string{"compute"},
			Catalog: []topics.CatalogRow{{Service: "web", Version: "2.0.0"}}, Services: runs,
		}
		if change != nil {
			change(&s)
		}
		if err := h.domainStatus(name, s, topics.Message{}, now); err != nil {
			t.Fatal(err)
		}
	}
	has := func(version string) func(*topics.Domain) {
		return func(s *topics.Domain) { s.Catalog[0].Version = version }
	}
	running := topics.Instance{Service: "web", State: topics.Running, Health: topics.Healthy, Version: "2.0.0", Port: 80}
	want := map[string]string{}
	add := func(name, reason string, change func(*topics.Domain), runs ...topics.Instance) {
		say(name, change, runs...)
		loud(name)
		want[name] = reason
	}
	add("a-runs", "required; it is on a-runs already", nil, running)
	add("b-lost", "b-lost is lost", nil)
	add("c-silent", "c-silent is offline", nil)
	add("d-drains", "d-drains is draining", func(s *topics.Domain) { s.Draining = true })
	add("e-old", "e-old has web 1.9.0, >=2 is asked for", has("1.9.0"))
	add("f-unversioned", "f-unversioned has web without a version, >=2 is asked for", has(""))
	add("g-empty", "g-empty has no usable web in its services_dir", func(s *topics.Domain) { s.Catalog = nil })
	add("h-other", "h-other does not offer the trait compute", func(s *topics.Domain) { s.Traits = []string{"npbar"} })
	add("i-foreign", "i-foreign speaks protocol 9.0, this hub "+topics.Protocol, func(s *topics.Domain) { s.Protocol = "9.0" })
	add("j-micro", "j-micro is a microdomain and runs what is built into it", func(s *topics.Domain) { s.Micro, s.ID, s.Catalog = true, "", nil })
	add("k-small", "k-small has 512 MB of memory, web needs 1 GB", nil)
	h.metrics("k-small", topics.Metrics{MemoryTotal: 512e6}, false, now)
	for n := range 9 {
		name := fmt.Sprintf("z%d", n)
		add(name, "could run it, but 2 are enough", nil)
	}
	want["z0"] = "required; it is on z0 already"
	say("z0", nil, running)
	rest := func() {
		h.expire(now)
		for h.changed.Pending() {
			h.reconcile(now)
		}
	}
	rest()
	now = now.Add(4 * time.Second) // all but two send heartbeats again
	h.schedule.stall.Observe(now, 0, time.Hour)
	for _, d := range h.fleet.Sorted() {
		if d.Name != "b-lost" && !d.Micro {
			loud(d.Name)
		}
	}
	h.availability("c-silent", topics.Offline, false, now)
	rest()
	now = now.Add(time.Second)
	h.schedule.stall.Observe(now, 0, time.Hour)
	rest()
	if h.fleet.Len() != 20 {
		t.Fatalf("%d domains", h.fleet.Len())
	}
	check := func(want map[string]string) {
		t.Helper()
		w, err := h.why(topics.HubRequest{Service: "web"})
		if err != nil || len(w.Domains) != 20 {
			t.Fatalf("%d lines, %v", len(w.Domains), err)
		}
		for _, line := range w.Domains {
			if !strings.HasPrefix(line.Reason, want[line.Domain]) {
				t.Errorf("%s: %s\nwant %s", line.Domain, line.Reason, want[line.Domain])
			}
			one, err := h.why(topics.HubRequest{Service: "web", Domain: line.Domain})
			if err != nil || len(one.Domains) != 1 || one.Domains[0] != line {
				t.Errorf("asked for %s alone: %+v, %v", line.Domain, one, err)
			}
		}
	}
	check(want)

	// What is not well says so, where it is and in the words of its domain.
	sick := running
	sick.Health, sick.Message = topics.Unhealthy, "3 checks in a row failed: GET /health answered 500\nits last line"
	say("a-runs", nil, sick)
	broken := topics.Instance{Service: "web", State: topics.Backoff, Health: topics.UnknownHealth, Message: "exited with code 3; next try in 4 s\nits last line", NextTry: topics.At(time.Unix(1_800_000_000, 0))}
	say("z0", nil, broken)
	rest()
	for _, line := range []struct{ domain, reason string }{
		{"a-runs", "required; it is on a-runs already; unhealthy: 3 checks in a row failed: GET /health answered 500"},
		{"z0", "required; it is on z0 already; exited with code 3"},
	} {
		w, err := h.why(topics.HubRequest{Service: "web", Domain: line.domain})
		if err != nil || w.Domains[0].Reason != line.reason || !strings.HasSuffix(w.Reason, "\nits last line") || w.Domains[0].NextTry.IsZero() == (line.domain == "z0") {
			t.Errorf("%+v, %v\nwant %s", w, err, line.reason)
		}
	}
	well := running
	well.Message = "it serves 3 clients" // the status text of what is well is no trouble
	say("a-runs", nil, well)
	say("z0", nil, well)
	rest()
	check(want)
	if w, _ := h.why(topics.HubRequest{Service: "web", Domain: "z0"}); w.Domains[0].Reason != want["z0"] {
		t.Errorf("%+v", w)
	}

	// One that is switched off runs nowhere for one reason.
	if err := h.switchService("web", topics.Off); err != nil {
		t.Fatal(err)
	}
	rest()
	for name := range want {
		want[name] = "switched off"
	}
	check(want)

	// Where none can run it, the whole says why, as short as it can be read.
	if err := h.switchService("web", topics.On); err != nil {
		t.Fatal(err)
	}
	cfg.Services[0].Version, _ = services.ParseRange(">=3")
	h.reload(cfg, nil)
	for _, name := range []string{"a-runs", "z0"} {
		say(name, nil)
	}
	rest()
	w, _ := h.why(topics.HubRequest{Service: "web"})
	if got := w.Reason; !strings.HasPrefix(got, "no domain can run it now: a-runs has web 2.0.0, >=3 is asked for; b-lost has web 2.0.0, >=3 is asked for; c-silent") || !strings.HasSuffix(got, "; and 17 more") {
		t.Errorf("why: %s", got)
	}
}
