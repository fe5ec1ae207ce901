package engine

import (
	"bytes"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// message is an application message, shared by all who receive it. It is immutable.
type message struct {
	store.Message
	// forward holds the encoded properties for subscribers of MQTT 5.
	forward []byte
	// user is that of the publisher; "" also for a message from the store.
	user string
	// owner is the user whom the message is charged to while it is retained; nil:
	// none.
	owner *usage
	// holders counts who holds it, see memory; it is changed atomically.
	holders int32
	// private is set for an answer to a private message: traces omit its payload.
	private bool
}

// size returns what a message counts for in a queue: about what it takes in memory.
// Its properties are held twice, and each user property is two strings.
func (m *message) size() int {
	return len(m.Topic) + len(m.Payload) + 2*len(m.forward) + 32*len(m.Properties.User) + 64
}

// expired reports whether the message expiry interval has passed (MQTT 5.0,
// 3.3.2.3.3).
func (m *message) expired(now time.Time) bool { return !m.Expires.IsZero() && !m.Expires.After(now) }

// newMessage returns the message of a PUBLISH. It copies p, whose slices belong to the
// read buffer.
func newMessage(p *wire.Publish, topic string, by *Client) *message {
	m := &message{user: by.User, Message: store.Message{
		Topic:     topic,
		QoS:       p.QoS,
		Retain:    p.Retain,
		Publisher: by.ID,
	}}
	if len(p.Payload) > 0 {
		m.Payload = bytes.Clone(p.Payload)
	}
	if p.HasExpiry {
		m.Expires = time.Now().Add(time.Duration(p.Expiry) * time.Second)
	}
	if len(p.Forward) > 0 {
		m.forward = bytes.Clone(p.Forward)
		m.Properties = copyProperties(&p.Properties)
	}
	return m
}

// copyProperties returns a copy of the properties that are stored.
func copyProperties(p *wire.Properties) store.Properties {
	stored := store.Properties{
		HasPayloadFormat: p.HasPayloadFormat,
		PayloadFormat:    p.PayloadFormat,
		HasContentType:   p.HasContentType,
		ContentType:      string(p.ContentType),
		ResponseTopic:    string(p.ResponseTopic),
	}
	if p.Correlation != nil {
		stored.Correlation = append([]byte{}, p.Correlation...)
	}
	for _, u := range p.User {
		stored.User = append(stored.User, store.UserProperty{Name: string(u.Name), Value: string(u.Value)})
	}
	return stored
}

// messageFromStore returns the message of one from the store.
func messageFromStore(m store.Message) *message {
	p := wire.Properties{
		HasPayloadFormat: m.Properties.HasPayloadFormat,
		PayloadFormat:    m.Properties.PayloadFormat,
		HasContentType:   m.Properties.HasContentType,
		ContentType:      []byte(m.Properties.ContentType),
		ResponseTopic:    []byte(m.Properties.ResponseTopic),
		Correlation:      m.Properties.Correlation,
	}
	for _, u := range m.Properties.User {
		p.User = append(p.User, wire.Pair{Name: []byte(u.Name), Value: []byte(u.Value)})
	}
	return &message{Message: m, forward: slices.Clip(p.Append(nil))}
}

// messageFromProgram returns the message of one that the program itself publishes.
func messageFromProgram(m topics.Message) *message {
	var correlation []byte
	if len(m.Correlation) > 0 {
		correlation = m.Correlation
	}
	return messageFromStore(store.Message{
		Topic:      m.Topic,
		Payload:    m.Payload,
		QoS:        min(m.QoS, 2),
		Retain:     m.Retain,
		Properties: store.Properties{ResponseTopic: m.ResponseTopic, Correlation: correlation},
	})
}

// topics returns the message as the program sees it.
func (m *message) topics() topics.Message {
	return topics.Message{
		Topic:         m.Topic,
		Payload:       m.Payload,
		QoS:           m.QoS,
		Retain:        m.Retain,
		ResponseTopic: m.Properties.ResponseTopic,
		Correlation:   m.Properties.Correlation,
		User:          m.user,
		Client:        m.Publisher,
	}
}
