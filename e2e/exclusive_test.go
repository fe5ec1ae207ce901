package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// exclusiveHome is a home of two domains with a service that must never run
// twice. It holds a lock in a file that all hosts share, also by what it leaves
// in a session of its own, does not listen to SIGTERM, and notes whom it met.
type exclusiveHome struct {
	*Home
	t         *testing.T
	hub       *Process
	o         *Observer
	all       []*Observer // it is connected anew after each restart of the hub
	domains   map[string]*Domain
	agents    map[string]*Process
	meetings  string // file: who began while somebody else was there
	beginning string // file: who began, with its fence and number
}

const exclusiveTiming = "[timing]\nheartbeat = \"500ms\"\nlost_after = \"2s\"\nisolation = \"4s\"\nsettle = \"4s\"\n"

func newExclusiveHome(t *testing.T, home *Home, timing, stopTimeout string) *exclusiveHome {
	x := &exclusiveHome{
		Home: home, t: t, domains: make(map[string]*Domain), agents: make(map[string]*Process),
		meetings: filepath.Join(home.dir, "meetings"), beginning: filepath.Join(home.dir, "beginnings"),
	}
	for _, name := range []string{"kitchen", "cellar"} {
		d := home.Domain(name)
		d.installBoiler(x.meetings)
		x.domains[name] = d
	}
	home.Configure(timing + service("boiler", `priority = "required"`, `exclusive = true`, stopTimeout))
	var agents []*Process
	x.hub, agents, x.o = home.Up(x.domains["kitchen"], x.domains["cellar"])
	x.agents["kitchen"], x.agents["cellar"] = agents[0], agents[1]
	return x
}

// installBoiler writes the exclusive service, and the files that its user, who
// is not root, writes to.
func (d *Domain) installBoiler(meetings string) {
	for _, file := range []string{filepath.Join(d.home.dir, "lock"), meetings, filepath.Join(d.home.dir, "beginnings")} {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND, 0o666)
		d.must(err)
		d.must(errors.Join(f.Chmod(0o666), f.Close()))
	}
	d.Write("boiler", "Makefile", "run:\n\t@sh ./run.sh\n")
	d.Write("boiler", "run.sh", fmt.Sprintf(`trap "" TERM
exec 9>>%s
flock -n 9 || echo "$DOMAIN_NAME met somebody" >>%s
echo "$DOMAIN_NAME $DOMINION_FENCE $$" >>%s
setsid sleep 3600 &
while :; do sleep 1; done
`, filepath.Join(d.home.dir, "lock"), meetings, filepath.Join(d.home.dir, "beginnings")))
}

// beginnings are the lines of who began.
func (x *exclusiveHome) beginnings() [][]string {
	b, _ := os.ReadFile(x.beginning)
	var all [][]string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && strings.HasSuffix(line, "\n") { // not one that is being written
			all = append(all, f)
		}
	}
	return all
}

// begins waits until it has begun n times, and returns the domain and the
// number of the last.
func (x *exclusiveHome) begins(n int) (from *Domain, to *Domain, pid int) {
	x.t.Helper()
	eventually(x.t, fmt.Sprintf("boiler has begun %d times", n), func() bool { return len(x.beginnings()) >= n })
	x.never()
	last := x.beginnings()[n-1]
	pid, _ = strconv.Atoi(last[2])
	from, to = x.domains["kitchen"], x.domains["cellar"]
	if last[0] == "cellar" {
		from, to = to, from
	}
	return from, to, pid
}

// never fails if two have met.
func (x *exclusiveHome) never() {
	x.t.Helper()
	if b, err := os.ReadFile(x.meetings); err != nil || len(b) > 0 {
		x.t.Fatalf("two at once: %s\n%v", b, x.beginnings())
	}
}

// stays watches for a while that the one that runs runs on, alone.
func (x *exclusiveHome) stays(d time.Duration, pid int) {
	x.t.Helper()
	n := len(x.beginnings())
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) { // it must not happen, so there is nothing to wait for
		x.never()
		if !alive(pid) || len(x.beginnings()) != n {
			x.t.Fatalf("process %d did not stay: %v", pid, x.beginnings())
		}
	}
}

func (x *exclusiveHome) healthy(domain string) {
	x.t.Helper()
	x.o = x.Observe()
	x.all = append(x.all, x.o)
	x.o.Until("boiler is healthy on "+domain, func(v View) bool {
		return v.Healthy("boiler", 1) && v.Service("boiler").Instances[0].Domain == domain
	})
}

// guardsOf are the guards on a host.
func guardsOf(h *Host) []int {
	var all []int
	for _, pid := range h.Processes() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if args := strings.Split(string(b), "\x00"); len(args) > 2 && args[1] == "guard" {
			all = append(all, pid)
		}
	}
	return all
}

func TestExclusiveIsNeverTwice(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		x := newExclusiveHome(t, home, exclusiveTiming, `stop_timeout = "1s"`)
		from, _, pid := x.begins(1)
		x.healthy(from.Name)

		t.Log("the hub is killed and comes back: nothing moves")
		x.hub.Kill()
		x.hub = home.StartHub()
		x.stays(9*time.Second, pid)

		t.Log("a guard is killed: another one takes over")
		guards := guardsOf(from.Host)
		if len(guards) != 1 {
			t.Fatalf("guards %v", guards)
		}
		kill(t, guards[0])
		eventually(t, "another guard", func() bool { g := guardsOf(from.Host); return len(g) == 1 && g[0] != guards[0] })
		x.stays(time.Second, pid)

		t.Log("the agent is killed and comes back: it is taken over")
		x.agents[from.Name].Kill()
		x.agents[from.Name] = from.Start()
		x.stays(7*time.Second, pid)

		t.Log("the cable is out: it ends here, and then begins there")
		cut := time.Now()
		from.LinkDown()
		was := pid
		from, to, pid := x.begins(2)
		if from.Name == to.Name || alive(was) {
			t.Errorf("process %d lives still", was)
		}
		t.Logf("began elsewhere %v after the cut", time.Since(cut).Round(10*time.Millisecond))

		t.Log("the hub is killed, and comes back, while the cable is out")
		x.hub.Kill()
		x.hub = home.StartHub()
		x.stays(3*time.Second, pid)
		to.LinkUp()
		x.stays(8*time.Second, pid)
		x.healthy(from.Name)

		t.Log("the hub's cable is out: what runs ends, and begins again somewhere")
		home.Hub.LinkDown()
		if home.external != nil {
			home.external.host.LinkDown()
		}
		eventually(t, "it has ended without the hub", func() bool { return !alive(pid) && len(guardsOf(from.Host)) == 0 })
		home.Hub.LinkUp()
		if home.external != nil {
			home.external.host.LinkUp()
		}
		from, _, pid = x.begins(3)
		x.healthy(from.Name)

		t.Log("the agent hangs: the guard ends it, and it begins elsewhere")
		x.agents[from.Name].Signal(syscall.SIGSTOP)
		hung := x.agents[from.Name]
		from, _, pid = x.begins(4)
		hung.Signal(syscall.SIGCONT)
		x.stays(3*time.Second, pid)
		x.healthy(from.Name)

		t.Log("the agent is told to stop: it ends at once, and begins elsewhere soon")
		told := time.Now()
		x.agents[from.Name].Stop()
		if alive(pid) {
			t.Errorf("process %d outlives its agent's SIGTERM", pid)
		}
		from, to, pid = x.begins(5)
		t.Logf("began elsewhere %v after its agent was told to stop", time.Since(told).Round(10*time.Millisecond))
		x.agents[to.Name] = to.Start()
		x.stays(3*time.Second, pid)

		t.Log("agent and guard are killed: the next agent stops it, and it begins again")
		x.agents[from.Name].Kill()
		for _, g := range guardsOf(from.Host) {
			kill(t, g)
		}
		x.agents[from.Name] = from.Start()
		from, _, pid = x.begins(6)

		t.Log("power cut")
		from.PowerCut()
		_, _, pid = x.begins(7)
		from.LinkUp()
		from.Start()
		x.stays(3*time.Second, pid)

		var epoch, generation uint64
		for _, b := range x.beginnings() {
			var e, g uint64
			if n, _ := fmt.Sscanf(b[1], "%d.%d", &e, &g); n != 2 || e < epoch || e == epoch && g < generation {
				t.Errorf("the fence %q follows %d.%d: %v", b[1], epoch, generation, x.beginnings())
			}
			epoch, generation = e, g
		}
		for _, e := range x.o.Since(Mark{}) {
			if strings.HasSuffix(e.Topic, "/lease") && e.Retain {
				t.Errorf("a lease is retained: %v", e)
			}
		}
		if !x.saw(topics.ServiceFenced) {
			t.Error("no event service_fenced")
		}
	})
}

func (x *exclusiveHome) saw(kind topics.EventType) bool {
	for _, o := range x.all {
		for _, m := range o.Since(Mark{}) {
			if m.Topic == "dominion/hub/event" && strings.Contains(m.Payload, string(kind)) {
				return true
			}
		}
	}
	return false
}

// The figures of the documentation: with the defaults.
func TestExclusiveFailoverByDefault(t *testing.T) {
	home := onEmbedded(t)
	x := newExclusiveHome(t, home, "", "")
	began := time.Now()
	from, _, _ := x.begins(1)
	t.Logf("began %v after the hub was ready", time.Since(began).Round(10*time.Millisecond))
	x.healthy(from.Name)
	cut := time.Now()
	from.PowerCut()
	x.begins(2)
	took := time.Since(cut)
	t.Logf("began elsewhere %v after the power cut", took.Round(10*time.Millisecond))
	if took < 19*time.Second || took > 30*time.Second {
		t.Errorf("it took %v, documented are 21 s", took)
	}
}
