package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// testNetwork is a network of brokers, with a hub played by the test behind each,
// and what zeroconf would find in it. It lives in a synctest bubble.
type testNetwork struct {
	t   *testing.T
	log logBuffer

	mu        sync.Mutex
	brokers   map[string]*hub
	lines     []net.Conn
	found     []zeroconf.Found
	announced []zeroconf.Service // right now
}

func inTestNetwork(t *testing.T, test func(h *testNetwork)) {
	t.Helper()
	h := &testNetwork{brokers: make(map[string]*hub)}
	defer func() {
		if t.Failed() {
			t.Log("the agents' log:\n" + h.log.String())
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		h.t = t
		// Time stands still for what is left when the bubble's root is gone: a
		// connection that broke ends for good within its timeout.
		t.Cleanup(func() { time.Sleep(10 * time.Second) })
		test(h)
	})
}

// hub is a broker and the test's side of the conversation.
type hub struct {
	*broker.Broker
	h    *testNetwork
	addr string
	tree topics.Tree

	mu     sync.Mutex
	id     string
	epoch  uint64
	answer func(topics.HubRequest) (topics.Reply, bool)
	common bool // it answers at the verb's topic, whatever an asker names
	// adopts answers those that ask for adoption; nil: they get no answer.
	adopts *adopter
	// secure is the TLS of its broker; nil: it has none.
	secure   *tls.Config
	received []topics.Message
	// lastEvents are the numbers of the last events, by session.
	lastEvents map[string]uint64
	retired    bool
}

const hubAddr = "192.0.2.1:1883"

// hub brings up a broker with a hub that grants every join.
func (h *testNetwork) hub(addr, id string, epoch uint64) *hub {
	h.t.Helper()
	b, err := broker.New(broker.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		h.t.Fatal(err)
	}
	u := &hub{Broker: b, h: h, addr: addr, tree: topics.NewTree(""), id: id, epoch: epoch}
	u.answer = func(a topics.HubRequest) (topics.Reply, bool) {
		return topics.Accept(a.Transaction, topics.Grant{Dominion: id, Name: "home", Epoch: epoch}), true
	}
	if err := b.Subscribe("dominion/#", u.receive); err != nil {
		h.t.Fatal(err)
	}
	u.send(u.tree.Hub(topics.HubAvailability), topics.Online, true)
	u.send(u.tree.Hub(topics.HubStatus), topics.Hub{ID: id, Name: "home", Protocol: topics.Protocol, Epoch: epoch}, true)
	h.mu.Lock()
	h.brokers[addr] = u
	h.mu.Unlock()
	h.t.Cleanup(u.gone)
	return u
}

// gone takes the broker from the network.
func (u *hub) gone() {
	u.mu.Lock()
	again := u.retired
	u.retired = true
	u.mu.Unlock()
	if again {
		return
	}
	u.h.mu.Lock()
	delete(u.h.brokers, u.addr)
	u.h.mu.Unlock()
	if err := u.Stop(context.Background()); err != nil {
		u.h.t.Error(err)
	}
}

func (u *hub) receive(m topics.Message) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.received = append(u.received, m)
	u.checkSigned(m)
	if a, ok := u.tree.Parse(m.Topic); ok && a.Kind == topics.Request && a.Verb == topics.VerbJoin {
		if adoption.IsAdoption(m.Payload) {
			u.adopts.receive(m)
			return
		}
		ask, err := topics.Decode[topics.HubRequest](m.Topic, m.Payload)
		if err != nil {
			u.h.t.Error(err)
		}
		if u.adopts != nil && u.adopts.joined[ask.ID] != nil {
			u.adopts.verify(m, ask)
		}
		if reply, answers := u.answer(ask); answers {
			payload := topics.Encode(reply)
			if u.adopts != nil {
				payload = u.adopts.sign(ask.ID, reply)
			}
			_, response := u.tree.Request(topics.VerbJoin)
			if ask.Response != "" && !u.common {
				response = ask.Response
			}
			u.Publish(topics.Message{Topic: response, Payload: payload, QoS: 1})
		}
	}
}

// checkSigned checks that an adopted domain signs its statuses, events and responses.
func (u *hub) checkSigned(m topics.Message) {
	a, _ := u.tree.Parse(m.Topic)
	if u.adopts == nil || len(u.adopts.joined) != 1 || a.Kind != topics.DomainStatus && a.Kind != topics.DomainEvent && a.Kind != topics.DomainResponse {
		return
	}
	for id, key := range u.adopts.joined {
		if !u.adopts.signs[id] {
			return
		}
		c := signed.Context{Kind: a.Kind.SignedKind(), Dominion: u.adopts.dominion(), Domain: id}
		payload, err := signed.Verify(key, c, m.Payload)
		if err != nil {
			u.h.t.Errorf("%s: %v: %s", m.Topic, err, m.Payload)
		}
		if a.Kind != topics.DomainEvent {
			continue
		}
		e, err := topics.Decode[topics.Event](m.Topic, payload)
		if last := u.lastEvents[e.Session]; err != nil || e.Session == "" || e.Seq <= last {
			u.h.t.Errorf("event %d of session %q follows %d, %v", e.Seq, e.Session, last, err)
		}
		if u.lastEvents == nil {
			u.lastEvents = make(map[string]uint64)
		}
		u.lastEvents[e.Session] = e.Seq
	}
}

// send publishes: a string as it is, anything else as JSON.
func (u *hub) send(topic string, payload any, retain bool) {
	b, isText := payload.(string)
	if !isText {
		b = string(topics.Encode(payload))
	}
	u.Publish(topics.Message{Topic: topic, Payload: []byte(b), QoS: 1, Retain: retain})
	synctest.Wait()
}

// domain publishes on a topic of the domain "pi".
func (u *hub) domain(k topics.Kind, payload any) { u.send(u.tree.Domain(k, "pi"), payload, false) }

// of returns what was received on a topic of the domain "pi" so far.
func (u *hub) of(k topics.Kind) []string {
	synctest.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []string
	for _, m := range u.received {
		if m.Topic == u.tree.Domain(k, "pi") {
			all = append(all, string(m.Payload))
		}
	}
	return all
}

func (u *hub) forget() {
	synctest.Wait()
	u.mu.Lock()
	u.received = nil
	u.mu.Unlock()
}

// last decodes the last payload on a topic of the domain "pi".
func last[T any](u *hub, k topics.Kind) T {
	u.h.t.Helper()
	var v T
	all := u.of(k)
	if len(all) == 0 {
		u.h.t.Fatalf("nothing on %s", u.tree.Domain(k, "pi"))
	}
	if err := json.Unmarshal([]byte(all[len(all)-1]), &v); err != nil {
		u.h.t.Fatal(err)
	}
	return v
}

// events returns type and message of the events so far.
func (u *hub) events() []string {
	var all []string
	for _, s := range u.of(topics.DomainEvent) {
		var e topics.Event
		if err := json.Unmarshal([]byte(s), &e); err != nil {
			u.h.t.Fatal(err)
		}
		all = append(all, string(e.Type)+": "+e.Message)
	}
	return all
}

func (u *hub) receivedEvent(kind topics.EventType, part string) bool {
	return slices.ContainsFunc(u.events(), func(s string) bool {
		return strings.HasPrefix(s, string(kind)+": ") && strings.Contains(s, part)
	})
}

func (h *testNetwork) dial(_ context.Context, addr string) (net.Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.brokers[addr]
	if u == nil {
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	ours, theirs := net.Pipe()
	h.lines = append(h.lines, theirs)
	if u.secure != nil {
		theirs = tls.Server(theirs, u.secure)
	}
	u.Serve(theirs)
	return ours, nil
}

// cut ends every connection, as a pulled plug.
func (h *testNetwork) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.lines {
		c.Close()
	}
	h.lines = nil
}

func (h *testNetwork) browse(ctx context.Context, _ []string, serviceType string, window time.Duration) ([]zeroconf.Found, error) {
	if serviceType != zeroconf.TypeDominion {
		h.t.Errorf("browsed for %s", serviceType)
	}
	select {
	case <-ctx.Done():
	case <-time.After(window):
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.found, nil
}

// found returns what zeroconf finds of a dominion at some addresses.
func found(id, name, addresses string) zeroconf.Found {
	f := zeroconf.Found{
		Instance: name, Port: 1883,
		Text: map[string]string{"id": id, "name": name, "version": "1.0.0", "protocol": topics.Protocol, "tls": "0", "prefix": "dominion"},
	}
	for a := range strings.FieldsSeq(addresses) {
		f.Addresses = append(f.Addresses, netip.MustParseAddr(a))
	}
	return f
}

func (h *testNetwork) finds(all ...zeroconf.Found) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.found = all
}

func (h *testNetwork) announce(ctx context.Context, _ []string, _ *slog.Logger, all ...zeroconf.Service) error {
	h.mu.Lock()
	h.announced = all
	h.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock()
	h.announced = nil
	h.mu.Unlock()
	return nil
}

func (h *testNetwork) announces() []zeroconf.Service {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.announced
}

// running is an agent that runs.
type running struct {
	*Agent
	h      *testNetwork
	cancel context.CancelFunc
	done   chan error
	runner *runner
	facts  *machineFacts
	dir    string
}

// agent starts one named "pi" that knows the hub's address, on a disk with
// the services web and lamp.
func (h *testNetwork) agent(dir string, change ...func(*Options)) *running {
	h.t.Helper()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // services of root's agent are not root
		h.t.Fatal(err)
	}
	for _, s := range []string{"web", "lamp"} {
		path := filepath.Join(dir, "services", s)
		if err := errors.Join(os.MkdirAll(path, 0o755), os.WriteFile(filepath.Join(path, "Makefile"), []byte("run:\n"), 0o644)); err != nil {
			h.t.Fatal(err)
		}
	}
	r := &running{
		h: h, done: make(chan error, 1), dir: dir,
		runner: &runner{groups: make(map[int]func(supervisor.Exit))},
		facts:  &machineFacts{address: "192.0.2.7", rows: []topics.CatalogRow{{Service: "lamp"}, {Service: "web", Version: "1.2.0"}}},
	}
	o := Options{
		Config: config.Domain{
			Name: "pi", Traits: []string{"compute"}, Hub: hubAddr, Zeroconf: config.Zeroconf{Enabled: true},
			ServicesDir: filepath.Join(dir, "services"), DataDir: filepath.Join(dir, "data"),
		},
		Version: "1.0.0", Log: slog.New(slog.NewTextHandler(&h.log, nil)),
		Dial: h.dial, Browse: h.browse, Announce: h.announce, Runner: r.runner, Facts: r.facts,
		Keyless: true, // but for the tests of adoption
	}
	for _, c := range change {
		c(&o)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	r.Agent = New(o)
	go func() { r.done <- r.Run(ctx) }()
	h.t.Cleanup(r.stop)
	return r
}

// stop is SIGTERM. It waits until the agent has ended.
func (r *running) stop() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	if err := <-r.done; err != nil {
		r.h.t.Errorf("Run: %v", err)
	}
}

// id is the agent's, as its disk has it.
func (r *running) id() string {
	b, err := os.ReadFile(filepath.Join(r.dir, "data", "id"))
	if err != nil {
		r.h.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// command returns a start command for the agent.
func (r *running) command(dominion string, epoch, generation uint64, names ...string) topics.StartCommand {
	c := topics.StartCommand{
		Dominion: dominion, Domain: r.id(), Epoch: epoch, Generation: generation,
		Timing: config.DefaultTiming(), Services: make(map[string]topics.Spec),
	}
	for _, n := range names {
		c.Services[n] = topics.Spec{
			Revision: "r1", Port: 8080 + len(n),
			Restart:      topics.RestartPolicy{Policy: topics.RestartAlways, Delay: topics.Seconds(time.Second), MaxDelay: topics.Seconds(time.Minute)},
			StartTimeout: topics.Seconds(2 * time.Minute), StopTimeout: topics.Seconds(10 * time.Second),
		}
	}
	return c
}

// machineFacts is a machine that the test describes.
type machineFacts struct {
	mu       sync.Mutex
	address  string
	rows     []topics.CatalogRow
	problems []string
}

func (f *machineFacts) Catalog() ([]topics.CatalogRow, []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	problems := f.problems
	f.problems = nil
	return f.rows, problems
}

func (f *machineFacts) Addresses() (string, []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.address, []string{f.address}
}

func (f *machineFacts) Metrics(now time.Time, groups map[string]int) topics.Metrics {
	m := topics.Metrics{At: topics.At(now), Load1: 0.5, Services: map[string]topics.Usage{}}
	for s := range groups {
		m.Services[s] = topics.Usage{CPU: 0.1, Memory: 1 << 20}
	}
	return m
}

// runner plays processes: they run until they are requested to stop.
type runner struct {
	mu      sync.Mutex
	started []string // directories, in order
	last    supervisor.Command
	groups  map[int]func(supervisor.Exit)

	stubborn bool          // only SIGKILL ends them
	slow     time.Duration // what a start takes
}

func (r *runner) Start(c supervisor.Command, onExit func(supervisor.Exit)) (supervisor.Group, error) {
	time.Sleep(r.slow)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = append(r.started, filepath.Base(c.Dir))
	r.last = c
	pid := 1000 + len(r.started)
	r.groups[pid] = onExit
	return supervisor.Group{PID: pid, Started: uint64(pid)}, nil
}

func (r *runner) Signal(g supervisor.Group, s syscall.Signal) {
	r.mu.Lock()
	onExit := r.groups[g.PID]
	if r.stubborn && s != syscall.SIGKILL {
		onExit = nil
	} else {
		delete(r.groups, g.PID)
	}
	r.mu.Unlock()
	if onExit != nil {
		go onExit(supervisor.Exit{Signal: s, Known: true})
	}
}

func (r *runner) starts() string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.started, " ")
}

func (r *runner) living() int {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.groups)
}

func (r *runner) Adopt(supervisor.Group, string, func(supervisor.Exit)) bool { return false }
func (r *runner) Lives(string) []supervisor.Life                             { return nil }
func (r *runner) Check(context.Context, supervisor.Command) error            { return nil }
func (r *runner) Boot() string                                               { return "boot" }
func (r *runner) Close()                                                     {}

// logBuffer collects a log of many goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) count(part string) int { return strings.Count(l.String(), part) }
