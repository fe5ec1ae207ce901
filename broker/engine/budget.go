package engine

import (
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// A user's clients may have so many bytes written to the disk a day, see
// UserLimits.WrittenBytes. Of that a tenth may come at once.
const (
	day         = 24 * time.Hour
	burstShare  = 10
	ownAccount  = ""            // of the program's own messages
	noUser      = "\x00no user" // of clients without a user; no user has this name
	warnBetween = time.Hour
)

// What a write costs beyond its bytes. The store syncs what is written within
// syncWindow together, and a sync writes a page of the file and one of the file
// system at least, however little is in it.
const (
	syncWindow  = 100 * time.Millisecond
	syncCost    = 8 << 10
	recordCost  = 32       // of a record without its names
	compactFrom = 16 << 20 // see broker/store: what is live is written again where more than this was written
)

// account is how much a user's clients may still have written. It has as much
// as burstShare of a day when nothing was written for long, and may be in debt:
// what is written while there is no debt may be larger than what is left.
type account struct {
	name   string
	e      *Engine
	mu     sync.Mutex
	begun  bool
	left   int64         // bytes; negative: debt
	at     time.Duration // when left was that
	synced time.Duration // the last window that was paid for
	warned time.Duration // when the log was told; 0: never
	held   []*heldTopic  // retained messages that wait, oldest first; see paced
	timer  *time.Timer   // of paced; nil: nothing waits
}

// accountOf returns the account of a client, nil where it has no limit.
func (e *Engine) accountOf(c *Client) *account {
	if e.store == nil || e.ask.Unlimited != nil && e.ask.Unlimited(*c) {
		return nil
	}
	name := c.User
	switch {
	case e.ask.OwnListener != "" && c.Listener == e.ask.OwnListener: // a bridge
		name = "\x00" + c.ID
	case !c.HasUser || name == "":
		name = noUser
	}
	return e.accountNamed(name)
}

func (e *Engine) accountNamed(name string) *account {
	e.accountsMu.Lock()
	defer e.accountsMu.Unlock()
	a := e.accounts[name]
	if a == nil {
		a = &account{name: name, e: e}
		e.accounts[name] = a
	}
	return a
}

// refill adds what the time since the last look is worth. It returns the bytes a
// day, 0 where there is no limit. The caller holds the mutex.
func (a *account) refill() (daily int64) {
	daily = int64(a.e.userLimits.Load().WrittenBytes)
	if daily == 0 {
		return 0
	}
	now, burst := a.e.now(), daily/burstShare
	if !a.begun {
		a.begun, a.left, a.at, a.synced = true, burst, now, -syncWindow
	}
	// What a burst takes is not there for the rest of the day. The time that is
	// too short for a byte is not lost.
	gained := int64(steady(daily) * float64(now-a.at))
	if gained > 0 {
		a.left, a.at = min(a.left+gained, burst), now
	}
	return daily
}

// spend takes the cost of bytes that are to be written, unless there is a debt.
// Then wait is how long it takes until there is none. A nil account has no limit.
func (a *account) spend(bytes int) (wait time.Duration, ok bool) {
	if a == nil {
		return 0, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.spendLocked(bytes)
}

func (a *account) spendLocked(bytes int) (wait time.Duration, ok bool) {
	daily := a.refill()
	if daily == 0 {
		return 0, true
	}
	if a.left < 0 {
		a.warn()
		return time.Duration(float64(-a.left)/steady(daily)) + time.Millisecond, false
	}
	a.left -= a.cost(bytes)
	return 0, true
}

// steady returns how much is gained in a nanosecond: what the burst leaves of a
// day, and less, for the debts at its end.
func steady(daily int64) float64 {
	return float64(daily) * (1 - 1.5/burstShare) / float64(day)
}

// afford takes the cost of bytes that need not be written, if that makes no debt.
func (a *account) afford(bytes int) bool {
	if a == nil {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refill() > 0 {
		synced := a.synced
		cost := a.cost(bytes)
		if cost > a.left {
			a.synced = synced
			return false
		}
		a.left -= cost
	}
	return true
}

// charge takes the cost of bytes that are written in any case.
func (a *account) charge(bytes int) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refill() > 0 {
		a.left -= a.cost(bytes)
	}
}

// cost returns what bytes cost with the sync that they need, and with what the
// store moves because of them. The caller holds the mutex.
func (a *account) cost(bytes int) int64 {
	_, live := a.e.retained.count()
	cost := int64(bytes) + int64(float64(bytes)*float64(live)/float64(live+compactFrom))
	if now := a.e.now(); now-a.synced >= syncWindow {
		a.synced = now
		cost += syncCost
	}
	return cost
}

// warn tells the log that a user writes too much, seldom. The caller holds the
// mutex.
func (a *account) warn() {
	now := a.e.now()
	if a.name == ownAccount || a.warned > 0 && now-a.warned < warnBetween {
		return
	}
	a.warned = now
	name := a.name
	if name == noUser {
		name = "(without a user)"
	}
	a.e.log.Warn("the clients of a user have more written to the disk than broker.limits.written_bytes_per_user allows: retained values are written later and the newest alone, what else must be written slows them down",
		"user", name)
}

// await waits until the connection's user may have bytes written, and pays for
// them. With most, it waits no longer than that; then ok is false. The caller
// holds no mutex.
func (c *conn) await(bytes int, most time.Duration) (ok bool, err error) {
	for began := c.e.now(); ; {
		wait, ok := c.account.spend(bytes)
		if ok {
			return true, nil
		}
		if most > 0 && c.e.now()-began+wait > most {
			return false, nil
		}
		c.heard.Store(int64(c.e.now() + wait)) // it is us who do not listen
		if err := c.pause(wait); err != nil {
			return false, err
		}
	}
}

// awaitTurn is await for what is handled in a turn, which ends meanwhile.
func (c *conn) awaitTurn(t *turn, bytes int) error {
	if _, ok := c.account.spend(bytes); ok {
		return nil
	}
	t.end()
	t.inside = false
	defer t.e.mu.RLock()
	_, err := c.await(bytes, 0)
	return err
}

// awaitFilters is await for the subscriptions of a packet, where the session
// keeps them.
func (c *conn) awaitFilters(pk *wire.Packet) error {
	if c.account == nil || !c.s.keeps() {
		return nil
	}
	bytes := 0
	for i := range pk.Filters {
		bytes += len(pk.Filters[i].Filter) + len(c.s.id) + recordCost
	}
	_, err := c.await(bytes, 0)
	return err
}

// awaitAck is awaitTurn for an acknowledgement that changes what the store has.
func (c *conn) awaitAck(t *turn, kind byte, body []byte) error {
	if c.account == nil || len(body) < 2 || !c.s.persistsAck(kind, uint16(body[0])<<8|uint16(body[1])) {
		return nil
	}
	return c.awaitTurn(t, recordCost)
}

// persistsAck reports whether the store is told of an acknowledgement.
func (s *session) persistsAck(kind byte, id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.durable || kind == wire.Pubrel {
		return s.durable
	}
	_, d := s.flow.find(id)
	return d != nil && !d.passing
}

// queueCost returns what a publish of QoS 1 or 2 costs its publisher: the message,
// where a session keeps it, with the records of sessions whose own account is
// not limited, and those of its packet identifier. What a retained message costs
// is not in it.
func (c *conn) queueCost(qos byte, size int, r *route) int {
	bytes := 0
	if qos == 2 && c.s.keeps() {
		bytes += 2 * (len(c.s.id) + recordCost)
	}
	if !r.persists {
		return bytes
	}
	kept := false
	each := func(s *session) {
		if !s.keeps() {
			return
		}
		kept = true
		if s.account.Load() == nil {
			bytes += deliveryCost(s)
		}
	}
	for i := range r.sessions {
		if r.sessions[i].qos > 0 {
			each(r.sessions[i].session)
		}
	}
	for i := range r.groups {
		for _, s := range r.groups[i].members {
			if s.qos > 0 && s.session.keeps() {
				each(s.session)
				break
			}
		}
	}
	if kept {
		bytes += size + recordCost
	}
	return bytes
}

// overBudget pays for a delivery of a message of so many bytes, or reports that
// it cannot be paid for: then it is in memory alone. What comes behind deliveries
// that wait for the store is persisted all the same, to stay in order. The caller
// holds the mutex.
func (s *session) overBudget(bytes int) bool {
	return !s.account.Load().afford(deliveryCost(s)+bytes) && s.flow.allStored()
}

// deliveryCost is what the records of one delivery take: that it is queued,
// sent, and acknowledged.
func deliveryCost(s *session) int { return 4 * (len(s.id) + recordCost) }

// sessionCost is what the records of a connection's session take when it begins.
func sessionCost(c *Client, w *will) int {
	bytes := 2 * (len(c.ID) + len(c.User) + len(c.Listener) + 2*recordCost)
	if w != nil {
		bytes += w.m.size() + recordCost
	}
	return bytes
}

// retainCost is what it takes to persist a retained message.
func retainCost(m *message) int {
	if len(m.Payload) == 0 {
		return len(m.Topic) + recordCost
	}
	return m.size() + 2*len(m.Topic) + 2*recordCost
}

// retainRecord returns what the store is told of a retained message.
func retainRecord(m *message) store.Retain {
	if len(m.Payload) == 0 {
		return store.Retain{Topic: m.Topic}
	}
	return store.Retain{Topic: m.Topic, Message: &m.Message}
}
