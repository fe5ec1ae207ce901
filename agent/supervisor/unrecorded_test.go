package supervisor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/topics"
)

func (h *host) records() []string {
	files, _ := filepath.Glob(h.dir + "/data/instances/*.json")
	return files
}

// forgetAll removes the records, as if the disk had taken none.
func (h *host) forgetAll() {
	h.t.Helper()
	for _, f := range h.records() {
		if err := os.Remove(f); err != nil {
			h.t.Fatal(err)
		}
	}
}

func TestAdoptionOfWhatNoRecordNames(t *testing.T) {
	h := bare(t)
	h.makefile("web", `echo life >> $d/lives; exec sleep 100`)
	h.write("services/lamp/service.toml", "command = [\"./run.sh\", \"x\"]\n")
	h.write("services/lamp/run.sh", "#!/bin/sh\necho life >> "+h.dir+"/lives\nsleep 100\n")
	specs := map[string]topics.Spec{"web": spec("r1"), "lamp": spec("r1")}
	a := startAgent(t, h.dir)
	a.apply(specs)
	before := map[string]topics.Instance{"web": a.untilState("web", topics.Running), "lamp": a.untilState("lamp", topics.Running)}
	a.kill()
	h.forgetAll()
	_ = os.Remove(h.dir + "/data/ports.json")

	a = startAgent(t, h.dir)
	for name, was := range before {
		if i := a.last.get(name); i.PID != was.PID || i.State != topics.Running || i.Revision != "r1" || i.Port != was.Port || i.Version != was.Version {
			t.Errorf("taken over %+v\nwas %+v", i, was)
		}
	}
	a.apply(specs)
	a.kill()
	if n := len(h.records()); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
	a = startAgent(t, h.dir)
	a.apply(specs)
	for name, was := range before {
		if i := a.last.get(name); i.PID != was.PID || i.Restarts != 0 {
			t.Errorf("%+v", i)
		}
	}
	if got := h.read("lives"); got != "life\nlife" {
		t.Errorf("lives %q", got)
	}
	a.kill()
	h.forgetAll()
	a = startAgent(t, h.dir)
	a.apply(one("web", spec("r2"))) // another revision restarts, what is absent is stopped
	a.until("web runs in another revision", func(v view) bool {
		return v.get("web").State == topics.Running && v.get("web").PID != before["web"].PID && !v.get("lamp").State.Alive()
	})
	if alive(before["web"].PID) || alive(before["lamp"].PID) {
		t.Error("what was taken over runs on")
	}
	a.stopAll(h)
	a.terminate()
}

// With a data_dir that was removed the id of the domain is gone, too: what runs is
// taken over by the directory of its data.
func TestAdoptionWithoutTheDataDir(t *testing.T) {
	h := bare(t)
	h.makefile("web", `echo life >> $d/lives; exec sleep 100`)
	a := startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	before := a.untilState("web", topics.Running)
	a.kill()
	if err := os.RemoveAll(filepath.Join(h.dir, "data")); err != nil {
		t.Fatal(err)
	}
	id := RunningDomain(filepath.Join(h.dir, "data"), "", nil) // as the agent makes of it what it is again
	if id == "" {
		t.Fatal("nothing tells whose services run")
	}
	t.Setenv(agentDomain, id)
	for range 2 { // the second one by its record
		a = startAgent(t, h.dir)
		a.apply(one("web", spec("r1")))
		if i := a.untilState("web", topics.Running); i.PID != before.PID || i.Port != before.Port {
			t.Errorf("taken over %+v\nwas %+v", i, before)
		}
		a.kill()
	}
	a = startAgent(t, h.dir)
	if got := h.read("lives"); got != "life" {
		t.Errorf("lives %q", got)
	}
	a.stopAll(h)
	a.terminate()
}

// Which domain's a process of a data_dir is, by its environment alone.
func TestStartedFrom(t *testing.T) {
	const uuid, token = "DOMAIN_UUID=id", "DOMINION_INSTANCE=t"
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{[]string{uuid}, ""},
		{[]string{uuid, "SERVICE_NAME=web", "SERVICE_DATA_DIR=/d/data/web"}, "id"},
		{[]string{uuid, "SERVICE_NAME=web", "SERVICE_DATA_DIR=/d/data/lamp"}, ""},
		{[]string{uuid, "SERVICE_NAME=../data/web", "SERVICE_DATA_DIR=/d/data/web"}, ""},
		{[]string{uuid, "SERVICE_NAME=web", "SERVICE_DATA_DIR=/e/data/web"}, ""},
		{[]string{"SERVICE_NAME=web", "SERVICE_DATA_DIR=/d/data/web"}, ""},
		{[]string{uuid, token}, ""},
	} {
		if got := startedFrom("/d/data", os.Getpid(), c.environ); got != c.want {
			t.Errorf("%v: %q, want %q", c.environ, got, c.want)
		}
	}
}

// A second copy, of a life without a record, is ended.
func TestACopyThatNoRecordNamesIsEnded(t *testing.T) {
	h := bare(t)
	h.makefile("web", `exec sleep 100`)
	a := startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	first := a.untilState("web", topics.Running).PID
	a.kill()
	h.forgetAll()
	// A copy, made as the agent makes it.
	env := slices.DeleteFunc(procfs.Root.Environ(first), func(e string) bool { return strings.HasPrefix(e, "DOMINION_INSTANCE=") })
	env = append(env, "DOMINION_INSTANCE=another.r1")
	_, done := stranger(t, env, nil)
	a = startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	i := a.untilState("web", topics.Running)
	patience(t, "one is left", func() bool {
		groups := make(map[int]bool)
		for _, pid := range h.processes() {
			if p, ok := procfs.Root.Stat(pid); ok {
				groups[p.Group] = true
			}
		}
		return len(groups) == 1 && groups[i.PID]
	})
	a.stopAll(h)
	a.terminate()
	<-done
}

// What is not what we start is ended before the service is started.
func TestAStrayThatNoRecordNamesIsNoService(t *testing.T) {
	h := bare(t)
	h.makefile("web", `exec sleep 100`)
	pid, done := stranger(t, []string{
		"DOMAIN_UUID=" + h.options().Domain, "DOMINION_INSTANCE=stray.r1", "SERVICE_NAME=web", "SERVICE_DATA_DIR=" + h.dir,
	}, nil)
	a := startAgent(t, h.dir)
	if i := a.last.get("web"); i.PID != pid || i.Revision != "" {
		t.Errorf("%+v, want process %d in no known revision", i, pid)
	}
	a.apply(one("web", spec("r1")))
	i := a.untilState("web", topics.Running)
	<-done
	if i.PID == pid || i.Revision != "r1" {
		t.Errorf("%+v", i)
	}
	a.stopAll(h)
	a.terminate()
}

// Nothing of another domain, of another user or of nobody is touched.
func TestStrangersAreNotTakenOver(t *testing.T) {
	h := bare(t)
	ours := "DOMAIN_UUID=" + h.options().Domain
	all := map[string][]string{
		"another domain": {"DOMAIN_UUID=other", "DOMINION_INSTANCE=t.r1", "SERVICE_NAME=web"},
		"no instance":    {ours, "SERVICE_NAME=web"},
		"no service":     {ours, "DOMINION_INSTANCE=t.r1"},
		"no name":        {ours, "DOMINION_INSTANCE=t.r1", "SERVICE_NAME=../web"},
		"another dir":    {"DOMAIN_UUID=other", "DOMINION_INSTANCE=t.r1", "SERVICE_NAME=web", "SERVICE_DATA_DIR=/nonexistent" + h.dir + "/data/data/web"},
		"longer":         {ours + "0", "DOMINION_INSTANCE=t.r1", "SERVICE_NAME=web"},
	}
	ends := make(map[string]<-chan error)
	for name, env := range all {
		_, ends[name] = stranger(t, env, nil)
	}
	if os.Getuid() == 0 {
		_, ends["another user"] = stranger(t, []string{ours, "DOMINION_INSTANCE=u.r1", "SERVICE_NAME=web"}, &syscall.Credential{Uid: 4242, Gid: 4242})
	}
	h.makefile("web", `exec sleep 100`)
	a := startAgent(t, h.dir)
	if len(a.last.Instances) > 0 {
		t.Errorf("taken over: %+v", a.last.Instances)
	}
	a.apply(one("web", spec("r1")))
	a.untilState("web", topics.Running)
	a.stopAll(h)
	a.terminate()
	for name, end := range ends {
		select {
		case err := <-end:
			t.Errorf("%s was signalled: %v", name, err)
		default:
		}
	}
}

// stranger runs a process in a session of its own until the test ends.
func stranger(t *testing.T, env []string, as *syscall.Credential) (pid int, done <-chan error) {
	t.Helper()
	cmd := exec.Command("sleep", "100")
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: as}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		for range ended {
		}
	})
	return cmd.Process.Pid, ended
}

// A disk without a free byte: services start, are adopted all the same, and
// their records are written when there is room again.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system; nothing was tested")
	}
	h := bare(t)
	data := h.dir + "/data"
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("cannot mount a small file system; nothing was tested: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(data, syscall.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount %s: %v", data, err)
		}
	})
	h.makefile("web", `echo life >> $d/lives; exec sleep 100`)
	a := startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	a.untilState("web", topics.Running)
	fill := func(name string) {
		if err := os.WriteFile(data+name, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
	}
	fill("/photos")
	a.apply(nil)
	a.until("it is off", func(v view) bool { return v.Idle })
	fill("/more") // its record gave a little room
	a.apply(one("web", spec("r1")))
	was := a.untilState("web", topics.Running)
	if n := len(h.records()); n != 0 || !a.last.reported("the disk refuses") {
		t.Fatalf("%d records on a full disk, reports %v", n, a.last.Reports)
	}
	a.kill()

	a = startAgent(t, h.dir)
	a.apply(one("web", spec("r1")))
	if i := a.untilState("web", topics.Running); i.PID != was.PID || h.read("lives") != "life\nlife" {
		t.Errorf("%+v, want process %d; lives %q", i, was.PID, h.read("lives"))
	}
	if err := errors.Join(os.Remove(data+"/photos"), os.Remove(data+"/more")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	patience(t, "the record is written", func() bool { return len(h.records()) == 1 })
	if took := time.Since(began); took > 2*diskRetry {
		t.Errorf("written after %v", took)
	}
	a.kill()
	a = startAgent(t, h.dir)
	if i := a.untilState("web", topics.Running); i.PID != was.PID {
		t.Errorf("%+v", i)
	}
	a.stopAll(h)
	a.kill()
}
