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
		o.Until("lamp, bell and one web run", func(v View) bool {
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
		o.Until("two webs, no lamp, attic drained", asWanted)
		before, starts := home.Lives(o)

		for _, end := range []func(*Process){(*Process).Stop, (*Process).Kill} {
			end(hub)
			hub = home.StartHub()
			o = home.Observe()
			o.Until("it is as it was wanted", asWanted)
			awaitLiveHeartbeat(o, o.Now(), "kitchen")
			home.Journal.Undisturbed(t, "after the hub restarted", before, starts)
		}

		t.Log("the agent owns its drain flag, and keeps it")
		agents[2].Stop()
		mark := o.Now()
		domains[2].Start()
		awaitRejoin(o, mark, "attic")
		status := o.Await("attic's new agent says how it is", mark, func(m Message) bool {
			return m.Topic == "dominion/domain/attic/status" && mark.isBefore(decode[topics.Domain](t, m).StartedAt)
		})
		if !decode[topics.Domain](t, status).Draining {
			t.Error("attic forgot that it is drained")
		}

		t.Log("and back")
		home.Publish("dominion/service/web/set", `{"replicas": 0}`)
		home.Publish("dominion/service/lamp/set", "ON")
		home.Publish("dominion/domain/attic/drain/set", "OFF")
		o.Until("lamp and one web run", func(v View) bool {
			return v.Healthy("lamp", 1) && v.Healthy("web", 1) && !v.Domain("attic").Draining
		})

		t.Log("nonsense is refused and changes nothing")
		starts = home.Journal.Starts(t)
		for _, nonsense := range []string{"on", "TOGGLE", `{"replicas": -1}`, `{"replicas": "many"}`, `{}`, "{"} {
			mark := o.Now()
			home.Publish("dominion/service/web/set", nonsense)
			o.AwaitEvent(mark, "dominion/hub/event", topics.MessageRefused, "", "web")
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
		o.Until("both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
		home.Lives(o)
		lamp := home.Journal.Of(t, "start", "lamp")
		home.Publish("dominion/service/web/set", "RESTART")
		home.Journal.Await(t, 2, "start", "web")
		o.Until("web is healthy again", func(v View) bool { return v.Healthy("web", 1) })
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
		o.Until("web and lamp run", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
		home.Lives(o)
		web := home.Journal.Of(t, "start", "web")

		t.Log("a service more, a service less")
		mark := o.Now()
		home.Configure(service("web", stays) + service("bell", stays))
		hub.Signal(syscall.SIGHUP)
		o.AwaitEvent(mark, "dominion/hub/event", topics.ConfigReloaded, "", "")
		o.Until("bell runs, and of lamp nothing is retained", func(v View) bool {
			return v.Healthy("bell", 1) && v["dominion/service/lamp/status"].Payload == "" && v["dominion/service/lamp/endpoints"].Payload == ""
		})
		home.Journal.AwaitRunning(t, "bell@kitchen", "web@kitchen")
		for topic, m := range home.Observe("#").Latest() {
			if strings.Contains(topic, "lamp") && m.Retain {
				t.Errorf("of a removed service is retained: %v", m)
			}
		}

		t.Log("a changed environment restarts, a changed health check does not")
		bells, revision := len(home.Journal.Of(t, "start", "bell")), o.Latest().Instance("kitchen", "bell").Revision
		home.Configure(service("web", stays, healthHTTP) + service("bell", stays, `environment = { COLOUR = "red" }`))
		hub.Signal(syscall.SIGHUP)
		home.Journal.Await(t, bells+1, "start", "bell")
		o.Until("web is healthy, and bell in its new revision", func(v View) bool {
			bell := v.Instance("kitchen", "bell")
			return v.Healthy("web", 1) && v.Healthy("bell", 1) && bell.State == topics.Running && bell.Revision != revision
		})

		t.Log("a config with a fault")
		mark = o.Now()
		starts := home.Journal.Starts(t)
		home.Configure(service("bell", `priority = "sometimes"`))
		hub.Signal(syscall.SIGHUP)
		refused := o.AwaitEvent(mark, "dominion/hub/event", topics.ConfigRefused, "", "")
		if !strings.Contains(refused.Message, "sometimes") {
			t.Errorf("the event does not name the fault: %+v", refused)
		}
		hub.AwaitLog("dominion.toml:", "sometimes")
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
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
	o.Until("web waits with a reason", func(v View) bool {
		return v.Service("web").State == topics.Pending && v.Service("web").Reason != "" || v.Service("web").Wanted == 0 && v.Service("web").Reason != ""
	})
	kitchen.Install("web")
	installed := time.Now()
	home.Journal.Await(t, 1, "start", "web")
	order := o.Await("web is ordered", Mark{}, func(m Message) bool {
		_, ordered := View{m.Topic: m}.Command("kitchen").Services["web"]
		return ordered
	})
	if took := decode[topics.StartCommand](t, order).At.Sub(installed); took > 5*time.Second {
		t.Errorf("web was ordered %v after it was installed, catalogs are fresh within 5s", took)
	}
}
