package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/agent"
	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// machine is a host of the home: its disk, its processes and, while that runs,
// its agent. It is the agent's Runner and Facts: processes live on when the
// agent ends, and die with the power.
type machine struct {
	home   *home
	name   string
	traits []string
	// adoption and token are as in its domain.toml; token is the content of its token_file.
	adoption, token string
	dir             string
	log             *journal
	runs            uint64       // of its agent
	clock           atomic.Int64 // how far its wall clock is from the truth, a time.Duration

	guards *guards

	mu      sync.Mutex
	boot    int
	booted  time.Time
	lastPID int
	procs   map[int]*process
	ghosts  map[int]*process // as an agent saw them that is dead and does not know it; nil: none is
	starts  map[string]int   // of each service, since the machine was made
	catalog map[string]string
	ills    map[string]illness

	stopAgent func() // nil while no agent runs
	dying     sync.WaitGroup
}

// illness is what is wrong with a service on a machine.
type illness struct {
	crash    time.Duration // it ends by itself after so long; 0: it does not
	sick     bool          // its health check fails
	stubborn bool          // it ignores SIGTERM
	lazy     time.Duration // it takes so long to end
}

type process struct {
	service, version, token string
	env                     map[string]string
	onExit                  func(supervisor.Exit)
}

func newMachine(h *home, name string) *machine {
	m := &machine{
		home: h, name: name, traits: traitsOf(name), dir: filepath.Join(h.dir, name), log: new(journal),
		procs: make(map[int]*process), starts: make(map[string]int), catalog: make(map[string]string), ills: make(map[string]illness),
		booted: time.Now(),
	}
	m.guards = &guards{m: m, all: make(map[string]*guard)}
	return m
}

func (m *machine) data() string { return filepath.Join(m.dir, "data") }

// install puts a service on the disk, in a version.
func (m *machine) install(service, version string) {
	if builtIn(service) {
		return
	}
	dir := filepath.Join(m.dir, "services", service)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.home.Fatal(err)
	}
	text := fmt.Sprintf("version = %q\ncommand = [\"true\"]\nhealth = { command = [\"true\"], interval = \"%v\" }\n", version, max(5*time.Second, m.home.catalogInterval))
	if err := os.WriteFile(filepath.Join(dir, "service.toml"), []byte(text), 0o644); err != nil {
		m.home.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.catalog[service] = version
}

func (m *machine) remove(service string) {
	if err := os.RemoveAll(filepath.Join(m.dir, "services", service)); err != nil {
		m.home.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.catalog, service)
}

func (m *machine) Start(c supervisor.Command, tell func(supervisor.Exit)) (supervisor.Group, error) {
	env := make(map[string]string)
	for _, kv := range c.Env {
		name, v, _ := strings.Cut(kv, "=")
		env[name] = v
	}
	p := &process{service: env["SERVICE_NAME"], version: env["SERVICE_VERSION"], token: env["DOMINION_INSTANCE"], env: env, onExit: tell}
	m.home.laws.started(m, p)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastPID++
	pid := m.lastPID
	m.procs[pid] = p
	m.starts[p.service]++
	if after := m.ills[p.service].crash; after > 0 {
		time.AfterFunc(after, func() { m.end(pid, supervisor.Exit{Code: 1, Known: true}) })
	}
	return supervisor.Group{PID: pid, Started: uint64(pid)}, nil
}

func (m *machine) Adopt(g supervisor.Group, token string, tell func(supervisor.Exit)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.procs[g.PID]; p != nil && p.token == token {
		p.onExit = tell
		return true
	}
	for pid, p := range m.procs {
		if p.token == token { // in no group that is known: it is ended
			delete(m.procs, pid)
		}
	}
	return false
}

func (m *machine) Lives(string) []supervisor.Life {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []supervisor.Life
	for pid, p := range m.procs {
		all = append(all, supervisor.Life{
			Token: p.token, Group: supervisor.Group{PID: pid, Started: uint64(pid)}, UID: os.Getuid(),
			Env: p.env, Args: []string{"true"},
		})
	}
	return all
}

func (m *machine) Signal(g supervisor.Group, s syscall.Signal) {
	m.mu.Lock()
	p, ghost, dead := m.procs[g.PID], m.ghosts[g.PID], m.ghosts != nil
	m.mu.Unlock()
	if dead { // it ends nothing any more, and shall not wait for it
		if ghost != nil && ghost.onExit != nil {
			m.home.busy.Go(func() { ghost.onExit(supervisor.Exit{Signal: s, Known: true}) })
		}
		return
	}
	if p != nil && s == syscall.SIGTERM {
		m.home.laws.stopped(m, p)
	}
	m.signal(g.PID, s)
}

// signal is what a process does about a signal.
func (m *machine) signal(pid int, s syscall.Signal) {
	m.mu.Lock()
	p := m.procs[pid]
	var ill illness
	if p != nil {
		ill = m.ills[p.service]
	}
	m.mu.Unlock()
	exit := supervisor.Exit{Signal: s, Known: true}
	switch {
	case p == nil:
	case s == syscall.SIGKILL:
		m.end(pid, exit)
	case s != syscall.SIGTERM, ill.stubborn:
	case ill.lazy > 0:
		time.AfterFunc(ill.lazy, func() { m.end(pid, exit) })
	default:
		m.end(pid, exit)
	}
}

// end ends a process.
func (m *machine) end(pid int, e supervisor.Exit) {
	m.mu.Lock()
	var tell func(supervisor.Exit)
	p := m.procs[pid]
	if p != nil {
		tell = p.onExit // Adopt and Close change it
	}
	delete(m.procs, pid)
	m.mu.Unlock()
	if p != nil {
		m.guards.forget(p.token)
	}
	if tell != nil { // whoever watches it
		m.home.busy.Go(func() {
			m.moment(p.service, "end")
			tell(e)
		})
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

// moment passes, another one for each service: what ends together is reported one
// after the other, in an order that is the same each time.
func (m *machine) moment(words ...string) {
	time.Sleep(time.Duration(m.home.random(0, append(words, m.name)...) % uint64(time.Millisecond)))
}

func (m *machine) Check(_ context.Context, c supervisor.Command) error {
	service := ""
	for _, kv := range c.Env {
		if v, ok := strings.CutPrefix(kv, "SERVICE_NAME="); ok {
			service = v
		}
	}
	m.moment(service, "check")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ills[service].sick {
		return errors.New("it is sick")
	}
	return nil
}

func (m *machine) setIllness(service string, ill illness) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ills[service] = ill
}

func (m *machine) heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.ills)
}

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
		p.onExit = nil
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
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []topics.CatalogRow
	for _, name := range slices.Sorted(maps.Keys(m.catalog)) {
		rows = append(rows, topics.CatalogRow{Service: name, Version: m.catalog[name]})
	}
	return rows, nil
}

// status is what the machine really offers.
func (m *machine) status() topics.Domain {
	rows, _ := m.Catalog()
	return topics.Domain{Name: m.name, Traits: m.traits, Catalog: rows}
}

func (m *machine) Addresses() (string, []string) { return "192.0.2.7", []string{"192.0.2.7"} }

func (m *machine) Metrics(now time.Time, _ map[string]int) topics.Metrics {
	return topics.Metrics{At: topics.At(now)}
}

// becomes gives the machine other traits: its owner plugs a stick in, writes it
// into domain.toml and restarts the agent, if that runs.
func (m *machine) becomes(traits ...string) {
	if slices.Equal(traits, m.traits) {
		return
	}
	was := m.stopAgent != nil
	if was {
		m.stop()
	}
	if m.traits = traits; was {
		m.power()
	}
}

// power starts the agent, as the machine's boot or systemd does.
func (m *machine) power() {
	m.dying.Wait()
	m.home.net.restore(m)
	o := agent.Options{
		Keyless: !m.home.adopting,
		Config: config.Domain{
			Name: m.name, Traits: m.traits, Hub: "192.0.2.1:1883", Zeroconf: config.Zeroconf{Enabled: true},
			ServicesDir: filepath.Join(m.dir, "services"), DataDir: m.data(),
		},
		Version: "test", Log: slog.New(slog.NewTextHandler(m.log, nil)),
		Runner: m, Guards: m.guards, Facts: m, MinPollInterval: m.home.catalogInterval, Random: m.random(),
		Browse: func(context.Context, []string, string, time.Duration) ([]zeroconf.Found, error) { return nil, nil },
		Announce: func(ctx context.Context, _ []string, _ *slog.Logger, _ ...zeroconf.Service) error {
			<-ctx.Done()
			return nil
		},
	}
	m.configureAdoption(&o.Config)
	m.home.net.reach(m, &o)
	a := agent.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	var alive sync.WaitGroup
	alive.Go(func() {
		if err := a.Run(ctx); err != nil {
			m.home.Errorf("the agent of %s: %v", m.name, err)
		}
	})
	m.stopAgent = func() { cancel(); alive.Wait() }
}

// random draws the lots of one run of the agent, which asks several hubs at once.
func (m *machine) random() func(time.Duration) time.Duration {
	m.runs++
	var n atomic.Uint64
	n.Store(m.runs << 32)
	return func(limit time.Duration) time.Duration {
		return time.Duration(m.home.random(n.Add(1), "agent", m.name) % uint64(limit))
	}
}

// stop ends the agent and waits until it has disconnected.
func (m *machine) stop() {
	stop := m.stopAgent
	m.stopAgent = nil
	stop()
}

// kill ends the agent as kill -9 does: the kernel closes its connections, so
// it cannot publish anything.
func (m *machine) kill() {
	m.home.net.reset(m)
	m.home.net.cut(m, true, true)
	synctest.Wait()
	m.setGhosts(true)
	m.stop()
	m.setGhosts(false)
	m.home.net.restore(m)
}

// dead reports whether the agent is.
func (m *machine) dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ghosts != nil
}

// setGhosts begins and ends the time in which an agent is dead and has yet to end:
// its signals do not reach processes and guards.
func (m *machine) setGhosts(begins bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ghosts = nil; begins {
		m.ghosts = make(map[int]*process)
		for pid, p := range m.procs {
			ghost := *p
			m.ghosts[pid] = &ghost
		}
	}
}

// cut ends the power: agent, processes, and nobody closes a connection. What
// was written without waiting for the disk is lost or broken.
func (m *machine) cut() {
	m.home.net.cut(m, true, true)
	m.setGhosts(true)
	m.mu.Lock()
	m.boot++
	m.booted = time.Now()
	clear(m.procs)
	boot := m.boot
	m.mu.Unlock()
	m.guards.forget("")
	stop := m.stopAgent
	m.stopAgent = nil
	m.dying.Go(func() { // it takes the rest of it some time to see that it is disconnected
		stop()
		m.setGhosts(false)
		m.damage(uint64(boot))
	})
}

// shiftRecords moves the moments that the agent wrote down.
func (m *machine) shiftRecords(by time.Duration) {
	files, _ := filepath.Glob(filepath.Join(m.data(), "instances", "*.json"))
	for _, file := range append(files, filepath.Join(m.data(), "command.json")) {
		if b, err := os.ReadFile(file); err == nil {
			_ = os.WriteFile(file, shifted(b, by), 0o600)
		}
	}
}

// damage does to the files that nobody synced what a power cut does.
func (m *machine) damage(n uint64) {
	files, _ := filepath.Glob(filepath.Join(m.data(), "instances", "*"))
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue
		}
		switch lot := m.home.random(n, "damage", file); lot % 4 {
		case 0:
			_ = os.Truncate(file, int64(lot>>8)%(info.Size()+1))
		case 1:
			_ = os.WriteFile(file, make([]byte, info.Size()), 0o600)
		case 2:
			_ = os.Remove(file)
		}
	}
	_ = os.WriteFile(filepath.Join(m.data(), "command.json.tmp"), []byte(`{"epoch": 99`), 0o600)
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
