package engine

import (
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// finish ends the connection, and with it the session if that does not outlast it.
// withWill is false after a DISCONNECT that discards the will [MQTT-3.14.4-3]. It is
// called by the reading goroutine.
func (c *conn) finish(code byte, reason string, withWill bool) {
	c.timer.Stop()
	s := c.s
	if s == nil {
		c.close()
		return
	}
	s.mu.Lock()
	s.accountMemory(-c.memory)
	c.memoryReleased = true
	current := s.conn == c
	if current && !withWill {
		s.setWill(nil) // before the client sees the end: it may reconnect at once [MQTT-3.14.4-3]
	}
	c.disconnect(code, reason)
	shutDown := c.draining
	reason = c.reason
	s.mu.Unlock()
	c.e.log.Debug("disconnected", "client", s.id, "remote", c.remote, "why", reason)
	if emit := c.e.trace.Load(); emit != nil {
		(*emit)(TraceEvent{Client: *c.client, Detail: "the connection is over: " + reason})
	}
	if current {
		c.endSession(shutDown)
	}
}

// endSession detaches the connection from its session, which it removes if that does
// not outlast the connection. shutDown is set if the server ended the connection
// because it ends itself. A will that is due is sent last.
func (c *conn) endSession(shutDown bool) {
	e, s := c.e, c.s
	e.mu.Lock()
	s.mu.Lock()
	if s.conn != c || s.removed {
		s.mu.Unlock()
		e.mu.Unlock()
		return
	}
	s.conn = nil
	s.syncMemoryAccount()
	s.online.Store(false)
	s.disconnectedAt = time.Now()
	ends := s.expiry == 0
	var due *will
	s.endedByServer = shutDown || e.closed
	if s.endedByServer {
		// A will is sent after the restart, see Close. A session that is in no store
		// ends with the process.
		ends = ends && s.will == nil && s.inStore
	} else if ends || s.will != nil && s.will.delay == 0 {
		due = s.takeWill()
	}
	if s.inStore && !ends {
		records := []store.Record{s.record()}
		if s.will == nil {
			records = append(records, store.Will{Client: s.id})
		}
		s.budget.Load().charge(sessionCost(s.client.Load(), nil))
		e.store.Append(records, nil)
	}
	if !ends && !s.endedByServer {
		s.setTimer(0)
	}
	s.mu.Unlock()
	if ends {
		s.remove()
	}
	e.mu.Unlock()
	if ends {
		s.teardown()
	}
	if due != nil {
		e.sendWill(due)
	}
}

// record returns the record of the session; while it is connected disconnectedAt is
// zero. The caller holds s.mu.
func (s *session) record() store.Session {
	c := s.client.Load()
	return store.Session{
		Client: s.id, Version: c.Version, User: c.User, HasUser: c.HasUser, Listener: c.Listener,
		Expiry: s.expiry, Disconnected: s.disconnectedAt, EndedByServer: s.endedByServer,
	}
}

// takeOver disconnects the existing connection of a session in favour of a new one. It
// returns the will that is thereby due. A connection that continues the session before
// the will delay has passed prevents the will [MQTT-3.1.3-9], and so does one that
// comes in time after the server had ended. If the session has expired, removed is
// set. The caller holds Engine.mu.
func (s *session) takeOver() *will {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopTimerLocked()
	if s.conn == nil {
		if s.endedByServer {
			s.setWill(nil)
		}
		s.removed = s.expired(time.Now()) // then teardown sends its will
		return nil
	}
	s.conn.disconnect(wire.SessionTakenOver, "another connection has the same client id")
	s.conn = nil
	s.online.Store(false)
	s.disconnectedAt = time.Now()
	s.removed = s.expiry == 0 // it ended with its connection
	if s.removed || s.will != nil && s.will.delay == 0 {
		return s.takeWill()
	}
	return nil
}

// isGone reports whether the session was removed.
func (s *session) isGone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removed
}

// remove removes a session from the engine and the store. The caller holds Engine.mu,
// and calls teardown after releasing it.
func (s *session) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed = true
	s.stopTimerLocked()
	if s.e.sessions[s.id] == s {
		delete(s.e.sessions, s.id)
	}
	s.dischargeUser()
	if s.inStore {
		s.budget.Load().charge(len(s.id) + recordCost)
		s.e.store.Append([]store.Record{store.SessionGone{Client: s.id}}, nil)
	}
}

// teardown releases what a removed session still has: its subscriptions, its will, and
// its deliveries of shared subscriptions, which go to other members (MQTT 5.0, 4.8.2):
// those of QoS 1, and those of QoS 2 that were never sent [MQTT-4.8.2-5].
func (s *session) teardown() {
	s.mu.Lock()
	subs := s.subscriptions
	s.subscriptions = nil
	w := s.takeWill()
	var shared []delivery
	now := time.Now()
	for _, all := range []*deliveries{&s.flow.flights, &s.flow.queue} {
		for i := range all.len() {
			s.e.memory.removeHolder(all.at(i).msg)
			if d := all.at(i); d.sharedFilter != "" && (d.qos == 1 || !d.sent) && !d.msg.expired(now) {
				shared = append(shared, *d)
			}
		}
	}
	s.flow = flow{}
	s.replays = nil
	s.mu.Unlock()
	for _, sub := range subs {
		s.e.subscriptions.remove(sub)
	}
	if len(shared) > 0 {
		b := s.e.beginBatch(nil)
		for _, d := range shared {
			r := s.e.routeOf(d.msg.Topic)
			for i := range r.groups {
				if r.groups[i].group.filter == d.sharedFilter {
					r.groups[i].push(b, d.msg, r.persists)
				}
			}
		}
		b.end()
	}
	if w != nil {
		s.e.sendWill(w)
	}
}

// markAllStored marks all deliveries as stored, when a durable session continues as
// one that is not. The caller holds s.mu.
func (s *session) markAllStored() {
	for _, all := range []*deliveries{&s.flow.flights, &s.flow.queue} {
		for i := range all.len() {
			all.at(i).stored = true
		}
	}
}

// expired reports whether the expiry interval of a disconnected session has passed
// [MQTT-4.1.0-2]. The caller holds s.mu.
func (s *session) expired(now time.Time) bool {
	return s.expiry != store.NeverExpires && !s.disconnectedAt.IsZero() && !now.Before(s.disconnectedAt.Add(time.Duration(s.expiry)*time.Second))
}

// setTimer sets the timer of a disconnected session, for its will or its end, to at
// least a duration from now. The caller holds s.mu.
func (s *session) setTimer(atLeast time.Duration) {
	end := s.disconnectedAt.Add(time.Duration(s.expiry) * time.Second)
	if s.expiry == store.NeverExpires {
		end = time.Time{}
	}
	if s.will != nil {
		// [MQTT-3.1.3-9]: after its delay, or when the session ends
		if at := s.disconnectedAt.Add(time.Duration(s.will.delay) * time.Second); end.IsZero() || at.Before(end) {
			end = at
		}
	}
	s.stopTimerLocked()
	if end.IsZero() {
		return
	}
	wait := max(time.Until(end), atLeast)
	s.timerAt = time.Now().Add(wait)
	s.timer = time.AfterFunc(wait, s.onTimer)
}

// stopTimerLocked stops the timer. The caller holds s.mu.
func (s *session) stopTimerLocked() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// stopTimer stops the timer.
func (s *session) stopTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopTimerLocked()
}

// onTimer sends the will of a disconnected session, or ends the session, when its time
// has come.
func (s *session) onTimer() {
	e := s.e
	e.mu.Lock()
	s.mu.Lock()
	if s.removed || s.conn != nil || s.timer == nil || e.closed || time.Now().Before(s.timerAt) {
		s.mu.Unlock()
		e.mu.Unlock()
		return
	}
	now := time.Now()
	ends := s.expired(now)
	var w *will
	if !ends {
		if w = s.takeWill(); w != nil && s.inStore {
			s.budget.Load().charge(len(s.id) + recordCost)
			e.store.Append([]store.Record{store.Will{Client: s.id}}, nil)
		}
		s.setTimer(0)
	}
	s.mu.Unlock()
	if ends {
		e.stats.expired.Add(1)
		s.remove()
	}
	e.mu.Unlock()
	if ends {
		s.teardown()
	}
	if w != nil {
		e.sendWill(w)
	}
}

// limitExpiry returns a session expiry interval within the limit.
func (e *Engine) limitExpiry(seconds uint32) uint32 {
	limit := uint32(min(e.limits.MaxSessionExpiry/time.Second, store.NeverExpires))
	return min(seconds, limit)
}
