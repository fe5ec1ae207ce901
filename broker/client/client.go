// Package client connects to a broker over the network, for the hub on an external
// broker, the agent, the command line and bridges. Birth message and will are the
// caller's.
//
// It owns one connection of MQTT 3.1.1, or 5.0 by translation, and hides paho. A
// connection that has ended stays ended: the caller connects again (Backoff returns
// when), subscribes, and publishes its state, because a clean session has neither. It
// decides nothing about topics. hub, agent, ctl and broker/bridge may import it.
package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/jmbarzee/dominion/topics"
)

// Conn is one connection. Make it with Connect.
type Conn struct {
	// name is the URL of the broker, for errors.
	name      string
	timeout   time.Duration
	log       *slog.Logger
	paho      mqtt.Client
	transport *transport
	resumed   bool
	// persistent is set if the session outlives the connection.
	persistent bool
	// qos0 is set when the broker has granted at QoS 0 what it refused at QoS 1.
	qos0 atomic.Bool

	queue *queue
	// inflight holds, in order, what was passed to paho and is not acknowledged.
	inflight chan inflightItem
	// capabilities are those of the broker.
	capabilities capabilities
	// windowSlots holds one value for each message of QoS 1 that may be sent now; nil:
	// no limit.
	windowSlots chan struct{}
	// withheldSlots is the number of values that EndSequential adds.
	withheldSlots int
	// unacked counts messages of QoS 1 that paho has and that are not acknowledged.
	unacked atomic.Int64
	// failed is closed at the first reason to end, before everything has ended.
	failed   chan struct{}
	failOnce sync.Once
	// err is that reason; it is written before failed is closed.
	err error
	// done is closed when everything has ended.
	done    chan struct{}
	workers sync.WaitGroup
}

// Connect opens a connection. Its error names the broker and the cause; errors.Is(err,
// ErrNotAuthorized) distinguishes a refused user from a broker that cannot be reached.
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
		name:       server.String(),
		timeout:    o.Timeout,
		log:        o.Log,
		persistent: o.Persistent,
		queue:      newQueue(),
		inflight:   make(chan inflightItem, maxInflight),
		failed:     make(chan struct{}),
		done:       make(chan struct{}),
	}
	if err := c.connect(ctx, o, server, secure); err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", c.name, err)
	}
	c.setWindow(o)
	c.workers.Go(c.send)
	c.workers.Go(c.awaitAcks)
	go c.shutDown()
	return c, nil
}

// connect opens the transport and the MQTT session, within the timeout.
func (c *Conn) connect(ctx context.Context, o Options, server serverURL, secure *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	var dialErr error
	opts := pahoOptions(o, server)
	opts.SetCustomOpenConnectionFn(openFunc(func() (net.Conn, error) {
		c.transport, dialErr = openTransport(ctx, o, server, secure)
		if dialErr != nil {
			return nil, dialErr
		}
		return c.transport, nil
	}))
	opts.SetConnectionLostHandler(func(_ mqtt.Client, err error) { c.fail(fmt.Errorf("connection to %s lost: %w", c.name, err)) })
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
	<-token.Done() // bounded: openTransport closes the connection when ctx ends
	if err := token.Error(); err != nil {
		return connectError(err, dialErr, cmp.Or(o.User, server.user), ctx)
	}
	c.resumed = token.SessionPresent()
	if v := c.transport.translator; v != nil {
		v.mu.Lock()
		c.capabilities = v.capabilities
		v.mu.Unlock()
	}
	if !c.transport.detach() { // ctx ended at the same moment: the connection is closed
		c.paho.Disconnect(0)
		return context.Cause(ctx)
	}
	return nil
}

// Resumed reports whether the broker had a session of the client.
func (c *Conn) Resumed() bool { return c.resumed }

// Done is closed when the connection has ended: after Close nothing of it is left,
// after a failure the rest ends within Timeout.
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
	if v := c.transport.translator; v != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		reason = v.disconnected
	}
	return c.transport.endedByPeer.Load(), reason
}

// Close sends what was published, sends DISCONNECT, so that the will is not sent, and
// waits for the end. It takes two Timeouts at most.
func (c *Conn) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	if err := c.Flush(ctx); err != nil {
		c.log.Debug("not everything was sent before the connection was closed", "broker", c.name, "error", err)
	}
	c.fail(nil)
	<-c.done
}

// fail begins the end of the connection. The first reason counts; nil is that of
// Close.
func (c *Conn) fail(err error) {
	c.failOnce.Do(func() {
		c.err = err
		close(c.failed)
	})
}

// failedQuiesce is the time in milliseconds that paho has to end a failed connection.
// The caller wants to connect again at once.
const failedQuiesce = 20

// shutDown waits for the first reason to end, and ends everything.
func (c *Conn) shutDown() {
	<-c.failed
	if c.err != nil {
		_ = c.transport.Close() // no DISCONNECT: the will must be sent
	}
	quiesce := uint(c.timeout.Milliseconds())
	if c.err != nil {
		quiesce = failedQuiesce // the answer that paho would wait for cannot arrive
	}
	c.paho.Disconnect(quiesce)
	_ = c.transport.Close()
	c.paho.Disconnect(quiesce) // the first may have returned early: this one waits for it
	if c.err == nil {
		c.workers.Wait()
	}
	// After a failure send may be blocked in paho's Publish until Timeout. Nothing
	// waits for it: it ends when it finds c.failed closed.
	close(c.done)
}
