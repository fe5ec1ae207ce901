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
	messageRate, byteRate := c.e.limits.MessagesPerSecond, c.e.limits.BytesPerSecond
	if c.client.Applicant {
		messageRate, byteRate = stricter(messageRate, applicantMessages), stricter(byteRate, applicantBytes)
	}
	if messageRate == 0 && byteRate == 0 {
		return nil
	}
	p.bytes += bytes
	due := time.Duration(0) // the time that the count takes at the permitted rate
	if messageRate > 0 {
		due = time.Duration(p.messages) * time.Second / time.Duration(messageRate)
	}
	if byteRate > 0 {
		due = max(due, time.Duration(p.bytes)*time.Second/time.Duration(byteRate))
	}
	now := c.e.now()
	if due <= now-p.windowStart {
		if now-p.windowStart > time.Second {
			*p = readLimiter{windowStart: now}
		}
		return nil
	}
	// The wait does not count against the client's keep alive, but an applicant that sends
	// too much is as silent as it is. Close interrupts the wait.
	if !c.client.Applicant {
		c.lastReceived.Store(int64(p.windowStart + due))
	}
	return c.sleep(p.windowStart + due - now)
}

// stricter returns the lower of two rates. 0 is no limit.
func stricter(rate, other int) int {
	if rate == 0 {
		return other
	}
	return min(rate, other)
}
