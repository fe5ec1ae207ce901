package engine

import (
	"fmt"

	"github.com/jmbarzee/dominion/broker/wire"
)

// Traced is a packet that went over a connection, or what became of a message.
type Traced struct {
	Client      Client
	Out         bool // to the client
	Kind        byte // of the packet, as wire names them; 0: none
	QoS         byte
	Dup, Retain bool
	ID          uint16 // packet identifier
	Topic       string // of a message or a will, or a filter
	Payload     []byte // may not be kept
	Size        int    // bytes of the packet or, where there is a payload, of that
	Code        byte   // reason code
	Refused     bool
	Dropped     bool
	Action      Action // what was refused
	Words       string
}

// Trace has see told of every packet, from now on until Trace(nil). see must
// not wait, and must not call the engine. While nobody traces it costs a look
// at one pointer a packet.
func (e *Engine) Trace(see func(Traced)) {
	if see == nil {
		e.trace.Store(nil)
		return
	}
	e.trace.Store(&see)
	e.subscriptions.changed() // who may not get a topic is found out, and told, anew
}

// noticed tells what somebody may look for who misses a message.
func (e *Engine) noticed(c *Client, topic, what string) {
	if e.ask.Noticed != nil {
		e.ask.Noticed(*c, topic, what)
	}
	if see := e.trace.Load(); see != nil {
		(*see)(Traced{Client: *c, Topic: topic, Words: what})
	}
}

// notDelivered tells a trace that a session does not get a topic, because it
// may not.
func (e *Engine) notDelivered(s *session, topic string) {
	if see := e.trace.Load(); see != nil {
		(*see)(Traced{Client: *s.client.Load(), Out: true, Kind: wire.PublishType, Topic: topic, Refused: true, Action: ActionDeliver})
	}
}

const tooLargeForIt = "it is larger than the client takes"

// drop counts a message that a session does not get. Of a row of them the
// first is told. The caller holds the mutex.
func (s *session) drop(topic, why string) {
	s.dropped++
	s.e.stats.dropped.Add(1)
	if see := s.e.trace.Load(); see != nil {
		(*see)(Traced{Client: *s.client.Load(), Out: true, Kind: wire.PublishType, Topic: topic, Dropped: true, Words: why})
	}
	if s.e.ask.Noticed != nil && (s.conn == nil || !s.conn.dropping) {
		s.e.ask.Noticed(*s.client.Load(), topic, "a message to it is dropped: "+why)
	}
}

// tracedConnect tells of a CONNECT, but for its password.
func tracedConnect(c *Client, pk *wire.Packet) Traced {
	t := Traced{Client: *c, Kind: wire.Connect}
	t.Words = fmt.Sprintf("clean=%v keepalive=%d", pk.Connect.Clean, pk.Connect.Keepalive)
	if pk.Connect.PasswordFlag {
		t.Words += " with a password"
	}
	if pk.Connect.WillFlag {
		t.Topic, t.QoS, t.Retain = pk.Connect.WillTopic, pk.Connect.WillQos, pk.Connect.WillRetain
		t.Words += " will"
	}
	return t
}

func (c *conn) traced(p *wire.Publish, topic []byte) Traced {
	return Traced{
		Client: *c.who, Kind: wire.PublishType, QoS: p.QoS, Dup: p.Dup, Retain: p.Retain, ID: p.PacketID,
		Topic: string(topic), Payload: p.Payload, Size: len(p.Payload),
	}
}

// traceIn tells of a packet from the client. A PUBLISH is told of when the
// topic that its alias stands for is known.
func (c *conn) traceIn(see *func(Traced), first byte, body []byte) {
	t := Traced{Client: *c.who, Kind: first >> 4, Size: len(body)}
	switch t.Kind {
	case wire.PublishType:
		return
	case wire.Puback, wire.Pubrec, wire.Pubrel, wire.Pubcomp:
		a, err := wire.DecodeAck(t.Kind, body, c.version)
		if err != nil {
			return // the connection ends by it, and that is told
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
			(*see)(t)
		}
		return
	case wire.Disconnect:
		if len(body) > 0 {
			t.Code = body[0]
		}
	}
	(*see)(t)
}

// traceOut tells of a packet to the client.
func (c *conn) traceOut(see *func(Traced), p *packet) {
	t := Traced{Client: *c.who, Out: true, Kind: p.first >> 4, ID: p.id, Code: p.code}
	switch {
	case p.raw != nil:
		t.Kind, t.Size = p.raw[0]>>4, len(p.raw)
		_, start, _, more, err := wire.Frame(p.raw)
		body := p.raw[min(start, len(p.raw)):]
		switch {
		case err != nil || more:
		case t.Kind == wire.Connack && len(body) > 1:
			t.Code = body[1]
		case t.Kind == wire.Disconnect && len(body) > 0:
			t.Code = body[0]
		case t.Kind == wire.Suback && len(body) > 2:
			t.ID, t.Code = uint16(body[0])<<8|uint16(body[1]), body[len(body)-1]
		case t.Kind == wire.Unsuback && len(body) > 1:
			t.ID = uint16(body[0])<<8 | uint16(body[1])
		}
	case p.m != nil:
		t.QoS, t.Dup, t.Retain = p.first>>1&3, p.first&wire.FlagDup != 0, p.first&wire.FlagRetain != 0
		t.Topic, t.Payload, t.Size = p.m.Topic, p.m.Payload, len(p.m.Payload)
	}
	(*see)(t)
}
