package stall

import (
	"strings"
	"testing"
	"time"
)

func TestCause(t *testing.T) {
	const still = 10 * time.Second
	// A machine that is used: something of everything before, and a little meanwhile.
	before := Figures{
		Available: true, Suspended: time.Hour, Memory: time.Minute, Pressure: true, Faults: 1000,
		Ran: time.Hour, Waited: time.Hour,
	}
	idle := before
	idle.Memory += 10 * time.Millisecond
	idle.Faults += 3
	idle.Ran += 50 * time.Millisecond
	idle.Waited += 300 * time.Millisecond
	for _, c := range []struct {
		name   string
		change func(f *Figures)
		disk   time.Duration
		want   string
	}{
		{"stopped", func(*Figures) {}, 0, "it was paused"},
		{"disk", func(*Figures) {}, 6 * time.Second, "the disk of its data_dir did not answer"},
		{"no disk", func(*Figures) {}, 4 * time.Second, "it was paused"},
		{"suspended", func(f *Figures) { f.Suspended += 20 * time.Minute }, 0, "the machine was suspended for 20m0s"},
		{"memory", func(f *Figures) { f.Memory += 8 * time.Second; f.Faults += 4000 }, 0, "the machine is out of memory (programs waited for memory for 8.01s, this one for 4003 pages)"},
		{"memory, and CPU for that", func(f *Figures) { f.Memory += 8 * time.Second; f.Waited += 9 * time.Second }, 0, "the machine is out of memory"},
		{"memory, without PSI", func(f *Figures) { f.Memory, f.Pressure = 0, false; f.Faults += 4000 }, 0, "the machine is out of memory"},
		{"its own pages alone", func(f *Figures) { f.Faults += 4000 }, 0, "the machine is short of memory"},
		{"starved", func(f *Figures) { f.Waited += 30 * time.Second }, 0, "too little CPU: it waited for a processor for 10s"},
		{"busy", func(f *Figures) { f.Ran += 9 * time.Second }, 0, "it was busy itself for 9.05s of CPU time"},
		{"unknown", func(f *Figures) { *f = Figures{} }, 0, "is this machine out of memory, or was it paused?"},
	} {
		after := idle
		c.change(&after)
		if got := Cause(before, after, still, c.disk); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := Cause(Figures{}, idle, still, 0); got != "is this machine out of memory, or was it paused?" {
		t.Errorf("without figures before: %q", got)
	}
}
