// Package engine is an MQTT server for versions 3.1, 3.1.1 and 5.0, over connections
// that its caller accepts.
//
// It owns sessions, subscriptions, retained messages, wills, the routing of a message
// from publisher to subscribers, and the limits that keep clients from harming each
// other. It opens no listener and no file, and knows neither users nor configuration:
// Options.Allow decides about access, and every change that must survive a restart
// goes to Options.Store. Nothing is acknowledged before the store has it.
//
// Each connection has one goroutine that reads, and one that writes while its queue is
// not empty. All other work runs on the goroutine that causes it. No mutex is held
// while reading, writing or waiting, so a client that stops reading blocks no other.
// Mutexes are acquired in this order: Engine.mu, the stripe of a retained topic,
// session.mu, and then the leaves (subscriptions and their groups, retained, routes,
// deferred, the budgets, the store).
//
// Imported by package broker and by tests only.
//
// # Files
//
//	acks.go               acknowledgements and their order
//	admission.go          how many connections there may be, in all and of one address
//	applicants.go         what clients that ask for adoption may take: number, address, packet
//	batch.go              packets that are handled together, stored and then acknowledged
//	clients.go            listing, disconnecting and forgetting clients
//	conn.go               a connection: its queue, closing, waiting for the store
//	connect.go            CONNECT: checks, negotiation, session, keep alive
//	connect_refused.go    how refused connections are reported
//	deferred.go           retained messages that are written to disk later
//	deferred_wills.go     how long clients have after a start before their wills are sent
//	engine.go             options, locks, start and end
//	evict.go              which sessions end when there are too many
//	fifo.go               a queue in memory
//	flow.go               QoS 1 and 2: window, packet identifiers, resending
//	forget_user.go        ending the sessions of a user and what it has retained
//	handshakes.go         connections that have not logged in: which is closed when there are too many
//	limits.go             the limits as the engine has them
//	linger.go             closing so that the client gets the last packet
//	local_subscribers.go  the hub as a client within the program
//	memory.go             what everything costs in memory, and who is over the limit
//	message.go            an application message, and its expiry
//	permission.go         the last decision about a client's publishing
//	private.go            topics whose messages go to the program alone
//	publish.go            PUBLISH: checks, aliases, QoS, refusals
//	rate_limit.go         clients that send too fast
//	reader.go             reading from a connection with few buffers
//	recover.go            what is restored at a start
//	recover_memory.go     which sessions are not restored as memory is short
//	replay.go             sending retained messages to a new subscription
//	retained.go           the retained messages: order, search, limit
//	routes.go             who receives a message, remembered by topic
//	search_quota.go       how much searching of retained messages a user may cause
//	serve.go              the life of a connection: reading, packets, end
//	session.go            a session: its queue, order, subscriptions
//	session_end.go        end, expiry and take-over of sessions
//	stats.go              what is counted
//	store_full.go         what is refused while the disk is full
//	subscribe.go          SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, and the bounds of filters
//	sweep.go              removing retained messages that have expired
//	trace_events.go       what a trace gets
//	tree.go               the tree of subscriptions
//	user_quota.go         what all clients of one user may have together
//	will.go               wills: making, sending, removing
//	write_budget.go       how much a user may have written to disk, by day and at once
//	writer.go             writing to a connection; large payloads, slow clients
package engine

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/topics"
)

// Store persists what must survive a restart; store.Store implements it. Append must
// not block, and must not call done before it has returned.
type Store interface {
	Append(records []store.Record, done func(error))
}

// Client is the identity of a connection or, for a session that is offline, of its
// last connection.
type Client struct {
	ID      string
	User    string
	HasUser bool
	// Listener is the name that was given to Serve.
	Listener string
	// Remote is the address; "" for a session that is offline since the start.
	Remote string
	// Version is the protocol level: 3 is 3.1, 4 is 3.1.1, 5 is 5.0.
	Version byte
	// Assigned reports whether the engine generated ID.
	Assigned bool
	// Certificate is the name in the client certificate; "": there is none. A client
	// that sends no user name is this user.
	Certificate string
	// CertificateUse is what the certificate is for, as Certified reports it.
	CertificateUse string
	// Applicant is set for a client that Options.Applicant bounds.
	Applicant bool
}

// Certified is a connection that knows the name in its client's certificate once data
// was read from it.
type Certified interface {
	net.Conn
	// Certificate returns the name, and what the certificate is for: "" where that says
	// nothing.
	Certificate() (name, use string)
}

// Action is an operation of a client on a topic, which needs permission.
type Action uint8

// The actions that Options.Allow decides about.
const (
	// ActionPublish is to publish to a topic; for a will, when it is set and when it
	// is sent.
	ActionPublish Action = iota
	// ActionSubscribe is to subscribe to a filter, with $share/group/ if the
	// subscription is shared.
	ActionSubscribe
	// ActionDeliver is to deliver a message of a topic to the client.
	ActionDeliver
)

// The errors with which Options.Authenticate refuses a client. The client gets any
// other error as ErrNotAllowed; the log has its text.
var (
	ErrBadCredentials = errors.New("unknown user or wrong password")
	ErrNotAllowed     = errors.New("not allowed to connect")
	ErrClientIDTaken  = errors.New("the client id belongs to another user")
	ErrBusy           = errors.New("the server is busy")
)

// Options configure an engine. The zero value is valid.
type Options struct {
	Log    *slog.Logger
	Limits Limits
	// UserLimits are the limits at the start; SetUserLimits changes them.
	UserLimits UserLimits
	// Account returns whose limits apply to a client with a user: those of several users can
	// be one account. It must not block. Nil: each user is its own.
	Account func(c Client) string
	// Store gets every change, State is what it held at the start. A nil Store:
	// nothing survives.
	Store Store
	State store.State
	// Persists reports whether messages of a topic survive a restart. It must not
	// block, and its answer must not change. Nil: all of them do.
	Persists func(topic string) bool
	// Unlimited reports whether UserLimits.WrittenBytes does not apply to a client.
	// Nil: it applies to all.
	Unlimited func(c Client) bool
	// ChargeProgram reports whether retaining a message at a topic is charged to the
	// program's own budget if its publisher has no limit: for topics that are
	// published again by themselves. Its answer must not change. Nil: for none.
	ChargeProgram func(topic string) bool
	// Authenticate decides about each CONNECT, on the connection's own goroutine: it
	// may block. Nil: every client is accepted.
	Authenticate func(c Client, user string, hasUser bool, password []byte) error
	// Applicant reports whether a client without user and certificate is an applicant: of
	// these there are few connections, which have no session, no will and only small
	// messages, and what they publish goes to Receive alone, never retained. Nil: none is.
	Applicant func(c Client) bool
	// IgnoreUser reports whether the user name that a client sent is to be ignored: it
	// is then a client without a user. Nil: never.
	IgnoreUser func(c Client) bool
	// Allow decides whether a client may do something with a topic. It must not block.
	// Its answers are cached until AccessChanged. Nil: everything is allowed.
	Allow func(c Client, a Action, topic string) bool
	// ConnectionEnded is called for a connection that was ended for a fault of its
	// client. It must not block. Nil: it is logged.
	ConnectionEnded func(client, remote, reason string)
	// ConnectRefused is called for a client that the engine itself refused, for what
	// it sent or for a limit. It must not block. Nil: it is logged.
	ConnectRefused func(c Client, reason string)
	// DeniedAnswer returns a message for a client whose publish Allow denied, and
	// whose version of MQTT cannot report that; ok is false for none. The client gets
	// it if it is subscribed to its topic. It must not block. Nil: none.
	DeniedAnswer func(c Client, topic string, payload []byte) (answer topics.Message, ok bool)
	// Private reports whether what clients publish to a topic goes to Receive alone: it
	// reaches no subscriber, is not retained, and traces omit its payload. It must not
	// block, and its answer must not change. Nil: no topic is.
	Private func(topic string) bool
	// Receive gets what clients publish to private topics, in the order of each client.
	// answer sends a message to the publishing connection alone, if it is subscribed to
	// the topic; it must not be called before Receive returns. Receive must not block.
	Receive func(c Client, m topics.Message, answer func(topics.Message))
	// Notice is called for events that explain a missing message: one was dropped, or
	// a will was sent. It must not block. Nil: it is not called.
	Notice func(c Client, topic, what string)
	// SysSubscribed is called after a subscription below $SYS, so that its topics can
	// be published at once. It must not block.
	SysSubscribed func()
	// OwnListener is the name of the listener through which parts of the program are
	// clients: each of them is accounted for like a user of its own.
	OwnListener string
}

// Engine is a running MQTT server. Make it with New.
type Engine struct {
	log    *slog.Logger
	limits Limits
	// store is nil if nothing is persisted.
	store   Store
	opts    Options
	started time.Time

	// mu guards sessions. Code that routes messages holds it for reading until their
	// records are with the store, so that no record of a session follows the one that
	// removes it.
	mu       sync.RWMutex
	sessions map[string]*session
	closed   bool

	subscriptions tree
	routes        routes
	retained      retained
	// stripes serialise setting and routing of retained messages, by topic.
	stripes [64]sync.Mutex
	// access is the version of the access rules: the number of calls of AccessChanged.
	access    atomic.Uint32
	storeFull storeFullState

	// users is keyed as in usageOf, and guarded by mu.
	users  map[string]*usage
	memory memory
	// programUsage is that of the program's own messages.
	programUsage usage
	// unownedUsage is that of retained messages whose publisher is unknown.
	unownedUsage usage
	userLimits   atomic.Pointer[UserLimits]

	budgetsMu sync.Mutex
	// budgets are keyed by user.
	budgets map[string]*writeBudget
	// ownBudget is that of the program's own messages; nil: no limit.
	ownBudget *writeBudget
	deferred  deferredMessages

	admission  admission
	handshakes Handshakes
	sweeper    sweeper
	trace      atomic.Pointer[func(TraceEvent)]
	locals     localQueue
	running    sync.WaitGroup
	stats      counters
}

// New returns an engine with the state that the store held.
func New(o Options) (*Engine, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		log:      o.Log,
		limits:   effectiveLimits(o.Limits),
		store:    o.Store,
		opts:     o,
		started:  time.Now(),
		sessions: make(map[string]*session),
		users:    make(map[string]*usage),
		budgets:  make(map[string]*writeBudget),
		deferred: deferredMessages{byTopic: make(map[string]*deferredMessage)},
	}
	e.userLimits.Store(&o.UserLimits)
	e.handshakes.limit = e.limits.MaxConnecting
	e.handshakes.rejected = func(address string) {
		e.stats.connectionsRefused.Add(1)
		e.ended("", address, "it had not logged in, and more such connections than broker.limits.max_connecting are open")
	}
	e.memory.limit = int64(e.limits.Memory)
	if e.memory.limit <= 0 {
		e.memory.limit = unlimited
	}
	e.programUsage.exempt = true
	if e.store != nil {
		e.ownBudget = e.budgetNamed(programBudget)
	}
	e.retained.init()
	e.retained.memory, e.retained.refuse = &e.memory, e.retainRefusal
	e.routes.init(e.memory.limit)
	e.recover(o.State)
	e.opts.State = store.State{}
	return e, nil
}

// Serve takes over a connection and returns at once. listener is the name of the
// listener that accepted it, for Authenticate and Allow.
func (e *Engine) Serve(raw net.Conn, listener string) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		_ = raw.Close()
		return
	}
	c := newConn(e, raw, listener)
	e.running.Go(c.run)
}

// isClosed reports whether Close was called.
func (e *Engine) isClosed() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.closed
}

// Handshakes returns the set in which a listener registers connections that do
// something, such as TLS, before they are given to Serve.
func (e *Engine) Handshakes() *Handshakes { return &e.handshakes }

// UserOf returns the user of the session of a client identifier, connected or not.
func (e *Engine) UserOf(id string) (user string, has bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	s := e.sessions[id]
	if s == nil {
		return "", false
	}
	return s.client.Load().User, true
}

// AccessChanged makes the engine discard cached answers of Allow.
func (e *Engine) AccessChanged() {
	e.access.Add(1)
	e.subscriptions.changed()
}

// ended reports a connection that was ended for a fault of its client.
func (e *Engine) ended(client, remote, reason string) {
	if e.opts.ConnectionEnded != nil {
		e.opts.ConnectionEnded(client, remote, reason)
		return
	}
	e.log.Info("connection ended by the broker: "+reason, "client", client, "remote", remote)
}

// allowed reports whether Options.Allow permits an action.
func (e *Engine) allowed(c *Client, a Action, topic string) bool {
	return e.opts.Allow == nil || e.opts.Allow(*c, a, topic)
}

// Close delivers what is queued, for drainTimeout at most, sends DISCONNECT 0x8B
// (server shutting down) to clients of MQTT 5, closes all connections and waits for
// their goroutines. ctx bounds it.
//
// Wills are not sent: the end of the server says nothing about its clients. They are
// deferred until the restart, as MQTT 5 (3.1.2.5) permits, and a client that is back
// in time removes its own. Mosquitto sends all wills when it ends, which makes every
// upgrade look as if all devices had failed.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	all := slices.Collect(maps.Values(e.sessions))
	e.mu.Unlock()
	for _, s := range all {
		s.startDrain()
	}
	for _, c := range e.admission.withoutSession() {
		c.close()
	}
	ended := make(chan struct{})
	go func() { e.running.Wait(); close(ended) }()
	drain := time.NewTimer(drainTimeout)
	defer drain.Stop()
	var err error
	select {
	case <-ended:
	case <-drain.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	for _, s := range all {
		s.disconnectForShutdown()
	}
	select {
	case <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	for _, s := range all {
		s.stopTimer()
	}
	e.sweeper.stop()
	e.persistAllDeferred()
	return err
}

// How long Close lets clients receive what is queued for them, and how long sending
// the reason for a disconnection may take.
const (
	drainTimeout      = time.Second
	disconnectTimeout = time.Second
)

// now returns the time since the engine started, by the monotonic clock.
func (e *Engine) now() time.Duration { return time.Since(e.started) }
