package ctl

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// Devices are listed by name, and no long text widens the table.
func TestDevicesByName(t *testing.T) {
	long := strings.Repeat("long ", 50)
	all := topics.Devices{Devices: []topics.Device{
		{ID: "1", Name: "washer", Model: long, Version: long, Area: long}, {ID: "2", Name: "Bulb"}, {ID: "3", Name: long}, {ID: "4", Name: "bulb"},
	}}
	var b bytes.Buffer
	if err := RenderDevices(&b, all, Style{}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, want := range []string{"NAME", "Bulb", "bulb", "long", "washer"} {
		if len(lines) != 5 || !strings.HasPrefix(lines[i], want) || len(lines[i]) > 230 {
			t.Fatalf("line %d is not of %s:\n%s", i, want, b.String())
		}
	}
}

// A name, in any case, and an id show all that is known of a device.
func TestOneDevice(t *testing.T) {
	lamp := topics.Device{ID: "a4cf", Name: "Desk lamp", Manufacturer: "Acme", Hardware: "rev 2", Serial: "S-17", URL: "http://lamp.lan/", Via: "hub-1"}
	pages := func() devicePages {
		return devicePages{Devices: []json.RawMessage{topics.Encode(lamp), topics.Encode(topics.Device{ID: "b", Name: "other"})}}
	}
	for _, name := range []string{"desk LAMP", "a4cf"} {
		p := pages()
		if err := p.only(name); err != nil || len(p.Devices) != 1 {
			t.Fatalf("%s: %v, %d devices", name, err, len(p.Devices))
		}
	}
	p := pages()
	if err := p.only("nobody"); err == nil {
		t.Error("nobody is there")
	}
	var b bytes.Buffer
	if err := RenderDevice(&b, topics.Devices{Devices: []topics.Device{lamp}}, Style{}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "  ") && !strings.HasPrefix(line[len("  manufacturer"):], "  ") {
			t.Errorf("not in one column: %s", line)
		}
	}
	for _, want := range []string{"Desk lamp", "Acme", "rev 2", "S-17", "http://lamp.lan/", "hub-1"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
}

// The count of problems is that of the list, of which those that have passed are
// apart.
func TestProblemsAreCountedAsListed(t *testing.T) {
	standing := topics.DeviceProblem{Topic: "homeassistant/sensor/x/config", Message: "origin is missing"}
	conflict := topics.DeviceProblem{Device: "a4cf", Message: "several devices"}
	passed := topics.DeviceProblem{Topic: "esphome/discover/x", Message: "its JSON ends too early", Passing: true}
	for _, c := range []struct {
		all         []topics.DeviceProblem
		more        int
		count, list string
	}{
		{nil, 0, "", "no problems\n"},
		{[]topics.DeviceProblem{standing}, 0, "1 problem with announcements", "SINCE  TOPIC                          PROBLEM\n-      homeassistant/sensor/x/config  origin is missing\n"},
		{[]topics.DeviceProblem{standing, conflict}, 3, "5 problems with announcements", "SINCE  TOPIC                          PROBLEM\n-      homeassistant/sensor/x/config  origin is missing\n-      device a4cf                    several devices\nand 3 more, for which there is no room in the list\n"},
		{[]topics.DeviceProblem{passed}, 0, "1 that has passed", "no problems\n\nPassed: the message was not retained\nAT  TOPIC               PROBLEM\n-   esphome/discover/x  its JSON ends too early\n"},
		{[]topics.DeviceProblem{passed, standing, passed}, 0, "1 problem with announcements and 2 that have passed", ""},
	} {
		all := topics.Devices{Problems: c.all, More: c.more}
		if got := countProblems(all); got != c.count {
			t.Errorf("%q, want %q", got, c.count)
		}
		var b bytes.Buffer
		if err := RenderDeviceProblems(&b, all, Style{}); err != nil {
			t.Fatal(err)
		}
		if c.list != "" && b.String() != c.list {
			t.Errorf("\n%s\nwant\n%s", b.String(), c.list)
		}
	}
}
