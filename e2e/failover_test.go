package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// elsewhere is the promise: so soon after its domain's end a movable service
// runs on another one, with the default settings.
const elsewhere = 5 * time.Second

// The cable of a domain is pulled: what may run elsewhere does; the cable is
// put back: one copy is left, the one that is offered.
func TestPulledCable(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		_, kitchen, cellar, _, o := upWithServices(t, home)
		// web runs on one of the two, it is not said on which
		from, to := kitchen, cellar
		if o.Latest().Endpoints("web")[0].Domain == "cellar" {
			from, to = cellar, kitchen
		}
		mark, pulled := o.Now(), time.Now()
		from.LinkDown()
		second := home.Journal.Await(t, 2, "start", "web")
		if took := second.At.Sub(pulled); took > elsewhere || second.Domain != to.Name {
			t.Errorf("web started on %s %v after the cable of %s was pulled, want %s and at most %v", second.Domain, took, from.Name, to.Name, elsewhere)
		}
		o.Until("web is offered elsewhere, and there alone", func(v View) bool {
			e := v.Endpoints("web")
			return len(e) == 1 && e[0].Domain == to.Name && v.Healthy("web", 1)
		})
		o.AwaitEvent(mark, "dominion/hub/event", topics.DomainLost, from.Name, "")
		if !slices.ContainsFunc(o.Since(mark), func(m Message) bool {
			return m.Topic == "dominion/domain/"+from.Name+"/availability" && m.Payload == "offline"
		}) {
			t.Errorf("%s was never said to be offline", from.Name)
		}
		// the other side of the cut keeps what it has: nobody told it otherwise
		if got := len(running(home.Journal.Running(t), "web")); got != 2 {
			t.Errorf("%d webs run while the network is cut, want one on each side", got)
		}

		t.Log("the cable is put back")
		mark = o.Now()
		from.LinkUp()
		o.Until(from.Name+" is back", func(v View) bool { return v.Online(from.Name) })
		eventually(t, "one web is left", func() bool {
			left := running(home.Journal.Running(t), "web")
			return len(left) == 1 && left[0] == "web@"+to.Name
		})
		for _, m := range o.Since(mark) {
			if m.Topic != "dominion/service/web/endpoints" {
				continue
			}
			if e := decode[[]topics.Endpoint](t, m); len(e) == 0 || e[0].Domain != to.Name {
				t.Errorf("the best endpoint of web changed while the cable was put back: %v", m)
			}
		}
		if n := len(home.Journal.Of(t, "start", "web")); n != 2 {
			t.Errorf("web was started %d times, want twice: here and there", n)
		}
		// lamp cannot run elsewhere, and was left alone on both sides
		if n := len(home.Journal.Of(t, "start", "lamp")); n != 1 {
			t.Errorf("lamp was started %d times, want once", n)
		}
		o.Until("both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
	})
}

// running keeps of Journal.Running one service, as "service@domain".
func running(all []string, service string) []string {
	var some []string
	for _, r := range all {
		if where, _, _ := strings.Cut(r, " "); strings.HasPrefix(where, service+"@") {
			some = append(some, where)
		}
	}
	return some
}

// A plug is pulled, and the machine comes back without anything running.
func TestPowerCut(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		_, kitchen, cellar, _, o := upWithServices(t, home)
		from, to := kitchen, cellar
		if o.Latest().Endpoints("web")[0].Domain == "cellar" {
			from, to = cellar, kitchen
		}
		cut := time.Now()
		from.PowerCut()
		second := home.Journal.Await(t, 2, "start", "web")
		if took := second.At.Sub(cut); took > elsewhere || second.Domain != to.Name {
			t.Errorf("web started on %s %v after %s lost its power, want %s and at most %v", second.Domain, took, from.Name, to.Name, elsewhere)
		}
		o.Until("web is healthy elsewhere", func(v View) bool {
			e := v.Endpoints("web")
			return len(e) == 1 && e[0].Domain == to.Name && e[0].Healthy
		})

		t.Log("the power is back")
		from.LinkUp()
		from.Start()
		o.Until(from.Name+" is back, all is healthy", func(v View) bool {
			return v.Online(from.Name) && v.Healthy("web", 1) && v.Healthy("lamp", 1)
		})
		home.Journal.AwaitRunning(t, "lamp@kitchen", "web@"+to.Name)
		if e := o.Latest().Endpoints("web"); e[0].Domain != to.Name {
			t.Errorf("web moved back without cause: %+v", e)
		}
	})
}

// An upgrade of the agent, and an agent that is dead for 2 s, are no reason
// to move or restart anything.
func TestAgentRestartMovesNothing(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		// what is dead is silent, and so it is until it has joined again
		_, kitchen, cellar, agents, o := upWithServices(t, home, "[timing]\nlost_after = \"8s\"\n")
		before, starts := home.Lives(o)
		mark := o.Now()
		for i, d := range []*Domain{kitchen, cellar} {
			agents[i].Stop()
			home.Journal.Undisturbed(t, d.Name+": agent stopped", before, starts)
			begun := o.Now()
			agents[i] = d.Start()
			awaitRejoin(o, begun, d.Name)

			agents[i].Kill()
			time.Sleep(2 * time.Second) // the scenario: dead for so long
			begun = o.Now()
			agents[i] = d.Start()
			awaitRejoin(o, begun, d.Name)
		}
		o.Until("both are online, all is healthy", func(v View) bool {
			return v.Online("kitchen") && v.Online("cellar") && v.Healthy("web", 1) && v.Healthy("lamp", 1)
		})
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		awaitLiveHeartbeat(o, o.Now(), "cellar")
		home.Journal.Undisturbed(t, "after two restarts of each agent", before, starts)
		for _, e := range o.Events(mark) {
			switch e.Type {
			case topics.DomainLost, topics.ServiceMoved, topics.ServiceStarted, topics.ServiceStopped, topics.ServiceCrashed:
				t.Errorf("an event that should not be: %+v", e)
			}
		}
	})
}

// stop_services_on_exit stops them, and nothing is left.
func TestAgentThatTakesItsServicesAlong(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	kitchen.InstallShell("lamp")
	kitchen.Configure(nil, "stop_services_on_exit = true\n")
	home.Configure(service("web", `priority = "required"`) + service("lamp", `priority = "required"`))
	_, agents, o := home.Up(kitchen)
	o.Until("both run", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
	agents[0].Stop()
	if pids := kitchen.Processes(); len(pids) != 0 {
		t.Errorf("processes are left: %v", pids)
	}
	if len(home.Journal.Of(t, "end", "web")) != 1 {
		t.Error("web was not stopped in order")
	}
}

// A service that does not hear SIGTERM, with children that it forgot: nothing
// is left of it after stop_timeout.
func TestNothingIsLeftBehind(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Write("deaf", "Makefile", "run:\n\t@exec sh ./run.sh\n")
	kitchen.Write("deaf", "run.sh", "trap '' TERM\n(sleep 3600; sleep 3600) &\nsleep 3600 &\nwhile :; do sleep 3600; done\n")
	home.Configure(service("deaf", `priority = "required"`, `stop_timeout = "1s"`))
	_, agents, o := home.Up(kitchen)
	o.Until("deaf runs", func(v View) bool { return v.Healthy("deaf", 1) })
	// the agent, make, the shell, its child, and three that sleep
	eventually(t, "deaf has the processes that this test is about", func() bool { return len(kitchen.Processes()) >= 7 })
	home.Publish("dominion/service/deaf/set", "OFF")
	o.Until("deaf is stopping, then stopped", func(v View) bool { return v.Service("deaf").State == topics.Stopped })
	if pids := kitchen.Processes(); !slices.Equal(pids, []int{agents[0].PID()}) {
		t.Errorf("after deaf was said to be stopped there run %v, the agent is %d", pids, agents[0].PID())
	}
}

// A hub that stands still (a busy disk, a suspended machine) and goes on
// disturbs nothing.
func TestHubStandsStill(t *testing.T) {
	home := onEmbedded(t)
	hub, _, _, _, o := upWithServices(t, home)
	before, starts := home.Lives(o)
	hub.Signal(syscall.SIGSTOP)
	time.Sleep(6 * time.Second) // the scenario: still for longer than lost_after
	hub.Signal(syscall.SIGCONT)
	mark := o.Now()
	for _, d := range []string{"kitchen", "cellar"} {
		awaitLiveHeartbeat(o, mark, d)
	}
	o.Until("all is healthy", func(v View) bool {
		return v.Online("kitchen") && v.Online("cellar") && v.Healthy("web", 1) && v.Healthy("lamp", 1)
	})
	awaitLiveHeartbeat(o, o.Now(), "kitchen")
	awaitLiveHeartbeat(o, o.Now(), "cellar")
	home.Journal.Undisturbed(t, "after the hub stood still", before, starts)
	hub.AwaitLog("the hub stood still: it was paused (SIGSTOP,")
}
