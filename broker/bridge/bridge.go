// Package bridge carries messages between our broker and another one.
//
// It is a client of both, with a session at each that outlives the connection:
// while the other broker is away ours keeps what is to go out, within the limits
// of a session, and the other keeps what is to come in. A message is
// acknowledged to the one only when the other has acknowledged it: at QoS 1
// nothing is lost, and after an outage something may come twice.
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
	"sync"
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
	// Dropped is told of each message of QoS 0 that is left out on its way: nobody
	// keeps these. It must not block.
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

// tooLarge says why a message of the other broker is not carried.
func tooLarge(size, limit int) string {
	return fmt.Sprintf("its packet has %d bytes; the limit is %d (broker.limits.max_packet)", size, limit)
}

// Bridge is a running bridge. Make it with New.
type Bridge struct {
	Config
	// What each side was asked for in this run: a session that was kept may be
	// of a former configuration.
	askedOurs, askedTheirs bool
}

// LocalID is the client identifier of a bridge at our own broker.
func LocalID(name string) string { return "bridge-" + name }

// New returns a bridge that carries nothing yet.
func New(c Config) *Bridge {
	if c.Dropped == nil {
		c.Dropped = func(string, string) {}
	}
	return &Bridge{Config: c}
}

// Run carries until ctx ends.
func (b *Bridge) Run(ctx context.Context) {
	b.prepare(ctx)
	said := ""
	for attempt := 0; ctx.Err() == nil; attempt++ {
		began := time.Now()
		err := b.carry(ctx)
		if ctx.Err() != nil {
			break
		}
		why := err.Error()
		b.State(false, why)
		if why != said {
			b.Log.Warn("the bridge does not carry; messages of QoS 1 wait", "bridge", b.Name, "error", why)
			said = why
		}
		if time.Since(began) > time.Minute {
			attempt, said = 0, ""
		}
		wait := time.NewTimer(client.Backoff(attempt, rand.N[time.Duration]))
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
	b.State(false, "the hub stops")
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
	c, err := client.Connect(ctx, client.Options{
		Dial: b.Config.Local, ClientID: LocalID(b.Name), Keep: true, Bridge: true, OnDelivery: deliver, MaxPacket: b.Config.Remote.MaxPacket, Log: b.Log,
	})
	if err != nil || c.Resumed() && b.askedOurs {
		return c, err
	}
	if err := c.Subscribe(ctx, b.filters(func(r Rule) (string, bool) { return r.LocalPrefix + r.Filter, r.Out })...); err != nil {
		c.Close()
		return nil, err
	}
	b.askedOurs = true
	return c, nil
}

func (b *Bridge) filters(of func(Rule) (filter string, wanted bool)) (all []string) {
	for _, r := range b.Rules {
		if f, wanted := of(r); wanted && !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// carry connects both sides and carries until one of them ends.
func (b *Bridge) carry(ctx context.Context) error {
	in := lane{turn: b.in, dropped: b.Dropped, way: "on the way in"}
	out := lane{turn: b.out, dropped: b.Dropped, way: "on the way out"}
	o := b.Remote
	o.Keep, o.Bridge, o.Log, o.OnDelivery = true, true, b.Log, in.deliver
	o.TooLarge = func(topic string, size int) {
		b.Dropped(topic, tooLarge(size, cmp.Or(o.MaxPacket, client.DefaultMaxPacket)))
	}
	if o.ClientID = b.Client; o.ClientID == "" {
		o.ClientID = "dominion-bridge-" + b.Name
	}
	theirs, err := client.Connect(ctx, o)
	if err != nil {
		return err
	}
	defer theirs.Close()
	if !theirs.Resumed() || !b.askedTheirs {
		if err := theirs.Subscribe(ctx, b.filters(func(r Rule) (string, bool) { return r.RemotePrefix + r.Filter, r.In })...); err != nil {
			return err
		}
		b.askedTheirs = true
	}
	ours, err := b.local(ctx, out.deliver)
	if err != nil {
		return fmt.Errorf("its own broker: %w", err)
	}
	defer ours.Close()
	out.open(theirs)
	in.open(ours)
	b.State(true, "")
	b.Log.Info("the bridge carries", "bridge", b.Name)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-theirs.Done():
		return over(theirs.Err())
	case <-ours.Done():
		return fmt.Errorf("its own broker: %w", over(ours.Err()))
	}
}

func over(err error) error {
	if err == nil {
		return errors.New("the connection was closed")
	}
	return err
}

// lane is the way of messages from one side to the other. Until the other is
// there they wait: what a session had kept comes at once.
type lane struct {
	turn    func(topics.Message) (topics.Message, bool)
	dropped func(topic, why string)
	way     string

	mu      sync.Mutex
	to      *client.Conn
	waiting []delivery
	bytes   int // of memory that these take up
}

type delivery struct {
	message topics.Message
	ack     func()
}

// deliver takes a message. It does not block: the connection that it came by
// would answer nothing any more.
func (l *lane) deliver(m topics.Message, ack func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.to != nil:
		l.pass(m, ack)
	case l.bytes+m.Memory() > maxBehindBytes:
		l.dropped(m.Topic, "what came "+l.way+" of the bridge before it carried takes up too much memory") // not acknowledged: that broker keeps it
	case m.QoS > 0 || len(l.waiting) < maxBehind: // a broker sends a bounded number that is not acknowledged
		l.bytes += m.Memory()
		l.waiting = append(l.waiting, delivery{m, ack})
	default:
		l.dropped(m.Topic, "too many came "+l.way+" of the bridge before it carried")
	}
}

// open hands on what has waited, and from now on whatever comes.
func (l *lane) open(to *client.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = to
	for _, d := range l.waiting {
		l.pass(d.message, d.ack)
	}
	l.waiting, l.bytes = nil, 0
}

// pass hands a message to the other side, and acknowledges it when that has.
func (l *lane) pass(m topics.Message, ack func()) {
	turned, ok := l.turn(m)
	switch {
	case !ok:
		ack() // of no rule any more, or not for us
	case m.QoS == 0 && l.to.Waiting() > maxBehind:
		l.dropped(m.Topic, "the other side does not take them as fast as they come "+l.way+" of the bridge")
	default:
		l.to.PublishThen(turned, ack)
	}
}

// out returns a message of ours as it goes to the other broker.
func (b *Bridge) out(m topics.Message) (topics.Message, bool) {
	for _, r := range b.Rules {
		if rest, ok := strings.CutPrefix(m.Topic, r.LocalPrefix); ok && r.Out && wire.Matches(r.Filter, rest) {
			return topics.Message{Topic: r.RemotePrefix + rest, Payload: m.Payload, QoS: min(m.QoS, r.QoS), Retain: m.Retain}, true
		}
	}
	return m, false
}

// in returns a message of the other broker as it comes to ours. A wildcard
// opens neither our own topics nor the broker's: what is there is ours to say,
// unless the owner names it.
func (b *Bridge) in(m topics.Message) (topics.Message, bool) {
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
