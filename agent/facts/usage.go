package facts

import (
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// ticksPerSecond is USER_HZ, which is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

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
	own, reaped uint64 // ticks
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
		m.last, m.ticks, m.up, m.cpu, m.instances = now, make(map[process]used), m.uptime(), nil, nil
		return
	}
	elapsed := now.Sub(m.last)
	again := m.ticks != nil && elapsed < soon
	all := m.processes()
	members := m.members(all, groups)
	uptime := m.uptime()
	for service := range groups {
		into[service] = topics.Usage{}
	}
	ticks := make(map[process]used, len(members))
	oldest := make(map[string]uint64)
	for pid, service := range members {
		p := all[pid]
		ticks[process{pid, p.started}] = used{p.ticks, p.reaped, p.parent}
		u := into[service]
		u.Memory += p.pages * uint64(os.Getpagesize())
		into[service] = u
		if first, seen := oldest[service]; !seen || p.started < first {
			oldest[service] = p.started
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
func (m *Meter) cores(elapsed time.Duration, uptime float64, all map[int]stat, members map[int]string, ticks map[process]used, oldest map[string]uint64) {
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
		was, known := m.ticks[process{pid, p.started}]
		if known {
			reaped := minus(p.reaped, was.reaped)
			sum[service] += minus(p.ticks, was.own) + reaped - min(reaped, gone[pid])
		} else if m.ticks == nil || float64(p.started)/ticksPerSecond >= m.up-1 {
			sum[service] += p.ticks + p.reaped
		}
	}
	m.cpu = make(map[string]float64, len(sum))
	for service, n := range sum {
		seconds := elapsed.Seconds()
		if uptime > 0 {
			age := uptime - float64(oldest[service])/ticksPerSecond
			if m.ticks == nil || age < seconds { // it began in between, or nothing was measured before
				seconds = max(age, 1.0/ticksPerSecond)
			}
		} else if m.ticks == nil {
			continue
		}
		if seconds > 0 {
			m.cpu[service] = math.Round(float64(n)/ticksPerSecond/seconds*1000) / 1000
		}
	}
}

// minus is a-b; of a counter that went backwards it is nothing.
func minus(a, b uint64) uint64 { return a - min(a, b) }

// members returns the service of each process that belongs to one.
func (m *Meter) members(all map[int]stat, groups map[string]int) map[int]string {
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
		if service, ours := services[p.group]; ours {
			members[pid] = service
			first = min(first, p.started)
		}
	}
	instances := make(map[process]string)
	token := func(pid int) string {
		key := process{pid, all[pid].started}
		t, known := m.instances[key]
		if !known {
			t = instanceOf(read(m.proc + "/" + strconv.Itoa(pid) + "/environ"))
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
		if members[pid] != "" || p.started < first {
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
func ancestor(all map[int]stat, services map[int]string, pid int) string {
	const deepest = 64 // no endless loop, as /proc may be inconsistent while processes come and go
	for range deepest {
		p, there := all[pid]
		if !there || pid <= 1 {
			return ""
		}
		if service := services[p.group]; service != "" {
			return service
		}
		pid = p.parent
	}
	return ""
}

// instanceOf finds DOMINION_INSTANCE in an environment as /proc shows it.
func instanceOf(environ string) string {
	for e := range strings.SplitSeq(environ, "\x00") {
		if token, ours := strings.CutPrefix(e, "DOMINION_INSTANCE="); ours {
			return token
		}
	}
	return ""
}

// processes reads /proc/<pid>/stat of each process.
func (m *Meter) processes() map[int]stat {
	all := make(map[int]stat)
	for _, pid := range pids(m.proc) {
		if p, ok := parseStat(read(m.proc + "/" + strconv.Itoa(pid) + "/stat")); ok {
			all[pid] = p
		}
	}
	return all
}

// uptime returns how long the machine has run, in seconds; 0 if it is unknown.
func (m *Meter) uptime() float64 {
	seconds, _, _ := strings.Cut(read(m.proc+"/uptime"), " ")
	v, _ := strconv.ParseFloat(seconds, 64)
	return v
}

func pids(proc string) []int {
	d, err := os.Open(proc)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var all []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

type stat struct {
	parent, group  int
	ticks, reaped  uint64 // its own, and those of children that it waited for
	started, pages uint64
}

// parseStat reads /proc/PID/stat (proc_pid_stat(5)). The name of the program
// is in parentheses and may itself hold spaces and parentheses.
func parseStat(s string) (stat, bool) {
	end := strings.LastIndexByte(s, ')')
	if end < 0 {
		return stat{}, false
	}
	f := strings.Fields(s[end+1:]) // f[0] is field 3, the state
	if len(f) < 22 {
		return stat{}, false
	}
	number := func(field int) uint64 {
		n, _ := strconv.ParseUint(f[field-3], 10, 64)
		return n
	}
	return stat{
		parent: int(number(4)), group: int(number(5)),
		ticks: number(14) + number(15), reaped: number(16) + number(17),
		started: number(22), pages: number(24),
	}, true
}
