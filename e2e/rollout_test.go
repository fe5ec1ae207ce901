package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/topics"
)

// threeOfWeb is a home of three domains that all run web, with an environment.
func threeOfWeb(environment string, more ...string) string {
	return service("web", append([]string{`priority = "required"`, healthHTTP, `start_timeout = "10s"`, "environment = " + environment}, more...)...)
}

// never checks in the journal that after a moment never two of three were not
// ready at the same time, and returns how many were told to stop since then.
func neverTwoDown(t *testing.T, home *Home, since time.Time) (stops int) {
	t.Helper()
	down := make(map[string]bool)
	for _, e := range home.Journal.Entries(t) {
		if e.Service != "web" || !e.At.After(since) {
			continue
		}
		switch e.What {
		case "ready":
			delete(down, e.Domain)
		case "stop":
			stops++
			down[e.Domain] = true
		case "start", "crash":
			down[e.Domain] = true
		}
		if len(down) > 1 {
			t.Errorf("at %v (%s on %s) more than one of three is down: %v", e.At.Format("15:04:05.000"), e.What, e.Domain, down)
			return stops
		}
	}
	return stops
}

// colours are what the environment of the instances says, sorted.
func colours(t *testing.T, home *Home, v View) []string {
	t.Helper()
	var all []string
	for _, e := range v.Endpoints("web") {
		environment, _ := tryEnvironment(home, e) // what is said may be over by now
		all = append(all, environment["COLOUR"])
	}
	slices.Sort(all)
	return all
}

// updated reports whether all three are healthy and nothing is on its way.
func updated(v View) bool {
	return v.Healthy("web", 3) && !v.Service("web").Update.InProgress
}

// A changed definition reaches one instance after the other; a bad one is taken
// back and said, and a hub that is killed meanwhile, or started anew with
// another configuration, does the same.
func TestChangesRollOut(t *testing.T) {
	home := onEmbedded(t)
	domains := []*Domain{home.Domain("attic"), home.Domain("cellar"), home.Domain("kitchen")}
	for _, d := range domains {
		d.Install("web")
	}
	home.Configure(threeOfWeb(`{ COLOUR = "blue" }`))
	hub, _, o := home.Up(domains...)
	o.Until("web runs on three", func(v View) bool { return v.Healthy("web", 3) })
	stable := func(colour string) {
		t.Helper()
		// What all got healthy with is on the hub's disk before the next change.
		eventually(t, colour+" is the stable one", func() bool {
			b, _ := os.ReadFile(filepath.Join(home.Hub.Dir, "data", "hub.json"))
			_, rollouts, _ := strings.Cut(string(b), `"rollouts"`)
			return strings.Contains(rollouts, colour)
		})
	}
	stable("blue")

	t.Log("a good change")
	mark, since := o.Now(), time.Now()
	home.Configure(threeOfWeb(`{ COLOUR = "red" }`))
	hub.Signal(syscall.SIGHUP)
	o.AwaitEvent(mark, "dominion/hub/event", topics.ServiceUpdated, "", "web")
	o.Until("all are healthy", updated)
	if got := colours(t, home, o.Latest()); !slices.Equal(got, []string{"red", "red", "red"}) {
		t.Errorf("the instances say %q", got)
	}
	if n := neverTwoDown(t, home, since); n != 3 {
		t.Errorf("%d were stopped, want each once", n)
	}

	t.Log("a change that crashes")
	stable("red")
	mark, since = o.Now(), time.Now()
	home.Configure(threeOfWeb(`{ COLOUR = "green", CRASH = "1" }`))
	hub.Signal(syscall.SIGHUP)
	e := o.AwaitEvent(mark, "dominion/hub/event", topics.ServiceReverted, "attic", "web")
	if !strings.Contains(e.Message, "back to the one before") {
		t.Errorf("the event says %q", e.Message)
	}
	o.Until("all are healthy", updated)
	if got := colours(t, home, o.Latest()); !slices.Equal(got, []string{"red", "red", "red"}) {
		t.Errorf("the instances say %q", got)
	}
	if n := neverTwoDown(t, home, since); n != 1 {
		t.Errorf("%d were stopped, want attic's alone", n)
	}
	for _, verb := range [][]string{{"status"}, {"why", "web"}} {
		if r := home.Ctl(verb...); !strings.Contains(strings.Join(strings.Fields(r.Stdout), " "), "did not get healthy") {
			t.Errorf("dominionctl %v does not say so:\n%s%s", verb, r.Stdout, r.Stderr)
		}
	}

	t.Log("the hub is killed, and does not try it again")
	starts := home.Journal.Starts(t)
	hub.Kill()
	hub = home.StartHub()
	o = home.Observe()
	o.Until("the hub is ready again and says the problem", func(v View) bool {
		return v.Ready() && v.Healthy("web", 3) && strings.Contains(v.Service("web").Update.Problem, "did not get healthy")
	})
	awaitLiveHeartbeat(o, o.Now(), "attic")

	t.Log("one that never gets healthy, by a hub that is started anew with it")
	if n := home.Journal.Starts(t); n != starts {
		t.Errorf("%d starts by a restart of the hub", n-starts)
	}
	hub.Stop()
	since = time.Now()
	home.Configure(threeOfWeb(`{ COLOUR = "green", READY_AFTER = "1h" }`))
	hub = home.StartHub()
	o = home.Observe()
	o.AwaitEvent(Mark{}, "dominion/hub/event", topics.ServiceReverted, "attic", "web")
	o.Until("all are healthy", updated)
	if got := colours(t, home, o.Latest()); !slices.Equal(got, []string{"red", "red", "red"}) {
		t.Errorf("the instances say %q", got)
	}
	neverTwoDown(t, home, since)

	t.Log("a good one, and the hub is killed in the middle of it")
	mark, since = o.Now(), time.Now()
	home.Configure(threeOfWeb(`{ COLOUR = "white", READY_AFTER = "500ms" }`))
	hub.Signal(syscall.SIGHUP)
	o.AwaitEvent(mark, "dominion/hub/event", topics.ServiceUpdating, "", "web")
	eventually(t, "attic is changed", func() bool {
		return slices.ContainsFunc(home.Journal.Of(t, "start", "web"), func(e Entry) bool { return e.At.After(since) })
	})
	hub.Kill()
	home.StartHub()
	o = home.Observe()
	o.Until("all have it", func(v View) bool {
		return v.Ready() && updated(v) && slices.Equal(colours(t, home, v), []string{"white", "white", "white"})
	})
	if n := neverTwoDown(t, home, since); n != 3 {
		t.Errorf("%d were stopped, want each once", n)
	}
}

// A new version on the domains' disks is rolled out the same way: at once, or
// when somebody says so; one that does not get healthy goes no further.
func TestVersionsRollOut(t *testing.T) {
	home := onEmbedded(t)
	domains := []*Domain{home.Domain("attic"), home.Domain("cellar"), home.Domain("kitchen")}
	for _, d := range domains {
		d.Install("web")
		d.Write("web", "service.toml", "version = \"1.0.0\"\n")
	}
	home.Configure(threeOfWeb(`{}`))
	hub, _, o := home.Up(domains...)
	o.Until("web runs on three", func(v View) bool { return v.Healthy("web", 3) })
	drop := func(version, environment string) {
		for _, d := range domains {
			d.Install(".next")
			d.Write(".next", "service.toml", "version = \""+version+"\"\n"+environment)
			// one for the other: there is no moment without it
			dir, next := filepath.Join(d.ServicesDir(), "web"), filepath.Join(d.ServicesDir(), ".next")
			d.must(unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE))
			d.must(os.Rename(next, filepath.Join(d.ServicesDir(), ".old-"+version)))
		}
	}
	runs := func(version string) func(View) bool {
		return func(v View) bool {
			u := v.Service("web").Update
			return updated(v) && u.Installed == version && u.Latest == version
		}
	}

	t.Log("a new version")
	since := time.Now()
	drop("1.1.0", "")
	o.Until("all run 1.1.0", runs("1.1.0"))
	if n := neverTwoDown(t, home, since); n != 3 {
		t.Errorf("%d were stopped, want each once", n)
	}

	t.Log("one that crashes")
	mark, since := o.Now(), time.Now()
	drop("1.2.0", "environment = { CRASH = \"1\" }\n")
	bad := o.AwaitEvent(mark, "dominion/hub/event", topics.ServiceReverted, "", "web").Domain // whose catalog settled first
	o.Until("it is said", func(v View) bool {
		return strings.Contains(v.Service("web").Update.Problem, "1.2.0") && v.Service("web").Healthy == 2
	})
	if n := neverTwoDown(t, home, since); n != 1 {
		t.Errorf("%d were stopped, want %s's alone", n, bad)
	}

	t.Log("a better one, when somebody says so")
	home.Configure(threeOfWeb(`{}`, `update = "manual"`))
	mark = o.Now()
	hub.Signal(syscall.SIGHUP)
	o.AwaitEvent(mark, "dominion/hub/event", topics.ConfigReloaded, "", "")
	drop("1.3.0", "")
	o.Until(bad+" starts as what is there", func(v View) bool {
		u := v.Service("web").Update
		return u.Latest == "1.3.0" && v.Instance(bad, "web").Version == "1.3.0" && v.Healthy("web", 3)
	})
	for _, d := range domains {
		if v := o.Latest(); d.Name != bad && v.Instance(d.Name, "web").Version != "1.1.0" {
			t.Errorf("%s was updated though nobody said so:\n%s", d.Name, v)
		}
	}
	since = time.Now()
	if r := home.Ctl("update", "web", "--wait", "--timeout", "90s"); r.Code != 0 {
		t.Errorf("dominionctl update: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	o.Until("all run 1.3.0", runs("1.3.0"))
	if n := neverTwoDown(t, home, since); n != 2 {
		t.Errorf("%d were stopped, want the two that waited", n)
	}
}
