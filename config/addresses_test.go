package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// external and hub take one address or several, in a file and in the environment.
func TestSeveralAddresses(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "x.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, c := range []struct {
		file, environment string
		want              []string
		fault             string
	}{
		{`"mqtt://a:1883"`, "", []string{"mqtt://a:1883"}, ""},
		{`["mqtt://a:1883", "mqtt://b:1883"]`, "", []string{"mqtt://a:1883", "mqtt://b:1883"}, ""},
		{`[]`, "mqtt://b:1, mqtt://a:2", []string{"mqtt://b:1", "mqtt://a:2"}, ""},
		{`"mqtt://a:1883"`, "mqtt://b:1", []string{"mqtt://b:1"}, ""},
		{`""`, "", nil, ""},
		{`["mqtt://a:1883", "http://b:1883"]`, "", nil, "no scheme of a broker"},
		{`["mqtt://a:1883", 5]`, "", nil, "element 2 must be an address"},
		{`"mqtt://a:1883,mqtt://b:1883"`, "", nil, "comma"},
		{`5`, "", nil, "an address or a list"},
	} {
		environ := func(name string) []string {
			if c.environment == "" {
				return nil
			}
			return []string{name + "=" + c.environment}
		}
		check := func(what string, got string, err error) {
			t.Helper()
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("%s = %s: %v, want %q", what, c.file, err, c.fault)
				}
				return
			}
			if err != nil || !slices.Equal(Addresses(got), c.want) {
				t.Errorf("%s = %s with %q: %q, %v", what, c.file, c.environment, got, err)
			}
		}
		dominion, err := LoadDominion(write("[broker]\nexternal = "+c.file+"\n"), environ("DOMINION_CFG_BROKER_EXTERNAL"))
		check("external", dominion.Broker.External, err)
		domain, err := LoadDomain(write("hub = "+c.file+"\n"), environ("DOMAIN_CFG_HUB"))
		check("hub", domain.Hub, err)
	}
}

// A hub without a port is reached by TLS; host:port stays without.
func TestHubURLs(t *testing.T) {
	for hub, want := range map[string]string{
		"pi.local":                  "mqtts://pi.local:8883",
		"192.168.1.10":              "mqtts://192.168.1.10:8883",
		"fd00::1":                   "mqtts://[fd00::1]:8883",
		"pi.local:1883":             "mqtt://pi.local:1883",
		"mqtts://pi:1, pi, pi:1884": "mqtts://pi:1 mqtts://pi:8883 mqtt://pi:1884",
		"":                          "",
	} {
		if got := strings.Join(HubURLs(hub), " "); got != want {
			t.Errorf("%q: %q, want %q", hub, got, want)
		}
	}
	for hub, fault := range map[string]string{"pi": "", "1883": "is not host:port", "p i": "is not host:port", "ann@pi": "holds a user"} {
		file := filepath.Join(t.TempDir(), "domain.toml")
		if err := os.WriteFile(file, []byte("hub = \""+hub+"\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := LoadDomain(file, nil)
		if fault == "" && (err != nil || d.Hub != hub) || fault != "" && (err == nil || !strings.Contains(err.Error(), fault)) {
			t.Errorf("%q: %q, %v, want %q", hub, d.Hub, err, fault)
		}
	}
}
