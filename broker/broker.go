// Package broker is the MQTT broker inside the hub, as the rest of the program
// sees it: listen, publish, subscribe, stop.
//
// It owns the listeners, who may do what (broker/access), and what the engine is
// made of: broker/engine speaks MQTT, broker/store keeps what must survive.
// Only the hub and tests import it.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// Config says where to listen and who may come in.
type Config struct {
	Listen, ListenTLS   string         // host:port; "" is no such listener
	ListenWS, ListenWSS string         // the same for MQTT over WebSocket
	ListenUnix          string         // path of a Unix socket
	CertFile, KeyFile   string         // of ListenTLS and ListenWSS, PEM
	ClientCAFile        string         // of the certificates of clients, PEM; "": none are asked for
	RequireCertificate  bool           // TLS without one is refused
	AllowedOrigins      []string       // of web pages, beside the listener's own, as origin.Parse has them
	TrustedProxies      []netip.Prefix // whose word on where a WebSocket comes from is believed
	AllowAnonymous      bool           // also on listeners that others than this machine reach
	Users               []User
	Rules               []access.Rule
	OwnIDs              []string // client identifiers that ServeAs alone may use: of the program's own parts
	Prefix              string   // topic_prefix, for the access rules
	DiscoveryPrefix     string   // Home Assistant's, for the same; "": its default
	// DataDir keeps what was acknowledged: retained messages, sessions and
	// their queues. "" keeps them nowhere.
	DataDir string
	// Sync is how long what was acknowledged may be with the operating system
	// alone: what a power cut can take. 0: it is on the disk before it is
	// acknowledged.
	Sync time.Duration
	// Exclude are filters of topics that are never written, besides heartbeats,
	// metrics and $SYS.
	Exclude    []string
	Limits     Limits     // a zero is the engine's default
	UserLimits UserLimits // a zero is no limit
	Version    string     // of the program, for $SYS
}

// Limits bound what a client can take.
type Limits = engine.Limits

// UserLimits bound what all clients of a user can take together.
type UserLimits = engine.UserLimits

// Broker is a running broker. Make it with New.
type Broker struct {
	config   Config
	tree     topics.Tree
	log      *slog.Logger
	engine   *engine.Engine
	store    *store.Store // nil: nothing is kept
	access   atomic.Pointer[accounts]
	refusals refusals
	guesses  guesses
	owners   owners
	ignored  ignoredNames
	agents   atomic.Pointer[map[string]Agent] // by the id of the domain; nil: nobody has said
	hashing  chan struct{}                    // holds as many as passwords are hashed at once
	key      [32]byte                         // of this run
	traces   traces
	asked    chan struct{} // has a value when somebody subscribed to $SYS
	began    time.Time
	mostHeap atomic.Uint64

	certificates *certificates // nil: no TLS

	editing  sync.Mutex // guards the two below
	settings settings
	stored   []storedUser // users that were made at run time

	mu        sync.Mutex
	listeners []*listener
	accepting sync.WaitGroup // the listeners' loops

	quit   chan struct{} // ends what the broker does by itself
	around sync.WaitGroup

	stop    sync.Once
	stopErr error
}

// New starts a broker without listeners, with what its store kept. Its errors
// name the file or the user that is wrong.
func New(cfg Config, log *slog.Logger) (*Broker, error) {
	b := &Broker{config: cfg, tree: topics.NewTree(cfg.Prefix), log: log, quit: make(chan struct{}), hashing: make(chan struct{}, slowChecks), key: newKey(), asked: make(chan struct{}, 1), began: time.Now()}
	if b.config.Limits.MaxPacket <= 0 {
		b.config.Limits.MaxPacket = engine.DefaultLimits().MaxPacket
	}
	if b.config.Limits.Memory <= 0 {
		b.config.Limits.Memory = memoryLimit("/")
	}
	if b.config.DiscoveryPrefix == "" {
		b.config.DiscoveryPrefix = "homeassistant"
	}
	b.settings = settings{cfg.Users, cfg.AllowAnonymous, cfg.Rules}
	if err := b.readUsers(); err != nil {
		return nil, err
	}
	if err := b.readOwners(); err != nil {
		return nil, err
	}
	accounts, err := b.newAccounts(b.settings, b.stored)
	if err != nil {
		return nil, err
	}
	b.access.Store(accounts)
	o := engine.Options{
		Log: log, Limits: b.config.Limits, UserLimits: cfg.UserLimits, OwnListener: local,
		Authenticate: b.authenticate, Allow: b.allow, IgnoreUser: b.nameless,
		ConnectionEnded: b.ended, ConnectRefused: b.refused, DeniedAnswer: b.denied, Notice: b.noticed,
		SysSubscribed: func() {
			select {
			case b.asked <- struct{}{}:
			default:
			}
		},
	}
	if cfg.DataDir != "" {
		b.store, o.State, err = store.Open(filepath.Join(cfg.DataDir, "broker"), store.Options{Sync: cfg.Sync, Exclude: b.passing, Log: log})
		if err != nil {
			return nil, fmt.Errorf("cannot open what the broker kept: %w", err)
		}
		b.hubIsOffline(o.State)
		for i := range o.State.Sessions {
			s := &o.State.Sessions[i]
			b.owners.free(s.Client) // what the session says is newer than the file
			b.owners.take(s.Client, s.User, time.Now(), func(string) bool { return true }, func(string) (string, bool) { return "", false })
		}
		o.Store = b.store
		o.Persists = b.Keeps
		o.ChargeProgram = b.paced
		o.Unlimited = func(c engine.Client) bool { return b.role(c.Listener, c.User) == RoleAdmin }
	}
	if b.engine, err = engine.New(o); err != nil {
		return nil, fmt.Errorf("cannot start the broker: %w", err)
	}
	b.around.Go(b.tellOfItself)
	return b, nil
}

// passing tells which topics are never written to disk: what is said again each
// few seconds is of no use after a restart, and the owner may name more.
func (b *Broker) passing(topic string) bool {
	at, ours := b.tree.Parse(topic)
	return ours && (at.Kind == topics.DomainHeartbeat || at.Kind == topics.DomainMetrics || at.Kind == topics.ServiceMetrics) || topic[0] == '$' ||
		slices.ContainsFunc(b.config.Exclude, func(filter string) bool { return wire.Matches(filter, topic) })
}

// Keeps tells whether what is retained at a topic is there after a restart.
func (b *Broker) Keeps(topic string) bool { return !b.passing(topic) }

// paced reports whether a topic is the status of a domain: an agent publishes it
// again whenever it connects, and a service can make it change each second, so it
// has a budget of written bytes whoever the agent logs in as.
func (b *Broker) paced(topic string) bool {
	at, ours := b.tree.Parse(topic)
	return ours && at.Kind == topics.DomainStatus
}

// hubIsOffline takes back what a hub that was killed had said: it is offline
// until it says otherwise.
func (b *Broker) hubIsOffline(kept store.State) {
	for i, m := range kept.Retained {
		if m.Topic == b.tree.Hub(topics.HubAvailability) {
			offline := *m
			offline.Payload = []byte(topics.Offline)
			kept.Retained[i] = &offline
		}
	}
}

// Publish publishes a message after all that were published before. It never
// waits for a client. The payload must not be changed afterwards.
func (b *Broker) Publish(m topics.Message) { b.engine.Publish(m) }

// Subscribe calls handler for each message that a filter matches, first for
// those retained, then for each as it is published. Whatever the filter, what
// one client publishes comes in its order. The handler only enqueues, and
// changes no payload.
//
// Retain of a message is true for one that was stored before, and for an order
// that somebody publishes with the retain flag.
func (b *Broker) Subscribe(filter string, handler func(topics.Message)) error {
	_, err := b.Watch(filter, handler)
	return err
}

// Watch is Subscribe until stop is called. The handler may be called once more
// after that, for what was published before.
func (b *Broker) Watch(filter string, handler func(topics.Message)) (stop func(), err error) {
	return b.engine.Subscribe(filter, func(m topics.Message, stored bool) {
		at, _ := b.tree.Parse(m.Topic)
		m.Retain = stored || m.Retain && at.Kind.Imperative()
		handler(m)
	})
}

// Reload takes over users, allow_anonymous and rules; if they are wrong the old
// ones stay. What each may do is judged anew. The connections of users who are
// gone, or have another password or role, are ended; no other one is.
func (b *Broker) Reload(users []User, allowAnonymous bool, rules []access.Rule) error {
	b.editing.Lock()
	defer b.editing.Unlock()
	next := settings{users, allowAnonymous, rules}
	a, err := b.newAccounts(next, b.stored)
	if err != nil {
		return err
	}
	b.settings = next
	b.kickChanged(b.access.Swap(a), a)
	b.engine.AccessChanged()
	return nil
}

// SetUserLimits puts others in place of those of the configuration.
func (b *Broker) SetUserLimits(l UserLimits) { b.engine.SetUserLimits(l) }

// Stop takes no more connections, lets clients have what is queued for them,
// closes the connections and writes what is to be kept. ctx bounds it. A second
// call waits for the first and returns the same.
func (b *Broker) Stop(ctx context.Context) error {
	b.stop.Do(func() { b.stopErr = b.shutDown(ctx) })
	return b.stopErr
}

func (b *Broker) shutDown(ctx context.Context) error {
	b.closeListeners()
	close(b.quit)
	b.around.Wait()
	b.writeOwners(true)
	err := b.engine.Close(ctx)
	if b.store != nil {
		err = errors.Join(err, b.store.Close(ctx))
	}
	return err
}
