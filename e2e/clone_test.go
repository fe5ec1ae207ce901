package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A fresh clone on a machine with Go and make alone: the demo runs once and
// ends well, and the tests pass. DOMINION_E2E_CLONE=0 leaves this out,
// DOMINION_E2E_CLONE=demo leaves out the tests, which take minutes.
//
// What is committed is tried, not what lies in the checkout. The network is
// there for nothing but the modules, so their cache is handed over, and the
// build cache with it.
func TestFreshClone(t *testing.T) {
	needs(t, "git", "go")
	which := os.Getenv("DOMINION_E2E_CLONE")
	if which == "0" {
		t.Skip("DOMINION_E2E_CLONE=0")
	}
	t.Parallel()
	home := newHome(t, Embedded)
	machine := home.Host("fresh")
	checkout := filepath.Join(machine.Dir, "dominion")
	empty := filepath.Join(machine.Dir, "home")
	machine.must(os.Mkdir(empty, 0o755))
	machine.must(command("git", "clone", "-q", "..", checkout))
	t.Cleanup(func() { command("chmod", "-R", "u+w", machine.Dir) })

	goProgram, err := exec.LookPath("go")
	home.must(err)
	cache := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		home.must(err)
		return name + "=" + strings.TrimSpace(string(out))
	}
	run := func(target string) string {
		t.Helper()
		cmd := exec.Command("make", target)
		cmd.Dir = checkout
		cmd.Env = []string{
			"PATH=" + filepath.Dir(goProgram) + ":/usr/local/bin:/usr/bin:/bin", "HOME=" + empty,
			"GOPROXY=off", "GOFLAGS=-buildvcs=false", cache("GOMODCACHE"), cache("GOCACHE"),
		}
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.WaitDelay = patience
		machine.must(machine.in(func() error {
			if err := hide("mosquitto", "mosquitto_sub", "mosquitto_pub", "mosquitto_passwd", "python3"); err != nil {
				return err
			}
			return cmd.Start()
		}))
		const within = 18 * time.Minute // less than the tests have in all
		timer := time.AfterFunc(within, machine.KillAll)
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("make %s: %v (at most %v)\n%s", target, err, within, tailOf(out.String(), 80))
		}
		return out.String()
	}

	started := time.Now()
	out := run("demo")
	t.Logf("make demo took %v", time.Since(started).Round(time.Second))
	if strings.Contains(out, "\x1b") {
		t.Errorf("make demo without a terminal writes terminal escapes:\n%q", out)
	}
	if !strings.Contains(out, "healthy") {
		t.Errorf("make demo shows no picture:\n%s", tailOf(out, 60))
	}
	gone := func(target string) {
		t.Helper()
		// of Go's own program some work for a moment after it has ended
		eventually(t, "make "+target+" leaves no processes behind", func() bool { return len(machine.Processes()) == 0 })
	}
	gone("demo")
	if which == "demo" || t.Failed() {
		return
	}
	started = time.Now()
	run("test")
	t.Logf("make test took %v", time.Since(started).Round(time.Second))
	gone("test")
	left, err := os.ReadDir(empty)
	home.must(err)
	for _, e := range left {
		t.Logf("in HOME: %s", e.Name())
	}
}

// unshareMounts gives the calling thread mounts of its own. What it unmounts stays
// where it is for all others: the networks of every test are mounted below
// /run/netns, which ip has made a shared mount.
func unshareMounts() error {
	return errors.Join(unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}

// hide makes programs of Debian unfindable for the calling thread and what it
// starts.
func hide(programs ...string) error {
	if err := unshareMounts(); err != nil {
		return err
	}
	for _, p := range programs {
		path := filepath.Join("/usr/bin", p)
		if p == "mosquitto" {
			path = filepath.Join("/usr/sbin", p)
		}
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			if err := unix.Mount("/dev/null", resolved, "", unix.MS_BIND, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

func tailOf(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
