package fleet

import (
	"math"

	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// Figures of a machine count in coarse steps, and a step is left only when the
// figure is clearly out of it: a load that flickers is no news to the planner.
const (
	loadAtMost   = 6         // quarters of its cores; busier than that is equally bad
	loadSlack    = 1.0       // quarters by which a load must differ from its step
	memorySlack  = 0.05      // by which share a machine's memory must differ from the former figure
	fullAbove    = 0.9       // of the memory in use
	notFullBelow = 0.8       // of it
	coresAtMost  = 1024      // more than a home has in one machine
	memoryAtMost = 1<<50 - 1 // bytes; a larger figure is an error of the agent
)

// steady returns a machine with its metrics, where they differ enough from the former ones.
func steady(was planner.Machine, m topics.Metrics) planner.Machine {
	is := was
	if m.Cores > 0 {
		is.Cores = min(m.Cores, coresAtMost)
	}
	total := float64(min(m.MemoryTotal, memoryAtMost))
	if math.Abs(total-float64(was.Memory)) > memorySlack*float64(was.Memory) {
		is.Memory = uint64(total)
	}
	load := max(m.Load1, 0) * 4 / float64(max(is.Cores, 1)) // in quarters
	if math.Abs(load-float64(was.Load)) > loadSlack {
		is.Load = int(math.Round(min(load, loadAtMost)))
	}
	switch used := float64(m.MemoryUsed); {
	case total == 0:
		is.Full = false
	case used >= fullAbove*total:
		is.Full = true
	case used < notFullBelow*total:
		is.Full = false
	}
	return is
}

// Measure takes the figures of a domain's machine over, and reports whether the planner is
// told of another machine by that. It looks at load and memory in use only for what is to be
// started.
func (d *Domain) Measure(m topics.Metrics) (changed bool) {
	was := d.Machine
	d.Machine = steady(was, m)
	return d.Machine != was
}
