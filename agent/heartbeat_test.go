package agent

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/agent/report"
	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/topics"
)

// hungRunner is a disk that does not answer: a start of web waits until it is
// thawed.
type hungRunner struct {
	*runner
	thawed chan struct{}
}

func (r hungRunner) Start(c supervisor.Command, onExit func(supervisor.Exit)) (supervisor.Group, error) {
	if filepath.Base(c.Dir) == "web" {
		<-r.thawed
	}
	return r.runner.Start(c, onExit)
}

// guardian plays the guards of exclusive services, and notes the lease that
// each of them knows of.
type guardian struct {
	mu    sync.Mutex
	until time.Duration
}

func (g *guardian) Now() time.Duration { return time.Duration(time.Now().UnixNano()) }
func (g *guardian) Close()             {}
func (g *guardian) Start(t supervisor.Term, _, _ string, _ func()) (supervisor.Guard, error) {
	g.Lease(t)
	return guardOf{g}, nil
}

func (g *guardian) Find(string, func()) (supervisor.Guard, supervisor.Term, error) {
	return guardOf{g}, supervisor.Term{}, nil
}

func (g *guardian) Lease(t supervisor.Term) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = max(g.until, t.Until)
}

func (g *guardian) left() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until - g.Now()
}

type guardOf struct{ *guardian }

func (guardOf) Life(supervisor.Group) {}
func (guardOf) Ends(time.Duration)    {}
func (guardOf) Void()                 {}

// grant answers the last heartbeat with a lease, as a hub does.
func (u *hub) grant(length time.Duration) {
	b := last[topics.Heartbeat](u, topics.DomainHeartbeat)
	u.domain(topics.DomainLease, topics.Lease{Epoch: 5, Session: b.Session, Seq: b.Seq, Seconds: length.Seconds()})
}

// A disk that does not answer for a minute delays what waits for it. The domain
// beats, its leases are renewed, nothing is ended, and an event reports it.
func TestHungDiskDelaysTheStepAlone(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		guards, hung := &guardian{}, hungRunner{thawed: make(chan struct{})}
		a := h.agent(t.TempDir(), func(o *Options) {
			hung.runner = o.Runner.(*runner)
			o.Runner, o.Guards = hung, guards
		})
		time.Sleep(time.Second)
		c := a.command("d1", 5, 1, "lamp")
		spec := c.Services["lamp"]
		spec.Exclusive = true
		c.Services["lamp"] = spec
		u.grant(10 * time.Second)
		u.domain(topics.DomainServicesSet, c)
		time.Sleep(3 * time.Second)
		u.grant(10 * time.Second)
		if a.runner.living() != 1 {
			t.Fatal("the exclusive service does not run")
		}
		c.Generation = 2
		c.Services["web"] = topics.Spec{Revision: "r1", StopTimeout: topics.Seconds(time.Second)}
		u.forget()
		u.domain(topics.DomainServicesSet, c) // the start waits
		for range 30 {
			time.Sleep(2 * time.Second)
			u.grant(10 * time.Second)
			if left := guards.left(); left < 5*time.Second {
				t.Fatalf("the guard's lease ends in %v", left)
			}
		}
		if n := len(u.of(topics.DomainHeartbeat)); n < 58 || n > 63 {
			t.Errorf("%d heartbeats in a minute", n)
		}
		if b := last[topics.Heartbeat](u, topics.DomainHeartbeat); b.Generation != 1 {
			t.Errorf("the command is said to be obeyed: %+v", b)
		}
		if !u.receivedEvent(topics.DomainProblem, "a disk of this domain does not answer") {
			t.Errorf("no event reports it: %q", u.events())
		}
		close(hung.thawed)
		time.Sleep(5 * time.Second)
		if a.runner.living() != 2 {
			t.Errorf("started %q", a.runner.starts())
		}
		if b := last[topics.Heartbeat](u, topics.DomainHeartbeat); b.Generation != 2 {
			t.Errorf("the heartbeat is %+v", b)
		}
		if events := strings.Join(u.events(), "\n"); strings.Contains(events, string(topics.ServiceFenced)) || strings.Contains(events, string(topics.ServiceCrashed)) {
			t.Errorf("events %s", events)
		}
	})
}

// SIGTERM is obeyed in a bounded time, whatever the disk does.
func TestHungDiskDoesNotKeepTheAgentFromEnding(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		hung := hungRunner{thawed: make(chan struct{})}
		r := h.agent(t.TempDir(), func(o *Options) {
			hung.runner = o.Runner.(*runner)
			o.Runner = hung
		})
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, r.command("d1", 5, 1, "web"))
		time.Sleep(time.Second)
		requested := time.Now()
		r.cancel()
		r.cancel = nil
		err := <-r.done
		if took := time.Since(requested); err == nil || took > abandonAfter+report.OfflineTimeout+2*time.Second {
			t.Errorf("it ended after %v with %v", took, err)
		}
		synctest.Wait()
		if got := u.of(topics.DomainAvailability); got[len(got)-1] != topics.Offline {
			t.Errorf("availability %q", got)
		}
		close(hung.thawed)
	})
}

// What runs and cannot be read on disk at present stays in the catalog: the hub
// has no reason to stop it or to move it.
func TestWhatRunsStaysInTheCatalog(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web"))
		time.Sleep(3 * time.Second)
		a.facts.mu.Lock()
		rows := a.facts.rows
		a.facts.rows = nil
		a.facts.mu.Unlock()
		time.Sleep(10 * time.Second)
		s := last[topics.Domain](u, topics.DomainStatus)
		if len(s.Catalog) != 1 || s.Catalog[0].Service != "web" || !strings.Contains(s.Services[0].Message, "cannot be read") {
			t.Errorf("catalog %+v, services %+v", s.Catalog, s.Services)
		}
		a.facts.mu.Lock()
		a.facts.rows = rows
		a.facts.mu.Unlock()
		time.Sleep(5 * time.Second)
		if s := last[topics.Domain](u, topics.DomainStatus); len(s.Catalog) != 2 || s.Services[0].Message != "" {
			t.Errorf("catalog %+v, services %+v", s.Catalog, s.Services)
		}
	})
}
