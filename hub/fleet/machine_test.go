package fleet

import (
	"testing"

	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// Figures are taken over in steps, and only when they have clearly changed.
func TestFiguresOfMachinesAreSteady(t *testing.T) {
	const mb = 1_000_000
	figure := func(load float64, used uint64) topics.Metrics {
		return topics.Metrics{Cores: 4, Load1: load, MemoryTotal: 1000 * mb, MemoryUsed: used * mb}
	}
	is := planner.Machine{}
	for _, c := range []struct {
		what    string
		metrics topics.Metrics
		load    int
		full    bool
	}{
		{"it begins", figure(0.3, 400), 0, false},
		{"a little more", figure(0.9, 500), 0, false},
		{"a step", figure(1.2, 899), 1, false},
		{"it flickers", figure(0.1, 700), 1, false},
		{"it flickers the other way", figure(1.9, 850), 1, false},
		{"it is busy", figure(4, 900), 4, true},
		{"it flickers", figure(3.1, 810), 4, true},
		{"overloaded", figure(100, 990), 6, true},
		{"more than that is the same", figure(50, 990), 6, true},
		{"calm", figure(0, 799), 0, false},
		{"nonsense", figure(-3, 0), 0, false},
	} {
		is = steady(is, c.metrics)
		want := planner.Machine{Cores: 4, Memory: 1000 * mb, Load: c.load, Full: c.full}
		if is != want {
			t.Errorf("%s: %+v, want %+v", c.what, is, want)
		}
	}
	was := is
	for _, total := range []uint64{960, 1040, 990} {
		if is = steady(is, topics.Metrics{Cores: 4, MemoryTotal: total * mb}); is != was {
			t.Errorf("%d MB: %+v", total, is)
		}
	}
	if is = steady(is, topics.Metrics{MemoryTotal: 2000 * mb}); is.Memory != 2000*mb || is.Cores != 4 {
		t.Errorf("twice the memory: %+v", is)
	}
	if is = steady(planner.Machine{}, topics.Metrics{}); is != (planner.Machine{}) {
		t.Errorf("an agent that tells nothing: %+v", is)
	}
	if is = steady(planner.Machine{}, topics.Metrics{Cores: 1 << 40, Load1: 1e300, MemoryTotal: 1<<64 - 1, MemoryUsed: 1<<64 - 1}); is.Cores != coresAtMost || is.Load < 0 || is.Load > loadAtMost || is.Memory == 0 {
		t.Errorf("garbage: %+v", is)
	}
}
