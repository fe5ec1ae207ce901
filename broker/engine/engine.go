// Package engine is an MQTT server, 3.1, 3.1.1 and 5.0, over connections that it
// is given.
//
// It owns sessions, subscriptions, retained messages, wills, and the way of a
// message from publisher to subscribers, with the limits that keep clients from
// harming each other. It refuses what is not its own: it opens no listener and
// no file, knows no users and no configuration. Who may do what it asks one
// function, Options.Allow; what must survive it tells Options.Store, and it
// acknowledges nothing before the store has it.
//
// A connection has a goroutine that reads, and while there is something to
// write one that writes. Everything else happens on the goroutine of whoever
// causes it. Nobody holds a mutex while reading, writing or waiting, so a
// client that stands still stops nobody. The order of the mutexes is: Engine.mu,
// a retained topic's stripe, session.mu, and then those of the leaves
// (subscriptions and their groups, retained, routes, the store).
//
// Package broker imports it, and tests.
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

// Store keeps what must survive; store.Store is one. Append must not block, and
// must not call done before it has returned.
type Store interface {
	Append(records []store.Record, done func(error))
}

// Client is who is asked about: the identity of a connection or, where it is
// offline, of the session's last one.
type Client struct {
	ID       string
	User     string
	HasUser  bool
	Listener string // as given to Serve
	Remote   string // address; "" for a session that is offline since the start
	Version  byte   // of the protocol: 3 is 3.1, 4 is 3.1.1, 5 is 5.0
	Assigned bool   // the ID was made up by the engine
	// Certificate is what the connection proved of the client before MQTT: the
	// name in its certificate. "": nothing. A client that names no user is this
	// one.
	Certificate string
}

// Certified is a connection that may know the name in its client's
// certificate once something was read of it.
type Certified interface {
	net.Conn
	Certificate() string
}

// Action is what a client wants to do with a topic.
type Action uint8

// The actions that Options.Allow is asked about.
const (
	ActionPublish   Action = iota // to a topic; a will too, when it is made and when it is sent
	ActionSubscribe               // to a filter; of a shared subscription with its $share/group/
	ActionDeliver                 // of a message with a topic to the client
)

// What Options.Authenticate returns to refuse a client. Any other error is
// ErrNotAllowed to the client and said in the log.
var (
	ErrBadCredentials = errors.New("unknown user or wrong password")
	ErrNotAllowed     = errors.New("not allowed to connect")
	ErrNotItsID       = errors.New("the client id belongs to another user")
	ErrBusy           = errors.New("the server is busy")
)

// Options are what an engine is made of. All may be zero.
type Options struct {
	Log    *slog.Logger
	Limits Limits
	// UserLimits are those at the start; SetUserLimits changes them.
	UserLimits UserLimits
	// Store is told of each change; State is what it held at the start. Nil:
	// nothing survives.
	Store Store
	State store.State
	// Persists reports whether what is published to a topic survives a restart.
	// It must not wait, and gives the same answer each time. Nil: all of it does.
	Persists func(topic string) bool
	// Unlimited reports whether UserLimits.WrittenBytes does not bind a client.
	// Nil: it binds all of them.
	Unlimited func(c Client) bool
	// Paced reports whether what is retained at a topic is paid for by the account of
	// the program's own messages, where its publisher has no limit: what is published
	// again by itself. Nil: no topic.
	Paced func(topic string) bool
	// Authenticate decides about each CONNECT, on the connection's own
	// goroutine: it may take its time. Nil: everybody is let in.
	Authenticate func(c Client, user string, hasUser bool, password []byte) error
	// Nameless reports whether the user name that a client gave is of no account:
	// it is one without a user. Nil: none is.
	Nameless func(c Client) bool
	// Allow is the one decision about access. It must not wait for anything. Its
	// answers are remembered until AccessChanged. Nil: everything is allowed.
	Allow func(c Client, a Action, topic string) bool
	// Ended is told of a connection that was ended for a fault of its client.
	// It must not wait. Nil: the log is.
	Ended func(client, remote, why string)
	// Refused is told of a client that was not let in by the engine itself, for
	// what it sent or for a limit. It must not wait. Nil: the log is.
	Refused func(c Client, why string)
	// Denied returns what a client is sent whose publish Allow denied and whose
	// version of MQTT has no way to tell it so; ok is false for nothing. It gets
	// that where it is subscribed to the topic. It must not wait. Nil: nothing.
	Denied func(c Client, topic string, payload []byte) (answer topics.Message, ok bool)
	// Noticed is told what somebody may look for who misses a message: that one
	// was dropped, or a will was sent. It must not wait. Nil: nobody is.
	Noticed func(c Client, topic, what string)
	// Subscribed is told of subscriptions below $SYS, so that what is told there
	// is told at once. It must not wait.
	Subscribed func()
	// OwnListener is the name of the listener by which parts of the program
	// itself are clients: each is accounted for like a user of its own.
	OwnListener string
}

// Engine is a running MQTT server. Make it with New.
type Engine struct {
	log    *slog.Logger
	limits Limits
	store  Store // nil: none
	ask    Options
	began  time.Time

	// mu guards sessions. Whoever routes messages holds it for reading until
	// their records are with the store, so that none of a session comes after
	// the record that it is gone.
	mu       sync.RWMutex
	sessions map[string]*session
	closed   bool

	subscriptions tree
	routes        routes
	retained      retained
	stripes       [64]sync.Mutex // one a retained topic, while it is set and routed
	access        atomic.Uint32  // counts AccessChanged
	full          fullness

	users      map[string]*usage // by name, see usageOf; guarded by mu
	memory     memory
	self       usage // of what the program itself publishes
	orphans    usage // of retained messages of nobody who is known
	userLimits atomic.Pointer[UserLimits]

	accountsMu sync.Mutex
	accounts   map[string]*account // by user
	own        *account            // of the program's own messages; nil: no limit
	paced      paced

	admission admission
	lobby     Lobby
	sweeper   sweeper
	trace     atomic.Pointer[func(Traced)]
	inside    inside
	running   sync.WaitGroup
	stats     counters
}

// New makes an engine and takes over what the store held.
func New(o Options) (*Engine, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		log:      o.Log,
		limits:   o.Limits.withDefaults(),
		store:    o.Store,
		ask:      o,
		began:    time.Now(),
		sessions: make(map[string]*session),
		users:    make(map[string]*usage),
		accounts: make(map[string]*account),
		paced:    paced{byTopic: make(map[string]*heldTopic)},
	}
	e.userLimits.Store(&o.UserLimits)
	e.lobby.most = e.limits.MaxConnecting
	e.lobby.rejected = func(address string) {
		e.stats.turnedAway.Add(1)
		e.ended("", address, "it had not logged in, and more connections that have not than broker.limits.max_connecting are there")
	}
	e.memory.limit = int64(e.limits.Memory)
	if e.memory.limit <= 0 {
		e.memory.limit = unlimited
	}
	e.self.own = true
	if e.store != nil {
		e.own = e.accountNamed(ownAccount)
	}
	e.retained.init()
	e.retained.memory, e.retained.room = &e.memory, e.mayRetain
	e.routes.init(e.memory.limit)
	e.recover(o.State)
	e.ask.State = store.State{}
	return e, nil
}

// Serve takes over a connection and returns at once. listener is the name of
// the door it came in by, for Authenticate and Allow.
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

// Lobby is where a listener's connections wait until they are given to Serve,
// if it has something to ask of them before.
func (e *Engine) Lobby() *Lobby { return &e.lobby }

// UserOf returns the user of the session that a client identifier has, connected
// or kept.
func (e *Engine) UserOf(id string) (user string, has bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	s := e.sessions[id]
	if s == nil {
		return "", false
	}
	return s.client.Load().User, true
}

// AccessChanged makes the engine ask Allow anew about everything.
func (e *Engine) AccessChanged() {
	e.access.Add(1)
	e.subscriptions.changed()
}

func (e *Engine) ended(client, remote, why string) {
	if e.ask.Ended != nil {
		e.ask.Ended(client, remote, why)
		return
	}
	e.log.Info("connection ended by the broker: "+why, "client", client, "remote", remote)
}

func (e *Engine) allow(c *Client, a Action, topic string) bool {
	return e.ask.Allow == nil || e.ask.Allow(*c, a, topic)
}

// Close lets the clients have what is queued for them, for a second at most,
// says DISCONNECT 0x8B (server shutting down) to those of MQTT 5, closes all
// connections and waits for the end. ctx bounds it.
//
// Wills are not sent: that the server ends says nothing about its clients. They
// are deferred until the restart, as MQTT 5 (3.1.2.5) permits; there a client
// that is back in time takes its own away. Mosquitto sends all wills when it ends, which tells a home on each upgrade
// that everything is gone.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	all := slices.Collect(maps.Values(e.sessions))
	e.mu.Unlock()
	for _, s := range all {
		s.drain()
	}
	for _, c := range e.admission.strangers() {
		c.hangUp()
	}
	ended := make(chan struct{})
	go func() { e.running.Wait(); close(ended) }()
	patience := time.NewTimer(drainTime)
	defer patience.Stop()
	var err error
	select {
	case <-ended:
	case <-patience.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	for _, s := range all {
		s.cut()
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
	e.persistAll()
	return err
}

// How long Close lets a client take what is queued for it, and how long a
// connection may take to be told why it ends.
const (
	drainTime   = time.Second
	goodbyeTime = time.Second
)

// now is the time since the engine began, by the monotonic clock.
func (e *Engine) now() time.Duration { return time.Since(e.began) }
