package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// atOnce is how soon an agent's sudden end must be known; the goal of the
// bench is 50 ms, this leaves room for a busy machine.
const atOnce = 500 * time.Millisecond

// upWithServices starts two domains: web may run on both and runs on one,
// lamp needs it and is bound to the kitchen. All has written its journal.
func upWithServices(t *testing.T, home *Home, timing ...string) (hub *Process, kitchen, cellar *Domain, agents []*Process, o *Observer) {
	t.Helper()
	kitchen, cellar = home.Domain("kitchen", "compute", "lamp"), home.Domain("cellar", "compute")
	for _, d := range []*Domain{kitchen, cellar} {
		d.Install("web")
		d.InstallShell("lamp")
	}
	home.Configure(strings.Join(timing, "") + service("web", `priority = "required"`, `replicas = 1`, `traits = ["compute"]`, healthHTTP) +
		service("lamp", `priority = "required"`, `traits = ["lamp"]`, `dependencies = ["web"]`))
	hub, agents, o = home.Up(kitchen, cellar)
	o.Until("web and lamp are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
	home.Lives(o)
	return hub, kitchen, cellar, agents, o
}

func TestKilledServiceRunsAgain(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		kitchen.Install("web")
		kitchen.InstallShell("lamp")
		home.Configure(service("web", `priority = "required"`, healthHTTP, `restart = { delay = "200ms" }`) +
			service("lamp", `priority = "required"`, `restart = { delay = "200ms" }`))
		_, _, o := home.Up(kitchen)
		o.Until("both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
		port := o.Latest().Endpoints("web")[0].Port

		for _, name := range []string{"web", "lamp"} {
			mark := o.Now()
			first := home.Journal.Await(t, 1, "start", name)
			// the process itself, not the make that leads its group
			kill(t, first.PID)
			again := home.Journal.Await(t, 2, "start", name)
			if again.PID == first.PID {
				t.Errorf("%s: the same pid %d", name, again.PID)
			}
			o.AwaitEvent(mark, "dominion/hub/event", topics.ServiceCrashed, "kitchen", name)
			o.Until(name+" is healthy again, with a restart counted", func(v View) bool {
				return v.Healthy(name, 1) && v.Instance("kitchen", name).Restarts == 1
			})
		}
		if now := o.Latest().Endpoints("web")[0].Port; now != port {
			t.Errorf("web came back on port %d, it had %d", now, port)
		}

		t.Log("killed with its whole group, make and all")
		leader := o.Latest().Instance("kitchen", "web").PID
		kill(t, -leader)
		home.Journal.Await(t, 3, "start", "web")
		o.Until("web is healthy again", func(v View) bool {
			return v.Healthy("web", 1) && v.Instance("kitchen", "web").Restarts == 2
		})
		home.Journal.AwaitRunning(t, "lamp@kitchen", "web@kitchen")
	})
}

// A service that cannot run does not stop being tried, shows its last words
// and harms nobody else.
func TestCrashLoop(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web", "broken")
	home.Configure(service("web", `priority = "required"`) +
		service("broken", `priority = "required"`, `environment = { CRASH = "1" }`, `restart = { delay = "100ms", max_delay = "200ms" }`))
	_, _, o := home.Up(kitchen)
	o.Await("broken waits for its next try", Mark{}, func(m Message) bool {
		i := View{m.Topic: m}.Instance("kitchen", "broken")
		return i.State == topics.Backoff && i.Restarts > 1 && i.Message != ""
	})
	o.Until("ten crashes are a failure, and its last words are shown", func(v View) bool {
		i := v.Instance("kitchen", "broken")
		return i.State == topics.Failed && i.Restarts == 9 && strings.Contains(i.Message, "last words of a crash") &&
			v.Service("broken").State == topics.Failed
	})
	o.AwaitEvent(Mark{}, "dominion/hub/event", topics.ServiceFailed, "kitchen", "broken")
	r := home.Ctl("status")
	if r.Code != 0 || !strings.Contains(r.Stdout, "failed") {
		t.Errorf("dominionctl status does not show the failure: %+v", r)
	}
	if v := o.Latest(); !v.Healthy("web", 1) || v.Instance("kitchen", "web").Restarts != 0 {
		t.Errorf("web suffered: %+v", v.Service("web"))
	}
	if e := o.Latest().Endpoints("broken"); len(e) != 0 {
		t.Errorf("what does not run is offered: %+v", e)
	}
}

func TestKilledAgentIsAdopted(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		_, kitchen, _, agents, o := upWithServices(t, home)
		before, starts := home.Lives(o)
		pids := map[string]int{}
		for _, i := range o.Latest().Domain("kitchen").Services {
			pids[i.Service] = i.PID
		}

		mark, killed := o.Now(), time.Now()
		agents[0].Kill()
		o.AwaitTopic(mark, "dominion/domain/kitchen/availability", "offline")
		offline := o.AwaitEvent(mark, "dominion/hub/event", topics.DomainOffline, "kitchen", "")
		if took := offline.At.Sub(killed); took > atOnce {
			t.Errorf("the hub knew after %v, want at most %v", took, atOnce)
		}
		home.Journal.Undisturbed(t, "without an agent", before, starts)

		mark = o.Now()
		agents[0] = kitchen.Start()
		awaitRejoin(o, mark, "kitchen")
		o.AwaitTopic(mark, "dominion/domain/kitchen/availability", "online")
		m := o.Await("the next agent tells of all services", mark, func(m Message) bool {
			return m.Topic == "dominion/domain/kitchen/status" && len(decode[topics.Domain](t, m).Services) == len(pids)
		})
		for _, i := range decode[topics.Domain](t, m).Services {
			if i.PID != pids[i.Service] || i.Restarts != 0 || i.State != topics.Running {
				t.Errorf("adopted: %+v, had pid %d", i, pids[i.Service])
			}
		}
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		home.Journal.Undisturbed(t, "after the next agent came", before, starts)

		t.Log("the exit of an adopted one is noticed")
		lamp := home.Journal.Of(t, "start", "lamp")[0]
		kill(t, lamp.PID)
		home.Journal.Await(t, 2, "start", "lamp")
		o.Until("lamp runs again", func(v View) bool { return v.Healthy("lamp", 1) && v.Instance("kitchen", "lamp").Restarts == 1 })

		t.Log("an adopted one is stopped when it is not wanted, and nothing is left of it")
		agents[0].Kill()
		mark = o.Now()
		agents[0] = kitchen.Start()
		awaitRejoin(o, mark, "kitchen")
		home.Publish("dominion/service/lamp/set", "OFF")
		home.Publish("dominion/service/web/set", "OFF")
		o.Until("both are stopped", func(v View) bool {
			return v.Service("lamp").State == topics.Stopped && v.Service("web").State == topics.Stopped
		})
		home.Journal.AwaitRunning(t)
		eventually(t, "the agent is alone on kitchen", func() bool { return slices.Equal(kitchen.Processes(), []int{agents[0].PID()}) })
	})
}

func TestKilledHubDisturbsNothing(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		hub, _, _, _, o := upWithServices(t, home)
		before, starts := home.Lives(o)
		epoch := o.Latest().Command("kitchen").Epoch

		for range 2 {
			mark := o.Now()
			hub.Kill()
			if home.Broker == External {
				o.AwaitTopic(mark, "dominion/hub/availability", "offline")
			}
			home.Journal.Undisturbed(t, "without a hub", before, starts)
			hub = home.StartHub()
			o = home.Observe()
			o.Until("hub and domains are back, web and lamp healthy, the epoch is higher", func(v View) bool {
				return v.Ready() && v.Online("kitchen") && v.Online("cellar") && v.Healthy("web", 1) && v.Healthy("lamp", 1) && v.Command("kitchen").Epoch > epoch
			})
			epoch = o.Latest().Command("kitchen").Epoch
			// what was to be moved would be moved when the hub is ready
			awaitLiveHeartbeat(o, o.Now(), "kitchen")
			awaitLiveHeartbeat(o, o.Now(), "kitchen")
			home.Journal.Undisturbed(t, "after the hub came back", before, starts)
		}
		for _, domain := range []string{"kitchen", "cellar"} {
			for _, i := range o.Latest().Domain(domain).Services {
				if i.State != topics.Stopped && i.Restarts != 0 {
					t.Errorf("%s on %s counts restarts: %+v", i.Service, domain, i)
				}
			}
		}
	})
}
