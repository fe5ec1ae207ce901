package supervisor

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/topics"
)

// newBareHost is a host whose services have no control groups.
func newBareHost(t *testing.T) *host {
	r, err := plainRunner()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return newHost(t, func(o *Options) { o.Runner = r })
}

// plainRunner is one that makes no control groups.
func plainRunner() (Runner, error) {
	r, err := newRunner(slog.New(slog.DiscardHandler), "")
	if err == nil {
		r.(*runner).cgroups.close()
		r.(*runner).cgroups = cgroups{}
	}
	return r, err
}

// newCgroupHost is a host whose services have control groups.
func newCgroupHost(t *testing.T) *host {
	h := newHost(t)
	if h.cgroups().base == "" {
		t.Skip("control groups of version 2 cannot be made here: " + h.log.String())
	}
	return h
}

func (h *host) cgroups() cgroups { return h.s.o.Runner.(*runner).cgroups }

// both runs a test with control groups and without.
func both(t *testing.T, test func(t *testing.T, h *host)) {
	t.Run("with control groups", func(t *testing.T) { test(t, newCgroupHost(t)) })
	t.Run("without", func(t *testing.T) { test(t, newBareHost(t)) })
}

// What forgot its environment and made a session of its own is found by its
// control group alone.
func TestADaemonWithoutItsEnvironmentEndsWithTheService(t *testing.T) {
	for name, trap := range map[string]string{"gentle": `trap "echo bye > $d/bye; exit" TERM; `, "stubborn": `trap "" TERM; `} {
		t.Run(name, func(t *testing.T) {
			h := newCgroupHost(t)
			h.write("daemon.sh", "d="+h.dir+"\n"+trap+"echo $$ > $d/daemon; while :; do sleep 0.05; done")
			h.makefile("web", `setsid env -i /bin/sh $d/daemon.sh &
exec sleep 100`)
			s := spec("r1")
			s.StopTimeout = topics.Seconds(time.Second)
			if name == "gentle" { // on a crowded machine it takes a while to say bye
				s.StopTimeout = topics.Seconds(patienceTime)
			}
			h.apply(one("web", s))
			daemon := h.pid("daemon")
			if p, ok := procfs.Root.Stat(daemon); !ok || p.Group == h.get("web").PID {
				t.Fatalf("%+v is no daemon", p)
			}
			h.apply(nil)
			h.untilState("web", topics.Stopped)
			if alive(daemon) {
				t.Error("its daemon lives on")
				_ = syscall.Kill(daemon, syscall.SIGKILL)
			}
			if name == "gentle" && h.read("bye") != "bye" {
				t.Error("it was not told to end")
			}
			h.until("its control group is gone", func() bool { return len(h.cgroups().unclaimed(nil)) == 0 })
		})
	}
}

// The next life does not begin beside what the last one left.
func TestACrashEndsTheDaemonBeforeTheNextLife(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		h.makefile("web", `test -s $d/daemon && kill -0 $(cat $d/daemon) 2>/dev/null && echo beside >> $d/beside
rm -f $d/daemon
setsid sh -c 'trap "" TERM; echo $$ > '$d'/daemon; while :; do sleep 0.05; done' &
while test ! -s $d/daemon; do sleep 0.01; done
echo life >> $d/lives
exec sleep 100`)
		s := spec("r1")
		s.StopTimeout = topics.Seconds(300 * time.Millisecond)
		h.apply(one("web", s))
		h.until("it lives", func() bool { return h.read("lives") == "life" })
		if err := syscall.Kill(-h.get("web").PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		h.until("it lives again", func() bool { return h.read("lives") == "life\nlife" })
		if h.read("beside") != "" {
			t.Error("a life began while a daemon of the one before lived")
		}
	})
}

// A crash requests a daemon to stop before it is killed, also one that is stopped by
// a signal: that is continued, or it could not handle the request.
func TestACrashRequestsAStoppedDaemonToEnd(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		h.makefile("web", `setsid sh -c 'trap "echo bye > '$d'/bye; exit" TERM; echo $$ > '$d'/daemon; kill -STOP $$; while :; do sleep 0.1; done' &
exec sleep 100`)
		s := spec("r1")
		s.Restart.Policy = topics.RestartNever
		h.apply(one("web", s))
		daemon := h.pid("daemon")
		h.until("the daemon is stopped", func() bool {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", daemon))
			return strings.Contains(string(b), ") T ")
		})
		if err := syscall.Kill(-h.get("web").PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		h.until("the daemon has ended", func() bool { return !alive(daemon) })
		if h.read("bye") != "bye" {
			t.Error("the daemon was killed and not requested to stop")
		}
	})
}

// A family of two hundred that forks on is gone at once.
func TestAForkingFamilyIsKilled(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		h.makefile("web", `trap "" TERM
for i in 1 2 3 4 5 6 7 8 9 10; do
	setsid sh -c 'trap "" TERM; for j in 1 2 3 4 5 6 7 8 9 10; do sh -c "trap \"\" TERM; while :; do sleep 0.2; done" & done; wait' &
done
wait
while :; do sleep 1; done`)
		s := spec("r1")
		s.StopTimeout = topics.Seconds(200 * time.Millisecond)
		h.apply(one("web", s))
		h.until("two hundred live", func() bool { return len(h.processes()) >= 200 })
		before := time.Now()
		h.apply(nil)
		h.untilState("web", topics.Stopped)
		t.Logf("stopped after %v", time.Since(before))
		if n := len(h.processes()); n > 0 {
			t.Errorf("%d processes are left", n)
		}
	})
}

func TestControlGroupsOverAnAgentsLife(t *testing.T) {
	if _, err := ownCgroup(); err != nil {
		t.Skip(err)
	}
	h := bare(t)
	h.makefile("web", `exec sleep 100`)
	a := startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	pid := a.untilState("web", topics.Running).PID
	path, _ := procfs.Root.Cgroup(pid)
	if !strings.Contains(path, "/web@") {
		t.Fatalf("it is in the control group %q", path)
	}
	a.kill()
	// A life without a record and an environment.
	mount, ok := procfs.Root.CgroupMount()
	if !ok {
		t.Fatal("there are no control groups of version 2")
	}
	lost := filepath.Join(mount, filepath.Dir(path), "lost@token")
	if err := os.Mkdir(lost, 0o755); err != nil {
		t.Fatal(err)
	}
	nobodys, ended := stranger(t, []string{}, nil)
	if err := os.WriteFile(filepath.Join(lost, "cgroup.procs"), []byte(strconv.Itoa(nobodys)), 0); err != nil {
		t.Fatal(err)
	}
	// And what is not ours by its name.
	foreign := filepath.Join(mount, filepath.Dir(path), "foreign")
	if err := os.Mkdir(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(foreign)

	a = startAgent(t, h.dir)
	if i := a.untilState("web", topics.Running); i.PID != pid {
		t.Errorf("%+v, want process %d adopted", i, pid)
	}
	a.apply(one("web", spec("r1")))
	select {
	case <-ended:
	case <-time.After(patienceTime):
		t.Error("what nobody knows lives on")
	}
	patience(t, "the group of nobody is gone", func() bool { _, err := os.Stat(lost); return err != nil })
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a control group of somebody else was touched: %v", err)
	}
	if !alive(pid) {
		t.Error("what is known was ended")
	}
	a.stopAll(h)
	patience(t, "its group is gone", func() bool {
		_, err := os.Stat(filepath.Join(mount, path))
		return err != nil
	})
	os.Remove(foreign)
	a.terminate()
	patience(t, "nothing is left", func() bool {
		_, err := os.Stat(filepath.Join(mount, filepath.Dir(path)))
		return err != nil
	})
}

// A record that names another's control group is not believed.
func TestOnlyAControlGroupOfTheLifeIsBelieved(t *testing.T) {
	h := newCgroupHost(t)
	h.makefile("web", `exec sleep 100`)
	h.apply(one("web", spec("r1")))
	v := h.s.services["web"]
	dir, token := v.life.group.Cgroup, v.Run.Token
	if !isCgroupOf(dir, token) {
		t.Errorf("%s is not believed", dir)
	}
	for _, no := range []string{filepath.Dir(dir), "/", "", "/tmp", dir + "x", "/nonexistent/dominion-1/web@" + token} {
		if isCgroupOf(no, token) {
			t.Errorf("%q was believed", no)
		}
	}
	if isCgroupOf(dir, "") || isCgroupOf(dir, "other") {
		t.Error("it was believed of another life")
	}
	// A service may divide its group, as one that runs containers does.
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.apply(nil)
	h.until("it is gone, with what is below", func() bool { _, err := os.Stat(dir); return os.IsNotExist(err) })
}
