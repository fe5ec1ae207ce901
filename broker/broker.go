// Package broker is the embedded MQTT broker as the rest of the program uses it:
// listen, publish, subscribe, stop.
//
// It owns the listeners, authentication, the users and the access rules
// (broker/access), and assembles the engine: broker/engine speaks MQTT, broker/store
// persists. Only the hub and tests import it.
//
// # Files
//
//	access.go             asking the policy for each publish, subscription and delivery
//	admin.go              figures, sessions and disconnecting of clients; when clients of changed users end
//	agents.go             who may use an agent's client identifier
//	applicants.go         which clients are applicants for adoption
//	authenticate.go       users, passwords and certificates of a CONNECT
//	broker.go             configuration, start, reload, stop
//	certificates.go       certificates of TLS: reading again, verifying clients
//	control_socket.go     the control socket of admins and the Unix group that may open it
//	denied_answer.go      the answer to a request that its sender may not make
//	end_user.go           ending all that a user has
//	id_owners.go          which user owns a client identifier
//	ignored_users.go      user names that are ignored while none are configured
//	issued.go             clients with a certificate of the dominion
//	listen.go             listeners: opening, accepting, warnings about open ones
//	log_limiter.go        how often the same is logged
//	logging.go            log lines about refused and ended connections
//	memory_limit.go       the default limit of memory
//	optional_listener.go  a default port that is taken: trying again
//	password_limiter.go   wrong passwords: attempts, waiting, parallel hashes
//	private_requests.go   requests that only private connections may make
//	stored_users.go       users that are added at run time
//	sys_topics.go         figures at $SYS, and how often
//	tls_sniffing.go       plain clients at a TLS port and the reverse
//	trace_lines.go        the lines of a trace, how many and how long
//	unix_socket.go        Unix sockets: mode, stale ones
//	user_check.go         checking one user: password or hash, its highest cost
//	users.go              the table of users, and what changes in it mean
//	websocket.go          MQTT over WebSocket: the upgrade
//	websocket_conn.go     frames of a WebSocket
//	websocket_relay.go    WebSockets passed on to an external broker; their limits
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

// Config configures the listeners, and who may connect.
type Config struct {
	// Listen and ListenTLS are host:port; "": no such listener.
	Listen, ListenTLS string
	// ListenWS and ListenWSS are the same for MQTT over WebSocket.
	ListenWS, ListenWSS string
	// ListenUnix is the path of a Unix socket.
	ListenUnix string
	// ControlOnly is set where only ListenControl is used: all requests are private, so
	// that the handler of private requests gets them.
	ControlOnly bool
	// OptionalTLS is set where ListenTLS is a default: one that is taken is a problem, and
	// tried again.
	OptionalTLS bool
	// Identity is the dominion's own, for TLS; nil: there are only the files.
	Identity Identity
	// CertFile and KeyFile are for ListenTLS and ListenWSS, PEM; "": the certificate of
	// Identity.
	CertFile, KeyFile string
	// ClientCAFile holds the authorities of client certificates, PEM; "": none are
	// requested.
	ClientCAFile string
	// RequireCertificate refuses TLS without a client certificate.
	RequireCertificate bool
	// AllowedOrigins are those of web pages besides the listener's own, as
	// origin.Parse returns them.
	AllowedOrigins []string
	// TrustedProxies are the proxies whose headers about the client of a WebSocket are
	// trusted.
	TrustedProxies []netip.Prefix
	// AllowAnonymous admits clients without a user also on listeners that other
	// machines reach.
	AllowAnonymous bool
	Users          []User
	Rules          []access.Rule
	// ReservedIDs are client identifiers of parts of the program, which only ServeAs
	// may use.
	ReservedIDs []string
	// Prefix is the topic_prefix, for the access rules.
	Prefix string
	// DiscoveryPrefix is that of Home Assistant, for the same; "": its default.
	DiscoveryPrefix string
	// DataDir holds what was acknowledged: retained messages, sessions and their
	// queues. "": nothing is persisted.
	DataDir string
	// SyncDelay is how long acknowledged data may be in the operating system's cache
	// only, where a power cut loses it. 0: it is on disk before it is acknowledged.
	SyncDelay time.Duration
	// Exclude are filters of topics that are never persisted, besides heartbeats,
	// metrics and $SYS.
	Exclude []string
	// Limits: a zero is the engine's default.
	Limits Limits
	// UserLimits: a zero is no limit.
	UserLimits UserLimits
	// Version is that of the program, for $SYS.
	Version string
}

// Limits bound what a client can take.
type Limits = engine.Limits

// UserLimits bound what all clients of a user can take together.
type UserLimits = engine.UserLimits

// Broker is a running broker. Make it with New.
type Broker struct {
	config Config
	tree   topics.Tree
	log    *slog.Logger
	engine *engine.Engine
	// store is nil if nothing is persisted.
	store        *store.Store
	access       atomic.Pointer[userTable]
	logLimit     logLimiter
	passwords    passwordLimiter
	clientIDs    idOwners
	ignoredUsers reportedNames
	// agents are keyed by the id of the domain; nil: unknown.
	agents atomic.Pointer[map[string]Agent]
	// domains are the names of those with a certificate of the dominion; nil: unknown.
	domains atomic.Pointer[map[string]bool]
	// hashSlots holds a value for each password hash that is being computed.
	hashSlots chan struct{}
	// digestKey is random for each run.
	digestKey [32]byte
	traces    traceSet
	// listenProblem is that of a default address that is in use; nil: there is none.
	listenProblem atomic.Pointer[string]
	// applicants handles what applicants publish; nil: nothing does.
	applicants atomic.Pointer[func(m topics.Message, address string)]
	// private handles private requests; nil: nothing does.
	private atomic.Pointer[PrivateHandler]
	// privateRefused reports those that were refused for their connection; nil: nobody is told.
	// refusedAt is when that was last, in Unix nanoseconds.
	privateRefused atomic.Pointer[func(PrivateRefusal)]
	refusedAt      atomic.Int64
	// sysRequested has a value when a client has subscribed below $SYS.
	sysRequested chan struct{}
	startedAt    time.Time
	maxHeap      atomic.Uint64

	// certificates is nil without TLS.
	certificates *certificates

	// settingsMu guards settings and storedUsers.
	settingsMu sync.Mutex
	settings   accessSettings
	// storedUsers were added at run time.
	storedUsers []storedUser

	mu        sync.Mutex
	listeners []*listener
	// closed is set once the listeners were closed.
	closed bool
	// accepting waits for the listeners' loops.
	accepting sync.WaitGroup

	// quit ends the background goroutines.
	quit       chan struct{}
	background sync.WaitGroup

	stop    sync.Once
	stopErr error
}

// New returns a broker without listeners, with the state of its store. An error names
// the file or the user that is not valid.
func New(cfg Config, log *slog.Logger) (*Broker, error) {
	b := &Broker{config: cfg, tree: topics.NewTree(cfg.Prefix), log: log, quit: make(chan struct{}), hashSlots: make(chan struct{}, maxParallelHashes), digestKey: newKey(), sysRequested: make(chan struct{}, 1), startedAt: time.Now()}
	if b.config.Limits.MaxPacket <= 0 {
		b.config.Limits.MaxPacket = engine.DefaultLimits().MaxPacket
	}
	if b.config.Limits.Memory <= 0 {
		b.config.Limits.Memory = memoryLimit("/")
	}
	if b.config.DiscoveryPrefix == "" {
		b.config.DiscoveryPrefix = "homeassistant"
	}
	b.settings = accessSettings{cfg.Users, cfg.AllowAnonymous, cfg.Rules}
	if err := b.readUsers(); err != nil {
		return nil, err
	}
	if err := b.readOwners(); err != nil {
		return nil, err
	}
	accounts, err := b.newAccounts(b.settings, b.storedUsers)
	if err != nil {
		return nil, err
	}
	b.access.Store(accounts)
	o := engine.Options{
		Log: log, Limits: b.config.Limits, UserLimits: cfg.UserLimits, Account: b.account, OwnListener: local,
		Authenticate: b.authenticate, Allow: b.allow, IgnoreUser: b.ignoreUser, Applicant: b.isApplicant,
		ConnectionEnded: b.logEnded, ConnectRefused: b.logRefused,
		Private: b.isPrivate, Receive: b.receivePrivate, DeniedAnswer: b.deniedAnswer, Notice: b.logNotice,
		SysSubscribed: func() {
			select {
			case b.sysRequested <- struct{}{}:
			default:
			}
		},
	}
	if cfg.DataDir != "" {
		b.store, o.State, err = store.Open(filepath.Join(cfg.DataDir, "broker"), store.Options{Sync: cfg.SyncDelay, Exclude: b.notPersisted, Log: log})
		if err != nil {
			return nil, fmt.Errorf("cannot open the broker's store: %w", err)
		}
		b.setHubOffline(o.State)
		for i := range o.State.Sessions {
			s := &o.State.Sessions[i]
			b.clientIDs.release(s.Client) // the session is newer than the file
			b.clientIDs.claim(s.Client, s.User, time.Now(), func(string) bool { return true }, func(string) (string, bool) { return "", false })
		}
		o.Store = b.store
		o.Persists = b.Persists
		o.ChargeProgram = b.chargedToProgram
		o.Unlimited = func(c engine.Client) bool { return b.roleOf(c) == RoleAdmin }
	}
	if b.engine, err = engine.New(o); err != nil {
		return nil, fmt.Errorf("cannot start the broker: %w", err)
	}
	b.background.Go(b.publishSys)
	return b, nil
}

// notPersisted reports whether a topic is never written to disk: messages that are
// repeated every few seconds are of no use after a restart, strangers decide how often it
// changes who waits for adoption, and the owner may exclude more.
func (b *Broker) notPersisted(topic string) bool {
	at, ours := b.tree.Parse(topic)
	return ours && (at.Kind == topics.DomainHeartbeat || at.Kind == topics.DomainMetrics || at.Kind == topics.ServiceMetrics || at.Kind == topics.HubAdoption) || topic[0] == '$' ||
		slices.ContainsFunc(b.config.Exclude, func(filter string) bool { return wire.Matches(filter, topic) })
}

// Persists reports whether what is retained at a topic survives a restart.
func (b *Broker) Persists(topic string) bool { return !b.notPersisted(topic) }

// chargedToProgram reports whether a topic is the status of a domain. An agent
// publishes it whenever it connects, and a service can change it every second, so it
// has a write budget whatever the agent's user is.
func (b *Broker) chargedToProgram(topic string) bool {
	at, ours := b.tree.Parse(topic)
	return ours && at.Kind == topics.DomainStatus
}

// setHubOffline corrects the availability of a hub that was killed: it is offline
// until it publishes otherwise.
func (b *Broker) setHubOffline(state store.State) {
	for i, m := range state.Retained {
		if m.Topic == b.tree.Hub(topics.HubAvailability) {
			offline := *m
			offline.Payload = []byte(topics.Offline)
			state.Retained[i] = &offline
		}
	}
}

// Publish publishes a message, in the order of the calls. It does not wait for
// clients. The payload must not be changed afterwards.
func (b *Broker) Publish(m topics.Message) { b.engine.Publish(m) }

// Subscribe calls handler for each message that matches a filter: first for those that
// are retained, then for each that is published. The messages of one client arrive in
// its order, whatever the filter is. The handler must not block, nor change a payload.
//
// Retain of a message is true if it was retained before, and for an order that is
// published with the retain flag.
func (b *Broker) Subscribe(filter string, handler func(topics.Message)) error {
	_, err := b.Watch(filter, func(m topics.Message, stored bool) {
		at, _ := b.tree.Parse(m.Topic)
		m.Retain = at.Kind.RetainBit(m.Retain, stored)
		handler(m)
	})
	return err
}

// Watch is Subscribe until stop is called, for a subscriber that parses the topic
// itself: stored reports whether a message was retained before, and Retain is as
// published. After stop the handler may still be called for a message that was
// published before.
func (b *Broker) Watch(filter string, handler func(m topics.Message, stored bool)) (stop func(), err error) {
	return b.engine.Subscribe(filter, handler)
}

// Reload replaces users, allow_anonymous and rules; if they are not valid the old ones
// stay. All access is decided again. Connections of users who were removed, or have
// another password or role, are ended; no others are.
func (b *Broker) Reload(users []User, allowAnonymous bool, rules []access.Rule) error {
	b.settingsMu.Lock()
	defer b.settingsMu.Unlock()
	next := accessSettings{users, allowAnonymous, rules}
	a, err := b.newAccounts(next, b.storedUsers)
	if err != nil {
		return err
	}
	b.settings = next
	b.disconnectChanged(b.access.Swap(a), a)
	b.engine.AccessChanged()
	return nil
}

// SetUserLimits replaces the limits of users.
func (b *Broker) SetUserLimits(l UserLimits) { b.engine.SetUserLimits(l) }

// Stop accepts no more connections, delivers what is queued, closes the connections
// and persists the state. ctx bounds it. A second call waits for the first and returns
// the same.
func (b *Broker) Stop(ctx context.Context) error {
	b.stop.Do(func() { b.stopErr = b.shutDown(ctx) })
	return b.stopErr
}

// shutDown ends everything in the reverse order of its start.
func (b *Broker) shutDown(ctx context.Context) error {
	b.closeListeners()
	close(b.quit)
	b.background.Wait()
	b.writeOwners(true)
	err := b.engine.Close(ctx)
	if b.store != nil {
		err = errors.Join(err, b.store.Close(ctx))
	}
	return err
}
