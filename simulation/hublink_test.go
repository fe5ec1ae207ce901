package simulation

import (
	"context"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// hubLink is the connection of a hub to a broker that is not its own.
type hubLink struct {
	post *post
	now  *clientConn
}

func (l *hubLink) Publish(m topics.Message) {
	if l.post == nil {
		return
	}
	l.post.mu.Lock()
	c := l.now
	l.post.mu.Unlock()
	if c != nil {
		c.Publish(m)
	}
}

// reconnect connects, again and again.
func (l *hubLink) reconnect(ctx context.Context, p *post, u listener) {
	will := u.Will()
	for n := uint64(0); ctx.Err() == nil; n++ {
		p.mu.Lock()
		var c *clientConn
		if p.up {
			c = p.take("dominion", nil, &will, u.Deliver)
		}
		p.mu.Unlock()
		if c != nil && c.Subscribe(ctx, u.Filters()...) == nil {
			p.mu.Lock()
			l.now = c
			p.mu.Unlock()
			u.Connected()
			select {
			case <-ctx.Done():
			case <-c.Done():
			}
			u.Disconnected()
			p.mu.Lock()
			l.now = nil
			p.mu.Unlock()
		}
		if c != nil {
			c.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(p.delay(n, "hub", "again") + 100*time.Millisecond):
		}
	}
}
