package engine

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// evictSessions ends sessions of disconnected clients if MaxSessions is reached, and
// returns them. It takes them from the user who has most disconnected clients, the
// longest disconnected first: a program that generates a client identifier for each
// connection loses its own sessions, not those of others. The caller holds Engine.mu,
// and tears the ended ones down after releasing it.
func (e *Engine) evictSessions() []*session {
	if len(e.sessions) < e.limits.MaxSessions {
		return nil
	}
	type offline struct {
		s     *session
		since time.Time
	}
	byUser := make(map[string][]offline)
	largest := ""
	for _, s := range e.sessions {
		s.mu.Lock()
		if s.conn == nil && !s.removed && !s.disconnectedAt.IsZero() { // zero: its connection is being attached
			user := e.account(s.client.Load())
			byUser[user] = append(byUser[user], offline{s, s.disconnectedAt})
			if len(byUser[user]) > len(byUser[largest]) {
				largest = user
			}
		}
		s.mu.Unlock()
	}
	all := byUser[largest]
	slices.SortFunc(all, func(a, b offline) int { return a.since.Compare(b.since) })
	// several at a time, as every session was visited
	all = all[:min(len(all), 1+e.limits.MaxSessions/100)]
	if len(all) == 0 {
		return nil
	}
	e.log.Warn("more sessions than broker.limits.max_sessions: those that are disconnected for longest are ended, with what is queued for them",
		"user", largest, "ended", len(all), "client", all[0].s.id)
	ended := make([]*session, len(all))
	for i, one := range all {
		ended[i] = one.s
		one.s.remove()
		e.stats.expired.Add(1)
	}
	return ended
}

// maxEvictions bounds the sessions that are evicted under one lock.
const maxEvictions = 100

// evictExcessLater runs evictExcess on a goroutine of its own, if the limit is
// exceeded.
func (e *Engine) evictExcessLater() {
	if m := &e.memory; m.total() > m.limit && m.evicting.CompareAndSwap(false, true) {
		e.running.Go(e.evictExcess)
	}
}

// evictExcess evicts sessions of the user who holds most, while the limit is exceeded
// and that user is above its share.
func (e *Engine) evictExcess() {
	defer e.memory.evicting.Store(false)
	for {
		e.mu.Lock()
		excess := e.memory.total() - e.memory.limit
		u := e.largestUser()
		if e.closed || excess <= 0 || u == nil || u.memory.Load() <= e.share() {
			e.mu.Unlock()
			return
		}
		ended := e.evictUserSessions(u, excess, nil)
		e.mu.Unlock()
		if len(ended) == 0 {
			return
		}
		for _, s := range ended {
			s.teardown()
		}
	}
}

// largestUser returns the user who holds most. The caller holds Engine.mu.
func (e *Engine) largestUser() (largest *usage) {
	for _, u := range e.users {
		if largest == nil || u.memory.Load() > largest.memory.Load() {
			largest = u
		}
	}
	return largest
}

// evictUserSessions ends sessions of a user until excess bytes are free: first those
// of clients that are offline, of these the largest first. Sessions of connected
// clients end only if they are above their share. The caller holds Engine.mu, and
// tears the ended ones down after releasing it.
func (e *Engine) evictUserSessions(u *usage, excess int64, but *session) (ended []*session) {
	type one struct {
		s      *session
		memory int
		online bool
	}
	var all []one
	for _, s := range e.sessions {
		s.mu.Lock()
		// a session that is neither is being attached
		if s.usage == u && s != but && !s.removed && (s.conn != nil || !s.disconnectedAt.IsZero()) {
			all = append(all, one{s, s.chargedMemory, s.conn != nil})
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
	for _, o := range all[:min(len(all), maxEvictions)] {
		if freed >= excess || o.online && int64(o.memory) <= share {
			break
		}
		freed += int64(o.memory)
		reason := fmt.Sprintf("its session ended with %d bytes of memory: its user has more than its share (broker.limits.memory, memory_per_user)", o.memory)
		e.notify(o.s.client.Load(), "", reason)
		o.s.mu.Lock()
		if c := o.s.conn; c != nil {
			c.discardQueue()
			c.disconnect(wire.QuotaExceeded, reason)
			o.s.conn = nil
			o.s.online.Store(false)
			o.s.disconnectedAt = time.Now()
		}
		o.s.mu.Unlock()
		o.s.remove()
		e.memory.evicted.Add(1)
		ended = append(ended, o.s)
	}
	return ended
}
