package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// What things take up in memory, in bytes, beside the text in them: structs,
// their share of maps, slices and stacks, and what allocations are rounded up
// by. TestMemoryIsMeasured compares them with the heap.
const (
	costSession      = 1100
	costConnection   = 6 << 10  // with a goroutine that reads
	costSecure       = 32 << 10 // more of one by TLS or WebSocket
	costSubscription = 200
	costLevel        = 300 // of a filter in the tree; levels that filters share are counted for each
	costMessage      = 320
	costUserProperty = 32
	costDelivery     = 150 // QoS 1 and 2
	costPacket       = 96  // in the queue of a connection
	costRetained     = 250
	costIdentifier   = 40 // of a QoS 2 message that was received
	costReplay       = 160
	costAlias        = 96
)

const (
	// memorySlack is how far the account of a session may be behind what it
	// holds: most messages come and go without an atomic addition.
	memorySlack = 4 << 10
	// memoryFree is what may wait for a client however full the account is.
	memoryFree = 16 << 10
	// sharedFrom is the size of a message from which on it is counted once in the
	// sum, however many have it; in the account of each who does it is whole.
	sharedFrom = 1 << 10
)

// memory is the account of what clients make the engine hold, in bytes as they
// are in memory. Every session and retained message is in the account of a user
// (usage), and these in the sum.
//
// Nobody is refused while the sum is below the limit and the user below its own.
// Beyond that each user still has an equal share, and each client of a user an
// equal share of that: who is below it is served, and what is above the share of
// the user who has most is evicted for it.
type memory struct {
	limit     int64 // of all
	used      atomic.Int64
	shared    atomic.Int64 // of used: counted for more than one
	active    atomic.Int64 // users who have something
	refused   atomic.Uint64
	ended     atomic.Uint64 // sessions
	relieving atomic.Bool
}

// unlimited is a limit that is not reached.
const unlimited = 1 << 62

func (m *memory) total() int64 { return m.used.Load() - m.shared.Load() }

// add counts bytes for a user.
func (m *memory) add(u *usage, n int) {
	if n == 0 || u == nil {
		return
	}
	m.used.Add(int64(n))
	after := u.memory.Add(int64(n))
	switch before := after - int64(n); {
	case before == 0:
		m.active.Add(1)
	case after == 0:
		m.active.Add(-1)
	}
}

// take notes that one more holds a message, and drop that one does not any more.
func (m *memory) take(one *message) {
	if n := one.memory(); n >= sharedFrom && atomic.AddInt32(&one.holders, 1) > 1 {
		m.shared.Add(int64(n))
	}
}

func (m *memory) drop(one *message) {
	if n := one.memory(); n >= sharedFrom && atomic.AddInt32(&one.holders, -1) > 0 {
		m.shared.Add(-int64(n))
	}
}

// memory is what a message takes up.
func (m *message) memory() int {
	return costMessage + len(m.Topic) + len(m.Payload) + 2*len(m.forward) + costUserProperty*len(m.Properties.User)
}

// memory is what a packet in a queue takes up. The message of a delivery is
// counted with that.
func (p *packet) memory() int {
	n := costPacket + len(p.raw)
	if p.m != nil && p.id == 0 {
		n += p.m.memory()
	}
	return n
}

// filterMemory is what a subscription takes up.
func filterMemory(filter string) int {
	return costSubscription + len(filter) + costLevel*(1+strings.Count(filter, "/"))
}

func sessionMemory(c *Client) int { return costSession + len(c.ID) + len(c.User) }

// memoryPerUser is the most that the clients of a user may have together.
func (e *Engine) memoryPerUser() int64 {
	if n := int64(e.userLimits.Load().Memory); n > 0 {
		return min(n, e.memory.limit)
	}
	return e.memory.limit / 2
}

// hold counts what a session has more, or less. The caller holds the mutex.
func (s *session) hold(n int) {
	s.memory += n
	if d := s.memory - s.charged; d > 0 || d < -memorySlack {
		s.charge()
	}
}

// charge brings the account up to date: exactly for a session that is offline,
// of which there may be very many. The caller holds the mutex.
func (s *session) charge() {
	to := s.memory
	if s.conn != nil {
		to += memorySlack / 2
	}
	if s.usage != nil {
		s.e.memory.add(s.usage, to-s.charged)
	}
	s.charged = to
}

// admits reports whether there is room for so many bytes more of a session. The
// caller holds the mutex.
func (s *session) admits(n int) bool {
	e := s.e
	switch {
	case s.usage == nil || e.admitsUser(s.usage, n):
		return true
	case int64(s.memory+n) <= e.share()/max(s.usage.sessions.Load(), 1):
		e.relieveLater()
		return true
	}
	e.memory.refused.Add(1)
	s.refused++
	return false
}

// admitsUser reports whether there is room for so many bytes more of a user.
func (e *Engine) admitsUser(u *usage, n int) bool {
	m := &e.memory
	theirs := u.memory.Load() + int64(n)
	switch {
	case u.own || theirs <= e.memoryPerUser() && m.total()+int64(n) <= m.limit:
		return true
	case theirs <= e.share():
		e.relieveLater()
		return true
	}
	return false
}

// share is what a user may have however much the others do.
func (e *Engine) share() int64 {
	return min(e.memory.limit/max(e.memory.active.Load(), 1), e.memoryPerUser())
}

// noMemory says why there is no room for so many bytes of a session. The caller
// holds the mutex.
func (s *session) noMemory(n int) string { return s.e.noMemory(s.usage, n) }

func (e *Engine) noMemory(u *usage, n int) string {
	if most := e.memoryPerUser(); u != nil && u.memory.Load()+int64(n) > most {
		return fmt.Sprintf("it takes %d bytes of memory, and all clients of its user may have %d (broker.limits.memory_per_user)", n, most)
	}
	return fmt.Sprintf("it takes %d bytes of memory, and all clients may have %d, of which its user has more than its share (broker.limits.memory)", n, e.memory.limit)
}

// relieveLater makes room on a goroutine of its own, where the account is full.
func (e *Engine) relieveLater() {
	if m := &e.memory; m.total() > m.limit && m.relieving.CompareAndSwap(false, true) {
		e.running.Go(e.relieve)
	}
}

// relieve evicts sessions of the user who has most, as long as the account is
// full and there are such that are above an equal share.
func (e *Engine) relieve() {
	defer e.memory.relieving.Store(false)
	for {
		e.mu.Lock()
		excess := e.memory.total() - e.memory.limit
		u := e.greediest()
		if e.closed || excess <= 0 || u == nil || u.memory.Load() <= e.share() {
			e.mu.Unlock()
			return
		}
		ended := e.evict(u, excess, nil)
		e.mu.Unlock()
		if len(ended) == 0 {
			return
		}
		for _, s := range ended {
			s.dismiss()
		}
	}
}

// greediest returns the user who has most. The caller holds Engine.mu.
func (e *Engine) greediest() (most *usage) {
	for _, u := range e.users {
		if most == nil || u.memory.Load() > most.memory.Load() {
			most = u
		}
	}
	return most
}

// evictedAtOnce bounds the sessions that are ended under one lock.
const evictedAtOnce = 100

// evict ends sessions of a user until so many bytes are free: those of clients
// that are away first, of these the ones that have most. The caller holds
// Engine.mu, and dismisses what ended.
func (e *Engine) evict(u *usage, excess int64, but *session) (ended []*session) {
	type one struct {
		s      *session
		memory int
		online bool
	}
	var all []one
	for _, s := range e.sessions {
		s.mu.Lock()
		// one that is neither connected nor away is just being let in
		if s.usage == u && s != but && !s.gone && (s.conn != nil || !s.left.IsZero()) {
			all = append(all, one{s, s.charged, s.conn != nil})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b one) int {
		if a.online != b.online {
			if b.online {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.memory, a.memory)
	})
	share := e.share() / max(u.sessions.Load(), 1)
	var freed int64
	for _, o := range all[:min(len(all), evictedAtOnce)] {
		if freed >= excess || o.online && int64(o.memory) <= share {
			break
		}
		freed += int64(o.memory)
		why := fmt.Sprintf("its session ended with %d bytes of memory: its user has more than its share (broker.limits.memory, memory_per_user)", o.memory)
		e.noticed(o.s.client.Load(), "", why)
		o.s.mu.Lock()
		if c := o.s.conn; c != nil {
			c.discard()
			c.end(wire.QuotaExceeded, why)
			o.s.conn = nil
			o.s.online.Store(false)
			o.s.left = time.Now()
		}
		o.s.mu.Unlock()
		o.s.remove()
		e.memory.ended.Add(1)
		ended = append(ended, o.s)
	}
	return ended
}

// makeMemory makes room for a session that a user is about to have more. Its
// error refuses the client. The caller holds Engine.mu, and dismisses what
// ended.
func (e *Engine) makeMemory(u *usage, n int, old *session) (ended []*session, err error) {
	over := u.memory.Load() + int64(n) - e.memoryPerUser()
	if e.admitsUser(u, n) {
		return nil, nil
	}
	if over <= 0 {
		over = int64(n)
	}
	if ended = e.evict(u, over, old); len(ended) > 0 || int64(n) <= e.share()/(u.sessions.Load()+1) {
		return ended, nil
	}
	e.memory.refused.Add(1)
	return nil, fmt.Errorf("refused: %s", e.noMemory(u, n))
}

// mayRetain says why a user may not have so many bytes more in retained messages;
// "": it may.
func (e *Engine) mayRetain(u *usage, n int) string {
	if e.admitsUser(u, n) {
		return ""
	}
	e.memory.refused.Add(1)
	return e.noMemory(u, n)
}
