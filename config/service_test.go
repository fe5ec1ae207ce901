package config

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

func TestTheStartCommandWins(t *testing.T) {
	usual := services.Default("web").Spec(nil)
	own := Service{
		Target:       "own",
		Port:         80,
		Environment:  map[string]string{"A": "own", "B": "own"},
		Restart:      &services.RestartPolicy{Policy: topics.RestartNever, Delay: time.Second, MaxDelay: time.Second},
		Health:       &ServiceHealth{Health: services.Health{Interval: time.Second, Timeout: time.Second, Failures: 1}, Command: []string{"./well"}},
		StartTimeout: time.Second,
		StopTimeout:  2 * time.Second,
	}
	ordered := services.Default("web")
	ordered.Target = "ordered"
	ordered.Port = 8080
	ordered.Environment = map[string]string{"B": "ordered", "C": "ordered"}
	ordered.Restart = services.RestartPolicy{Policy: topics.RestartOnFailure}
	ordered.Health = &services.Health{TCP: true, Interval: time.Minute, Timeout: time.Second, Failures: 2}
	ordered.StartTimeout, ordered.StopTimeout = time.Minute, time.Hour

	t.Run("nothing is set", func(t *testing.T) {
		for _, spec := range []topics.Spec{usual, {Revision: usual.Revision}} {
			got, command := Service{}.Complete(spec)
			want := usual
			want.Health = nil // {} says "no check" on the wire alone
			equal(t, got, want)
			equal(t, command, []string(nil))
		}
	})
	t.Run("the service sets all", func(t *testing.T) {
		for _, spec := range []topics.Spec{usual, {Revision: usual.Revision}} {
			got, command := own.Complete(spec)
			equal(t, got, topics.Spec{
				Revision:     usual.Revision,
				Target:       "own",
				Port:         80,
				Environment:  own.Environment,
				Restart:      topics.RestartPolicy{Policy: "never", Delay: topics.Seconds(time.Second), MaxDelay: topics.Seconds(time.Second)},
				Health:       &topics.HealthCheck{Interval: topics.Seconds(time.Second), Timeout: topics.Seconds(time.Second), Failures: 1},
				StartTimeout: topics.Seconds(time.Second),
				StopTimeout:  topics.Seconds(2 * time.Second),
			})
			equal(t, command, []string{"./well"})
		}
	})
	t.Run("both set all", func(t *testing.T) {
		spec := ordered.Spec(map[string]string{"lamp": "192.168.1.2:1"})
		got, command := own.Complete(spec)
		want := spec
		want.Environment = map[string]string{"A": "own", "B": "ordered", "C": "ordered"}
		equal(t, got, want)
		equal(t, command, []string(nil))
		equal(t, spec.Environment, map[string]string{"B": "ordered", "C": "ordered"})
		equal(t, own.Environment, map[string]string{"A": "own", "B": "own"})
	})
	t.Run("a command needs no target", func(t *testing.T) {
		got, _ := Service{Command: []string{"./web"}}.Complete(ordered.Spec(nil))
		if got.Target != "" {
			t.Errorf("target %q", got.Target)
		}
	})
}

func TestPartsOfAServiceFile(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Service
	}{
		{"empty", "", Service{}},
		{"version", `version = "1.2"`, Service{Version: "1.2"}},
		{"target", `target = "run"`, Service{Target: "run"}},
		{"notify", `health = { notify = true }`, Service{Health: &ServiceHealth{Health: services.Health{Notify: true, Interval: 5 * time.Second, Timeout: time.Second, Failures: 3}}}},
		{"http", `health = { http = "/health" }`, Service{Health: &ServiceHealth{Health: services.Health{HTTP: "/health", Interval: 5 * time.Second, Timeout: time.Second, Failures: 3}}}},
		{"restart", `restart = { delay = "5m" }`, Service{Restart: &services.RestartPolicy{Policy: "always", Delay: 5 * time.Minute, MaxDelay: 5 * time.Minute}}},
		{"start_timeout", `start_timeout = "1s"`, Service{StartTimeout: time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := write(t, c.text)
			got, err := LoadService(file)
			if err != nil {
				t.Fatal(err)
			}
			c.want.File = file
			equal(t, got, c.want)
		})
	}
}

// Each kind of check that dominion.toml knows, a service can bring along.
func TestTheServicesOwnHealth(t *testing.T) {
	for text, want := range map[string]topics.HealthCheck{
		`health = { mqtt = "zigbee2mqtt/bridge/state" }`:                   {MQTT: "zigbee2mqtt/bridge/state", Payload: "online"},
		`health = { mqtt = "a/<domain>", payload = "{\"state\":\"up\"}" }`: {MQTT: "a/<domain>", Payload: `{"state":"up"}`},
		`health = { notify = true, watchdog = "30s" }`:                     {Notify: true, Watchdog: topics.Seconds(30 * time.Second)},
	} {
		file := filepath.Join(t.TempDir(), "service.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := LoadService(file)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := s.Complete(services.Default("web").Spec(nil))
		want.Interval, want.Timeout, want.Failures = topics.Seconds(5*time.Second), topics.Seconds(time.Second), 3
		equal(t, *got.Health, want)
	}
	for _, text := range []string{`health = { mqtt = "a/#" }`, `health = { tcp = true, watchdog = "1s" }`, `health = { mqtt = "a", tcp = true }`} {
		file := filepath.Join(t.TempDir(), "service.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadService(file); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}
