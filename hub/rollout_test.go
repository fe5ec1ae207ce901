package hub_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// everywhere is a service that runs on each domain; its definition is distinguished
// by its port.
func everywhere(port int, rest ...string) string {
	return fmt.Sprintf("[services.web]\npriority = \"required\"\nport = %d\nstart_timeout = \"20s\"\n", port) + strings.Join(rest, "\n")
}

// team starts three domains with the service web, which runs on all of them.
func team(h *home) []*agent {
	h.Helper()
	var all []*agent
	for _, name := range []string{"attic", "cellar", "kitchen"} {
		a := h.agent(name, nil, "web")
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		all = append(all, a)
	}
	h.settle("web runs on three", func() bool { return h.where("web") == "[attic:running cellar:running kitchen:running]" })
	time.Sleep(10 * time.Second) // until it is the stable one
	return all
}

func disperse(all []*agent) {
	for _, a := range all {
		a.leave()
	}
}

// settle waits for something, and looks all the time that no two are down.
func (h *home) settle(what string, holds func() bool) {
	h.Helper()
	for end := time.Now().Add(5 * time.Minute); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			h.Fatalf("not within 5 min: %s\nweb %s %+v%s", what, h.where("web"), h.service("web"), h.story())
		}
	}
}

// oneByOne waits like settle, and fails when more than one of three is down.
func (h *home) oneByOne(what string, holds func() bool) {
	h.Helper()
	h.settle(what, func() bool {
		if s := h.service("web"); s.Running < 2 {
			h.Fatalf("only %d of 3 run: %s%s", s.Running, h.where("web"), h.story())
		}
		return holds()
	})
}

// revisions of web, sorted and without what restarts added.
func revisions(all []*agent) []string {
	var r []string
	for _, a := range all {
		a.mu.Lock()
		base, _, _ := strings.Cut(a.running["web"].Revision, "-")
		a.mu.Unlock()
		r = append(r, base)
	}
	slices.Sort(r)
	return slices.Compact(r)
}

func starts(all []*agent) (n int) {
	for _, a := range all {
		n += a.started("web")
	}
	return n
}

func failsOn(port int) func(topics.Instance, topics.Spec) bool {
	return func(_ topics.Instance, s topics.Spec) bool { return s.Port == port }
}

func TestChangedDefinitionRollsOutOneByOne(t *testing.T) {
	inHome(t, everywhere(8080), func(h *home) {
		all := team(h)
		defer disperse(all)
		before := revisions(all)
		h.hub.Reload(load(t, everywhere(8081)), nil)
		synctest.Wait()
		time.Sleep(500 * time.Millisecond)
		if s := h.service("web"); !s.Update.InProgress || s.Update.Total != 3 || s.Update.Updated != 0 || *s.Update.Percentage != 0 || !strings.Contains(s.Update.Waits, "attic") {
			h.Errorf("at the beginning: %+v", s)
		}
		if n := starts(all); n != 4 {
			h.Errorf("%d starts, want one more than three", n)
		}
		h.oneByOne("all have the changed definition", func() bool {
			return !h.service("web").Update.InProgress && len(revisions(all)) == 1 && revisions(all)[0] != before[0]
		})
		if n := starts(all); n != 6 || h.count(topics.ServiceUpdating) != 1 || h.count(topics.ServiceUpdated) != 1 || h.saw(topics.ServiceReverted) {
			h.Errorf("%d starts%s", n, h.story())
		}
	})
}

func TestBadDefinitionIsTakenBackAndNotTriedAgain(t *testing.T) {
	inHome(t, everywhere(8080), func(h *home) {
		all := team(h)
		defer func() { disperse(all) }()
		before := revisions(all)
		for _, a := range all {
			a.bad = failsOn(8081)
		}
		h.cfg = load(t, everywhere(8081))
		h.hub.Reload(h.cfg, nil)
		synctest.Wait()
		back := func() bool {
			return h.saw(topics.ServiceReverted) && h.where("web") == "[attic:running cellar:running kitchen:running]" && slices.Equal(revisions(all), before) && !h.service("web").Update.InProgress
		}
		h.oneByOne("all have the definition before", back)
		if n := starts(all); n != 5 {
			h.Errorf("%d starts, want two more than three: there and back", n)
		}
		s := h.service("web")
		if !strings.Contains(s.Update.Problem, "on attic it failed (exited with code 1)") || !strings.Contains(s.Reason, "did not get healthy") {
			h.Errorf("it does not say so: %+v", s)
		}
		if o := h.ask(topics.VerbStatus, "{}"); !strings.Contains(string(o.Data), "web: the changed definition did not get healthy") {
			h.Errorf("no problem in status: %s", o.Data)
		}

		// Nor does a hub that is started again try it again.
		disperse(all)
		h.stop()
		h.cfg.DataDir = h.dataDir
		h.start()
		for _, a := range all {
			if err := a.join(); err != nil {
				h.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if n := starts(all); n != 5 || h.service("web").Update.Problem == "" {
			h.Errorf("%d starts after a restart of the hub; %+v", n, h.service("web"))
		}

		// A person may.
		for _, a := range all {
			a.bad = nil
		}
		h.publish("dominion/service/web/set", topics.Update, false)
		h.oneByOne("all have the changed definition", func() bool {
			return !h.service("web").Update.InProgress && !slices.Equal(revisions(all), before) && len(revisions(all)) == 1
		})
		if p := h.service("web").Update.Problem; p != "" {
			h.Errorf("still a problem: %s", p)
		}
	})
}

func TestHubThatIsRestartedWithAnotherConfigRollsAndGoesBack(t *testing.T) {
	inHome(t, everywhere(8080), func(h *home) {
		all := team(h)
		defer func() { disperse(all) }()
		before := revisions(all)
		disperse(all)
		h.stop()
		for _, a := range all[1:] {
			a.bad = failsOn(8081)
		}
		h.cfg = load(t, everywhere(8081))
		h.cfg.DataDir = h.dataDir
		h.start()
		for _, a := range all {
			if err := a.join(); err != nil {
				h.Fatal(err)
			}
		}
		h.settle("the second one fails", func() bool { return h.saw(topics.ServiceReverted) })
		if n := starts(all); n > 6 {
			h.Errorf("%d starts", n)
		}
		h.settle("all are back", func() bool { return slices.Equal(revisions(all), before) && !h.service("web").Update.InProgress })
		if e := h.event(topics.ServiceReverted); e.Domain != "cellar" || e.Service != "web" {
			h.Errorf("%+v", e)
		}
	})
}

func TestHubThatIsRestartedInTheMiddleGoesOn(t *testing.T) {
	inHome(t, everywhere(8080), func(h *home) {
		all := team(h)
		defer func() { disperse(all) }()
		before := revisions(all)
		h.cfg = load(t, everywhere(8081))
		h.hub.Reload(h.cfg, nil)
		h.oneByOne("the first has it", func() bool { return all[1].started("web") == 2 })
		disperse(all)
		h.stop()
		h.cfg.DataDir = h.dataDir
		h.start()
		for _, a := range all {
			if err := a.join(); err != nil {
				h.Fatal(err)
			}
		}
		h.settle("all have it", func() bool {
			return len(revisions(all)) == 1 && !slices.Equal(revisions(all), before) && !h.service("web").Update.InProgress
		})
		if n := starts(all); n != 6 {
			h.Errorf("%d starts, want each once more", n)
		}
	})
}

func TestNewVersionRollsOutWhenTheCatalogHasSettled(t *testing.T) {
	inHome(t, everywhere(8080), func(h *home) {
		all := team(h)
		defer disperse(all)
		for _, a := range all {
			a.stock("web", "1.1.0")
		}
		time.Sleep(3 * time.Second)
		if n := starts(all); n != 3 {
			h.Errorf("%d starts while it may still be copied", n)
		}
		if u := h.service("web").Update; u.Installed != "1.0.0" || u.Latest != "1.1.0" || u.InProgress {
			h.Errorf("%+v", u)
		}
		h.oneByOne("all run it", func() bool {
			u := h.service("web").Update
			return u.Installed == "1.1.0" && !u.InProgress
		})
		if n := starts(all); n != 6 || !strings.Contains(h.event(topics.ServiceUpdated).Message, "version 1.1.0") {
			h.Errorf("%d starts%s", n, h.story())
		}
	})
}

func TestBadVersionStopsAtTheFirst(t *testing.T) {
	inHome(t, everywhere(8080), func(h *home) {
		all := team(h)
		defer disperse(all)
		for _, a := range all {
			a.bad = func(i topics.Instance, _ topics.Spec) bool { return i.Version == "1.1.0" }
			a.stock("web", "1.1.0")
		}
		h.oneByOne("it is said", func() bool { return h.saw(topics.ServiceReverted) })
		time.Sleep(time.Minute)
		if n := starts(all); n != 4 || h.where("web") != "[attic:failed cellar:running kitchen:running]" {
			h.Errorf("%d starts, %s", n, h.where("web"))
		}
		if p := h.service("web").Update.Problem; !strings.Contains(p, "1.1.0") || !strings.Contains(p, "attic") {
			h.Errorf("problem %q", p)
		}
		var o topics.Overview
		if err := json.Unmarshal(h.ask(topics.VerbStatus, "").Data, &o); err != nil || len(o.Problems) != 1 {
			h.Errorf("what failed is %d problems: %q (%v)", len(o.Problems), o.Problems, err)
		}
		var why topics.Why
		if err := json.Unmarshal(h.ask(topics.VerbWhy, `{"transaction":"t","service":"web"}`).Data, &why); err != nil || !strings.HasPrefix(why.Reason, "version 1.1.0 did not get healthy: on attic it failed (exited with code 1)") {
			h.Errorf("why says %q (%v)", why.Reason, err)
		}
		for _, a := range all { // a better one; the one that is down goes first
			a.stock("web", "1.1.1")
		}
		h.settle("all run it", func() bool {
			u := h.service("web").Update
			return u.Installed == "1.1.1" && !u.InProgress && u.Problem == ""
		})
		if n := starts(all); n != 7 {
			h.Errorf("%d starts", n)
		}
	})
}

// One that may run elsewhere is tried where the version before still is.
func TestBadVersionGivesWayElsewhere(t *testing.T) {
	toml := "[services.web]\nreplicas = 1\npriority = \"required\"\n"
	inHome(t, toml, func(h *home) {
		attic, cellar := h.agent("attic", nil, "web"), h.agent("cellar", nil, "web")
		for _, a := range []*agent{attic, cellar} {
			a.bad = func(i topics.Instance, _ topics.Spec) bool { return i.Version == "1.1.0" }
			if err := a.join(); err != nil {
				h.Fatal(err)
			}
			defer a.leave()
		}
		h.settle("it runs on attic", func() bool { return h.where("web") == "[attic:running]" })
		time.Sleep(10 * time.Second)
		attic.stock("web", "1.1.0")
		h.settle("it runs on cellar", func() bool { return h.where("web") == "[cellar:running]" })
		time.Sleep(time.Minute)
		if h.where("web") != "[cellar:running]" || attic.started("web") != 2 || cellar.started("web") != 1 {
			h.Errorf("%s, %d and %d starts", h.where("web"), attic.started("web"), cellar.started("web"))
		}
	})
}

func TestManualUpdateWaitsForAPerson(t *testing.T) {
	inHome(t, everywhere(8080, `update = "manual"`), func(h *home) {
		all := team(h)
		defer disperse(all)
		for _, a := range all {
			a.stock("web", "1.1.0")
		}
		time.Sleep(time.Minute)
		if n := starts(all); n != 3 {
			h.Fatalf("%d starts, nobody asked for one", n)
		}
		if r := h.ask(topics.VerbUpdate, `{"transaction":"t","service":"nothing"}`); r.Status == topics.StatusOK {
			h.Error("an update of no service was accepted")
		}
		if r := h.ask(topics.VerbUpdate, `{"transaction":"t","service":"web"}`); r.Status != topics.StatusOK {
			h.Fatal(r.Error)
		}
		h.oneByOne("all run it", func() bool {
			u := h.service("web").Update
			return u.Installed == "1.1.0" && !u.InProgress
		})
		for _, a := range all {
			a.stock("web", "1.2.0")
		}
		time.Sleep(time.Minute)
		if n := starts(all); n != 6 {
			h.Errorf("%d starts: the next version was not asked for", n)
		}
	})
}

// A health check that finds nothing well is found out with one instance, and
// restarts none.
func TestHealthCheckIsTriedOnOne(t *testing.T) {
	inHome(t, everywhere(8080), func(h *home) {
		all := team(h)
		defer disperse(all)
		h.hub.Reload(load(t, everywhere(8080, `health = { tcp = true }`)), nil)
		synctest.Wait()
		checked := func() (n int) {
			for _, a := range all {
				a.mu.Lock()
				if a.specs["web"].Health.TCP {
					n++
				}
				a.mu.Unlock()
			}
			return n
		}
		time.Sleep(2 * time.Second)
		if n := checked(); n != 1 {
			h.Errorf("%d instances have the new check", n)
		}
		all[0].change("web", func(i *topics.Instance) { i.Health = topics.Unhealthy })
		h.settle("the check is taken back", func() bool { return h.saw(topics.ServiceReverted) && checked() == 0 })
		if n := starts(all); n != 3 {
			h.Errorf("%d starts", n)
		}
	})
}

// Timeouts harm nothing that is well: they are in force everywhere at once.
func TestTimeoutsAreInForceAtOnce(t *testing.T) {
	inHome(t, everywhere(8080), func(h *home) {
		all := team(h)
		defer disperse(all)
		h.hub.Reload(load(t, everywhere(8080, `stop_timeout = "42s"`)), nil)
		synctest.Wait()
		time.Sleep(time.Second)
		for _, a := range all {
			a.mu.Lock()
			if got := a.specs["web"].StopTimeout.Duration(); got != 42*time.Second {
				h.Errorf("%s has %v", a.name, got)
			}
			a.mu.Unlock()
		}
		if starts(all) != 3 || h.saw(topics.ServiceUpdating) {
			h.Errorf("%d starts%s", starts(all), h.story())
		}
	})
}

// What a hub before this one started goes on, and is changed one by one too.
func TestUnknownRevisionsRollOutOneByOne(t *testing.T) {
	inHome(t, everywhere(8080), func(h *home) {
		var all []*agent
		for _, name := range []string{"attic", "cellar", "kitchen"} {
			a := h.agent(name, nil, "web")
			a.running["web"] = topics.Instance{Service: "web", State: topics.Running, Health: topics.Healthy, Version: "1.0.0", Revision: "of-another-time", Port: 80}
			if err := a.join(); err != nil {
				h.Fatal(err)
			}
			all = append(all, a)
		}
		defer disperse(all)
		time.Sleep(500 * time.Millisecond)
		h.oneByOne("all have the definition", func() bool {
			r := revisions(all)
			return len(r) == 1 && r[0] != "of" && !h.service("web").Update.InProgress
		})
		if n := starts(all); n != 3 {
			h.Errorf("%d starts", n)
		}
	})
}

// Whatever happens in the middle of a rollout, it ends: all that are there have
// the definition, or none, and nothing is on its way any more.
func TestRolloutSurvivesWhatHappensMeanwhile(t *testing.T) {
	for _, tt := range []struct {
		what  string
		do    func(h *home, all []*agent)
		where string
		back  bool
	}{
		// Perhaps the change took the machine down: nothing has proved it yet.
		{"the first one is lost", func(_ *home, all []*agent) { all[0].cut() }, "[cellar:running kitchen:running]", true},
		{"another one is lost", func(_ *home, all []*agent) { all[1].cut() }, "[attic:running kitchen:running]", false},
		{"the first one is emptied", func(h *home, _ []*agent) { h.publish("dominion/domain/attic/drain/set", "ON", false) }, "[cellar:running kitchen:running]", false},
		{"it is switched off and on", func(h *home, _ []*agent) {
			h.publish("dominion/service/web/set", topics.Off, false)
			time.Sleep(3 * time.Second)
			h.publish("dominion/service/web/set", topics.On, false)
		}, "[attic:running cellar:running kitchen:running]", false},
		{"it is scaled", func(h *home, _ []*agent) { h.publish("dominion/service/web/set", `{"replicas": 2}`, false) }, "", false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			inHome(t, everywhere(8080), func(h *home) {
				all := team(h)
				defer func() {
					for _, a := range all {
						select {
						case <-a.net.cut:
							a.kill()
						default:
							a.leave()
						}
					}
				}()
				before := revisions(all)[0]
				h.hub.Reload(load(t, everywhere(8081)), nil)
				synctest.Wait()
				h.settle("the first is changed", func() bool { return all[0].started("web") == 2 })
				tt.do(h, all)
				h.settle("all that are there are alike", func() bool {
					s := h.service("web")
					if h.saw(topics.ServiceReverted) != tt.back {
						return false
					}
					for _, a := range all {
						a.mu.Lock()
						i, runs := a.running["web"]
						a.mu.Unlock()
						there := slices.ContainsFunc(s.Instances, func(i topics.ServiceInstance) bool { return i.Domain == a.name })
						if there && runs && strings.HasPrefix(i.Revision, before) != tt.back {
							return false
						}
					}
					if tt.where == "" {
						return !s.Update.InProgress && len(s.Instances) == 2 && s.Healthy == 2
					}
					return !s.Update.InProgress && h.where("web") == tt.where
				})
			})
		})
	}
}
