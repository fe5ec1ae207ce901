package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// variables writes every value of a file as a variable.
func variables(t *testing.T, file, prefix string) []string {
	t.Helper()
	var values map[string]any
	if _, err := toml.DecodeFile(file, &values); err != nil {
		t.Fatal(err)
	}
	var all []string
	upper := strings.NewReplacer("-", "_")
	var write func(prefix string, values map[string]any)
	write = func(prefix string, values map[string]any) {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			name := prefix + "_" + upper.Replace(strings.ToUpper(key))
			switch v := values[key].(type) {
			case map[string]any:
				write(name, v)
			case []map[string]any:
				for _, e := range v {
					write(name+"_"+upper.Replace(strings.ToUpper(e["name"].(string))), e)
				}
			case []any:
				if slices.ContainsFunc(v, func(e any) bool { _, table := e.(map[string]any); return table }) {
					continue // for the file alone: its elements have no names
				}
				list := make([]string, len(v))
				for i := range v {
					list[i] = v[i].(string)
				}
				all = append(all, name+"="+strings.Join(list, ", "))
			case string:
				switch key {
				case "authority_cert", "authority_key", "cert_file", "key_file", "token_file", "client_ca_file", "password_file", "cafile", "services_dir", "listen_unix":
					v = in(t, v)
				}
				all = append(all, name+"="+v)
			default:
				all = append(all, fmt.Sprintf("%s=%v", name, v))
			}
		}
	}
	write(prefix, values)
	return all
}

func TestEveryKeyOfADominionByEnvironment(t *testing.T) {
	want, err := loadDominion("testdata/full-dominion.toml", nil, testHost)
	if err != nil {
		t.Fatal(err)
	}
	environ := variables(t, want.File, "DOMINION_CFG")
	if len(environ) < 50 {
		t.Fatalf("only %d variables: %q", len(environ), environ)
	}
	got, err := loadDominion("testdata/names.toml", environ, testHost)
	if err != nil {
		t.Fatal(err)
	}
	got.File = want.File
	for i := range got.Services { // ranges hold functions, which have no equality
		a, b := &got.Services[i], &want.Services[i]
		if a.Version.String() != b.Version.String() || fmt.Sprint(a.Dependencies) != fmt.Sprint(b.Dependencies) {
			t.Errorf("%s: %v %v, want %v %v", a.Name, a.Version, a.Dependencies, b.Version, b.Dependencies)
		}
		a.Version, a.Dependencies = b.Version, b.Dependencies
	}
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); withoutPointers(a) != withoutPointers(b) {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
	for i := range got.Services {
		if a, b := got.Services[i].Health, want.Services[i].Health; (a == nil) != (b == nil) || a != nil && *a != *b {
			t.Errorf("health of %s: %+v, want %+v", got.Services[i].Name, a, b)
		}
	}
}

func withoutPointers(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		if at := strings.Index(w, "0x"); at >= 0 {
			words[i] = w[:at]
		}
	}
	return strings.Join(words, " ")
}

func TestEveryKeyOfADomainByEnvironment(t *testing.T) {
	want, err := loadDomain("testdata/full-domain.toml", nil, testHost)
	if err != nil {
		t.Fatal(err)
	}
	got, err := loadDomain("testdata/names-domain.toml", variables(t, want.File, "DOMAIN_CFG"), testHost)
	if err != nil {
		t.Fatal(err)
	}
	got.File = want.File
	equal(t, got, want)
}

func TestEnvironmentOfNamesThatOverlap(t *testing.T) {
	d, err := loadDominion("testdata/overlap.toml", []string{
		"DOMINION_CFG_SERVICES_LIGHT_BULB_REPLICAS=2",
		"DOMINION_CFG_SERVICES_WEB_ENVIRONMENT_PORT=80",       // web-environment is defined
		"DOMINION_CFG_SERVICES_WEB_ENVIRONMENT_COLOUR=red",    // and has no such key
		"DOMINION_CFG_SERVICES_WEB_ENVIRONMENT_SIZE=big",      // as the file spells it
		"DOMINION_CFG_SERVICES_LIGHT_ENVIRONMENT=A=1, B=2=3,", // the whole table
		"DOMINION_CFG_BROKER_USERS_PI_KITCHEN_PASSWORD_FILE=/run/password",
		"DOMINION_CFG_TIMING_HEARTBEAT=4s", "DOMINION_CFG_TIMING_HEARTBEAT=2s", // the last of two, as for exec
		"DOMINION_CONFIG_FILE=x", "dominion_cfg_name=x", "DOMAIN_CFG_NAME=x",
	}, testHost)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range d.Services {
		names = append(names, fmt.Sprintf("%s replicas=%d port=%d env=%v", s.Name, s.Replicas, s.Port, s.Environment))
	}
	equal(t, names, []string{
		"light replicas=0 port=0 env=map[A:1 B:2=3]",
		"light-bulb replicas=2 port=0 env=map[]",
		"web replicas=0 port=0 env=map[COLOUR:red size:big]",
		"web-environment replicas=0 port=80 env=map[]",
	})
	equal(t, d.Broker.Users, []User{{Name: "pi-kitchen", PasswordFile: "/run/password", Role: "domain"}})
	if d.Timing.Heartbeat.Duration().String() != "2s" {
		t.Errorf("heartbeat %v", d.Timing.Heartbeat)
	}
}

func TestEnvironmentWithoutAFile(t *testing.T) {
	_, err := LoadDominion("", []string{"DOMINION_CFG_SERVICES_WEB_PORT=80"})
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatalf("want Faults, got %v", err)
	}
	equal(t, faults, Faults{
		{
			File: Environment, Key: "DOMINION_CFG_SERVICES_WEB_PORT", Message: "names no key",
			Hint: "a variable changes what the file defines and adds nothing: is the name defined there?",
		},
	})
}

func TestSeveralListenersOnAnyFreePort(t *testing.T) {
	d, err := LoadDominion("", []string{"DOMINION_CFG_BROKER_LISTEN=127.0.0.1:0", "DOMINION_CFG_BROKER_LISTEN_WS=127.0.0.1:0"})
	if err != nil || d.Broker.ListenWS != "127.0.0.1:0" {
		t.Errorf("%+v, %v", d.Broker, err)
	}
}

func TestASocketIsListenerEnough(t *testing.T) {
	d, err := LoadDominion("", []string{"DOMINION_CFG_BROKER_LISTEN=", "DOMINION_CFG_BROKER_LISTEN_UNIX=/run/dominion/mqtt"})
	if err != nil || d.Broker.ListenUnix != "/run/dominion/mqtt" {
		t.Errorf("%+v, %v", d.Broker, err)
	}
}
