package facts

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/topics"
)

// A service that has a control group of its own (package supervisor makes
// them) is measured by it: that includes what came and went between two looks,
// and what left the process group, and takes no pass over all processes.

// cgroup is the last measurement of a service's control group.
type cgroup struct {
	// leader is the process group of the life.
	leader int
	dir    string
	at     time.Time
	// usec is the processor time of all that ever was in it, at that time.
	usec uint64
	cpu  float64
}

// byCgroups measures the services that have a control group, and returns the
// process groups of the others.
func (m *Meter) byCgroups(now time.Time, groups map[string]int, into map[string]topics.Usage) (others map[string]int) {
	others = make(map[string]int)
	current := make(map[string]cgroup)
	for service, leader := range groups {
		c, ok := m.measured(m.cgroups[service], leader, now)
		if !ok {
			others[service] = leader
			continue
		}
		current[service], into[service] = c, topics.Usage{CPU: c.cpu, Memory: m.memoryOf(c.dir)}
	}
	m.cgroups = current
	return others
}

// measured returns the present measurement of a control group. It returns false if
// there is none.
func (m *Meter) measured(c cgroup, leader int, now time.Time) (cgroup, bool) {
	usec, ok := uint64(0), false
	if c.leader == leader {
		usec, ok = field(read(c.dir+"/cpu.stat"), "usage_usec")
	}
	seconds := now.Sub(c.at).Seconds()
	if !ok { // a new life: all of it counts, over all of its time
		c = cgroup{leader: leader, dir: m.cgroupOf(leader)}
		if c.dir == "" {
			return c, false
		}
		if usec, ok = field(read(c.dir+"/cpu.stat"), "usage_usec"); !ok {
			return c, false
		}
		p, _ := m.proc.Stat(leader)
		seconds = max(m.proc.Uptime()-float64(p.Started)/procfs.TicksPerSecond, 1.0/procfs.TicksPerSecond)
	} else if seconds < soon.Seconds() {
		return c, true
	}
	c.cpu = math.Round(float64(minus(usec, c.usec))/1e6/seconds*1000) / 1000
	c.at, c.usec = now, usec
	return c, true
}

// memoryOf adds up what the processes in a control group hold.
func (m *Meter) memoryOf(dir string) (bytes uint64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		for _, pid := range strings.Fields(read(path + "/cgroup.procs")) {
			n, _ := strconv.Atoi(pid)
			if p, ok := m.proc.Stat(n); ok {
				bytes += p.Pages * uint64(os.Getpagesize())
			}
		}
		return nil
	})
	return bytes
}

// cgroupOf finds the control group that the supervisor made for the life of a
// process; "" where there is none.
func (m *Meter) cgroupOf(pid int) string {
	path, _ := m.proc.Cgroup(pid)
	levels := strings.Split(path, "/")
	for i := len(levels) - 1; i > 0; i-- { // a service may divide its own
		if strings.Contains(levels[i], "@") && strings.HasPrefix(levels[i-1], "dominion-") {
			mount, _ := m.proc.CgroupMount()
			return filepath.Join(mount, strings.Join(levels[:i+1], "/"))
		}
	}
	return ""
}

// field returns the number after a name, as in cpu.stat.
func field(text, name string) (uint64, bool) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, err := strconv.ParseUint(f[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
