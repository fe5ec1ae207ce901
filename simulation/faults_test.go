package simulation

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"
)

var (
	seeds     = flag.Int("seeds", 0, "how many random homes TestFaults and TestWeeks run each; 0: a few")
	firstSeed = flag.Int("seed", 1, "the first seed of them")
)

func eachSeed(t *testing.T, usual int, test func(t *testing.T, seed uint64)) {
	n := *seeds
	if n == 0 {
		n = usual
	}
	for i := range n {
		seed := uint64(*firstSeed + i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { test(t, seed) })
	}
}

// TestFaults breaks random things for minutes, between the real broker and the
// real agents: the laws hold at every step, and all is well soon after it ended.
func TestFaults(t *testing.T) {
	eachSeed(t, 4, func(t *testing.T, seed uint64) {
		inHome(t, options{seed: seed, machines: twenty(), services: large, network: newWires}, func(h *home) {
			s := newStorm(h, 5*time.Second)
			h.within(30*time.Second, "all is well", h.well)
			for range 80 {
				s.mishap()
			}
			s.calm(8 * time.Minute)
		})
	})
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}
