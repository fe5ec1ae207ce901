package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/topics"
)

func TestAdoption(t *testing.T) {
	for name, end := range map[string]func(*remote){"kill -9": (*remote).kill, "leave": (*remote).terminate} {
		t.Run(name, func(t *testing.T) {
			h := bare(t)
			h.makefile("web", `echo life >> $d/lives; exec sleep 100`)
			s := one("web", spec("r1"))
			a := startAgent(t, h.dir)
			a.apply(s)
			before := a.untilState("web", topics.Running)
			end(a)
			if !alive(before.PID) {
				t.Fatal("the service did not outlive its agent")
			}

			a = startAgent(t, h.dir)
			i := a.untilState("web", topics.Running)
			if i.PID != before.PID || i.Port != before.Port || i.Revision != "r1" || i.Version != before.Version ||
				i.Health != topics.Healthy || i.Restarts != 0 || !i.Since.Equal(before.Since.Time) {
				t.Errorf("adopted %+v\nwas     %+v", i, before)
			}
			if !a.last.reported("service_adopted web") {
				t.Errorf("reports %v", a.last.Reports)
			}
			a.apply(s)
			end(a)
			a = startAgent(t, h.dir) // and again
			a.apply(s)
			if i := a.untilState("web", topics.Running); i.PID != before.PID || h.read("lives") != "life" {
				t.Errorf("adopted again: %+v, lives %q", i, h.read("lives"))
			}

			// Its exit is a failure without a code, and it is started again.
			if err := syscall.Kill(-before.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			a.until("it was started again", func(v view) bool {
				i := v.get("web")
				return i.State.Alive() && i.PID != before.PID && i.Restarts == 1
			})
			if i := a.last.get("web"); i.ExitCode != nil || i.Port != before.Port {
				t.Errorf("%+v", i)
			}
			a.stopAll(h)
			a.terminate()
			if files, _ := filepath.Glob(h.dir + "/data/instances/*"); len(files) > 0 {
				t.Errorf("left on disk: %v", files)
			}
		})
	}
}

func TestAdoptedWithoutAStartCommandIsOnlyWatched(t *testing.T) {
	h := bare(t)
	h.makefile("web", `exec sleep 100`)
	a := startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	pid := a.untilState("web", topics.Running).PID
	a.kill()
	a = startAgent(t, h.dir)
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	i := a.untilState("web", topics.Stopped)
	if i.PID != 0 || i.Message == "" {
		t.Errorf("%+v", i)
	}
	a.apply(one("web", spec("r1")))
	a.untilState("web", topics.Running)
	a.kill()
	a = startAgent(t, h.dir)
	a.stopAll(h) // absent from the start command: stopped
	a.kill()
}

func TestAdoptionOfAGroupWithoutItsLeader(t *testing.T) {
	h := bare(t)
	h.makefile("web", `echo $$ > $d/pid; exec sleep 100`)
	a := startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	leader := a.untilState("web", topics.Running).PID
	a.kill()
	if err := syscall.Kill(leader, syscall.SIGKILL); err != nil { // make; the shell lives on
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Sscan(h.read("pid"), &child); err != nil {
		t.Fatal(err)
	}
	patience(t, "make is dead", func() bool { return !alive(leader) })
	if !alive(child) {
		t.Skip("the shell died with make")
	}
	a = startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	if i := a.untilState("web", topics.Running); i.PID != leader || i.Restarts != 0 || !alive(child) {
		t.Errorf("%+v, child alive %v", i, alive(child))
	}
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a.until("its end was noticed", func(v view) bool { return v.get("web").Restarts == 1 })
	a.stopAll(h)
	a.kill()
}

func TestWhatIsLeftOfALifeThatEndedMeanwhile(t *testing.T) {
	t.Run("with control groups", leftMeanwhile)
	t.Run("without", func(t *testing.T) {
		t.Setenv(agentPlain, "yes")
		leftMeanwhile(t)
	})
}

func leftMeanwhile(t *testing.T) {
	h := bare(t)
	h.makefile("web", `setsid sh -c 'echo $$ > '$d'/daemon; while :; do sleep 0.1; done' &
exec sleep 100`)
	a := startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	pid := a.untilState("web", topics.Running).PID
	a.kill()
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	patience(t, "the group is empty", func() bool { return len(Group{PID: pid}.members()) == 0 })
	var daemon int
	if _, err := fmt.Sscan(h.read("daemon"), &daemon); err != nil || !alive(daemon) {
		t.Fatalf("the daemon %d did not outlive the group: %v", daemon, err)
	}
	a = startAgent(t, h.dir)
	a.untilState("web", topics.Stopped)
	if alive(daemon) {
		t.Error("it is stopped, and its daemon lives on")
	}
	a.terminate()
}

func TestAdoptionOfAStartThatWasNotNoted(t *testing.T) {
	h := bare(t)
	h.makefile("web", `exec sleep 100`)
	a := startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	pid := a.untilState("web", topics.Running).PID
	a.kill()
	change(t, h, func(r *record) { r.Group = Group{} }) // as if killed between the start and noting it
	a = startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	if i := a.untilState("web", topics.Running); i.PID != pid {
		t.Errorf("%+v, want process %d adopted", i, pid)
	}
	a.stopAll(h)
	a.kill()
}

// change edits the record of the service web.
func change(t *testing.T, h *host, edit func(*record)) {
	t.Helper()
	path := h.dir + "/data/instances/web.json"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	edit(&r)
	if err := atomicfile.WriteJSON(path, r); err != nil {
		t.Fatal(err)
	}
}

// A stranger that has the number of what the record names is left alone.
func TestAReusedPIDIsNotSignalled(t *testing.T) {
	pid, ended := stranger(t, nil, nil)
	p, _ := procfs.Root.Stat(pid)
	for name, edit := range map[string]func(*record){
		"another start time": func(r *record) { r.Group.Started = p.Started - 1 },
		"another boot":       func(r *record) { r.Boot = "before" },
		"broken":             func(r *record) { r.Service = "other" },
		"never started":      func(r *record) { r.Group = Group{} },
		"nonsense":           func(r *record) { r.Group.PID = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			h := bare(t)
			h.makefile("web", `exec sleep 100`)
			if err := os.MkdirAll(h.dir+"/data/instances", 0o755); err != nil {
				t.Fatal(err)
			}
			r := record{
				Service: "web", Boot: bootID(), Instance: "token", Revision: "r1", Spec: spec("r1"), Ready: true,
				Group: Group{PID: p.PID, Started: p.Started},
			}
			edit(&r)
			if err := atomicfile.WriteJSON(h.dir+"/data/instances/web.json", r); err != nil {
				t.Fatal(err)
			}
			a := startAgent(t, h.dir)
			if i := a.last.get("web"); i.State != "" {
				t.Errorf("adopted %+v", i)
			}
			a.apply(one("web", spec("r1")))
			a.untilState("web", topics.Running)
			a.stopAll(h)
			a.terminate()
			select {
			case err := <-ended:
				t.Fatalf("the stranger was signalled: %v", err)
			default:
			}
		})
	}
}

func TestABrokenRecordIsSetAside(t *testing.T) {
	h := bare(t)
	h.write("data/instances/web.json", "{ half a rec")
	h.write("data/instances/web.json.tmp", "")
	h.write("data/ports.json", "")
	a := startAgent(t, h.dir)
	if len(a.last.Instances) > 0 {
		t.Errorf("%+v", a.last)
	}
	a.terminate()
}

func TestFinishedStaysFinishedOverAnAgentsRestart(t *testing.T) {
	h := bare(t)
	h.makefile("once", `echo life >> $d/lives`)
	s := spec("r1")
	s.Restart.Policy = topics.RestartNever
	a := startAgent(t, h.dir)
	a.apply(one("once", s))
	a.untilState("once", topics.Finished)
	a.kill()
	a = startAgent(t, h.dir)
	a.apply(one("once", s))
	i := a.untilState("once", topics.Finished)
	if h.read("lives") != "life" || i.ExitCode == nil || *i.ExitCode != 0 {
		t.Errorf("lives %q, %+v", h.read("lives"), i)
	}
	s.Revision = "r2"
	a.apply(one("once", s))
	patience(t, "it lived again", func() bool { return h.read("lives") == "life\nlife" })
	a.stopAll(h)
	a.kill()
}

func TestNotifyAfterAdoption(t *testing.T) {
	h := bare(t)
	h.makefile("web", "while ! test -e $d/go; do sleep 0.02; done\n"+notifies(t, "READY=1")+"exec sleep 100")
	s := spec("r1")
	s.Health = &topics.HealthCheck{Notify: true}
	a := startAgent(t, h.dir)
	a.apply(one("web", s))
	pid := a.untilState("web", topics.Starting).PID
	a.kill()
	a = startAgent(t, h.dir)
	a.apply(one("web", s))
	a.untilState("web", topics.Starting)
	h.write("go", "")
	if i := a.untilState("web", topics.Running); i.PID != pid {
		t.Errorf("%+v", i)
	}
	a.kill()
	a = startAgent(t, h.dir) // it does not notify READY again
	if i := a.untilState("web", topics.Running); i.PID != pid || i.Health != topics.Healthy {
		t.Errorf("%+v", i)
	}
	a.stopAll(h)
	a.kill()
}

// A group whose number another one has by now is empty, and out of reach.
func TestAGroupOfAnotherIsNotTouched(t *testing.T) {
	stranger := exec.Command("sleep", "100")
	stranger.Env = append(os.Environ(), "DOMINION_INSTANCE=token")
	stranger.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	p, ok := procfs.Root.Stat(stranger.Process.Pid)
	if !ok {
		t.Fatal("there is no stranger")
	}
	ours, theirs := Group{PID: p.PID, Started: p.Started - 1}, Group{PID: p.PID, Started: p.Started}
	ours.signal(syscall.SIGKILL)
	if !ours.empty() || theirs.empty() {
		t.Errorf("ours empty %v, theirs empty %v", ours.empty(), theirs.empty())
	}
	if _, ok := ours.tokenProcess("token"); ok {
		t.Error("a member of another group was taken for ours")
	}
	if c, ok := theirs.tokenProcess("token"); !ok || c.PID != p.PID {
		t.Error("a member that carries the token was not found")
	}
	theirs.signal(syscall.SIGTERM)
	_ = stranger.Wait()
	if s := stranger.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGTERM {
		t.Errorf("it ended by %v, want the signal that was meant for it", s.Signal())
	}
}

// What is being stopped is stopped, also by an agent that has no start command.
func TestAStopGoesOnAfterAKill(t *testing.T) {
	h := bare(t)
	h.makefile("web", `trap "" TERM; echo $$ > $d/pid; while :; do sleep 0.1; done`)
	s := spec("r1")
	s.StopTimeout = topics.Seconds(2 * time.Second)
	a := startAgent(t, h.dir)
	a.apply(one("web", s))
	a.untilState("web", topics.Running)
	var pid int
	if _, err := fmt.Sscan(h.read("pid"), &pid); err != nil {
		t.Fatal(err)
	}
	a.apply(map[string]topics.Spec{})
	a.untilState("web", topics.Stopping)
	a.kill()
	if !alive(pid) {
		t.Fatal("the service did not outlive its agent")
	}

	a = startAgent(t, h.dir)
	if got := a.last.get("web").State; got != topics.Stopping {
		t.Errorf("it is %s after the agent was killed, want stopping", got)
	}
	a.untilState("web", topics.Stopped)
	if alive(pid) {
		t.Error("it runs on")
	}
	a.terminate()
}
