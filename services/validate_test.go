package services

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

func mustDepend(t *testing.T, list ...string) (deps []Dependency) {
	t.Helper()
	for _, s := range list {
		d, err := ParseDependency(s)
		if err != nil {
			t.Fatal(err)
		}
		deps = append(deps, d)
	}
	return deps
}

func TestDefaultsAreValid(t *testing.T) {
	full := Default("npbar")
	full.Priority = Required
	full.Dependencies = mustDepend(t, "web >=1.2")
	full.Traits, full.Domains = []string{"npbar"}, []string{"pi-kitchen"}
	full.Replicas, full.Port, full.Target = 2, 65535, "run-it_2.x"
	full.Environment = map[string]string{"COLOUR": "blue\nand green", "_x": "", "LDFLAGS": "-s", "MAKEFLAGS2": ""}
	full.EnvironmentFile = "/etc/npbar.env"
	full.Restart = RestartPolicy{Policy: topics.RestartNever}
	full.Health = &Health{Notify: true, Interval: DefaultHealthInterval, Timeout: DefaultHealthTimeout, Failures: DefaultHealthFailures}
	if faults := Validate([]Definition{full, Default("web")}); len(faults) != 0 {
		t.Errorf("%v", faults)
	}
	if faults := Validate(nil); len(faults) != 0 {
		t.Errorf("of nothing: %v", faults)
	}
}

func TestEveryFaultIsNamed(t *testing.T) {
	health := func(h Health) func(*Definition) { return func(d *Definition) { d.Health = &h } }
	good := Health{TCP: true, Interval: time.Second, Timeout: time.Second, Failures: 1}
	with := func(change func(*Health)) func(*Definition) { h := good; change(&h); return health(h) }
	for _, tt := range []struct {
		name   string
		change func(*Definition)
		want   string
	}{
		{"name", func(d *Definition) { d.Name = "NPBar" }, `services.NPBar: "NPBar" is not a valid service name (use a-z`},
		{"priority", func(d *Definition) { d.Priority = "high" }, `services.npbar.priority: "high" is not a valid priority (use "required" or "dependency")`},
		{"itself", func(d *Definition) { d.Dependencies = mustDepend(t, "npbar") }, `dependencies: "npbar" depends on itself (take it out)`},
		{"unknown", func(d *Definition) { d.Dependencies = mustDepend(t, "wbe") }, `dependencies: there is no service "wbe" (did you mean "web"?)`},
		{"unlike any", func(d *Definition) { d.Dependencies = mustDepend(t, "orchestrator") }, `there is no service "orchestrator" (define it as [services.orchestrator])`},
		{"twice", func(d *Definition) { d.Dependencies = mustDepend(t, "web", "web >=1") }, `dependencies: "web" is named twice (take one out)`},
		{"traits", func(d *Definition) { d.Traits = []string{"ok", "No"} }, `traits: "No" is not a valid trait (use a-z`},
		{"domains", func(d *Definition) { d.Domains = []string{"pi.local"} }, `domains: "pi.local" is not a valid domain name (use a-z`},
		{"replicas", func(d *Definition) { d.Replicas = -1 }, `replicas: -1 is negative (0 means`},
		{"port", func(d *Definition) { d.Port = 65536 }, `port: 65536 is not a valid port (use 1 to 65535`},
		{"negative port", func(d *Definition) { d.Port = -1 }, `port: -1 is not a valid port`},
		{"target", func(d *Definition) { d.Target = "-f/tmp/x" }, `target: "-f/tmp/x" is not a valid make target (use letters`},
		{"assignment", func(d *Definition) { d.Target = "SHELL=/tmp/x" }, `target: "SHELL=/tmp/x" is not a valid make target`},
		{"environment", func(d *Definition) { d.Environment = map[string]string{"MAKEFLAGS": "-n"} }, `environment: MAKEFLAGS may not be set`},
		{"environment_file", func(d *Definition) { d.EnvironmentFile = "npbar.env" }, `environment_file: "npbar.env" is not an absolute path (write the whole path`},
		{"restart policy", func(d *Definition) { d.Restart.Policy = "" }, `restart: "" is not a valid restart policy (use always`},
		{"restart delay", func(d *Definition) { d.Restart.Delay = -1 }, `restart: delay -1ns with max_delay 1m0s (delay must be`},
		{"restart max_delay", func(d *Definition) { d.Restart.MaxDelay = time.Millisecond }, `restart: delay 1s with max_delay 1ms (delay must be`},
		{"start_timeout", func(d *Definition) { d.StartTimeout = 0 }, `start_timeout: 0s is not a valid start timeout (write a duration`},
		{"stop_timeout", func(d *Definition) { d.StopTimeout = -1 }, `stop_timeout: -1ns is not a valid stop timeout (write a duration`},
		{"no check", with(func(h *Health) { h.TCP = false }), `health: 0 kinds of check (write one of`},
		{"two checks", with(func(h *Health) { h.HTTP = "/" }), `health: 2 kinds of check (write one of`},
		{"path", with(func(h *Health) { h.TCP, h.HTTP = false, "health" }), `health: "health" is not a valid path (write http = "/health")`},
		{"interval", with(func(h *Health) { h.Interval = 0 }), `health: interval 0s, timeout 1s, failures 1 (interval and timeout`},
		{"timeout", with(func(h *Health) { h.Timeout = 0 }), `health: interval 1s, timeout 0s`},
		{"failures", with(func(h *Health) { h.Failures = 0 }), `failures 0 (`},
	} {
		d := Default("npbar")
		tt.change(&d)
		faults := Validate([]Definition{d, Default("web")})
		if len(faults) != 1 || !strings.Contains(faults[0].Error(), tt.want) || faults[0].Hint == "" || faults[0].Service != d.Name {
			t.Errorf("%s: %v, want %s", tt.name, faults, tt.want)
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	bad := Definition{Name: "-", Priority: "x", Port: -1, Replicas: -1, Target: "-", Traits: []string{"A"}, Health: &Health{}}
	bad.Environment = map[string]string{"VPATH": "", "MAKE": "", "1": ""}
	keys := make(map[string]int)
	for _, f := range Validate([]Definition{bad, {}}) {
		if f.Service == "-" {
			keys[f.Key]++
		}
		if f.Hint == "" || f.Message == "" {
			t.Errorf("%+v does not help", f)
		}
	}
	want := map[string]int{
		"": 1, "priority": 1, "port": 1, "replicas": 1, "target": 1, "traits": 1, "environment": 3, "restart": 1,
		"start_timeout": 1, "stop_timeout": 1, "health": 2, "update": 1,
	}
	if fmt.Sprint(keys) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", keys, want)
	}
}

func TestCircles(t *testing.T) {
	graph := func(edges ...string) (defs []Definition) {
		for _, e := range edges {
			name, deps, _ := strings.Cut(e, ":")
			d := Default(name)
			d.Dependencies = mustDepend(t, strings.Fields(deps)...)
			defs = append(defs, d)
		}
		return defs
	}
	for _, tt := range []struct {
		defs []Definition
		want []string
	}{
		{graph("a:b c", "b:c", "c:"), nil}, // a diamond is none
		{graph("a:b", "b:a"), []string{"a → b → a"}},
		{graph("x:a", "a:b", "b:c", "c:a"), []string{"a → b → c → a"}},
		{graph("a:b", "b:a", "c:d", "d:c"), []string{"a → b → a", "c → d → c"}},
		{graph("a:b", "b:a c", "c:b"), []string{"a → b → a", "b → c → b"}},
	} {
		var got []string
		for _, f := range Validate(tt.defs) {
			_, circle, _ := strings.Cut(f.Message, ": ")
			got = append(got, circle)
			if f.Key != "dependencies" || f.Hint == "" {
				t.Errorf("%+v", f)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	// A service that depends on itself is told so once, not also as a circle.
	if faults := Validate(graph("a:a b", "b:")); len(faults) != 1 {
		t.Errorf("%v", faults)
	}
}

func TestCheckEnvironment(t *testing.T) {
	for _, key := range []string{
		"MAKEFLAGS", "GNUMAKEFLAGS", "MFLAGS", "MAKEFILES", "MAKE", "MAKEOVERRIDES", "SHELL", "VPATH", "GPATH",
		"", "1A", "A-B", "A B", "A=B", "ä", "A\x00", "BASH_FUNC_x%%", "A\n",
	} {
		if CheckEnvironment(key, "x") == nil {
			t.Errorf("%q may be set", key)
		}
	}
	for _, key := range []string{"COLOUR", "_", "a1", "LDFLAGS", "PATH", "LD_PRELOAD", "MAKER"} {
		if err := CheckEnvironment(key, "any = value\n"); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	if CheckEnvironment("A", "x\x00y") == nil {
		t.Error("a NUL byte was taken")
	}
}
