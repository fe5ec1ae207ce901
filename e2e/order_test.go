package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// chain is lamp → orchestrator → web: a required service, what it needs, and
// what that needs. Each takes its time to become ready and to stop.
func chain() string {
	slow := `environment = { READY_AFTER = "700ms", STOP_AFTER = "300ms" }`
	return service("web", `priority = "dependency"`, `traits = ["compute"]`, slow, healthHTTP) +
		service("orchestrator", `priority = "dependency"`, `traits = ["compute"]`, `dependencies = ["web"]`, slow, healthHTTP) +
		service("lamp", `priority = "required"`, `traits = ["lamp"]`, `dependencies = ["orchestrator"]`, slow, healthHTTP)
}

// Services run where their traits are, a dependency once; started in the
// order of the dependencies, each ready before the next, stopped in reverse.
func TestTraitsAndOrder(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen", "compute", "lamp")
		cellar := home.Domain("cellar", "compute")
		attic := home.Domain("attic", "lamp")
		for _, d := range []*Domain{kitchen, cellar, attic} {
			d.Install("web", "orchestrator", "lamp")
		}
		home.Configure(chain())
		_, _, o := home.Up(kitchen, cellar, attic)

		o.Until("two lamps, one orchestrator and one web are healthy", func(v View) bool {
			return v.Healthy("lamp", 2) && v.Healthy("orchestrator", 1) && v.Healthy("web", 1)
		})
		domains := func(service string) (all []string) {
			for _, e := range home.Journal.Of(t, "start", service) {
				all = append(all, e.Domain)
			}
			slices.Sort(all)
			return all
		}
		if got := domains("lamp"); !slices.Equal(got, []string{"attic", "kitchen"}) {
			t.Errorf("lamp was started on %q, want its trait's domains, each once", got)
		}
		for _, dependency := range []string{"web", "orchestrator"} {
			if got := domains(dependency); len(got) != 1 || got[0] == "attic" {
				t.Errorf("%s was started on %q, want one domain with compute", dependency, got)
			}
		}
		checkOrder(t, home, "ready", "web", "start", "orchestrator")
		checkOrder(t, home, "ready", "orchestrator", "start", "lamp")
		checkObservedOrder(t, o, "web", "orchestrator")
		checkObservedOrder(t, o, "orchestrator", "lamp")

		t.Log("a lamp learned where its orchestrator is when it was started")
		e := o.Latest().Endpoints("orchestrator")[0]
		lamp := o.Latest().Endpoints("lamp")[0]
		if got, want := askEnvironment(t, home, lamp)["DEPENDENCY_ORCHESTRATOR"], fmt.Sprintf("%s:%d", e.Address, e.Port); got != want {
			t.Errorf("DEPENDENCY_ORCHESTRATOR is %q, want %q", got, want)
		}

		t.Log("off: in reverse")
		home.Publish("dominion/service/lamp/set", "OFF")
		o.Until("all are stopped", func(v View) bool {
			return v.Service("web").State == topics.Stopped && v.Service("orchestrator").State == topics.Stopped && v.Service("lamp").State == topics.Stopped
		})
		checkOrder(t, home, "end", "lamp", "stop", "orchestrator")
		checkOrder(t, home, "end", "orchestrator", "stop", "web")
		home.Journal.AwaitRunning(t)
		if s := o.Latest().Service("lamp"); s.Switch != "OFF" || s.Wanted != 0 || s.Reason == "" {
			t.Errorf("after OFF: %+v", s)
		}

		t.Log("on again")
		home.Publish("dominion/service/lamp/set", "ON")
		o.Until("all are healthy again", func(v View) bool {
			return v.Healthy("lamp", 2) && v.Healthy("orchestrator", 1) && v.Healthy("web", 1)
		})

		t.Log("one lamp less: what the other one needs stays")
		starts := home.Journal.Starts(t)
		home.Publish("dominion/domain/attic/drain/set", "ON")
		o.Until("one lamp is left", func(v View) bool { return v.Healthy("lamp", 1) })
		if n := home.Journal.Starts(t); n != starts {
			t.Errorf("draining attic started %d processes", n-starts)
		}
		if v := o.Latest(); !v.Healthy("web", 1) || !v.Healthy("orchestrator", 1) {
			t.Errorf("web or orchestrator changed with a lamp less:\n%s", v)
		}
	})
}

// checkOrder checks in the journal that the last first comes before the first
// second.
func checkOrder(t *testing.T, home *Home, first, service, second, next string) {
	t.Helper()
	before, after := home.Journal.Of(t, first, service), home.Journal.Of(t, second, next)
	if len(before) == 0 || len(after) == 0 {
		t.Errorf("the journal has %d times %s of %s and %d times %s of %s", len(before), first, service, len(after), second, next)
		return
	}
	if before[len(before)-1].At.After(after[0].At) {
		t.Errorf("%s: %s at %v is before %s: %s at %v", next, second, after[0].At, service, first, before[len(before)-1].At)
	}
}

// checkObservedOrder checks that the agents told of dependency as running
// and healthy before any told of dependent at all.
func checkObservedOrder(t *testing.T, o *Observer, dependency, dependent string) {
	t.Helper()
	for _, m := range o.Since(Mark{}) {
		if !strings.HasPrefix(m.Topic, "dominion/domain/") || !strings.HasSuffix(m.Topic, "/status") {
			continue
		}
		for _, i := range decode[topics.Domain](t, m).Services {
			if i.Service == dependency && i.State == topics.Running && i.Health == topics.Healthy {
				return
			}
			if i.Service == dependent && i.State.Alive() {
				t.Errorf("%s was seen as %s before %s was running and healthy: %v", dependent, i.State, dependency, m)
				return
			}
		}
	}
	t.Errorf("%s was never seen as running and healthy", dependency)
}

// askEnvironment asks a test service for its environment, from another host.
// One without a health check is offered before it listens.
func askEnvironment(t *testing.T, home *Home, e topics.Endpoint) map[string]string {
	t.Helper()
	var environment map[string]string
	eventually(t, fmt.Sprintf("the endpoint %+v answers", e), func() (ok bool) {
		environment, ok = tryEnvironment(home, e)
		return ok
	})
	return environment
}

func tryEnvironment(home *Home, e topics.Endpoint) (map[string]string, bool) {
	body, err := home.observer.Get(fmt.Sprintf("http://%s:%d/", e.Address, e.Port))
	if err != nil {
		return nil, false
	}
	var answer struct{ Environment map[string]string }
	return answer.Environment, json.Unmarshal([]byte(body), &answer) == nil
}
