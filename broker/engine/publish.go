package engine

import (
	"fmt"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// onPublish handles a PUBLISH in steps: its topic, the start of its acknowledgement, the
// checks that may refuse it, the write budget of its publisher, and the delivery.
func (c *conn) onPublish(b *batch, first byte, body []byte) error {
	p := &c.publish
	if err := p.Decode(first, body, c.version); err != nil {
		return err
	}
	c.readLimiter.messages++
	c.publishCount++
	c.payloadBytes += uint64(len(p.Payload))
	topic, err := c.resolveTopic(p)
	if err != nil {
		return err
	}
	if emit := c.e.trace.Load(); emit != nil {
		(*emit)(c.traced(p, topic))
	}
	if p.QoS > 0 && int(c.unacked.Add(1)) > c.e.limits.MaxInflight && c.version == wire.V5 {
		return &wire.Error{Code: wire.ReceiveMaximumExceeded, Reason: "more unacknowledged messages than the server's receive maximum"} // [MQTT-3.3.4-7]
	}
	a, duplicate := c.beginAck(b, p)
	if duplicate {
		b.acks = append(b.acks, a)
		return nil
	}
	if code := c.checkPublish(p, topic); code != wire.Success {
		return c.refusePublish(b, a, p, topic, code)
	}
	r := c.e.route(topic)
	if code := c.checkRoute(p, topic, r); code != wire.Success {
		return c.refusePublish(b, a, p, topic, code)
	}
	if r.private || c.client.Applicant {
		c.receivePrivate(p, r.topic)
		if p.QoS > 0 {
			b.acks = append(b.acks, a)
		}
		return nil
	}
	if r, err = c.chargePublish(b, p, topic, r); err != nil {
		return err
	}
	if p.QoS == 0 {
		if !p.Retain && len(r.sessions) == 0 && len(r.groups) == 0 && len(r.locals) == 0 {
			c.e.stats.published.Add(1)
			return nil
		}
		b.publish(newMessage(p, r.topic, c.s.client.Load()), r, nil)
		return nil
	}
	b.publish(newMessage(p, r.topic, c.s.client.Load()), r, &a)
	return nil
}

// resolveTopic returns the topic of a PUBLISH. It sets or resolves the topic alias, if
// there is one (MQTT 5.0, 3.3.2.3.4).
func (c *conn) resolveTopic(p *wire.Publish) ([]byte, error) {
	if p.Alias == 0 {
		return p.Topic, nil
	}
	if p.Alias > c.e.limits.TopicAliasMaximum { // [MQTT-3.3.2-9]
		return nil, &wire.Error{Code: wire.TopicAliasInvalid, Reason: "topic alias above the maximum"}
	}
	if len(p.Topic) == 0 {
		topic, ok := c.aliases[p.Alias]
		if !ok {
			return nil, &wire.Error{Code: wire.ProtocolError, Reason: "protocol error: the topic alias is not set"}
		}
		return []byte(topic), nil
	}
	if c.aliases == nil {
		c.aliases = make(map[uint16]string)
	}
	c.setAlias(p.Alias, string(p.Topic))
	return p.Topic, nil
}

// beginAck returns the acknowledgement of a PUBLISH, and registers the packet
// identifier of QoS 2. A duplicate is acknowledged and not delivered again
// [MQTT-4.3.3-10].
func (c *conn) beginAck(b *batch, p *wire.Publish) (a ack, duplicate bool) {
	a = ack{kind: wire.Puback, Ack: wire.Ack{PacketID: p.PacketID}}
	if p.QoS != 2 {
		return a, false
	}
	a.kind = wire.Pubrec
	duplicate, durable := c.receivePacketID(p.PacketID)
	if durable {
		// Also for a duplicate: the record of the first may not be stored yet.
		b.add(store.Received{Client: c.s.id, PacketID: p.PacketID})
		a.stored = true
	}
	return a, duplicate
}

// checkPublish checks what a PUBLISH contains, and returns the reason code with which
// it is refused; Success: it is not.
func (c *conn) checkPublish(p *wire.Publish, topic []byte) byte {
	if len(topic) > c.e.limits.MaxTopicLength || levels(topic) > c.e.limits.MaxTopicLevels {
		return wire.TopicNameInvalid
	}
	if p.Properties.HasPayloadFormat && p.Properties.PayloadFormat == 1 && !validText(p.Payload) {
		return wire.PayloadFormatInvalid
	}
	return wire.Success
}

// checkRoute checks whether the client may publish to the topic and whether a store
// that is full would accept the message. It returns the reason code with which the
// message is refused; Success: it is not.
func (c *conn) checkRoute(p *wire.Publish, topic []byte, r *route) byte {
	if !c.canPublish.allows(c, r.topic) || p.Retain && c.client.Applicant {
		return wire.NotAuthorized
	}
	if p.QoS > 0 && c.e.storeFull.lastTry.Load() != 0 && c.e.needsStore(p, r, c.s) && c.e.expectRefusal(len(topic)+len(p.Payload)) {
		return wire.QuotaExceeded
	}
	return wire.Success
}

// chargePublish waits until the write budget of the publisher covers the message. As
// subscriptions may change meanwhile, it returns the route that holds then.
func (c *conn) chargePublish(b *batch, p *wire.Publish, topic []byte, r *route) (*route, error) {
	if p.QoS == 0 || c.budget == nil {
		return r, nil
	}
	cost := c.queueCost(p.QoS, len(topic)+len(p.Payload)+len(p.Forward), r)
	if cost == 0 {
		return r, nil
	}
	if err := c.waitForBudgetInBatch(b, cost); err != nil {
		return nil, err
	}
	return c.e.routeOf(r.topic), nil
}

// receivePacketID registers the packet identifier of a QoS 2 message. It reports
// whether the identifier is in use already, and whether the session is durable.
func (c *conn) receivePacketID(id uint16) (duplicate, durable bool) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	isNew := c.s.flow.receive(id)
	if isNew {
		c.s.accountMemory(costIdentifier)
	}
	return !isNew, c.s.durable && !c.s.removed
}

// setAlias sets the topic of an alias of the client (MQTT 5.0, 3.3.2.3.4).
func (c *conn) setAlias(alias uint16, topic string) {
	before, exists := c.aliases[alias]
	if before == topic && exists {
		return
	}
	n := len(topic) - len(before)
	if !exists {
		n += costAlias
	}
	c.aliases[alias] = topic
	c.accountMemory(n)
}

// refusePublish answers a message that is not accepted. MQTT 5 has a reason code for
// that. In earlier versions a message that the client may not publish is acknowledged
// and dropped, as after closing the connection the client would send it again for
// ever; for a reason that may pass, or another topic, the connection is closed [MQTT
// 3.1.1: MQTT-3.3.5-2].
func (c *conn) refusePublish(b *batch, a ack, p *wire.Publish, topic []byte, code byte) error {
	c.e.stats.refused.Add(1)
	if emit := c.e.trace.Load(); emit != nil {
		(*emit)(TraceEvent{Client: *c.client, Kind: wire.PublishType, QoS: p.QoS, ID: p.PacketID, Topic: string(topic), Code: code, Refused: true, Action: ActionPublish})
	}
	if code == wire.NotAuthorized && (c.version != wire.V5 || p.QoS == 0 || c.e.isPrivate(string(topic))) {
		c.answerDenied(b, string(topic), p.Payload)
	}
	if p.QoS == 0 {
		return nil
	}
	if c.version != wire.V5 {
		if code != wire.NotAuthorized {
			return &wire.Error{Code: code, Reason: fmt.Sprintf("what it published to %.200q is refused", topic)}
		}
		b.acks = append(b.acks, a)
		return nil
	}
	if p.QoS == 2 {
		// A PUBREC of 0x80 or above ends the exchange: the identifier is free.
		c.s.mu.Lock()
		c.s.releasePacketID(p.PacketID)
		durable := c.s.durable && !c.s.removed
		c.s.mu.Unlock()
		if durable {
			b.addFreeing(store.Released{Client: c.s.id, PacketID: p.PacketID})
		}
		a.stored = false
	}
	a.Code = code
	b.acks = append(b.acks, a)
	return nil
}

// answerDenied sends the client the message of Options.DeniedAnswer, if it is
// subscribed to its topic.
func (c *conn) answerDenied(b *batch, topic string, payload []byte) {
	if c.e.opts.DeniedAnswer == nil {
		return
	}
	m, ok := c.e.opts.DeniedAnswer(*c.client, topic, payload)
	if !ok {
		return
	}
	r := c.e.routeOf(m.Topic)
	for i := range r.sessions {
		if r.sessions[i].session == c.s {
			c.s.push(b, messageFromProgram(m), &r.sessions[i], false, "")
		}
	}
}

// needsStore reports whether a publish needs space in the store.
func (e *Engine) needsStore(p *wire.Publish, r *route, from *session) bool {
	if e.store == nil {
		return false
	}
	if p.QoS == 2 && from.isDurable() {
		return true
	}
	if !r.persists {
		return false
	}
	if p.Retain && len(p.Payload) > 0 {
		return true
	}
	for i := range r.sessions {
		if r.sessions[i].qos > 0 && r.sessions[i].session.isDurable() {
			return true
		}
	}
	for i := range r.groups {
		for _, s := range r.groups[i].members {
			if s.qos > 0 && s.session.isDurable() {
				return true
			}
		}
	}
	return false
}

// isDurable reports whether the session's records are stored.
func (s *session) isDurable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable
}

// levels returns the number of levels of a topic.
func levels(topic []byte) int {
	n := 1
	for _, b := range topic {
		if b == '/' {
			n++
		}
	}
	return n
}
