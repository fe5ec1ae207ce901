package simulation

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/agent"
	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// machine is a host of the home: its disk, its processes, its link and, while
// that runs, its agent. It is the agent's Runner and Facts: processes live on
// when the agent ends, and die with the power.
type machine struct {
	home   *home
	name   string
	traits []string
	dir    string
	log    *journal

	mu       sync.Mutex
	boot     int
	lastPID  int
	procs    map[int]*process
	starts   map[string]int // of each service, since the machine was made
	lines    []*end
	linkDown bool

	stopAgent func() // nil while no agent runs
	dying     sync.WaitGroup
}

type process struct {
	service, token string
	tell           func(supervisor.Exit)
}

func (m *machine) Start(c supervisor.Command, tell func(supervisor.Exit)) (supervisor.Group, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastPID++
	p := &process{tell: tell}
	for _, kv := range c.Env {
		if v, ok := strings.CutPrefix(kv, "SERVICE_NAME="); ok {
			p.service = v
		}
		if v, ok := strings.CutPrefix(kv, "DOMINION_INSTANCE="); ok {
			p.token = v
		}
	}
	m.procs[m.lastPID] = p
	m.starts[p.service]++
	return supervisor.Group{PID: m.lastPID, Started: uint64(m.lastPID)}, nil
}

func (m *machine) Adopt(g supervisor.Group, token string, tell func(supervisor.Exit)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.procs[g.PID]
	if p == nil || p.token != token {
		return false
	}
	p.tell = tell
	return true
}

func (m *machine) Lives(string) []supervisor.Life {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []supervisor.Life
	for pid, p := range m.procs {
		all = append(all, supervisor.Life{
			Token: p.token, Group: supervisor.Group{PID: pid, Started: uint64(pid)}, UID: os.Getuid(),
			Env: map[string]string{"SERVICE_NAME": p.service},
		})
	}
	return all
}

func (m *machine) Signal(g supervisor.Group, s syscall.Signal) {
	m.end(g.PID, supervisor.Exit{Signal: s, Known: true})
}

// end ends a process and tells whoever watches it.
func (m *machine) end(pid int, e supervisor.Exit) {
	m.mu.Lock()
	var tell func(supervisor.Exit)
	if p := m.procs[pid]; p != nil {
		tell = p.tell // Adopt and Close change it
	}
	delete(m.procs, pid)
	m.mu.Unlock()
	if tell != nil {
		m.home.busy.Go(func() { tell(e) })
	}
}

// crash ends every process of a service as a fault of its own.
func (m *machine) crash(service string) {
	m.mu.Lock()
	var pids []int
	for pid, p := range m.procs {
		if p.service == service {
			pids = append(pids, pid)
		}
	}
	m.mu.Unlock()
	for _, pid := range pids {
		m.end(pid, supervisor.Exit{Code: 1, Known: true})
	}
}

func (m *machine) Check(context.Context, supervisor.Command) error { return nil }

func (m *machine) Boot() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("%s-%d", m.name, m.boot)
}

// Close lets go: nobody watches the processes any more.
func (m *machine) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.procs {
		p.tell = nil
	}
}

// running counts the processes of a service.
func (m *machine) running(service string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.procs {
		if p.service == service {
			n++
		}
	}
	return n
}

func (m *machine) started(service string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.starts[service]
}

func (m *machine) Catalog() ([]topics.CatalogRow, []string) {
	var rows []topics.CatalogRow
	entries, _ := os.ReadDir(filepath.Join(m.dir, "services"))
	for _, e := range entries {
		rows = append(rows, topics.CatalogRow{Service: e.Name(), Version: "1.0.0"})
	}
	return rows, nil
}

func (m *machine) Addresses() (string, []string) { return "192.0.2.7", []string{"192.0.2.7"} }

func (m *machine) Metrics(now time.Time, _ map[string]int) topics.Metrics {
	return topics.Metrics{At: topics.At(now)}
}

// power starts the agent, as the machine's boot or systemd does.
func (m *machine) power() {
	m.dying.Wait()
	a := agent.New(agent.Options{
		Config: config.Domain{
			Name: m.name, Traits: m.traits, Hub: "192.0.2.1:1883",
			ServicesDir: filepath.Join(m.dir, "services"), DataDir: filepath.Join(m.dir, "data"),
		},
		Version: "test", Log: slog.New(slog.NewTextHandler(m.log, nil)),
		Dial: m.dial, Runner: m, Facts: m,
		Browse: func(context.Context, []string, string, time.Duration) ([]zeroconf.Found, error) { return nil, nil },
		Announce: func(ctx context.Context, _ []string, _ *slog.Logger, _ ...zeroconf.Service) error {
			<-ctx.Done()
			return nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var alive sync.WaitGroup
	alive.Go(func() {
		if err := a.Run(ctx); err != nil {
			m.home.Errorf("the agent of %s: %v", m.name, err)
		}
	})
	m.stopAgent = func() { cancel(); alive.Wait() }
}

// stop ends the agent and waits until it has said goodbye.
func (m *machine) stop() {
	stop := m.stopAgent
	m.stopAgent = nil
	stop()
}

// kill ends the agent as kill -9 does: the kernel closes its connections, so
// it cannot say anything to anybody.
func (m *machine) kill() {
	m.mu.Lock()
	down := m.linkDown
	m.linkDown = true
	for _, l := range m.lines {
		l.kill()
	}
	m.lines = nil
	m.mu.Unlock()
	synctest.Wait()
	m.stop()
	m.unplugged(down)
}

// cut ends the power: agent, processes, and nobody closes a connection.
func (m *machine) cut() {
	m.cutLines()
	m.mu.Lock()
	m.boot++
	clear(m.procs)
	m.mu.Unlock()
	stop := m.stopAgent
	m.stopAgent = nil
	m.dying.Go(stop) // it takes the rest of it some time to see that nobody hears it
}

func (m *machine) unplug() {
	m.unplugged(true)
	m.cutLines()
}

func (m *machine) plug() { m.unplugged(false) }

func (m *machine) unplugged(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.linkDown = down
}

func (m *machine) cutLines() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lines {
		l.cut()
	}
}

func (m *machine) dial(ctx context.Context, _ string) (net.Conn, error) {
	m.mu.Lock()
	down := m.linkDown
	m.mu.Unlock()
	if down {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs := connection()
	if !m.home.serve(theirs) {
		return nil, fmt.Errorf("connection refused")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, ours)
	return ours, nil
}

// journal keeps the end of a log, to be shown when a test fails.
type journal struct {
	mu   sync.Mutex
	text []byte
}

func (j *journal) Write(p []byte) (int, error) {
	const most = 64 << 10
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = append(j.text, p...)
	if len(j.text) > most {
		j.text = j.text[len(j.text)-most:]
	}
	return len(p), nil
}

func (j *journal) WriteTo(w io.Writer) (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, err := w.Write(j.text)
	return int64(n), err
}
