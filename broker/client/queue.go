package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/eclipse/paho.mqtt.golang"

	"github.com/jmbarzee/dominion/topics"
)

// The limits of what waits to be sent. A connection that falls so far behind
// is no use any more: it ends, and the caller begins anew with its state.
const (
	maxQueued      = 16 << 10 // messages
	maxQueuedBytes = 32 << 20 // of payload
	maxInflight    = 1 << 10  // sent, not acknowledged; also keeps paho from running out of packet ids
)

// item is a message, or a mark whose channel is closed once everything before
// it is acknowledged.
type item struct {
	message topics.Message
	then    func(*Refusal) // called once it is acknowledged; nil: nobody waits
	mark    chan struct{}
}

// sent is an item that paho has, or one that was refused before.
type sent struct {
	token   mqtt.Token
	refused *Refusal
	then    func(*Refusal)
	mark    chan struct{}
	window  bool // it takes up one of the window
}

// Refusal is why a broker does not take a message.
type Refusal struct {
	Reason string
	Limit  int // bytes of a packet that the broker takes; 0: that is not the reason
}

type queue struct {
	mu    sync.Mutex
	items []item
	bytes int
	ready chan struct{}
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

func (q *queue) put(it item) (ok bool) {
	q.mu.Lock()
	ok = it.mark != nil || len(q.items) < maxQueued && q.bytes+len(it.message.Payload) <= maxQueuedBytes
	if ok {
		q.items = append(q.items, it)
		q.bytes += len(it.message.Payload)
	}
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return ok
}

func (q *queue) take() []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.bytes = nil, 0
	return items
}

// Publish sends a message after all that were published before. It never
// waits: a queue that overflows ends the connection.
func (c *Conn) Publish(m topics.Message) {
	if !c.queue.put(item{message: m}) {
		c.lose(fmt.Errorf("connection to %s ended: it does not take messages as fast as they are published", c.name))
	}
}

// PublishThen is Publish, and calls then once the broker has acknowledged the
// message (QoS 1 and 2) or it is written (QoS 0), or with a refusal once the
// broker has refused it or was found to do so. The calls are in the order of
// publishing.
func (c *Conn) PublishThen(m topics.Message, then func(*Refusal)) {
	if !c.queue.put(item{message: m, then: then}) {
		c.lose(fmt.Errorf("connection to %s ended: it does not take messages as fast as they are published", c.name))
	}
}

// Waiting is how many messages wait to be sent.
func (c *Conn) Waiting() int {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return len(c.queue.items)
}

// Flush waits until everything published so far is acknowledged by the broker
// (QoS 1 and 2) or written (QoS 0).
func (c *Conn) Flush(ctx context.Context) error {
	mark := make(chan struct{})
	c.queue.put(item{mark: mark})
	select {
	case <-mark:
		return nil
	case <-c.lost:
		if c.err == nil {
			return fmt.Errorf("cannot send to %s: the connection is closed", c.name)
		}
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("cannot send to %s: not acknowledged yet: %w", c.name, ctx.Err())
	}
}

// send owns the way from the queue to paho.
func (c *Conn) send() {
	for {
		select {
		case <-c.lost:
			return
		case <-c.queue.ready:
		}
		for _, it := range c.queue.take() {
			if c.over() {
				return
			}
			s := sent{mark: it.mark, then: it.then}
			if it.mark == nil {
				m := c.limited(it.message)
				if s.refused = c.tooLarge(m); s.refused == nil {
					if s.window = m.QoS > 0; s.window && !c.enter() {
						return
					}
					s.token = c.paho.Publish(m.Topic, m.QoS, m.Retain, m.Payload) // waits Timeout at most
				}
			}
			select {
			case c.inflight <- s:
			case <-c.lost:
				return
			}
		}
	}
}

func (c *Conn) over() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// await owns the acknowledgements, in the order of sending. One that does not
// come ends the connection: what it acknowledges would be missing unnoticed.
func (c *Conn) await() {
	patience := time.NewTimer(0)
	defer patience.Stop()
	for {
		var s sent
		select {
		case <-c.lost:
			return
		case s = <-c.inflight:
		}
		if s.mark != nil {
			close(s.mark)
			continue
		}
		if s.refused != nil {
			if s.then != nil {
				s.then(s.refused)
			}
			continue
		}
		patience.Reset(3 * c.timeout)
		select {
		case <-c.lost:
			return
		case <-patience.C:
			c.lose(fmt.Errorf("connection to %s ended: a message was not acknowledged", c.name))
			return
		case <-s.token.Done():
			if err := s.token.Error(); err != nil {
				c.lose(fmt.Errorf("connection to %s ended: cannot send: %w", c.name, err))
				return
			}
			if s.window {
				c.leave()
			}
			if s.then != nil {
				s.then(c.refusal(s.token))
			}
		}
	}
}
