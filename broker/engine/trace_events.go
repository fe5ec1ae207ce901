package engine

import (
	"fmt"

	"github.com/jmbarzee/dominion/broker/wire"
)

// TraceEvent is a packet on a connection, or what happened to a message.
type TraceEvent struct {
	Client Client
	// Out is set for the direction to the client.
	Out bool
	// Kind is the packet type as in package wire; 0: not a packet.
	Kind        byte
	QoS         byte
	Dup, Retain bool
	// ID is the packet identifier.
	ID uint16
	// Topic is that of a message or a will, or a filter.
	Topic string
	// Payload must not be retained.
	Payload []byte
	// Size is the size of the packet in bytes; of a PUBLISH that of its payload.
	Size int
	// Code is the reason code.
	Code    byte
	Refused bool
	Dropped bool
	// Action is what was refused.
	Action Action
	Detail string
}

// Trace has emit called for every packet until Trace(nil). emit must not block, and
// must not call the engine. Without a trace the cost is one load of a pointer a
// packet.
func (e *Engine) Trace(emit func(TraceEvent)) {
	if emit == nil {
		e.trace.Store(nil)
		return
	}
	e.trace.Store(&emit)
	e.subscriptions.changed() // refused deliveries are computed, and traced, again
}

// notify reports an event that explains a missing message.
func (e *Engine) notify(c *Client, topic, what string) {
	if e.opts.Notice != nil {
		e.opts.Notice(*c, topic, what)
	}
	if emit := e.trace.Load(); emit != nil {
		(*emit)(TraceEvent{Client: *c, Topic: topic, Detail: what})
	}
}

// traceNotDelivered traces that a session does not get a topic because it is not
// allowed.
func (e *Engine) traceNotDelivered(s *session, topic string) {
	if emit := e.trace.Load(); emit != nil {
		(*emit)(TraceEvent{Client: *s.client.Load(), Out: true, Kind: wire.PublishType, Topic: topic, Refused: true, Action: ActionDeliver})
	}
}

// exceedsMaxPacket is the reason for which a message is dropped if the client's
// maximum packet size is too small [MQTT-3.1.2-25].
const exceedsMaxPacket = "it is larger than the client's maximum packet size"

// countDropped counts a message that a session does not get. Of consecutive ones only
// the first is reported. The caller holds s.mu.
func (s *session) countDropped(topic, reason string) {
	s.dropped++
	s.e.stats.dropped.Add(1)
	if emit := s.e.trace.Load(); emit != nil {
		(*emit)(TraceEvent{Client: *s.client.Load(), Out: true, Kind: wire.PublishType, Topic: topic, Dropped: true, Detail: reason})
	}
	if s.e.opts.Notice != nil && (s.conn == nil || !s.conn.dropReported) {
		s.e.opts.Notice(*s.client.Load(), topic, "a message to it is dropped: "+reason)
	}
}

// tracedConnect returns the trace event of a CONNECT, without its password.
func tracedConnect(c *Client, pk *wire.Packet) TraceEvent {
	t := TraceEvent{Client: *c, Kind: wire.Connect}
	t.Detail = fmt.Sprintf("clean=%v keepalive=%d", pk.Connect.Clean, pk.Connect.Keepalive)
	if pk.Connect.PasswordFlag {
		t.Detail += " with a password"
	}
	if pk.Connect.WillFlag {
		t.Topic, t.QoS, t.Retain = pk.Connect.WillTopic, pk.Connect.WillQos, pk.Connect.WillRetain
		t.Detail += " will"
	}
	return t
}

// traced returns the trace event of a PUBLISH from the client.
func (c *conn) traced(p *wire.Publish, topic []byte) TraceEvent {
	t := TraceEvent{
		Client: *c.client, Kind: wire.PublishType, QoS: p.QoS, Dup: p.Dup, Retain: p.Retain, ID: p.PacketID,
		Topic: string(topic), Size: len(p.Payload),
	}
	if !c.e.isPrivate(t.Topic) {
		t.Payload = p.Payload
	}
	return t
}

// traceIn traces a packet from the client. PUBLISH is traced by onPublish, which
// resolves the topic alias.
func (c *conn) traceIn(emit *func(TraceEvent), first byte, body []byte) {
	t := TraceEvent{Client: *c.client, Kind: first >> 4, Size: len(body)}
	switch t.Kind {
	case wire.PublishType:
		return
	case wire.Puback, wire.Pubrec, wire.Pubrel, wire.Pubcomp:
		a, err := wire.DecodeAck(t.Kind, body, c.version)
		if err != nil {
			return // the connection ends, and that is traced
		}
		t.ID, t.Code = a.PacketID, a.Code
	case wire.Subscribe, wire.Unsubscribe:
		pk, err := wire.Decode(first, body, c.version)
		if err != nil {
			return
		}
		t.ID = pk.PacketID
		for _, f := range pk.Filters {
			t.Topic, t.QoS = f.Filter, f.Qos
			(*emit)(t)
		}
		return
	case wire.Disconnect:
		if len(body) > 0 {
			t.Code = body[0]
		}
	}
	(*emit)(t)
}

// fromBody sets packet identifier and reason code from the body of a packet to the
// client.
func (t *TraceEvent) fromBody(body []byte) {
	switch {
	case t.Kind == wire.Connack && len(body) > 1:
		t.Code = body[1]
	case t.Kind == wire.Disconnect && len(body) > 0:
		t.Code = body[0]
	case t.Kind == wire.Suback && len(body) > 2:
		t.ID, t.Code = uint16(body[0])<<8|uint16(body[1]), body[len(body)-1]
	case t.Kind == wire.Unsuback && len(body) > 1:
		t.ID = uint16(body[0])<<8 | uint16(body[1])
	}
}

// traceOut traces a packet to the client.
func (c *conn) traceOut(emit *func(TraceEvent), p *packet) {
	t := TraceEvent{Client: *c.client, Out: true, Kind: p.first >> 4, ID: p.id, Code: p.code}
	if p.raw != nil {
		t.Kind, t.Size = p.raw[0]>>4, len(p.raw)
		if _, start, _, more, err := wire.Frame(p.raw); err == nil && !more {
			t.fromBody(p.raw[min(start, len(p.raw)):])
		}
	} else if p.msg != nil {
		t.QoS, t.Dup, t.Retain = p.first>>1&3, p.first&wire.FlagDup != 0, p.first&wire.FlagRetain != 0
		t.Topic, t.Size = p.msg.Topic, len(p.msg.Payload)
		if !p.msg.private {
			t.Payload = p.msg.Payload
		}
	}
	(*emit)(t)
}
