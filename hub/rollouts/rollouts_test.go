package rollouts_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/rollouts"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// home is a home with one service, "web", whose agents do as they are ordered when obey
// says so.
type home struct {
	t        *testing.T
	r        *rollouts.Rollouts
	def      services.Definition
	secrets  map[string]string
	record   rollout.Record
	needs    []rollout.Need
	domains  map[string]*rollouts.Instance // those that are to have an instance
	now      time.Time
	events   []string
	assigned []string
	replan   []string
}

func newHome(t *testing.T, domains ...string) *home {
	h := &home{t: t, def: services.Definition{Name: "web", Target: "first"}, domains: make(map[string]*rollouts.Instance), now: time.Unix(1_000_000, 0)}
	for _, name := range domains {
		h.domains[name] = &rollouts.Instance{Domain: name, Online: true, Catalog: "1.0.0", CatalogSince: h.now, Current: true}
	}
	h.start()
	return h
}

// start begins a run of the hub, which has what is persisted alone.
func (h *home) start() {
	h.r = rollouts.New(rollouts.Home{
		Definition: func(string) services.Definition { return h.def },
		Secrets:    func(string) map[string]string { return h.secrets },
		Needs:      func(string) []rollout.Need { return h.needs },
		Domains:    func(string) []string { return slices.Sorted(maps.Keys(h.domains)) },
		Instance:   func(_, domain string) rollouts.Instance { return *h.domains[domain] },
		Message:    func(string, string) string { return "exit status 1" },
		Record:     func(string) rollout.Record { return h.record },
		Persist:    func(_ string, r rollout.Record) { h.record = r },
	})
	h.step(true)
}

// step decides, and takes over what follows.
func (h *home) step(whole bool, changed ...string) rollouts.Result {
	r := h.r.Step("web", changed, whole, h.now)
	for _, e := range r.Events {
		h.events = append(h.events, string(e.Type)+" "+e.Message)
	}
	h.assigned = append(h.assigned, r.Assigned...)
	h.replan = append(h.replan, r.Replan...)
	return r
}

// obey has an agent take what its instance is assigned, and the instance be in a state.
func (h *home) obey(domain string, state topics.State, health topics.Health) {
	h.t.Helper()
	spec, _ := h.r.Assigned("web", domain)
	if spec == nil {
		h.t.Fatalf("%s is assigned nothing", domain)
	}
	h.r.MarkSent("web", domain)
	i := h.domains[domain]
	before := i.Reported
	i.Reported = &topics.Instance{Service: "web", State: state, Health: health, Version: i.Catalog, Revision: spec.Revision}
	if before != nil {
		i.Reported.Restarts = before.Restarts
		if before.Revision == spec.Revision {
			i.Reported.Version = before.Version
		} else {
			i.Reported.Restarts++
		}
	}
	i.Health = health
}

// wait lets time pass until the next thing is due.
func (h *home) wait() {
	h.t.Helper()
	next := h.r.Next()
	if !next.After(h.now) {
		h.t.Fatalf("due at %v, it is %v", next, h.now)
	}
	if early := h.r.Expire(next.Add(-1)); len(early) != 0 {
		h.t.Errorf("%v are due too early", early)
	}
	h.now = next
	if due := h.r.Expire(h.now); !slices.Equal(due, []string{"web"}) {
		h.t.Errorf("due are %v", due)
	}
	h.step(false)
}

// settled has all instances run for long enough under what they are assigned.
func (h *home) settled() *home {
	h.t.Helper()
	for domain := range h.domains {
		h.obey(domain, topics.Running, topics.Healthy)
	}
	h.step(false)
	for n := 0; !h.r.Next().IsZero(); n++ {
		if n > 10 {
			h.t.Fatalf("something is always due: %+v", h.r.View("web", nil))
		}
		h.wait()
	}
	h.events, h.assigned, h.replan = nil, nil, nil
	return h
}

// want checks which domains were assigned something since it was asked last.
func (h *home) want(what string, assigned ...string) {
	h.t.Helper()
	if !slices.Equal(h.assigned, assigned) {
		h.t.Errorf("%s: %v were assigned something, want %v", what, h.assigned, assigned)
	}
	h.assigned = nil
}

// wantEvents checks what was reported since it was asked last: by type and a part of the
// message.
func (h *home) wantEvents(what string, events ...string) {
	h.t.Helper()
	ok := len(h.events) == len(events)
	for i := 0; ok && i < len(events); i++ {
		kind, part, _ := strings.Cut(events[i], " ")
		ok = strings.HasPrefix(h.events[i], kind+" ") && strings.Contains(h.events[i], part)
	}
	if !ok {
		h.t.Errorf("%s: reported was %q, want %q", what, h.events, events)
	}
	h.events = nil
}

func TestAChangeReachesOneInstanceAfterTheOther(t *testing.T) {
	h := newHome(t, "attic", "cellar")
	h.want("the first definition goes everywhere at once", "attic", "cellar")
	h.settled()
	if h.record.Stable == nil || h.record.Stable.Target != "first" {
		t.Fatalf("stable is %+v", h.record.Stable)
	}

	h.def.Target = "second"
	h.step(true)
	h.want("the change begins", "attic")
	h.wantEvents("the change begins", "service_updating 2 instances one by one")
	if reason := h.r.Reason("web", "cellar"); !strings.Contains(reason, "it is changed later") {
		t.Errorf("cellar waits: %q", reason)
	}
	h.obey("attic", topics.Running, topics.Healthy)
	h.step(false, "attic")
	h.want("attic is healthy, and watched for a moment")
	h.wait()
	h.want("attic is proved", "cellar")
	if u := h.r.View("web", nil); !u.InProgress || u.Updated != 1 || u.Total != 2 || *u.Percentage != 50 {
		t.Errorf("it is shown as %+v", u)
	}
	h.obey("cellar", topics.Running, topics.Healthy)
	h.step(false, "cellar")
	h.wait()
	h.want("all are proved")
	h.wantEvents("all are proved", "service_updated 2 instances healthy")
	if h.record.Stable.Target != "second" || !h.r.Next().IsZero() {
		t.Errorf("stable is %q, and something is due at %v", h.record.Stable.Target, h.r.Next())
	}
	h.step(false)
	if r := h.step(false, "attic", "cellar"); r.Decided {
		t.Error("all is up to date, and it is decided on")
	}
}

// Another value of a secret reaches one instance after the other, and the same value none,
// also after a restart of the hub.
func TestASecretReachesOneInstanceAfterTheOther(t *testing.T) {
	h := newHome(t, "attic", "cellar")
	h.secrets = map[string]string{"pw": "1"}
	h.start()
	h.settled()
	h.assigned = nil
	h.start()
	h.want("the hub has started again")
	h.secrets = map[string]string{"pw": "2"}
	h.step(true)
	h.want("another value", "attic")
	h.obey("attic", topics.Running, topics.Healthy)
	h.step(false, "attic")
	h.wait()
	h.want("attic is proved", "cellar")
}

// What did not get healthy is taken back, and no hub that starts later tries it again
// before somebody asks for it.
func TestWhatDoesNotGetHealthyIsRefused(t *testing.T) {
	h := newHome(t, "attic", "cellar").settled()
	h.def.Target = "second"
	h.step(true)
	h.want("the change begins", "attic")
	h.obey("attic", topics.Failed, "")
	h.step(false, "attic")
	h.want("it is taken back", "attic")
	h.wantEvents("it is taken back", "service_updating ", "service_reverted on attic it failed (exit status 1): back to the one before")
	if spec, _ := h.r.Assigned("web", "attic"); spec.Target != "first" {
		t.Errorf("attic is assigned %q", spec.Target)
	}
	if u := h.r.View("web", nil); !strings.Contains(u.Problem, "did not get healthy: on attic it failed") || !strings.HasPrefix(h.r.Describe("web", u), "goes back to the definition before: 1 of 2 instances; ") {
		t.Errorf("it is shown as %+v, %q", u, h.r.Describe("web", u))
	}
	h.settled()

	h.start()
	h.want("the hub is restarted: nothing is tried again")
	h.wantEvents("the hub is restarted")
	if restarted, ok := h.r.Update("web", nil, h.now); !ok || len(restarted) != 0 || h.record.Attempt != 1 {
		t.Errorf("an update restarts %v, %v, attempt %d", restarted, ok, h.record.Attempt)
	}
	h.step(false)
	h.want("it is tried again", "attic")
	if _, ok := h.r.Update("web", nil, h.now); ok {
		t.Error("an update changes something though nothing is refused")
	}
}

// An instance that does not take what it is assigned has its time, and no more.
func TestPatienceEnds(t *testing.T) {
	h := newHome(t, "attic", "cellar").settled()
	h.def.Target = "second"
	began := h.now
	h.step(true)
	h.r.MarkSent("web", "attic")
	h.step(false)
	h.wantEvents("it is sent", "service_updating ")
	h.wait()
	h.wantEvents("its time is over", "service_reverted it was not restarted in time")
	if spent, want := h.now.Sub(began), rollout.Patience(h.def.Spec(nil)); spent != want {
		t.Errorf("it had %v, want %v", spent, want)
	}
}

// An exclusive service that waits for its lease is not blamed for it: after a start of the
// hub that may be longer than any change may take.
func TestWaitingForALeaseIsNoTrouble(t *testing.T) {
	h := newHome(t, "attic")
	h.def.Exclusive = true
	h.step(true)
	h.settled()
	h.def.Target = "second"
	h.step(true)
	h.wantEvents("the change begins", "service_updating ")
	patience := rollout.Patience(h.def.Spec(nil))
	h.obey("attic", topics.Pending, "")
	h.now = h.now.Add(2 * patience)
	h.step(false, "attic")
	h.wantEvents("it waits for a lease")
	h.obey("attic", topics.Starting, "")
	h.now = h.now.Add(patience - 1)
	h.step(false, "attic")
	h.wantEvents("it starts, and its time is not over")
	h.now = h.now.Add(1)
	h.step(false, "attic")
	h.wantEvents("its time is over", "service_reverted it was not healthy in time")
}

// A domain that was away while a change was assigned and taken back finds its instance as it
// runs: one that was restarted for a version is not restarted again for nothing.
func TestTakenBackBeforeItWasTaken(t *testing.T) {
	h := newHome(t, "attic", "cellar").settled()
	for _, i := range h.domains {
		i.Catalog, i.CatalogSince = "1.2.0", h.now
	}
	h.step(false, "attic", "cellar")
	h.wait()
	h.want("the catalogs are settled", "attic")
	h.obey("attic", topics.Running, topics.Healthy)
	h.step(false, "attic")
	h.wait()
	h.settled()
	runs := h.domains["attic"].Reported.Revision
	if runs != rollout.Revise(h.def.Spec(nil).Revision, "1.2.0", 0) {
		t.Fatalf("attic runs under revision %s", runs)
	}

	h.def.Target = "second"
	h.step(true)
	h.want("the change begins", "attic")
	h.r.MarkSent("web", "attic")
	h.domains["attic"].Online = false
	h.step(false, "attic")
	h.def.Target = "first"
	h.step(true)
	h.want("it is waited for")
	h.domains["attic"].Online = true
	h.step(false, "attic")
	h.want("it is back", "attic")
	if spec, variant := h.r.Assigned("web", "attic"); spec.Revision != runs || spec.Target != "first" || variant == "" {
		t.Errorf("it is assigned revision %s of %s, it runs under %s", spec.Revision, spec.Target, runs)
	}
	if spec, _ := h.r.Assigned("web", "cellar"); spec.Revision != h.domains["cellar"].Reported.Revision {
		t.Errorf("cellar is assigned revision %s, it runs under %s", spec.Revision, h.domains["cellar"].Reported.Revision)
	}
}

// Files cannot be taken back: an instance in trouble under a refused version is tried
// elsewhere, and restarted when somebody asks for it.
func TestARefusedVersionIsHopeless(t *testing.T) {
	h := newHome(t, "attic", "cellar").settled()
	for _, i := range h.domains {
		i.Catalog, i.CatalogSince = "2.0.0", h.now
	}
	h.step(false, "attic", "cellar")
	h.want("what is being copied is not rolled out")
	h.wait()
	h.want("the catalogs are settled", "attic")
	h.obey("attic", topics.Failed, "")
	h.step(false, "attic")
	h.wantEvents("it failed", "service_updating version 2.0.0", "service_reverted version 2.0.0 did not get healthy")
	h.want("no other instance is restarted for it")
	if !h.r.Hopeless("web", "attic") || h.r.Hopeless("web", "cellar") || !slices.Equal(h.replan, []string{"attic"}) {
		t.Errorf("hopeless on attic %v, on cellar %v, to plan again %v", h.r.Hopeless("web", "attic"), h.r.Hopeless("web", "cellar"), h.replan)
	}
	before, _ := h.r.Assigned("web", "attic")
	revision := before.Revision
	if restarted, ok := h.r.Update("web", nil, h.now); !ok || !slices.Equal(restarted, []string{"attic"}) {
		t.Errorf("an update restarts %v, %v", restarted, ok)
	}
	if spec, _ := h.r.Assigned("web", "attic"); spec.Revision == revision || h.r.Hopeless("web", "attic") {
		t.Errorf("after an update it has revision %s as before, hopeless %v", spec.Revision, h.r.Hopeless("web", "attic"))
	}
}

// A version that no other instance could be in the range of waits.
func TestAVersionOutOfARangeWaits(t *testing.T) {
	h := newHome(t, "attic").settled()
	in, err := services.ParseRange("<2")
	if err != nil {
		t.Fatal(err)
	}
	h.needs = []rollout.Need{{By: "app", Service: "web", Version: in}}
	h.domains["attic"].Catalog = "2.0.0"
	h.step(false, "attic")
	h.want("app needs <2")
	if u := h.r.View("web", nil); !strings.Contains(u.Problem, "app needs web <2") {
		t.Errorf("it is shown as %+v", u)
	}
}

// An instance of an earlier run of the hub goes on under its revision, also one that was
// restarted for a version, and a new one of a service that is up to date does not have the
// others looked at.
func TestInstancesOfAnEarlierRunAreAdopted(t *testing.T) {
	h := newHome(t, "attic", "cellar").settled()
	h.domains["attic"].Reported.Revision = rollout.Revise(h.def.Spec(nil).Revision, "1.0.0", 0)
	h.domains["attic"].Reported.Version = "unknown"
	h.domains["cellar"].Reported.Revision = "of-another-time"
	h.now = h.now.Add(time.Minute)
	h.start()
	h.want("attic was restarted for its version already, cellar is changed", "cellar")
	h.domains["attic"].Reported.Version = "1.0.0"
	h.settled()

	h.domains["loft"] = &rollouts.Instance{Domain: "loft", Online: true}
	if r := h.step(false, "loft"); r.Decided {
		t.Error("a new instance has all of them decided on")
	}
	if spec, variant := h.r.Assigned("web", "loft"); spec == nil || spec.Target != "first" || variant != "" {
		t.Errorf("loft is assigned %+v, variant %q", spec, variant)
	}
}

// What harms no instance that is well is in force at once, without a rollout.
func TestTimeoutsAreInForceAtOnce(t *testing.T) {
	h := newHome(t, "attic", "cellar").settled()
	h.def.StopTimeout = 42 * time.Second
	h.step(true)
	h.wantEvents("the timeout is another one")
	for _, domain := range []string{"attic", "cellar"} {
		if spec, variant := h.r.Assigned("web", domain); spec.StopTimeout.Duration() != h.def.StopTimeout || variant != "" || spec.Revision != h.domains[domain].Reported.Revision {
			t.Errorf("%s is assigned %+v, variant %q", domain, spec, variant)
		}
	}
	if h.record.Stable.StopTimeout.Duration() != h.def.StopTimeout {
		t.Errorf("persisted is %+v", h.record.Stable)
	}
}

// An instance whose agent never reports the crash, and one that was in trouble before it was
// changed.
func TestCrashesAreCounted(t *testing.T) {
	h := newHome(t, "attic", "cellar").settled()
	h.def.Target = "second"
	h.step(true)
	h.obey("attic", topics.Starting, "")
	h.step(false, "attic")
	h.domains["attic"].Reported.Restarts += 2
	h.step(false, "attic")
	h.wantEvents("it was restarted twice", "service_updating ")
	h.domains["attic"].Reported.Restarts++
	h.step(false, "attic")
	h.wantEvents("it was restarted 3 times", "service_reverted it crashed 3 times")

	h = newHome(t, "attic", "cellar").settled()
	h.domains["attic"].Reported.State, h.domains["attic"].Health = topics.Backoff, ""
	h.def.Target = "second"
	h.step(true)
	h.want("what is not well is changed first", "attic")
	h.obey("attic", topics.Failed, "")
	h.step(false, "attic")
	h.wantEvents("it was in trouble before", "service_updating ")
	if !slices.Equal(h.record.Excused, []string{"attic"}) {
		t.Errorf("excused are %v", h.record.Excused)
	}
}

// A definition that needs no restart is taken when the heartbeat of its domain shows it: the
// revision stays the same.
func TestTheHeartbeatShowsThatACheckWasTaken(t *testing.T) {
	h := newHome(t, "attic", "cellar").settled()
	h.def.Health = &services.Health{TCP: true}
	h.step(true)
	h.want("the change begins", "attic")
	h.domains["attic"].Current = false
	h.obey("attic", topics.Running, topics.Healthy)
	h.step(false, "attic")
	if next := h.r.Next().Sub(h.now); next != time.Second {
		t.Errorf("it is looked at again after %v", next)
	}
	h.now = h.now.Add(rollout.Watch(h.def.Spec(nil)))
	h.step(false)
	h.want("attic has not taken it")
	h.domains["attic"].Current = true
	h.step(false, "attic")
	h.want("attic has taken it, and is watched for a moment")
	h.wait()
	h.want("attic is proved", "cellar")
}

// An instance that gets unhealthy before it is proved has its time again.
func TestHealthComesAndGoes(t *testing.T) {
	h := newHome(t, "attic", "cellar").settled()
	h.def.Target = "second"
	h.step(true)
	patience := rollout.Patience(h.def.Spec(nil))
	h.obey("attic", topics.Starting, "")
	h.now = h.now.Add(patience - time.Second)
	h.step(false, "attic")
	h.obey("attic", topics.Running, topics.Healthy)
	h.step(false, "attic")
	h.now = h.now.Add(2 * time.Second)
	h.obey("attic", topics.Starting, "")
	h.step(false, "attic")
	h.wantEvents("it was healthy for a moment", "service_updating ")
	if next := h.r.Next().Sub(h.now); next != patience {
		t.Errorf("it has %v, want %v", next, patience)
	}
}

func TestDomainsComeAndGo(t *testing.T) {
	h := newHome(t, "attic", "cellar").settled()
	is := func(what string, domains ...string) {
		t.Helper()
		var all []string
		for _, domain := range []string{"attic", "cellar", "loft"} {
			if spec, _ := h.r.Assigned("web", domain); spec != nil {
				all = append(all, domain)
			}
		}
		if !slices.Equal(all, domains) {
			t.Errorf("%s: %v have an instance, want %v", what, all, domains)
		}
	}
	h.r.RenameDomain("attic", "loft")
	is("attic is loft now", "cellar", "loft")
	h.r.RenameDomain("attic", "loft")
	is("a domain without instances has that name now", "cellar")
	h.r.RemoveDomain("loft")
	if removed := h.r.Retain("cellar", []string{"web"}); removed != nil {
		t.Errorf("%v were removed", removed)
	}
	is("cellar is to have it", "cellar")
	if removed := h.r.Retain("cellar", []string{"other"}); !slices.Equal(removed, []string{"web"}) {
		t.Errorf("%v were removed", removed)
	}
	is("cellar is not to have it")
	clear(h.domains)
	h.step(false)
	if all := h.r.Services(); len(all) != 0 {
		t.Errorf("%v are changed", all)
	}
	if h.record.IsZero() {
		t.Error("what is persisted of a service that was switched off is forgotten")
	}
	h.r.Remove("web")
	if !h.record.IsZero() {
		t.Errorf("persisted is %+v", h.record)
	}
}

func TestCatalogsAreCounted(t *testing.T) {
	r := rollouts.New(rollouts.Home{})
	for _, tt := range []struct {
		domain   string
		versions map[string]string
		changed  string
		gone     []rollouts.Release
		latest   string
	}{
		{"attic", map[string]string{"web": "1.0.0"}, "web", nil, "1.0.0"},
		{"attic", map[string]string{"web": "1.0.0"}, "", nil, "1.0.0"},
		{"cellar", map[string]string{"web": "1.0.0", "tv": "3"}, "tv web", nil, "1.0.0"},
		{"attic", map[string]string{"web": "1.10.0"}, "web", nil, "1.10.0"},
		{"cellar", map[string]string{"web": "1.9.0"}, "tv web", []rollouts.Release{{"tv", "3"}, {"web", "1.0.0"}}, "1.10.0"},
		{"attic", nil, "web", []rollouts.Release{{"web", "1.10.0"}}, "1.9.0"},
	} {
		changed, gone := r.SetCatalog(tt.domain, tt.versions)
		slices.Sort(changed)
		slices.SortFunc(gone, func(a, b rollouts.Release) int { return strings.Compare(a.Service, b.Service) })
		what := fmt.Sprintf("%s has %v", tt.domain, tt.versions)
		if got := strings.Join(slices.Compact(changed), " "); got != tt.changed {
			t.Errorf("%s: changed is %q, want %q", what, got, tt.changed)
		}
		if !reflect.DeepEqual(gone, tt.gone) {
			t.Errorf("%s: gone are %v, want %v", what, gone, tt.gone)
		}
		if got := r.View("web", nil).Latest; got != tt.latest {
			t.Errorf("%s: latest is %s, want %s", what, got, tt.latest)
		}
	}
}

func TestViewOffersWhatCanBeHad(t *testing.T) {
	for _, tt := range []struct {
		what                     string
		catalogs                 map[string]string
		copies                   []rollouts.Copy
		installed, latest, waits string
	}{
		{"nothing is known", nil, nil, "", "", ""},
		{"it runs nowhere", map[string]string{"attic": "2.0.0"}, nil, "", "2.0.0", ""},
		{
			"the newest runs",
			map[string]string{"attic": "2.0.0"},
			[]rollouts.Copy{{Domain: "attic", Version: "2.0.0", Catalog: "2.0.0"}},
			"2.0.0", "2.0.0", "",
		},
		{
			"the newest is on its own domain",
			map[string]string{"attic": "2.0.0"},
			[]rollouts.Copy{{Domain: "attic", Version: "1.0.0", Catalog: "2.0.0", Updatable: true}},
			"1.0.0", "2.0.0", "",
		},
		{
			"the newest is on another domain alone",
			map[string]string{"attic": "1.0.0", "cellar": "2.0.0"},
			[]rollouts.Copy{{Domain: "attic", Version: "1.0.0", Catalog: "1.0.0"}},
			"1.0.0", "1.0.0",
			"2.0.0 cannot be reached: attic has only 1.0.0; put it into the services_dir there",
		},
		{
			"it may not run the newest",
			map[string]string{"cellar": "2.0.0"},
			[]rollouts.Copy{{Domain: "attic", Version: "1.0.0", Catalog: "2.0.0"}},
			"1.0.0", "2.0.0", "",
		},
	} {
		r := rollouts.New(rollouts.Home{})
		for domain, version := range tt.catalogs {
			r.SetCatalog(domain, map[string]string{"web": version})
		}
		u := r.View("web", tt.copies)
		if u.Installed != tt.installed || u.Latest != tt.latest || u.Waits != tt.waits || u.InProgress {
			t.Errorf("%s: %+v", tt.what, u)
		}
	}
}
