package e2e

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// versioned writes the version of a service's directory.
func (d *Domain) versioned(service, version string) {
	d.Write(service, "service.toml", "version = \""+version+"\"\n")
}

// plain is text with its line breaks taken out, as tables wrap it.
func plain(r Result) string { return strings.Join(strings.Fields(r.Stdout+" "+r.Stderr), " ") }

// A range of versions holds at every moment: whatever order the machines are
// booted in, when copies are scaled down, when a new version comes onto a disk,
// and when the copy that is needed crashes with another version on its disk.
func TestRangesHoldAtEveryMoment(t *testing.T) {
	home := onEmbedded(t)
	attic, barn := home.Domain("attic"), home.Domain("barn")
	attic.Install("lib", "app")
	attic.versioned("lib", "2.0.0")
	barn.Install("lib")
	barn.versioned("lib", "1.0.0")
	define := func(in string) string {
		return service("lib", `priority = "required"`, `replicas = 1`, `restart = { delay = "100ms", max_delay = "1s" }`, healthHTTP) +
			service("app", `priority = "required"`, `replicas = 1`, `dependencies = ["lib `+in+`"]`, healthHTTP)
	}
	home.Configure(define(">=1 <2"))
	hub, _, o := home.Up(attic)

	t.Log("by the order of booting 2.0.0 runs first, and app waits for 1.0.0, which another machine has")
	o.Until("lib 2.0.0 runs, and app waits for another", func(v View) bool {
		return v.Healthy("lib", 1) && strings.Contains(v.Service("app").Reason, "waits for lib >=1 <2; attic runs 2.0.0")
	})
	barn.Start()
	o.Until("lib 1.0.0 runs, and app with it", func(v View) bool {
		return v.Healthy("app", 1) && v.Healthy("lib", 1) && v.Instance("barn", "lib").Version == "1.0.0"
	})
	app := o.Latest().Instance("attic", "app").PID
	lib := o.Latest().Instance("barn", "lib").PID

	t.Log("scaling down does not stop the only copy that fits")
	for _, n := range []string{"2", "1"} {
		if r := home.Ctl("scale", "lib", n); r.Code != 0 {
			t.Fatalf("scale lib %s: %+v", n, r)
		}
		o.Until("lib runs "+n+" times", func(v View) bool {
			s := v.Service("lib")
			return len(s.Instances) == len(v.Endpoints("lib")) && len(s.Instances) == int(n[0]-'0') && s.Healthy == len(s.Instances)
		})
	}
	if v := o.Latest(); v.Instance("barn", "lib").PID != lib {
		t.Errorf("the copy that app needs did not stay:\n%s", v)
	}

	t.Log("an update that would break the range waits, and is a problem with its remedy")
	barn.versioned("lib", "2.0.0")
	o.Until("it waits and is a problem", func(v View) bool {
		return strings.HasPrefix(v.Service("lib").Problem, "the new version waits: app needs lib >=1 <2")
	})
	if r := home.Ctl("status"); !strings.Contains(plain(r), "! lib: the new version waits: app needs lib >=1 <2") {
		t.Errorf("status: code %d\n%s", r.Code, r.Stdout)
	}
	if r := home.Ctl("restart", "lib"); r.Code == 0 || !strings.Contains(plain(r), "app needs lib >=1 <2") {
		t.Errorf("restart takes what is on the disk, and is not refused: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}

	t.Log("a crash does not start what is on the disk now, here or elsewhere")
	mark := o.Now()
	kill(t, lib)
	const reason = "app needs lib >=1 <2, and version 2.0.0 is in its directory now"
	o.Until("lib is held", func(v View) bool {
		i := v.Instance("barn", "lib")
		return i.State == topics.Failed && strings.Contains(i.Message, reason)
	})
	o.AwaitEvent(mark, "dominion/domain/barn/event", topics.ServiceFailed, "barn", "lib")
	o.Until("it is said", func(v View) bool { return strings.Contains(v.Service("lib").Problem, reason) })
	if r := home.Ctl("why", "lib"); !strings.Contains(plain(r), "attic has lib 2.0.0, and app, which runs, needs >=1 <2") {
		t.Errorf("why does not say why attic is not taken:\n%s%s", r.Stdout, r.Stderr)
	}
	v := o.Latest()
	if i := v.Instance("attic", "lib"); i.State.Listed() || v.Instance("attic", "app").PID != app {
		t.Errorf("lib 2.0.0 runs on attic, or app was disturbed:\n%s", v)
	}

	t.Log("what fits starts by itself")
	barn.versioned("lib", "1.5.0")
	o.Until("lib 1.5.0 runs", func(v View) bool { return v.Healthy("lib", 1) && v.Instance("barn", "lib").Version == "1.5.0" })

	t.Log("the remedy: app can use 2.0.0")
	home.Configure(define(">=1 <3"))
	hub.Signal(syscall.SIGHUP)
	barn.versioned("lib", "2.0.0")
	o.Until("lib 2.0.0 runs", func(v View) bool {
		return v.Healthy("lib", 1) && v.Instance("barn", "lib").Version == "2.0.0" && v.Healthy("app", 1)
	})
}

// An update ends, with the reason, where one domain has only an older version;
// what cannot be reached is not offered.
func TestUpdateEndsWhereADomainIsOlder(t *testing.T) {
	home := onEmbedded(t)
	attic, barn := home.Domain("attic"), home.Domain("barn")
	for _, d := range []*Domain{attic, barn} {
		d.Install("web")
		d.versioned("web", "1.0.0")
	}
	home.Configure(service("web", `priority = "required"`, `update = "manual"`, healthHTTP, `environment = { WATCH = "1" }`))
	_, _, o := home.Up(attic, barn)
	o.Until("both run", func(v View) bool { return v.Healthy("web", 2) })

	attic.versioned("web", "1.1.0")
	o.Until("1.1.0 is offered", func(v View) bool { return v.Service("web").Update.Latest == "1.1.0" })
	began := time.Now()
	r := home.Ctl("update", "web", "--wait", "--timeout", "90s")
	t.Logf("update --wait took %v, code %d: %s", time.Since(began).Round(time.Millisecond), r.Code, plain(r))
	if text := plain(r); !strings.Contains(text, "barn") || !strings.Contains(text, "1.0.0") {
		t.Errorf("update --wait does not give the reason: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("update --wait took %v", took)
	}
	o.Until("attic runs it, and it is not offered any more, with the reason", func(v View) bool {
		u := v.Service("web").Update
		return v.Instance("attic", "web").Version == "1.1.0" && u.Latest == u.Installed && strings.Contains(u.Waits, "barn")
	})
	if v := o.Latest(); v.Instance("barn", "web").Version != "1.0.0" {
		t.Errorf("barn runs what it does not have:\n%s", v)
	}
}

// What cannot start at all where it is placed is tried elsewhere at once, and the
// reason is the real one.
func TestCannotStartIsTriedElsewhere(t *testing.T) {
	home := onEmbedded(t)
	attic, barn := home.Domain("attic"), home.Domain("barn")
	barn.Install("taken", "missing", "denied", "built")
	attic.Install("taken")
	attic.Write("taken", "service.toml", "port = 7070\n")
	barn.Write("taken", "service.toml", "port = 7070\n")
	attic.Write("missing", "service.toml", "command = [\"no-such-program\"]\n")
	attic.Write("denied", "Makefile", "run:\n\t@cat /etc/shadow\n")
	attic.Write("built", "Makefile", "run:\n\t@./not-there\n")
	reasons := map[string]string{
		"taken":   "7070",
		"missing": "there is no program no-such-program",
		"denied":  "Permission denied",
		"built":   "not-there",
	}
	text := ""
	for name := range reasons {
		text += service(name, `priority = "required"`, `replicas = 1`, `restart = { delay = "30s", max_delay = "30s" }`, healthHTTP)
	}
	home.Configure(text)
	attic.Host.Start("/usr/bin/env", "SERVICE_PORT=7070", programs.answer, os.DevNull)
	_, _, o := home.Up(attic)
	for name, reason := range reasons {
		o.Until(name+" fails with the real reason", func(v View) bool {
			i := v.Instance("attic", name)
			return i.State == topics.Failed && strings.Contains(i.Message, reason) && !strings.Contains(i.Message, "too often")
		})
	}
	// The moment of the next try is retained, and what is left of it is shown.
	for name := range reasons {
		o.Until("the hub says of "+name+" when it is tried again", func(v View) bool {
			i := v.Service(name).Instances
			return len(i) == 1 && !i[0].NextTry.IsZero()
		})
		if s := o.Latest()["dominion/service/"+name+"/status"].Payload; strings.Contains(s, "next try") {
			t.Errorf("retained of %s: %s", name, s)
		}
	}
	for _, verb := range [][]string{{"status"}, {"why", "missing"}, {"describe", "missing"}} {
		if r := home.Ctl(verb...); !strings.Contains(plain(r), "next try in ") {
			t.Errorf("dominionctl %v does not say when it is tried again:\n%s%s", verb, r.Stdout, r.Stderr)
		}
	}
	barn.Start()
	for name := range reasons {
		o.Until(name+" runs elsewhere", func(v View) bool {
			e := v.Endpoints(name)
			return v.Healthy(name, 1) && slices.ContainsFunc(e, func(e topics.Endpoint) bool { return e.Domain == "barn" })
		})
	}
}
