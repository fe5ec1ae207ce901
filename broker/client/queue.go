package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/jmbarzee/dominion/topics"
)

// The limits of what waits to be sent. A connection that exceeds them is of no use: it
// ends, and the caller connects again with its state.
const (
	maxQueued = 16 << 10
	// maxQueuedBytes is the size of payloads.
	maxQueuedBytes = 32 << 20
	// maxInflight bounds what is sent and not acknowledged; it also keeps paho from
	// running out of packet identifiers.
	maxInflight = 1 << 10
)

// queueItem is a message, or a barrier: a channel that is closed when everything
// before it is acknowledged.
type queueItem struct {
	message topics.Message
	// done is called when the message is acknowledged; nil: not at all.
	done    func(*Refusal)
	barrier chan struct{}
}

// inflightItem is a queueItem that paho has, or that was refused before.
type inflightItem struct {
	token   mqtt.Token
	refused *Refusal
	done    func(*Refusal)
	barrier chan struct{}
	// holdsSlot is set if it takes up one of the window's slots.
	holdsSlot bool
}

// Refusal is why a broker refuses a message.
type Refusal struct {
	Reason string
	// Limit is the maximum packet size that the broker accepts; 0: that is not the
	// reason.
	Limit int
}

// queue holds what was published and is not passed to paho.
type queue struct {
	mu    sync.Mutex
	items []queueItem
	bytes int
	ready chan struct{}
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

// push appends an item, and reports whether there was room. A barrier is always
// accepted.
func (q *queue) push(it queueItem) (ok bool) {
	q.mu.Lock()
	ok = it.barrier != nil || len(q.items) < maxQueued && q.bytes+len(it.message.Payload) <= maxQueuedBytes
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

// takeAll removes and returns all items.
func (q *queue) takeAll() []queueItem {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.bytes = nil, 0
	return items
}

// Publish sends a message, in the order of the calls. It does not block: a queue that
// overflows ends the connection.
func (c *Conn) Publish(m topics.Message) {
	if !c.queue.push(queueItem{message: m}) {
		c.fail(fmt.Errorf("connection to %s ended: it does not accept messages as fast as they are published", c.name))
	}
}

// PublishThen is Publish, and calls done when the broker has acknowledged the message
// (QoS 1 and 2) or it is written (QoS 0), or with a refusal when the broker has
// refused it or is known to. The calls are in the order of publishing.
func (c *Conn) PublishThen(m topics.Message, done func(*Refusal)) {
	if !c.queue.push(queueItem{message: m, done: done}) {
		c.fail(fmt.Errorf("connection to %s ended: it does not accept messages as fast as they are published", c.name))
	}
}

// QueueLen returns how many messages wait to be sent.
func (c *Conn) QueueLen() int {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return len(c.queue.items)
}

// Flush waits until everything published so far is acknowledged (QoS 1 and 2) or
// written (QoS 0).
func (c *Conn) Flush(ctx context.Context) error {
	barrier := make(chan struct{})
	c.queue.push(queueItem{barrier: barrier})
	select {
	case <-barrier:
		return nil
	case <-c.failed:
		if c.err == nil {
			return fmt.Errorf("cannot send to %s: the connection is closed", c.name)
		}
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("cannot send to %s: not acknowledged yet: %w", c.name, ctx.Err())
	}
}

// send passes messages from the queue to paho. It is the only goroutine that does.
func (c *Conn) send() {
	for {
		select {
		case <-c.failed:
			return
		case <-c.queue.ready:
		}
		for _, it := range c.queue.takeAll() {
			if c.hasFailed() {
				return
			}
			s := inflightItem{barrier: it.barrier, done: it.done}
			if it.barrier == nil {
				m := c.withinCapabilities(it.message)
				if s.refused = c.tooLarge(m); s.refused == nil {
					if s.holdsSlot = m.QoS > 0; s.holdsSlot && !c.acquireSlot() {
						return
					}
					s.token = c.paho.Publish(m.Topic, m.QoS, m.Retain, m.Payload) // waits Timeout at most
				}
			}
			select {
			case c.inflight <- s:
			case <-c.failed:
				return
			}
		}
	}
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

// awaitAcks waits for the acknowledgements, in the order of sending. A missing one
// ends the connection: otherwise the loss of its message would go unnoticed.
func (c *Conn) awaitAcks() {
	timeout := time.NewTimer(0)
	defer timeout.Stop()
	for {
		var s inflightItem
		select {
		case <-c.failed:
			return
		case s = <-c.inflight:
		}
		if s.barrier != nil {
			close(s.barrier)
			continue
		}
		if s.refused != nil {
			if s.done != nil {
				s.done(s.refused)
			}
			continue
		}
		timeout.Reset(3 * c.timeout)
		select {
		case <-c.failed:
			return
		case <-timeout.C:
			c.fail(fmt.Errorf("connection to %s ended: a message was not acknowledged", c.name))
			return
		case <-s.token.Done():
			if err := s.token.Error(); err != nil {
				c.fail(fmt.Errorf("connection to %s ended: cannot send: %w", c.name, err))
				return
			}
			if s.holdsSlot {
				c.releaseSlot()
			}
			if s.done != nil {
				s.done(c.refusal(s.token))
			}
		}
	}
}
