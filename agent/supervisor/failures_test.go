package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/topics"
)

// What breaks on a home's machines, each with real processes.

// Fifty services that end as soon as they start, and start again at once: each
// turn of the loop stays short, and who behaves is served.
func TestFiftyCrashLoops(t *testing.T) {
	h := newHost(t)
	specs := make(map[string]topics.Spec)
	for i := range 50 {
		name := fmt.Sprintf("broken%d", i)
		h.write("services/"+name+"/service.toml", `command = ["./run"]`)
		h.write("services/"+name+"/run", "#!/bin/sh\necho no stick\nexit 1\n")
		specs[name] = spec("r1")
	}
	h.write("services/good/service.toml", `command = ["sleep", "100"]`)
	specs["good"] = spec("r1")
	var worst time.Duration
	turn := func(f func()) {
		began := time.Now()
		f()
		worst = max(worst, time.Since(began))
	}
	cpu := processorTime(t)
	began := time.Now()
	h.apply(specs) // starts them all: a turn as long as fifty starts take
	started := time.Since(began)
	failed := func() (n int) {
		for _, i := range h.s.Instances() {
			if i.State == topics.Failed {
				n++
			}
		}
		return n
	}
	deadline := time.After(patienceTime)
	for failed() < 50 {
		select {
		case <-h.events.Ready():
			events, _ := h.events.Take()
			for _, e := range events { // the agent's heart beats between two of them
				turn(func() { h.s.Handle(e, time.Now()) })
			}
			turn(func() { h.s.Expire(time.Now()) })
		case <-deadline:
			t.Fatalf("%d of 50 have failed", failed())
		case <-time.After(10 * time.Millisecond):
			turn(func() { h.s.Expire(time.Now()) })
		}
	}
	burst := time.Since(began)
	t.Logf("50 starts in %v; 500 crashes in %v; %v of processor time; the longest turn %v", started, burst, processorTime(t)-cpu, worst)
	if worst > time.Second { // a start, on a machine that does ten other things; who is silent for 3 s is lost
		t.Errorf("a turn of the loop took %v", worst)
	}
	if i := h.untilState("good", topics.Running); i.Restarts != 0 {
		t.Errorf("%+v", i)
	}
	for _, i := range h.s.Instances() {
		if i.Service != "good" && (i.Restarts != 9 || !strings.Contains(i.Message, "no stick")) {
			t.Errorf("%s: %d restarts, %q", i.Service, i.Restarts, i.Message)
		}
	}
	// Then they give way: nothing is tried for five minutes. What Next says besides
	// is when the small files are written that are over their budget.
	for name, v := range h.s.services {
		if at := v.due(); name != "good" && time.Until(at) < 4*time.Minute {
			t.Errorf("the next try of %s is in %v", name, time.Until(at))
		}
	}
}

// A program that its service replaced by something else, or holds a lease on,
// does not start, and nobody waits for it: neither a start nor a health check.
func TestProgramsThatCannotBeOpened(t *testing.T) {
	h := newHost(t)
	programs := map[string]struct {
		make func(path string) error
		want string
	}{
		"fifo":  {func(path string) error { return syscall.Mkfifo(path, 0o755) }, "it is not a regular file"},
		"null":  {func(path string) error { return os.Symlink("/dev/null", path) }, "it is not a regular file"},
		"dir":   {func(path string) error { return os.Mkdir(path, 0o755) }, "is a directory"},
		"lease": {func(path string) error { return lease(t, path) }, "has a lease on it"},
		"chain": {func(path string) error {
			return errors.Join(syscall.Mkfifo(path+".fifo", 0o755), os.WriteFile(path, []byte("#!"+path+".fifo\n"), 0o755))
		}, "cannot start"},
	}
	specs := make(map[string]topics.Spec)
	for name, p := range programs {
		h.write("services/"+name+"/service.toml", `command = ["./run"]`)
		if err := p.make(filepath.Join(h.dir, "services", name, "run")); err != nil {
			t.Fatal(err)
		}
		specs[name] = spec("r1")
	}
	began := time.Now()
	h.apply(specs)
	if took := time.Since(began); took > patienceTime/2 {
		t.Errorf("it took %v", took)
	}
	for name, p := range programs {
		if i := h.get(name); i.State != topics.Failed || !strings.Contains(i.Message, p.want) {
			t.Errorf("%s is %s: %q, want %q", name, i.State, i.Message, p.want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patienceTime)
		err := h.s.checkCommand(ctx, plan{health: []string{"./run"}, command: Command{Dir: filepath.Join(h.dir, "services", name)}})
		if cancel(); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s as a health check: %v", name, err)
		}
	}
}

// lease makes a program and holds a lease on it until the test ends.
func lease(t *testing.T, path string) error {
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 100\n"), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	t.Cleanup(func() { f.Close() })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("this file system takes no leases: %v", err)
	}
	return nil
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A gigabyte of log takes a bounded room, and little of our time. The agent
// looks as often as here.
func TestAGigabyteOfLog(t *testing.T) {
	h := newHost(t)
	line := strings.Repeat("x", 99)
	h.makefile("web", `yes `+line+` | head -c 1073741824; echo; echo the end; exit 0`)
	s := spec("r1")
	s.Restart.Policy = topics.RestartNever
	cpu, began := processorTime(t), time.Now()
	h.apply(one("web", s))
	logs, next, peak := h.s.o.Logs, time.Now(), int64(0)
	h.until("it wrote all", func() bool {
		if now := time.Now(); !now.Before(next) {
			peak = max(peak, sizeBelow(t, h.dir+"/logs"))
			logs.Poll(now)
			next = now.Add(250 * time.Millisecond)
			if logs.Flooded(now) {
				next = now.Add(20 * time.Millisecond)
			}
		}
		return h.get("web").State == topics.Finished
	})
	logs.Poll(time.Now())
	size := sizeBelow(t, h.dir+"/logs")
	t.Logf("written in %v, %v of processor time of ours; %d MB on disk at the most, %d KB at the end", time.Since(began), processorTime(t)-cpu, peak>>20, size>>10)
	if size > 2<<20 {
		t.Errorf("%d bytes are left on disk", size)
	}
	if peak > 768<<20 {
		t.Errorf("%d bytes were on disk", peak)
	}
	last := h.s.o.Logs.Last("web", 2)
	if len(last) != 2 || last[1].Line != "the end" {
		t.Errorf("its last lines are %+v", last)
	}
}

func sizeBelow(t *testing.T, dir string) (sum int64) {
	t.Helper()
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return sum
}

func TestAServiceThatClosesItsOutput(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `echo before; exec >&- 2>&- <&-; echo $$ > $d/pid; exec sleep 100`)
	h.apply(one("web", spec("r1")))
	h.pid("pid")
	if i := h.untilState("web", topics.Running); i.Health != topics.Healthy || i.Restarts != 0 {
		t.Errorf("%+v", i)
	}
	if got := h.read("logs/web/stdout.log"); got != "before" {
		t.Errorf("its log is %q", got)
	}
}

// A services_dir that cannot be written is read, and nothing else is wanted of
// it. A service that writes there itself is left alone.
func TestAReadOnlyServicesDir(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount; nothing was tested")
	}
	h := newHost(t)
	h.makefile("web", `exec sleep 100`)
	h.makefile("builds", `echo x > built`)
	dir := h.dir + "/services"
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		t.Skip("cannot mount here: ", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	h.apply(map[string]topics.Spec{"web": spec("r1"), "builds": spec("r1")})
	h.untilState("web", topics.Running)
	if i := h.untilState("builds", topics.Failed); !strings.Contains(i.Message, "Read-only file system") {
		t.Errorf("message %q", i.Message)
	}
	if n := h.reported(topics.DomainProblem, ""); n > 0 {
		t.Errorf("reports %v: a services_dir is not ours to write", h.reports)
	}
}

// For what cannot be executed the message has the reason and the remedy.
func TestWhatCannotBeExecuted(t *testing.T) {
	h := newHost(t)
	h.write("services/bit/service.toml", `command = ["./run"]`)
	h.write("services/bit/run", "#!/bin/sh\n")
	if err := os.Chmod(h.dir+"/services/bit/run", 0o644); err != nil {
		t.Fatal(err)
	}
	h.write("services/interpreter/service.toml", `command = ["./run"]`)
	h.write("services/interpreter/run", "#!/opt/nowhere/python3 -u\n")
	h.write("services/windows/service.toml", `command = ["./run"]`)
	h.write("services/windows/run", "#!/bin/sh\r\nexit 0\r\n")
	h.write("services/machine/service.toml", `command = ["./run"]`)
	h.write("services/machine/run", "\x7fELF of another machine")
	h.makefile("large", `exec sleep 100`)
	large := spec("r1")
	large.Environment = make(map[string]string)
	for i := range 60 {
		large.Environment[fmt.Sprintf("LARGE%d", i)] = strings.Repeat("x", 100<<10)
	}
	h.apply(map[string]topics.Spec{
		"bit": spec("r1"), "interpreter": spec("r1"), "windows": spec("r1"), "machine": spec("r1"), "large": large,
	})
	for service, want := range map[string]string{
		"bit":         "it is not executable (chmod +x)",
		"interpreter": "/opt/nowhere/python3 of its first line does not exist: install it, or correct the line",
		"windows":     "its lines end as on Windows",
		"machine":     "it is no program for this machine",
		"large":       "its environment is too large for the kernel",
	} {
		if i := h.get(service); i.State != topics.Failed || !strings.Contains(i.Message, want) {
			t.Errorf("%s is %s: %q, want %q", service, i.State, i.Message, want)
		}
	}
}

// A disk that is full to the last byte: logs, ports and records cannot be
// written, services run, and the log is cut to make room.
func TestALogThatFillsTheDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system; nothing was tested")
	}
	h := newHost(t)
	for _, dir := range []string{"data", "logs"} {
		dir = filepath.Join(h.dir, dir)
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
			t.Skip("cannot mount here: ", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	}
	h.s.makeDirs()
	h.makefile("flood", `while :; do yes this fills the disk | head -c 8388608; sleep 0.01; done`)
	h.makefile("web", `exec sleep 100`)
	if err := os.WriteFile(h.dir+"/data/ballast", make([]byte, 5<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	h.apply(map[string]topics.Spec{"flood": spec("r1")})
	h.until("its log fills the disk", func() bool { return sizeBelow(t, h.dir+"/logs") >= 4<<20-64<<10 })
	h.apply(map[string]topics.Spec{"flood": spec("r1"), "web": spec("r1")})
	i := h.untilState("web", topics.Running)
	if h.reported(topics.DomainProblem, "") == 0 {
		t.Error("nobody is told of the disk")
	}
	// The flood stands still meanwhile: it fills the disk again in no time.
	flood := h.get("flood").PID
	if err := syscall.Kill(-flood, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.s.o.Logs.Poll(time.Now())
	if size := sizeBelow(t, h.dir+"/logs"); size > 3<<20 {
		t.Errorf("%d bytes of log after it was cut", size)
	}
	if err := syscall.Kill(-flood, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	h.apply(map[string]topics.Spec{"web": spec("r1")}) // or it is full again
	h.untilState("flood", topics.Stopped)
	if err := os.Remove(h.dir + "/data/ballast"); err != nil {
		t.Fatal(err)
	}
	h.until("what was refused is written", func() bool {
		_, err := os.Stat(h.dir + "/data/instances/web.json")
		ports := h.read("data/ports.json")
		return err == nil && strings.Contains(ports, fmt.Sprint(i.Port))
	})
}
