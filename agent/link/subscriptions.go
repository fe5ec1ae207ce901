package link

import (
	"context"
	"slices"
	"time"
)

// Subscribed is the broker's answer to a subscription to one topic.
type Subscribed struct {
	ConnID int
	Topic  string
	Err    error
}

// Require sets the topics that health checks and traits need, and subscribes to the new
// ones. Each topic is subscribed to by itself: one that this domain may not read is no
// reason to lose the others, or the connection.
func (c *Connection) Require(all []string, now time.Time) {
	c.required = slices.Compact(slices.Sorted(slices.Values(all)))
	if c.joined {
		c.Subscribe(now)
	}
}

// Subscribe subscribes to the required topics that were not requested yet, and
// unsubscribes from those that are no longer required. The domain must have joined.
func (c *Connection) Subscribe(now time.Time) {
	if c.requested == nil {
		c.requested, c.lastChange = make(map[string]time.Time), nil
	}
	var gone, fresh []string
	for t := range c.requested {
		if !slices.Contains(c.required, t) {
			delete(c.requested, t)
			if !slices.Contains(c.own, t) {
				gone = append(gone, t)
			}
		}
	}
	for _, t := range c.required {
		if _, done := c.requested[t]; !done {
			c.requested[t] = now
			fresh = append(fresh, t)
		}
	}
	c.change(gone, fresh)
}

// Resubscribe subscribes again to topics, so that the broker sends what is retained.
func (c *Connection) Resubscribe(again []string) {
	if c.joined {
		c.change(nil, again)
	}
}

// change unsubscribes from topics and subscribes to others, beside the loop: both may
// wait for the network. Changes are made in order, or a topic that is required again
// could be unsubscribed from after the subscription.
func (c *Connection) change(gone, fresh []string) {
	if len(gone) == 0 && len(fresh) == 0 {
		return
	}
	conn, connID, before, done := c.conn, c.connID, c.lastChange, make(chan struct{})
	c.lastChange = done
	c.changes.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		if len(gone) > 0 {
			conn.Unsubscribe(gone...) // messages that come nevertheless are ignored
		}
		for _, t := range fresh {
			c.post(Subscribed{connID, t, conn.Subscribe(context.Background(), t)})
		}
	})
}

// Counts reports whether an answer to a subscription is of the open connection and of
// a topic that is still required.
func (c *Connection) Counts(e Subscribed) bool {
	_, requested := c.requested[e.Topic]
	return requested && c.Open(e.ConnID)
}

// RequestedAt returns since when a topic is subscribed to by the open connection. It
// returns false if it is not.
func (c *Connection) RequestedAt(topic string) (at time.Time, ok bool) {
	at, ok = c.requested[topic]
	return at, ok
}
