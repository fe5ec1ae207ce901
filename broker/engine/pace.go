package engine

import "time"

// permission remembers the last answer about a client's publishing: it asks for
// the same topic again and again.
type permission struct {
	topic string
	epoch uint32
	asked bool
	yes   bool
}

func (p *permission) publish(c *conn, topic string) bool {
	if c.e.ask.Allow == nil {
		return true
	}
	if epoch := c.e.access.Load(); !p.asked || p.epoch != epoch || p.topic != topic {
		*p = permission{topic, epoch, true, c.e.allow(c.s.client.Load(), ActionPublish, topic)}
	}
	return p.yes
}

// pace slows down a client that sends more than it may a second: it is read no
// faster.
type pace struct {
	since    time.Duration
	messages int // since then
	bytes    int
}

func (p *pace) wait(c *conn, bytes int) error {
	l := &c.e.limits
	if l.MessagesPerSecond == 0 && l.BytesPerSecond == 0 {
		return nil
	}
	p.bytes += bytes
	owed := time.Duration(0)
	if l.MessagesPerSecond > 0 {
		owed = time.Duration(p.messages) * time.Second / time.Duration(l.MessagesPerSecond)
	}
	if l.BytesPerSecond > 0 {
		owed = max(owed, time.Duration(p.bytes)*time.Second/time.Duration(l.BytesPerSecond))
	}
	now := c.e.now()
	if owed <= now-p.since {
		if now-p.since > time.Second {
			*p = pace{since: now}
		}
		return nil
	}
	// The time that is waited counts as heard; Close does not wait for it.
	c.heard.Store(int64(p.since + owed))
	return c.pause(p.since + owed - now)
}
