package e2e

import (
	"fmt"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// The power of the whole house fails, and the hub does not come back: the
// services of the last start command run all the same.
func TestColdStartWithoutHub(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		_, kitchen, cellar, _, o := upWithServices(t, home)
		web := o.Latest().Endpoints("web")[0]
		at := web.Domain
		for _, host := range home.hosts {
			if host != home.observer && host.Name != "broker" {
				host.PowerCut()
			}
		}
		home.Journal.AwaitRunning(t)
		for _, host := range home.hosts {
			host.LinkUp()
		}
		starts := home.Journal.Starts(t)
		kitchen.Start()
		cellar.Start()
		home.Journal.AwaitRunning(t, "lamp@kitchen", "web@"+at)
		if n := home.Journal.Starts(t) - starts; n != 2 {
			t.Errorf("%d processes were started, want 2", n)
		}
		eventually(t, "web answers where it did", func() bool {
			_, err := home.observer.Get(fmt.Sprintf("http://%s:%d/health", web.Address, web.Port))
			return err == nil
		})

		t.Log("a lonely agent keeps them running, and restarts what fails")
		before := home.Journal.Running(t)
		starts = home.Journal.Starts(t)

		t.Log("the hub comes back: nothing is restarted or moved")
		home.StartHub()
		o = home.Observe()
		o.Until("all is healthy", func(v View) bool {
			return v.Ready() && v.Online("kitchen") && v.Online("cellar") && v.Healthy("web", 1) && v.Healthy("lamp", 1)
		})
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		awaitLiveHeartbeat(o, o.Now(), "cellar")
		home.Journal.Undisturbed(t, "after the hub came back", before, starts)
		for _, d := range []string{"kitchen", "cellar"} {
			for _, i := range o.Latest().Domain(d).Services {
				if i.State == topics.Running && !alive(i.PID) {
					t.Errorf("%s tells of a process that does not live: %+v", d, i)
				}
			}
		}
	})
}

// The hub is away for longer than isolation: services go on, crashed ones
// are restarted, and the domain joins again when the hub is back.
func TestLonelyDomainRunsItsServicesOn(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	home.Configure("[timing]\nisolation = \"3s\"\n" + service("web", `priority = "required"`, `restart = { delay = "100ms" }`))
	hub, agents, o := home.Up(kitchen)
	o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
	pid := home.Journal.Await(t, 1, "start", "web").PID
	hub.Kill()
	agents[0].AwaitLog("lonely")
	if !alive(pid) {
		t.Error("web does not live on a lonely domain")
	}
	kill(t, pid)
	home.Journal.Await(t, 2, "start", "web")
	before, starts := home.Journal.AwaitRunning(t, "web@kitchen"), 2
	home.StartHub()
	o = home.Observe()
	o.Until("kitchen joins again", func(v View) bool { return v.Ready() && v.Online("kitchen") && v.Healthy("web", 1) })
	awaitLiveHeartbeat(o, o.Now(), "kitchen")
	home.Journal.Undisturbed(t, "after the domain joined again", before, starts)
}
