package e2e

import (
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// installJob writes a service that does something once and ends with the code
// that stands in the file "code" of its directory.
func (d *Domain) installJob(name string) {
	d.t.Helper()
	d.Write(name, "Makefile", "run:\n\t@exec sh ./run.sh\n")
	d.Write(name, "service.toml", "command = [\"sh\", \"./run.sh\"]\nversion = \"1.0.0\"\n")
	d.Write(name, "run.sh", `echo "$(date +%s%N) start $SERVICE_NAME $DOMAIN_NAME $$" >>`+d.home.Journal.file+`
sleep 0.3
exit $(cat ./code)
`)
	d.Write(name, "code", "0\n")
}

// Migrate, then serve: what depends on a service that does something once
// starts when that has ended well, and not when it has ended otherwise. It is
// not run again by a restart of hub or agent, but when somebody asks for it.
func TestMigrateThenServe(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen, cellar := home.Domain("kitchen"), home.Domain("cellar")
		kitchen.installJob("migrate")
		kitchen.Write("migrate", "code", "3\n")
		for _, d := range []*Domain{kitchen, cellar} {
			d.Install("web")
			d.installJob("once")
		}
		home.Configure(service("migrate", `restart = { policy = "never" }`) +
			service("web", `priority = "required"`, `dependencies = ["migrate"]`, `replicas = 1`) +
			service("once", `priority = "required"`, `restart = { policy = "on-failure" }`))
		hub, agents, o := home.Up(kitchen, cellar)

		t.Log("it ended, but not well: nobody starts upon that")
		o.Until("web waits for it and says why", func(v View) bool {
			return v.Service("migrate").State == topics.Finished && strings.Contains(v.Service("migrate").Reason, "3") &&
				v.Service("web").State == topics.Pending && strings.Contains(v.Service("web").Reason, "waits for migrate, which ended on kitchen without success")
		})
		t.Log("once on every domain that is meant")
		o.Until("once has finished on both", func(v View) bool {
			return v.Service("once").State == topics.Finished && v.Instance("kitchen", "once").State == topics.Finished && v.Instance("cellar", "once").State == topics.Finished
		})

		t.Log("asked again, it ends well, and web starts")
		kitchen.Write("migrate", "code", "0\n")
		if r := home.Ctl("restart", "--wait", "migrate"); r.Code != 0 {
			t.Fatalf("restart: %s", r.Stderr)
		}
		if n := len(home.Journal.Of(t, "start", "migrate")); n != 2 {
			t.Errorf("restart has waited, and it was started %d times", n)
		}
		o.Until("web runs", func(v View) bool {
			return v.Healthy("web", 1) && v.Service("migrate").State == topics.Finished
		})
		starts := home.Journal.Of(t, "start", "migrate")
		if web := home.Journal.Of(t, "start", "web"); len(starts) != 2 || len(web) != 1 || web[0].At.Before(starts[1].At) {
			t.Errorf("migrate was started at %v, web at %v", starts, web)
		}

		t.Log("restarts of agents and hub run nothing again")
		before, all := home.Lives(o)
		agents[0].Kill()
		mark := o.Now()
		kitchen.Start()
		awaitRejoin(o, mark, "kitchen")
		hub.Kill()
		hub = home.StartHub()
		o = home.Observe()
		o.Until("all is as before", func(v View) bool {
			return v.Ready() && v.Online("kitchen") && v.Online("cellar") && v.Healthy("web", 1) &&
				v.Service("migrate").State == topics.Finished && v.Service("once").State == topics.Finished
		})
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		home.Journal.Undisturbed(t, "after restarts", before, all)

		t.Log("what it is started with is another: it runs again, and web stays")
		home.Configure(service("migrate", `restart = { policy = "never" }`, `environment = { STEP = "2" }`) +
			service("web", `priority = "required"`, `dependencies = ["migrate"]`, `replicas = 1`) +
			service("once", `priority = "required"`, `restart = { policy = "on-failure" }`))
		hub.Stop()
		home.StartHub()
		home.Journal.Await(t, 3, "start", "migrate")
		o = home.Observe()
		o.Until("it has finished again", func(v View) bool {
			return v.Ready() && v.Service("migrate").State == topics.Finished && v.Healthy("web", 1)
		})
		home.Journal.Undisturbed(t, "after it ran again", before, all+1)
	})
}
