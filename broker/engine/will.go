package engine

import (
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// will is the message that is published when a client disconnects without DISCONNECT
// (MQTT 5.0, 3.1.2.5).
type will struct {
	msg *message
	// expiryInterval is the message expiry interval in seconds, which begins when the
	// will is sent.
	expiryInterval uint32
	// delay is the will delay interval in seconds.
	delay  uint32
	client Client
}

// newWill returns the will of a CONNECT; nil: it has none.
func (c *conn) newWill(pk *wire.Packet) *will {
	p := &pk.Connect
	if !p.WillFlag {
		return nil
	}
	m := store.Message{Topic: p.WillTopic, Payload: p.WillPayload, QoS: p.WillQos, Retain: p.WillRetain, Publisher: p.ClientIdentifier}
	w := &will{delay: p.WillProperties.WillDelayInterval}
	if c.version == wire.V5 {
		props := &p.WillProperties
		m.Properties = store.Properties{
			HasPayloadFormat: props.HasPayloadFormat,
			PayloadFormat:    props.PayloadFormat,
			HasContentType:   props.HasContentType,
			ContentType:      string(props.ContentType),
			ResponseTopic:    string(props.ResponseTopic),
			Correlation:      props.Correlation,
		}
		for _, u := range props.User {
			m.Properties.User = append(m.Properties.User, store.UserProperty{Name: string(u.Name), Value: string(u.Value)})
		}
		w.expiryInterval = props.MessageExpiryInterval
	}
	w.msg = messageFromStore(m)
	return w
}

// memory returns the accounted size of a will; 0 for nil.
func (w *will) memory() int {
	if w == nil {
		return 0
	}
	return w.msg.memory()
}

// setWill replaces the will; nil removes it. The caller holds s.mu.
func (s *session) setWill(w *will) {
	s.accountMemory(w.memory() - s.will.memory())
	s.will = w
}

// sendWill publishes a will, if its client may still publish to its topic.
func (e *Engine) sendWill(w *will) {
	if !e.allowed(&w.client, ActionPublish, w.msg.Topic) {
		e.log.Warn("a will was not published: its client may not publish there any more", "client", w.client.ID, "topic", w.msg.Topic)
		return
	}
	if e.isPrivate(w.msg.Topic) {
		e.log.Warn("a will was not published: its topic takes requests of connected clients only", "client", w.client.ID, "topic", w.msg.Topic)
		return
	}
	m := &message{Message: w.msg.Message, forward: w.msg.forward, user: w.client.User}
	if w.expiryInterval > 0 {
		m.Expires = time.Now().Add(time.Duration(w.expiryInterval) * time.Second)
	}
	e.stats.wills.Add(1)
	e.notify(&w.client, m.Topic, "its will is published")
	b := e.beginBatch(nil)
	m.owner = e.users[e.account(&w.client)]
	b.budget = e.budgetOf(&w.client)
	b.publish(m, nil, nil)
	b.end()
}

// takeWill removes and returns the will. The caller holds s.mu.
func (s *session) takeWill() *will {
	w := s.will
	s.setWill(nil)
	if w != nil {
		w.client = *s.client.Load()
	}
	return w
}
