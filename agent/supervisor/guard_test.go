package supervisor

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/topics"
)

// guarded is a service that runs under a lease.
func guarded(h *host, lease time.Duration, recipe string) topics.Spec {
	h.t.Helper()
	h.makefile("lock", recipe)
	s := spec("r1")
	s.Exclusive, s.StopTimeout = true, topics.Seconds(time.Second)
	h.apply(one("lock", s))
	if i := h.get("lock"); i.State != topics.Pending || !strings.Contains(i.Message, "lease") {
		h.t.Fatalf("without a lease: %+v", i)
	}
	h.lease(lease)
	return s
}

func (h *host) lease(d time.Duration) { h.s.Lease(h.s.Clock()+d, time.Now()) }

// guards are the processes that guard a service of this host.
func (h *host) guards(service string) []int {
	var all []int
	for _, pid := range procfs.Root.PIDs() {
		args := procfs.Root.Args(pid)
		if len(args) == 6 && args[1] == guardCommand && args[2] == service && h.token(args[3]) {
			if p, ok := procfs.Root.Stat(pid); ok && !p.Ended {
				all = append(all, pid)
			}
		}
	}
	return all
}

// token reports whether a guard is of a life of this host: each has its own.
func (h *host) token(token string) bool { return slices.Contains(h.tokens, token) }

// note keeps the token of the life that runs.
func (h *host) note(service string) {
	h.t.Helper()
	token := h.s.services[service].Run.Token
	if token == "" {
		h.t.Fatal("it has no life")
	}
	h.tokens = append(h.tokens, token)
}

func (h *host) noGuard(service string) {
	h.t.Helper()
	h.until("no guard is left", func() bool { return len(h.guards(service)) == 0 })
}

func since(began time.Time, least, most time.Duration, t *testing.T) {
	t.Helper()
	if took := time.Since(began); took < least || took > most {
		t.Errorf("it took %v, want %v to %v", took, least, most)
	}
}

func TestGuardedServiceRunsWhileItsLeaseIsRenewed(t *testing.T) {
	h := newHost(t)
	guarded(h, 2*time.Second, "exec sleep 100")
	h.untilState("lock", topics.Running)
	h.note("lock")
	if n := len(h.guards("lock")); n != 1 {
		t.Fatalf("%d guards", n)
	}
	pid := h.get("lock").PID
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		h.lease(2 * time.Second)
		next := time.Now().Add(200 * time.Millisecond)
		h.until("a while", func() bool { return time.Now().After(next) })
	}
	if i := h.get("lock"); i.PID != pid || i.State != topics.Running {
		t.Fatalf("%+v", i)
	}
	began := time.Now()
	h.untilState("lock", topics.Pending)
	since(began, time.Second, 4*time.Second, t)
	if h.reported(topics.ServiceFenced, "lock") != 1 || len(h.processes()) > 0 {
		t.Errorf("%v, processes %v", h.reports, h.processes())
	}
	h.noGuard("lock")
	h.lease(2 * time.Second)
	h.untilState("lock", topics.Running)
	h.note("lock")
	h.s.StopExclusive(time.Now())
	h.until("it has stopped", h.s.IdleExclusive)
	if i := h.get("lock"); i.State != topics.Stopped {
		t.Errorf("%+v", i)
	}
	h.noGuard("lock")
}

// The agent is away: the guard ends all of it alone, also what made a session
// of its own, what was paused, and what does not listen to SIGTERM.
func TestGuardEndsAllOfIt(t *testing.T) {
	h := newHost(t)
	guarded(h, 2*time.Second, `setsid sleep 100 & setsid sh -c 'trap "" TERM; sleep 100 & sleep 100 & wait' & sh -c 'kill -STOP $$' & exec sleep 100`)
	h.until("all of it runs", func() bool { return len(h.processes()) >= 6 })
	h.note("lock")
	began := time.Now()
	h.s.Close() // nobody renews, and nobody else would end it
	deadline := time.Now().Add(patienceTime)
	for len(h.processes()) > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	since(began, 2*time.Second, 5*time.Second, t)
	h.noneLeft()
	h.open()
	h.noGuard("lock")
}

// The next agent takes over: the guard sends it the end of the lease.
func TestGuardIsFoundByTheNextAgent(t *testing.T) {
	h := newHost(t)
	s := guarded(h, 10*time.Second, "exec sleep 100")
	h.untilState("lock", topics.Running)
	h.note("lock")
	pid, until, guards := h.get("lock").PID, h.s.Leased(), h.guards("lock")
	h.s.Close()
	h.open()
	h.s.Adopt(time.Now())
	h.apply(one("lock", s))
	if i := h.get("lock"); i.PID != pid || i.State != topics.Running {
		t.Fatalf("%+v\n%v", i, h.reports)
	}
	if h.s.Leased() != until || !slices.Equal(h.guards("lock"), guards) {
		t.Errorf("lease until %v, want %v; guards %v, want %v", h.s.Leased(), until, h.guards("lock"), guards)
	}
	h.lease(11 * time.Second)
	h.apply(nil)
	h.until("it has stopped", h.s.Idle)
	h.noGuard("lock")
}

// Without agent and guard the end of the lease is unknown.
func TestLifeWithoutAGuardIsStoppedByTheNextAgent(t *testing.T) {
	h := newHost(t)
	s := guarded(h, 100*time.Second, "exec sleep 100")
	h.untilState("lock", topics.Running)
	h.note("lock")
	guard := h.guards("lock")[0]
	h.s.Close()
	_ = syscall.Kill(guard, syscall.SIGKILL)
	h.noGuard("lock")
	h.open()
	h.s.Adopt(time.Now())
	h.apply(one("lock", s))
	h.untilState("lock", topics.Pending)
	if len(h.processes()) > 0 || h.s.Leased() != 0 {
		t.Errorf("processes %v, lease %v", h.processes(), h.s.Leased())
	}
}

// A guard that is killed is replaced, by one that ends it when the first would have.
func TestGuardIsReplaced(t *testing.T) {
	h := newHost(t)
	guarded(h, 3*time.Second, "exec sleep 100")
	began := time.Now()
	h.untilState("lock", topics.Running)
	h.note("lock")
	pid, guard := h.get("lock").PID, h.guards("lock")[0]
	_ = syscall.Kill(guard, syscall.SIGTERM) // refused
	_ = syscall.Kill(guard, syscall.SIGKILL)
	h.until("another guard is there", func() bool { g := h.guards("lock"); return len(g) == 1 && g[0] != guard })
	if i := h.get("lock"); i.PID != pid || i.State != topics.Running {
		t.Fatalf("%+v", i)
	}
	h.s.Close()
	deadline := time.Now().Add(patienceTime)
	for len(h.processes()) > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	since(began, 2500*time.Millisecond, 5*time.Second, t)
	h.open()
	h.noGuard("lock")
}

func TestGuardThatIsKilledAgainAndAgain(t *testing.T) {
	h := newHost(t)
	guarded(h, 100*time.Second, "exec sleep 100")
	h.untilState("lock", topics.Running)
	h.note("lock")
	h.until("it is stopped", func() bool {
		for _, g := range h.guards("lock") {
			_ = syscall.Kill(g, syscall.SIGKILL)
		}
		return h.reported(topics.ServiceFenced, "lock") > 0
	})
	h.apply(nil)
	h.until("nothing is left", h.s.Idle)
}

// A service that ends by itself is started again, with a guard of its own.
func TestGuardGoesWithItsLife(t *testing.T) {
	h := newHost(t)
	s := guarded(h, 100*time.Second, "exec sleep 100")
	s.Restart.Delay = 0
	h.apply(one("lock", s))
	h.untilState("lock", topics.Running)
	h.note("lock")
	first := h.guards("lock")
	_ = syscall.Kill(h.get("lock").PID, syscall.SIGKILL)
	h.until("it runs again", func() bool { return h.get("lock").Restarts == 1 && h.get("lock").State == topics.Running })
	h.until("the first guard has gone", func() bool { return len(h.guards("lock")) == 0 })
	h.note("lock")
	if g := h.guards("lock"); len(g) != 1 || g[0] == first[0] {
		t.Errorf("guards %v, before %v", g, first)
	}
	t.Logf("resident memory of a guard: %s", resident(h.guards("lock")[0]))
}

// resident is what a process needs for itself: what it shares with the agent,
// its program, is not counted.
func resident(pid int) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	var found []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "RssAnon") || strings.HasPrefix(line, "VmRSS") {
			found = append(found, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(found, ", ")
}

// What does not exist is not guarded, and a guard of nothing goes.
func TestGuardOfWhatCannotStart(t *testing.T) {
	h := newHost(t)
	h.write("services/lock/service.toml", "command = [\"./nothing\"]\n")
	h.write("services/lock/nothing", "#!/no/such/interpreter\n")
	if err := os.Chmod(h.dir+"/services/lock/nothing", 0o755); err != nil {
		t.Fatal(err)
	}
	s := spec("r1")
	s.Exclusive = true
	h.lease(100 * time.Second)
	h.apply(one("lock", s))
	if i := h.get("lock"); i.State != topics.Failed || !strings.Contains(i.Message, "cannot start") {
		t.Fatalf("%+v", i)
	}
	h.until("no guard is left", func() bool {
		for _, pid := range procfs.Root.PIDs() {
			if args := procfs.Root.Args(pid); len(args) == 6 && args[1] == guardCommand && args[2] == "lock" {
				if p, ok := procfs.Root.Stat(pid); ok && p.Parent == os.Getpid() {
					return false
				}
			}
		}
		return true
	})
}
