package engine

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// session is what a client id has, with a connection or without (MQTT 5.0,
// 4.1).
type session struct {
	e      *Engine
	id     string
	online atomic.Bool            // has a connection
	client atomic.Pointer[Client] // of the connection, or the last one
	// account pays for what is persisted of the session; nil: it has no limit.
	account atomic.Pointer[account]

	mu       sync.Mutex
	conn     *conn // nil: offline
	bridge   bool  // of one to another broker: what it misses is counted
	gone     bool  // ended: what still holds it must leave it alone
	durable  bool  // its records are stored
	known    bool  // the store knows it: durable, or for its will alone
	severed  bool  // offline since the server ended, not by its client
	touched  bool  // some turn will wake it
	looking  bool  // for the next message of a replay: advance goes on
	resting  bool  // the replays wait: its user has searched for long
	expiry   uint32
	subs     map[string]*subscription
	filters  extent // of subs
	flow     flow
	bytes    int       // of the queue and the flights; weigh changes it
	usage    *usage    // of the client's user; nil: the session is gone
	memory   int       // what it holds; hold changes it
	charged  int       // of that in the account
	refused  uint64    // what it was not given for want of memory
	soonest  time.Time // when something in the queue expires; zero: nothing does
	dropped  uint64
	seq      uint64
	replays  []*replay
	will     *will
	left     time.Time   // when the connection ended; zero: it has one
	timer    *time.Timer // while offline: for the will, then for the end
	deadline time.Time   // when the timer is due
}

// replay is the retained messages of a new subscription on their way.
type replay struct {
	sub *subscription
	at  cursor
}

func (r *replay) memory() int { return costReplay + 16*len(r.at.levels) }

// dropReplays forgets the replays for which drop says so. The caller holds the
// mutex.
func (s *session) dropReplays(drop func(*replay) bool) {
	s.replays = slices.DeleteFunc(s.replays, func(r *replay) bool {
		if !drop(r) {
			return false
		}
		s.hold(-r.memory())
		return true
	})
}

// push puts a message on its way to the client; persists reports whether its
// topic survives a restart. It is false where the client does not get it and
// another may.
func (s *session) push(t *turn, m *message, h *target, persists bool, from string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return false
	}
	qos := min(m.QoS, h.qos)
	retain := h.asPub && m.Retain // [MQTT-3.3.1-12, -13]
	if s.conn != nil && s.conn.tooLarge(m, h.ids, qos) {
		s.drop(m.Topic, tooLargeForIt)
		return true // [MQTT-3.1.2-25]
	}
	if qos == 0 {
		if s.conn == nil {
			if s.bridge {
				s.drop(m.Topic, "the bridge does not carry, and nobody keeps QoS 0")
			}
			return false
		}
		s.conn.offer(m, flags(0, retain), h.ids)
		t.touch(s)
		return true
	}
	if s.conn == nil && s.expiry == 0 {
		return false
	}
	why := s.noRoom(m)
	if why != "" {
		for _, r := range s.lapse(time.Now()) {
			t.free(r)
		}
		why = s.noRoom(m)
	}
	if why != "" {
		s.drop(m.Topic, why)
		if s.conn != nil {
			s.conn.end(wire.QuotaExceeded, "it does not take its messages: "+why)
		}
		return true
	}
	s.seq++
	s.enter(m)
	passing := !persists || s.durable && s.overBudget(m.size())
	d := delivery{m: m, ids: h.ids, from: from, seq: s.seq, access: s.e.access.Load(), qos: qos, retain: retain, stored: !s.durable || passing, passing: passing}
	if !d.stored {
		t.add(store.Enqueue{Client: s.id, Seq: d.seq, Message: &m.Message, QoS: qos, Retain: retain, Identifiers: h.ids, Shared: from})
		t.marks = append(t.marks, mark{s, d.seq})
	}
	if s.conn != nil && s.flow.straight() {
		flight := s.flow.take(d)
		if !d.stored {
			t.add(store.Sent{Client: s.id, Seq: d.seq, PacketID: flight.id, Phase: store.Published})
		} else {
			s.conn.deliver(flight)
		}
	} else {
		s.enqueue(d)
	}
	t.touch(s)
	return true
}

const queueFull = "its queue is full (broker.limits.max_queued_messages, max_queued_bytes)"

// noRoom says why there is no room for a message of QoS 1 or 2; "": there is.
// The caller holds the mutex.
func (s *session) noRoom(m *message) string {
	l := &s.e.limits
	switch {
	case s.crowded(m.size()):
		s.e.stats.crowded.Add(1)
		return "what waits for all clients of its user is too much (broker.limits.queued_bytes_per_user)"
	case s.flow.queue.len() >= l.MaxQueuedMessages || s.bytes+m.size() > l.MaxQueuedBytes:
		return queueFull
	case s.bytes+m.size() > memoryFree && !s.admits(costDelivery+m.memory()):
		return s.noMemory(costDelivery + m.memory())
	}
	return ""
}

// enqueue puts a delivery into the queue. The caller holds the mutex.
func (s *session) enqueue(d delivery) {
	s.flow.queue.push(d)
	if at := d.m.Expires; !at.IsZero() && (s.soonest.IsZero() || at.Before(s.soonest)) {
		s.soonest = at
		s.e.expires()
	}
}

// lapse removes what has expired from the queue [MQTT-3.3.2-5], and returns what
// the store is to be told. The caller holds the mutex.
func (s *session) lapse(now time.Time) (gone []store.Record) {
	if s.soonest.IsZero() || s.soonest.After(now) {
		return nil
	}
	s.soonest = time.Time{}
	s.flow.queue.filter(func(d *delivery) bool {
		switch at := d.m.Expires; {
		case d.m.expired(now):
			s.forget(d.m)
			if s.durable && !d.passing {
				gone = append(gone, store.Dequeue{Client: s.id, Seq: d.seq})
			}
			return false
		case !at.IsZero() && (s.soonest.IsZero() || at.Before(s.soonest)):
			s.soonest = at
		}
		return true
	})
	return gone
}

func flags(qos byte, retain bool) byte {
	f := qos << 1
	if retain {
		f |= wire.FlagRetain
	}
	return f
}

// settled is what the store says about a delivery: it may go on, or what it
// waited for failed.
func (s *session) settled(seq uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	if err != nil {
		if d, ok := s.flow.forget(seq); ok {
			s.forget(d.m)
		}
		s.wake()
		return
	}
	d, flying := s.flow.bySeq(seq)
	if d == nil {
		return
	}
	d.stored = true
	if flying && s.conn != nil && (d.open || d.phase == store.Releasing) {
		s.conn.deliver(d)
	}
	s.wake()
}

// advance moves what may go from the queue, and from the retained messages that
// are replayed, to the connection. The caller holds the mutex.
func (s *session) advance() {
	c := s.conn
	if c == nil || c.ending {
		return
	}
	var gone, sent []store.Record
	for d := s.flow.resend(); d != nil; d = s.flow.resend() {
		if c.tooLarge(d.m, d.ids, d.qos) || !s.allowed(d) {
			s.drop(d.m.Topic, "it may not be given it any more, or it is larger than the client takes")
			s.forget(d.m)
			if !d.passing {
				gone = append(gone, store.Dequeue{Client: s.id, Seq: d.seq})
			}
			s.flow.forget(d.seq)
			continue
		}
		c.deliver(d)
	}
	var marks []uint64
	if s.flow.queue.len() > 0 {
		now := time.Now()
		for d := s.flow.next(); d != nil; d = s.flow.next() {
			one := s.flow.queue.pop()
			if one.m.expired(now) || !s.allowed(&one) || c.tooLarge(one.m, one.ids, one.qos) {
				if !one.m.expired(now) {
					s.drop(one.m.Topic, "it may not be given it any more, or it is larger than the client takes")
				}
				s.forget(one.m)
				if !one.passing {
					gone = append(gone, store.Dequeue{Client: s.id, Seq: one.seq})
				}
				continue
			}
			follows := s.flow.waits()
			flight := s.flow.take(one)
			if !s.durable || flight.passing {
				c.deliver(flight)
				continue
			}
			sent = append(sent, store.Sent{Client: s.id, Seq: flight.seq, PacketID: flight.id, Phase: store.Published})
			if flight.qos == 1 && !follows {
				c.deliver(flight)
				continue
			}
			// A packet identifier of QoS 2 that the client knows and the server
			// forgot would swallow the next message that gets it.
			flight.stored = false
			marks = append(marks, flight.seq)
		}
	}
	s.append(gone, nil)
	s.append(sent, marks)
	s.replay()
}

// append tells the store, and the deliveries when it is done.
func (s *session) append(records []store.Record, waiting []uint64) {
	if len(records) == 0 || !s.durable {
		return
	}
	if len(waiting) == 0 {
		s.e.store.Append(records, nil)
		return
	}
	s.e.store.Append(records, func(err error) {
		s.e.storeAnswered(records, err)
		for _, seq := range waiting {
			s.settled(seq, nil) // it moves on in any case
		}
	})
}

// allowed tells whether a delivery may still be made: the rules, or who the
// client is, may have changed since it was queued.
func (s *session) allowed(d *delivery) bool {
	if now := s.e.access.Load(); d.access != now {
		d.access = now
		return s.e.allow(s.client.Load(), ActionDeliver, d.m.Topic)
	}
	return true
}

// replay takes some of the retained messages. Those with QoS 1 and 2 go
// straight in flight, and only where nothing is queued: then nothing older of
// their topics comes after them.
func (s *session) replay() {
	c := s.conn
	s.looking = false
	for len(s.replays) > 0 && c.space() > 0 && !s.resting {
		r := s.replays[0]
		n := min(c.space(), replayed)
		if r.sub.qos > 0 {
			if !s.flow.straight() {
				return
			}
			n = min(n, s.flow.window-s.flow.opened)
		}
		var records []store.Record
		var marks []uint64
		found := s.e.retained.next(&r.at, n, time.Now())
		for _, m := range found {
			if r.sub.noLocal && m.Publisher == s.id { // [MQTT-3.8.3-3]
				continue
			}
			if !s.e.allow(s.client.Load(), ActionDeliver, m.Topic) {
				s.e.notDelivered(s, m.Topic)
				continue
			}
			var ids []uint32
			if r.sub.id != 0 {
				ids = []uint32{r.sub.id}
			}
			qos := min(m.QoS, r.sub.qos)
			if c.tooLarge(m, ids, qos) {
				s.drop(m.Topic, tooLargeForIt)
				continue
			}
			if qos == 0 {
				c.put(packet{m: m, ids: ids, first: wire.PublishType<<4 | flags(0, true)})
				continue
			}
			s.seq++
			s.enter(m)
			passing := !s.e.persists(m.Topic) || s.durable && s.overBudget(0)
			d := s.flow.take(delivery{m: m, ids: ids, seq: s.seq, access: s.e.access.Load(), qos: qos, retain: true, stored: !s.durable || passing, passing: passing})
			if d.stored {
				c.deliver(d)
				continue
			}
			records = append(records,
				store.Enqueue{Client: s.id, Seq: d.seq, Message: &m.Message, QoS: qos, Retain: true, Identifiers: ids},
				store.Sent{Client: s.id, Seq: d.seq, PacketID: d.id, Phase: store.Published})
			marks = append(marks, d.seq)
		}
		if len(records) > 0 {
			s.e.store.Append(records, func(err error) {
				s.e.storeAnswered(records, err)
				for _, seq := range marks {
					s.settled(seq, err)
				}
			})
		}
		s.rest(r.at.looked - 4*len(found))
		if r.at.done {
			s.hold(-r.memory())
			s.replays[0] = nil
			s.replays = s.replays[1:]
		} else if len(found) == 0 && !s.resting {
			s.looking = true
			return
		}
	}
	if len(s.replays) == 0 {
		s.replays = nil
	}
}

// wake has the connection written to, if there is something to write. The
// caller holds the mutex.
func (s *session) wake() {
	if s.conn != nil {
		s.advance()
		s.conn.wake()
	}
}

// drain has the connection end as soon as everything is written.
func (s *session) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conn; c != nil {
		c.draining = true
		s.advance()
		c.start()
	}
}

// cut ends the connection.
func (s *session) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conn; c != nil {
		c.end(wire.ServerShuttingDown, "the server ends")
	}
}
