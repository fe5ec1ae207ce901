// Package bridge carries messages between our broker and another one.
//
// It is a client of both, with a session at each that outlives the connection:
// while the other broker is away ours keeps what is to go out, within the limits
// of a session, and the other keeps what is to come in. A message is
// acknowledged to the one only when the other has acknowledged it: at QoS 1
// nothing is lost, and after an outage something may come twice. A message that
// the other refuses is acknowledged too, counted and reported: it would be refused
// again, and keep all behind it from being carried.
//
// It decides nothing about access: on our side it connects as whoever is asked
// of it. hub runs it; it knows no broker from inside.
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

// Rule says which topics go where.
type Rule struct {
	Filter       string // what follows the prefixes
	Out, In      bool
	QoS          byte   // 0 or 1, at the most
	LocalPrefix  string // of our topics, as "attic/"
	RemotePrefix string // of the other broker's
}

// Config is one bridge.
type Config struct {
	Name   string // of the bridge; part of its client identifiers
	Client string // client identifier at the other broker; "": dominion-bridge-<Name>
	Remote client.Options
	Rules  []Rule
	Prefix string // topic_prefix: nothing comes in there but by a rule that names it
	// Local connects to our own broker.
	Local func(ctx context.Context) (net.Conn, error)
	// Dropped is told of each message that is left out on its way: those of QoS 0,
	// which nobody keeps, and those that are refused. It must not block.
	Dropped func(topic, why string)
	// State is told whether the bridge carries, and why not.
	State func(up bool, why string)
	Log   *slog.Logger
}

// maxBehind is how many messages may wait for the other side before those of
// QoS 0, which nobody keeps, are left out.
const maxBehind = 4096

// maxBehindBytes is the memory of all that waits until the other side is there.
const maxBehindBytes = 64 << 20

// window is how many messages of QoS 1 are on their way between two brokers at
// once.
const window = 100

// How long the bridge waits before it connects again.
const (
	brief       = 10 * time.Second // a connection that ended sooner is not renewed at once
	maxPause    = time.Minute      // after brief connections
	loginPause  = 30 * time.Second // after user, password or client identifier were refused
	logInterval = time.Minute      // between two entries that the bridge carries
)

// Bridge is a running bridge. Make it with New.
type Bridge struct {
	Config
	ours, theirs asked // of this run: a session that was kept may be of a former configuration
	out, in      *trial
	old          bool      // the other broker does not speak MQTT 5.0
	carriedAt    time.Time // when it was logged last that it carries

	refusals
}

// LocalID is the client identifier of a bridge at our own broker.
func LocalID(name string) string { return "bridge-" + name }

// New returns a bridge that carries nothing yet.
func New(c Config) *Bridge {
	if c.Dropped == nil {
		c.Dropped = func(string, string) {}
	}
	b := &Bridge{Config: c, out: newTrial(), in: newTrial()}
	b.status.Since = time.Now()
	return b
}

// Run carries until ctx ends.
func (b *Bridge) Run(ctx context.Context) {
	b.prepare(ctx)
	said := ""
	failed, ended := 0, 0 // attempts to connect, brief connections
	for ctx.Err() == nil {
		began := time.Now()
		carried, err := b.carry(ctx)
		if ctx.Err() != nil {
			break
		}
		why := err.Error()
		b.state(false, why)
		if why != said {
			b.Log.Warn("the bridge does not carry; messages of QoS 1 wait", "bridge", b.Name, "error", why)
			said = why
		}
		if time.Since(began) > time.Minute {
			said = ""
		}
		var pause time.Duration
		switch searching := b.out.on() || b.in.on(); {
		case !carried && (errors.Is(err, client.ErrNotAuthorized) || errors.Is(err, client.ErrClientID)):
			pause = loginPause
		case carried && !searching && time.Since(began) < brief:
			pause = min(maxPause, time.Second<<min(ended, 10))
			ended++
		default:
			if carried {
				failed = 0
			}
			if carried && !searching {
				ended = 0
			}
			pause = client.Backoff(failed, rand.N[time.Duration])
			failed++
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
	b.state(false, "the hub stops")
}

// prepare makes our broker keep what is to go out from the first moment, also
// where the other one is away.
func (b *Bridge) prepare(ctx context.Context) {
	local, err := b.local(ctx, func(topics.Message, func()) {})
	if err != nil {
		b.Log.Error("the bridge cannot log in to its own broker", "bridge", b.Name, "error", err)
		return
	}
	local.Close()
}

func (b *Bridge) local(ctx context.Context, deliver func(topics.Message, func())) (*client.Conn, error) {
	o := client.Options{
		Dial: b.Config.Local, ClientID: LocalID(b.Name), Keep: true, Bridge: true, MQTT5: true, Own: true, Window: window,
		OneByOne: b.in.on(), OnDelivery: deliver, MaxPacket: b.Config.Remote.MaxPacket, Log: b.Log,
	}
	o.TooLarge = func(topic string, size int) { b.refuse(tooLarge(Out, topic, size, o.MaxPacket)) }
	c, err := client.Connect(ctx, o)
	if err != nil {
		return nil, err
	}
	return c, b.subscribe(ctx, c, &b.ours, Out, b.filters(func(r Rule) (string, bool) { return r.LocalPrefix + r.Filter, r.Out }))
}

// remote connects to the other broker. It speaks MQTT 5.0, in which a broker says
// what it refuses, and 3.1.1 where the other does not know that.
func (b *Bridge) remote(ctx context.Context, deliver func(topics.Message, func())) (*client.Conn, error) {
	o := b.Remote
	o.Keep, o.Bridge, o.Log, o.OnDelivery, o.Window, o.OneByOne = true, true, b.Log, deliver, window, b.out.on()
	o.TooLarge = func(topic string, size int) { b.refuse(tooLarge(In, topic, size, o.MaxPacket)) }
	if o.ClientID = b.Client; o.ClientID == "" {
		o.ClientID = "dominion-bridge-" + b.Name
	}
	o.MQTT5 = !b.old
	c, err := client.Connect(ctx, o)
	if version := errors.Is(err, client.ErrVersion); o.MQTT5 && (version || errors.Is(err, client.ErrNoAnswer)) {
		o.MQTT5 = false
		plain, plainErr := client.Connect(ctx, o)
		if b.old = version; version || plainErr == nil {
			c, err = plain, plainErr
		}
	}
	if err != nil {
		return nil, err
	}
	return c, b.subscribe(ctx, c, &b.theirs, In, b.filters(func(r Rule) (string, bool) { return r.RemotePrefix + r.Filter, r.In }))
}

func tooLarge(way, topic string, size, limit int) Refusal {
	limit = cmp.Or(limit, client.DefaultMaxPacket)
	return Refusal{Direction: way, Topic: topic, Size: size, Limit: limit, Reason: "its packet is larger than this hub takes (broker.limits.max_packet)"}
}

func (b *Bridge) filters(of func(Rule) (filter string, wanted bool)) (all []string) {
	for _, r := range b.Rules {
		if f, wanted := of(r); wanted && !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// carry connects both sides and carries until one of them ends. carried reports
// whether it came to that.
func (b *Bridge) carry(ctx context.Context) (carried bool, err error) {
	in := lane{turn: b.incoming, dropped: b.Dropped, refuse: b.refuse, way: In, trial: b.in}
	out := lane{turn: b.outgoing, dropped: b.Dropped, refuse: b.refuse, way: Out, trial: b.out}
	theirs, err := b.remote(ctx, in.deliver)
	if theirs != nil {
		defer theirs.Close()
	}
	if err != nil {
		return false, err
	}
	ours, err := b.local(ctx, out.deliver)
	if ours != nil {
		defer ours.Close()
	}
	if err != nil {
		return false, fmt.Errorf("its own broker: %w", err)
	}
	out.open(theirs)
	in.open(ours)
	b.state(true, "")
	if now := time.Now(); now.Sub(b.carriedAt) > logInterval {
		b.carriedAt = now
		b.Log.Info("the bridge carries", "bridge", b.Name)
	}
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-theirs.Done():
		out.ended()
		return true, over(theirs)
	case <-ours.Done():
		in.ended()
		return true, fmt.Errorf("its own broker: %w", over(ours))
	}
}

// over returns why a connection ended.
func over(c *client.Conn) error {
	if by, reason := c.EndedByBroker(); by && reason != nil {
		return reason
	}
	if err := c.Err(); err != nil {
		return err
	}
	return errors.New("the connection was closed")
}

// outgoing returns a message of ours as it goes to the other broker.
func (b *Bridge) outgoing(m topics.Message) (topics.Message, bool) {
	for _, r := range b.Rules {
		if rest, ok := strings.CutPrefix(m.Topic, r.LocalPrefix); ok && r.Out && wire.Matches(r.Filter, rest) {
			return topics.Message{Topic: r.RemotePrefix + rest, Payload: m.Payload, QoS: min(m.QoS, r.QoS), Retain: m.Retain}, true
		}
	}
	return m, false
}

// incoming returns a message of the other broker as it comes to ours. A wildcard
// opens neither our own topics nor the broker's: what is there is ours to say,
// unless the owner names it.
func (b *Bridge) incoming(m topics.Message) (topics.Message, bool) {
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
