package services

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// goldenRevision is that of golden(). If it changes, an upgrade of the hub
// restarts every service of every home.
const goldenRevision = "c25690daed16"

func golden() Definition {
	d := Default("npbar")
	d.Target, d.Port = "run", 8080
	d.Environment = map[string]string{"B": "2", "A": "<1>"}
	d.EnvironmentFile = "/etc/npbar.env"
	d.Health = &Health{HTTP: "/health", Interval: 5 * time.Second, Timeout: time.Second, Failures: 3}
	return d
}

func TestRevision(t *testing.T) {
	undecided := make(map[string]bool)
	for f := range reflect.TypeFor[Definition]().Fields() {
		undecided[f.Name] = true
	}
	base := golden().Spec(nil).Revision
	if base != goldenRevision {
		t.Errorf("the revision of the same definition was %s and is %s: an upgrade would restart every service", goldenRevision, base)
	}
	for _, tt := range []struct {
		field   string
		restart bool
		change  func(*Definition)
	}{
		{"Target", true, func(d *Definition) { d.Target = "" }},
		{"Port", true, func(d *Definition) { d.Port = 0 }},
		{"Environment", true, func(d *Definition) { d.Environment = map[string]string{"A": "<1>"} }},
		{"Environment", true, func(d *Definition) { d.Environment = nil }},
		{"EnvironmentFile", true, func(d *Definition) { d.EnvironmentFile = "" }},
		{"Health", true, func(d *Definition) { d.Health.HTTP, d.Health.Notify = "", true }}, // NOTIFY_SOCKET

		{"Name", false, func(d *Definition) { d.Name = "other" }},
		{"Priority", false, func(d *Definition) { d.Priority = Required }},
		{"Dependencies", false, func(d *Definition) { d.Dependencies = []Dependency{{Service: "web"}} }},
		{"Traits", false, func(d *Definition) { d.Traits = []string{"compute"} }},
		{"Version", false, func(d *Definition) { d.Version, _ = ParseRange(">=1") }},
		{"Replicas", false, func(d *Definition) { d.Replicas = 3 }},
		{"Domains", false, func(d *Definition) { d.Domains = []string{"pi"} }},
		{"Environment", false, func(d *Definition) { d.Environment = map[string]string{"A": "<1>", "B": "2"} }},
		{"Restart", false, func(d *Definition) { d.Restart = RestartPolicy{Policy: topics.RestartNever} }},
		{"Oneshot", false, func(d *Definition) { d.Oneshot = true }},
		{"Health", false, func(d *Definition) { d.Health = nil }},
		{"Health", false, func(d *Definition) { d.Health = &Health{TCP: true, Interval: 1, Timeout: 1, Failures: 1} }},
		{"StartTimeout", false, func(d *Definition) { d.StartTimeout = time.Hour }},
		{"Exclusive", true, func(d *Definition) { d.Exclusive = true }}, // it begins to run under a lease, with a guard
		{"Needs", false, func(d *Definition) { d.Needs = Needs{CPU: 1} }},
		{"Scale", false, func(d *Definition) { d.Scale = &Scale{Max: 2} }},
		{"Update", false, func(d *Definition) { d.Update = UpdateManual }},
		{"StopTimeout", false, func(d *Definition) { d.StopTimeout = time.Hour }},
		{"Bundle", true, func(d *Definition) { d.Bundle = &topics.Bundle{Version: "1.0.0", Digest: "sha256:00"} }},
	} {
		d := golden()
		tt.change(&d)
		again := golden()
		tt.change(&again)
		same := tt.field == "Environment" && !tt.restart // written as it was
		if d.Equal(golden()) != same || golden().Equal(d) != same || !d.Equal(again) {
			t.Errorf("a change of %s: equal", tt.field)
		}
		if got := d.Spec(nil).Revision; (got != base) != tt.restart {
			t.Errorf("a change of %s restarts: %v, want %v", tt.field, got != base, tt.restart)
		}
		delete(undecided, tt.field)
	}
	for field := range undecided {
		t.Errorf("Definition.%s: decide whether a change of it restarts, and say so here", field)
	}
}

func TestRevisionOfNoEnvironment(t *testing.T) {
	none, empty := Default("web"), Default("web")
	empty.Environment = map[string]string{}
	if a, b := none.Spec(nil).Revision, empty.Spec(nil).Revision; a != b {
		t.Errorf("an empty environment is another revision than none: %s, %s", a, b)
	}
}

func TestSpec(t *testing.T) {
	d := golden()
	d.Dependencies = []Dependency{{Service: "web"}}
	s := d.Spec(map[string]string{"web": "192.0.2.1:80"})
	if s.Revision != d.Spec(nil).Revision {
		t.Error("the address of a dependency restarts what needs it")
	}
	want := topics.Spec{
		Revision: s.Revision, Target: "run", Port: 8080, Environment: d.Environment, EnvironmentFile: "/etc/npbar.env",
		Dependencies: map[string]string{"web": "192.0.2.1:80"},
		Restart:      topics.RestartPolicy{Policy: topics.RestartAlways, Delay: topics.Seconds(time.Second), MaxDelay: topics.Seconds(time.Minute)},
		Health: &topics.HealthCheck{
			HTTP: "/health", Interval: topics.Seconds(5 * time.Second), Timeout: topics.Seconds(time.Second), Failures: 3,
		},
		StartTimeout: topics.Seconds(2 * time.Minute), StopTimeout: topics.Seconds(10 * time.Second),
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	// It survives the wire.
	back, err := topics.Decode[topics.Spec]("t", topics.Encode(s))
	if err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("%+v, %v", back, err)
	}
	if b, err := json.Marshal(Default("web").Spec(map[string]string{})); err != nil || len(b) == 0 {
		t.Error(err)
	}
	if Default("web").Spec(map[string]string{}).Dependencies != nil {
		t.Error("no addresses are sent as an empty object")
	}
}
