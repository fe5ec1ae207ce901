package bridge

import (
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// forwarder passes messages from one side to the other. Until the other side is
// connected they wait: a session may have queued messages that arrive at once.
type forwarder struct {
	translate func(topics.Message) (topics.Message, bool)
	dropped   func(topic, why string)
	refuse    func(Refusal)
	// direction is Out or In.
	direction string
	detector  *refusalDetector

	mu sync.Mutex
	// target is the connection to the other side; nil: not connected.
	target *client.Conn
	queued []delivery
	// queuedBytes is the memory of queued.
	queuedBytes int
	// inflight are messages of QoS 1 that the other side has not acknowledged, oldest
	// first.
	inflight []inflightMessage
}

// delivery is a message, and the function that acknowledges it to its source.
type delivery struct {
	message topics.Message
	ack     func()
}

// inflightMessage is a message of QoS 1 that was sent to the other side.
type inflightMessage struct {
	key   uint64
	topic string
	size  int
}

// receive takes a message from the source. It must not block: the connection that it
// came from would not process anything else.
func (f *forwarder) receive(m topics.Message, ack func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.target != nil:
		f.forward(m, ack)
	case f.queuedBytes+m.Memory() > maxQueuedBytes:
		f.dropped(m.Topic, "the messages that wait for the bridge to connect ("+f.direction+") take up too much memory") // it is not acknowledged: that broker retains it
	case m.QoS > 0 || len(f.queued) < maxQueued: // a broker sends a bounded number of unacknowledged ones
		f.queuedBytes += m.Memory()
		f.queued = append(f.queued, delivery{m, ack})
	default:
		f.dropped(m.Topic, "too many messages wait for the bridge to connect ("+f.direction+")")
	}
}

// start forwards what has waited, and from now on everything that arrives.
func (f *forwarder) start(to *client.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = to
	for _, d := range f.queued {
		f.forward(d.message, d.ack)
	}
	f.queued, f.queuedBytes = nil, 0
}

// forward publishes a message at the other side, and acknowledges it to the source
// when the other side has acknowledged or refused it.
func (f *forwarder) forward(m topics.Message, ack func()) {
	out, ok := f.translate(m)
	switch {
	case !ok:
		ack() // no rule selects it
		return
	case m.QoS == 0 && f.target.QueueLen() > maxQueued:
		f.dropped(m.Topic, "the other side does not accept messages as fast as they arrive ("+f.direction+")")
		return
	case m.QoS == 0 && f.detector.active() && len(f.inflight) > 0:
		f.dropped(m.Topic, "the bridge is detecting which message the other side refuses ("+f.direction+")")
		return
	}
	size := client.PacketSize(out)
	if out.QoS == 0 {
		f.target.PublishThen(out, func(r *client.Refusal) {
			if r != nil {
				f.refuse(Refusal{Direction: f.direction, Topic: out.Topic, Reason: r.Reason, Size: size, Limit: r.Limit})
			}
			ack()
		})
		return
	}
	one := inflightMessage{key: f.detector.key(out), topic: out.Topic, size: size}
	if reason := f.detector.exclude(one, time.Now()); reason != "" {
		f.refuse(Refusal{Direction: f.direction, Topic: one.topic, Reason: reason, Size: size})
		ack()
		f.noteAnswered()
		return
	}
	f.inflight = append(f.inflight, one)
	f.target.PublishThen(out, func(r *client.Refusal) {
		if r != nil {
			f.refuse(Refusal{Direction: f.direction, Topic: one.topic, Reason: r.Reason, Size: size, Limit: r.Limit})
		}
		f.mu.Lock()
		f.inflight = f.inflight[1:] // the calls are in the order of publishing
		f.noteAnswered()
		f.mu.Unlock()
		ack()
	})
}

// noteAnswered is called when the other side has answered a message, or when one was
// excluded.
func (f *forwarder) noteAnswered() {
	if f.detector.noteAnswered() {
		f.target.EndSequential()
	}
}

// noteEnded is called when the connection to the other side has ended.
func (f *forwarder) noteEnded() {
	by, reason := f.target.EndedByBroker()
	f.mu.Lock()
	defer f.mu.Unlock()
	sent := f.target.Unacknowledged()
	if !by || sent == 0 || len(f.inflight) == 0 || reason != nil && !reason.CausedByMessage() {
		return // an outage, not a refusal
	}
	f.detector.noteEnded(f.inflight[0], sent, reason)
}
