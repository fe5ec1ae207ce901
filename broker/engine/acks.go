package engine

import (
	"sync"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// ackOrder sends acknowledgements in the order of the packets that they acknowledge
// [MQTT-4.6.0-2, -3, -4] where an earlier one is deferred for longer than a later one.
// It is empty unless a retained message of the connection is deferred.
type ackOrder struct {
	mu    sync.Mutex
	slots []*ackSlot
	// sending is set while a goroutine sends completed slots.
	sending bool
}

// ackSlot is a position in that order, with the acknowledgements to be sent from it.
type ackSlot struct {
	acks []ack
	err  error
	done bool
}

// empty reports whether no acknowledgement is outstanding. A nil ackOrder is empty.
func (o *ackOrder) empty() bool {
	if o == nil {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.slots) == 0
}

// reserveAcks reserves the next position in the order of the connection's
// acknowledgements. It is called by the reading goroutine only.
func (c *conn) reserveAcks(acks []ack) *ackSlot {
	if c.ackOrder == nil {
		c.ackOrder = new(ackOrder)
	}
	return c.ackOrder.reserve(acks)
}

// reserve appends a slot.
func (o *ackOrder) reserve(acks []ack) *ackSlot {
	s := &ackSlot{acks: acks}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.slots = append(o.slots, s)
	return s
}

// complete marks a slot as ready, and sends every slot that has no incomplete one
// before it. One goroutine at a time sends, without holding the mutex.
func (o *ackOrder) complete(c *conn, s *ackSlot, err error) {
	o.mu.Lock()
	s.done, s.err = true, err
	if o.sending {
		o.mu.Unlock()
		return
	}
	o.sending = true
	for len(o.slots) > 0 && o.slots[0].done {
		first := o.slots[0]
		o.mu.Unlock()
		c.acknowledge(first.acks, first.err)
		o.mu.Lock()
		o.slots[0] = nil
		o.slots = o.slots[1:] // only now: a slot that completes meanwhile must not overtake it
	}
	if len(o.slots) == 0 {
		o.slots = nil
	}
	o.sending = false
	o.mu.Unlock()
}

// onAck handles PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5.0, 4.3). An acknowledgement
// for a connection that was taken over is ignored: the new connection sends the
// delivery again.
func (c *conn) onAck(b *batch, kind byte, body []byte) error {
	a, err := wire.DecodeAck(kind, body, c.version)
	if err != nil {
		return err
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return nil // taken over: the new connection sends the delivery again
	}
	switch kind {
	case wire.Puback:
		d, ok := s.flow.onPuback(a.PacketID)
		if !ok {
			return s.flow.wrongAck(kind, a.PacketID)
		}
		s.completeDelivery(b, d)
	case wire.Pubrec:
		d, result := s.flow.onPubrec(a.PacketID, a.Code)
		switch result {
		case pubrecUnknown:
			if err := s.flow.wrongAck(kind, a.PacketID); err != nil {
				return err
			}
			if a.Code < 0x80 {
				c.enqueueReply(packet{id: a.PacketID, first: wire.Pubrel << 4, code: wire.PacketIdentifierNotFound})
			}
		case pubrecRefused:
			s.completeDelivery(b, *d)
		case pubrecRelease:
			s.sendPubrel(b, d)
		}
	case wire.Pubcomp:
		d, ok := s.flow.onPubcomp(a.PacketID)
		if !ok {
			return s.flow.wrongAck(kind, a.PacketID)
		}
		s.completeDelivery(b, d)
	case wire.Pubrel:
		back := ack{kind: wire.Pubcomp, Ack: wire.Ack{PacketID: a.PacketID}}
		if !s.releasePacketID(a.PacketID) {
			back.Code = wire.PacketIdentifierNotFound
			c.unacked.Add(1) // acknowledge subtracts one
		} else if s.durable {
			b.addFreeing(store.Released{Client: s.id, PacketID: a.PacketID})
		}
		b.acks = append(b.acks, back)
	}
	b.addSession(s)
	return nil
}

// completeDelivery releases a delivery that the client has acknowledged. The caller
// holds s.mu.
func (s *session) completeDelivery(b *batch, d delivery) {
	s.releaseDelivery(d.msg)
	if s.durable && !d.volatile {
		b.addFreeing(store.Dequeue{Client: s.id, Seq: d.seq})
	}
}

// sendPubrel continues a QoS 2 delivery with PUBREL, once the store knows that its
// PUBLISH must not be sent again. The caller holds s.mu.
func (s *session) sendPubrel(b *batch, d *delivery) {
	if !s.durable || d.volatile {
		s.conn.enqueueDelivery(d)
		return
	}
	d.stored = false
	s.append([]store.Record{store.Sent{Client: s.id, Seq: d.seq, PacketID: d.id, Phase: store.Releasing}}, []uint64{d.seq})
}

// releasePacketID releases the packet identifier of a QoS 2 message from the client,
// and reports whether it was in use. The caller holds s.mu.
func (s *session) releasePacketID(id uint16) bool {
	ok := s.flow.release(id)
	if ok {
		s.accountMemory(-costIdentifier)
	}
	return ok
}

// acknowledge queues acknowledgements for the client. A nil err means that the store
// has the records that they stand for; otherwise those are answered with "quota
// exceeded" where the protocol has a reason code, and the connection ends where it has
// none [MQTT 3.1.1: MQTT-3.3.5-2].
func (c *conn) acknowledge(acks []ack, err error) {
	if len(acks) == 0 {
		return
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range acks {
		if err != nil && a.stored {
			a.Code = wire.QuotaExceeded
			if a.kind == wire.Pubrec {
				s.releasePacketID(a.PacketID)
			}
			if c.version != wire.V5 {
				// there is no reason code to refuse it with [MQTT 3.1.1: MQTT-3.3.5-2]
				c.disconnect(wire.QuotaExceeded, "what it published cannot be stored: "+err.Error())
				return
			}
		}
		if a.kind != wire.Pubrec || a.Code >= 0x80 {
			c.unacked.Add(-1)
		}
		if c.version != wire.V5 && (a.kind == wire.Puback || a.kind == wire.Pubrec) {
			a.Code = wire.Success
		}
		c.enqueueReply(packet{id: a.PacketID, first: a.kind << 4, code: a.Code})
	}
	c.wakeWriter()
}
