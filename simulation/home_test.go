package simulation

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/agent"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// home is a hub and the machines around it, in a bubble.
type home struct {
	*testing.T
	seed            uint64
	dir             string
	house           *ownerConfig
	cfg             config.Dominion
	tree            topics.Tree
	log             *journal
	net             network
	laws            *laws
	catalogInterval time.Duration  // agent.Options.Look
	adopting        bool           // as in options
	busy            sync.WaitGroup // processes whose end is to be reported
	machines        map[string]*machine
	gadgets         []*gadget

	mu     sync.Mutex
	events eventLog

	hub    *hub.Hub // nil while it is down
	bus    hub.Bus  // of its run
	endHub func(ending)
}

// network is what carries messages: the real broker with a wire to each
// machine, or a post office that hands them over.
type network interface {
	// open begins a run of the hub. What it publishes goes to the bus; it receives
	// from serve on.
	open() (bus hub.Bus, embedded bool)
	serve(u listener)
	// close ends the run; end ends the hub's loop and waits for it.
	close(end func(), how ending)
	// reach gives an agent its way to the broker.
	reach(m *machine, o *agent.Options)
	// cut drops everything to a machine, from it, or both, without an error.
	cut(m *machine, in, out bool)
	restore(m *machine)
	// reset ends the connections of a machine as its kernel does.
	reset(m *machine)
	publish(m topics.Message)
	last(topic string) string
	stop()
}

// listener is the hub as a network sees it.
type listener interface {
	Filters() []string
	Deliver(topics.Message)
	Connected()
	Disconnected()
	Will() topics.Message
}

// options are what makes one home different from another.
type options struct {
	seed            uint64
	machines        []string
	gadgets         map[string]string // what is built into each
	timing          string
	services        map[string][]string
	catalogInterval time.Duration
	network         func(*home) network
	// adopting has a hub with keys, and machines that are to be adopted; else nobody has keys.
	adopting bool
}

// inHome runs a test in a home, with everything running.
func inHome(t *testing.T, o options, test func(*home)) {
	t.Helper()
	dir := scratch(t)
	var whole io.Writer
	if *storyFile != "" {
		f, err := os.Create(*storyFile)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		whole = f
	}
	synctest.Test(t, func(t *testing.T) {
		h := &home{
			T: t, seed: o.seed, dir: dir, house: newOwnerConfig(o.timing, o.services), tree: topics.NewTree(""), log: new(journal),
			catalogInterval: o.catalogInterval, adopting: o.adopting, machines: make(map[string]*machine),
		}
		h.events.file = whole
		h.laws = newLaws(h)
		h.net = o.network(h)
		for _, name := range slices.Sorted(maps.Keys(o.gadgets)) {
			h.gadgets = append(h.gadgets, &gadget{home: h, name: name, service: o.gadgets[name]})
		}
		h.configure()
		h.start()
		for _, name := range o.machines {
			m := newMachine(h, name)
			for service := range o.services {
				m.install(service, "1.0.0")
			}
			h.machines[name] = m
		}
		for _, m := range h.all() {
			m.power()
		}
		for _, g := range h.gadgets {
			g.plug()
		}
		defer h.end()
		test(h)
	})
}

// scratch is a directory in memory where there is one: the simulation writes
// and syncs more than all homes together.
func scratch(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "simulation-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, d := range []string{dir, filepath.Dir(dir)} { // services of root's agents are not root
		if d != "/dev/shm" {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// all are the machines by name.
func (h *home) all() []*machine {
	var all []*machine
	for _, name := range slices.Sorted(maps.Keys(h.machines)) {
		all = append(all, h.machines[name])
	}
	return all
}

// random returns a number that depends on the seed and on what it is for alone, so
// that goroutines that run at the same moment do not change each other's luck.
func (h *home) random(n uint64, words ...string) uint64 {
	f := fnv.New64a()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], h.seed)
	binary.LittleEndian.PutUint64(b[8:], n)
	f.Write(b[:])
	for _, w := range words {
		f.Write([]byte(w))
		f.Write([]byte{0})
	}
	x := f.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

// end lets the home end. What is left of cut connections runs into its timeouts.
func (h *home) end() {
	for _, m := range h.all() {
		h.net.restore(m)
		if m.stopAgent != nil {
			m.stop()
		}
		m.dying.Wait()
		h.net.reset(m)
	}
	if h.endHub != nil {
		h.endHub(stopped)
	}
	h.net.stop()
	h.busy.Wait()
	time.Sleep(time.Minute)
	if h.Failed() {
		h.mu.Lock()
		h.Log(h.events.String())
		h.mu.Unlock()
		h.Logf("to see it again: go test ./simulation -run '^%s$' -seed %d -seeds 1", strings.SplitN(h.Name(), "/", 2)[0], h.seed)
		if testing.Verbose() {
			_, _ = h.log.WriteTo(os.Stderr)
			for _, m := range h.all() {
				fmt.Fprintln(os.Stderr, "--- agent of", m.name)
				_, _ = m.log.WriteTo(os.Stderr)
			}
		}
	}
}

// configure reads the configuration, and has a running hub take it over.
func (h *home) configure() {
	h.Helper()
	c, err := h.house.load(h.dir)
	if err != nil {
		h.Fatal(err)
	}
	h.cfg = c
	h.laws.define(definitions(c))
	if h.hub != nil {
		h.hub.Reload(c, nil)
	}
}

// start starts the hub.
func (h *home) start() {
	h.Helper()
	log := slog.New(slog.NewTextHandler(h.log, nil))
	state, err := store.Open(h.cfg.DataDir, log)
	if err != nil {
		h.Fatal(err)
	}
	h.laws.hubStarts(state.Overrides())
	bus, embedded := h.net.open()
	h.bus = bus
	if embedded {
		h.reconnect(2 * time.Second)
	}
	u := hub.New(hub.Options{Config: h.cfg, Version: "test", Store: state, Bus: busObserver{bus, h}, Embedded: embedded, Log: log, Keys: h.openKeys(state)})
	h.net.serve(hubObserver{u, h})
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() { u.Run(ctx) })
	h.hub = u
	h.endHub = func(how ending) {
		h.hub, h.endHub = nil, nil
		h.net.close(func() { cancel(); loop.Wait() }, how)
	}
}

// ending is how a program ends.
type ending int

const (
	stopped   ending = iota // as it was asked to
	killed                  // its kernel closes its connections
	unplugged               // nobody closes anything
)

func (e ending) String() string { return [...]string{"stopped", "killed", "unplugged"}[e] }

// stop ends the hub. What it would do at its end, one that was killed does not:
// its disk is as it was.
func (h *home) stop(how ending) {
	if how == stopped {
		h.endHub(how)
		return
	}
	kept := filepath.Join(h.dir, "kept")
	synctest.Wait() // nothing is being written beside the hub's loop
	h.copyDir(h.cfg.DataDir, kept)
	h.endHub(how)
	h.copyDir(kept, h.cfg.DataDir)
}

// copyDir makes to the same as from.
func (h *home) copyDir(from, to string) {
	h.Helper()
	if err := os.RemoveAll(to); err != nil {
		h.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		h.Fatal(err)
	}
}

// busObserver observes what the hub publishes.
type busObserver struct {
	hub.Bus
	home *home
}

func (s busObserver) Publish(m topics.Message) {
	s.home.laws.published(m)
	s.Bus.Publish(m)
}

// hubObserver observes what the hub receives.
type hubObserver struct {
	*hub.Hub
	home *home
}

func (l hubObserver) Deliver(m topics.Message) {
	l.home.laws.received(m)
	l.Hub.Deliver(m)
}

// logf records what happened.
func (h *home) logf(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events.add(fmt.Sprintf(format, args...))
}

// publish is a user who publishes something.
func (h *home) publish(topic, payload string, retain bool) {
	h.net.publish(topics.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: retain})
	synctest.Wait()
}

func (h *home) last(topic string) string {
	synctest.Wait()
	return h.net.last(topic)
}

// eventCount counts the events of a type.
func (h *home) eventCount(kind topics.EventType) int {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events.events[kind]
}

// where names the machines that run a service, twice where two processes do.
func (h *home) where(service string) string {
	synctest.Wait()
	var all []string
	for _, m := range h.all() {
		for range m.running(service) {
			all = append(all, m.name)
		}
	}
	return fmt.Sprint(all)
}

func (h *home) starts(service string) (n int) {
	for _, m := range h.machines {
		n += m.started(service)
	}
	return n
}

// within waits until a condition holds, looking often at first.
func (h *home) within(d time.Duration, what string, holds func() bool) {
	h.Helper()
	pause := 10 * time.Millisecond
	for began := time.Now(); ; time.Sleep(pause) {
		synctest.Wait()
		if holds() {
			return
		}
		if time.Since(began) > d {
			h.Fatalf("not within %v: %s\n%s", d, what, h.defects())
		}
		pause = max(pause, time.Since(began)/20)
	}
}

// eventLog is what happened, of which the end is stored.
type eventLog struct {
	lines  []string
	file   io.Writer // for all of it; nil: it is not wanted
	events map[topics.EventType]int
}

const eventLogLines = 400

func (s *eventLog) add(line string) {
	line = time.Now().Format("01-02 15:04:05.000 ") + line
	if s.file != nil {
		fmt.Fprintln(s.file, line)
	}
	s.lines = append(s.lines, line)
	if len(s.lines) > 2*eventLogLines {
		s.lines = append(s.lines[:0], s.lines[len(s.lines)-eventLogLines:]...)
	}
}

func (s *eventLog) event(e topics.Event) {
	if s.events == nil {
		s.events = make(map[topics.EventType]int)
	}
	s.events[e.Type]++
	s.add(fmt.Sprintf("  %s %s %s: %s", e.Type, e.Domain, e.Service, e.Message))
}

func (s *eventLog) String() string {
	return "what happened last:\n" + strings.Join(s.lines[max(0, len(s.lines)-eventLogLines):], "\n")
}
