package engine

// publishPermission caches the last decision about a client's publishing: clients
// publish to the same topic again and again.
type publishPermission struct {
	topic         string
	accessVersion uint32
	valid         bool
	allowed       bool
}

// allows reports whether the client may publish to a topic.
func (p *publishPermission) allows(c *conn, topic string) bool {
	if c.e.opts.Allow == nil {
		return true
	}
	if epoch := c.e.access.Load(); !p.valid || p.accessVersion != epoch || p.topic != topic {
		*p = publishPermission{topic, epoch, true, c.e.allowed(c.s.client.Load(), ActionPublish, topic)}
	}
	return p.allowed
}
