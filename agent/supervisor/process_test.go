package supervisor

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/topics"
)

func TestStartHasItsEnvironmentAndNothingElse(t *testing.T) {
	t.Setenv("AGENT_SECRET", "hidden")
	h := newHost(t)
	h.makefile("web", `env > $d/env; pwd > $d/pwd; cat > $d/stdin; exec sleep 100`)
	h.write("local.env", "# a comment\nexport LOCAL=\"from file\"\nBOTH=file\n")
	s := spec("r1")
	s.Environment = map[string]string{"COLOUR": "blue", "BOTH": "command", "SERVICE_NAME": "forged"}
	s.EnvironmentFile = filepath.Join(h.dir, "local.env")
	s.Dependencies = map[string]string{"light-orchestrator": "10.0.0.1:8080"}
	s.Health = &topics.HealthCheck{Notify: true}
	h.apply(one("web", s))
	h.until("it read its standard input", func() bool { _, err := os.Stat(h.dir + "/stdin"); return err == nil })
	env := "\n" + h.read("env") + "\n"
	i := h.get("web")
	for _, want := range []string{
		"COLOUR=blue", "LOCAL=from file", "BOTH=file", "DOMAIN_NAME=here", "DOMAIN_UUID=domain of " + h.dir, "SERVICE_NAME=web",
		"SERVICE_VERSION=1.2.3", "SERVICE_PORT=" + strconv.Itoa(i.Port),
		"SERVICE_DATA_DIR=" + h.dir + "/data/data/web", "DEPENDENCY_LIGHT_ORCHESTRATOR=10.0.0.1:8080",
		"NOTIFY_SOCKET=" + h.s.notifyPath("web"), "DOMINION_INSTANCE=" + h.s.services["web"].Run.Token,
	} {
		if !strings.Contains(env, "\n"+want+"\n") {
			t.Errorf("%s is not in the environment", want)
		}
	}
	if strings.Contains(env, "AGENT_SECRET") {
		t.Error("the agent's own environment went to the service")
	}
	if got, want := h.read("pwd"), h.dir+"/services/web"; got != want {
		t.Errorf("it runs in %s, want %s", got, want)
	}
	if p, _ := procfs.Root.Stat(i.PID); p.Group != i.PID {
		t.Errorf("the group of %d is %d, want one of its own", i.PID, p.Group)
	}
	if session, err := unix.Getsid(i.PID); err != nil || session != i.PID {
		t.Errorf("the session of %d is %d (%v), want one of its own", i.PID, session, err)
	}
	if _, err := os.Stat(h.dir + "/data/data/web"); err != nil {
		t.Error(err)
	}
	if i.Address != "127.0.0.1" || i.Version != "1.2.3" || i.Revision != "r1" || i.Port < 20000 || i.Port > 29999 {
		t.Errorf("instance %+v", i)
	}
}

func TestCommandOfServiceTomlRunsWithoutMake(t *testing.T) {
	h := newHost(t)
	h.write("services/web/service.toml", "command = [\"./run.sh\", \"an argument\"]\n[environment]\nPATH = \"/bin:/usr/bin\"\n")
	h.write("services/web/run.sh", "#!/bin/sh\necho \"$0 $1\" > "+h.dir+"/args; exit 7\n")
	s := spec("r1")
	s.Restart.Delay, s.Restart.MaxDelay = topics.Seconds(time.Hour), topics.Seconds(time.Hour)
	h.apply(one("web", s))
	i := h.untilState("web", topics.Backoff)
	if i.ExitCode == nil || *i.ExitCode != 7 || i.Message != "exited with code 7" || i.NextTry.IsZero() {
		t.Errorf("exit code %v, message %q", i.ExitCode, i.Message)
	}
	if got := h.read("args"); got != "./run.sh an argument" {
		t.Errorf("it ran as %q", got)
	}
}

// From a crash to the next life there are only events: no timer is waited for.
func TestCrashToRunningIsQuick(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `exec sleep 100`)
	h.apply(one("web", spec("r1")))
	var took []time.Duration
	for life := range 5 {
		before := time.Now()
		if err := syscall.Kill(-h.get("web").PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for timeout := time.After(patienceTime); h.get("web").Restarts == life; {
			select {
			case <-h.events.Ready():
				events, _ := h.events.Take()
				for _, e := range events {
					h.s.Handle(e, time.Now())
				}
			case <-timeout:
				t.Fatalf("it was not started again: %+v", h.get("web"))
			}
		}
		took = append(took, time.Since(before))
	}
	t.Logf("crash → started again: %v", took)
	if i := h.get("web"); i.Restarts != 5 || h.reported(topics.ServiceCrashed, "web") != 5 {
		t.Errorf("%d restarts, %d crashes reported, want 5", i.Restarts, h.reported(topics.ServiceCrashed, "web"))
	}
	// The goal is 25 ms, measured by `make bench`; this holds on a machine that
	// does ten other things.
	if best := slices.Min(took); best > 200*time.Millisecond {
		t.Errorf("the best of %v is far too slow", took)
	}
}

func TestStopOfAStubbornServiceAndItsFamily(t *testing.T) {
	h := newHost(t)
	// The child of the group has no parent in it any more; both ignore SIGTERM.
	h.makefile("web", `trap "" TERM
sh -c 'sleep 100 & echo $! > '$d'/orphan'
sleep 100 &
echo $! > $d/child
echo $$ > $d/pid
while :; do wait; sleep 0.1; done`)
	s := spec("r1")
	s.StopTimeout = topics.Seconds(300 * time.Millisecond)
	h.apply(one("web", s))
	pids := []int{h.pid("orphan"), h.pid("child"), h.pid("pid"), h.get("web").PID}
	before := time.Now()
	h.apply(nil)
	if got := h.get("web").State; got != topics.Stopping {
		t.Errorf("it is %s", got)
	}
	h.untilState("web", topics.Stopped)
	if took := time.Since(before); took < 300*time.Millisecond || took > 20*time.Second {
		t.Errorf("stopped after %v, want a bit more than 300 ms", took)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("%d is alive after it was said to be stopped", pid)
		}
	}
}

func TestWhatALeaderLeavesBehindEndsFirst(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `sleep 100 & echo $! > $d/left; exit 0`)
	s := spec("r1")
	s.Restart.Policy = topics.RestartOnFailure
	h.apply(one("web", s))
	left := h.pid("left")
	i := h.untilState("web", topics.Finished)
	if alive(left) {
		t.Errorf("%d is alive", left)
	}
	if i.ExitCode == nil || *i.ExitCode != 0 {
		t.Errorf("exit code %v, want that of the leader", i.ExitCode)
	}
	if pid := h.get("web").PID; pid != 0 {
		t.Errorf("process %d of a finished service", pid)
	}
}

func TestADoubleForkedChildIsReaped(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `sh -c 'sh -c "echo \$\$ > '$d'/orphan; exec sleep 100" & sleep 0.2'
echo $$ > $d/pid
exec sleep 100`)
	h.apply(one("web", spec("r1")))
	orphan := h.pid("orphan")
	h.pid("pid")
	if err := syscall.Kill(orphan, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.until("the orphan is reaped, not a zombie", func() bool { _, ok := procfs.Root.Stat(orphan); return !ok })
	if got := h.get("web").State; !got.Alive() {
		t.Errorf("the service is %s after an orphan of it ended", got)
	}
}

func TestADaemonThatLeftTheGroupEndsWithTheService(t *testing.T) {
	for name, trap := range map[string]string{"gentle": "", "stubborn": `trap "" TERM; `} {
		t.Run(name, func(t *testing.T) {
			h := newBareHost(t)
			h.makefile("web", `setsid sh -c '`+trap+`echo $$ > '$d'/daemon; while :; do sleep 0.1; done' &
exec sleep 100`)
			h.apply(one("web", spec("r1")))
			daemon := h.pid("daemon")
			h.apply(nil)
			h.untilState("web", topics.Stopped)
			// One that ends has no environment any more a moment before it is a zombie.
			if alive(daemon) && strings.Join(procfs.Root.Environ(daemon), "") != "" {
				t.Error("it is stopped, and its daemon lives on")
			}
		})
	}
}

func TestChangedRevisionRestartsWithoutACrash(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `echo $COLOUR >> $d/colours; exec sleep 100`)
	s := spec("r1")
	s.Restart.Delay, s.Restart.MaxDelay = topics.Seconds(time.Hour), topics.Seconds(time.Hour)
	s.Environment = map[string]string{"COLOUR": "blue"}
	h.apply(one("web", s))
	h.until("it is blue", func() bool { return h.read("colours") == "blue" })
	pid := h.get("web").PID
	s.StopTimeout = topics.Seconds(time.Second) // not part of the revision
	h.apply(one("web", s))
	if i := h.get("web"); i.PID != pid {
		t.Fatalf("%+v, want process %d untouched", i, pid)
	}
	s.Revision, s.Environment = "r2", map[string]string{"COLOUR": "red"}
	h.apply(one("web", s))
	h.until("it is red", func() bool { return h.read("colours") == "blue\nred" })
	i := h.get("web")
	if i.Revision != "r2" || i.Restarts != 1 || h.reported(topics.ServiceCrashed, "web") != 0 || alive(pid) {
		t.Errorf("%+v, %v", i, h.reports)
	}
	if err := h.s.Restart("web", time.Now()); err != nil {
		t.Fatal(err)
	}
	h.until("it is red again", func() bool { return h.read("colours") == "blue\nred\nred" })
	if err := h.s.Restart("other", time.Now()); err == nil {
		t.Error("an unknown service was restarted")
	}
}

func TestServiceThatCannotStartHasAReason(t *testing.T) {
	h := newHost(t)
	h.write("services/empty/readme", "nothing")
	h.write("services/gone/service.toml", `command = ["./missing"]`)
	h.write("services/wrong/service.toml", `comand = ["./x"]`)
	h.write("services/text/service.toml", `command = ["./text"]`)
	h.write("services/text/text", "neither a program nor a script")
	h.makefile("file", "exec sleep 100")
	file := spec("r1")
	file.EnvironmentFile = "/nonexistent/env"
	h.apply(map[string]topics.Spec{
		"nowhere": spec("r1"), "empty": spec("r1"), "gone": spec("r1"), "wrong": spec("r1"), "text": spec("r1"), "file": file,
	})
	for service, want := range map[string]string{
		"nowhere": "there is no directory", "empty": "there is no Makefile", "gone": "cannot run",
		"wrong": "comand", "text": "cannot start", "file": "there is no environment_file",
	} {
		i := h.get(service)
		if i.State != topics.Failed || !strings.Contains(i.Message, want) || i.NextTry.IsZero() {
			t.Errorf("%s is %s: %q, want %q", service, i.State, i.Message, want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	h.apply(one("file", spec("r2")))
	if i := h.get("file"); !strings.Contains(i.Message, "there is no make on this domain") {
		t.Errorf("without make: %q", i.Message)
	}
}

func TestWhatMayNotBeOrderedIsRefused(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `exec sleep 100`)
	for name, change := range map[string]func(*topics.Spec){
		"target":      func(s *topics.Spec) { s.Target = "--eval=x" },
		"environment": func(s *topics.Spec) { s.Environment = map[string]string{"VPATH": "x"} },
		"dependency":  func(s *topics.Spec) { s.Dependencies = map[string]string{"db": "$(shell touch F):1"} },
		"path":        func(s *topics.Spec) { s.EnvironmentFile = "x" },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec("bad-" + name)
			change(&s)
			h.reports = nil
			h.apply(one("web", s))
			h.apply(one("web", s)) // ordered once
			i := h.get("web")
			if i.State != topics.Failed || i.Message == "" || i.Revision != s.Revision || h.reported(topics.CommandRefused, "web") != 1 {
				t.Errorf("%+v, %v", i, h.reports)
			}
			if err := h.s.Restart("web", time.Now()); err != nil || h.get("web").State != topics.Failed {
				t.Errorf("after a restart: %v %+v", err, h.get("web"))
			}
			h.apply(nil)
			h.apply(nil)
		})
	}
	h.apply(one("web", spec("good")))
	pid := h.get("web").PID
	bad := spec("bad")
	bad.Target = "-x"
	h.apply(one("web", bad))
	if i := h.get("web"); i.PID != pid || !i.State.Alive() || !strings.Contains(i.Message, "target") || i.Revision != "good" {
		t.Errorf("a refused command disturbed what runs: %+v", i)
	}
	h.apply(one("web", spec("good")))
	if i := h.get("web"); i.PID != pid || i.Message != "" {
		t.Errorf("%+v", i)
	}
}

func TestManyCrashesAreFailedWithTheLastLines(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `echo "cannot open /dev/ttyUSB0" >&2; exit 3`)
	h.apply(one("web", spec("r1")))
	i := h.untilState("web", topics.Failed)
	if i.ExitCode == nil || *i.ExitCode != 2 { // make's own
		t.Errorf("exit code %v", i.ExitCode)
	}
	for _, want := range []string{"exited with code 3: cannot open /dev/ttyUSB0; it failed too often\n", "cannot open /dev/ttyUSB0"} {
		if !strings.Contains(i.Message, want) {
			t.Errorf("%q does not say %q", i.Message, want)
		}
	}
	if i.Restarts != 9 || h.reported(topics.ServiceFailed, "web") != 1 {
		t.Errorf("%d restarts, reports %v", i.Restarts, h.reports)
	}
}

func TestDiskThatRefusesLogsAndRecords(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `echo $$ > $d/pid; exec sleep 100`)
	h.write("logs/web", "a file where a directory should be")
	if err := os.RemoveAll(h.dir + "/data/instances"); err != nil {
		t.Fatal(err)
	}
	h.write("data/instances", "no directory either")
	h.apply(one("web", spec("r1")))
	h.pid("pid")
	if n := h.reported(topics.DomainProblem, ""); n < 2 {
		t.Errorf("reports %v, want two problems", h.reports)
	}
	if at := h.s.Next(); at.IsZero() || time.Until(at) > diskRetry {
		t.Error("it is not tried again")
	}
	os.Remove(h.dir + "/data/instances")
	h.s.Expire(time.Now().Add(diskRetry))
	h.s.Expire(time.Now().Add(2 * diskRetry))
	if _, err := os.Stat(h.dir + "/data/instances/web.json"); err != nil {
		t.Errorf("the record was not written later: %v", err)
	}
}

func TestALogIsAFileThatTheServiceHolds(t *testing.T) {
	h := newHost(t)
	// not without a breath: between two looks a crowded machine may do other things for seconds
	h.makefile("web", `while :; do for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4 5 6 7 8 9; do
echo "a chatty service says this over and over again"; done; done; sleep 0.001; done`)
	h.apply(one("web", spec("r1")))
	path := h.dir + "/logs/web/stdout.log"
	cuts, worst, last := 0, int64(0), int64(0)
	h.until("it was cut three times", func() bool {
		h.s.o.Logs.Poll(time.Now())
		info, err := os.Stat(path)
		if err != nil {
			return false
		}
		if info.Size() < last {
			cuts++
		}
		last = info.Size()
		worst = max(worst, last)
		return cuts >= 3
	})
	if worst > 8<<20 { // what it writes between two looks comes on top
		t.Errorf("the log grew to %d bytes", worst)
	}
	torn := 0
	for _, l := range h.s.o.Logs.Last("web", 50) {
		if l.Line != "a chatty service says this over and over again" {
			torn++
		}
	}
	if torn > 3 { // the end of what was cut, the start of what is new, what is being written
		t.Errorf("%d torn lines", torn)
	}
}

func TestRunAs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run services as another user")
	}
	if _, err := New(Options{RunAs: "no-such-user", DataDir: t.TempDir(), Post: func(Event) {}}); err == nil {
		t.Error("an unknown user was taken")
	}
	h := newHost(t, func(o *Options) { o.RunAs = "nobody" })
	h.makefile("web", `echo $(id -un) $USER; echo data > $SERVICE_DATA_DIR/file && echo kept; exec sleep 100`)
	h.apply(one("web", spec("r1")))
	h.until("it wrote", func() bool {
		return h.read("logs/web/stdout.log") != "" && strings.Contains(h.read("logs/web/stdout.log"), "kept")
	})
	if got := h.read("logs/web/stdout.log"); !strings.Contains(got, "nobody nobody\nkept") {
		t.Errorf("it said %q", got)
	}
}

// A service's log holds what the service says, and its agent's what may need a
// human as a warning.
func TestWhatTheLogsSay(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `echo said; exit 3`)
	s := spec("r1")
	s.Restart.Delay, s.Restart.MaxDelay = topics.Seconds(time.Hour), topics.Seconds(time.Hour)
	h.apply(one("web", s))
	h.untilState("web", topics.Backoff)
	if got := h.read("logs/web/stdout.log"); got != "said" {
		t.Errorf("its log is %q", got)
	}
	warned := regexp.MustCompile(`level=WARN msg="exited with code 3: said; next try in .*" event=service_crashed service=web\n`)
	if !warned.MatchString(h.log.String()) {
		t.Errorf("no warning of the crash in\n%s", h.log.String())
	}
	if !strings.Contains(h.log.String(), "level=INFO msg=\"started as process ") {
		t.Errorf("its start is not told in\n%s", h.log.String())
	}
}

func TestNotifyNeedsADiskThatCanBeWritten(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `exec sleep 100`)
	if err := os.RemoveAll(h.s.notifyDir()); err != nil {
		t.Fatal(err)
	}
	h.write("data/notify", "a file where the sockets should be\n")
	s := spec("r1")
	s.Health = &topics.HealthCheck{Notify: true}
	h.apply(one("web", s))
	if got := h.untilState("web", topics.Failed).Message; !strings.Contains(got, "not a directory (health notify needs a data_dir that can be written)") {
		t.Errorf("message %q", got)
	}
}
