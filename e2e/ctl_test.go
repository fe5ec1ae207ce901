package e2e

import (
	"encoding/json"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Each verb of dominionctl: what it prints, its JSON, its errors, its exit
// code, and that it does what it says.
func TestCommandLine(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		_, kitchen, _, _, o := upWithServices(t, home)

		t.Log("questions: a table, and one JSON document")
		for _, q := range []struct {
			args  string
			words []string // in the table
			into  any      // what the JSON is
		}{
			{"status", []string{"home", "kitchen", "cellar", "web", "lamp"}, &topics.Overview{}},
			{"domains", []string{"kitchen", "cellar", "online"}, &[]topics.DomainView{}},
			{"services", []string{"web", "lamp", "running"}, &[]topics.Service{}},
			{"events", []string{"domain_joined"}, &[]topics.Event{}},
			{"plan", []string{"web", "lamp"}, &[]topics.PlanLine{}},
			{"why web", []string{"web"}, &topics.Why{}},
			{"why lamp cellar", []string{"lamp", "cellar"}, &topics.Why{}},
			{"version", []string{version}, new(any)},
			{"logs lamp kitchen", []string{"hello from lamp"}, new(any)},
			{"logs -n 1 lamp", []string{"hello from lamp"}, new(any)},
		} {
			args := strings.Fields(q.args)
			r := home.Ctl(args...)
			if r.Code != 0 || !containsAll(r.Stdout, q.words) {
				t.Errorf("dominionctl %s: code %d, want %q in:\n%s%s", q.args, r.Code, q.words, r.Stdout, r.Stderr)
			}
			if strings.Contains(r.Stdout, "\x1b") {
				t.Errorf("dominionctl %s: terminal escapes in a pipe: %q", q.args, r.Stdout)
			}
			r = home.Ctl(append(args, "--json")...)
			if err := oneDocument(r.Stdout, q.into); r.Code != 0 || err != nil {
				t.Errorf("dominionctl %s --json: code %d, %v:\n%s%s", q.args, r.Code, err, r.Stdout, r.Stderr)
			}
		}
		var why topics.Why
		if err := oneDocument(home.Ctl("why", "lamp", "cellar", "--json").Stdout, &why); err != nil || len(why.Domains) != 1 || why.Domains[0].Runs || !strings.Contains(why.Domains[0].Reason, "lamp") {
			t.Errorf("why lamp cellar does not name the trait that is missing: %+v, %v", why, err)
		}

		t.Log("orders, waited for")
		// accepted runs an order and checks that it is reached when it returns
		accepted := func(reached func(View) bool, args ...string) {
			t.Helper()
			r := home.Ctl(append(args, "--wait", "--json")...)
			if err := oneDocument(r.Stdout, new(any)); r.Code != 0 || err != nil {
				t.Errorf("dominionctl %q --wait --json: code %d, %v:\n%s%s", args, r.Code, err, r.Stdout, r.Stderr)
			}
			o.Until(strings.Join(args, " ")+" is reached when dominionctl says so", reached)
		}
		starts := home.Journal.Starts(t)
		accepted(func(v View) bool { return v.Service("lamp").State == topics.Stopped }, "stop", "lamp")
		accepted(func(v View) bool { return v.Healthy("lamp", 1) && v.Service("lamp").Switch == "ON" }, "start", "lamp")
		accepted(func(v View) bool { return v.Healthy("lamp", 1) }, "restart", "lamp")
		accepted(func(v View) bool { return v.Healthy("lamp", 1) }, "restart", "lamp", "kitchen")
		home.Lives(o)
		if n := home.Journal.Starts(t) - starts; n < 3 {
			t.Errorf("a start and two restarts started %d processes", n)
		}
		accepted(func(v View) bool { return v.Healthy("web", 2) }, "scale", "web", "2")
		accepted(func(v View) bool { return v.Healthy("web", 1) }, "scale", "web", "0")
		accepted(func(v View) bool {
			return v.Domain("cellar").Draining && v.Healthy("web", 1) && v.Endpoints("web")[0].Domain == "kitchen"
		}, "drain", "cellar")
		accepted(func(v View) bool { return !v.Domain("cellar").Draining }, "undrain", "cellar")

		t.Log("followed")
		logs := home.follow("logs", "-f", "lamp")
		logs.AwaitLog("hello from lamp")
		follower := home.follow("logs", "-f", "web")
		events := home.follow("events", "-f")
		events.AwaitLog("domain_joined")
		e := o.Latest().Endpoints("web")[0]
		eventually(t, "a line that web writes is followed", func() bool {
			if err := home.say(e, "a-new-line"); err != nil {
				t.Fatal(err)
			}
			_, ok := follower.log.await(time.Second, 0, func(line string) bool { return strings.Contains(line, "a-new-line") })
			return ok
		})
		home.Publish("dominion/service/lamp/set", "RESTART")
		events.AwaitLog("service_started", "lamp")
		for _, p := range []*Process{logs, follower, events} {
			p.Stop()
		}

		t.Log("what is refused or unknown")
		for _, q := range []struct {
			args string
			code int
			word string // on stderr
		}{
			{"start nosuch", 1, "nosuch"},
			{"stop wep", 1, "web"}, // did you mean
			{"why nosuch", 1, "nosuch"},
			{"drain nosuch", 1, "nosuch"},
			{"forget nosuch", 1, "nosuch"},
			{"logs nosuch", 1, "nosuch"},
			{"restart lamp cellar", 1, "cellar"}, // it does not run there
			{"dance", 2, "dance"},
			{"start", 2, "SERVICE"},
			{"scale web many", 2, "many"},
			{"status --nosuch", 2, "nosuch"},
		} {
			r := home.Ctl(strings.Fields(q.args)...)
			if r.Code != q.code || !strings.Contains(r.Stderr, q.word) || r.Stdout != "" {
				t.Errorf("dominionctl %s: code %d, want %d and %q on stderr, nothing on stdout:\n%s%s", q.args, r.Code, q.code, q.word, r.Stdout, r.Stderr)
			}
		}
		if r := home.Ctl("completion", "bash"); r.Code != 0 || !strings.Contains(r.Stdout, "dominionctl") {
			t.Errorf("completion bash: code %d, %.200s", r.Code, r.Stdout)
		}

		t.Log("a domain that is gone is forgotten")
		kitchen.PowerCut()
		o.Until("kitchen is offline", func(v View) bool { return v["dominion/domain/kitchen/availability"].Payload == "offline" })
		if r := home.Ctl("forget", "kitchen", "--json"); r.Code != 0 {
			t.Fatalf("forget kitchen: %+v", r)
		}
		o.Until("kitchen's topics are cleared", func(v View) bool {
			for _, topic := range topics.NewTree("").DomainTopics("kitchen") {
				if v[topic].Payload != "" {
					return false
				}
			}
			return true
		})
		for topic, m := range home.Observe("dominion/#").Latest() {
			if strings.HasPrefix(topic, "dominion/domain/kitchen/") {
				t.Errorf("of a forgotten domain is retained: %v", m)
			}
		}
	})
}

// Without a word about the hub, dominionctl finds it as a domain does.
func TestCommandLineFindsTheHub(t *testing.T) {
	home := onEmbedded(t)
	home.Configure("")
	home.Up()
	if r := home.observer.Exec(nil, programs.dominionctl, "status"); r.Code != 0 || !strings.Contains(r.Stdout, "home") {
		t.Errorf("by zeroconf: %+v", r)
	}
	if r := home.observer.Exec(nil, programs.dominionctl, "status", "--hub", home.Hub.Address()+":1883"); r.Code != 0 {
		t.Errorf("with --hub: %+v", r)
	}
	if r := home.Hub.Exec(nil, programs.dominionctl, "status"); r.Code != 0 {
		t.Errorf("on the hub itself: %+v", r)
	}
	if r := home.observer.Exec(nil, programs.dominionctl, "status", "--hub", "127.0.0.1:1"); r.Code != 3 || !strings.Contains(r.Stderr, "127.0.0.1:1") {
		t.Errorf("where nobody answers: %+v", r)
	}
}

func (h *Home) follow(args ...string) *Process {
	h.t.Helper()
	env := append([]string{}, h.ctlEnvironment()...)
	env = append(env, programs.dominionctl)
	return h.observer.Start("env", append(append(env, args...), h.ctlFlags()...)...)
}

// say lets a test service write a line.
func (h *Home) say(e topics.Endpoint, line string) error {
	_, err := h.observer.Get(endpointURL(e) + "/say?line=" + url.QueryEscape(line))
	return err
}

// oneDocument reads exactly one JSON document.
func oneDocument(s string, into any) error {
	d := json.NewDecoder(strings.NewReader(s))
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return io.ErrShortBuffer
	}
	return nil
}

// The programs' own flags.
func TestVersionsAndChecks(t *testing.T) {
	home := onEmbedded(t)
	for _, program := range []string{programs.dominion, programs.domain} {
		if r := home.Hub.Exec(nil, program, "-version"); r.Code != 0 || !strings.Contains(r.Stdout, version) {
			t.Errorf("%s -version: %+v", program, r)
		}
		if r := home.Hub.Exec(nil, program, "-nosuch"); r.Code != 2 {
			t.Errorf("%s -nosuch: %+v", program, r)
		}
		if r := home.Hub.Exec(nil, program, "-config", "/nonexistent.toml"); r.Code != 2 || !strings.Contains(r.Stderr, "/nonexistent.toml") {
			t.Errorf("%s with a config that is not there: %+v", program, r)
		}
	}
	home.Configure(service("web", `priority = "required"`))
	if r := home.Hub.Exec(nil, programs.dominion, "-config", home.hubFile(), "-check"); r.Code != 0 {
		t.Errorf("a good config: %+v", r)
	}
	for _, bad := range []struct{ line, word string }{
		{`name = "My Home"`, "My Home"},
		{`nosuch = 1`, "nosuch"},
		{`topic_prefix = 7`, "topic_prefix"},
	} {
		home.WriteHubConfig("# a comment\n" + bad.line + "\n\n[services.Web_1]\npriority = \"sometimes\"\n\n[services.lamp]\npriority = \"required\"\ndependencies = [\"wbe\"]\n")
		r := home.Hub.Exec(nil, programs.dominion, "-config", home.hubFile(), "-check")
		want := []string{home.hubFile() + ":2:", bad.word, home.hubFile() + ":4:", "Web_1", "sometimes", "wbe"}
		if bad.word == "topic_prefix" {
			want = want[:2] // a wrong type may end the reading
		}
		if r.Code != 2 || !containsAll(r.Stderr+r.Stdout, want) {
			t.Errorf("a config with %s: code %d, want 2 and %q in\n%s%s", bad.line, r.Code, want, r.Stdout, r.Stderr)
		}
		if r := home.Hub.Exec(nil, programs.dominion, "-config", home.hubFile()); r.Code != 2 {
			t.Errorf("started with a config with %s: %+v", bad.line, r)
		}
	}
	home.Configure(service("a", `dependencies = ["b"]`) + service("b", `dependencies = ["a"]`))
	if r := home.Hub.Exec(nil, programs.dominion, "-config", home.hubFile(), "-check"); r.Code != 2 || !containsAll(r.Stderr+r.Stdout, []string{"a → b"}) {
		t.Errorf("a circle: %+v", r)
	}
	kitchen := home.Domain("kitchen")
	kitchen.Configure([]string{"Npbar!"}, "nosuch = true\n")
	r := home.Hub.Exec(nil, programs.domain, "-config", kitchen.file(), "-check")
	if r.Code != 2 || !containsAll(r.Stderr+r.Stdout, []string{kitchen.file() + ":2:", "Npbar!", kitchen.file() + ":5:", "nosuch"}) {
		t.Errorf("a bad domain.toml: %+v", r)
	}
	env := []string{"DOMAIN_CFG_TRAITS=compute,Bad One"}
	kitchen.Configure(nil, "")
	if r := home.Hub.Exec(env, programs.domain, "-config", kitchen.file(), "-check"); r.Code != 2 || !strings.Contains(r.Stderr+r.Stdout, "DOMAIN_CFG_TRAITS") {
		t.Errorf("a bad variable: %+v", r)
	}
}
