package engine

import (
	"cmp"
	"slices"
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
		e.retained.insert(wrap(m)) // its owner is found when the sessions are there
		if !m.Expires.IsZero() {
			e.expires()
		}
	}
	e.append(changes)
	changes = nil
	e.ownRetained(state.Sessions)
	left := e.leftOut(state.Sessions)
	for i := range state.Sessions {
		kept := &state.Sessions[i]
		if left[i] {
			changes = append(changes, leaveOut(kept)...)
			if kept.Will == nil {
				continue
			}
		}
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
	c := clientOf(kept)
	s.client.Store(c)
	s.hold(sessionMemory(c))
	s.account.Store(e.accountOf(s.client.Load()))
	for _, k := range kept.Subscriptions {
		s.subscribe(&subscription{
			session: s, filter: k.Filter, qos: k.QoS, noLocal: k.NoLocal, asPub: k.RetainAsPublished,
			retain: k.RetainHandling, id: k.Identifier,
		})
	}
	for _, id := range kept.Received {
		s.flow.receive(id)
		s.hold(costIdentifier)
	}
	for i := range kept.Queue {
		k := &kept.Queue[i]
		d := delivery{
			m: wrap(k.Message), ids: k.Identifiers, from: k.Shared, seq: k.Seq, access: e.access.Load() - 1, // asked anew
			id: k.PacketID, qos: k.QoS, retain: k.Retain, phase: k.Phase, stored: true,
		}
		s.seq = k.Seq
		s.enter(d.m)
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
		s.setWill(&will{m: m, delay: kept.Will.Delay, life: kept.Will.Life})
	}
	e.sessions[s.id] = s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.charge()
	s.bill(s.client.Load())
	s.schedule(returnTime)
}

func clientOf(kept *store.SessionState) *Client {
	return &Client{ID: kept.Client, User: kept.User, HasUser: kept.HasUser, Listener: kept.Listener, Version: kept.Version}
}

// ownRetained counts what is retained for the users of the sessions that
// published it. Of others it is not known whose they are: what was retained
// stays in any case.
func (e *Engine) ownRetained(sessions []store.SessionState) {
	owners := make(map[string]*usage)
	for i := range sessions {
		owners[sessions[i].Client] = e.usageOf(clientOf(&sessions[i]))
	}
	for _, n := range e.retained.byTopic {
		switch m := n.m; {
		case m.Publisher == "":
			m.owner = &e.self
		case owners[m.Publisher] != nil:
			m.owner = owners[m.Publisher]
		default:
			m.owner = &e.orphans
		}
		e.memory.add(n.m.owner, retainedMemory(n.m))
	}
}

// restoredMemory is what a session takes up when it is restored. What several
// of them have queued is counted for each.
func restoredMemory(kept *store.SessionState) int {
	n := sessionMemory(clientOf(kept)) + costIdentifier*len(kept.Received)
	for i := range kept.Subscriptions {
		n += filterMemory(kept.Subscriptions[i].Filter)
	}
	for i := range kept.Queue {
		n += costDelivery + storedMemory(kept.Queue[i].Message)
	}
	if kept.Will != nil && kept.Will.Message != nil {
		n += storedMemory(kept.Will.Message)
	}
	return n
}

// storedMemory is about what a message takes up that is not restored yet.
func storedMemory(m *store.Message) int {
	return costMessage + len(m.Topic) + len(m.Payload) + 2*costUserProperty*len(m.Properties.User)
}

// leftOut decides, before anything of them is built, which sessions are not
// restored because the account has no room for all: of the user who has most
// the one that has most, until the rest fits.
func (e *Engine) leftOut(sessions []store.SessionState) (left map[int]bool) {
	type one struct{ index, memory int }
	type owner struct {
		name   string
		u      *usage
		memory int64 // with what is retained
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
	left = make(map[int]bool)
	ended := make(map[*owner]int)
	for {
		var greedy *owner
		for _, o := range users {
			if len(o.all) > 0 && (greedy == nil || o.memory > greedy.memory) {
				greedy = o
			}
		}
		if greedy == nil || total <= e.memory.limit && greedy.memory <= e.memoryPerUser() {
			break
		}
		last := greedy.all[len(greedy.all)-1]
		greedy.all = greedy.all[:len(greedy.all)-1]
		greedy.memory -= int64(last.memory)
		total -= int64(last.memory)
		left[last.index] = true
		ended[greedy]++
	}
	for o, n := range ended {
		e.memory.ended.Add(uint64(n))
		e.log.Warn("sessions are not restored: those of its user that have most are ended, as all would take up more memory than there may be (broker.limits.memory, memory_per_user)",
			"user", o.name, "ended", n, "kept", len(o.all), "memory", o.memory, "limit", e.memory.limit)
	}
	return left
}

// leaveOut makes a session that is not restored one that has nothing but its
// will, which is sent as that of any other whose client does not come back, and
// returns what the store is told.
func leaveOut(kept *store.SessionState) []store.Record {
	records := []store.Record{store.SessionGone{Client: kept.Client}}
	if kept.Disconnected.IsZero() {
		kept.Disconnected, kept.Cut = time.Now(), true
	}
	kept.Subscriptions, kept.Queue, kept.Received, kept.Expiry = nil, nil, nil, 0
	if w := kept.Will; w != nil {
		records = append(records, kept.Session, *w)
	}
	return records
}
