package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// session is the state of a client identifier, connected or not (MQTT 5.0, 4.1).
type session struct {
	e  *Engine
	id string
	// online reports whether there is a connection; it is read without mu.
	online atomic.Bool
	// client is that of the connection, or of the last one.
	client atomic.Pointer[Client]
	// budget pays for what is persisted of the session; nil: no limit.
	budget atomic.Pointer[writeBudget]

	mu sync.Mutex
	// conn is nil while offline.
	conn *conn
	// bridge is set for a bridge of another broker: what it misses is counted.
	bridge bool
	// removed is set when the session has ended: holders of a reference must not use
	// it.
	removed bool
	// durable is set if the session's records are stored.
	durable bool
	// inStore is set if the store has the session: durable, or for its will only.
	inStore bool
	// endedByServer is set if the connection ended with the server, not by its client.
	endedByServer bool
	// inBatch is set if a batch will wake the session.
	inBatch bool
	// replayPending is set if the last step of a replay found nothing and another must
	// follow.
	replayPending bool
	// replayThrottled is set while the user is over its search quota.
	replayThrottled bool
	// expiry is the session expiry interval in seconds.
	expiry        uint32
	subscriptions map[string]*subscription
	// filterTotals are those of subscriptions.
	filterTotals filterTotals
	flow         flow
	// queuedBytes is the size of queue and flights; accountQueued changes it.
	queuedBytes int
	// usage is that of the client's user; nil: the session is removed.
	usage *usage
	// memory is what the session holds in bytes; accountMemory changes it.
	memory int
	// chargedMemory is the part of memory that is in the user's account.
	chargedMemory int
	// refused counts what was refused for lack of memory.
	refused uint64
	// nextExpiry is when the first queued message expires; zero: none does.
	nextExpiry time.Time
	dropped    uint64
	seq        uint64
	replays    []*replay
	will       *will
	// disconnectedAt is when the connection ended; zero: there is one.
	disconnectedAt time.Time
	// timer runs while offline: for the will, then for the end.
	timer *time.Timer
	// timerAt is when timer is due.
	timerAt time.Time
}

// push delivers or queues a message for the client; persists reports whether its topic
// survives a restart. It returns false if the client does not get the message and
// another member of a shared subscription may.
//
// sharedFilter is that of the shared subscription that selected the session; "": none.
func (s *session) push(b *batch, m *message, t *target, persists bool, sharedFilter string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed {
		return false
	}
	qos := min(m.QoS, t.qos)
	retain := t.retainAsPublished && m.Retain // [MQTT-3.3.1-12, -13]
	if s.conn != nil && s.conn.tooLarge(m, t.ids, qos) {
		s.countDropped(m.Topic, exceedsMaxPacket)
		return true // [MQTT-3.1.2-25]
	}
	if qos == 0 {
		return s.pushQoS0(b, m, t.ids, retain)
	}
	if s.conn == nil && s.expiry == 0 {
		return false
	}
	if !s.hasQueueSpace(b, m) {
		return true
	}
	s.seq++
	s.chargeDelivery(m)
	volatile := !persists || s.durable && s.overBudget(m.size())
	d := delivery{msg: m, ids: t.ids, sharedFilter: sharedFilter, seq: s.seq, access: s.e.access.Load(), qos: qos, retain: retain, stored: !s.durable || volatile, volatile: volatile}
	if !d.stored {
		b.add(store.Enqueue{Client: s.id, Seq: d.seq, Message: &m.Message, QoS: qos, Retain: retain, Identifiers: t.ids, Shared: sharedFilter})
		b.deliveries = append(b.deliveries, pendingDelivery{s, d.seq})
	}
	if s.conn != nil && s.flow.canBypassQueue() {
		flight := s.flow.startFlight(d)
		if !d.stored {
			b.add(store.Sent{Client: s.id, Seq: d.seq, PacketID: flight.id, Phase: store.Published})
		} else {
			s.conn.enqueueDelivery(flight)
		}
	} else {
		s.enqueue(d)
	}
	b.addSession(s)
	return true
}

// pushQoS0 queues a message of QoS 0 for the connection. Without one it is not
// delivered. The caller holds s.mu.
func (s *session) pushQoS0(b *batch, m *message, ids []uint32, retain bool) bool {
	if s.conn == nil {
		if s.bridge {
			s.countDropped(m.Topic, "the bridge is not connected, and QoS 0 is not queued")
		}
		return false
	}
	s.conn.enqueueQoS0(m, flags(0, retain), ids)
	b.addSession(s)
	return true
}

// hasQueueSpace reports whether a message of QoS 1 or 2 can be queued, if necessary
// after expired ones were removed. If not, the message is dropped and a connected
// client, which reads too slowly, is disconnected. The caller holds s.mu.
func (s *session) hasQueueSpace(b *batch, m *message) bool {
	reason := s.queueRefusal(m)
	if reason == "" {
		return true
	}
	for _, r := range s.removeExpired(time.Now()) {
		b.addFreeing(r)
	}
	if reason = s.queueRefusal(m); reason == "" {
		return true
	}
	s.countDropped(m.Topic, reason)
	if s.conn != nil {
		s.conn.disconnect(wire.QuotaExceeded, "it does not receive its messages: "+reason)
	}
	return false
}

// queueFull is the reason for which a message is dropped if a queue is full.
const queueFull = "its queue is full (broker.limits.max_queued_messages, max_queued_bytes)"

// queueRefusal returns the reason why a message of QoS 1 or 2 cannot be queued; "": it
// can. The caller holds s.mu.
func (s *session) queueRefusal(m *message) string {
	l := &s.e.limits
	switch {
	case s.overQuota(m.size()):
		s.e.stats.overQuota.Add(1)
		return "too much is queued for the clients of its user (broker.limits.queued_bytes_per_user)"
	case s.flow.queue.len() >= l.MaxQueuedMessages || s.queuedBytes+m.size() > l.MaxQueuedBytes:
		return queueFull
	case s.queuedBytes+m.size() > memoryAlwaysFree && !s.admits(costDelivery+m.memory()):
		return s.memoryRefusal(costDelivery + m.memory())
	}
	return ""
}

// enqueue appends a delivery to the queue. The caller holds s.mu.
func (s *session) enqueue(d delivery) {
	s.flow.queue.push(d)
	if at := d.msg.Expires; !at.IsZero() && (s.nextExpiry.IsZero() || at.Before(s.nextExpiry)) {
		s.nextExpiry = at
		s.e.scheduleSweep()
	}
}

// removeExpired removes expired messages from the queue [MQTT-3.3.2-5], and returns
// the records of that. The caller holds s.mu.
func (s *session) removeExpired(now time.Time) (removed []store.Record) {
	if s.nextExpiry.IsZero() || s.nextExpiry.After(now) {
		return nil
	}
	s.nextExpiry = time.Time{}
	s.flow.queue.filter(func(d *delivery) bool {
		if d.msg.expired(now) {
			s.releaseDelivery(d.msg)
			if s.durable && !d.volatile {
				removed = append(removed, store.Dequeue{Client: s.id, Seq: d.seq})
			}
			return false
		}
		if at := d.msg.Expires; !at.IsZero() && (s.nextExpiry.IsZero() || at.Before(s.nextExpiry)) {
			s.nextExpiry = at
		}
		return true
	})
	return removed
}

// flags returns the flags of a PUBLISH.
func flags(qos byte, retain bool) byte {
	f := qos << 1
	if retain {
		f |= wire.FlagRetain
	}
	return f
}

// persisted continues a delivery when the store has its records, or removes it if the
// store refused them.
func (s *session) persisted(seq uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed {
		return
	}
	if err != nil {
		if d, ok := s.flow.remove(seq); ok {
			s.releaseDelivery(d.msg)
		}
		s.wake()
		return
	}
	d, flying := s.flow.bySeq(seq)
	if d == nil {
		return
	}
	d.stored = true
	if flying && s.conn != nil && (d.inWindow || d.phase == store.Releasing) {
		s.conn.enqueueDelivery(d)
	}
	s.wake()
}

// advance moves what may be sent from the queue, and from the replays, to the
// connection: first what is to be sent again, then the queue, then retained messages.
// The caller holds s.mu.
func (s *session) advance() {
	c := s.conn
	if c == nil || c.ending {
		return
	}
	var removed, sent []store.Record
	for d := s.flow.nextResend(); d != nil; d = s.flow.nextResend() {
		if c.tooLarge(d.msg, d.ids, d.qos) || !s.allowed(d) {
			s.countDropped(d.msg.Topic, "the client may no longer receive it, or it is larger than its maximum packet size")
			s.releaseDelivery(d.msg)
			if !d.volatile {
				removed = append(removed, store.Dequeue{Client: s.id, Seq: d.seq})
			}
			s.flow.remove(d.seq)
			continue
		}
		c.enqueueDelivery(d)
	}
	var waiting []uint64
	if s.flow.queue.len() > 0 {
		now := time.Now()
		for d := s.flow.nextQueued(); d != nil; d = s.flow.nextQueued() {
			one := s.flow.queue.pop()
			if one.msg.expired(now) || !s.allowed(&one) || c.tooLarge(one.msg, one.ids, one.qos) {
				if !one.msg.expired(now) {
					s.countDropped(one.msg.Topic, "the client may no longer receive it, or it is larger than its maximum packet size")
				}
				s.releaseDelivery(one.msg)
				if !one.volatile {
					removed = append(removed, store.Dequeue{Client: s.id, Seq: one.seq})
				}
				continue
			}
			wait := s.flow.lastUnstored()
			flight := s.flow.startFlight(one)
			if !s.durable || flight.volatile {
				c.enqueueDelivery(flight)
				continue
			}
			sent = append(sent, store.Sent{Client: s.id, Seq: flight.seq, PacketID: flight.id, Phase: store.Published})
			if flight.qos == 1 && !wait {
				c.enqueueDelivery(flight)
				continue
			}
			// If the server forgot a packet identifier of QoS 2 that the client still
			// holds, the client would discard the next message with it.
			flight.stored = false
			waiting = append(waiting, flight.seq)
		}
	}
	s.append(removed, nil)
	s.append(sent, waiting)
	s.replay()
}

// append appends records to the store, and continues the deliveries with the sequence
// numbers in waiting when they are stored. The caller holds s.mu.
func (s *session) append(records []store.Record, waiting []uint64) {
	if len(records) == 0 || !s.durable {
		return
	}
	if len(waiting) == 0 {
		s.e.store.Append(records, nil)
		return
	}
	s.e.store.Append(records, func(err error) {
		s.e.noteStoreResult(records, err)
		for _, seq := range waiting {
			s.persisted(seq, nil) // it continues even if the store is full
		}
	})
}

// allowed reports whether a delivery is still permitted: the access rules, or the
// client's user, may have changed since it was queued.
func (s *session) allowed(d *delivery) bool {
	if now := s.e.access.Load(); d.access != now {
		d.access = now
		return s.e.allowed(s.client.Load(), ActionDeliver, d.msg.Topic)
	}
	return true
}

// wake moves on what can be sent, and starts the writer if there is something to
// write. The caller holds s.mu.
func (s *session) wake() {
	if s.conn != nil {
		s.advance()
		s.conn.wakeWriter()
	}
}

// startDrain has the connection end as soon as everything is written.
func (s *session) startDrain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conn; c != nil {
		c.draining = true
		s.advance()
		c.startWriter()
	}
}

// disconnectForShutdown ends the connection.
func (s *session) disconnectForShutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conn; c != nil {
		c.disconnect(wire.ServerShuttingDown, "the server ends")
	}
}
