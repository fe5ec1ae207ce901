package config

import (
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/services"
)

func TestParseDefinitions(t *testing.T) {
	others := []services.Definition{services.Default("lamp"), services.Default("web")}
	defs, err := ParseDefinitions("[services.web]\nbundle = \"1.4.0\"\nreplicas = 2\ndependencies = [\"lamp\"]\nhealth = { tcp = true }\nport = 8080\n", "dominion", others)
	if err != nil {
		t.Fatal(err)
	}
	if len(defs) != 1 || defs[0].Name != "web" || defs[0].Bundle == nil || defs[0].Bundle.Version != "1.4.0" || defs[0].Replicas != 2 || defs[0].Health == nil || len(defs[0].Dependencies) != 1 {
		t.Errorf("%+v", defs)
	}
	for text, want := range map[string]string{
		"":                                 "no definition",
		"[services]":                       "no definition",
		"[services.web]\nbundle = \"new\"": "no version",
		"[services.web]\nbundel = \"1\"":   "bundel",
		"[services.web]\nbundle = 1":       "text",
		"[services.Web]":                   "valid service name",
		"[services.web]\ndependencies = [\"lmap\"]": "lmap",
		"name = \"home\"\n[services.web]":           "name",
		"[services.web":                             "",
		strings.Repeat("#", 70_000):                 "longer than",
		"[services.lamp]\ndependencies = [\"web\"]\n[services.web]\ndependencies = [\"lamp\"]": "circle",
	} {
		if got, err := ParseDefinitions(text, "dominion", others); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, %v, want an error with %q", text, got, err, want)
		}
	}
}

// A bundle is for run time: a file of the hub's machine that has one is refused, with the
// remedy.
func TestBundleInAFile(t *testing.T) {
	if _, err := ParseServices("[services.web]\nbundle = \"1.4.0\"\n", nil); err == nil || !strings.Contains(err.Error(), "run time") {
		t.Error(err)
	}
}

// What was accepted can be read again, service by service, also when what it needs is gone.
func TestStoredDefinitions(t *testing.T) {
	const text = "# two\n[services.web]\nbundle = \"1.4.0\"\ndependencies = [\"lamp\"]\nhealth = { http = \"/\" }\n[services.lamp]\nenvironment = { A = \"b$c\" }\n"
	want, err := ParseDefinitions(text, "dominion", nil)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := SplitDefinitions(text)
	if err != nil || len(parts) != 2 {
		t.Fatal(parts, err)
	}
	for _, d := range want {
		got, err := StoredDefinition(parts[d.Name], d.Name)
		if err != nil || !got.Equal(d) {
			t.Errorf("%s: %+v, %v, want %+v\n%s", d.Name, got, err, d, parts[d.Name])
		}
	}
	if _, err := StoredDefinition(parts["web"], "lamp"); err == nil {
		t.Error("a definition of another service was read")
	}
	const single = "[services.web] # with a comment\n"
	if parts, err := SplitDefinitions(single); err != nil || parts["web"] != single {
		t.Errorf("%q, %v", parts, err)
	}
}
