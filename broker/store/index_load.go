package store

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// loadState holds the contents of items while the log is read, by serial.
type loadState struct {
	records  map[uint64]Record
	messages []encodedMessage
	// buffer holds copies of encoded messages, so that there are few allocations.
	buffer []byte
	// orphans are records that remove items whose session or message is lost.
	orphans []Record
}

// encodedMessage is a message as it is on disk.
type encodedMessage struct {
	message *storedMessage
	raw     []byte
}

// save returns a copy of b.
func (r *loadState) save(b []byte) []byte {
	if len(b) > cap(r.buffer)-len(r.buffer) {
		r.buffer = make([]byte, 0, max(len(b), 256<<10))
	}
	at := len(r.buffer)
	r.buffer = append(r.buffer, b...)
	return r.buffer[at:len(r.buffer):len(r.buffer)]
}

// load adds one item of the log.
func (x *index) load(it item) {
	if x.loading == nil {
		x.loading = &loadState{records: map[uint64]Record{}}
	}
	x.lastSerial = max(x.lastSerial, it.serial)
	if x.outdated(it) {
		return
	}
	e := entry{it.serial, uint32(len(it.raw))}
	if it.kind == itemMessage {
		b := x.message(it.serial)
		b.entry = x.replace(b.entry, e)
		x.loading.messages = append(x.loading.messages, encodedMessage{b, x.loading.save(it.raw)})
		return
	}
	h := messageRef{entry: e}
	switch it.kind {
	case itemRetain, itemEnqueue, itemSharedEnqueue, itemWill, itemExpiringWill:
		h.message = x.message(it.messageSerial)
	}
	if it.kind != itemRetain { // its key is all it has
		x.loading.records[it.serial] = it.record
	}
	x.apply(it.record, h)
}

// message returns the message with a serial; it may not have been read yet.
func (x *index) message(serial uint64) *storedMessage {
	b := x.messages[serial]
	if b == nil {
		b = &storedMessage{entry: entry{serial: serial}}
		x.messages[serial] = b
	}
	return b
}

// outdated reports whether an item removes something older than what the index holds:
// rewriteLive moved it behind that.
func (x *index) outdated(it item) bool {
	if !it.removes() {
		return false
	}
	if r, is := it.record.(Retain); is {
		return x.retained[r.Topic].serial > it.serial
	}
	s := x.sessions[Client(it.record)]
	if s == nil {
		return false
	}
	switch r := it.record.(type) {
	case Unsubscribe:
		return s.subscriptions[r.Filter].serial > it.serial
	case Dequeue:
		return s.queue[r.Seq].newest() > it.serial
	case Released:
		return s.received[r.PacketID].serial > it.serial
	case Will:
		return s.will.serial > it.serial
	}
	return false // SessionGone: removeSession compares serials
}

// finishLoading ends the reading of the log. Items whose session or message is lost in
// a corrupt part are discarded, and the rest is the state. The orphans must be
// written: they remove those items on disk too, or they would belong to the next
// session with that client identifier.
func (x *index) finishLoading() (state State, orphans []Record) {
	from := x.loading
	x.loading = nil
	if from == nil {
		return State{}, nil
	}
	for _, m := range from.messages {
		if b := m.message; b.refs > 0 && b.msg == nil { // an item that was moved occurs twice
			b.msg = decodeMessage(m.raw)
			x.byPointer[b.msg] = b
		}
	}
	for _, b := range x.messages {
		if b.refs == 0 {
			x.removeMessage(b)
		}
	}
	for topic, h := range x.retained {
		if h.message.msg == nil {
			x.apply(Retain{Topic: topic}, messageRef{})
			from.orphans = append(from.orphans, Retain{Topic: topic})
			continue
		}
		state.Retained = append(state.Retained, h.message.msg)
	}
	for id, s := range x.sessions {
		if s.session.serial == 0 {
			x.removeSession(id, math.MaxUint64)
			from.orphans = append(from.orphans, SessionGone{id})
			continue
		}
		state.Sessions = append(state.Sessions, x.sessionState(s, from))
	}
	slices.SortFunc(state.Sessions, func(a, b SessionState) int { return strings.Compare(a.Client, b.Client) })
	return state, from.orphans
}

// sessionState returns the state of a session. In a log written by this package every
// type assertion holds; for any other the result has zeros.
func (x *index) sessionState(s *sessionIndex, from *loadState) SessionState {
	records := from.records
	own, _ := records[s.session.serial].(Session)
	state := SessionState{Session: own}
	if s.will.message != nil {
		if s.will.message.msg == nil {
			s.will = x.replaceRef(s.will, messageRef{})
			from.orphans = append(from.orphans, Will{Client: own.Client})
		} else {
			will, _ := records[s.will.serial].(Will)
			will.Message = s.will.message.msg
			state.Will = &will
		}
	}
	for _, e := range s.subscriptions {
		subscription, _ := records[e.serial].(Subscribe)
		state.Subscriptions = append(state.Subscriptions, subscription)
	}
	for id := range s.received {
		state.Received = append(state.Received, id)
	}
	for seq, q := range s.queue {
		if q.serial == 0 || q.message.msg == nil {
			x.dequeue(q)
			delete(s.queue, seq)
			from.orphans = append(from.orphans, Dequeue{own.Client, seq})
			continue
		}
		enqueue, _ := records[q.serial].(Enqueue)
		one := QueuedMessage{Enqueue: enqueue}
		one.Message = q.message.msg
		if q.sent.serial != 0 {
			sent, _ := records[q.sent.serial].(Sent)
			one.PacketID, one.Phase = sent.PacketID, sent.Phase
		}
		state.Queue = append(state.Queue, one)
	}
	slices.SortFunc(state.Subscriptions, func(a, b Subscribe) int { return strings.Compare(a.Filter, b.Filter) })
	slices.SortFunc(state.Queue, func(a, b QueuedMessage) int { return cmp.Compare(a.Seq, b.Seq) })
	slices.Sort(state.Received)
	return state
}
