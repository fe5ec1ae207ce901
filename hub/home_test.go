package hub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// home is a hub on its real broker inside a synctest bubble. Agents are
// scripted: they speak the topics and obey.
type home struct {
	*testing.T
	cfg     config.Dominion
	dataDir string
	broker  *broker.Broker
	hub     *hub.Hub
	stop    func()
	tree    topics.Tree
	busy    sync.WaitGroup // agents that obey

	mu        sync.Mutex
	retained  map[string]string
	published []string // topics, in the order of what was published
	events    []topics.Event
	before    []topics.Message     // what the broker has retained when the hub starts
	until     func() time.Time     // of the broker's certificate; nil: it has none
	untilWeb  func() time.Time     // of the certificate of HTTPS; nil: it has none
	open      func() bool          // whether everybody is let in beside users; nil: not
	answered  func(topics.Message) // sees every message; nil: nobody

	// setup changes what the hub starts with; nil: nothing.
	setup func(*store.Store, *hub.Options)
}

// inHome runs a test in a bubble with a hub that runs the given dominion.toml.
func inHome(t *testing.T, toml string, test func(*home)) {
	t.Helper()
	cfg := load(t, toml)
	cfg.DataDir = t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := &home{T: t, cfg: cfg, dataDir: cfg.DataDir, tree: topics.NewTree("")}
		h.start()
		defer h.busy.Wait()
		defer func() { h.stop() }()
		test(h)
	})
}

func load(t *testing.T, toml string) config.Dominion {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dominion.toml")
	if err := os.WriteFile(file, []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.LoadDominion(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// start starts hub and broker, as after a power cut: the broker knows nothing.
func (h *home) start() {
	h.Helper()
	log := slog.New(slog.DiscardHandler)
	b, err := broker.New(broker.Config{}, log)
	if err != nil {
		h.Fatal(err)
	}
	h.mu.Lock()
	h.retained = make(map[string]string)
	h.mu.Unlock()
	if err := b.Subscribe("#", h.note); err != nil {
		h.Fatal(err)
	}
	for _, m := range h.before {
		b.Publish(m)
	}
	synctest.Wait()
	state, err := store.Open(h.cfg.DataDir, log)
	if err != nil {
		h.Fatal(err)
	}
	h.broker = b
	var own hub.EmbeddedBroker
	if h.open != nil {
		own = ownBroker{open: h.open}
	}
	o := hub.Options{Broker: own, Config: h.cfg, Version: "test", Store: state, Bus: b, Embedded: true, Certificate: h.until, HTTPCertificate: h.untilWeb, Log: log}
	if h.setup != nil {
		h.setup(state, &o)
	}
	h.hub = hub.New(o)
	if err := h.hub.Attach(b); err != nil {
		h.Fatal(err)
	}
	h.hub.Connected()
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() { h.hub.Run(ctx) })
	h.stop = func() {
		cancel()
		loop.Wait()
		if err := b.Stop(context.Background()); err != nil {
			h.Error(err)
		}
	}
	synctest.Wait()
}

func (h *home) note(m topics.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.retained[m.Topic] = string(m.Payload)
	h.published = append(h.published, m.Topic)
	if h.answered != nil {
		h.answered(m)
	}
	if m.Topic == h.tree.Hub(topics.HubEvent) {
		if e, err := topics.Decode[topics.Event](m.Topic, m.Payload); err == nil {
			h.events = append(h.events, e)
		}
	}
}

// last returns the last payload of a topic.
func (h *home) last(topic string) string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.retained[topic]
}

// saw reports whether an event of a type was published.
func (h *home) saw(t topics.EventType) bool { return h.count(t) > 0 }

func (h *home) count(t topics.EventType) (n int) {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.Type == t {
			n++
		}
	}
	return n
}

// event returns the last event of a type.
func (h *home) event(t topics.EventType) topics.Event {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range slices.Backward(h.events) {
		if e.Type == t {
			return e
		}
	}
	h.Errorf("no event %s", t)
	return topics.Event{}
}

// inOrder reports whether one topic was first published before another one.
func (h *home) inOrder(first, then string) bool {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	a, b := slices.Index(h.published, first), slices.Index(h.published, then)
	return a >= 0 && b >= 0 && a < b
}

// refused reports whether an event says that a message was refused, with these words.
func (h *home) refused(words ...string) bool {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.events, func(e topics.Event) bool {
		return e.Type == topics.MessageRefused && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(e.Message, w) })
	})
}

// story tells the events, for a test that failed.
func (h *home) story() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all strings.Builder
	for _, e := range h.events {
		fmt.Fprintf(&all, "\n%s %s %s", e.At.Format("05.000"), e.Type, e.Message)
	}
	return all.String()
}

func (h *home) status() topics.Hub { return get[topics.Hub](h, h.tree.Hub(topics.HubStatus)) }

func (h *home) service(name string) topics.Service {
	return get[topics.Service](h, h.tree.Service(topics.ServiceStatus, name))
}

func get[T any](h *home, topic string) T {
	h.Helper()
	v, err := topics.Decode[T](topic, []byte(h.last(topic)))
	if err != nil {
		h.Fatal(err)
	}
	return v
}

// where tells on which domains a service runs, and how it is: "a:running".
func (h *home) where(service string) string {
	var all []string
	for _, i := range h.service(service).Instances {
		all = append(all, i.Domain+":"+string(i.State))
	}
	slices.Sort(all)
	return fmt.Sprint(all)
}

// publish sends a message as any client would.
func (h *home) publish(topic, payload string, retain bool) {
	h.broker.Publish(topics.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: retain})
	synctest.Wait()
}

// ask asks the hub and returns its answer.
func (h *home) ask(verb, payload string) topics.Reply {
	h.Helper()
	request, response := h.tree.Request(verb)
	if topics.IsPrivate(verb) {
		return h.askPrivately(request, payload)
	}
	h.publish(request, payload, false)
	return get[topics.Reply](h, response)
}

// askPrivately asks the hub as a client of the control socket does.
func (h *home) askPrivately(request, payload string) (r topics.Reply) {
	h.Helper()
	h.hub.DeliverPrivate(topics.Message{Topic: request, Payload: []byte(payload)}, func(m topics.Message) {
		if err := json.Unmarshal(m.Payload, &r); err != nil {
			h.Errorf("%s: %v", m.Payload, err)
		}
	})
	synctest.Wait()
	return r
}

// refuses asks the hub what it has to refuse: the payloads, each with what the error
// must hold.
func (h *home) refuses(verb string, asks map[string]string) {
	h.Helper()
	for ask, want := range asks {
		if reply := h.ask(verb, ask); reply.Status != topics.StatusError || !strings.Contains(reply.Error, want) {
			h.Errorf("%.60s: %+v, want an error with %q", ask, reply, want)
		}
	}
}

// agent is a scripted agent: it joins, beats, and obeys start commands. Its
// services are ready a second after they started.
type agent struct {
	home     *home
	name, id string
	traits   []string
	catalog  []topics.CatalogRow
	net      *cable
	conn     atomic.Pointer[client.Conn] // the connection of now; read on others' goroutines
	quit     func()
	leaving  atomic.Bool

	mu       sync.Mutex
	running  map[string]topics.Instance
	starts   map[string]int                          // how often each service was started
	bad      func(topics.Instance, topics.Spec) bool // what fails instead of getting ready; nil: nothing
	specs    map[string]topics.Spec
	command  func(topics.Command) // obeys commands; nil: nobody does
	draining bool
	// platform and accept are what it tells of itself; "": it is older.
	platform, accept string
	// key signs what it publishes; nil: it has none. word is what it shows at its next join.
	key      *signingDomain
	word     string
	question string // its last request to join
	seq      uint64 // of the last status that was signed
	epoch    uint64
	gen      uint64
	commands int
}

// cable lets a test cut a connection without closing it.
type cable struct {
	net.Conn
	cut chan struct{}
}

func (c *cable) Write(p []byte) (int, error) {
	select {
	case <-c.cut:
		return len(p), nil // sent, never to arrive
	default:
		return c.Conn.Write(p)
	}
}

// agent makes an agent whose catalog holds services, "name" or "name@version".
func (h *home) agent(name string, traits []string, services ...string) *agent {
	a := &agent{home: h, name: name, id: "id-of-" + name, traits: traits, running: make(map[string]topics.Instance), starts: make(map[string]int)}
	for _, s := range services {
		a.catalog = append(a.catalog, topics.CatalogRow{Service: s, Version: "1.0.0"})
	}
	return a
}

// join joins by both connections, as an agent does. It returns the hub's refusal.
func (a *agent) join() error {
	h := a.home
	a.question = string(a.key.join(topics.HubRequest{Transaction: "t", ID: a.id, Name: a.name, Session: "s", Word: a.word}))
	reply := h.ask(topics.VerbJoin, a.question)
	if reply.Status != topics.StatusOK {
		return fmt.Errorf("%s", reply.Error)
	}
	var grant topics.Grant
	if err := json.Unmarshal(reply.Data, &grant); err != nil {
		return err
	}
	a.granted(grant)
	a.connect()
	return nil
}

// granted takes a grant: word and keys.
func (a *agent) granted(g topics.Grant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.word = g.Word
	a.key.granted(g)
}

// rejoin joins again after the hub is gone: its connection ended with it.
func (a *agent) rejoin() error {
	a.quit()
	<-a.connection().Done()
	return a.join()
}

// connect connects with the will and lives until leave, kill or cut.
func (a *agent) connect() {
	h := a.home
	h.Helper()
	will := h.tree.Message(topics.Address{Kind: topics.DomainAvailability, Domain: a.name}, []byte(topics.Offline))
	conn, err := client.Connect(h.Context(), client.Options{
		ClientID: "domain-" + a.id, Will: &will, OnMessage: a.receive,
		Dial: func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			h.broker.Serve(theirs)
			a.net = &cable{Conn: ours, cut: make(chan struct{})}
			return a.net, nil
		},
	})
	if err != nil {
		h.Fatal(err)
	}
	if err := conn.Subscribe(h.Context(), h.tree.Domain(topics.DomainServicesSet, a.name), h.tree.Domain(topics.DomainAvailability, a.name), h.tree.Domain(topics.DomainDrainSet, a.name)); err != nil {
		h.Fatal(err)
	}
	a.conn.Store(conn)
	a.leaving.Store(false)
	a.say(topics.DomainAvailability, topics.Online)
	a.report()
	ctx, cancel := context.WithCancel(h.Context())
	var beating sync.WaitGroup
	beating.Go(func() { a.beat(ctx, conn) })
	a.quit = func() { cancel(); beating.Wait() }
	synctest.Wait()
}

func (a *agent) beat(ctx context.Context, conn *client.Conn) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for seq := uint64(1); ; seq++ {
		a.mu.Lock()
		b := topics.Heartbeat{ID: a.id, Session: "s", Seq: seq, At: topics.At(time.Now()), Epoch: a.epoch, Generation: a.gen}
		message := a.key.withMAC(topics.DomainHeartbeat, topics.Encode(b))
		a.mu.Unlock()
		conn.Publish(a.home.tree.Message(topics.Address{Kind: topics.DomainHeartbeat, Domain: a.name}, message))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// leave stops the agent as SIGTERM does.
func (a *agent) leave() {
	a.quit()
	a.leaving.Store(true)
	a.say(topics.DomainAvailability, topics.Offline)
	a.connection().Close()
	synctest.Wait()
}

// kill breaks the connection as kill -9 does. The client of the killed agent
// does not notice that its own end was closed, and is left to its timeouts.
func (a *agent) kill() {
	a.quit()
	a.net.Conn.Close()
	conn := a.connection()
	a.home.busy.Go(func() { <-conn.Done() })
	synctest.Wait()
}

// line returns the connection of now.
func (a *agent) connection() *client.Conn { return a.conn.Load() }

// cut lets nothing through any more, and tells nobody.
func (a *agent) cut() { close(a.net.cut) }

func (a *agent) say(k topics.Kind, payload string) {
	a.connection().Publish(a.home.tree.Message(topics.Address{Kind: k, Domain: a.name}, []byte(payload)))
	_ = a.connection().Flush(context.Background())
}

func (a *agent) receive(m topics.Message) {
	addr, _ := a.home.tree.Parse(m.Topic)
	switch addr.Kind {
	case topics.DomainServicesSet:
		if c, err := topics.Decode[topics.StartCommand](m.Topic, m.Payload); err == nil && c.Domain == a.id {
			a.home.busy.Go(func() { a.obey(c) })
		}
	case topics.DomainAvailability:
		if string(m.Payload) == topics.Offline && !m.Retain && !a.leaving.Load() {
			a.connection().Publish(a.home.tree.Message(addr, []byte(topics.Online)))
		}
	case topics.DomainCommand:
		a.mu.Lock()
		command := a.command
		a.mu.Unlock()
		if c, err := topics.Decode[topics.Command](m.Topic, m.Payload); err == nil && command != nil {
			a.home.busy.Go(func() { command(c) })
		}
	case topics.DomainDrainSet:
		a.mu.Lock()
		a.draining = string(m.Payload) == topics.On
		a.mu.Unlock()
		a.home.busy.Go(a.report)
	}
}

func (a *agent) obey(c topics.StartCommand) {
	a.mu.Lock()
	if c.Epoch < a.epoch || c.Epoch == a.epoch && c.Generation <= a.gen {
		a.mu.Unlock()
		return
	}
	a.epoch, a.gen = c.Epoch, c.Generation
	a.commands++
	for name := range maps.Clone(a.running) {
		if _, stays := c.Services[name]; !stays {
			delete(a.running, name)
		}
	}
	a.specs = c.Services
	for name, spec := range c.Services {
		if i, runs := a.running[name]; !runs || i.Revision != spec.Revision {
			a.starts[name]++
			a.running[name] = topics.Instance{Service: name, State: topics.Starting, Health: topics.UnknownHealth, Revision: spec.Revision, Version: a.versionOf(name, spec), Address: "10.0.0." + fmt.Sprint(len(a.name)), Port: 20000, Since: topics.At(time.Now())}
		}
	}
	a.mu.Unlock()
	a.report()
	time.Sleep(time.Second)
	a.mu.Lock()
	for name, i := range a.running {
		if time.Since(i.Since.Time) < time.Second {
			continue
		}
		i.State, i.Health = topics.Running, topics.Healthy
		if a.bad != nil && a.bad(i, a.specs[name]) {
			i.State, i.Health, i.Message = topics.Failed, topics.UnknownHealth, "exited with code 1"
		}
		a.running[name] = i
	}
	a.mu.Unlock()
	a.report()
}

// versionOf is the version that it starts of a service.
func (a *agent) versionOf(service string, spec topics.Spec) string {
	if v := a.version(service); v != "" || spec.Bundle == nil {
		return v
	}
	return spec.Bundle.Version
}

// version is what the domain's disk holds of a service.
func (a *agent) version(service string) string {
	for _, row := range a.catalog {
		if row.Service == service {
			return row.Version
		}
	}
	return ""
}

// stock puts another version of a service on the domain's disk.
func (a *agent) stock(service, version string) {
	a.mu.Lock()
	for n := range a.catalog {
		if a.catalog[n].Service == service {
			a.catalog = slices.Clone(a.catalog)
			a.catalog[n].Version = version
		}
	}
	a.mu.Unlock()
	a.report()
	synctest.Wait()
}

// change changes what runs as a service, and reports it.
func (a *agent) change(service string, to func(*topics.Instance)) {
	a.mu.Lock()
	i := a.running[service]
	to(&i)
	a.running[service] = i
	a.mu.Unlock()
	a.report()
}

func (a *agent) report() {
	a.mu.Lock()
	defer a.mu.Unlock() // also while it publishes: the last word is the newest
	s := topics.Domain{
		ID: a.id, Name: a.name, Version: "test", Protocol: topics.Protocol, Address: "10.0.0." + fmt.Sprint(len(a.name)),
		Platform: a.platform, Accept: a.accept, Traits: a.traits, Draining: a.draining, Catalog: a.catalog,
		Services: slices.SortedFunc(maps.Values(a.running), func(x, y topics.Instance) int { return len(x.Service) - len(y.Service) }),
	}
	if a.key != nil {
		a.seq++
		s.Session, s.Seq = "s", a.seq
	}
	b, _ := json.Marshal(s)
	b = a.key.sign(topics.DomainStatus, b)
	a.connection().Publish(a.home.tree.Message(topics.Address{Kind: topics.DomainStatus, Domain: a.name}, b))
}

// started tells how often a service was started, over all commands.
func (a *agent) started(service string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.starts[service]
}
