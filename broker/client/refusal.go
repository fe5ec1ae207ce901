package client

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// Refusal is why a broker refuses a message.
type Refusal struct {
	Reason string
	// Code is the reason code of MQTT 5.0; 0: the message was not sent.
	Code byte
	// Limit is the maximum packet size that the broker accepts; 0: that is not the
	// reason.
	Limit int
}

// withinCapabilities returns a message as the broker accepts it: QoS 1 or RETAIN would
// end the connection to a broker without them.
func (c *Conn) withinCapabilities(m topics.Message) topics.Message {
	m.QoS = min(m.QoS, 1, c.answer.MaxQoS)
	m.Retain = m.Retain && !c.answer.NoRetain
	return m
}

// refuse returns a refusal if the broker would end the connection at a message: its
// topic is not valid, or it exceeds the broker's maximum packet size.
func (c *Conn) refuse(m topics.Message) *Refusal {
	if !wire.ValidTopic(m.Topic) || !utf8.ValidString(m.Topic) {
		return &Refusal{Reason: "its topic is not a valid topic name"}
	}
	if limit := c.answer.MaxPacket; limit > 0 && PacketSize(m) > limit {
		return &Refusal{Reason: "its packet is larger than the other broker accepts", Limit: limit}
	}
	return nil
}

// PacketSize returns the size in bytes of the PUBLISH of MQTT 5.0 of a message,
// without properties.
func PacketSize(m topics.Message) int {
	out := wire.Outgoing{Flags: m.QoS << 1, Topic: m.Topic, Payload: len(m.Payload)}
	return out.Size(wire.V5)
}

// renewTime is how long a connection lasts after the broker refused a message for a
// quota, which may pass. Then it ends, with DISCONNECT, and the caller connects again
// and publishes its state.
const renewTime = time.Minute

// reportRefused reports the refusal of a message whose publisher does not wait for it.
func (c *Conn) reportRefused(m topics.Message, r *Refusal) {
	if c.options.OnRefused != nil && c.options.OnRefused(m, *r) {
		return
	}
	c.mu.Lock()
	allowed := c.logRefused.allow(m.Topic)
	if r.Code == wire.QuotaExceeded && c.state.renewAt.IsZero() {
		c.state.renewAt, c.state.renewReason = time.Now().Add(renewTime), r.Reason
		c.wakeWriter()
	}
	c.mu.Unlock()
	if allowed {
		c.log.Warn("the broker refuses a message", "broker", c.name, "topic", shortTopic(m.Topic), "reason", r.Reason)
	}
}

// AnswerRefused returns a function for Options.OnRefused. It answers a request or
// command of a user that the broker refuses, as our own broker does in MQTT 3.1.1,
// where it has no reason codes: with an error at the topic where the answer is expected.
// private is set if the connection may have private requests. deliver may be called on
// another goroutine than Options.OnMessage.
func AnswerRefused(tree topics.Tree, user string, private bool, deliver func(topics.Message)) func(topics.Message, Refusal) bool {
	return func(m topics.Message, r Refusal) bool {
		reason := topics.Denied(m.Topic, user)
		if r.Code != wire.NotAuthorized {
			reason = fmt.Errorf("%s is not accepted by the broker: %s", m.Topic, r.Reason)
		} else if at, ours := tree.Parse(m.Topic); ours && topics.IsPrivate(at.Verb) && !private {
			reason = errors.New(topics.PrivateRefusal(at.Verb))
		}
		answer, ok := tree.RefusedAnswer(m.Topic, m.Payload, reason)
		if ok {
			deliver(answer)
		}
		return ok
	}
}
