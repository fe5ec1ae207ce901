package engine

import (
	"bytes"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// message is one application message, shared by all who get it. It does not
// change.
type message struct {
	store.Message
	forward []byte // the properties for subscribers of MQTT 5, encoded once
	user    string // of the publisher; "" also where the message was stored
	owner   *usage // who it is counted for while it is retained; nil: nobody
	holders int32  // how many have it, see memory; changed atomically
}

// size is what a message counts for in a queue: about what it takes up. Its
// properties are there twice, and each user property is two strings.
func (m *message) size() int {
	return len(m.Topic) + len(m.Payload) + 2*len(m.forward) + 32*len(m.Properties.User) + 64
}

func (m *message) expired(now time.Time) bool { return !m.Expires.IsZero() && !m.Expires.After(now) }

// received makes a message of a PUBLISH whose slices are not ours to keep.
func received(p *wire.Publish, topic string, by *Client) *message {
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
		m.Properties = kept(&p.Properties)
	}
	return m
}

func kept(p *wire.Properties) store.Properties {
	k := store.Properties{
		HasPayloadFormat: p.HasPayloadFormat,
		PayloadFormat:    p.PayloadFormat,
		HasContentType:   p.HasContentType,
		ContentType:      string(p.ContentType),
		ResponseTopic:    string(p.ResponseTopic),
	}
	if p.Correlation != nil {
		k.Correlation = append([]byte{}, p.Correlation...)
	}
	for _, u := range p.User {
		k.User = append(k.User, store.UserProperty{Name: string(u.Name), Value: string(u.Value)})
	}
	return k
}

// restored makes a message of one that was stored, or of the hub's own.
func restored(m store.Message) *message {
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

// own makes a message of the program that the engine is part of.
func own(m topics.Message) *message {
	var correlation []byte
	if len(m.Correlation) > 0 {
		correlation = m.Correlation
	}
	return restored(store.Message{
		Topic:      m.Topic,
		Payload:    m.Payload,
		QoS:        min(m.QoS, 2),
		Retain:     m.Retain,
		Properties: store.Properties{ResponseTopic: m.ResponseTopic, Correlation: correlation},
	})
}

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
