package engine

import (
	"time"

	"github.com/jmbarzee/dominion/broker/store"
)

// returnTime is what clients have after a start to come back, before the wills
// of those that do not are sent. MQTT 5 (3.1.2.5) lets a server that ended or
// failed defer them. Home Assistant and Tasmota try again each ten seconds.
const returnTime = 30 * time.Second

// recover takes over what the store held. Nobody else has the engine yet.
//
// The clients that were connected had their connection taken by the server's
// end. They have returnTime to come back, which takes their will away as it
// does within a will delay; then it is sent, and those sessions are over that
// end with their connection.
func (e *Engine) recover(state store.State) {
	now := time.Now()
	shared := make(map[*store.Message]*message) // one copy for all who have it
	wrap := func(m *store.Message) *message {
		if shared[m] == nil {
			shared[m] = restored(*m)
		}
		return shared[m]
	}
	var changes []store.Record
	for _, m := range state.Retained {
		if len(m.Payload) == 0 || !m.Expires.IsZero() && !m.Expires.After(now) {
			changes = append(changes, store.Retain{Topic: m.Topic})
			continue
		}
		e.retained.insert(wrap(m))
		if !m.Expires.IsZero() {
			e.expires()
		}
	}
	e.append(changes)
	changes = nil
	for i := range state.Sessions {
		kept := &state.Sessions[i]
		if kept.Disconnected.IsZero() { // it was connected when the server was killed
			kept.Disconnected, kept.Cut = now, true
			changes = append(changes, kept.Session) // or its expiry would begin anew with each start
		}
		e.recoverSession(kept, wrap, now)
	}
	e.append(changes)
}

// append tells the store, if there is one.
func (e *Engine) append(records []store.Record) {
	if e.store != nil && len(records) > 0 {
		e.store.Append(records, nil)
	}
}

func (e *Engine) recoverSession(kept *store.SessionState, wrap func(*store.Message) *message, now time.Time) {
	s := &session{
		e: e, id: kept.Client, expiry: kept.Expiry, left: kept.Disconnected, severed: kept.Cut,
		known: e.store != nil, durable: e.store != nil && kept.Expiry > 0,
	}
	if s.left.After(now) {
		s.left = now // the clock was set back
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
			m: wrap(k.Message), ids: k.Identifiers, from: k.Shared, seq: k.Seq, access: e.access.Load() - 1, // asked anew
			id: k.PacketID, qos: k.QoS, retain: k.Retain, phase: k.Phase, stored: true,
		}
		s.seq = k.Seq
		s.bytes += d.m.size()
		if k.Phase == store.Queued {
			s.enqueue(d)
			continue
		}
		d.sent = true // it may have been
		s.flow.flights.push(d)
		s.flow.last = k.PacketID
	}
	if kept.Will != nil && kept.Will.Message != nil {
		m := wrap(kept.Will.Message)
		s.will = &will{m: m, delay: kept.Will.Delay, life: kept.Will.Life}
	}
	e.sessions[s.id] = s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bill(kept.User)
	s.schedule(returnTime)
}
