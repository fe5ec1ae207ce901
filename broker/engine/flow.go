package engine

import (
	"fmt"
	"sort"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// delivery is one message of QoS 1 or 2 for one client.
type delivery struct {
	msg *message
	// ids are the subscription identifiers that matched.
	ids []uint32
	// sharedFilter is the filter of the shared subscription that matched; "": none.
	sharedFilter string
	// seq is ascending within the session.
	seq uint64
	// access is the value of Engine.access when the delivery was last allowed.
	access uint32
	// id is the packet identifier; 0 while queued.
	id    uint16
	qos   byte
	phase store.Phase
	// retain is the RETAIN flag that it is sent with.
	retain bool
	// stored reports whether the store has what it must have before the next packet of
	// the delivery.
	stored bool
	// volatile is set if the store does not have the delivery although it has the
	// session: a restart loses it.
	volatile bool
	// sent is set when its PUBLISH was written, on this connection or an earlier one.
	sent bool
	// inWindow is set when it counts against the receive maximum of this connection.
	inWindow bool
}

// flow is the QoS 1 and 2 state of a session in both directions (MQTT 5.0, 4.3, 4.4,
// 4.9). It decides only; the session sends and stores.
//
// The packet identifiers that the server assigns and those that the client assigns are
// separate spaces.
type flow struct {
	// window is how many unacknowledged PUBLISH packets the client accepts.
	window int
	queue  deliveries
	// flights are in the order in which they were first sent.
	flights deliveries
	// windowUsed counts flights that count against the window.
	windowUsed int
	// toResend counts flights that are to be sent again.
	toResend int
	// lastID is the packet identifier assigned last.
	lastID uint16
	// freeIDs is how many identifiers after lastID are known to be unused.
	freeIDs uint16
	// received holds the identifiers of QoS 2 messages from the client that are not
	// released.
	received map[uint16]struct{}
}

// windowOpen reports whether another PUBLISH may be sent [MQTT-3.3.4-7, -9].
func (f *flow) windowOpen() bool { return f.windowUsed < f.window }

// canBypassQueue reports whether a new delivery may be sent at once, because nothing
// waits before it.
func (f *flow) canBypassQueue() bool { return f.queue.len() == 0 && f.toResend == 0 && f.windowOpen() }

// startFlight puts a delivery in flight and assigns its packet identifier.
func (f *flow) startFlight(d delivery) *delivery {
	d.id = f.nextPacketID()
	d.phase = store.Published
	d.inWindow = true
	f.windowUsed++
	f.flights.push(d)
	return f.flights.at(f.flights.len() - 1)
}

// lastUnstored reports whether the last flight waits for the store: then the next one
// waits too, to keep the order.
func (f *flow) lastUnstored() bool {
	n := f.flights.len()
	return n > 0 && !f.flights.at(n-1).stored
}

// allStored reports whether no delivery waits for the store. The store completes in
// order, so the last deliveries decide.
func (f *flow) allStored() bool {
	n := f.queue.len()
	return !f.lastUnstored() && (n == 0 || f.queue.at(n-1).stored)
}

// nextPacketID returns the next packet identifier that no flight uses [MQTT-2.2.1-4].
// It scans the flights only when the run of free identifiers from the last scan is
// used up.
func (f *flow) nextPacketID() uint16 {
	for {
		for f.freeIDs == 0 {
			f.freeIDs = 65535
			for i := range f.flights.len() {
				if distance := f.flights.at(i).id - f.lastID - 1; distance < f.freeIDs {
					f.freeIDs = distance
				}
			}
			if f.freeIDs == 0 {
				f.lastID++
			}
		}
		f.lastID++
		f.freeIDs--
		if f.lastID != 0 {
			return f.lastID
		}
	}
}

// find returns the index of the flight with a packet identifier, and the flight; nil:
// there is none.
func (f *flow) find(id uint16) (int, *delivery) {
	for i := range f.flights.len() {
		if d := f.flights.at(i); d.id == id {
			return i, d
		}
	}
	return -1, nil
}

// end removes a flight and its place in the window.
func (f *flow) end(i int) delivery {
	d := f.flights.remove(i)
	if d.inWindow {
		f.windowUsed--
	} else if d.phase == store.Published {
		f.toResend--
	}
	return d
}

// onPuback handles PUBACK, and reports whether it belongs to a flight.
func (f *flow) onPuback(id uint16) (delivery, bool) {
	i, d := f.find(id)
	if d == nil || d.qos != 1 || !d.sent {
		return delivery{}, false
	}
	return f.end(i), true
}

// pubrecResult is what follows from a PUBREC.
type pubrecResult uint8

const (
	// pubrecUnknown is answered with PUBREL 0x92: there is no such delivery.
	pubrecUnknown pubrecResult = iota
	// pubrecRefused ends the delivery: the client refuses it.
	pubrecRefused
	// pubrecRelease is answered with PUBREL.
	pubrecRelease
)

// onPubrec handles PUBREC. A delivery that was released before is released again.
func (f *flow) onPubrec(id uint16, code byte) (*delivery, pubrecResult) {
	i, d := f.find(id)
	switch {
	case d == nil || d.qos != 2 || !d.sent:
		return nil, pubrecUnknown
	case d.phase == store.Releasing:
		return d, pubrecRelease
	case code >= 0x80: // [MQTT-4.3.3-4; 4.9: it frees its place in the window]
		ended := f.end(i)
		return &ended, pubrecRefused
	}
	if !d.inWindow {
		f.toResend--
	}
	d.phase = store.Releasing
	return d, pubrecRelease
}

// onPubcomp handles PUBCOMP, and reports whether it belongs to a flight.
func (f *flow) onPubcomp(id uint16) (delivery, bool) {
	i, d := f.find(id)
	if d == nil || d.phase != store.Releasing {
		return delivery{}, false
	}
	return f.end(i), true
}

// wrongAck returns a protocol error for an acknowledgement of a flight that waits for
// another kind: if it were ignored, the message would stay in flight for ever. It
// returns nil if no flight has the identifier (MQTT 5.0, 4.3).
func (f *flow) wrongAck(kind byte, id uint16) error {
	_, d := f.find(id)
	if d == nil {
		return nil
	}
	wants := wire.Puback
	if d.phase == store.Releasing {
		wants = wire.Pubcomp
	} else if d.qos == 2 {
		wants = wire.Pubrec
	}
	if kind == wants { // its packet was not sent yet
		return nil
	}
	names := map[byte]string{wire.Puback: "PUBACK", wire.Pubrec: "PUBREC", wire.Pubcomp: "PUBCOMP"}
	return &wire.Error{
		Code:   wire.ProtocolError,
		Reason: fmt.Sprintf("protocol error: %s for packet %d, which waits for %s", names[kind], id, names[wants]),
	}
}

// bySeq returns the delivery with a sequence number, and whether it is in flight.
func (f *flow) bySeq(seq uint64) (d *delivery, flying bool) {
	if i := f.flights.bySeq(seq); i >= 0 {
		return f.flights.at(i), true
	}
	if i := f.queue.bySeq(seq); i >= 0 {
		return f.queue.at(i), false
	}
	return nil, false
}

// remove removes a delivery that the store refused.
func (f *flow) remove(seq uint64) (delivery, bool) {
	if i := f.flights.bySeq(seq); i >= 0 {
		return f.end(i), true
	}
	if i := f.queue.bySeq(seq); i >= 0 {
		return f.queue.remove(i), true
	}
	return delivery{}, false
}

// resume begins a new connection: all flights are to be sent again, with their packet
// identifiers [MQTT-4.4.0-1].
func (f *flow) resume(window int) {
	f.window, f.windowUsed, f.toResend = window, 0, 0
	for i := range f.flights.len() {
		d := f.flights.at(i)
		d.inWindow = false
		if d.phase == store.Published {
			f.toResend++
		}
	}
}

// nextResend returns the next flight to be sent again, in order; nil: none may be.
func (f *flow) nextResend() *delivery {
	if f.toResend == 0 || !f.windowOpen() {
		return nil
	}
	for i := range f.flights.len() {
		d := f.flights.at(i)
		if d.inWindow || d.phase != store.Published {
			continue
		}
		if !d.stored {
			return nil // later flights wait too
		}
		d.inWindow = true
		f.windowUsed++
		f.toResend--
		return d
	}
	return nil
}

// nextQueued returns the front of the queue, if it may be sent.
func (f *flow) nextQueued() *delivery {
	if f.toResend > 0 || f.queue.len() == 0 || !f.windowOpen() || !f.queue.at(0).stored {
		return nil
	}
	return f.queue.at(0)
}

// receive registers the packet identifier of a QoS 2 PUBLISH, and reports whether it
// is new: not received before without being released [MQTT-4.3.3-10].
func (f *flow) receive(id uint16) bool {
	if _, exists := f.received[id]; exists {
		return false
	}
	if f.received == nil {
		f.received = make(map[uint16]struct{})
	}
	f.received[id] = struct{}{}
	return true
}

// release handles PUBREL, and reports whether the identifier was registered.
func (f *flow) release(id uint16) bool {
	_, ok := f.received[id]
	delete(f.received, id)
	return ok
}

// deliveries are ordered by sequence number.
type deliveries struct{ fifo[delivery] }

// bySeq returns the index of a sequence number; -1: there is none.
func (f *deliveries) bySeq(seq uint64) int {
	i := sort.Search(f.len(), func(i int) bool { return f.at(i).seq >= seq })
	if i < f.len() && f.at(i).seq == seq {
		return i
	}
	return -1
}
