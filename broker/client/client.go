// Package client connects to a broker over the network, for the hub on an external
// broker, the agent, the command line and bridges. Birth message and will are the
// caller's.
//
// It owns one connection of MQTT 5.0, or of 3.1.1 to a broker that does not support
// 5.0. A connection that has ended stays ended: the caller connects again (Backoff
// returns when), subscribes, and publishes its state, because a clean session has
// neither. It decides nothing about topics. hub, agent, ctl and broker/bridge may
// import it.
//
// # Files
//
//	backoff.go    the time before the next connection
//	client.go     connecting, the fallback to 3.1.1, closing
//	dial.go       addresses, TLS, TCP
//	errors.go     errors of connections and subscriptions in words
//	inflight.go   messages that are not acknowledged yet, and how many
//	options.go    what a caller may set; default keep-alive and time-out
//	queue.go      what waits to be sent, and its bounds
//	reader.go     packets of the broker; the largest one
//	refusal.go    messages that the broker does not take
//	subscribe.go  subscriptions and what a broker answers
//	writer.go     the writing goroutine: batches, keep-alive, a broker that does not answer
package client

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// Conn is one connection. Make it with Connect.
type Conn struct {
	// name is the URL of the broker, for errors.
	name      string
	options   Options
	timeout   time.Duration
	keepAlive time.Duration
	log       *slog.Logger
	conn      net.Conn
	// version is that of MQTT, wire.V311 or wire.V5.
	version byte
	// answer is the CONNACK, with the capabilities of the broker.
	answer wire.Answer
	// logRefused limits the log entries about refused messages, and logTooLarge those
	// about messages that are not accepted.
	logRefused, logTooLarge topicLimiter
	// qos0 is set when the broker has granted at QoS 0 what it refused at QoS 1.
	qos0 atomic.Bool

	queue *queue
	// wake wakes the writing goroutine.
	wake chan struct{}
	// began is when the connection was opened; lastReceived is the time since then at
	// which the broker was last read from.
	began        time.Time
	lastReceived atomic.Int64

	// mu guards what the goroutines share.
	mu    sync.Mutex
	state sharedState

	// failed is closed at the first reason to end, before everything has ended.
	failed   chan struct{}
	failOnce sync.Once
	// err is that reason, and graceful is set if the connection ends with DISCONNECT. They
	// are written before failed is closed.
	err      error
	graceful bool
	// endedByPeer is set if the broker ended the connection, not the client, the
	// network or a deadline.
	endedByPeer atomic.Bool
	// readerDone and writerDone are closed when the goroutines have ended, done when
	// everything has.
	readerDone, writerDone, done chan struct{}
}

// sharedState is the state of a connection that its goroutines share.
type sharedState struct {
	// control holds encoded packets other than PUBLISH that are to be sent. They are
	// sent before the messages in the queue.
	control []byte
	// lastID is the last packet identifier that was assigned.
	lastID uint16
	// requests holds the channels for the answers to SUBSCRIBE, by packet identifier,
	// and nil for those to UNSUBSCRIBE.
	requests map[uint16]chan<- wire.ServerAck
	inflight inflight
	// pingSent is when the PINGREQ was sent that is not answered; zero: none is.
	pingSent     time.Time
	disconnected *DisconnectError
	// renewAt is when the connection ends so that the caller publishes its state
	// again; zero: it does not.
	renewAt time.Time
	// renewReason is why.
	renewReason string
}

// Connect opens a connection: of MQTT 5.0, or of 3.1.1 if the broker does not support
// 5.0, unless Options.Version requires one of them. Its error names the broker and the
// cause; errors.Is(err, ErrNotAuthorized) distinguishes a refused user from a broker
// that cannot be reached.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	o.setDefaults()
	server, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	o.User = cmp.Or(o.User, server.user)
	var secure *tls.Config
	if server.tls {
		if secure, err = tlsConfig(server.host, o); err != nil {
			return nil, fmt.Errorf("cannot connect to %s: %w", server, err)
		}
	}
	c := &Conn{
		name:       cmp.Or(o.Name, server.String()),
		options:    o,
		timeout:    o.Timeout,
		log:        o.Log,
		queue:      newQueue(),
		wake:       make(chan struct{}, 1),
		failed:     make(chan struct{}),
		readerDone: make(chan struct{}),
		writerDone: make(chan struct{}),
		done:       make(chan struct{}),
	}
	r, err := c.negotiate(ctx, server, secure)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", c.name, err)
	}
	c.keepAlive = o.keepAlive()
	if limit := time.Duration(c.answer.KeepAlive) * time.Second; limit > 0 { // [MQTT-3.1.2-21]
		c.keepAlive = min(c.keepAlive, limit)
	}
	c.state.requests = make(map[uint16]chan<- wire.ServerAck)
	c.state.inflight.setWindow(o, c.answer.ReceiveMaximum)
	go c.read(r)
	go c.write()
	go c.shutDown()
	return c, nil
}

// negotiate opens the connection with the highest version that the broker supports,
// within the timeout. A broker that does not support MQTT 5.0 refuses it, or closes the
// connection.
func (c *Conn) negotiate(ctx context.Context, server serverURL, secure *tls.Config) (*bufio.Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if v := c.options.Version; v != 0 {
		return c.open(ctx, server, secure, v)
	}
	r, err := c.open(ctx, server, secure, wire.V5)
	unsupported := errors.Is(err, ErrVersion)
	if !unsupported && !errors.Is(err, ErrNoAnswer) {
		return r, err
	}
	r, v311Err := c.open(ctx, server, secure, wire.V311)
	if v311Err == nil || unsupported || errors.As(v311Err, new(*ConnectError)) {
		return r, v311Err
	}
	return nil, err
}

// open opens the network connection and the MQTT session.
func (c *Conn) open(ctx context.Context, server serverURL, secure *tls.Config, version byte) (*bufio.Reader, error) {
	conn, err := dial(ctx, c.options, server, secure)
	if err != nil {
		return nil, err
	}
	detach := context.AfterFunc(ctx, func() { closeNow(conn) })
	c.conn, c.began, c.version = conn, time.Now(), version
	c.lastReceived.Store(0)
	r := bufio.NewReader((*receiver)(c))
	c.answer, err = c.handshake(r)
	if !detach() { // ctx has ended, and the connection is closed
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, fmt.Errorf("it accepted the connection, but did not answer as an MQTT broker in time: %w", ctx.Err())
		}
		return nil, ctx.Err()
	}
	if err != nil {
		closeNow(conn)
		return nil, err
	}
	return r, nil
}

// handshake sends CONNECT and returns the CONNACK that accepts it.
func (c *Conn) handshake(r *bufio.Reader) (wire.Answer, error) {
	packet, err := c.options.request(c.version).Append(nil)
	if err != nil {
		return wire.Answer{}, err
	}
	if _, err := c.conn.Write(packet); err != nil {
		return wire.Answer{}, noAnswerError{err}
	}
	first, _, size, err := readHeader(r)
	if err == nil && (first != wire.Connack<<4 || size > maxControl) {
		return wire.Answer{}, errors.New("it does not answer as an MQTT broker")
	}
	var body []byte
	if err == nil {
		body, err = readBody(r, size)
	}
	if err != nil {
		return wire.Answer{}, noAnswerError{err}
	}
	answer, err := wire.DecodeConnack(body, c.version)
	if err != nil {
		return answer, fmt.Errorf("it answers with a malformed CONNACK: %w", err)
	}
	if c.version == wire.V5 && answer.Version != wire.V5 {
		return answer, &ConnectError{Code: wire.UnsupportedVersion, version: wire.V311}
	}
	if answer.Code != wire.Success {
		return answer, newConnectError(answer, c.options.User)
	}
	return answer, nil
}

// receiver is a Conn as the reader of its network connection. It notes when something
// was received.
type receiver Conn

// Read reads from the network.
func (r *receiver) Read(b []byte) (int, error) {
	n, err := r.conn.Read(b)
	if n > 0 {
		r.lastReceived.Store(int64(time.Since(r.began)))
	}
	return n, err
}

// Version returns the version of MQTT as its protocol level: 5 for 5.0, 4 for 3.1.1.
func (c *Conn) Version() byte { return c.version }

// ConnectionState returns the state of TLS with the broker's certificates; ok is false
// without TLS.
func (c *Conn) ConnectionState() (state tls.ConnectionState, ok bool) {
	t, ok := c.conn.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return t.ConnectionState(), true
}

// Resumed reports whether the broker had a session of the client.
func (c *Conn) Resumed() bool { return c.answer.SessionPresent }

// Done is closed when the connection has ended and nothing of it is left.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended: nil before its end, and after Close.
func (c *Conn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// EndedByBroker reports, once Done is closed, whether the broker ended the connection,
// and the reason if it sent a DISCONNECT with one.
func (c *Conn) EndedByBroker() (by bool, reason *DisconnectError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endedByPeer.Load(), c.state.disconnected
}

// Close sends what was published, sends DISCONNECT, so that the will is not sent, and
// waits for the end. It takes two Timeouts at most.
func (c *Conn) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	if err := c.Flush(ctx); err != nil {
		c.log.Debug("not everything was sent before the connection was closed", "broker", c.name, "error", err)
	}
	c.endGracefully(nil)
	<-c.done
}

// fail begins the end of the connection, without DISCONNECT, so that the will is sent.
// The first reason counts.
func (c *Conn) fail(err error) { c.end(err, false) }

// endGracefully begins the end of the connection with DISCONNECT, so that the will is not sent.
// The first reason counts; nil is that of Close.
func (c *Conn) endGracefully(err error) { c.end(err, true) }

// end begins the end of the connection.
func (c *Conn) end(err error, graceful bool) {
	c.failOnce.Do(func() {
		c.err, c.graceful = err, graceful
		close(c.failed)
	})
}

// hasFailed reports whether the connection is ending.
func (c *Conn) hasFailed() bool {
	select {
	case <-c.failed:
		return true
	default:
		return false
	}
}

// shutDown waits for the first reason to end, and ends everything.
func (c *Conn) shutDown() {
	<-c.failed
	if !c.graceful {
		closeNow(c.conn)
	} else {
		limit := time.AfterFunc(c.timeout, func() { closeNow(c.conn) })
		defer limit.Stop()
	}
	<-c.writerDone
	_ = c.conn.Close()
	<-c.readerDone
	close(c.done)
}

// closeNow closes a connection without the goodbye of TLS, which would wait for a peer
// that does not read.
func closeNow(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	_ = conn.Close()
}
