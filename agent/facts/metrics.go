package facts

import (
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/topics"
)

// Meter measures the machine and its services. Make it with NewMeter.
type Meter struct {
	dataDir string
	// proc is procfs.Root, but in tests.
	proc    procfs.FS
	thermal string

	last time.Time
	// up is the uptime at last, in seconds.
	up    float64
	ticks map[process]used
	// cpu is by service, of the last measurement.
	cpu map[string]float64
	// cgroups is by service.
	cgroups map[string]cgroup
	// instances holds the DOMINION_INSTANCE of each process that was examined.
	instances map[process]string
}

// NewMeter returns a Meter, which measures the free space of dataDir's disk.
func NewMeter(dataDir string) *Meter {
	return &Meter{dataDir: dataDir, proc: procfs.Root, thermal: "/sys/class/thermal"}
}

// Measure returns the metrics of now. groups gives the process group of each
// service. What cannot be measured is zero.
func (m *Meter) Measure(now time.Time, groups map[string]int) topics.Metrics {
	out := topics.Metrics{At: topics.At(now), Services: map[string]topics.Usage{}}
	if f := strings.Fields(read(string(m.proc) + "/loadavg")); len(f) > 0 {
		out.Load1, _ = strconv.ParseFloat(f[0], 64)
	}
	out.Cores = runtime.NumCPU()
	total, available := memory(read(string(m.proc) + "/meminfo"))
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

// temperature prefers a zone that is named as the processor's: zone 0 of many
// machines is a battery or the mainboard.
func temperature(dir string) *float64 {
	zones, _ := filepath.Glob(filepath.Join(dir, "thermal_zone*"))
	var best *float64
	for _, zone := range zones {
		milli, err := strconv.Atoi(strings.TrimSpace(read(zone + "/temp")))
		if err != nil || milli <= -100_000 || milli >= 200_000 { // drivers return -273 °C for an unknown value
			continue
		}
		celsius := float64(milli/100) / 10
		kind := strings.TrimSpace(read(zone + "/type"))
		if strings.Contains(kind, "cpu") || kind == "x86_pkg_temp" || strings.Contains(kind, "soc") {
			return &celsius
		}
		if best == nil {
			best = &celsius
		}
	}
	return best
}
