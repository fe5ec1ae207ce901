package e2e

import (
	"bytes"
	_ "embed"
	"os"
	"os/exec"
	"testing"
)

var (
	//go:embed testdata/templates.py
	templatesScript string
	//go:embed testdata/availability.py
	availabilityScript string
	//go:embed testdata/configs.py
	configsScript string
)

// The table by which hub/devices/template is tested is what the real Home
// Assistant renders. A row of a template and a payload that is added to it gets
// its result with
//
//	go test ./e2e -run '^TestHomeAssistantTemplates$' -update
//
// as root, with DOMINION_E2E and the folder that build/homeassistant.sh prints.
func TestHomeAssistantTemplates(t *testing.T) {
	compareTable(t, "../hub/devices/template/testdata/results.jsonl", templatesScript, 500)
}

// The table by which hub/devices is tested is what the real Home Assistant makes
// of configs and messages of availability. It is written in the same way.
func TestHomeAssistantAvailability(t *testing.T) {
	compareTable(t, "../hub/devices/testdata/availability.jsonl", availabilityScript, 100)
}

// The table by which the problems of hub/devices are tested is what the schemas of
// the real Home Assistant refuse of configs. It is written in the same way.
func TestHomeAssistantConfigs(t *testing.T) {
	compareTable(t, "../hub/devices/testdata/lint.jsonl", configsScript, 200)
}

// compareTable has Home Assistant's Python fill in the rows of a table, and
// compares them with those that are there.
func compareTable(t *testing.T, table, script string, least int) {
	t.Helper()
	folder := os.Getenv(homeAssistantVariable)
	if folder == "" {
		t.Skipf("set %s to the folder that build/homeassistant.sh prints, or run make e2e-homeassistant", homeAssistantVariable)
	}
	want, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	python := exec.Command("chroot", folder, "/venv/bin/python3", "-B", "-W", "ignore", "-c", script)
	var stderr bytes.Buffer
	python.Stdin, python.Stderr = bytes.NewReader(want), &stderr
	got, err := python.Output()
	if err != nil {
		t.Fatalf("Home Assistant's Python: %v\n%s", err, stderr.Bytes())
	}
	if *update {
		if err := os.WriteFile(table, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rows, wanted := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
	if len(rows) != len(wanted) || len(rows) < least {
		t.Fatalf("%d rows of %d", len(rows), len(wanted))
	}
	for i, row := range rows {
		if !*update && !bytes.Equal(row, wanted[i]) {
			t.Errorf("Home Assistant now has\n%s\nthe table\n%s", row, wanted[i])
		}
	}
}
