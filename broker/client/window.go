package client

import (
	"github.com/eclipse/paho.mqtt.golang"

	"github.com/jmbarzee/dominion/topics"
)

// setWindow limits what is unacknowledged to what the options and the broker
// (Receive Maximum) allow.
func (c *Conn) setWindow(o Options) {
	size := o.Window
	if most := c.limits.receive; most > 0 && (size == 0 || most < size) {
		size = most
	}
	if size == 0 && o.OneByOne {
		size = maxInflight
	}
	if size == 0 {
		return
	}
	size = min(size, maxInflight)
	c.window = make(chan struct{}, size)
	if o.OneByOne {
		c.withheld = size - 1
	}
	for range size - c.withheld {
		c.window <- struct{}{}
	}
}

// AtOnce ends OneByOne. It is called once at the most.
func (c *Conn) AtOnce() {
	for range c.withheld {
		c.window <- struct{}{}
	}
}

// enter waits until a message of QoS 1 may be sent. false: the connection is
// over.
func (c *Conn) enter() bool {
	if c.window != nil {
		select {
		case <-c.window:
		case <-c.lost:
			return false
		}
	}
	c.unacked.Add(1)
	return true
}

func (c *Conn) leave() {
	c.unacked.Add(-1)
	if c.window != nil {
		c.window <- struct{}{} // it was taken from there
	}
}

// Unacknowledged returns how many messages of QoS 1 were sent and are not
// acknowledged.
func (c *Conn) Unacknowledged() int { return int(c.unacked.Load()) }

// limited returns a message as the broker takes it: one without QoS 1 or without
// retained messages would end the connection.
func (c *Conn) limited(m topics.Message) topics.Message {
	if c.limits.qos0 {
		m.QoS = 0
	}
	m.Retain = m.Retain && !c.limits.noRetain
	return m
}

// tooLarge returns why a message cannot be sent: the broker named a limit.
func (c *Conn) tooLarge(m topics.Message) *Refusal {
	if limit := c.limits.packet; limit > 0 && PacketSize(m) > limit {
		return &Refusal{Reason: "its packet is larger than the other broker takes", Limit: limit}
	}
	return nil
}

// PacketSize returns the bytes of the PUBLISH of MQTT 5.0 that carries a message,
// without properties.
func PacketSize(m topics.Message) int {
	size := 2 + len(m.Topic) + 1 + len(m.Payload)
	if m.QoS > 0 {
		size += 2
	}
	header := 2
	for left := size >> 7; left > 0; left >>= 7 {
		header++
	}
	return header + size
}

// refusal returns what the PUBACK of a message says, nil where it was taken.
func (c *Conn) refusal(token mqtt.Token) *Refusal {
	t, ok := token.(*mqtt.PublishToken)
	if c.wire.v5 == nil || !ok || t.MessageID() == 0 {
		return nil
	}
	r, refused := c.wire.v5.taken(t.MessageID())
	if !refused {
		return nil
	}
	return &Refusal{Reason: describe(r)}
}
