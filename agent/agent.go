// Package agent runs one domain of a dominion: it joins the hub, takes its
// start commands, keeps the services of the last one running with or without
// a hub, and reports to the hub what runs.
//
// It owns the agent's state in ONE loop (loop.go). Beside it there are two
// goroutines: the link, which finds the hub and keeps the connection, and,
// while the domain is lonely, its announcement by zeroconf. It refuses to
// decide which services run where: that is the hub's; the two never import
// each other and meet in package topics. Only cmd/domain imports it.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/agent/facts"
	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/agent/logs"
	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/agent/traits"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/internal/mailbox"
	"github.com/jmbarzee/dominion/internal/ratelimit"
	"github.com/jmbarzee/dominion/services/lease"
	"github.com/jmbarzee/dominion/topics"
)

// Options are the options of an agent. Those below Log exist for tests: nil is
// the real implementation.
type Options struct {
	Config  config.Domain
	Version string
	Log     *slog.Logger

	// Dial opens a connection to host:port of a broker.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Connect speaks MQTT over it, as client.Connect does.
	Connect func(context.Context, client.Options) (Conn, error)
	// Random returns a duration from 0 up to but below a limit: machines that
	// lost the hub together do not come back in step.
	Random func(limit time.Duration) time.Duration
	// MinPollInterval is the least time between two polls of anything that sends
	// no events: the catalog, addresses, logs, metrics. 0: each has its own
	// interval. Only tests set it.
	MinPollInterval time.Duration
	// Browse and Announce are those of package zeroconf.
	Browse   func(ctx context.Context, names []string, serviceType string, window time.Duration) ([]zeroconf.Found, error)
	Announce func(ctx context.Context, names []string, log *slog.Logger, services ...zeroconf.Service) error
	Runner   supervisor.Runner
	Guards   supervisor.Guards
	Facts    Facts
}

// Conn is a connection to a broker: *client.Conn, whose methods are documented.
type Conn interface {
	Publish(topics.Message)
	Subscribe(ctx context.Context, filters ...string) error
	Unsubscribe(filters ...string)
	Flush(context.Context) error
	Close()
	Done() <-chan struct{}
	Err() error
}

// Facts describes the machine to the agent's loop. Its methods do not block.
type Facts interface {
	// Catalog returns the services on disk, by name, and what is new among
	// the problems with them.
	Catalog() (rows []topics.CatalogRow, problems []string)
	// Addresses returns where the machine is reached, "" for nowhere, and all
	// its addresses.
	Addresses() (address string, all []string)
	// Metrics measures the machine, and each service by its process group.
	Metrics(now time.Time, groups map[string]int) topics.Metrics
}

// Agent is the agent of one domain. Make it with New.
type Agent struct {
	o        Options
	files    *foreign.Files
	events   *mailbox.Box[any]
	messages *mailbox.Box[incoming]
}

// abandonAfter is how long the end of the agent waits for a disk.
const abandonAfter = 10 * time.Second

// newHeartbeater returns the heartbeater of this domain. Run completes it.
func (a *Agent) newHeartbeater() *heartbeater {
	tree, name := topics.NewTree(a.o.Config.TopicPrefix), a.o.Config.Name
	return &heartbeater{
		log: a.o.Log, wake: make(chan struct{}, 1),
		message: func(k topics.Kind, payload []byte) topics.Message {
			return tree.Message(topics.Address{Kind: k, Domain: name}, payload)
		},
		event: func(kind topics.EventType, message string) topics.Message {
			return eventMessage(tree, name, kind, "", message)
		},
	}
}

// incoming is a message of a connection with what its topic is: the zero Address for a
// topic that is not one of the agent's tree. It is parsed here alone.
type incoming struct {
	connID int
	topics.Message
	address topics.Address
}

// The bounds of the loop's queues. A message can be dropped and received again by
// connecting again. Events of the agent's own parts must not be lost (a service
// whose end was missed would be shown as running for ever), and are few: an end,
// a check and a notification for each service, and those of the link.
const (
	maxEvents   = math.MaxInt
	maxMessages = 4096
	// maxMessageBytes is what these messages take up: a broker that floods the
	// agent must not take the machine's memory.
	maxMessageBytes = 16 << 20
	// maxPacket is above what a dominion's own messages have, which is all that
	// an agent subscribes to, and the values that traits are read from.
	maxPacket = 2 << 20
)

// New returns an agent that has done nothing yet.
func New(o Options) *Agent {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Browse == nil {
		o.Browse = zeroconf.Browse
	}
	if o.Connect == nil {
		o.Connect = func(ctx context.Context, o client.Options) (Conn, error) {
			c, err := client.Connect(ctx, o)
			if err != nil {
				return nil, err // not a nil *client.Conn: that would be a Conn
			}
			return c, nil
		}
	}
	if o.Random == nil {
		o.Random = rand.N[time.Duration]
	}
	if o.Announce == nil {
		o.Announce = zeroconf.Announce
	}
	files := foreign.New()
	if o.Facts == nil {
		o.Facts = newMachine(o.Config, files)
	}
	return &Agent{o: o, files: files, events: mailbox.New[any](maxEvents), messages: mailbox.NewSized(maxMessages, maxMessageBytes, func(m incoming) int { return m.Memory() })}
}

// Reload passes a new configuration to a running agent, or the error of reading
// it: then the old configuration stays in force.
func (a *Agent) Reload(c config.Domain, err error) { a.events.Put(reload{c, err}) }

// Run runs the agent until ctx ends. It returns nil when the agent has published
// that it is offline and disconnected; its services go on running, or are stopped
// where the configuration wants that. A disk that does not answer delays the end
// by abandonAfter at most: then Run returns an error, and what waits for the disk
// ends with the program.
func (a *Agent) Run(ctx context.Context) error {
	h := a.newHeartbeater()
	h.loopBusy(time.Now())
	done := make(chan error, 1)
	go func() { done <- a.run(ctx, h) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	look := time.NewTicker(abandonAfter / 10)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case now := <-look.C:
			if h.stalled(now) >= abandonAfter {
				h.publishOffline()
				return errors.New("the agent ends without waiting for its disk, which does not answer (services run on; see dmesg for the disk)")
			}
		}
	}
}

// run is Run without the bound on the time that a disk takes: it makes the parts
// of the agent, connects them, runs the loop and ends them in the reverse order.
func (a *Agent) run(ctx context.Context, h *heartbeater) error {
	c := a.o.Config
	err := os.MkdirAll(c.DataDir, 0o755)
	if errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("cannot make data_dir %s: its disk is read-only: mount it writable once, or set data_dir to a place on another disk", c.DataDir)
	}
	if err != nil {
		return fmt.Errorf("cannot make data_dir: %w", err)
	}
	lock, err := facts.Lock(c.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	id, err := facts.Identity(c.DataDir, func() string { return supervisor.RunningDomain(c.DataDir, c.RunAs, c.AllowRoot) }, a.o.Log)
	if err != nil {
		return err
	}
	store, err := openStore(c.DataDir, a.files, a.o.Log)
	if err != nil {
		return err
	}
	defer store.flush()
	logDir := filepath.Join(c.DataDir, "logs")
	now := time.Now()
	l := &loop{
		config: c, version: a.o.Version, id: id, session: topics.NewID(), started: now,
		tree: topics.NewTree(c.TopicPrefix), log: a.o.Log, facts: a.o.Facts, store: store,
		logs: logs.New(logDir), timing: config.DefaultTiming(), lonelySignal: make(chan bool, 1),
		refusals: ratelimit.New(maxRefusals), withdraw: func() {}, minPollInterval: a.o.MinPollInterval,
	}
	l.heartbeats = h
	h.id, h.session, h.started = id, l.session, now
	h.leases = lease.NewHolder(l.session)
	l.announce = a.announcement(id)
	l.post = a.events.Put
	l.traits = traits.New(c.TraitsFrom, a.files, func(ctx context.Context, command []string, most int64) (string, error) {
		return l.supervisor.Output(ctx, command, most)
	}, func(e traits.Event) { a.events.Put(e) }, a.o.Log)
	defer l.traits.Close()
	l.subscriptions.required = l.traits.Topics()
	l.supervisor, err = supervisor.New(supervisor.Options{
		ServicesDir: c.ServicesDir, DataDir: c.DataDir, LogDir: logDir, RunAs: c.RunAs, AllowRoot: c.AllowRoot, Accept: c.Accept, Domain: id, Name: c.Name,
		Environment: l.environment, Address: l.address, Version: l.serviceVersion,
		Post:          func(e supervisor.Event) { a.events.Put(e) },
		RequireTopics: l.requireTopics,
		Report:        l.event, Files: a.files, Logs: l.logs, Runner: a.o.Runner, Guards: a.o.Guards, Log: a.o.Log,
	})
	if err != nil {
		return err
	}
	defer l.supervisor.Close()
	h.clock = l.supervisor.Clock
	h.extend = func(until time.Duration) {
		l.supervisor.Extend(until)
		a.events.Put(leaseRenewed{until})
	}
	l.start(now)
	h.loopIdle(time.Now())

	link := &link{
		config: c, id: id, session: l.session, tree: l.tree, log: a.o.Log,
		dial: a.o.Dial, connectMQTT: a.o.Connect, random: a.o.Random, browse: a.o.Browse, address: &l.reachedAt,
		post: a.events.Put,
		deliver: func(n int, m topics.Message) {
			address, _ := l.tree.Parse(m.Topic)
			if in := (incoming{n, m, address}); !acceptLease(h, in) {
				a.messages.Put(in)
			}
		},
		lonely: l.lonelySignal, drop: make(chan struct{}, 1),
		previous: store.memory.Dominion, lastURL: store.memory.Hub,
	}
	l.drop = link.drop
	linkCtx, cancel := context.WithCancel(context.Background())
	h.mu.Lock()
	h.stopLink = cancel
	h.mu.Unlock()
	var wait sync.WaitGroup
	wait.Go(func() { link.run(linkCtx) })
	wait.Go(func() { h.run(linkCtx) })
	a.runLoop(ctx, l)
	h.loopBusy(time.Now())
	cancel() // the link lets go of its connection, it does not close it
	wait.Wait()
	a.deliver(l)
	l.disconnect()
	return nil
}

// runLoop runs the loop until ctx has ended and every service that must stop has
// stopped.
func (a *Agent) runLoop(ctx context.Context, l *loop) {
	done := ctx.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-done: // stop, below
		case <-a.messages.Ready():
		case <-a.events.Ready():
		case <-timer.C:
		}
		l.heartbeats.loopBusy(time.Now())
		if ctx.Err() != nil && done != nil {
			done = nil
			l.stop(time.Now())
		}
		a.deliver(l)
		l.tick(time.Now())
		l.heartbeats.loopIdle(time.Now())
		if done == nil && l.stopped(time.Now()) {
			return
		}
		timer.Reset(time.Until(l.next()))
	}
}

// deliver passes queued events and messages to the loop. Messages are taken from
// their queue first and handled last, so that the event of the connection that
// they came by has been handled.
func (a *Agent) deliver(l *loop) {
	messages, lost := a.messages.Take()
	events, _ := a.events.Take()
	now := time.Now()
	for _, e := range events {
		l.handle(e, now)
	}
	for _, m := range messages {
		l.message(m, now)
	}
	if lost > 0 {
		l.messagesLost(lost)
	}
}

// announcement returns the function that announces a lonely domain by zeroconf
// until ctx ends, with the dominion that it is a member of.
func (a *Agent) announcement(id string) func(ctx context.Context, member identity) {
	if !a.o.Config.Zeroconf.Enabled {
		return func(context.Context, identity) {}
	}
	name := a.o.Config.Name
	return func(ctx context.Context, member identity) {
		service := zeroconf.Service{
			Type: zeroconf.TypeDomain,
			// Two machines of one name are lonely together; an instance is one.
			Instance: fmt.Sprintf("%.54s-%.8s", name, id),
			Port:     discardPort,
			Text:     map[string]string{"id": id, "name": name, "version": a.o.Version},
		}
		if member.ID != "" {
			service.Text["dominion"], service.Text["dominion_name"] = member.ID, member.Name
		}
		// Most are lonely for a moment only, at their start.
		for sleep(ctx, browseWindow) {
			err := a.o.Announce(ctx, a.o.Config.Zeroconf.Interfaces, a.o.Log, service)
			if ctx.Err() == nil {
				a.o.Log.Warn("cannot announce this domain by zeroconf", "error", err)
			}
		}
	}
}

// discardPort stands where an announcement needs a port: a lonely domain
// serves nothing (RFC 863).
const discardPort = 9

// machine is the real Facts.
type machine struct {
	catalog *facts.Catalog
	meter   *facts.Meter
}

func newMachine(c config.Domain, files *foreign.Files) machine {
	user, _ := supervisor.User(c.RunAs) // a fault of it ends Run
	load := func(serviceDir string) (facts.Manifest, error) {
		s, err := supervisor.ReadManifest(files, serviceDir, user)
		return facts.Manifest{Version: s.Version, ReleaseURL: s.ReleaseURL, Summary: s.Summary, Command: s.Command}, err
	}
	return machine{facts.NewCatalog(c.ServicesDir, files, load), facts.NewMeter(c.DataDir)}
}

func (m machine) Catalog() ([]topics.CatalogRow, []string) { return m.catalog.Scan() }
func (m machine) Addresses() (string, []string) {
	return facts.Addresses(zeroconf.Interfaces(nil))
}

func (m machine) Metrics(now time.Time, groups map[string]int) topics.Metrics {
	return m.meter.Measure(now, groups)
}
