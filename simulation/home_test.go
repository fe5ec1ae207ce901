package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// home is a hub with its broker and the machines around it, in a bubble.
type home struct {
	*testing.T
	cfg      config.Dominion
	tree     topics.Tree
	log      *journal
	busy     sync.WaitGroup // processes that tell of their end
	machines map[string]*machine

	mu     sync.Mutex
	broker *broker.Broker // nil while the hub is down
	said   map[string]string
	story  []string

	stopHub func()
}

const dominionTOML = `
[services.lamp]
priority = "required"
traits = ["lamp"]
dependencies = ["orchestrator"]
[services.orchestrator]
dependencies = ["web"]
[services.web]
[services.monitor]
priority = "required"
`

// inHome runs a test in a home of a hub and the named machines, all running.
// Machines whose name begins with "lamp" offer the trait lamp.
func inHome(t *testing.T, names []string, test func(*home)) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "dominion.toml")
	if err := os.WriteFile(file, []byte(dominionTOML), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.LoadDominion(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DataDir = filepath.Join(dir, "hub")
	synctest.Test(t, func(t *testing.T) {
		h := &home{T: t, cfg: cfg, tree: topics.NewTree(""), log: new(journal), machines: make(map[string]*machine)}
		h.start()
		for _, name := range names {
			m := &machine{home: h, name: name, dir: filepath.Join(dir, name), log: new(journal), procs: make(map[int]*process), starts: make(map[string]int)}
			if len(name) >= 4 && name[:4] == "lamp" {
				m.traits = []string{"lamp"}
			}
			for _, s := range cfg.Services {
				h.install(m, s.Name)
			}
			h.machines[name] = m
			m.power()
		}
		defer h.end()
		test(h)
	})
}

func (h *home) install(m *machine, service string) {
	dir := filepath.Join(m.dir, "services", service)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte("run:\n\ttrue\n"), 0o644); err != nil {
		h.Fatal(err)
	}
}

func (h *home) end() {
	for _, m := range h.machines {
		m.plug()
		if m.stopAgent != nil {
			m.stop()
		}
		m.dying.Wait()
		m.mu.Lock()
		for _, l := range m.lines {
			l.kill()
		}
		m.mu.Unlock()
	}
	if h.stopHub != nil {
		h.stopHub()
	}
	h.busy.Wait()
	time.Sleep(time.Minute) // what is left of cut connections runs into its timeouts
	if h.Failed() {
		for _, s := range h.story {
			h.Log(s)
		}
		_, _ = h.log.WriteTo(os.Stderr)
		for _, m := range h.machines {
			fmt.Fprintln(os.Stderr, "--- agent of", m.name)
			_, _ = m.log.WriteTo(os.Stderr)
		}
	}
}

// start starts the hub after a power cut: its broker knows nothing any more.
func (h *home) start() {
	log := slog.New(slog.NewTextHandler(h.log, nil))
	b, err := broker.New(broker.Config{}, log)
	if err != nil {
		h.Fatal(err)
	}
	h.mu.Lock()
	h.broker, h.said = b, make(map[string]string)
	h.mu.Unlock()
	state, err := store.Open(h.cfg.DataDir, log)
	if err != nil {
		h.Fatal(err)
	}
	u := hub.New(hub.Options{Config: h.cfg, Version: "test", Store: state, Bus: b, Embedded: true, Log: log})
	if err := b.Subscribe("#", h.hear); err != nil {
		h.Fatal(err)
	}
	if err := u.Attach(b); err != nil {
		h.Fatal(err)
	}
	u.Connected()
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() { u.Run(ctx) })
	h.stopHub = func() {
		h.mu.Lock()
		h.broker = nil
		h.mu.Unlock()
		cancel()
		loop.Wait()
		if err := b.Stop(context.Background()); err != nil {
			h.Error(err)
		}
		h.stopHub = nil
	}
}

// serve hands a connection to the broker. false: there is none.
func (h *home) serve(c net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broker == nil {
		return false
	}
	h.broker.Serve(c)
	return true
}

func (h *home) hear(m topics.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said[m.Topic] = string(m.Payload)
	if m.Topic == h.tree.Hub(topics.HubEvent) {
		if e, err := topics.Decode[topics.Event](m.Topic, m.Payload); err == nil {
			h.tell("%s %s %s %s", e.Type, e.Domain, e.Service, e.Message)
		}
	}
}

// tell notes what happened, with the mutex held.
func (h *home) tell(format string, args ...any) {
	h.story = append(h.story, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// told counts the events of a type.
func (h *home) told(kind topics.EventType) (n int) {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.story {
		if _, event, _ := strings.Cut(line, " "); strings.HasPrefix(event, string(kind)+" ") {
			n++
		}
	}
	return n
}

func (h *home) last(topic string) string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.said[topic]
}

func (h *home) publish(topic, payload string, retain bool) {
	h.mu.Lock()
	b := h.broker
	h.mu.Unlock()
	b.Publish(topics.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: retain})
	synctest.Wait()
}

// where names the machines that run a service, twice where two processes do.
func (h *home) where(service string) string {
	synctest.Wait()
	var all []string
	for name, m := range h.machines {
		for range m.running(service) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return fmt.Sprint(all)
}

func (h *home) starts(service string) (n int) {
	for _, m := range h.machines {
		n += m.started(service)
	}
	return n
}

// within waits until a condition holds, looking each 10 ms of virtual time.
func (h *home) within(d time.Duration, what string, holds func() bool) {
	h.Helper()
	for end := time.Now().Add(d); ; time.Sleep(10 * time.Millisecond) {
		synctest.Wait()
		if holds() {
			return
		}
		if time.Now().After(end) {
			h.Fatalf("not within %v: %s", d, what)
		}
	}
}

// well tells whether the home runs as configured on the machines that are up.
func (h *home) well() bool {
	lamps := 0
	for _, m := range h.machines {
		if m.running("monitor") != 1 {
			return false
		}
		if len(m.traits) > 0 {
			lamps++
			if m.running("lamp") != 1 {
				return false
			}
		}
	}
	status, err := topics.Decode[topics.Hub]("", []byte(h.last(h.tree.Hub(topics.HubStatus))))
	wanted := len(h.machines) + lamps + 2
	return err == nil && status.Ready && status.Domains.Online == len(h.machines) &&
		status.Services == topics.ServiceCount{Wanted: wanted, Running: wanted} &&
		h.one("web") && h.one("orchestrator")
}

func (h *home) one(service string) bool {
	n := 0
	for _, m := range h.machines {
		n += m.running(service)
	}
	return n == 1
}
