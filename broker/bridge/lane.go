package bridge

import (
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// lane is the way of messages from one side to the other. Until the other is
// there they wait: what a session had kept comes at once.
type lane struct {
	turn    func(topics.Message) (topics.Message, bool)
	dropped func(topic, why string)
	refuse  func(Refusal)
	way     string // Out or In
	trial   *trial

	mu      sync.Mutex
	to      *client.Conn
	waiting []delivery
	bytes   int      // of memory that these take up
	handed  []handed // messages of QoS 1 that the other side has not acknowledged, oldest first
}

type delivery struct {
	message topics.Message
	ack     func()
}

// handed is a message of QoS 1 on its way to the other side.
type handed struct {
	key   uint64
	topic string
	size  int
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
		l.dropped(m.Topic, "what came before the bridge carried ("+l.way+") takes up too much memory") // not acknowledged: that broker keeps it
	case m.QoS > 0 || len(l.waiting) < maxBehind: // a broker sends a bounded number that is not acknowledged
		l.bytes += m.Memory()
		l.waiting = append(l.waiting, delivery{m, ack})
	default:
		l.dropped(m.Topic, "too many came before the bridge carried ("+l.way+")")
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

// pass hands a message to the other side, and acknowledges it when that has, or
// when that refuses it.
func (l *lane) pass(m topics.Message, ack func()) {
	turned, ok := l.turn(m)
	switch {
	case !ok:
		ack() // of no rule any more, or not for us
		return
	case m.QoS == 0 && l.to.Waiting() > maxBehind:
		l.dropped(m.Topic, "the other side does not take them as fast as they come ("+l.way+")")
		return
	case m.QoS == 0 && l.trial.on() && len(l.handed) > 0:
		l.dropped(m.Topic, "the bridge finds out which message the other side refuses ("+l.way+")")
		return
	}
	size := client.PacketSize(turned)
	if turned.QoS == 0 {
		l.to.PublishThen(turned, func(r *client.Refusal) {
			if r != nil {
				l.refuse(Refusal{Direction: l.way, Topic: turned.Topic, Reason: r.Reason, Size: size, Limit: r.Limit})
			}
			ack()
		})
		return
	}
	one := handed{key: l.trial.key(turned), topic: turned.Topic, size: size}
	if why := l.trial.convicted(one, time.Now()); why != "" {
		l.refuse(Refusal{Direction: l.way, Topic: one.topic, Reason: why, Size: size})
		ack()
		l.decided()
		return
	}
	l.handed = append(l.handed, one)
	l.to.PublishThen(turned, func(r *client.Refusal) {
		if r != nil {
			l.refuse(Refusal{Direction: l.way, Topic: one.topic, Reason: r.Reason, Size: size, Limit: r.Limit})
		}
		l.mu.Lock()
		l.handed = l.handed[1:] // the calls are in the order of publishing
		l.decided()
		l.mu.Unlock()
		ack()
	})
}

// decided takes that the other side has answered a message, or that it was left
// out.
func (l *lane) decided() {
	if l.trial.passed() {
		l.to.AtOnce()
	}
}

// ended takes that the connection to the other side has ended.
func (l *lane) ended() {
	by, reason := l.to.EndedByBroker()
	l.mu.Lock()
	defer l.mu.Unlock()
	sent := l.to.Unacknowledged()
	if !by || sent == 0 || len(l.handed) == 0 || reason != nil && !reason.OfMessage() {
		return // an outage
	}
	l.trial.ended(l.handed[0], sent, reason)
}

// trial finds out at which message a broker ends the connection: of 3.1.1 it has
// no other way to refuse one. After the first such end messages are sent one by
// one; the message with which alone the connection ends again, and again, is the
// one. A broker that is away, restarts or loses its network has not answered one
// message twice by ending the connection, so nothing is lost to an outage.
type trial struct {
	mu      sync.Mutex
	seed    maphash.Seed
	left    int    // messages that are still sent one by one; 0: there is no trial
	suspect uint64 // key of the message that was on its way at the last end
	ends    int    // with the suspect
	guilty  string // why the suspect is left out; "": it is not
	topics  map[string]conviction
}

// conviction is what is known of a topic whose messages made the broker end the
// connection. After the second the next ones are left out unsent for a while:
// else one device would have the bridge connect anew all the time.
type conviction struct {
	times int
	size  int // of the smallest
	last  time.Time
	why   string
}

// The bounds of convictions.
const (
	convictedTopics = 200
	convictedFor    = 10 * time.Minute
)

func newTrial() *trial {
	return &trial{seed: maphash.MakeSeed(), topics: make(map[string]conviction)}
}

func (t *trial) key(m topics.Message) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	_, _ = h.WriteString(m.Topic)
	_ = h.WriteByte(0)
	_, _ = h.Write(m.Payload)
	return h.Sum64()
}

// on reports whether messages are to be sent one by one.
func (t *trial) on() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left > 0
}

// passed takes that a message was decided, and reports whether that ends the
// trial.
func (t *trial) passed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == 0 {
		return false
	}
	t.ends = 0
	t.left--
	return t.left == 0
}

// ended takes that the broker ended the connection while sent messages, of which
// the oldest is given, were not acknowledged.
func (t *trial) ended(oldest handed, sent int, reason *client.Disconnected) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == 0 {
		t.left, t.ends = sent, 0
		return
	}
	if t.suspect != oldest.key {
		t.suspect, t.ends = oldest.key, 0
	}
	t.ends++
	switch {
	case reason != nil:
		t.guilty = reason.Error()
	case t.ends >= endings:
		t.guilty = fmt.Sprintf("the broker ended the connection %d times when it was sent this message", t.ends+1)
	}
}

// convicted returns why a message is left out, "" if it is not.
func (t *trial) convicted(m handed, now time.Time) (why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, known := t.topics[m.topic]
	known = known && now.Sub(c.last) < convictedFor
	if t.guilty == "" || t.suspect != m.key {
		if known && c.times > 1 && m.size >= c.size {
			return c.why + ", as its last messages of this topic"
		}
		return ""
	}
	why, t.guilty, t.ends = t.guilty, "", 0
	if !known {
		c = conviction{size: m.size}
	}
	if len(t.topics) < convictedTopics || t.topics[m.topic].times > 0 {
		t.topics[m.topic] = conviction{c.times + 1, min(c.size, m.size), now, why}
	} else {
		clear(t.topics)
	}
	return why
}
