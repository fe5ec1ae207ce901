package facts

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/topics"
)

// Meter measures the machine and its services. Make it with NewMeter.
type Meter struct {
	dataDir string
	proc    string // "/proc", but in tests
	thermal string
	last    time.Time
	ticks   map[process]uint64
}

// process is one process for good: a pid alone is used again.
type process struct {
	pid     int
	started uint64
}

// NewMeter returns a meter that tells the free space of dataDir.
func NewMeter(dataDir string) *Meter {
	return &Meter{dataDir: dataDir, proc: "/proc", thermal: "/sys/class/thermal"}
}

// Measure returns the metrics of now. groups gives the process group of each
// service. What the machine does not tell is left at zero.
func (m *Meter) Measure(now time.Time, groups map[string]int) topics.Metrics {
	out := topics.Metrics{At: topics.At(now), Services: map[string]topics.Usage{}}
	if f := strings.Fields(read(m.proc + "/loadavg")); len(f) > 0 {
		out.Load1, _ = strconv.ParseFloat(f[0], 64)
	}
	out.Cores = runtime.NumCPU()
	total, available := memory(read(m.proc + "/meminfo"))
	out.MemoryTotal, out.MemoryUsed = total, total-min(available, total)
	var disk unix.Statfs_t
	if err := unix.Statfs(m.dataDir, &disk); err == nil {
		out.DiskFree = disk.Bavail * uint64(disk.Bsize)
	}
	out.Temperature = temperature(m.thermal)
	m.usage(now, groups, out.Services)
	return out
}

func memory(meminfo string) (total, available uint64) {
	for line := range strings.Lines(meminfo) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseUint(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	return total, available
}

// temperature prefers a zone that says it is the processor's: zone 0 of many
// machines is a battery or the mainboard.
func temperature(dir string) *float64 {
	zones, _ := filepath.Glob(filepath.Join(dir, "thermal_zone*"))
	var best *float64
	for _, zone := range zones {
		milli, err := strconv.Atoi(strings.TrimSpace(read(zone + "/temp")))
		if err != nil || milli <= -100_000 || milli >= 200_000 { // -273 °C is a driver's "no idea"
			continue
		}
		celsius := float64(milli/100) / 10
		switch kind := strings.TrimSpace(read(zone + "/type")); {
		case strings.Contains(kind, "cpu"), kind == "x86_pkg_temp", strings.Contains(kind, "soc"):
			return &celsius
		case best == nil:
			best = &celsius
		}
	}
	return best
}

// ticksPerSecond is USER_HZ, which is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// usage adds up processor and memory by process group in one pass over /proc.
// Processes that came and went between two passes are not seen.
func (m *Meter) usage(now time.Time, groups map[string]int, into map[string]topics.Usage) {
	before, elapsed := m.ticks, now.Sub(m.last).Seconds()
	m.last, m.ticks = now, nil
	if len(groups) == 0 {
		return
	}
	services := make(map[int]string, len(groups))
	for service, group := range groups {
		services[group] = service
		into[service] = topics.Usage{}
	}
	m.ticks = make(map[process]uint64)
	for _, pid := range pids(m.proc) {
		p, ok := parseStat(read(m.proc + "/" + strconv.Itoa(pid) + "/stat"))
		service, ours := services[p.group]
		if !ok || !ours {
			continue
		}
		key := process{pid, p.started}
		m.ticks[key] = p.ticks
		u := into[service]
		u.Memory += p.pages * uint64(os.Getpagesize())
		if used, known := before[key]; (known || before != nil) && elapsed > 0 && p.ticks >= used {
			u.CPU += float64(p.ticks-used) / ticksPerSecond / elapsed
		}
		into[service] = u
	}
	for service, u := range into {
		u.CPU = math.Round(u.CPU*1000) / 1000
		into[service] = u
	}
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
	group          int
	ticks, started uint64
	pages          uint64
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
	return stat{group: int(number(5)), ticks: number(14) + number(15), started: number(22), pages: number(24)}, true
}
