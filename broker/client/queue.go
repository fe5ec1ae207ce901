package client

import (
	"context"
	"fmt"
	"sync"

	"github.com/jmbarzee/dominion/topics"
)

// The limits of what waits to be sent. A connection that exceeds them is of no use: it
// ends, and the caller connects again with its state.
const (
	maxQueued = 16 << 10
	// maxQueuedBytes is the size of payloads.
	maxQueuedBytes = 32 << 20
)

// queueItem is a message, or a barrier: a channel that is closed when everything
// before it is acknowledged.
type queueItem struct {
	message topics.Message
	// done is called when the message is acknowledged; nil: not at all.
	done    func(*Refusal)
	barrier chan struct{}
}

// queue holds what was published and not taken by the writing goroutine.
type queue struct {
	mu    sync.Mutex
	items []queueItem
	bytes int
}

func newQueue() *queue { return &queue{} }

// push appends an item, and reports whether there was room. A barrier is always
// accepted.
func (q *queue) push(it queueItem) (ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ok = it.barrier != nil || len(q.items) < maxQueued && q.bytes+len(it.message.Payload) <= maxQueuedBytes
	if ok {
		q.items = append(q.items, it)
		q.bytes += len(it.message.Payload)
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

// Publish sends a message, in the order of the calls, at QoS 1 at most. It does not
// block: a queue that overflows ends the connection.
func (c *Conn) Publish(m topics.Message) { c.PublishThen(m, nil) }

// PublishThen is Publish, and calls done when the broker has acknowledged the message
// (QoS 1) or it is written (QoS 0), or with a refusal when the broker has refused it or
// is known to. The calls are in the order of publishing. done must not block.
func (c *Conn) PublishThen(m topics.Message, done func(*Refusal)) {
	if !c.queue.push(queueItem{message: m, done: done}) {
		c.fail(fmt.Errorf("connection to %s ended: it does not accept messages as fast as they are published", c.name))
	}
	c.wakeWriter()
}

// QueueLen returns how many messages wait to be sent.
func (c *Conn) QueueLen() int {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return len(c.queue.items)
}

// Flush waits until everything published so far is acknowledged (QoS 1) or written
// (QoS 0).
func (c *Conn) Flush(ctx context.Context) error {
	barrier := make(chan struct{})
	c.queue.push(queueItem{barrier: barrier})
	c.wakeWriter()
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
