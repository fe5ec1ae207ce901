package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/topics"
)

// freezable puts a disk of its own under a directory, which can be frozen:
// whoever writes to it waits.
func (h *Host) freezable(dir string) (freeze, thaw func()) {
	h.t.Helper()
	image := filepath.Join(h.Dir, "disk.img")
	if out, err := exec.Command("sh", "-c", `mkdir -p "$2" && truncate -s 32M "$1" && mkfs.ext4 -q "$1" && mount -o loop "$1" "$2"`, "sh", image, dir).CombinedOutput(); err != nil {
		h.t.Skipf("no disk that can be frozen (mkfs.ext4, loop devices): %v: %s", err, out)
	}
	thaw = func() { _ = exec.Command("fsfreeze", "-u", dir).Run() }
	h.t.Cleanup(func() {
		thaw()
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	return func() {
		h.t.Helper()
		if out, err := exec.Command("fsfreeze", "-f", dir).CombinedOutput(); err != nil {
			h.t.Skipf("cannot freeze a disk: %v: %s", err, out)
		}
	}, thaw
}

// A disk that does not answer delays what must be on it. The domain stays
// online, nothing runs twice, and the exclusive service keeps its lease.
func TestFrozenDiskOfADomain(t *testing.T) {
	home := onEmbedded(t)
	x := &exclusiveHome{
		Home: home, t: t, domains: make(map[string]*Domain), agents: make(map[string]*Process),
		meetings: filepath.Join(home.dir, "meetings"), beginning: filepath.Join(home.dir, "beginnings"),
	}
	freezes, thaws := make(map[string]func()), make(map[string]func())
	for _, name := range []string{"kitchen", "cellar"} {
		d := home.Domain(name)
		freezes[name], thaws[name] = d.freezable(d.DataDir())
		d.installBoiler(x.meetings)
		d.Install("web", "lamp")
		x.domains[name] = d
	}
	home.Configure(exclusiveTiming + service("boiler", `priority = "required"`, `exclusive = true`, `stop_timeout = "1s"`) +
		service("web", `priority = "required"`, `replicas = 2`, `restart = { delay = "100ms", max_delay = "1s" }`) + service("lamp", `priority = "required"`, `replicas = 2`, healthHTTP))
	var agents []*Process
	x.hub, agents, x.o = home.Up(x.domains["kitchen"], x.domains["cellar"])
	x.agents["kitchen"], x.agents["cellar"] = agents[0], agents[1]
	from, _, pid := x.begins(1)
	x.o.Until("all is healthy", func(v View) bool { return v.Healthy("boiler", 1) && v.Healthy("web", 2) && v.Healthy("lamp", 2) })
	home.Journal.Await(t, 2, "start", "web")

	mark := x.o.Now()
	freezes[from.Name]()
	kill(t, x.o.Latest().Instance(from.Name, "web").PID) // its restart waits for the disk
	// An order to stop another one is obeyed, and what is not well is seen.
	began := time.Now()
	home.Publish("dominion/service/lamp/set", "OFF")
	x.o.Until("lamp is stopped everywhere", func(v View) bool { return v.Service("lamp").State == topics.Stopped })
	x.o.Until("web waits for the disk", func(v View) bool {
		return strings.Contains(v.Instance(from.Name, "web").Message, "data_dir does not answer")
	})
	t.Logf("lamp is stopped and web waits %v after the disk froze", time.Since(began).Round(time.Millisecond))
	time.Sleep(max(0, 14*time.Second-time.Since(began))) // seven times what makes a domain lost
	thaws[from.Name]()
	x.o.Until("web is repaired", func(v View) bool { return v.Healthy("web", 2) && v.Instance(from.Name, "web").Restarts == 1 })
	for _, e := range x.o.Events(mark) {
		switch e.Type {
		case topics.DomainLost, topics.ServiceFenced:
			t.Errorf("%s of %s %s: %s", e.Type, e.Domain, e.Service, e.Message)
		}
	}
	x.o.AwaitEvent(mark, "dominion/domain/"+from.Name+"/event", topics.DomainProblem, from.Name, "")
	x.stays(0, pid)
	home.Journal.Await(t, 3, "start", "web")
	if n := len(home.Journal.Of(t, "start", "web")); n != 3 {
		t.Errorf("web was started %d times, want one for the crash alone", n-2)
	}

	t.Log("SIGTERM on a frozen disk: it says offline, and the exclusive service ends with its lease")
	mark = x.o.Now()
	freezes[from.Name]()
	kill(t, x.o.Latest().Instance(from.Name, "web").PID)
	time.Sleep(time.Second) // it waits for the disk by then
	x.agents[from.Name].Signal(syscall.SIGTERM)
	x.o.AwaitTopic(mark, "dominion/domain/"+from.Name+"/availability", topics.Offline)
	x.begins(2)
	thaws[from.Name]()
	x.agents[from.Name].Wait()
}

// A disk of the hub that does not answer makes it wait, and no domain lost; the
// hub says what it waited for.
func TestFrozenDiskOfTheHub(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	home.Configure("[timing]\nheartbeat = \"500ms\"\nlost_after = \"2s\"\n" + service("web", `priority = "required"`, healthHTTP))
	freeze, thaw := home.Hub.freezable(filepath.Join(home.Hub.Dir, "data"))
	hub, _, o := home.Up(kitchen)
	o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })

	mark := o.Now()
	freeze()
	home.Publish("dominion/service/web/set", "OFF") // which is stored first
	time.Sleep(8 * time.Second)                     // four times what makes a domain lost
	thaw()
	o.Until("web is off", func(v View) bool { return v.Service("web").State == topics.Stopped })
	hub.AwaitLog("the hub stood still", "did not answer")
	for _, e := range o.Events(mark) {
		if e.Type == topics.DomainLost {
			t.Errorf("%s: %s", e.Domain, e.Message)
		}
	}
}
