package simulation

import (
	"flag"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"
)

var (
	seeds     = flag.Int("seeds", 0, "how many random homes TestFaults and TestWeeks run each; 0: a few")
	days      = flag.Int("days", 1, "how many days of virtual time TestWeeks takes, at least")
	storyFile = flag.String("story", "", "a file for all that happens in the last home of a run")
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
	eachSeed(t, 2, func(t *testing.T, seed uint64) {
		inHome(t, options{seed: seed, machines: twenty(), gadgets: gadgets, services: large, network: newWires}, func(h *home) {
			s := newStorm(h, 5*time.Second)
			h.within(30*time.Second, "all is well", h.healthy)
			for range 80 {
				s.nextFault()
			}
			s.settle(8 * time.Minute)
		})
	})
}

// slow are the times of a home that is watched for weeks.
const slow = `[timing]
heartbeat = "2m"
lost_after = "6m"
failover_after = "10s"
isolation = "10m"
settle = "7m"
`

// TestWeeks breaks random things for weeks, without a broker between: messages
// are late, overtake each other and come twice, and what was retained is lost
// or old. Storms and calms follow each other.
func TestWeeks(t *testing.T) {
	eachSeed(t, 2, func(t *testing.T, seed uint64) {
		real := walltime()
		inHome(t, options{seed: seed, machines: twenty(), gadgets: gadgets, services: large, network: newPost, timing: slow, catalogInterval: 10 * time.Minute}, func(h *home) {
			h.within(time.Hour, "all is well", h.healthy)
			began := time.Now()
			s := newStorm(h, 0)
			storms := 0
			for ; time.Since(began) < time.Duration(*days)*24*time.Hour; storms++ {
				s.pace = []time.Duration{3 * time.Second, 2 * time.Minute, time.Hour}[s.r.IntN(3)]
				for range 60 {
					s.nextFault()
				}
				s.pace = 20 * time.Minute
				s.settle(2 * time.Hour)
			}
			days := time.Since(began).Hours() / 24
			took := walltime().Sub(real).Seconds()
			t.Logf("%.1f days, %d storms, %d orders, %d messages, %.1f days a second", days, storms, h.laws.orders, h.net.(*post).carried, days/took)
		})
	})
}

// walltime is the time outside of the bubble.
func walltime() time.Time {
	var t syscall.Timeval
	_ = syscall.Gettimeofday(&t)
	return time.Unix(t.Unix())
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}
