package procfs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const statLine = "12 (a ) (name) S 7 77 77 0 -1 4194560 1 2 3 4 500 60 8 9 20 0 1 0 987654 1000 250 3\n"

func TestParseStat(t *testing.T) {
	want := Stat{PID: 12, Parent: 7, Group: 77, CPU: 560, ChildCPU: 17, Started: 987654, Pages: 250}
	if p, ok := ParseStat([]byte(statLine)); !ok || p != want {
		t.Errorf("%+v %v, want %+v", p, ok, want)
	}
	want.Ended = true
	if p, ok := ParseStat([]byte(strings.Replace(statLine, ") S", ") Z", 1))); !ok || p != want {
		t.Errorf("of a zombie: %+v %v", p, ok)
	}
	for _, broken := range []string{
		"", "12", ")(", "12 (x", "12 (x) S 1", "x" + statLine,
		strings.Replace(statLine, " 77 ", " x ", 1), strings.Replace(statLine, "987654", "-1", 1), strings.TrimSuffix(statLine, " 250 3\n"),
	} {
		if p, ok := ParseStat([]byte(broken)); ok || p != (Stat{}) {
			t.Errorf("%q is %+v", broken, p)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add(statLine)
	f.Fuzz(func(t *testing.T, text string) {
		if p, ok := ParseStat([]byte(text)); !ok && p != (Stat{}) {
			t.Errorf("%q is %+v", text, p)
		}
	})
}

// TestOwnProcess reads what the kernel shows of the test itself.
func TestOwnProcess(t *testing.T) {
	if _, err := os.Stat(string(Root) + "/self/stat"); err != nil {
		t.Skipf("there is no /proc here; nothing was tested: %v", err)
	}
	pid := os.Getpid()
	p, ok := Root.Stat(pid)
	if !ok || p.PID != pid || p.Parent != os.Getppid() || p.Ended || p.Pages == 0 || p.Started == 0 {
		t.Errorf("%+v %v", p, ok)
	}
	if !slices.Contains(Root.PIDs(), pid) {
		t.Error("the test is not among the processes")
	}
	if args := Root.Args(pid); !slices.Equal(args, os.Args) {
		t.Errorf("%q, want %q", args, os.Args)
	}
	if got := Variable(Root.Environ(pid), "PATH"); got != os.Getenv("PATH") {
		t.Errorf("PATH is %q", got)
	}
	if up := Root.Uptime(); up <= 0 || float64(p.Started)/TicksPerSecond > up {
		t.Errorf("up for %v s, started at %d", up, p.Started)
	}
}

func TestFilesOfAnotherRoot(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"12/stat": statLine, "12/cgroup": "1:name=systemd:/x\n0::/system.slice/web\n", "13/cgroup": "1:name=systemd:/x\n",
		"self/mountinfo": "25 1 0:22 / /sys rw - sysfs sysfs rw\n31 25 0:27 /part /elsewhere rw - cgroup2 cgroup2 rw\n32 25 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
		"uptime":         "123.45 99.00\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	proc := FS(dir)
	if pids := proc.PIDs(); len(pids) != 2 || !slices.Contains(pids, 12) || !slices.Contains(pids, 13) {
		t.Errorf("processes %v", pids)
	}
	if path, ok := proc.Cgroup(12); !ok || path != "/system.slice/web" {
		t.Errorf("control group %q %v", path, ok)
	}
	if path, ok := proc.Cgroup(13); ok {
		t.Errorf("control group of version 1 as %q", path)
	}
	if mount, ok := proc.CgroupMount(); !ok || mount != "/sys/fs/cgroup" {
		t.Errorf("mounted at %q %v", mount, ok)
	}
	if up := proc.Uptime(); up != 123.45 {
		t.Errorf("up for %v s", up)
	}
	none := FS(filepath.Join(dir, "none"))
	if _, ok := none.Stat(12); ok || none.PIDs() != nil || none.Environ(12) != nil || none.Uptime() != 0 {
		t.Error("something was read of a folder that does not exist")
	}
	if _, ok := none.CgroupMount(); ok {
		t.Error("control groups in a folder that does not exist")
	}
}

func TestVariable(t *testing.T) {
	environ := []string{"NAMES=x", "NAME=a=b", "NAME=c", "EMPTY="}
	for name, want := range map[string]string{"NAME": "a=b", "EMPTY": "", "OTHER": ""} {
		if got := Variable(environ, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
