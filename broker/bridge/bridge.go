// Package bridge forwards messages between our broker and another one.
//
// It is a client of both, with a session at each that outlives the connection: while
// the other broker cannot be reached, ours queues what is to go out, within the limits
// of a session, and the other queues what is to come in. A message is acknowledged to
// its source only when the target has acknowledged it: at QoS 1 nothing is lost, and
// after an outage a message may arrive twice. A message that the target refuses is
// acknowledged as well, counted and reported: it would be refused again, and block all
// messages behind it.
//
// It decides nothing about access: at our broker it connects as Config.Local does. hub
// runs it; it does not know the broker's internals.
package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// Rule selects topics, and the direction in which they are forwarded.
type Rule struct {
	// Filter is what follows the prefixes.
	Filter  string
	Out, In bool
	// QoS is the maximum, 0 or 1.
	QoS byte
	// LocalPrefix is that of topics at our broker, as "attic/".
	LocalPrefix string
	// RemotePrefix is that of topics at the other broker.
	RemotePrefix string
}

// Config configures one bridge.
type Config struct {
	// Name identifies the bridge; it is part of its client identifiers.
	Name string
	// ClientID is the client identifier at the other broker; "":
	// dominion-bridge-<Name>.
	ClientID string
	Remote   client.Options
	Rules    []Rule
	// Prefix is the topic_prefix: nothing is forwarded to topics below it except by a
	// rule that names it.
	Prefix string
	// Local connects to our broker.
	Local func(ctx context.Context) (net.Conn, error)
	// Dropped is called for each message that is not forwarded: of QoS 0 while it
	// cannot be queued, and those that are refused. It must not block.
	Dropped func(topic, why string)
	// State is called when the bridge connects or disconnects, with the reason.
	State func(up bool, why string)
	Log   *slog.Logger
}

// maxQueued is how many messages may wait for the other side before those of QoS 0 are
// dropped.
const maxQueued = 4096

// maxQueuedBytes is the memory of all messages that wait until the other side is
// connected.
const maxQueuedBytes = 64 << 20

// window is how many messages of QoS 1 may be unacknowledged between two brokers.
const window = 100

// How long the bridge waits before it reconnects.
const (
	// briefConnection is the duration below which a connection is not renewed at once.
	briefConnection = 10 * time.Second
	// maxBackoff is the maximum wait after brief connections.
	maxBackoff = time.Minute
	// loginBackoff is the wait after user, password or client identifier were refused.
	loginBackoff = 30 * time.Second
	// logInterval is the minimum time between two log entries about being connected.
	logInterval = time.Minute
)

// Bridge is a running bridge. Make it with New.
type Bridge struct {
	Config
	// localSubscriptions and remoteSubscriptions are those of this run: an existing
	// session may be of a previous configuration.
	localSubscriptions, remoteSubscriptions subscriptions
	outDetector, inDetector                 *refusalDetector
	// connectedLoggedAt is when it was last logged that the bridge is connected.
	connectedLoggedAt time.Time

	bridgeStatus
}

// LocalID returns the client identifier of a bridge at our broker.
func LocalID(name string) string { return "bridge-" + name }

// New returns a bridge. Run connects it.
func New(c Config) *Bridge {
	if c.Dropped == nil {
		c.Dropped = func(string, string) {}
	}
	b := &Bridge{Config: c, outDetector: newRefusalDetector(), inDetector: newRefusalDetector()}
	b.status.Since = time.Now()
	return b
}

// Run forwards messages until ctx ends. It reconnects with a backoff that depends on
// how the last connection ended.
func (b *Bridge) Run(ctx context.Context) {
	b.prepare(ctx)
	logged := ""
	failed, ended := 0, 0 // failed attempts and brief connections in a row
	for ctx.Err() == nil {
		began := time.Now()
		connected, err := b.connectAndForward(ctx)
		if ctx.Err() != nil {
			break
		}
		reason := err.Error()
		b.setState(false, reason)
		if reason != logged {
			b.Log.Warn("the bridge is not connected; messages of QoS 1 are queued", "bridge", b.Name, "error", reason)
			logged = reason
		}
		if time.Since(began) > time.Minute {
			logged = ""
		}
		var backoff time.Duration
		detecting := b.outDetector.active() || b.inDetector.active()
		if !connected && (errors.Is(err, client.ErrNotAuthorized) || errors.Is(err, client.ErrClientID)) {
			backoff = loginBackoff
		} else if connected && !detecting && time.Since(began) < briefConnection {
			backoff = min(maxBackoff, time.Second<<min(ended, 10))
			ended++
		} else {
			if connected {
				failed = 0
			}
			if connected && !detecting {
				ended = 0
			}
			backoff = client.Backoff(failed, rand.N[time.Duration])
			failed++
		}
		wait := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
	b.setState(false, "the hub is stopping")
}

// prepare creates the session at our broker, so that what is to go out is queued from
// the first moment, even if the other broker cannot be reached.
func (b *Bridge) prepare(ctx context.Context) {
	local, err := b.connectLocal(ctx, func(topics.Message, func()) {})
	if err != nil {
		b.Log.Error("the bridge cannot log in to its own broker", "bridge", b.Name, "error", err)
		return
	}
	local.Close()
}

// connectLocal connects to our broker and subscribes to what is to go out.
func (b *Bridge) connectLocal(ctx context.Context, deliver func(topics.Message, func())) (*client.Conn, error) {
	o := client.Options{
		Dial: b.Config.Local, ClientID: LocalID(b.Name), Persistent: true, Bridge: true, Version: wire.V5, LocalBridge: true, Window: window,
		Sequential: b.inDetector.active(), OnDelivery: deliver, MaxPacket: b.Config.Remote.MaxPacket, Log: b.Log,
	}
	o.TooLarge = func(topic string, size int) { b.refuse(tooLarge(Out, topic, size, o.MaxPacket)) }
	c, err := client.Connect(ctx, o)
	if err != nil {
		return nil, err
	}
	return c, b.subscribe(ctx, c, &b.localSubscriptions, Out, b.filters(func(r Rule) (string, bool) { return r.LocalPrefix + r.Filter, r.Out }))
}

// connectRemote connects to the other broker and subscribes to what is to come in. It
// uses MQTT 5.0, in which a broker reports refusals, and 3.1.1 if the other broker
// does not support that.
func (b *Bridge) connectRemote(ctx context.Context, deliver func(topics.Message, func())) (*client.Conn, error) {
	o := b.Remote
	o.Persistent, o.Bridge, o.Log, o.OnDelivery, o.Window, o.Sequential = true, true, b.Log, deliver, window, b.outDetector.active()
	o.TooLarge = func(topic string, size int) { b.refuse(tooLarge(In, topic, size, o.MaxPacket)) }
	if o.ClientID = b.ClientID; o.ClientID == "" {
		o.ClientID = "dominion-bridge-" + b.Name
	}
	c, err := client.Connect(ctx, o)
	if err != nil {
		return nil, err
	}
	return c, b.subscribe(ctx, c, &b.remoteSubscriptions, In, b.filters(func(r Rule) (string, bool) { return r.RemotePrefix + r.Filter, r.In }))
}

// tooLarge returns the refusal of a message that exceeds this client's maximum packet
// size.
func tooLarge(direction, topic string, size, limit int) Refusal {
	limit = cmp.Or(limit, client.DefaultMaxPacket)
	return Refusal{Direction: direction, Topic: topic, Size: size, Limit: limit, Reason: "its packet is larger than this hub accepts (broker.limits.max_packet)"}
}

// filters returns the filters that of returns for the rules, without duplicates.
func (b *Bridge) filters(of func(Rule) (filter string, wanted bool)) (all []string) {
	for _, r := range b.Rules {
		if f, wanted := of(r); wanted && !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// connectAndForward connects both sides and forwards until one of them ends. connected
// reports whether both were connected.
func (b *Bridge) connectAndForward(ctx context.Context) (connected bool, err error) {
	in := forwarder{translate: b.translateIn, dropped: b.Dropped, refuse: b.refuse, direction: In, detector: b.inDetector}
	out := forwarder{translate: b.translateOut, dropped: b.Dropped, refuse: b.refuse, direction: Out, detector: b.outDetector}
	remote, err := b.connectRemote(ctx, in.receive)
	if remote != nil {
		defer remote.Close()
	}
	if err != nil {
		return false, err
	}
	local, err := b.connectLocal(ctx, out.receive)
	if local != nil {
		defer local.Close()
	}
	if err != nil {
		return false, fmt.Errorf("its own broker: %w", err)
	}
	out.start(remote)
	in.start(local)
	b.setState(true, "")
	if now := time.Now(); now.Sub(b.connectedLoggedAt) > logInterval {
		b.connectedLoggedAt = now
		b.Log.Info("the bridge is connected", "bridge", b.Name)
	}
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-remote.Done():
		out.noteEnded()
		return true, endReason(remote)
	case <-local.Done():
		in.noteEnded()
		return true, fmt.Errorf("its own broker: %w", endReason(local))
	}
}

// endReason returns why a connection ended.
func endReason(c *client.Conn) error {
	if by, reason := c.EndedByBroker(); by && reason != nil {
		return reason
	}
	if err := c.Err(); err != nil {
		return err
	}
	return errors.New("the connection was closed")
}

// translateOut returns a message of ours as it is published at the other broker, and
// whether a rule selects it.
func (b *Bridge) translateOut(m topics.Message) (topics.Message, bool) {
	for _, r := range b.Rules {
		if rest, ok := strings.CutPrefix(m.Topic, r.LocalPrefix); ok && r.Out && wire.Matches(r.Filter, rest) {
			return topics.Message{Topic: r.RemotePrefix + rest, Payload: m.Payload, QoS: min(m.QoS, r.QoS), Retain: m.Retain}, true
		}
	}
	return m, false
}

// translateIn returns a message of the other broker as it is published at ours, and
// whether a rule selects it. A wildcard selects neither topics below our prefix nor
// those of the broker: only a rule that names them does.
func (b *Bridge) translateIn(m topics.Message) (topics.Message, bool) {
	for _, r := range b.Rules {
		rest, ok := strings.CutPrefix(m.Topic, r.RemotePrefix)
		if !ok || !r.In || !wire.Matches(r.Filter, rest) {
			continue
		}
		topic := r.LocalPrefix + rest
		ours := topic == b.Prefix || strings.HasPrefix(topic, b.Prefix+"/")
		if strings.HasPrefix(topic, "$") || ours && !strings.HasPrefix(r.LocalPrefix+r.Filter, b.Prefix+"/") {
			return m, false
		}
		return topics.Message{Topic: topic, Payload: m.Payload, QoS: min(m.QoS, r.QoS), Retain: m.Retain}, true
	}
	return m, false
}
