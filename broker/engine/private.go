package engine

import (
	"bytes"

	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// isPrivate reports whether a topic is private: what a client publishes there goes to
// Options.Receive alone.
func (e *Engine) isPrivate(topic string) bool {
	return e.opts.Private != nil && e.opts.Private(topic)
}

// receivePrivate hands a message at a private topic to Options.Receive. No subscriber
// gets it, and it is neither retained nor stored.
func (c *conn) receivePrivate(p *wire.Publish, topic string) {
	m := topics.Message{
		Topic: topic, Payload: bytes.Clone(p.Payload), QoS: p.QoS,
		ResponseTopic: string(p.Properties.ResponseTopic), Correlation: bytes.Clone(p.Properties.Correlation),
		User: c.client.User, Client: c.client.ID,
	}
	c.e.stats.published.Add(1)
	c.e.opts.Receive(*c.s.client.Load(), m, c.answerPrivately)
}

// answerPrivately sends a message with QoS 0 to this connection alone, if it is still
// open and subscribed to the topic. It may be called from any goroutine, but not with
// a mutex of the engine held.
func (c *conn) answerPrivately(m topics.Message) {
	m.QoS, m.Retain = 0, false
	answer := messageFromProgram(m)
	answer.private = true
	b := c.e.beginBatch(nil)
	defer b.end()
	r := c.e.routeOf(m.Topic)
	for i := range r.sessions {
		if r.sessions[i].session == c.s {
			c.s.pushTo(c, b, answer, &r.sessions[i])
		}
	}
}

// pushTo sends a message with QoS 0 if the session is connected by a connection.
func (s *session) pushTo(c *conn, b *batch, m *message, t *target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed || s.conn != c {
		return
	}
	if c.tooLarge(m, t.ids, 0) {
		s.countDropped(m.Topic, exceedsMaxPacket)
		return
	}
	s.pushQoS0(b, m, t.ids, false)
}
