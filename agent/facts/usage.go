package facts

import (
	"math"
	"os"
	"time"

	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/topics"
)

// soon is the time within which two measurements are one: the kernel counts in
// hundredths of a second.
const soon = time.Second

// process is one process for good: a pid alone is used again.
type process struct {
	pid     int
	started uint64
}

// used is the processor time of a process and of the children that it waited for.
type used struct {
	// own and reaped are CPU times in ticks.
	own, reaped uint64
	parent      int
}

// usage measures each service, by its control group where it has one. Of the
// others it adds up processor and memory in one pass over /proc: of the
// processes of its group, of their descendants, and of those that left both
// (daemons) and still carry the DOMINION_INSTANCE of the group.
//
// The processor's figure is of the time since the last measurement, or since
// the service was started. What a child used that was started and waited for in
// between is in its parent's count of children. Only processes that came and went
// without being waited for are not counted.
func (m *Meter) usage(now time.Time, groups map[string]int, into map[string]topics.Usage) {
	if groups = m.byCgroups(now, groups, into); len(groups) == 0 {
		m.last, m.ticks, m.up, m.cpu, m.instances = now, make(map[process]used), m.proc.Uptime(), nil, nil
		return
	}
	elapsed := now.Sub(m.last)
	again := m.ticks != nil && elapsed < soon
	all := m.processes()
	members := m.members(all, groups)
	uptime := m.proc.Uptime()
	for service := range groups {
		into[service] = topics.Usage{}
	}
	ticks := make(map[process]used, len(members))
	oldest := make(map[string]uint64)
	for pid, service := range members {
		p := all[pid]
		ticks[process{pid, p.Started}] = used{p.CPU, p.ChildCPU, p.Parent}
		u := into[service]
		u.Memory += p.Pages * uint64(os.Getpagesize())
		into[service] = u
		if first, is := oldest[service]; !is || p.Started < first {
			oldest[service] = p.Started
		}
	}
	if !again {
		m.cores(elapsed, uptime, all, members, ticks, oldest)
		m.last, m.ticks, m.up = now, ticks, uptime
	}
	for service := range groups {
		u := into[service]
		u.CPU = m.cpu[service]
		into[service] = u
	}
}

// cores finds what each service used of the processor since the last time.
func (m *Meter) cores(elapsed time.Duration, uptime float64, all map[int]procfs.Stat, members map[int]string, ticks map[process]used, oldest map[string]uint64) {
	// A child that is gone was counted while it lived. Its parent has it in the
	// count of children now: it is not to be counted twice.
	gone := make(map[int]uint64) // by parent
	for p, was := range m.ticks {
		if _, lives := ticks[p]; !lives {
			gone[was.parent] += was.own + was.reaped
		}
	}
	sum := make(map[string]uint64)
	for pid, service := range members {
		p := all[pid]
		was, is := m.ticks[process{pid, p.Started}]
		if is {
			reaped := minus(p.ChildCPU, was.reaped)
			sum[service] += minus(p.CPU, was.own) + reaped - min(reaped, gone[pid])
		} else if m.ticks == nil || float64(p.Started)/procfs.TicksPerSecond >= m.up-1 {
			sum[service] += p.CPU + p.ChildCPU
		}
	}
	m.cpu = make(map[string]float64, len(sum))
	for service, n := range sum {
		seconds := elapsed.Seconds()
		if uptime > 0 {
			age := uptime - float64(oldest[service])/procfs.TicksPerSecond
			if m.ticks == nil || age < seconds { // it began in between, or nothing was measured before
				seconds = max(age, 1.0/procfs.TicksPerSecond)
			}
		} else if m.ticks == nil {
			continue
		}
		if seconds > 0 {
			m.cpu[service] = math.Round(float64(n)/procfs.TicksPerSecond/seconds*1000) / 1000
		}
	}
}

// minus is a-b; of a counter that went backwards it is nothing.
func minus(a, b uint64) uint64 { return a - min(a, b) }

// members returns the service of each process that belongs to one.
func (m *Meter) members(all map[int]procfs.Stat, groups map[string]int) map[int]string {
	members := make(map[int]string)
	if len(groups) == 0 {
		m.instances = nil
		return members
	}
	services := make(map[int]string, len(groups))
	for service, group := range groups {
		services[group] = service
	}
	first := uint64(math.MaxUint64) // when the first of a group was started
	for pid, p := range all {
		if service, ours := services[p.Group]; ours {
			members[pid] = service
			first = min(first, p.Started)
		}
	}
	instances := make(map[process]string)
	token := func(pid int) string {
		key := process{pid, all[pid].Started}
		t, is := m.instances[key]
		if !is {
			t = procfs.Variable(m.proc.Environ(pid), "DOMINION_INSTANCE")
		}
		if _, ours := members[pid]; t != "" || !ours { // one of ours may be about to become its program
			instances[key] = t
		}
		return t
	}
	tokens := make(map[string]string)
	for pid, service := range members {
		if t := token(pid); t != "" {
			tokens[t] = service
		}
	}
	for pid, p := range all {
		if members[pid] != "" || p.Started < first {
			continue
		}
		if service := ancestor(all, services, pid); service != "" {
			members[pid] = service
		} else if t := token(pid); t != "" && tokens[t] != "" {
			members[pid] = tokens[t]
		}
	}
	m.instances = instances
	return members
}

// ancestor finds the service of the group that an ancestor is in.
func ancestor(all map[int]procfs.Stat, services map[int]string, pid int) string {
	const deepest = 64 // no endless loop, as /proc may be inconsistent while processes come and go
	for range deepest {
		p, there := all[pid]
		if !there || pid <= 1 {
			return ""
		}
		if service := services[p.Group]; service != "" {
			return service
		}
		pid = p.Parent
	}
	return ""
}

// processes reads /proc/<pid>/stat of each process.
func (m *Meter) processes() map[int]procfs.Stat {
	all := make(map[int]procfs.Stat)
	for _, pid := range m.proc.PIDs() {
		if p, ok := m.proc.Stat(pid); ok {
			all[pid] = p
		}
	}
	return all
}
