// Package client is the way to a broker over the network, for the hub on an
// external broker, the agent and the command line: one connection, with birth
// and will left to the caller.
//
// It owns the MQTT 3.1.1 session of one connection and keeps paho inside: a
// connection that is over stays over, the caller connects anew (Backoff says
// when) and subscribes and publishes its state again, because a clean session
// forgot both. It decides nothing about topics. hub, agent and ctl may import
// it.
package client

import (
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

	"github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/jmbarzee/dominion/topics"
)

// The defaults of Options.
const (
	DefaultKeepAlive = 5 * time.Second
	DefaultTimeout   = 3 * time.Second
)

// ErrNotAuthorized is the cause when a broker refuses user and password, not
// the network.
var ErrNotAuthorized = errors.New("the broker refused user or password")

// ErrRefused is the cause when a broker refuses a subscription (SUBACK 0x80 and
// above). Most often the user may not read the topic, but brokers also refuse
// filters and kinds of subscriptions that they do not support.
var ErrRefused = errors.New("the user's role does not allow it, or the broker does not support this subscription, or not at present")

// ErrVersion is the cause when a broker does not speak the version of MQTT that
// it was asked for.
var ErrVersion = errors.New("the broker does not speak this version of MQTT")

// ErrClientID is the cause when a broker refuses the client identifier: it is
// another user's, or not for this one.
var ErrClientID = errors.New("the broker does not let this user have that client identifier")

// ErrNoAnswer is the cause when a broker ends the connection instead of answering
// the CONNECT.
var ErrNoAnswer = errors.New("it ended the connection before it answered")

type noAnswer struct{ err error }

func (n noAnswer) Error() string        { return ErrNoAnswer.Error() + ": " + n.err.Error() }
func (n noAnswer) Unwrap() error        { return n.err }
func (n noAnswer) Is(target error) bool { return target == ErrNoAnswer }

// notAnonymous is ErrNotAuthorized for who gave no user.
type notAnonymous struct{}

func (notAnonymous) Error() string        { return "the broker wants user and password" }
func (notAnonymous) Is(target error) bool { return target == ErrNotAuthorized }

// Options say where to connect and as whom.
type Options struct {
	URL      string // mqtt://[user@]host[:port] or mqtts://[user@]host[:port]
	User     string // beats the URL's
	Password string
	CAFile   string // certificates to trust instead of the system's, PEM
	CertFile string // our own certificate, PEM, where the server asks for one; "": none
	KeyFile  string // of CertFile
	ClientID string
	// Will is what the broker publishes when the connection ends without Close.
	Will *topics.Message
	// KeepAlive is how long the line may be silent before it is asked for a
	// sign of life, in whole seconds.
	KeepAlive time.Duration
	// Timeout bounds each of connecting, writing a packet and the answer to a
	// ping.
	Timeout time.Duration
	// Interfaces are the names of those on which a host name of the URL that ends in
	// .local is asked for by multicast DNS; none: as for zeroconf.Interfaces.
	Interfaces []string
	// Dial opens the connection below TLS. nil: TCP to the URL's host.
	Dial func(ctx context.Context) (net.Conn, error)
	// OnMessage is called for each message, in order, on a goroutine that reads
	// nothing more until it returns: it only enqueues.
	OnMessage func(topics.Message)
	// OnDelivery is called instead of OnMessage where it is set. The message is
	// acknowledged when ack is called, by any goroutine: until then the broker
	// has to keep it.
	OnDelivery func(m topics.Message, ack func())
	// MaxPacket is the size of the largest PUBLISH that is taken, with its
	// header; 0: DefaultMaxPacket. TooLarge is told of a larger one, which is
	// acknowledged and not delivered; nil: the log is, once for each topic.
	MaxPacket int
	TooLarge  func(topic string, size int)
	// Keep asks for a session that outlives the connection.
	Keep bool
	// Bridge says that we are a broker, too, in the way of mosquitto: we are
	// not given our own messages, and the retain flag comes as it was published.
	Bridge bool
	// MQTT5 speaks MQTT 5.0 on the line, in which a broker gives reasons for what
	// it refuses. There is no will with it.
	MQTT5 bool
	// Own, with MQTT5, marks the connection as that of a bridge to its own broker,
	// which then counts what the bridge misses.
	Own bool
	// Window is how many messages of QoS 1 may be unacknowledged, each way with
	// MQTT5; 0: as many as the connection takes.
	Window int
	// OneByOne sends a message of QoS 1 only after the one before was
	// acknowledged, until AtOnce is called.
	OneByOne bool
	Log      *slog.Logger
}

// Conn is one connection. Make it with Connect.
type Conn struct {
	name    string // of the broker, for errors
	timeout time.Duration
	log     *slog.Logger
	paho    mqtt.Client
	wire    *wire
	resumed bool
	keep    bool        // the session outlives the connection
	qos0    atomic.Bool // the broker granted at QoS 0 what it refused at QoS 1

	queue    *queue
	inflight chan sent     // handed to paho, not acknowledged yet
	limits   limits        // of the broker
	window   chan struct{} // holds as many values as messages of QoS 1 may be sent now; nil: no limit
	withheld int           // values that AtOnce adds
	unacked  atomic.Int64  // messages of QoS 1 that paho was handed
	lost     chan struct{} // closed at the first reason to end, before all has ended
	lostOnce sync.Once
	err      error         // why; written before lost is closed
	done     chan struct{} // closed when nothing is left
	workers  sync.WaitGroup
}

// Connect opens a connection with a clean session. Its error names the broker
// and the cause; errors.Is(err, ErrNotAuthorized) tells a refused user from a
// broker that cannot be reached.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	if o.KeepAlive <= 0 {
		o.KeepAlive = DefaultKeepAlive
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxPacket <= 0 {
		o.MaxPacket = DefaultMaxPacket
	}
	if o.TooLarge == nil {
		o.TooLarge = logTooLarge(o.Log, o.MaxPacket)
	}
	if o.URL == "" && o.Dial != nil {
		o.URL = "mqtt://broker"
	}
	server, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if o.User == "" {
		o.User = server.user
	}
	var secure *tls.Config
	if server.tls {
		if secure, err = tlsConfig(server.host, o); err != nil {
			return nil, fmt.Errorf("cannot connect to %s: %w", server, err)
		}
	}
	c := &Conn{
		name:     server.String(),
		timeout:  o.Timeout,
		log:      o.Log,
		keep:     o.Keep,
		queue:    newQueue(),
		inflight: make(chan sent, maxInflight),
		lost:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	if err := c.connect(ctx, o, server, secure); err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", c.name, err)
	}
	c.setWindow(o)
	c.workers.Go(c.send)
	c.workers.Go(c.await)
	go c.end()
	return c, nil
}

func (c *Conn) connect(ctx context.Context, o Options, server server, secure *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	var dialErr error
	opts := pahoOptions(o, server)
	opts.SetCustomOpenConnectionFn(openFunc(func() (net.Conn, error) {
		c.wire, dialErr = open(ctx, o, server, secure)
		if dialErr != nil {
			return nil, dialErr
		}
		return c.wire, nil
	}))
	opts.SetConnectionLostHandler(func(_ mqtt.Client, err error) { c.lose(fmt.Errorf("connection to %s lost: %w", c.name, err)) })
	if o.OnDelivery != nil {
		opts.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			o.OnDelivery(topics.Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained()}, m.Ack)
		})
	} else if o.OnMessage != nil {
		opts.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			o.OnMessage(topics.Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained()})
		})
	} else {
		opts.SetDefaultPublishHandler(func(mqtt.Client, mqtt.Message) {})
	}
	c.paho = mqtt.NewClient(opts)
	token := c.paho.Connect().(*mqtt.ConnectToken)
	<-token.Done() // bounded: ctx bounds dialing, and open closes the line when ctx ends
	if err := token.Error(); err != nil {
		return connectError(err, dialErr, cmp.Or(o.User, server.user), ctx)
	}
	c.resumed = token.SessionPresent()
	if v := c.wire.v5; v != nil {
		v.mu.Lock()
		c.limits = v.limits
		v.mu.Unlock()
	}
	if !c.wire.settle() { // ctx ended at the same moment, the line is closed
		c.paho.Disconnect(0)
		return context.Cause(ctx)
	}
	return nil
}

func connectError(err, dialErr error, user string, ctx context.Context) error {
	switch {
	case dialErr != nil:
		return dialErr
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		if user == "" {
			return notAnonymous{}
		}
		return ErrNotAuthorized
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return ErrClientID
	case errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return ErrVersion
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("it took the connection, but did not answer as an MQTT broker in time: %w", ctx.Err())
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if both, ok := err.(interface{ Unwrap() []error }); ok { // paho's "network Error : cause"
		if all := both.Unwrap(); len(all) > 1 {
			err = all[len(all)-1]
		}
	}
	return noAnswer{err}
}

// Resumed tells whether the broker had kept the session.
func (c *Conn) Resumed() bool { return c.resumed }

// Subscribe subscribes to filters at QoS 1, one after the other, and waits for the
// broker's answers. A filter that it refuses is an error that names it.
//
// A refusal without a reason is not always for good: a cluster that lost a node
// cannot set up deliveries of QoS 1 until it has elected new leaders. Such a filter is
// asked for once more at QoS 0, which needs no state in the broker, and the filters
// that follow on this connection at QoS 0 at once. A session that ends with the
// connection loses nothing that QoS 1 would have preserved; one that outlives it (Keep)
// is not downgraded.
func (c *Conn) Subscribe(ctx context.Context, filters ...string) error {
	for _, f := range filters {
		if err := c.subscribe(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) subscribe(ctx context.Context, filter string) error {
	qos := byte(1)
	if c.qos0.Load() {
		qos = 0
	}
	code, err := c.ask(ctx, filter, qos)
	if err == nil && noReason(code) && qos == 1 && !c.keep {
		qos = 0
		if code, err = c.ask(ctx, filter, qos); err == nil && code < refused && !c.qos0.Swap(true) {
			c.log.Warn("the broker refuses subscriptions of QoS 1: this connection subscribes at QoS 0", "broker", c.name, "filter", filter)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot subscribe to %s: %w", filter, err)
	}
	if code >= refused {
		return fmt.Errorf("cannot subscribe to %s: refused by %s; %w", filter, c.name, ErrRefused)
	}
	return nil
}

// noReason reports whether the code of a SUBACK refuses and does not say why.
func noReason(code byte) bool { return code == refused || code == implementation }

// ask sends one SUBSCRIBE and returns the return code of its SUBACK.
func (c *Conn) ask(ctx context.Context, filter string, qos byte) (code byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*c.timeout)
	defer cancel()
	for {
		t := c.paho.Subscribe(filter, qos, nil).(*mqtt.SubscribeToken)
		select {
		case <-t.Done():
		case <-c.lost:
			return 0, cmp.Or(c.err, net.ErrClosed)
		case <-ctx.Done():
			return 0, fmt.Errorf("%s did not answer: %w", c.name, ctx.Err())
		}
		// paho keys the results by the filter without $share/group/, hence no
		// look-up by name
		code = 0
		for _, code = range t.Result() {
		}
		switch {
		case code == idInUse:
		case code >= refused:
			return code, nil // paho's error says no more
		default:
			return code, t.Error()
		}
	}
}

// Unsubscribe ends a subscription. Messages that are on their way still come.
func (c *Conn) Unsubscribe(filters ...string) { c.paho.Unsubscribe(filters...) }

// refused is the SUBACK return code of a failure (MQTT 3.1.1, 3.9.3); idInUse
// is what mochi answers while a delivery of its own has the packet id that the
// SUBSCRIBE chose, as when retained messages stream in: asked again it has
// another one.
const (
	refused        = 0x80
	implementation = 0x83 // implementation specific error, of MQTT 5.0
	idInUse        = 0x91
)

// Done is closed when the connection is over: after Close nothing of it is
// left, after a loss what is left ends by itself within Timeout.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err tells why the connection is over: nil before it is, and after Close.
func (c *Conn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// EndedByBroker reports whether the broker ended the connection, by itself or
// with a DISCONNECT that gives the reason, once Done is closed.
func (c *Conn) EndedByBroker() (by bool, reason *Disconnected) {
	if v := c.wire.v5; v != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		reason = v.ended
	}
	return c.wire.peer.Load(), reason
}

// Close sends what was published, says DISCONNECT, so that there is no will,
// and waits until nothing is left. It takes two Timeouts at most.
func (c *Conn) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	if err := c.Flush(ctx); err != nil {
		c.log.Debug("not all was sent before the connection was closed", "broker", c.name, "error", err)
	}
	c.lose(nil)
	<-c.done
}

// lose begins the end; the first reason counts.
func (c *Conn) lose(err error) {
	c.lostOnce.Do(func() {
		c.err = err
		close(c.lost)
	})
}

// brokenQuiesce is the milliseconds that paho is given to end a line that is
// broken. Whoever waits for Done wants to connect anew at once.
const brokenQuiesce = 20

// end waits for the first reason to end, and ends everything.
func (c *Conn) end() {
	<-c.lost
	if c.err != nil {
		_ = c.wire.Close() // no DISCONNECT: the will is wanted
	}
	quiesce := uint(c.timeout.Milliseconds())
	if c.err != nil {
		quiesce = brokenQuiesce // the answer that paho would wait for cannot come
	}
	c.paho.Disconnect(quiesce)
	_ = c.wire.Close()
	c.paho.Disconnect(quiesce) // the first may have returned early: this one waits for it
	if c.err == nil {
		c.workers.Wait()
	}
	// The sender of a broken line may hang in paho's Publish until Timeout.
	// Nobody waits for it: it sees c.lost and ends, and its caller has begun anew.
	close(c.done)
}
