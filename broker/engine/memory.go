package engine

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// The memory that things take in bytes, besides the text in them: structs, their share
// of maps, slices and stacks, and the rounding of allocations. TestMemoryIsMeasured
// compares them with the heap.
const (
	costSession = 1100
	// costConnection includes the goroutine that reads.
	costConnection = 6 << 10
	// costSecure is added for TLS and WebSocket.
	costSecure       = 32 << 10
	costSubscription = 200
	// costLevel is that of a filter level in the tree; a level that filters share is
	// counted for each.
	costLevel        = 300
	costMessage      = 320
	costUserProperty = 32
	// costDelivery is that of QoS 1 and 2.
	costDelivery = 150
	// costPacket is that of a packet in the queue of a connection.
	costPacket   = 96
	costRetained = 250
	// costIdentifier is that of a QoS 2 message from the client, until it is released.
	costIdentifier = 40
	costReplay     = 160
	costAlias      = 96
)

const (
	// memorySlack is how far the account of a session may lag behind: most messages
	// come and go without an atomic addition.
	memorySlack = 4 << 10
	// memoryAlwaysFree is what may be queued for a client even if the limits are
	// reached.
	memoryAlwaysFree = 16 << 10
	// sharedFrom is the size from which a message is counted once in the sum, however
	// many sessions hold it; each of their accounts has it whole.
	sharedFrom = 1 << 10
)

// memory accounts for the memory that clients make the engine hold, in bytes. Every
// session and retained message is charged to a user (usage), and those add up to the
// sum.
//
// Nothing is refused while the sum is below the limit and the user below its own.
// Beyond that each user has an equal share, and each client of a user an equal share
// of that: a client below its share is served, and sessions of the user who holds most
// are evicted for it.
type memory struct {
	// limit is that of the sum.
	limit int64
	used  atomic.Int64
	// shared is the part of used that is counted more than once.
	shared atomic.Int64
	// active is the number of users who hold anything.
	active  atomic.Int64
	refused atomic.Uint64
	// evicted is the number of sessions that were evicted.
	evicted atomic.Uint64
	// evicting is set while evictExcess runs.
	evicting atomic.Bool
}

// unlimited is a limit that is never reached.
const unlimited = 1 << 62

// total returns the sum, each shared message counted once.
func (m *memory) total() int64 { return m.used.Load() - m.shared.Load() }

// add adds n bytes to a user's account.
func (m *memory) add(u *usage, n int) {
	if n == 0 || u == nil {
		return
	}
	m.used.Add(int64(n))
	after := u.memory.Add(int64(n))
	if before := after - int64(n); before == 0 {
		m.active.Add(1)
	} else if after == 0 {
		m.active.Add(-1)
	}
}

// addHolder counts one more holder of a message, so that a large one is counted once
// in the sum.
func (m *memory) addHolder(one *message) {
	if n := one.memory(); n >= sharedFrom && atomic.AddInt32(&one.holders, 1) > 1 {
		m.shared.Add(int64(n))
	}
}

// removeHolder counts one holder less.
func (m *memory) removeHolder(one *message) {
	if n := one.memory(); n >= sharedFrom && atomic.AddInt32(&one.holders, -1) > 0 {
		m.shared.Add(-int64(n))
	}
}

// memory returns the accounted size of a message.
func (m *message) memory() int {
	return costMessage + len(m.Topic) + len(m.Payload) + 2*len(m.forward) + costUserProperty*len(m.Properties.User)
}

// memory returns the accounted size of a packet in a queue. The message of a delivery
// is accounted for with the delivery.
func (p *packet) memory() int {
	n := costPacket + len(p.raw)
	if p.msg != nil && p.id == 0 {
		n += p.msg.memory()
	}
	return n
}

// filterMemory returns the accounted size of a subscription.
func filterMemory(filter string) int {
	return costSubscription + len(filter) + costLevel*(1+strings.Count(filter, "/"))
}

// sessionMemory returns the accounted size of a session without what it holds.
func sessionMemory(c *Client) int { return costSession + len(c.ID) + len(c.User) }

// memoryPerUser returns the limit of the memory of each user.
func (e *Engine) memoryPerUser() int64 {
	if n := int64(e.userLimits.Load().Memory); n > 0 {
		return min(n, e.memory.limit)
	}
	return e.memory.limit / 2
}

// accountMemory adds n bytes to what the session holds. The caller holds s.mu.
func (s *session) accountMemory(n int) {
	s.memory += n
	if d := s.memory - s.chargedMemory; d > 0 || d < -memorySlack {
		s.syncMemoryAccount()
	}
}

// syncMemoryAccount brings the user's account up to date: exactly for a session that
// is offline, as there may be very many. The caller holds s.mu.
func (s *session) syncMemoryAccount() {
	to := s.memory
	if s.conn != nil {
		to += memorySlack / 2
	}
	if s.usage != nil {
		s.e.memory.add(s.usage, to-s.chargedMemory)
	}
	s.chargedMemory = to
}

// admits reports whether a session may hold n more bytes. The caller holds s.mu.
func (s *session) admits(n int) bool {
	e := s.e
	if s.usage == nil || e.admitsUser(s.usage, n) {
		return true
	}
	if int64(s.memory+n) <= e.share()/max(s.usage.sessions.Load(), 1) {
		e.evictExcessLater()
		return true
	}
	e.memory.refused.Add(1)
	s.refused++
	return false
}

// admitsUser reports whether a user may hold n more bytes.
func (e *Engine) admitsUser(u *usage, n int) bool {
	m := &e.memory
	total := u.memory.Load() + int64(n)
	if u.exempt || total <= e.memoryPerUser() && m.total()+int64(n) <= m.limit {
		return true
	}
	if total <= e.share() {
		e.evictExcessLater()
		return true
	}
	return false
}

// share returns what a user may hold whatever the others do.
func (e *Engine) share() int64 {
	return min(e.memory.limit/max(e.memory.active.Load(), 1), e.memoryPerUser())
}

// memoryRefusal returns the reason why a session may not hold n more bytes. The caller
// holds s.mu.
func (s *session) memoryRefusal(n int) string { return s.e.memoryRefusal(s.usage, n) }

// memoryRefusal returns the reason why a user may not hold n more bytes.
func (e *Engine) memoryRefusal(u *usage, n int) string {
	if limit := e.memoryPerUser(); u != nil && u.memory.Load()+int64(n) > limit {
		return fmt.Sprintf("it takes %d bytes of memory, and all clients of its user may have %d (broker.limits.memory_per_user)", n, limit)
	}
	return fmt.Sprintf("it takes %d bytes of memory, and all clients may have %d, of which its user has more than its share (broker.limits.memory)", n, e.memory.limit)
}

// admitMemory makes room for a session of a user that is to take n bytes more. An
// error refuses the client. The caller holds Engine.mu, and tears the ended sessions
// down after releasing it.
func (e *Engine) admitMemory(u *usage, n int, old *session) (ended []*session, err error) {
	over := u.memory.Load() + int64(n) - e.memoryPerUser()
	if e.admitsUser(u, n) {
		return nil, nil
	}
	if over <= 0 {
		over = int64(n)
	}
	if ended = e.evictUserSessions(u, over, old); len(ended) > 0 || int64(n) <= e.share()/(u.sessions.Load()+1) {
		return ended, nil
	}
	e.memory.refused.Add(1)
	return nil, fmt.Errorf("refused: %s", e.memoryRefusal(u, n))
}

// retainRefusal returns the reason why a user may not hold n more bytes of retained
// messages; "": it may.
func (e *Engine) retainRefusal(u *usage, n int) string {
	if e.admitsUser(u, n) {
		return ""
	}
	e.memory.refused.Add(1)
	return e.memoryRefusal(u, n)
}
