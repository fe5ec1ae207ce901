package store

// index records for everything that is stored which item of the log holds it. That
// suffices to recognise records without effect, to write each message once, and to
// move live items. It belongs to one goroutine.
type index struct {
	exclude func(topic string) bool
	// lastSerial is the serial assigned last.
	lastSerial uint64
	// liveBytes is the size of the live items.
	liveBytes int64
	// messages is keyed by serial, byPointer by the message itself.
	messages  map[uint64]*storedMessage
	byPointer map[*Message]*storedMessage
	retained  map[string]messageRef
	sessions  map[string]*sessionIndex
	// loading is set while the log is read.
	loading *loadState
}

// entry is the item that holds something. Serial 0 means none.
type entry struct {
	serial uint64
	size   uint32
}

// storedMessage is a message on disk, and how many items refer to it.
type storedMessage struct {
	entry
	refs int
	msg  *Message
}

// messageRef is an item that refers to a message.
type messageRef struct {
	entry
	message *storedMessage
}

// sessionIndex holds the items of a session.
type sessionIndex struct {
	session       entry
	will          messageRef
	subscriptions map[string]entry
	queue         map[uint64]queueEntry
	received      map[uint16]entry
}

// queueEntry holds the items of a queued message.
type queueEntry struct {
	messageRef
	sent entry
}

// newest returns the serial of the newest item of a queued message.
func (q queueEntry) newest() uint64 { return max(q.serial, q.sent.serial) }

// newIndex returns an empty index.
func newIndex(exclude func(string) bool) *index {
	if exclude == nil {
		exclude = func(string) bool { return false }
	}
	return &index{
		exclude: exclude, messages: map[uint64]*storedMessage{}, byPointer: map[*Message]*storedMessage{},
		retained: map[string]messageRef{}, sessions: map[string]*sessionIndex{},
	}
}

// add encodes the items of a record and updates the index. A record without effect has
// no items.
func (x *index) add(w *encoder, r Record) {
	m := messageOf(r)
	if m != nil && x.exclude(m.Topic) {
		will, ok := r.(Will)
		if !ok {
			return
		}
		will.Message, m = nil, nil
		r = will // it removes the previous one
	}
	if !x.hasEffect(r) {
		return
	}
	var b *storedMessage
	if m != nil {
		if b = x.byPointer[m]; b == nil {
			at := len(*w)
			x.lastSerial++
			w.message(x.lastSerial, m)
			b = &storedMessage{entry: entry{x.lastSerial, uint32(len(*w) - at)}, msg: m}
			x.messages[b.serial], x.byPointer[m] = b, b
			x.liveBytes += int64(b.size)
		}
	}
	at := len(*w)
	x.lastSerial++
	serial := uint64(0)
	if b != nil {
		serial = b.serial
	}
	w.record(x.lastSerial, serial, r)
	x.apply(r, messageRef{entry{x.lastSerial, uint32(len(*w) - at)}, b})
}

// messageOf returns the message of a record, or nil.
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

// hasEffect reports whether a record changes anything.
func (x *index) hasEffect(r Record) bool {
	switch r := r.(type) {
	case Retain:
		_, exists := x.retained[r.Topic]
		return exists || r.Message != nil
	case Session:
		return true
	}
	s := x.sessions[Client(r)]
	if s == nil {
		return false
	}
	exists := true
	switch r := r.(type) {
	case Unsubscribe:
		_, exists = s.subscriptions[r.Filter]
	case Enqueue:
		_, exists = s.queue[r.Seq]
		return !exists && r.Message != nil
	case Dequeue:
		_, exists = s.queue[r.Seq]
	case Sent:
		_, exists = s.queue[r.Seq]
	case Received:
		_, exists = s.received[r.PacketID]
		return !exists
	case Released:
		_, exists = s.received[r.PacketID]
	case Will:
		exists = r.Message != nil || s.will.serial != 0
	}
	return exists
}

// replace updates the size of live data for an entry that replaces another.
func (x *index) replace(before, next entry) entry {
	x.liveBytes += int64(next.size) - int64(before.size)
	return next
}

// replaceRef is replace for items that refer to messages, whose references it counts.
func (x *index) replaceRef(before, next messageRef) messageRef {
	x.replace(before.entry, next.entry)
	if next.message != nil {
		next.message.refs++
	}
	if b := before.message; b != nil {
		// While the log is read, references may still follow.
		if b.refs--; b.refs == 0 && x.loading == nil {
			x.removeMessage(b)
		}
	}
	return next
}

// removeMessage removes a message without references.
func (x *index) removeMessage(b *storedMessage) {
	x.liveBytes -= int64(b.size)
	delete(x.messages, b.serial)
	delete(x.byPointer, b.msg)
}

// apply updates the index by a record. Compaction moves old items behind newer ones.
// So, while the log is read, items of a session may precede the session, Sent may
// precede Enqueue, and after rewriteLive a removal may follow what is newer
// (outdated).
func (x *index) apply(r Record, h messageRef) {
	switch r := r.(type) {
	case Retain:
		if h.message == nil {
			x.replaceRef(x.retained[r.Topic], messageRef{})
			delete(x.retained, r.Topic)
		} else {
			x.retained[r.Topic] = x.replaceRef(x.retained[r.Topic], h)
		}
		return
	case SessionGone:
		x.removeSession(r.Client, h.serial)
		return
	}
	s := x.sessions[Client(r)]
	if s == nil {
		s = &sessionIndex{}
		x.sessions[Client(r)] = s
	}
	switch r := r.(type) {
	case Session:
		s.session = x.replace(s.session, h.entry)
	case Subscribe:
		setEntry(&s.subscriptions, r.Filter, x.replace(s.subscriptions[r.Filter], h.entry))
	case Unsubscribe:
		x.replace(s.subscriptions[r.Filter], entry{})
		delete(s.subscriptions, r.Filter)
	case Enqueue:
		q := s.queue[r.Seq]
		q.messageRef = x.replaceRef(q.messageRef, h)
		setEntry(&s.queue, r.Seq, q)
	case Dequeue:
		x.dequeue(s.queue[r.Seq])
		delete(s.queue, r.Seq)
	case Sent:
		q := s.queue[r.Seq]
		q.sent = x.replace(q.sent, h.entry)
		setEntry(&s.queue, r.Seq, q)
	case Received:
		setEntry(&s.received, r.PacketID, x.replace(s.received[r.PacketID], h.entry))
	case Released:
		x.replace(s.received[r.PacketID], entry{})
		delete(s.received, r.PacketID)
	case Will:
		if h.message == nil {
			h = messageRef{}
		}
		s.will = x.replaceRef(s.will, h)
	}
}

// dequeue releases the items of a queued message.
func (x *index) dequeue(q queueEntry) {
	x.replaceRef(q.messageRef, messageRef{})
	x.replace(q.sent, entry{})
}

// removeSession removes the items of a session that are older than serial.
func (x *index) removeSession(client string, serial uint64) {
	s := x.sessions[client]
	if s == nil {
		return
	}
	if s.session.serial < serial {
		s.session = x.replace(s.session, entry{})
	}
	if s.will.serial < serial {
		s.will = x.replaceRef(s.will, messageRef{})
	}
	for filter, e := range s.subscriptions {
		if e.serial < serial {
			x.replace(e, entry{})
			delete(s.subscriptions, filter)
		}
	}
	for id, e := range s.received {
		if e.serial < serial {
			x.replace(e, entry{})
			delete(s.received, id)
		}
	}
	for seq, q := range s.queue {
		if q.newest() < serial {
			x.dequeue(q)
			delete(s.queue, seq)
		}
	}
	if s.session.serial == 0 && s.will.serial == 0 && len(s.subscriptions)+len(s.received)+len(s.queue) == 0 {
		delete(x.sessions, client)
	}
}

// isLive reports whether an item of the log is live. Items that only remove something
// are not: when the oldest segment is removed, nothing is left that they could remove.
func (x *index) isLive(it item) bool {
	var e entry
	switch r := it.record.(type) {
	case nil:
		b := x.messages[it.serial]
		return b != nil
	case Retain:
		e = x.retained[r.Topic].entry
	default:
		s := x.sessions[Client(r)]
		if s == nil {
			return false
		}
		switch r := r.(type) {
		case Session:
			e = s.session
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

// setEntry sets an entry of a map, and makes the map for the first one: most sessions
// need few of their maps.
func setEntry[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}
