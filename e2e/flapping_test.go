package e2e

import (
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// A machine whose link breaks three times within minutes is told of, and
// nothing is moved back to it, unless nothing else can run it. What can run
// nowhere else goes on there. That its rest ends is tested in package hub.
func TestFlappingDomain(t *testing.T) {
	home := onEmbedded(t)
	attic, cellar := home.Domain("attic", "cam"), home.Domain("cellar")
	attic.Install("web")
	attic.InstallShell("cam")
	cellar.Install("web")
	home.Configure(service("web", `priority = "required"`, `replicas = 1`, healthHTTP) +
		service("cam", `priority = "required"`, `traits = ["cam"]`))
	_, _, o := home.Up(attic, cellar)
	o.Until("web and cam are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("cam", 1) })
	home.Lives(o)

	inCellar := func(v View) bool {
		e := v.Endpoints("web")
		return len(e) == 1 && e[0].Domain == "cellar" && e[0].Healthy
	}
	start := o.Now()
	for loss := range 3 {
		mark := o.Now()
		attic.LinkDown()
		o.AwaitEvent(mark, "dominion/hub/event", topics.DomainLost, "attic", "")
		o.Until("web has moved to the cellar", inCellar) // who is back within failover_after keeps it
		mark = o.Now()
		attic.LinkUp()
		o.AwaitEvent(mark, "dominion/hub/event", topics.DomainReturned, "attic", "")
		t.Logf("%d losses", loss+1)
	}
	o.AwaitEvent(start, "dominion/hub/event", topics.DomainFlapping, "attic", "")
	o.Until("web serves in the cellar alone", func(v View) bool {
		return inCellar(v) && v.Healthy("cam", 1)
	})
	for _, command := range []string{"domains", "status"} {
		if r := home.Ctl(command); r.Code != 0 || !strings.Contains(strings.Join(strings.Fields(r.Stdout), " "), "attic: was lost 3 times within 10 minutes") {
			t.Errorf("dominionctl %s does not show it: code %d\n%s%s", command, r.Code, r.Stdout, r.Stderr)
		}
	}

	t.Log("web is started anew: not there")
	anew := func() {
		home.Publish("dominion/service/web/set", "OFF")
		o.Until("web is stopped", func(v View) bool { return v.Service("web").State == topics.Stopped })
		home.Publish("dominion/service/web/set", "ON")
		o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
	}
	anew()
	home.Journal.AwaitRunning(t, "cam@attic", "web@cellar")
	var why topics.Why
	r := home.Ctl("why", "web", "cellar", "--json")
	if err := oneDocument(r.Stdout, &why); err != nil || len(why.Domains) != 1 || !strings.Contains(why.Domains[0].Reason, "attic was lost too often lately") {
		t.Errorf("why does not say it: %v, %+v", err, why)
	}

	t.Log("nothing else can run it")
	home.Publish("dominion/domain/cellar/drain/set", "ON")
	o.Until("web serves in the attic", func(v View) bool {
		e := v.Endpoints("web")
		return len(e) == 1 && e[0].Domain == "attic" && e[0].Healthy
	})
	if n := len(home.Journal.Of(t, "start", "cam")); n != 1 {
		t.Errorf("cam was started %d times, want once: it has no other place", n)
	}
}
