package engine

import (
	"hash/maphash"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// turn is what one goroutine does at a stretch: a buffer full of packets of one
// connection, a message of the program, a will. Its changes go to the store
// together, and the connections that got something are written to when it ends,
// so that what comes together leaves together.
//
// It holds Engine.mu for reading from begin to end.
type turn struct {
	e       *Engine
	c       *conn    // whose packets are handled; nil: nobody's
	account *account // that pays for retained messages; nil: it has no limit
	records []store.Record
	adds    bool // whether they need room; those that do not go by themselves
	added   int  // how many needed room so far
	marks   []mark
	acks    []ack
	touched []*session
	inside  bool          // somebody within the program got something
	waiting []func(error) // what waits for the records, of others
}

// mark is a delivery that waits for the store.
type mark struct {
	s   *session
	seq uint64
}

// ack is a packet that waits for the store.
type ack struct {
	kind byte
	wire.Ack
	stored bool // it speaks for records: without them it is a refusal
}

func (e *Engine) begin(c *conn) *turn {
	e.mu.RLock()
	if c == nil {
		return &turn{e: e, account: e.own}
	}
	return &turn{e: e, c: c, account: c.account}
}

func (t *turn) end() {
	t.commit()
	if t.inside {
		t.e.inside.wake(&t.e.running)
	}
	t.e.mu.RUnlock()
	for i, s := range t.touched {
		s.mu.Lock()
		s.touched = false
		s.wake()
		s.mu.Unlock()
		t.touched[i] = nil
	}
	t.touched = t.touched[:0]
}

// touch has a session written to when the turn ends. The caller holds its mutex.
func (t *turn) touch(s *session) {
	if !s.touched {
		s.touched = true
		t.touched = append(t.touched, s)
	}
}

// add takes a record that needs room on the disk.
func (t *turn) add(r store.Record) {
	if !t.adds && len(t.records) > 0 {
		t.commit()
	}
	t.adds = true
	t.added++
	t.records = append(t.records, r)
}

// free takes a record that takes away or moves on: a full disk refuses none of
// these, but a batch of both kinds as a whole.
func (t *turn) free(r store.Record) {
	if t.e.store == nil {
		return
	}
	if t.adds && len(t.records) > 0 {
		t.commit()
	}
	t.adds = false
	t.records = append(t.records, r)
}

// commit hands the records to the store, and what waits for them.
func (t *turn) commit() {
	if len(t.records) == 0 && len(t.acks) == 0 {
		return
	}
	if t.e.store == nil || len(t.records) == 0 && (t.c == nil || t.c.waiting.Load() == 0) {
		t.c.acknowledge(t.acks, nil)
		t.acks = t.acks[:0]
		return
	}
	// Acknowledgements leave in the order of what they acknowledge
	// [MQTT-4.6.0-2, -3, -4], so those without records wait for those with.
	records, marks, acks, adds, c, e := t.records, t.marks, t.acks, t.adds && len(t.records) > 0, t.c, t.e
	waiting := t.waiting
	t.records, t.marks, t.acks, t.waiting = nil, nil, nil, nil
	t.adds = false
	if len(acks) == 0 && !adds && len(waiting) == 0 {
		e.store.Append(records, nil)
		return
	}
	var slot *ackSlot
	if c != nil {
		c.waiting.Add(1)
		if len(acks) > 0 && !c.order.empty() {
			slot = c.place(acks)
		}
	}
	e.store.Append(records, func(err error) {
		e.storeAnswered(records, err)
		if !adds {
			err = nil // these hold in any case
		}
		for _, m := range marks {
			m.s.settled(m.seq, err)
		}
		if slot != nil {
			c.order.finish(c, slot, err)
		} else if c != nil {
			c.acknowledge(acks, err)
		}
		if c != nil {
			c.stored()
		}
		for _, done := range waiting {
			done(err)
		}
	})
}

var seed = maphash.MakeSeed()

// publish hands a message to all who subscribed to it. a is what its publisher
// gets for it when the store has what it must have; nil: nothing.
func (t *turn) publish(m *message, r *route, a *ack) {
	e := t.e
	before := t.added
	full := false
	if m.Retain {
		// Nobody else sets the topic until this one is with everybody and its
		// records with the store: the last that a subscriber hears is what is
		// retained, and what is stored.
		stripe := &e.stripes[maphash.String(seed, m.Topic)%uint64(len(e.stripes))]
		stripe.Lock()
		defer stripe.Unlock()
		switch {
		case t.c != nil:
			m.owner = t.c.s.usage // does not change while Engine.mu is held
		case m.Publisher == "":
			m.owner = &e.self
		}
		if m.owner == nil {
			m.owner = &e.orphans
		}
		if why := e.retained.retain(m, &e.limits); why != "" {
			full = true
			e.stats.retainedRefused.Add(1)
			e.noticed(&Client{ID: m.Publisher, User: m.user}, m.Topic, "not retained: "+why)
		}
		if !m.Expires.IsZero() {
			e.expires()
		}
		r = nil
	}
	if r == nil {
		r = e.routeOf(m.Topic)
	}
	var later *ackSlot // where the acknowledgement waits for a message that is persisted later
	if m.Retain && !full && r.persists {
		later = t.retain(m, a)
		defer t.commit()
	}
	matched := len(r.locals)
	for i := range r.sessions {
		if h := r.sessions[i].heard(m.Publisher); h != nil && h.session.push(t, m, h, r.persists, "") {
			matched++
		}
	}
	for i := range r.groups {
		if r.groups[i].push(t, m, r.persists) {
			matched++
		}
	}
	for _, l := range r.locals {
		l.push(t, m)
	}
	e.stats.published.Add(1)
	if a == nil {
		return
	}
	switch {
	case full:
		a.Code = wire.QuotaExceeded
	case matched == 0 && !m.Retain:
		a.Code = wire.NoMatchingSubscribers
	}
	a.stored = a.stored || t.added != before || later != nil
	if later != nil {
		later.acks = []ack{*a}
		return
	}
	t.acks = append(t.acks, *a)
}

// retain has the store keep a retained message, or forget the one before, now or
// when the account that pays for it has no debt. Then it returns the place of
// its acknowledgement a, where there is one.
func (t *turn) retain(m *message, a *ack) *ackSlot {
	account := t.account
	if account == nil && t.e.ask.Paced != nil && t.e.ask.Paced(m.Topic) {
		account = t.e.own
	}
	var slot *ackSlot
	var later func() func(error)
	if c := t.c; a != nil && account != nil {
		t.commit() // what is acknowledged before
		later = func() func(error) {
			slot = c.place(nil)
			c.waiting.Add(1)
			return func(err error) {
				c.order.finish(c, slot, err)
				c.stored()
			}
		}
	}
	now, waiting := t.e.paced.persist(account, m, later)
	if !now {
		return slot
	}
	t.waiting = append(t.waiting, waiting...)
	if r := retainRecord(m); r.Message == nil {
		t.free(r)
	} else {
		t.add(r)
	}
	return nil
}

// push gives a message to one member of a shared subscription, those that are
// online first, in turns (MQTT 5.0, 4.8.2).
func (s *sharing) push(t *turn, m *message, persists bool) bool {
	n := len(s.members)
	if n == 0 {
		return false
	}
	s.group.mu.Lock()
	start := s.group.turn
	for _, online := range []bool{true, false} {
		for i := range n {
			at := (start + i) % n
			one := s.members[at]
			if one.session.online.Load() != online {
				continue
			}
			s.group.turn = at + 1
			s.group.mu.Unlock()
			h := target{session: one.session, qos: one.qos, asPub: one.asPub}
			if one.id != 0 {
				h.ids = []uint32{one.id}
			}
			if one.session.push(t, m, &h, persists, s.group.filter) {
				return true
			}
			s.group.mu.Lock()
		}
	}
	s.group.mu.Unlock()
	return false
}
