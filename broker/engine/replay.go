package engine

import (
	"slices"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// replay is a new subscription whose retained messages are being sent.
type replay struct {
	sub *subscription
	at  cursor
}

// memory returns the accounted size of a replay.
func (r *replay) memory() int { return costReplay + 16*len(r.at.levels) }

// dropReplays removes the replays for which drop returns true. The caller holds s.mu.
func (s *session) dropReplays(drop func(*replay) bool) {
	s.replays = slices.DeleteFunc(s.replays, func(r *replay) bool {
		if !drop(r) {
			return false
		}
		s.accountMemory(-r.memory())
		return true
	})
}

// startReplays adds replays, one for each time that a filter was subscribed to
// [MQTT-3.8.4-4, -5]. If there are more than a client may have subscriptions, because
// it subscribes faster than it reads, only the last of each filter remains. The caller
// holds s.mu.
func (s *session) startReplays(replays []*replay) {
	for _, r := range replays {
		s.accountMemory(r.memory())
	}
	s.replays = append(s.replays, replays...)
	if len(s.replays) <= s.e.limits.MaxSubscriptions {
		return
	}
	last := make(map[string]*replay)
	for _, r := range s.replays {
		last[r.sub.filter] = r
	}
	s.dropReplays(func(r *replay) bool { return last[r.sub.filter] != r })
}

// replay sends some of the retained messages of new subscriptions. Those of QoS 1 and
// 2 bypass the queue, and only while nothing is queued: then no older message of their
// topics follows them. The caller holds s.mu.
func (s *session) replay() {
	c := s.conn
	s.replayPending = false
	for len(s.replays) > 0 && c.queueSpace() > 0 && !s.replayThrottled {
		r := s.replays[0]
		n := min(c.queueSpace(), replayBatch)
		if r.sub.qos > 0 {
			if !s.flow.canBypassQueue() {
				return
			}
			n = min(n, s.flow.window-s.flow.windowUsed)
		}
		found := s.e.retained.next(&r.at, n, time.Now())
		s.sendRetained(r.sub, found)
		s.throttleReplay(r.at.examined - 4*len(found))
		if r.at.done {
			s.accountMemory(-r.memory())
			s.replays[0] = nil
			s.replays = s.replays[1:]
		} else if len(found) == 0 && !s.replayThrottled {
			s.replayPending = true
			return
		}
	}
	if len(s.replays) == 0 {
		s.replays = nil
	}
}

// sendRetained sends retained messages that match a new subscription, with RETAIN set
// [MQTT 3.1.1: MQTT-3.3.1-8]. Those that a durable session must have in the store are sent when
// they are there. The caller holds s.mu.
func (s *session) sendRetained(sub *subscription, found []*message) {
	c := s.conn
	var records []store.Record
	var waiting []uint64
	for _, m := range found {
		if sub.noLocal && m.Publisher == s.id { // [MQTT-3.8.3-3]
			continue
		}
		if !s.e.allowed(s.client.Load(), ActionDeliver, m.Topic) {
			s.e.traceNotDelivered(s, m.Topic)
			continue
		}
		var ids []uint32
		if sub.id != 0 {
			ids = []uint32{sub.id}
		}
		qos := min(m.QoS, sub.qos)
		if c.tooLarge(m, ids, qos) {
			s.countDropped(m.Topic, exceedsMaxPacket)
			continue
		}
		if qos == 0 {
			c.enqueue(packet{msg: m, ids: ids, first: wire.PublishType<<4 | flags(0, true)})
			continue
		}
		s.seq++
		s.chargeDelivery(m)
		volatile := !s.e.persists(m.Topic) || s.durable && s.overBudget(0)
		d := s.flow.startFlight(delivery{msg: m, ids: ids, seq: s.seq, access: s.e.access.Load(), qos: qos, retain: true, stored: !s.durable || volatile, volatile: volatile})
		if d.stored {
			c.enqueueDelivery(d)
			continue
		}
		records = append(records,
			store.Enqueue{Client: s.id, Seq: d.seq, Message: &m.Message, QoS: qos, Retain: true, Identifiers: ids},
			store.Sent{Client: s.id, Seq: d.seq, PacketID: d.id, Phase: store.Published})
		waiting = append(waiting, d.seq)
	}
	if len(records) == 0 {
		return
	}
	s.e.store.Append(records, func(err error) {
		s.e.noteStoreResult(records, err)
		for _, seq := range waiting {
			s.persisted(seq, err)
		}
	})
}

// throttleReplay suspends the replays of the session while its user is over its search
// quota. The caller holds s.mu.
func (s *session) throttleReplay(withoutMatch int) {
	if withoutMatch <= 0 || s.usage == nil {
		return
	}
	if wait := s.usage.searches.charge(withoutMatch, s.e.now()); wait > 0 {
		s.replayThrottled = true
		time.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.replayThrottled = false
			s.wake()
		})
	}
}
