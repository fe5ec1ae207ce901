package programs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// machine is a domain whose disk and hub the test plays.
type machine struct {
	t      *testing.T
	p      *Programs
	now    time.Time
	accept string
	local  map[string]bool
	disk   map[string]string // directories, by layer
	begun  []string          // layers, in order
	events []string
	stored map[string]Record
	ran    map[string]topics.Spec
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), accept: topics.AcceptDeploy, local: map[string]bool{}, disk: map[string]string{}}
	m.start()
	return m
}

// start is a start of the agent with what is stored.
func (m *machine) start() {
	m.p = New(Options{
		Platform: "linux/arm64", Accept: func() string { return m.accept }, Local: func(service string) bool { return m.local[service] },
		Find: func(_ string, v topics.BundleVariant) (string, bool) {
			dir, found := m.disk[v.Layer]
			return dir, found
		},
		Begin:        func(f Fetch) { m.begun = append(m.begun, f.Variant.Layer) },
		StartTimeout: func(string) time.Duration { return 30 * time.Second },
		Report:       func(kind topics.EventType, _, text string) { m.events = append(m.events, string(kind)+" "+text) },
		Store:        func(all map[string]Record) { m.stored = all },
	}, m.stored)
}

func bundleOf(version string) *topics.Bundle {
	return &topics.Bundle{Version: version, Digest: "sha256:" + strings.Repeat(version[:1], 64), Variants: []topics.BundleVariant{{Layer: "layer" + version}}}
}

func deployed(version string, former *topics.Bundle) topics.Spec {
	return topics.Spec{Revision: "r" + version, Bundle: bundleOf(version), Former: former, StartTimeout: topics.Seconds(30 * time.Second)}
}

func (m *machine) order(specs map[string]topics.Spec) { m.ran = m.p.Order(specs, m.now) }

func (m *machine) web(s topics.Spec) { m.order(map[string]topics.Spec{"web": s}) }

// pulled has a layer be on the disk.
func (m *machine) pulled(layer string) {
	m.disk[layer] = "/bundles/" + layer
	m.done(Result{Layer: layer, Dir: m.disk[layer]})
}

func (m *machine) done(r Result) {
	if m.p.Done(r, m.now) {
		m.ran = m.p.Decide(m.now)
	}
}

// pass lets time pass while web is reported so.
func (m *machine) pass(d time.Duration, i topics.Instance, heard bool) {
	m.now = m.now.Add(d)
	i.Service = "web"
	if m.p.Expire([]topics.Instance{i}, heard, m.now) {
		m.ran = m.p.Decide(m.now)
	}
}

func (m *machine) healthy() {
	m.pass(time.Second, topics.Instance{Revision: m.ran["web"].Revision, State: topics.Running, Health: topics.Healthy}, true)
}

// runs checks which version the supervisor was given; "": none.
func (m *machine) runs(want string) {
	m.t.Helper()
	got := ""
	if b := m.ran["web"].Bundle; b != nil {
		got = b.Version
	}
	if got != want {
		m.t.Errorf("it runs %q, want %q", got, want)
	}
}

// What runs goes on until its successor is whole; the progress is shown meanwhile.
func TestSuccessorIsWholeFirst(t *testing.T) {
	m := newMachine(t)
	m.web(deployed("1", nil))
	m.runs("")
	m.p.Progress("layer1", 40)
	if i := m.p.Show(nil); len(i) != 1 || i[0].State != topics.Fetching || i[0].Progress != 40 || i[0].Revision != "r1" || i[0].Version != "1" {
		t.Errorf("shown %+v", i)
	}
	m.pulled("layer1")
	m.runs("1")
	if i := m.p.Show(nil); len(i) != 0 {
		t.Errorf("shown %+v", i)
	}
	m.healthy()
	m.web(deployed("2", bundleOf("1")))
	m.runs("1")
	running := []topics.Instance{{Service: "web", Revision: "r1", State: topics.Running}}
	if i := m.p.Show(running); len(i) != 1 || i[0].Progress != 1 || i[0].State != topics.Running {
		t.Errorf("shown %+v", i)
	}
	m.pulled("layer2")
	m.runs("2")
	if !slices.Equal(m.begun, []string{"layer1", "layer2"}) {
		t.Errorf("begun %q", m.begun)
	}
}

// A failure is shown, and tried again after a growing delay; at most two at a time.
func TestFetches(t *testing.T) {
	m := newMachine(t)
	m.order(map[string]topics.Spec{"web": deployed("1", nil), "lamp": deployed("1", nil), "a": deployed("2", nil), "b": deployed("3", nil)})
	if len(m.begun) != 2 {
		t.Fatalf("begun %q", m.begun)
	}
	delay := time.Duration(0)
	for range 10 {
		m.begun = slices.DeleteFunc(m.begun, func(layer string) bool { return layer == "layer1" })
		m.done(Result{Layer: "layer1", Err: errors.New("no route to host")})
		for delay = 0; !slices.Contains(m.begun, "layer1"); delay += time.Second {
			for _, other := range []string{"layer2", "layer3"} {
				if slices.Contains(m.begun, other) && m.disk[other] == "" {
					m.pulled(other)
				}
			}
			m.pass(time.Second, topics.Instance{}, true)
			if delay > maxDelay {
				t.Fatal("it is not tried again")
			}
		}
	}
	if delay < maxDelay-2*time.Second {
		t.Errorf("the last delay was %v", delay)
	}
	if i := m.p.Show(nil); !strings.Contains(i[len(i)-1].Message, "no route") {
		t.Errorf("shown %+v", i)
	}
	m.done(Result{Layer: "layer1", Err: errors.New("not yet"), Soon: true})
	if next := m.p.Next(m.now).Sub(m.now); next > soonDelay || next <= 0 {
		t.Errorf("tried again after %v", next)
	}
}

// Without a hub, what does not get healthy in time is replaced by what was healthy last, once, also
// after a restart; with a hub, that decides.
func TestGoesBackWithoutAHub(t *testing.T) {
	m := newMachine(t)
	m.disk = map[string]string{"layer1": "/1", "layer2": "/2"}
	m.web(deployed("1", nil))
	m.healthy()
	m.web(deployed("2", bundleOf("1")))
	m.runs("2")
	m.pass(20*time.Second, topics.Instance{Revision: "r1", State: topics.Stopping}, false) // its time has not begun
	failing := topics.Instance{Revision: "r2", State: topics.Backoff}
	m.pass(29*time.Second, failing, false)
	m.runs("2")
	m.pass(time.Minute, failing, true)
	m.runs("2")
	if next := m.p.Next(m.now); !next.IsZero() {
		t.Errorf("due at %v while the hub decides", next)
	}
	m.pass(time.Second, failing, false)
	m.runs("1")
	if m.ran["web"].Revision != "r1" || len(m.events) != 1 || !strings.HasPrefix(m.events[0], "service_reverted version 2") {
		t.Errorf("revision %s, events %q", m.ran["web"].Revision, m.events)
	}
	if i := m.p.Show([]topics.Instance{{Service: "web", Revision: "r1", State: topics.Running}}); !strings.Contains(i[0].Message, "went back from version 2") || i[0].Rejected != "r2" {
		t.Errorf("shown %+v", i)
	}
	m.start()
	m.web(deployed("2", bundleOf("1")))
	m.runs("1")
	m.web(deployed("1", nil)) // the hub takes it back, and tries it again
	m.runs("1")
	m.web(deployed("2", bundleOf("1")))
	m.runs("2")
}

// What runs once and has ended well does not run again when another bundle is taken back, and one
// that runs is not healthy yet.
func TestOneshot(t *testing.T) {
	m := newMachine(t)
	m.disk = map[string]string{"layer1": "/1", "layer2": "/2"}
	job := func(version string, former *topics.Bundle) topics.Spec {
		s := deployed(version, former)
		s.Oneshot = true
		return s
	}
	m.web(job("1", nil))
	m.healthy()
	if m.p.Ended("web", job("1", nil)) {
		t.Error("it runs still")
	}
	ended, failed := 0, 1
	m.pass(time.Second, topics.Instance{Revision: "r1", State: topics.Finished, ExitCode: &ended}, true)
	m.web(job("2", bundleOf("1")))
	m.pass(time.Hour, topics.Instance{Revision: "r2", State: topics.Failed, ExitCode: &failed}, false)
	m.runs("2") // it does not go back: that would run it again
	if !m.p.Ended("web", job("1", nil)) || m.p.Ended("web", job("2", nil)) {
		t.Error("what has ended is forgotten")
	}
}

// A bundle that cannot be built leaves what runs alone, and ends the rollout.
func TestCannotBeBuilt(t *testing.T) {
	m := newMachine(t)
	m.web(deployed("1", nil))
	m.done(Result{Layer: "layer1", Err: fmt.Errorf("%w: no compiler", ErrBuild)})
	if i := m.p.Show(nil); i[0].State != topics.Failed || i[0].Revision != "r1" || !strings.Contains(i[0].Message, "no compiler") {
		t.Errorf("shown %+v", i)
	}
	m.pulled("layer1")
	m.healthy()
	m.web(deployed("2", bundleOf("1")))
	m.done(Result{Layer: "layer2", Err: fmt.Errorf("%w: no compiler", ErrBuild)})
	m.runs("1")
	if i := m.p.Show([]topics.Instance{{Service: "web", Revision: "r1", State: topics.Running}}); i[0].Rejected != "r2" || i[0].Progress != 0 || !strings.Contains(i[0].Message, "no compiler") {
		t.Errorf("shown %+v", i)
	}
}

// After a boot without a hub what was there runs, while what was ordered is pulled.
func TestColdBoot(t *testing.T) {
	m := newMachine(t)
	m.disk["layer1"] = "/1"
	m.web(deployed("1", nil))
	m.healthy()
	m.start()
	m.web(deployed("2", bundleOf("1")))
	m.runs("1")
	if m.ran["web"].Revision != "r1" {
		t.Errorf("revision %s", m.ran["web"].Revision)
	}

	m.stored = nil // lost: the order names it
	m.start()
	m.web(deployed("2", bundleOf("1")))
	m.runs("1")
	m.start()
	m.p.Adopt(map[string]topics.Spec{"web": deployed("1", nil)})
	m.web(deployed("2", nil))
	m.runs("1")
}

// services_dir wins, and is not pulled for; what the domain does not accept or cannot run is
// refused.
func TestRefusals(t *testing.T) {
	m := newMachine(t)
	m.local["web"] = true
	m.web(deployed("1", nil))
	m.runs("1")
	if dir, version, err := m.p.Directory("web", m.ran["web"]); dir != "" || version != "" || err != nil || len(m.begun) > 0 || m.p.Deployed("web") {
		t.Errorf("it runs from %q %q %v, begun %q", dir, version, err, m.begun)
	}
	if i := m.p.Show([]topics.Instance{{Service: "web", State: topics.Running}}); !strings.Contains(i[0].Message, "services_dir") {
		t.Errorf("shown %+v", i)
	}
	m.local["web"] = false
	if !m.p.Reconsider() {
		t.Error("a directory that is gone changes nothing")
	}
	for _, accept := range []string{"local", "environment"} {
		m.accept = accept
		if why := m.p.Refuse("web", deployed("1", nil)); !strings.Contains(why, `accept = "deploy"`) {
			t.Errorf("accept %s: %q", accept, why)
		}
		m.web(deployed("1", nil)) // the supervisor shows the refusal
		m.runs("1")
	}
	m.accept = topics.AcceptUpgrade
	other := deployed("1", nil)
	other.Bundle.Variants[0].Platform = "linux/amd64"
	if why := m.p.Refuse("web", other); !strings.Contains(why, "linux/arm64") || !strings.Contains(why, "linux/amd64") {
		t.Errorf("of another platform: %q", why)
	}
	if len(m.begun) > 0 {
		t.Errorf("begun %q", m.begun)
	}
}

// Nothing that runs, was healthy or is ordered is removed.
func TestUnused(t *testing.T) {
	m := newMachine(t)
	layers := func(alive ...*topics.Bundle) string {
		all, any := m.p.Unused(alive)
		if !any {
			return "none"
		}
		var names []string
		for _, v := range all {
			names = append(names, v.Layer)
		}
		slices.Sort(names)
		return strings.Join(slices.Compact(names), " ")
	}
	m.disk = map[string]string{"layer1": "/1", "layer2": "/2"}
	m.web(deployed("1", nil))
	m.healthy()
	m.web(deployed("2", bundleOf("1")))
	if got := layers(bundleOf("1")); got != "layer1 layer2" {
		t.Errorf("needed %q", got)
	}
	if got := layers(bundleOf("1")); got != "none" {
		t.Errorf("again %q", got)
	}
	m.web(deployed("3", bundleOf("1")))
	m.pulled("layer3")
	if got := layers(bundleOf("2")); got != "none" {
		t.Errorf("while 2 still runs, removed but %q", got)
	}
	if got := layers(bundleOf("3")); got != "layer1 layer3" {
		t.Errorf("needed %q", got)
	}
	m.order(nil)
	if got := layers(); got != "" {
		t.Errorf("needed %q", got)
	}
	if len(m.stored) != 0 {
		t.Errorf("stored %+v", m.stored)
	}
}
