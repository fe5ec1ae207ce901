package simulation

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/agent/supervisor"
)

// guards are those of a machine: played processes beside the played processes
// of exclusive services. They live on when the agent ends, and die with the
// power.
type guards struct {
	m *machine

	mu  sync.Mutex
	all map[string]*guard // by token
}

type guard struct {
	*guards
	service, token string
	term           supervisor.Term
	kill           time.Duration // as the agent ordered; 0: it did not
	pid            int           // of the life, once it has begun
	lost           func()        // nil: no agent listens
}

// Now is the time since the machine's boot.
func (g *guards) Now() time.Duration {
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	return time.Since(g.m.booted)
}

func (g *guards) Start(t supervisor.Term, service, token string, lost func()) (supervisor.Guard, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all[token] != nil {
		return nil, errors.New("there is one")
	}
	one := &guard{guards: g, service: service, token: token, term: t, lost: lost}
	g.all[token] = one
	one.arm()
	return one, nil
}

func (g *guards) Find(token string, lost func()) (supervisor.Guard, supervisor.Term, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.all[token]
	if one == nil {
		return nil, supervisor.Term{}, errors.New("there is none")
	}
	one.lost = lost
	return one, one.term, nil
}

func (g *guards) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, one := range g.all {
		one.lost = nil
	}
}

// kill ends a guard, and its listener is called. It reports whether there was one.
func (g *guards) kill() bool {
	g.mu.Lock()
	var lost func()
	was := len(g.all) > 0
	for token, one := range g.all {
		lost = one.lost
		delete(g.all, token)
		break
	}
	g.mu.Unlock()
	if lost != nil {
		g.m.home.busy.Go(lost)
	}
	return was
}

// forget is the end of the machine's power, or of a life.
func (g *guards) forget(token string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if token == "" {
		clear(g.all)
	}
	delete(g.all, token)
}

// arm waits for what is due next. The mutex is held.
func (g *guard) arm() {
	now := g.Now()
	next := g.term.Until
	if now >= next {
		next += g.term.Stop
	}
	if g.kill > 0 {
		next = min(next, g.kill)
	}
	time.AfterFunc(max(next-now, time.Microsecond), g.due)
}

// due does what is due: the lease is over.
func (g *guard) due() {
	g.mu.Lock()
	if g.all[g.token] != g {
		g.mu.Unlock()
		return
	}
	now := g.Now()
	over := now >= g.term.Until
	kill := now >= g.term.Until+g.term.Stop || g.kill > 0 && now >= g.kill
	pid, told := g.pid, g.kill > 0
	if !kill {
		g.arm()
	}
	g.mu.Unlock()
	switch {
	case pid == 0:
	case kill:
		g.m.signal(pid, syscall.SIGKILL)
	case over && !told:
		g.m.home.logf("the guard of %s on %s ends it: its lease is over", g.service, g.m.name)
		g.m.signal(pid, syscall.SIGTERM)
	}
}

func (g *guard) Lease(t supervisor.Term) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.Now() < g.term.Until { // one that was over stays so
		g.term = supervisor.Term{Until: max(g.term.Until, t.Until), Stop: t.Stop}
	}
}

func (g *guard) Life(group supervisor.Group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pid = group.PID
}

func (g *guard) Ends(kill time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.m.dead() {
		return
	}
	g.kill = kill
	g.arm()
}

func (g *guard) Void() { g.forget(g.token) }

func (g *guard) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lost = nil
}
