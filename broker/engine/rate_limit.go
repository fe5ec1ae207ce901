package engine

import "time"

// readLimiter slows down a client that sends more than it may a second: it is read no
// faster.
type readLimiter struct {
	// windowStart is when counting began, since Engine.started.
	windowStart time.Duration
	// messages and bytes are counted since then.
	messages, bytes int
}

// wait adds bytes to the count, and waits until the client may send more.
func (p *readLimiter) wait(c *conn, bytes int) error {
	l := &c.e.limits
	if l.MessagesPerSecond == 0 && l.BytesPerSecond == 0 {
		return nil
	}
	p.bytes += bytes
	due := time.Duration(0) // the time that the count takes at the permitted rate
	if l.MessagesPerSecond > 0 {
		due = time.Duration(p.messages) * time.Second / time.Duration(l.MessagesPerSecond)
	}
	if l.BytesPerSecond > 0 {
		due = max(due, time.Duration(p.bytes)*time.Second/time.Duration(l.BytesPerSecond))
	}
	now := c.e.now()
	if due <= now-p.windowStart {
		if now-p.windowStart > time.Second {
			*p = readLimiter{windowStart: now}
		}
		return nil
	}
	// The wait does not count against the client's keep alive. Close interrupts it.
	c.lastReceived.Store(int64(p.windowStart + due))
	return c.sleep(p.windowStart + due - now)
}
