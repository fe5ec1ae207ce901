package engine

import (
	"time"

	"github.com/jmbarzee/dominion/broker/store"
)

// recover takes over what the store held, before anyone else has the engine.
//
// The server's end has disconnected all clients. They have reconnectGrace to come
// back, which cancels their wills as a reconnection within the will delay does. Then
// the wills are sent, and the sessions that end with their connection end.
func (e *Engine) recover(state store.State) {
	now := time.Now()
	shared := make(map[*store.Message]*message) // one copy for all sessions that hold it
	wrap := func(m *store.Message) *message {
		if shared[m] == nil {
			shared[m] = messageFromStore(*m)
		}
		return shared[m]
	}
	var changes []store.Record
	for _, m := range state.Retained {
		if len(m.Payload) == 0 || !m.Expires.IsZero() && !m.Expires.After(now) {
			changes = append(changes, store.Retain{Topic: m.Topic})
			continue
		}
		e.retained.insert(wrap(m)) // its owner is set when the sessions are known
		if !m.Expires.IsZero() {
			e.scheduleSweep()
		}
	}
	e.appendRecords(changes)
	changes = nil
	e.assignRetainedOwners(state.Sessions)
	unrestored := e.selectUnrestored(state.Sessions)
	for i := range state.Sessions {
		stored := &state.Sessions[i]
		if unrestored[i] {
			changes = append(changes, reduceToWill(stored)...)
			if stored.Will == nil {
				continue
			}
		}
		if stored.Disconnected.IsZero() { // it was connected when the server was killed
			stored.Disconnected, stored.EndedByServer = now, true
			changes = append(changes, stored.Session) // or its expiry interval would restart with each start
		}
		e.recoverSession(stored, wrap, now)
	}
	e.appendRecords(changes)
}

// appendRecords appends to the store, if there is one.
func (e *Engine) appendRecords(records []store.Record) {
	if e.store != nil && len(records) > 0 {
		e.store.Append(records, nil)
	}
}

// recoverSession rebuilds a session with its subscriptions, deliveries and will.
func (e *Engine) recoverSession(stored *store.SessionState, wrap func(*store.Message) *message, now time.Time) {
	s := &session{
		e: e, id: stored.Client, expiry: stored.Expiry, disconnectedAt: stored.Disconnected, endedByServer: stored.EndedByServer,
		inStore: e.store != nil, durable: e.store != nil && stored.Expiry > 0,
	}
	if s.disconnectedAt.After(now) {
		s.disconnectedAt = now // the clock was set back
	}
	c := clientOf(stored)
	s.client.Store(c)
	s.accountMemory(sessionMemory(c))
	s.budget.Store(e.budgetOf(s.client.Load()))
	for _, k := range stored.Subscriptions {
		s.subscribe(&subscription{
			session: s, filter: k.Filter, qos: k.QoS, noLocal: k.NoLocal, retainAsPublished: k.RetainAsPublished,
			retainHandling: k.RetainHandling, id: k.Identifier,
		})
	}
	for _, id := range stored.Received {
		s.flow.receive(id)
		s.accountMemory(costIdentifier)
	}
	for i := range stored.Queue {
		k := &stored.Queue[i]
		d := delivery{
			msg: wrap(k.Message), ids: k.Identifiers, sharedFilter: k.Shared, seq: k.Seq, access: e.access.Load() - 1, // to be checked again
			id: k.PacketID, qos: k.QoS, retain: k.Retain, phase: k.Phase, stored: true,
		}
		s.seq = k.Seq
		s.chargeDelivery(d.msg)
		if k.Phase == store.Queued {
			s.enqueue(d)
			continue
		}
		d.sent = true // it may have been
		s.flow.flights.push(d)
		s.flow.lastID = k.PacketID
	}
	if stored.Will != nil && stored.Will.Message != nil {
		m := wrap(stored.Will.Message)
		s.setWill(&will{msg: m, delay: stored.Will.Delay, expiryInterval: stored.Will.ExpiryInterval})
	}
	e.sessions[s.id] = s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncMemoryAccount()
	s.chargeUser(s.client.Load())
	s.setTimer(reconnectGrace)
}

// clientOf returns the client of a stored session.
func clientOf(stored *store.SessionState) *Client {
	return &Client{ID: stored.Client, User: stored.User, HasUser: stored.HasUser, Listener: stored.Listener, Version: stored.Version}
}

// assignRetainedOwners charges retained messages to the users of the sessions that
// published them. The user of others is unknown; they stay in any case.
func (e *Engine) assignRetainedOwners(sessions []store.SessionState) {
	owners := make(map[string]*usage)
	for i := range sessions {
		owners[sessions[i].Client] = e.usageOf(clientOf(&sessions[i]))
	}
	for _, n := range e.retained.byTopic {
		switch m := n.msg; {
		case m.Publisher == "":
			m.owner = &e.programUsage
		case owners[m.Publisher] != nil:
			m.owner = owners[m.Publisher]
		default:
			m.owner = &e.unownedUsage
		}
		e.memory.add(n.msg.owner, retainedMemory(n.msg))
	}
}
