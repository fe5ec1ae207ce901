package facts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/internal/procfs"
)

// fakes are processes as /proc shows them.
type fakes struct {
	t   *testing.T
	dir string
}

func (f fakes) put(pid int, file, content string) {
	f.t.Helper()
	path := filepath.Join(f.dir, fmt.Sprint(pid), file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f fakes) process(pid, parent, group, own, reaped, started int) {
	f.t.Helper()
	f.put(pid, "stat", fmt.Sprintf("%d (a) S %d %d 1 0 -1 0 0 0 0 0 %d 0 %d 0 20 0 1 0 %d 1000 1 0 0\n", pid, parent, group, own, reaped, started))
}

func (f fakes) uptime(seconds float64) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, "uptime"), fmt.Appendf(nil, "%.2f 1.00\n", seconds), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f fakes) ends(pid int) {
	f.t.Helper()
	if err := os.RemoveAll(filepath.Join(f.dir, fmt.Sprint(pid))); err != nil {
		f.t.Fatal(err)
	}
}

func TestUsage(t *testing.T) {
	f := fakes{t, t.TempDir()}
	m := NewMeter(f.dir)
	m.proc, m.thermal = procfs.FS(f.dir), f.dir
	groups := map[string]int{"web": 10}
	now := time.Now()
	measure := func(after time.Duration, want float64, what string) {
		t.Helper()
		now = now.Add(after)
		if got := m.Measure(now, groups).Services["web"].CPU; got != want {
			t.Errorf("%s: %v cores, want %v", what, got, want)
		}
	}
	f.uptime(1000)
	f.process(10, 1, 10, 5000, 0, 90_000)
	f.process(12, 1, 12, 7000, 0, 90_000)
	measure(0, 0.5, "an agent that starts: since its service began")
	f.uptime(1030)
	f.process(10, 1, 10, 5300, 0, 90_000)
	measure(30*time.Second, 0.1, "since the last metrics")
	measure(10*time.Millisecond, 0.1, "again at once: as before")

	// a child comes, is counted, ends, and is waited for
	f.uptime(1060)
	f.process(11, 10, 10, 600, 0, 104_000)
	measure(30*time.Second-10*time.Millisecond, 0.2, "a child")
	f.uptime(1090)
	f.ends(11)
	f.process(10, 1, 10, 5300, 900, 90_000)
	measure(30*time.Second, 0.1, "a child that ended is counted once")
	f.uptime(1120)
	f.process(10, 1, 10, 5300, 1500, 90_000)
	measure(30*time.Second, 0.2, "children that came and went in between")

	// who left the group: a child with a group of its own, and a daemon
	f.uptime(1150)
	f.process(20, 10, 20, 300, 0, 112_500)
	f.process(21, 1, 21, 600, 0, 112_500)
	f.put(10, "environ", "A=b\x00DOMINION_INSTANCE=web.1\x00")
	f.put(21, "environ", "DOMINION_INSTANCE=web.1\x00")
	f.put(12, "environ", "DOMINION_INSTANCE=other\x00")
	measure(30*time.Second, 0.3, "what left the group")

	// another life of it, two seconds old
	f.uptime(1180)
	for _, pid := range []int{10, 20, 21} {
		f.ends(pid)
	}
	f.process(30, 1, 30, 150, 0, 117_800)
	groups["web"] = 30
	measure(30*time.Second, 0.75, "a new life: since it began")
	f.ends(30)
	measure(30*time.Second, 0, "nothing is left")
}

// Real processes: one that works, in a group with what it starts, and a daemon
// that left everything but its environment.
func TestUsageOfRealProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("it works for seconds")
	}
	file := filepath.Join(t.TempDir(), "daemon")
	// half a core at most each, whatever else this machine does: what matters is who is counted
	c := exec.Command("sh", "-c", `
(setsid sh -c 'echo $$ >`+file+`; while :; do :; done' &)
while :; do sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'; done`)
	c.Env = append(os.Environ(), "DOMINION_INSTANCE=test."+fmt.Sprint(os.Getpid()))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
		var daemon int
		if b, err := os.ReadFile(file); err == nil {
			if _, err := fmt.Sscan(strings.TrimSpace(string(b)), &daemon); err == nil && daemon > 1 {
				_ = syscall.Kill(daemon, syscall.SIGKILL)
			}
		}
	}()
	groups := map[string]int{"busy": c.Process.Pid}
	var m *Meter
	// until both have worked for a while, by their own account
	deadline := time.Now().Add(2 * time.Minute)
	for {
		m = NewMeter(t.TempDir())
		before := ticksOf(t, m, groups)
		if len(before) >= 2 && before[0]+before[1] > 100 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("they do not work: %v", before)
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
	least, began := sum(ticksOf(t, m, groups)), time.Now()
	m.Measure(began, groups)
	most := sum(ticksOf(t, m, groups))
	for sum(ticksOf(t, m, groups)) < most+300 { // three seconds of a core
		if time.Since(began) > 2*time.Minute {
			t.Fatal("they do not work any more")
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
	before, now := sum(ticksOf(t, m, groups)), time.Now()
	u := m.Measure(now, groups).Services["busy"]
	after := sum(ticksOf(t, m, groups))
	// what they worked between the measurements, and around them: the work of
	// a child that has not ended is in the one and not in the other
	const child = 40 // ticks; on a crowded machine a look at /proc takes a while, and who is not counted, or twice, is 150 at least
	cores := func(ticks uint64) float64 { return float64(ticks) / procfs.TicksPerSecond / now.Sub(began).Seconds() }
	if u.CPU < cores(before-most-child) || u.CPU > cores(after-least+child) || u.Memory == 0 {
		t.Errorf("they worked on %.2f to %.2f cores, and %+v was measured", cores(before-most), cores(after-least), u)
	}
}

// ticksOf counts, by other means, what the leader with the children that it
// waited for, and the daemon, have used: the kernel's sums of each.
func ticksOf(t *testing.T, m *Meter, groups map[string]int) []uint64 {
	t.Helper()
	var all []uint64
	for _, pid := range procfs.Root.PIDs() {
		p, ok := procfs.Root.Stat(pid)
		leader := pid == groups["busy"]
		daemon := !leader && p.Group == pid && strings.Contains(read(fmt.Sprintf("/proc/%d/environ", pid)), fmt.Sprintf("DOMINION_INSTANCE=test.%d\x00", os.Getpid()))
		if ok && (leader || daemon) {
			all = append(all, p.CPU+p.ChildCPU)
		}
	}
	return all
}

func sum(all []uint64) (n uint64) {
	for _, v := range all {
		n += v
	}
	return n
}
