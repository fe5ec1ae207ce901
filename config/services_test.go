package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/services"
)

// What a hub is told of a file is all that decides over its services, and no
// more: the services that it reads are those that the file defines.
func TestServicesText(t *testing.T) {
	for _, name := range []string{"full", "empty"} {
		file := filepath.Join(t.TempDir(), "dominion.toml")
		text := ""
		if name == "full" {
			text = `
name = "flat"
topic_prefix = "flat"
[broker]
listen = ":1883"
[[broker.users]]
name = "me"
password_hash = "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
role = "admin"
[timing]
isolation = "4s"
[services.web]
port = 8080
environment = { "A.b" = "<1>\n", COLOUR = "blue" }
[services.lamp]
priority = "required"
dependencies = ["web >=1.2"]
version = ">=1 <2"
replicas = 2
domains = ["pi"]
traits = ["x"]
restart = { policy = "on-failure", delay = "2s", max_delay = "1m" }
health = { http = "/health" }
stop_timeout = "3s"
`
			text = strings.Replace(text, `environment = { "A.b" = "<1>\n", `, `environment = { A = "<1>\n", `, 1)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		want, err := LoadDominion(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := ServicesText(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(sent, "password") || strings.Contains(sent, "broker") {
			t.Errorf("more is told than of services:\n%s", sent)
		}
		got, err := ParseServices(sent, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want.Services) {
			t.Fatalf("%d services, want %d", len(got), len(want.Services))
		}
		for i := range got {
			if !got[i].Equal(want.Services[i]) {
				t.Errorf("got  %+v\nwant %+v", got[i], want.Services[i])
			}
		}
	}
}

func TestServicesTextOfFaults(t *testing.T) {
	var faults Faults
	if _, err := ServicesText(filepath.Join(t.TempDir(), "none.toml")); !errors.As(err, &faults) {
		t.Errorf("a file that is not there: %v", err)
	}
	file := filepath.Join(t.TempDir(), "dominion.toml")
	if err := os.WriteFile(file, []byte("\n[services.web]\nprot = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ServicesText(file); !errors.As(err, &faults) || faults[0].Line != 3 || faults[0].File != file {
		t.Errorf("%v", err)
	}
	long := "[services.web.environment]\nA = \"" + strings.Repeat("a", 300_000) + "\"\n"
	if err := os.WriteFile(file, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ServicesText(file); !errors.As(err, &faults) || !strings.Contains(err.Error(), "longer than the 262144 bytes") {
		t.Errorf("%v", err)
	}
}

func TestParseServices(t *testing.T) {
	defs, err := ParseServices("[services.web]\n", []string{"DOMINION_CFG_SERVICES_WEB_REPLICAS=2", "DOMINION_CFG_BROKER_USERS_ME_ROLE=admin", "HOME=/root"})
	if err != nil || len(defs) != 1 || defs[0].Replicas != 2 {
		t.Errorf("the hub's environment: %+v, %v", defs, err)
	}
	if defs, err := ParseServices("\n", nil); err != nil || len(defs) != 0 {
		t.Errorf("none: %+v, %v", defs, err)
	}
	for text, want := range map[string]string{
		"[services.web]\nprot = 1\n": "unknown key",
		"[services":                  "cannot read it as TOML",
		strings.Repeat("#", 1<<18+1): "longer than 262144 bytes",
		"[services.a]\ndependencies=['b']\n[services.b]\ndependencies=['a']": "a",
	} {
		if defs, err := ParseServices(text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %+v, %v", text, defs, err)
		}
	}
}

func FuzzParseServices(f *testing.F) {
	f.Add("[services.web]\nport = 1\n[timing]\nheartbeat = \"1s\"\n")
	f.Add("services = 1")
	f.Fuzz(func(t *testing.T, text string) {
		defs, err := ParseServices(text, nil)
		if err != nil {
			return
		}
		if faults := services.Validate(defs); len(faults) > 0 {
			t.Errorf("%v", faults)
		}
	})
}

// A number of copies is wanted by itself: whoever gives one and no priority means
// so many copies, and not "while something needs it".
func TestPriorityByDefault(t *testing.T) {
	for text, want := range map[string]services.Priority{
		"":             services.OnDemand,
		"replicas = 1": services.Required,
		"replicas = 0": services.OnDemand,
		"replicas = 1\npriority = \"dependency\"":                  services.OnDemand,
		"priority = \"required\"":                                  services.Required,
		"scale = { max = 3, metric = \"cpu\", target = 0.7 }":      services.Required,
		"port = 8080\nhealth = { tcp = true }\ntraits = [\"x\"]\n": services.OnDemand,
	} {
		defs, err := ParseServices("[services.web]\n"+text, nil)
		if err != nil || defs[0].Priority != want {
			t.Errorf("%q: %v, priority %q, want %q", text, err, defs[0].Priority, want)
		}
	}
	defs, err := ParseServices("[services.web]\nreplicas = 1", []string{"DOMINION_CFG_SERVICES_WEB_PRIORITY=dependency"})
	if err != nil || defs[0].Priority != services.OnDemand {
		t.Errorf("by the environment: %v, %q", err, defs[0].Priority)
	}
}
