// Package broker is the MQTT broker inside the hub, as the rest of the program
// sees it: listen, publish, subscribe, stop.
//
// It owns the listeners, who may do what (access.go), and the retained
// messages over a clean stop. The engine, mochi, stays inside: no type of it
// leaves the package, and its faults are not repaired here. Only cmd/dominion
// and tests may import it; the hub is handed what it needs of it.
package broker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/mailbox"
	"github.com/jmbarzee/dominion/topics"
)

// Config says where to listen and who may come in.
type Config struct {
	Listen, ListenTLS, ListenWS string // host:port; "" is no such listener
	CertFile, KeyFile           string // of ListenTLS, PEM
	AllowAnonymous              bool   // also on listeners that are not bound to loopback
	Users                       []User
	Prefix                      string // topic_prefix, for the access rules
	// DataDir keeps the retained messages over a clean stop; "" keeps them
	// nowhere.
	DataDir string
}

// The limits of a client.
const (
	maxPacket      = 2 << 20 // bytes; a payload of ours is 1 MiB at most
	maxPending     = 1 << 16 // packets that wait to be written, beyond which they are dropped
	maxPublishing  = 1 << 16 // messages of the hub that wait for the engine
	connectTimeout = 10 * time.Second
	writeTimeout   = 5 * time.Second // for one packet, then the connection is closed
)

// Broker is a running broker. Make it with New.
type Broker struct {
	config   Config
	tree     topics.Tree
	log      *slog.Logger
	engine   *mqtt.Server
	self     *mqtt.Client // publishes what the hub does
	access   atomic.Pointer[accounts]
	refusals refusals

	outgoing      *mailbox.Box[publication]
	quit          chan struct{} // ends the publisher
	publisher     sync.WaitGroup
	subscriptions atomic.Int64

	mu        sync.Mutex
	listeners []*listener
	conns     map[*conn]struct{}
	stopping  bool
	accepting sync.WaitGroup // the listeners' loops
	serving   sync.WaitGroup // the connections

	stop    sync.Once
	stopErr error
}

// publication is a message on its way, or a mark whose channel is closed once
// everything before it is with the engine.
type publication struct {
	message topics.Message
	mark    chan struct{}
}

// New starts a broker without listeners and restores the retained messages of
// the last clean stop. Its errors name the file or the user that is wrong.
func New(cfg Config, log *slog.Logger) (*Broker, error) {
	b := &Broker{
		config:   cfg,
		tree:     topics.NewTree(cfg.Prefix),
		log:      log,
		outgoing: mailbox.New[publication](maxPublishing),
		quit:     make(chan struct{}),
		conns:    make(map[*conn]struct{}),
	}
	if err := b.Reload(cfg.Users, cfg.AllowAnonymous); err != nil {
		return nil, err
	}
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumMessageExpiryInterval = 0 // otherwise retained messages vanish after a day
	capabilities.MaximumClientWritesPending = maxPending
	capabilities.MaximumPacketSize = maxPacket
	b.engine = mqtt.New(&mqtt.Options{
		Capabilities:             capabilities,
		ClientNetWriteBufferSize: 16 << 10,
		ClientNetReadBufferSize:  4 << 10,
		InlineClient:             true,
		SysTopicResendInterval:   10, // seconds, as mosquitto
		Logger:                   slog.New(quiet{log.Handler()}),
	})
	b.self, _ = b.engine.Clients.Get(mqtt.InlineClientId)
	for _, hook := range []mqtt.Hook{&gate{broker: b}, &succession{broker: b}} {
		if err := b.engine.AddHook(hook, nil); err != nil {
			return nil, fmt.Errorf("cannot start the broker: %w", err)
		}
	}
	if err := b.restore(); err != nil {
		return nil, err
	}
	if err := b.engine.Serve(); err != nil {
		return nil, fmt.Errorf("cannot start the broker: %w", err)
	}
	b.publisher.Go(b.publish)
	return b, nil
}

// Publish publishes a message after all that were published before. It never
// waits for a client. The payload must not be changed afterwards.
func (b *Broker) Publish(m topics.Message) { b.outgoing.Put(publication{message: m}) }

// publish owns the way from Publish to the engine, which may wait for a client
// that does not read.
func (b *Broker) publish() {
	for {
		select {
		case <-b.quit:
			return
		case <-b.outgoing.Ready():
		}
		all, dropped := b.outgoing.Take()
		for _, p := range all {
			if p.mark != nil {
				close(p.mark)
				continue
			}
			if err := b.inject(p.message); err != nil {
				b.log.Warn("cannot publish", "topic", p.message.Topic, "error", err)
			}
		}
		if dropped > 0 {
			b.log.Warn("messages of the hub were dropped: the broker does not keep up", "count", dropped)
		}
	}
}

func (b *Broker) inject(m topics.Message) error {
	return b.engine.InjectPacket(b.self, packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: m.QoS, Retain: m.Retain},
		TopicName:   m.Topic,
		Payload:     m.Payload,
		PacketID:    uint16(min(m.QoS, 1)), // asked for with QoS 1, refused with QoS 0, used for nothing
		Properties:  packets.Properties{ResponseTopic: m.ResponseTopic, CorrelationData: m.Correlation},
	})
}

// Subscribe calls handler for each message that a filter matches, first for
// those retained, then for each as it is published. The handler runs on the
// goroutine of whoever publishes: it only enqueues, and changes no payload.
//
// Retain of a message is true for one that was stored before, and for an order
// that somebody publishes with the retain flag.
func (b *Broker) Subscribe(filter string, handler func(topics.Message)) error {
	if !mqtt.IsValidFilter(filter, false) {
		return fmt.Errorf("cannot subscribe to %q: it is no topic filter", filter)
	}
	// What is published while the stored messages are handed over waits: an
	// older one must not come after a newer one of the same topic.
	var order sync.Mutex
	order.Lock()
	defer order.Unlock()
	b.engine.Topics.InlineSubscribe(mqtt.InlineSubscription{
		Subscription: packets.Subscription{Filter: filter, Identifier: int(b.subscriptions.Add(1))},
		Handler: func(_ *mqtt.Client, _ packets.Subscription, pk packets.Packet) {
			order.Lock()
			defer order.Unlock()
			m := message(pk)
			at, _ := b.tree.Parse(m.Topic)
			m.Retain = m.Retain && at.Kind.Imperative()
			handler(m)
		},
	})
	for _, pk := range b.engine.Topics.Messages(filter) {
		m := message(pk)
		m.Retain = true
		handler(m)
	}
	return nil
}

func message(pk packets.Packet) topics.Message {
	return topics.Message{
		Topic:         pk.TopicName,
		Payload:       pk.Payload,
		QoS:           pk.FixedHeader.Qos,
		Retain:        pk.FixedHeader.Retain,
		ResponseTopic: pk.Properties.ResponseTopic,
		Correlation:   pk.Properties.CorrelationData,
	}
}

// Reload takes over users and allow_anonymous; if they are wrong the old ones
// stay. No connection is dropped, but what each may do is judged anew.
func (b *Broker) Reload(users []User, allowAnonymous bool) error {
	a, err := newAccounts(users, allowAnonymous)
	if err != nil {
		return err
	}
	b.access.Store(a)
	return nil
}

// Stop takes no more connections, sends what was published, keeps the retained
// messages and closes the connections. Each step has its bound, ctx bounds
// them all. A second call waits for the first and returns the same.
func (b *Broker) Stop(ctx context.Context) error {
	b.stop.Do(func() { b.stopErr = b.shutDown(ctx) })
	return b.stopErr
}

func (b *Broker) shutDown(ctx context.Context) error {
	b.closeListeners()
	b.settle(ctx)
	saved := b.save() // before the connections end: their wills are no news about the clients
	b.closeConnections(ctx)
	close(b.quit)
	b.publisher.Wait()
	_ = b.engine.Close() // it knows of no listener, so it waits for nothing
	return saved
}

// settle waits until what the hub published is with the engine, and the engine
// has written what it had for its clients.
func (b *Broker) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	mark := make(chan struct{})
	b.outgoing.Put(publication{mark: mark})
	select {
	case <-mark:
	case <-ctx.Done():
		b.log.Warn("stopping with messages unsent: a client does not read")
		return
	}
	// The engine does not tell how much it still has to write; nothing written
	// for a while is as near as it gets.
	const while = 20 * time.Millisecond
	for before := int64(-1); ; {
		now := atomic.LoadInt64(&b.engine.Info.MessagesSent)
		if now == before {
			return
		}
		before = now
		select {
		case <-time.After(while):
		case <-ctx.Done():
			return
		}
	}
}
