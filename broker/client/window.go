package client

import (
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/jmbarzee/dominion/topics"
)

// setWindow limits the unacknowledged messages to what the options and the broker
// (Receive Maximum) allow.
func (c *Conn) setWindow(o Options) {
	size := o.Window
	if limit := c.capabilities.receiveMaximum; limit > 0 && (size == 0 || limit < size) {
		size = limit
	}
	if size == 0 && o.Sequential {
		size = maxInflight
	}
	if size == 0 {
		return
	}
	size = min(size, maxInflight)
	c.windowSlots = make(chan struct{}, size)
	if o.Sequential {
		c.withheldSlots = size - 1
	}
	for range size - c.withheldSlots {
		c.windowSlots <- struct{}{}
	}
}

// EndSequential ends Options.Sequential. It must be called at most once.
func (c *Conn) EndSequential() {
	for range c.withheldSlots {
		c.windowSlots <- struct{}{}
	}
}

// acquireSlot waits until a message of QoS 1 may be sent, and reports false if the
// connection has ended.
func (c *Conn) acquireSlot() bool {
	if c.windowSlots != nil {
		select {
		case <-c.windowSlots:
		case <-c.failed:
			return false
		}
	}
	c.unacked.Add(1)
	return true
}

// releaseSlot releases what acquireSlot acquired.
func (c *Conn) releaseSlot() {
	c.unacked.Add(-1)
	if c.windowSlots != nil {
		c.windowSlots <- struct{}{} // does not block: acquireSlot took the value
	}
}

// Unacknowledged returns how many messages of QoS 1 were sent and are not
// acknowledged.
func (c *Conn) Unacknowledged() int { return int(c.unacked.Load()) }

// withinCapabilities returns a message as the broker accepts it: QoS 1 or RETAIN would
// end the connection to a broker without them.
func (c *Conn) withinCapabilities(m topics.Message) topics.Message {
	if c.capabilities.qos0Only {
		m.QoS = 0
	}
	m.Retain = m.Retain && !c.capabilities.noRetain
	return m
}

// tooLarge returns a refusal if the message exceeds the broker's maximum packet size.
func (c *Conn) tooLarge(m topics.Message) *Refusal {
	if limit := c.capabilities.maxPacket; limit > 0 && PacketSize(m) > limit {
		return &Refusal{Reason: "its packet is larger than the other broker accepts", Limit: limit}
	}
	return nil
}

// PacketSize returns the size in bytes of the PUBLISH of MQTT 5.0 of a message,
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

// refusal returns the refusal in the PUBACK of a message; nil: it was accepted.
func (c *Conn) refusal(token mqtt.Token) *Refusal {
	t, ok := token.(*mqtt.PublishToken)
	if c.transport.translator == nil || !ok || t.MessageID() == 0 {
		return nil
	}
	r, ok := c.transport.translator.takeRefusal(t.MessageID())
	if !ok {
		return nil
	}
	return &Refusal{Reason: describeReason(r)}
}
