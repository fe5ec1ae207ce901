package engine

import (
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// The bytes that a user's clients may have written to disk are limited by the day
// (UserLimits.WrittenBytes). A tenth of that may be written at once.
const (
	day        = 24 * time.Hour
	burstShare = 10
	// programBudget names the budget of the program's own messages.
	programBudget = ""
	// noUser names the budget of clients without a user; no user has this name.
	noUser       = "\x00no user"
	warnInterval = time.Hour
)

// The costs of a write beyond its own bytes. The store syncs what is written within
// syncWindow together, and each sync writes at least one page of the file and one of
// the file system.
const (
	syncWindow = 100 * time.Millisecond
	syncCost   = 8 << 10
	// recordCost is the bytes of a record without the names in it.
	recordCost = 32
	// compactFrom is the size from which broker/store compacts: live data is then
	// written again.
	compactFrom = 16 << 20
)

// budgetTimeout is how long a CONNECT waits until its user's budget covers the
// session.
const budgetTimeout = 5 * time.Second

// writeBudget is the number of bytes that a user's clients may still have written to
// disk, a token bucket that refills over the day. An idle budget holds burstShare of a
// day. It may go into debt: a write that begins without debt may cost more than the
// balance.
type writeBudget struct {
	name    string
	e       *Engine
	mu      sync.Mutex
	started bool
	// balance is in bytes; negative: debt.
	balance int64
	// refilledAt is when balance was computed, since Engine.started.
	refilledAt time.Duration
	// syncedAt is when the last sync window that was charged began.
	syncedAt time.Duration
	// warnedAt is when the debt was last logged; 0: never.
	warnedAt time.Duration
	// deferred holds the retained messages whose writing waits for the budget, oldest
	// first; see deferredMessages.
	deferred []*deferredMessage
	// timer runs persistDeferred; nil: nothing is deferred.
	timer *time.Timer
}

// budgetOf returns the budget that a client's writes are charged to, or nil if it has
// no limit. Each client of the program's own listener (a bridge) has one of its own.
func (e *Engine) budgetOf(c *Client) *writeBudget {
	if e.store == nil || e.opts.Unlimited != nil && e.opts.Unlimited(*c) {
		return nil
	}
	if e.opts.OwnListener != "" && c.Listener == e.opts.OwnListener {
		return e.budgetNamed("\x00" + c.ID)
	}
	if !c.HasUser || c.User == "" {
		return e.budgetNamed(noUser)
	}
	return e.budgetNamed(e.account(c))
}

// budgetNamed returns the budget of a name, and makes it if necessary.
func (e *Engine) budgetNamed(name string) *writeBudget {
	e.budgetsMu.Lock()
	defer e.budgetsMu.Unlock()
	b := e.budgets[name]
	if b == nil {
		b = &writeBudget{name: name, e: e}
		e.budgets[name] = b
	}
	return b
}

// refill adds what has accrued since the last refill, and returns the limit in bytes a
// day; 0: there is none. The caller holds b.mu.
func (b *writeBudget) refill() (daily int64) {
	daily = int64(b.e.userLimits.Load().WrittenBytes)
	if daily == 0 {
		return 0
	}
	now, burst := b.e.now(), daily/burstShare
	if !b.started {
		b.started, b.balance, b.refilledAt, b.syncedAt = true, burst, now, -syncWindow
	}
	// The burst is part of the daily limit: refillRate leaves it out. Time that is
	// too short to accrue a byte is carried over.
	gained := int64(refillRate(daily) * float64(now-b.refilledAt))
	if gained > 0 {
		b.balance, b.refilledAt = min(b.balance+gained, burst), now
	}
	return daily
}

// trySpend charges the cost of bytes that are to be written, unless the budget is in
// debt: then ok is false and wait is the time until the debt is repaid. A nil budget
// has no limit.
func (b *writeBudget) trySpend(bytes int) (wait time.Duration, ok bool) {
	if b == nil {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trySpendLocked(bytes)
}

// trySpendLocked is trySpend for a caller who holds b.mu.
func (b *writeBudget) trySpendLocked(bytes int) (wait time.Duration, ok bool) {
	daily := b.refill()
	if daily == 0 {
		return 0, true
	}
	if b.balance < 0 {
		b.warn()
		return time.Duration(float64(-b.balance)/refillRate(daily)) + time.Millisecond, false
	}
	b.balance -= b.cost(bytes)
	return 0, true
}

// refillRate returns the bytes that accrue in a nanosecond: the daily limit less the
// burst, and less half a burst for the debt with which the day may end.
func refillRate(daily int64) float64 {
	return float64(daily) * (1 - 1.5/burstShare) / float64(day)
}

// spendIfCovered charges the cost of bytes that need not be written, and reports
// whether the balance covers it; if not, nothing is charged.
func (b *writeBudget) spendIfCovered(bytes int) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refill() > 0 {
		synced := b.syncedAt
		cost := b.cost(bytes)
		if cost > b.balance {
			b.syncedAt = synced
			return false
		}
		b.balance -= cost
	}
	return true
}

// charge charges the cost of bytes that are written in any case.
func (b *writeBudget) charge(bytes int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refill() > 0 {
		b.balance -= b.cost(bytes)
	}
}

// cost returns what it costs to write bytes: the bytes, their share of later
// compactions, and the sync if no other was charged within syncWindow. The caller
// holds b.mu.
func (b *writeBudget) cost(bytes int) int64 {
	_, live := b.e.retained.count()
	cost := int64(bytes) + int64(float64(bytes)*float64(live)/float64(live+compactFrom))
	if now := b.e.now(); now-b.syncedAt >= syncWindow {
		b.syncedAt = now
		cost += syncCost
	}
	return cost
}

// warn logs that a user exceeds its budget, once in warnInterval. The caller holds
// b.mu.
func (b *writeBudget) warn() {
	now := b.e.now()
	if b.name == programBudget || b.warnedAt > 0 && now-b.warnedAt < warnInterval {
		return
	}
	b.warnedAt = now
	name := b.name
	if name == noUser {
		name = "(without a user)"
	}
	b.e.log.Warn("the clients of a user exceed broker.limits.written_bytes_per_user: their retained values are written later, the newest only, and other writes slow the clients down",
		"user", name)
}

// waitForBudget waits until the client's budget has no debt, and charges bytes to it.
// If most is not 0, it gives up rather than wait longer than that; then ok is false.
// The caller holds no mutex.
func (c *conn) waitForBudget(bytes int, maxWait time.Duration) (ok bool, err error) {
	for started := c.e.now(); ; {
		wait, ok := c.budget.trySpend(bytes)
		if ok {
			return true, nil
		}
		if maxWait > 0 && c.e.now()-started+wait > maxWait {
			return false, nil
		}
		c.lastReceived.Store(int64(c.e.now() + wait)) // the engine does not read from it
		if err := c.sleep(wait); err != nil {
			return false, err
		}
	}
}

// waitForBudgetInBatch is waitForBudget within a batch. If it must wait, the batch
// ends before and begins again after.
func (c *conn) waitForBudgetInBatch(b *batch, bytes int) error {
	if _, ok := c.budget.trySpend(bytes); ok {
		return nil
	}
	b.end()
	b.localsQueued = false
	defer b.e.mu.RLock()
	_, err := c.waitForBudget(bytes, 0)
	return err
}

// waitForFilterBudget is waitForBudget for the subscriptions of a packet, where the
// session is durable.
func (c *conn) waitForFilterBudget(pk *wire.Packet) error {
	if c.budget == nil || !c.s.isDurable() {
		return nil
	}
	bytes := 0
	for i := range pk.Filters {
		bytes += len(pk.Filters[i].Filter) + len(c.s.id) + recordCost
	}
	_, err := c.waitForBudget(bytes, 0)
	return err
}

// waitForAckBudget is waitForBudgetInBatch for an acknowledgement that changes the
// store.
func (c *conn) waitForAckBudget(b *batch, kind byte, body []byte) error {
	if c.budget == nil || len(body) < 2 || !c.s.persistsAck(kind, uint16(body[0])<<8|uint16(body[1])) {
		return nil
	}
	return c.waitForBudgetInBatch(b, recordCost)
}

// persistsAck reports whether an acknowledgement changes the store.
func (s *session) persistsAck(kind byte, id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.durable || kind == wire.Pubrel {
		return s.durable
	}
	_, d := s.flow.find(id)
	return d != nil && !d.volatile
}

// queueCost returns the bytes that a publish of QoS 1 or 2 has written at its
// publisher's expense: the message, if a durable session queues it; the delivery
// records of sessions that have no budget of their own; and the records of its packet
// identifier. The cost of retaining the message is not included.
func (c *conn) queueCost(qos byte, size int, r *route) int {
	bytes := 0
	if qos == 2 && c.s.isDurable() {
		bytes += 2 * (len(c.s.id) + recordCost)
	}
	if !r.persists {
		return bytes
	}
	queued := false
	addSession := func(s *session) {
		if !s.isDurable() {
			return
		}
		queued = true
		if s.budget.Load() == nil {
			bytes += deliveryCost(s)
		}
	}
	for i := range r.sessions {
		if r.sessions[i].qos > 0 {
			addSession(r.sessions[i].session)
		}
	}
	for i := range r.groups {
		for _, s := range r.groups[i].members {
			if s.qos > 0 && s.session.isDurable() {
				addSession(s.session)
				break
			}
		}
	}
	if queued {
		bytes += size + recordCost
	}
	return bytes
}

// overBudget charges the session's budget for a delivery of a message of bytes, and
// reports whether the budget does not cover it: then the delivery is held in memory
// only. A delivery that comes after one that waits for the store is persisted in any
// case, to keep the order. The caller holds s.mu.
func (s *session) overBudget(bytes int) bool {
	return !s.budget.Load().spendIfCovered(deliveryCost(s)+bytes) && s.flow.allStored()
}

// deliveryCost is the bytes of a delivery's records: queued, sent, acknowledged.
func deliveryCost(s *session) int { return 4 * (len(s.id) + recordCost) }

// sessionCost is the bytes of the records that are written when a session's connection
// begins.
func sessionCost(c *Client, w *will) int {
	bytes := 2 * (len(c.ID) + len(c.User) + len(c.Listener) + 2*recordCost)
	if w != nil {
		bytes += w.msg.size() + recordCost
	}
	return bytes
}

// retainCost is the bytes that persisting a retained message takes.
func retainCost(m *message) int {
	if len(m.Payload) == 0 {
		return len(m.Topic) + recordCost
	}
	return m.size() + 2*len(m.Topic) + 2*recordCost
}

// retainRecord returns the record that retains a message, or that clears its topic if
// the payload is empty [MQTT-3.3.1-6].
func retainRecord(m *message) store.Retain {
	if len(m.Payload) == 0 {
		return store.Retain{Topic: m.Topic}
	}
	return store.Retain{Topic: m.Topic, Message: &m.Message}
}
