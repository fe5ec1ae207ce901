package store

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// index knows of everything that is kept which item of the log holds it: what
// is needed to tell what changes nothing, to write a message once, and to move
// what is live out of an old segment. It belongs to one goroutine.
type index struct {
	exclude  func(topic string) bool
	serial   uint64 // the last one given out
	live     int64  // bytes of live items
	bodies   map[uint64]*body
	known    map[*Message]*body
	retained map[string]held
	sessions map[string]*indexed
	replayed *replayed // while the log is read
}

// entry is the item that holds something. Serial 0 is none.
type entry struct {
	serial uint64
	size   uint32
}

// body is a message on disk and how many items refer to it.
type body struct {
	entry
	refs    int
	message *Message
}

type held struct {
	entry
	body *body
}

type indexed struct {
	own           entry
	will          held
	subscriptions map[string]entry
	queue         map[uint64]queued
	received      map[uint16]entry
}

type queued struct {
	held
	sent entry
}

// newest returns the serial of the newest item of a queued message.
func (q queued) newest() uint64 { return max(q.serial, q.sent.serial) }

// replayed keeps the contents while the log is read, by serial.
type replayed struct {
	records  map[uint64]Record
	messages []encoded
	chunk    []byte   // messages are copied into chunks: fewer things to count
	strays   []Record // what takes away that which lost what it belongs to
}

// encoded is a message as it is on disk.
type encoded struct {
	body *body
	raw  []byte
}

// keep copies b.
func (r *replayed) keep(b []byte) []byte {
	if len(b) > cap(r.chunk)-len(r.chunk) {
		r.chunk = make([]byte, 0, max(len(b), 256<<10))
	}
	at := len(r.chunk)
	r.chunk = append(r.chunk, b...)
	return r.chunk[at:len(r.chunk):len(r.chunk)]
}

func newIndex(exclude func(string) bool) *index {
	if exclude == nil {
		exclude = func(string) bool { return false }
	}
	return &index{
		exclude: exclude, bodies: map[uint64]*body{}, known: map[*Message]*body{},
		retained: map[string]held{}, sessions: map[string]*indexed{},
	}
}

// add writes what r needs, which may be nothing, and makes it so.
func (x *index) add(w *writer, r Record) {
	m := messageOf(r)
	if m != nil && x.exclude(m.Topic) {
		will, ok := r.(Will)
		if !ok {
			return
		}
		will.Message, m = nil, nil
		r = will // the one before is no more
	}
	if !x.changes(r) {
		return
	}
	var b *body
	if m != nil {
		if b = x.known[m]; b == nil {
			at := len(*w)
			x.serial++
			w.message(x.serial, m)
			b = &body{entry: entry{x.serial, uint32(len(*w) - at)}, message: m}
			x.bodies[b.serial], x.known[m] = b, b
			x.live += int64(b.size)
		}
	}
	at := len(*w)
	x.serial++
	serial := uint64(0)
	if b != nil {
		serial = b.serial
	}
	w.record(x.serial, serial, r)
	x.set(r, held{entry{x.serial, uint32(len(*w) - at)}, b})
}

func messageOf(r Record) *Message {
	switch r := r.(type) {
	case Retain:
		return r.Message
	case Enqueue:
		return r.Message
	case Will:
		return r.Message
	}
	return nil
}

// changes tells whether r makes a difference.
func (x *index) changes(r Record) bool {
	switch r := r.(type) {
	case Retain:
		_, there := x.retained[r.Topic]
		return there || r.Message != nil
	case Session:
		return true
	}
	s := x.sessions[client(r)]
	if s == nil {
		return false
	}
	there := true
	switch r := r.(type) {
	case Unsubscribe:
		_, there = s.subscriptions[r.Filter]
	case Enqueue:
		_, there = s.queue[r.Seq]
		return !there && r.Message != nil
	case Dequeue:
		_, there = s.queue[r.Seq]
	case Sent:
		_, there = s.queue[r.Seq]
	case Received:
		_, there = s.received[r.PacketID]
		return !there
	case Released:
		_, there = s.received[r.PacketID]
	case Will:
		there = r.Message != nil || s.will.serial != 0
	}
	return there
}

// put replaces an entry in the sum.
func (x *index) put(before, next entry) entry {
	x.live += int64(next.size) - int64(before.size)
	return next
}

// hold replaces what refers to a message.
func (x *index) hold(before, next held) held {
	x.put(before.entry, next.entry)
	if next.body != nil {
		next.body.refs++
	}
	if b := before.body; b != nil {
		// While the log is read, what refers to it may still come.
		if b.refs--; b.refs == 0 && x.replayed == nil {
			x.forget(b)
		}
	}
	return next
}

func (x *index) forget(b *body) {
	x.live -= int64(b.size)
	delete(x.bodies, b.serial)
	delete(x.known, b.message)
}

// set makes the index what it is after r. Compaction moves old items behind
// newer ones, so that, while the log is read, what belongs to a session may
// come before it, what is sent before it is queued, and, after renew, what takes
// something away behind what is newer (outdated).
func (x *index) set(r Record, h held) {
	switch r := r.(type) {
	case Retain:
		if h.body == nil {
			x.hold(x.retained[r.Topic], held{})
			delete(x.retained, r.Topic)
		} else {
			x.retained[r.Topic] = x.hold(x.retained[r.Topic], h)
		}
		return
	case SessionGone:
		x.gone(r.Client, h.serial)
		return
	}
	s := x.sessions[client(r)]
	if s == nil {
		s = &indexed{}
		x.sessions[client(r)] = s
	}
	switch r := r.(type) {
	case Session:
		s.own = x.put(s.own, h.entry)
	case Subscribe:
		set(&s.subscriptions, r.Filter, x.put(s.subscriptions[r.Filter], h.entry))
	case Unsubscribe:
		x.put(s.subscriptions[r.Filter], entry{})
		delete(s.subscriptions, r.Filter)
	case Enqueue:
		q := s.queue[r.Seq]
		q.held = x.hold(q.held, h)
		set(&s.queue, r.Seq, q)
	case Dequeue:
		x.dequeue(s.queue[r.Seq])
		delete(s.queue, r.Seq)
	case Sent:
		q := s.queue[r.Seq]
		q.sent = x.put(q.sent, h.entry)
		set(&s.queue, r.Seq, q)
	case Received:
		set(&s.received, r.PacketID, x.put(s.received[r.PacketID], h.entry))
	case Released:
		x.put(s.received[r.PacketID], entry{})
		delete(s.received, r.PacketID)
	case Will:
		if h.body == nil {
			h = held{}
		}
		s.will = x.hold(s.will, h)
	}
}

func (x *index) dequeue(q queued) {
	x.hold(q.held, held{})
	x.put(q.sent, entry{})
}

// gone removes what a session had before serial.
func (x *index) gone(client string, serial uint64) {
	s := x.sessions[client]
	if s == nil {
		return
	}
	if s.own.serial < serial {
		s.own = x.put(s.own, entry{})
	}
	if s.will.serial < serial {
		s.will = x.hold(s.will, held{})
	}
	for filter, e := range s.subscriptions {
		if e.serial < serial {
			x.put(e, entry{})
			delete(s.subscriptions, filter)
		}
	}
	for id, e := range s.received {
		if e.serial < serial {
			x.put(e, entry{})
			delete(s.received, id)
		}
	}
	for seq, q := range s.queue {
		if q.newest() < serial {
			x.dequeue(q)
			delete(s.queue, seq)
		}
	}
	if s.own.serial == 0 && s.will.serial == 0 && len(s.subscriptions)+len(s.received)+len(s.queue) == 0 {
		delete(x.sessions, client)
	}
}

// outdated reports whether an item takes away what is older than what is held. It
// was moved, by renew, behind that.
func (x *index) outdated(it item) bool {
	if !it.removes() {
		return false
	}
	if r, is := it.record.(Retain); is {
		return x.retained[r.Topic].serial > it.serial
	}
	s := x.sessions[client(it.record)]
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
	return false // SessionGone, of which gone takes care
}

// holds tells whether an item of the log is live. What only takes away is not:
// when the oldest segment goes, nothing is left that it could take away.
func (x *index) holds(it item) bool {
	var e entry
	switch r := it.record.(type) {
	case nil:
		b := x.bodies[it.serial]
		return b != nil
	case Retain:
		e = x.retained[r.Topic].entry
	default:
		s := x.sessions[client(r)]
		if s == nil {
			return false
		}
		switch r := r.(type) {
		case Session:
			e = s.own
		case Subscribe:
			e = s.subscriptions[r.Filter]
		case Enqueue:
			e = s.queue[r.Seq].entry
		case Sent:
			e = s.queue[r.Seq].sent
		case Received:
			e = s.received[r.PacketID]
		case Will:
			e = s.will.entry
		}
	}
	return e.serial == it.serial
}

// load takes over one item of the log.
func (x *index) load(it item) {
	if x.replayed == nil {
		x.replayed = &replayed{records: map[uint64]Record{}}
	}
	x.serial = max(x.serial, it.serial)
	if x.outdated(it) {
		return
	}
	e := entry{it.serial, uint32(len(it.raw))}
	if it.kind == itemMessage {
		b := x.body(it.serial)
		b.entry = x.put(b.entry, e)
		x.replayed.messages = append(x.replayed.messages, encoded{b, x.replayed.keep(it.raw)})
		return
	}
	h := held{entry: e}
	switch it.kind {
	case itemRetain, itemEnqueue, itemSharedEnqueue, itemWill, itemMortalWill:
		h.body = x.body(it.body)
	}
	if it.kind != itemRetain { // which says no more than its key
		x.replayed.records[it.serial] = it.record
	}
	x.set(it.record, h)
}

// body finds a message by serial; it may not have been read yet.
func (x *index) body(serial uint64) *body {
	b := x.bodies[serial]
	if b == nil {
		b = &body{entry: entry{serial: serial}}
		x.bodies[serial] = b
	}
	return b
}

// loaded ends the reading of the log: what lost its session or its message to
// a corrupt part is let go, and the rest is the state. The strays are to be
// written: they take that away on the disk too, lest it belongs to the next
// session of that name.
func (x *index) loaded() (state State, strays []Record) {
	from := x.replayed
	x.replayed = nil
	if from == nil {
		return State{}, nil
	}
	for _, m := range from.messages {
		if b := m.body; b.refs > 0 && b.message == nil { // one that was moved is there twice
			b.message = decodeMessage(m.raw)
			x.known[b.message] = b
		}
	}
	for _, b := range x.bodies {
		if b.refs == 0 {
			x.forget(b)
		}
	}
	for topic, h := range x.retained {
		if h.body.message == nil {
			x.set(Retain{Topic: topic}, held{})
			from.strays = append(from.strays, Retain{Topic: topic})
			continue
		}
		state.Retained = append(state.Retained, h.body.message)
	}
	for id, s := range x.sessions {
		if s.own.serial == 0 {
			x.gone(id, math.MaxUint64)
			from.strays = append(from.strays, SessionGone{id})
			continue
		}
		state.Sessions = append(state.Sessions, x.session(s, from))
	}
	slices.SortFunc(state.Sessions, func(a, b SessionState) int { return strings.Compare(a.Client, b.Client) })
	return state, from.strays
}

// session is the state of one. Of a log that this package wrote every assertion
// holds; of another one zeros come out.
func (x *index) session(s *indexed, from *replayed) SessionState {
	records := from.records
	own, _ := records[s.own.serial].(Session)
	state := SessionState{Session: own}
	if s.will.body != nil {
		if s.will.body.message == nil {
			s.will = x.hold(s.will, held{})
			from.strays = append(from.strays, Will{Client: own.Client})
		} else {
			will, _ := records[s.will.serial].(Will)
			will.Message = s.will.body.message
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
		if q.serial == 0 || q.body.message == nil {
			x.dequeue(q)
			delete(s.queue, seq)
			from.strays = append(from.strays, Dequeue{own.Client, seq})
			continue
		}
		enqueue, _ := records[q.serial].(Enqueue)
		one := QueuedMessage{Enqueue: enqueue}
		one.Message = q.body.message
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
