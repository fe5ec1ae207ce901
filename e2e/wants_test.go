package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// What was switched, scaled and drained at run time outlives the hub.
func TestWantsSurviveTheHub(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		domains := []*Domain{home.Domain("kitchen", "compute"), home.Domain("cellar", "compute"), home.Domain("attic", "compute")}
		for _, d := range domains {
			d.Install("web", "lamp", "bell")
		}
		home.Configure(service("web", `priority = "required"`, `replicas = 1`) +
			service("lamp", `priority = "required"`, `domains = ["kitchen"]`) +
			service("bell", `priority = "required"`, `domains = ["cellar"]`))
		hub, agents, o := home.Up(domains...)
		o.Until(15*time.Second, "lamp, bell and one web run", func(v View) bool {
			return v.Healthy("lamp", 1) && v.Healthy("bell", 1) && v.Healthy("web", 1)
		})
		home.Publish("dominion/service/web/set", `{"replicas": 2}`)
		home.Publish("dominion/service/lamp/set", "OFF")
		home.Publish("dominion/domain/attic/drain/set", "ON")
		asWanted := func(v View) bool {
			return v.Ready() && v.Healthy("web", 2) && v.Service("lamp").State == topics.Stopped && v.Service("lamp").Switch == "OFF" &&
				v.Healthy("bell", 1) && v.Domain("attic").Draining && len(running(home.Journal.Running(t), "web")) == 2 &&
				!slices.Contains(running(home.Journal.Running(t), "web"), "web@attic")
		}
		o.Until(15*time.Second, "two webs, no lamp, attic drained", asWanted)
		before, starts := home.Journal.Running(t), home.Journal.Starts(t)

		for _, end := range []func(*Process){(*Process).Stop, (*Process).Kill} {
			end(hub)
			hub = home.StartHub()
			o = home.Observe()
			o.Until(20*time.Second, "it is as it was wanted", asWanted)
			awaitLiveHeartbeat(o, 3*time.Second, o.Now(), "kitchen")
			home.Journal.Undisturbed(t, "after the hub restarted", before, starts)
		}

		t.Log("the agent owns its drain flag, and keeps it")
		agents[2].Stop()
		mark := o.Now()
		domains[2].Start()
		awaitLiveHeartbeat(o, joins, mark, "attic")
		if !o.Latest().Domain("attic").Draining {
			t.Error("attic forgot that it is drained")
		}

		t.Log("and back")
		home.Publish("dominion/service/web/set", `{"replicas": 0}`)
		home.Publish("dominion/service/lamp/set", "ON")
		home.Publish("dominion/domain/attic/drain/set", "OFF")
		o.Until(15*time.Second, "lamp and one web run", func(v View) bool {
			return v.Healthy("lamp", 1) && v.Healthy("web", 1) && !v.Domain("attic").Draining
		})

		t.Log("nonsense is refused and changes nothing")
		starts = home.Journal.Starts(t)
		for _, nonsense := range []string{"on", "TOGGLE", `{"replicas": -1}`, `{"replicas": "many"}`, `{}`, "{"} {
			mark := o.Now()
			home.Publish("dominion/service/web/set", nonsense)
			o.AwaitEvent(5*time.Second, mark, "dominion/hub/event", topics.MessageRefused, "", "web")
		}
		if n := home.Journal.Starts(t); n != starts {
			t.Errorf("nonsense started %d processes", n-starts)
		}
	})
}

func TestRestartByMessage(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		kitchen.Install("web", "lamp")
		home.Configure(service("web", `priority = "required"`) + service("lamp", `priority = "required"`))
		_, _, o := home.Up(kitchen)
		o.Until(15*time.Second, "both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
		lamp := home.Journal.Of(t, "start", "lamp")
		home.Publish("dominion/service/web/set", "RESTART")
		home.Journal.Await(t, 10*time.Second, 2, "start", "web")
		o.Until(10*time.Second, "web is healthy again", func(v View) bool { return v.Healthy("web", 1) })
		if web := home.Journal.Of(t, "end", "web"); len(web) != 1 {
			t.Errorf("web ended in order %d times, want once", len(web))
		}
		if now := home.Journal.Of(t, "start", "lamp"); !slices.Equal(now, lamp) {
			t.Errorf("lamp was restarted too: %v", now)
		}
	})
}

// SIGHUP takes over what changed and nothing else; a config with a fault is
// refused and the old one stays in force.
func TestReload(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		kitchen.Install("web", "lamp", "bell")
		const stays = `priority = "required"`
		home.Configure(service("web", stays) + service("lamp", stays))
		hub, _, o := home.Up(kitchen)
		o.Until(15*time.Second, "web and lamp run", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
		web := home.Journal.Of(t, "start", "web")

		t.Log("a service more, a service less")
		mark := o.Now()
		home.Configure(service("web", stays) + service("bell", stays))
		hub.Signal(syscall.SIGHUP)
		o.AwaitEvent(5*time.Second, mark, "dominion/hub/event", topics.ConfigReloaded, "", "")
		o.Until(15*time.Second, "bell runs, and of lamp nothing is retained", func(v View) bool {
			return v.Healthy("bell", 1) && v["dominion/service/lamp/status"].Payload == "" && v["dominion/service/lamp/endpoints"].Payload == ""
		})
		home.Journal.AwaitRunning(t, 5*time.Second, "bell@kitchen", "web@kitchen")
		for topic, m := range home.Observe("#").Latest() {
			if strings.Contains(topic, "lamp") && m.Retain {
				t.Errorf("of a removed service is retained: %v", m)
			}
		}

		t.Log("a changed environment restarts, a changed health check does not")
		bells, revision := len(home.Journal.Of(t, "start", "bell")), o.Latest().Instance("kitchen", "bell").Revision
		home.Configure(service("web", stays, healthHTTP) + service("bell", stays, `environment = { COLOUR = "red" }`))
		hub.Signal(syscall.SIGHUP)
		home.Journal.Await(t, 10*time.Second, bells+1, "start", "bell")
		o.Until(10*time.Second, "web is healthy, and bell in its new revision", func(v View) bool {
			bell := v.Instance("kitchen", "bell")
			return v.Healthy("web", 1) && v.Healthy("bell", 1) && bell.State == topics.Running && bell.Revision != revision
		})

		t.Log("a config with a fault")
		mark = o.Now()
		starts := home.Journal.Starts(t)
		home.Configure(service("bell", `priority = "sometimes"`))
		hub.Signal(syscall.SIGHUP)
		refused := o.AwaitEvent(5*time.Second, mark, "dominion/hub/event", topics.ConfigRefused, "", "")
		if !strings.Contains(refused.Message, "sometimes") {
			t.Errorf("the event does not name the fault: %+v", refused)
		}
		hub.AwaitLog(time.Second, "dominion.toml:", "sometimes")
		awaitLiveHeartbeat(o, 3*time.Second, o.Now(), "kitchen")
		if v := o.Latest(); !v.Healthy("web", 1) || !v.Healthy("bell", 1) || home.Journal.Starts(t) != starts {
			t.Errorf("a refused config changed something:\n%s", v)
		}
		if now := home.Journal.Of(t, "start", "web"); !slices.Equal(now, web) {
			t.Errorf("web was restarted: %v", now)
		}
	})
}

// A service that appears on a domain's disk makes it a candidate soon.
func TestCatalogIsFresh(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	home.Configure(service("web", `priority = "required"`))
	_, _, o := home.Up(kitchen)
	o.Until(15*time.Second, "web waits with a reason", func(v View) bool {
		return v.Service("web").State == topics.Pending && v.Service("web").Reason != "" || v.Service("web").Wanted == 0 && v.Service("web").Reason != ""
	})
	kitchen.Install("web")
	installed := time.Now()
	start := home.Journal.Await(t, 15*time.Second, 1, "start", "web")
	if took := start.At.Sub(installed); took > 6*time.Second {
		t.Errorf("web was started %v after it was installed, catalogs are fresh within 5s", took)
	}
}
