package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
)

// reconnectGrace is the time that clients have to reconnect after a start, before
// their wills are sent. MQTT 5 (3.1.2.5) permits a server that ended or failed to
// defer them. Home Assistant and Tasmota try every ten seconds.
const reconnectGrace = 30 * time.Second

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

// restoredMemory estimates the memory of a session when it is restored. A message that
// several sessions have queued is counted for each.
func restoredMemory(stored *store.SessionState) int {
	n := sessionMemory(clientOf(stored)) + costIdentifier*len(stored.Received)
	for i := range stored.Subscriptions {
		n += filterMemory(stored.Subscriptions[i].Filter)
	}
	for i := range stored.Queue {
		n += costDelivery + storedMemory(stored.Queue[i].Message)
	}
	if stored.Will != nil && stored.Will.Message != nil {
		n += storedMemory(stored.Will.Message)
	}
	return n
}

// storedMemory estimates the memory of a message that is not restored yet.
func storedMemory(m *store.Message) int {
	return costMessage + len(m.Topic) + len(m.Payload) + 2*costUserProperty*len(m.Properties.User)
}

// selectUnrestored chooses, before anything is built, the sessions that are not
// restored because memory does not suffice for all: repeatedly the largest session of
// the user who holds most, until the rest fits.
func (e *Engine) selectUnrestored(sessions []store.SessionState) (unrestored map[int]bool) {
	type one struct{ index, memory int }
	type owner struct {
		name   string
		u      *usage
		memory int64
		all    []one
	}
	users := make(map[*usage]*owner)
	total := e.memory.total()
	for i := range sessions {
		u := e.usageOf(clientOf(&sessions[i]))
		o := users[u]
		if o == nil {
			o = &owner{name: sessions[i].User, u: u, memory: u.memory.Load()}
			users[u] = o
		}
		n := restoredMemory(&sessions[i])
		o.all = append(o.all, one{i, n})
		o.memory += int64(n)
		total += int64(n)
	}
	for _, o := range users {
		slices.SortFunc(o.all, func(a, b one) int { return cmp.Compare(a.memory, b.memory) })
	}
	unrestored = make(map[int]bool)
	ended := make(map[*owner]int)
	for {
		var largest *owner
		for _, o := range users {
			if len(o.all) > 0 && (largest == nil || o.memory > largest.memory) {
				largest = o
			}
		}
		if largest == nil || total <= e.memory.limit && largest.memory <= e.memoryPerUser() {
			break
		}
		last := largest.all[len(largest.all)-1]
		largest.all = largest.all[:len(largest.all)-1]
		largest.memory -= int64(last.memory)
		total -= int64(last.memory)
		unrestored[last.index] = true
		ended[largest]++
	}
	for o, n := range ended {
		e.memory.evicted.Add(uint64(n))
		e.log.Warn("sessions are not restored: the largest of the user are ended, as all would exceed the memory limits (broker.limits.memory, memory_per_user)",
			"user", o.name, "ended", n, "kept", len(o.all), "memory", o.memory, "limit", e.memory.limit)
	}
	return unrestored
}

// reduceToWill leaves a session that is not restored nothing but its will, which is
// sent like that of any client that does not come back. It returns the records of that
// change.
func reduceToWill(stored *store.SessionState) []store.Record {
	records := []store.Record{store.SessionGone{Client: stored.Client}}
	if stored.Disconnected.IsZero() {
		stored.Disconnected, stored.EndedByServer = time.Now(), true
	}
	stored.Subscriptions, stored.Queue, stored.Received, stored.Expiry = nil, nil, nil, 0
	if w := stored.Will; w != nil {
		records = append(records, stored.Session, *w)
	}
	return records
}
