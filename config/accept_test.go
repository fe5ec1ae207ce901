package config

import (
	"strings"
	"testing"
)

func TestAccept(t *testing.T) {
	for text, want := range map[string]string{
		``:                          AcceptDeploy,
		`accept = "environment"`:    AcceptEnvironment,
		`accept = "local"`:          AcceptLocal,
		`accept = "deploy"`:         AcceptDeploy,
		`accept = "upgrade"`:        AcceptUpgrade,
		`accept = "Deploy"`:         `use "local", "environment", "deploy" or "upgrade"`,
		`accept = "$(touch F)"`:     `does not say how far the dominion is trusted`,
		`accept = true`:             `must be text`,
		`accept = "local" # a`:      AcceptLocal,
		"name = \"a\"\naccept=\"\"": `does not say`,
	} {
		d, err := LoadDomain(write(t, text+"\n"), nil)
		if err == nil && d.Accept != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v; want %s", text, d.Accept, err, want)
		}
		if err == nil && d.AcceptIsDefault != (text == "") {
			t.Errorf("%s: AcceptIsDefault is %v", text, d.AcceptIsDefault)
		}
	}
}

func TestVariablesOfAService(t *testing.T) {
	s, err := LoadService(write(t, "variables = [\"COLOUR\", \"MQTT_*\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"COLOUR": true, "MQTT_": true, "MQTT_USER": true, "COLOURS": false, "MQTT": false, "X": false} {
		if s.Declares(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if s, err = LoadService(write(t, "variables = [\"*\"]\n")); err != nil || !s.Declares("X") {
		t.Errorf("%v", err)
	}
	for _, text := range []string{`["A B"]`, `["*A"]`, `[""]`, `["A**"]`, `"A"`, `["1A"]`} {
		if _, err := LoadService(write(t, "variables = "+text+"\n")); err == nil || !strings.Contains(err.Error(), "variables") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
