package engine

import (
	"hash/maphash"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// batch collects the changes of one unit of work: a buffer full of packets from one
// connection, a message of the program, a will. Its records go to the store together,
// and the connections that got something are written to when it ends, so that messages
// that arrive together leave together.
//
// It holds Engine.mu for reading from beginBatch to end.
type batch struct {
	e *Engine
	// conn is the connection whose packets are handled; nil: none.
	conn *conn
	// budget pays for retained messages; nil: no limit.
	budget  *writeBudget
	records []store.Record
	// needSpace reports whether records need space in the store; a batch for the store
	// has either those or the others.
	needSpace bool
	// spaceRecords counts the records that needed space so far.
	spaceRecords int
	// deliveries wait for records.
	deliveries []pendingDelivery
	acks       []ack
	// sessions are woken at the end.
	sessions []*session
	// localsQueued is set when a local subscriber got a message.
	localsQueued bool
	// done are callbacks of deferred messages that wait for records.
	done []func(error)
}

// pendingDelivery is a delivery that waits for the store.
type pendingDelivery struct {
	session *session
	seq     uint64
}

// ack is an acknowledgement that waits for the store.
type ack struct {
	kind byte
	wire.Ack
	// stored is set if it stands for records: if the store refuses them, it is a
	// refusal.
	stored bool
}

// beginBatch begins a batch for the packets of a connection; nil: for the program.
func (e *Engine) beginBatch(c *conn) *batch {
	e.mu.RLock()
	if c == nil {
		return &batch{e: e, budget: e.ownBudget}
	}
	return &batch{e: e, conn: c, budget: c.budget}
}

// end commits the batch, releases Engine.mu and wakes the sessions.
func (b *batch) end() {
	b.commit()
	if b.localsQueued {
		b.e.locals.wake(&b.e.running)
	}
	b.e.mu.RUnlock()
	for i, s := range b.sessions {
		s.mu.Lock()
		s.inBatch = false
		s.wake()
		s.mu.Unlock()
		b.sessions[i] = nil
	}
	b.sessions = b.sessions[:0]
}

// addSession has a session woken when the batch ends. The caller holds its mutex.
func (b *batch) addSession(s *session) {
	if !s.inBatch {
		s.inBatch = true
		b.sessions = append(b.sessions, s)
	}
}

// add adds a record that needs space in the store.
func (b *batch) add(r store.Record) {
	if !b.needSpace && len(b.records) > 0 {
		b.commit()
	}
	b.needSpace = true
	b.spaceRecords++
	b.records = append(b.records, r)
}

// addFreeing adds a record that frees space or needs none. A full store accepts these,
// but refuses a batch of both kinds as a whole.
func (b *batch) addFreeing(r store.Record) {
	if b.e.store == nil {
		return
	}
	if b.needSpace && len(b.records) > 0 {
		b.commit()
	}
	b.needSpace = false
	b.records = append(b.records, r)
}

// commit passes the records to the store, with the deliveries and acknowledgements
// that wait for them.
func (b *batch) commit() {
	if len(b.records) == 0 && len(b.acks) == 0 {
		return
	}
	if b.e.store == nil || len(b.records) == 0 && (b.conn == nil || b.conn.unstored.Load() == 0) {
		b.conn.acknowledge(b.acks, nil)
		b.acks = b.acks[:0]
		return
	}
	// Acknowledgements are sent in the order of the packets that they acknowledge
	// [MQTT-4.6.0-2, -3, -4], so those without records wait for those with.
	records, deliveries, acks, adds, c, e := b.records, b.deliveries, b.acks, b.needSpace && len(b.records) > 0, b.conn, b.e
	waiting := b.done
	b.records, b.deliveries, b.acks, b.done = nil, nil, nil, nil
	b.needSpace = false
	if len(acks) == 0 && !adds && len(waiting) == 0 {
		e.store.Append(records, nil)
		return
	}
	var slot *ackSlot
	if c != nil {
		c.unstored.Add(1)
		if len(acks) > 0 && !c.ackOrder.empty() {
			slot = c.reserveAcks(acks)
		}
	}
	e.store.Append(records, func(err error) {
		e.noteStoreResult(records, err)
		if !adds {
			err = nil // records that need no space take effect even if the store is full
		}
		for _, m := range deliveries {
			m.session.persisted(m.seq, err)
		}
		if slot != nil {
			c.ackOrder.complete(c, slot, err)
		} else if c != nil {
			c.acknowledge(acks, err)
		}
		if c != nil {
			c.batchStored()
		}
		for _, done := range waiting {
			done(err)
		}
	})
}

// hashSeed distributes topics over the stripes.
var hashSeed = maphash.MakeSeed()

// publish passes a message to all subscribers. a is the acknowledgement for its
// publisher, sent when the store has what it must have; nil: none.
func (b *batch) publish(m *message, r *route, a *ack) {
	e := b.e
	before := b.spaceRecords
	noRoom := false
	if m.Retain {
		// The stripe is held until the message is queued for every subscriber and its
		// records are with the store. So the last message that a subscriber receives
		// is the one that is retained, and the one that is stored.
		stripe := &e.stripes[maphash.String(hashSeed, m.Topic)%uint64(len(e.stripes))]
		stripe.Lock()
		defer stripe.Unlock()
		noRoom = !b.setRetained(m)
		r = nil // a route from before may lack a client that has subscribed since
	}
	if r == nil {
		r = e.routeOf(m.Topic)
	}
	var deferred *ackSlot // the position of a deferred acknowledgement
	if m.Retain && !noRoom && r.persists {
		deferred = b.retain(m, r, a)
		defer b.commit()
	}
	matched := b.deliver(m, r)
	e.stats.published.Add(1)
	if a == nil {
		return
	}
	if noRoom {
		a.Code = wire.QuotaExceeded
	} else if matched == 0 && !m.Retain {
		a.Code = wire.NoMatchingSubscribers
	}
	a.stored = a.stored || b.spaceRecords != before || deferred != nil
	if deferred != nil {
		deferred.acks = []ack{*a}
		return
	}
	b.acks = append(b.acks, *a)
}

// setRetained charges a message to its owner and retains it, or clears its topic. It
// reports whether there was room. The caller holds the stripe of the topic.
func (b *batch) setRetained(m *message) bool {
	e := b.e
	if b.conn != nil {
		m.owner = b.conn.s.usage // does not change while Engine.mu is held
	} else if m.Publisher == "" {
		m.owner = &e.programUsage
	}
	if m.owner == nil {
		m.owner = &e.unownedUsage
	}
	reason := e.retained.retain(m, &e.limits)
	if reason != "" {
		e.stats.retainedRefused.Add(1)
		e.notify(&Client{ID: m.Publisher, User: m.user}, m.Topic, "not retained: "+reason)
	}
	if !m.Expires.IsZero() {
		e.scheduleSweep()
	}
	return reason == ""
}

// deliver passes a message to the recipients of a route, and returns how many of them
// get it.
func (b *batch) deliver(m *message, r *route) (matched int) {
	matched = len(r.locals)
	for i := range r.sessions {
		if t := r.sessions[i].forPublisher(m.Publisher); t != nil && t.session.push(b, m, t, r.persists, "") {
			matched++
		}
	}
	for i := range r.groups {
		if r.groups[i].push(b, m, r.persists) {
			matched++
		}
	}
	for _, l := range r.locals {
		l.push(b, m)
	}
	return matched
}

// retain has the store retain a message, or clear its topic: now, or when the budget
// that pays for it has no debt. If it is deferred, retain returns the position of
// acknowledgement a in the order, if there is one.
func (b *batch) retain(m *message, r *route, a *ack) *ackSlot {
	budget := b.budget
	if budget == nil && r.chargeProgram {
		budget = b.e.ownBudget
	}
	var slot *ackSlot
	var later func() func(error)
	if c := b.conn; a != nil && budget != nil {
		b.commit() // earlier acknowledgements come first
		later = func() func(error) {
			slot = c.reserveAcks(nil)
			c.unstored.Add(1)
			return func(err error) {
				c.ackOrder.complete(c, slot, err)
				c.batchStored()
			}
		}
	}
	now, waiting := b.e.deferred.persist(budget, m, later)
	if !now {
		return slot
	}
	b.done = append(b.done, waiting...)
	if r := retainRecord(m); r.Message == nil {
		b.addFreeing(r)
	} else {
		b.add(r)
	}
	return nil
}

// push delivers a message to one member of a shared subscription, in rotation,
// connected members first (MQTT 5.0, 4.8.2).
func (s *sharedTarget) push(b *batch, m *message, persists bool) bool {
	n := len(s.members)
	if n == 0 {
		return false
	}
	s.group.mu.Lock()
	start := s.group.next
	for _, online := range []bool{true, false} {
		for i := range n {
			at := (start + i) % n
			one := s.members[at]
			if one.session.online.Load() != online {
				continue
			}
			s.group.next = at + 1
			s.group.mu.Unlock()
			h := target{session: one.session, qos: one.qos, retainAsPublished: one.retainAsPublished}
			if one.id != 0 {
				h.ids = []uint32{one.id}
			}
			if one.session.push(b, m, &h, persists, s.group.filter) {
				return true
			}
			s.group.mu.Lock()
		}
	}
	s.group.mu.Unlock()
	return false
}
