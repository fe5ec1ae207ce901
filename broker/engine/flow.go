package engine

import (
	"fmt"
	"sort"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// delivery is one message on its way to one client with QoS 1 or 2.
type delivery struct {
	m      *message
	ids    []uint32 // of the subscriptions that matched
	from   string   // filter of the shared subscription it came by; "": none
	seq    uint64   // in the session, upwards
	access uint32   // Engine.access when it was allowed
	id     uint16   // packet identifier, 0 while queued
	qos    byte
	phase  store.Phase
	retain bool // the flag it is sent with
	stored bool // the store has what must be stored before the next packet of it
	// passing is a delivery that the store is not told of, in a session that it
	// knows: a restart takes it.
	passing bool
	sent    bool // its PUBLISH was on the wire, on this connection or one before
	open    bool // counts against the window of this connection
}

// flow is the QoS 1 and 2 state of a session, both ways (MQTT 5.0, 4.3, 4.4,
// 4.9). It only decides; whoever owns it sends and stores.
//
// The packet identifiers of what the server sends and of what the client sends
// are spaces of their own.
type flow struct {
	window   int // how many unacknowledged PUBLISHes the client takes
	queue    deliveries
	flights  deliveries // in the order they were first sent
	opened   int        // flights that count against the window
	again    int        // flights that wait to be sent again
	last     uint16     // packet identifier given out last
	clear    uint16     // how many after it are in no flight, as far as is known
	received map[uint16]struct{}
}

// room tells whether another PUBLISH may be sent [MQTT-3.3.4-7, -9].
func (f *flow) room() bool { return f.opened < f.window }

// straight tells whether a new delivery may overtake the queue, because there
// is none.
func (f *flow) straight() bool { return f.queue.len() == 0 && f.again == 0 && f.room() }

// take puts a delivery in flight and gives it a packet identifier.
func (f *flow) take(d delivery) *delivery {
	d.id = f.unused()
	d.phase = store.Published
	d.open = true
	f.opened++
	f.flights.push(d)
	return f.flights.at(f.flights.len() - 1)
}

// waits tells whether the last flight waits for the store: then the next one
// does too, so that they leave in order.
func (f *flow) waits() bool {
	n := f.flights.len()
	return n > 0 && !f.flights.at(n-1).stored
}

// allStored reports whether no delivery waits for the store. The store answers in
// order, so the last ones tell.
func (f *flow) allStored() bool {
	n := f.queue.len()
	return !f.waits() && (n == 0 || f.queue.at(n-1).stored)
}

// unused returns the next packet identifier that is in no flight
// [MQTT-2.2.1-4]. It looks through the flights only when it has used up what it
// found clear the last time.
func (f *flow) unused() uint16 {
	for {
		for f.clear == 0 {
			f.clear = 65535
			for i := range f.flights.len() {
				if ahead := f.flights.at(i).id - f.last - 1; ahead < f.clear {
					f.clear = ahead
				}
			}
			if f.clear == 0 {
				f.last++
			}
		}
		f.last++
		f.clear--
		if f.last != 0 {
			return f.last
		}
	}
}

// find returns the flight with a packet identifier, and its place.
func (f *flow) find(id uint16) (int, *delivery) {
	for i := range f.flights.len() {
		if d := f.flights.at(i); d.id == id {
			return i, d
		}
	}
	return -1, nil
}

func (f *flow) end(i int) delivery {
	d := f.flights.remove(i)
	switch {
	case d.open:
		f.opened--
	case d.phase == store.Published:
		f.again--
	}
	return d
}

// acknowledged takes a PUBACK. It is false for one that belongs to nothing.
func (f *flow) acknowledged(id uint16) (delivery, bool) {
	i, d := f.find(id)
	if d == nil || d.qos != 1 || !d.sent {
		return delivery{}, false
	}
	return f.end(i), true
}

// answer says what a PUBREC leads to.
type answer uint8

const (
	unknown answer = iota // PUBREL 0x92: there is no such delivery
	refused               // the client does not want it: nothing more is sent
	release               // PUBREL
)

// recorded takes a PUBREC. What was released before is released again.
func (f *flow) recorded(id uint16, code byte) (*delivery, answer) {
	i, d := f.find(id)
	switch {
	case d == nil || d.qos != 2 || !d.sent:
		return nil, unknown
	case d.phase == store.Releasing:
		return d, release
	case code >= 0x80: // [MQTT-4.3.3-4; 4.9: it gives back its place in the window]
		ended := f.end(i)
		return &ended, refused
	}
	if !d.open {
		f.again--
	}
	d.phase = store.Releasing
	return d, release
}

// completed takes a PUBCOMP.
func (f *flow) completed(id uint16) (delivery, bool) {
	i, d := f.find(id)
	if d == nil || d.phase != store.Releasing {
		return delivery{}, false
	}
	return f.end(i), true
}

// unexpected returns the fault of an acknowledgement of a packet identifier that
// is in flight and waits for another kind: left alone, its message would stay
// in flight for ever. It is nil for one of nothing (MQTT 5.0, 4.3).
func (f *flow) unexpected(kind byte, id uint16) error {
	_, d := f.find(id)
	if d == nil {
		return nil
	}
	wants := wire.Puback
	switch {
	case d.phase == store.Releasing:
		wants = wire.Pubcomp
	case d.qos == 2:
		wants = wire.Pubrec
	}
	if kind == wants { // of what was not sent yet
		return nil
	}
	names := map[byte]string{wire.Puback: "PUBACK", wire.Pubrec: "PUBREC", wire.Pubcomp: "PUBCOMP"}
	return &wire.Error{
		Code:   wire.ProtocolError,
		Reason: fmt.Sprintf("protocol error: %s for packet %d, which waits for %s", names[kind], id, names[wants]),
	}
}

// bySeq returns the delivery with a number, in flight or queued.
func (f *flow) bySeq(seq uint64) (d *delivery, flying bool) {
	if i := f.flights.bySeq(seq); i >= 0 {
		return f.flights.at(i), true
	}
	if i := f.queue.bySeq(seq); i >= 0 {
		return f.queue.at(i), false
	}
	return nil, false
}

// forget drops a delivery that the store could not take.
func (f *flow) forget(seq uint64) (delivery, bool) {
	if i := f.flights.bySeq(seq); i >= 0 {
		return f.end(i), true
	}
	if i := f.queue.bySeq(seq); i >= 0 {
		return f.queue.remove(i), true
	}
	return delivery{}, false
}

// resume begins a new connection: all flights are to be sent again, with the
// packet identifiers they have [MQTT-4.4.0-1].
func (f *flow) resume(window int) {
	f.window, f.opened, f.again = window, 0, 0
	for i := range f.flights.len() {
		d := f.flights.at(i)
		d.open = false
		if d.phase == store.Published {
			f.again++
		}
	}
}

// resend returns the next flight that is to be sent again, in their order.
func (f *flow) resend() *delivery {
	if f.again == 0 || !f.room() {
		return nil
	}
	for i := range f.flights.len() {
		d := f.flights.at(i)
		if d.open || d.phase != store.Published {
			continue
		}
		if !d.stored {
			return nil // what comes after it waits too
		}
		d.open = true
		f.opened++
		f.again--
		return d
	}
	return nil
}

// next returns the delivery that the queue has next, if it may go.
func (f *flow) next() *delivery {
	if f.again > 0 || f.queue.len() == 0 || !f.room() || !f.queue.at(0).stored {
		return nil
	}
	return f.queue.at(0)
}

// receive takes the packet identifier of a QoS 2 PUBLISH; it is false for one
// that was received before and not released [MQTT-4.3.3-10].
func (f *flow) receive(id uint16) bool {
	if _, twice := f.received[id]; twice {
		return false
	}
	if f.received == nil {
		f.received = make(map[uint16]struct{})
	}
	f.received[id] = struct{}{}
	return true
}

// release takes a PUBREL; it is false where nothing was received.
func (f *flow) release(id uint16) bool {
	_, ok := f.received[id]
	delete(f.received, id)
	return ok
}

// deliveries are in the order of their numbers.
type deliveries struct{ fifo[delivery] }

// bySeq finds the place of a number; -1: it is not there.
func (f *deliveries) bySeq(seq uint64) int {
	i := sort.Search(f.len(), func(i int) bool { return f.at(i).seq >= seq })
	if i < f.len() && f.at(i).seq == seq {
		return i
	}
	return -1
}
