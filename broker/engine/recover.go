package engine

import (
	"time"

	"github.com/jmbarzee/dominion/broker/store"
)

// returnTime is what clients have after a start to come back, before the wills
// that were due at the end of the last run are sent. MQTT 5 (3.1.2.5) lets a
// server that ended or failed defer them.
const returnTime = 10 * time.Second

// recover takes over what the store held. Nobody else has the engine yet.
func (e *Engine) recover(state store.State) {
	now := time.Now()
	shared := make(map[*store.Message]*message) // one copy for all who have it
	wrap := func(m *store.Message) *message {
		if shared[m] == nil {
			shared[m] = restored(*m)
		}
		return shared[m]
	}
	for _, m := range state.Retained {
		if len(m.Payload) > 0 && (m.Expires.IsZero() || m.Expires.After(now)) {
			e.retained.insert(wrap(m))
			if !m.Expires.IsZero() {
				e.expires()
			}
		}
	}
	for i := range state.Sessions {
		e.recoverSession(&state.Sessions[i], wrap, now)
	}
}

func (e *Engine) recoverSession(kept *store.SessionState, wrap func(*store.Message) *message, now time.Time) {
	s := &session{e: e, id: kept.Client, expiry: kept.Expiry, durable: e.store != nil, left: kept.Disconnected}
	if s.left.IsZero() || s.left.After(now) {
		s.left = now // it was connected when the server ended, or the clock was set back
	}
	s.client.Store(&Client{ID: kept.Client, User: kept.User, HasUser: kept.HasUser, Listener: kept.Listener, Version: kept.Version})
	for _, k := range kept.Subscriptions {
		s.subscribe(&subscription{
			session: s, filter: k.Filter, qos: k.QoS, noLocal: k.NoLocal, asPub: k.RetainAsPublished,
			retain: k.RetainHandling, id: k.Identifier,
		})
	}
	for _, id := range kept.Received {
		s.flow.receive(id)
	}
	for i := range kept.Queue {
		k := &kept.Queue[i]
		d := delivery{
			m: wrap(k.Message), ids: k.Identifiers, seq: k.Seq, access: e.access.Load() - 1, // asked anew
			id: k.PacketID, qos: k.QoS, retain: k.Retain, phase: k.Phase, stored: true,
		}
		s.seq = k.Seq
		s.bytes += d.m.size()
		if k.Phase == store.Queued {
			s.flow.queue.push(d)
			continue
		}
		d.sent = true // it may have been
		s.flow.flights.push(d)
		s.flow.last = k.PacketID
	}
	if kept.Will != nil && kept.Will.Message != nil {
		m := wrap(kept.Will.Message)
		s.will = &will{m: m, delay: kept.Will.Delay}
	}
	e.sessions[s.id] = s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedule(returnTime)
}
