package engine

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// Session is a client as somebody sees it who looks for what is wrong.
type Session struct {
	Client
	Connected     bool
	Since         time.Time // it is connected, or offline; zero: since before the start
	Expires       time.Time // the session, where it is offline; zero: never
	Subscriptions int
	Queued        int // messages of QoS 1 and 2 that it has not acknowledged, or not been sent
	QueuedBytes   int
	Dropped       uint64 // messages that it did not get
	Memory        int    // bytes of memory that it takes up, with its connection
	Refused       uint64 // subscriptions and messages beyond a limit
}

// Sessions lists all sessions by client identifier.
func (e *Engine) Sessions() []Session {
	e.mu.RLock()
	all := slices.Collect(maps.Values(e.sessions))
	e.mu.RUnlock()
	list := make([]Session, 0, len(all))
	for _, s := range all {
		s.mu.Lock()
		one := Session{
			Client: *s.client.Load(), Connected: s.conn != nil, Since: s.left,
			Subscriptions: len(s.subs), Queued: s.flow.queue.len() + s.flow.flights.len(), QueuedBytes: s.bytes, Dropped: s.dropped,
			Memory: s.memory, Refused: s.refused,
		}
		if s.conn != nil {
			one.Since = s.conn.since
			one.Queued += len(s.conn.out)
			one.QueuedBytes += s.conn.held
		} else if s.timer != nil {
			one.Expires = s.left.Add(time.Duration(s.expiry) * time.Second)
		}
		gone := s.gone
		s.mu.Unlock()
		if !gone {
			list = append(list, one)
		}
	}
	slices.SortFunc(list, func(a, b Session) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Connected returns who is connected by a client identifier.
func (e *Engine) Connected(id string) (c Client, connected bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	s := e.sessions[id]
	if s == nil || !s.online.Load() {
		return Client{}, false
	}
	return *s.client.Load(), true
}

// Kick ends the connections of which which says so, with DISCONNECT 0x98
// (administrative action) to those of MQTT 5, and returns how many. Their
// sessions stay, and their wills are sent. since is when the connection was
// taken, before its client was asked who it is.
func (e *Engine) Kick(why string, which func(c Client, since time.Time) bool) int {
	e.mu.RLock()
	all := slices.Collect(maps.Values(e.sessions))
	e.mu.RUnlock()
	n := 0
	for _, s := range all {
		s.mu.Lock()
		if c := s.conn; c != nil && !c.ending && which(*s.client.Load(), c.since) {
			c.end(wire.AdministrativeAction, why)
			n++
		}
		s.mu.Unlock()
	}
	return n
}

// Forget ends the session of a client, and its connection if it has one. It is
// false where there is none.
func (e *Engine) Forget(id, why string) bool {
	e.mu.Lock()
	s := e.sessions[id]
	if s == nil {
		e.mu.Unlock()
		return false
	}
	s.mu.Lock()
	if s.conn != nil {
		s.conn.end(wire.AdministrativeAction, why)
		s.conn = nil
		s.online.Store(false)
	}
	s.mu.Unlock()
	s.remove()
	e.mu.Unlock()
	s.dismiss()
	return true
}

// Dropped counts a message for a client that it was given, and did not take to
// where it should be: it is a part of the program, such as a bridge.
func (e *Engine) Dropped(id, topic, why string) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if s := e.sessions[id]; s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(topic, why)
	}
}

// Missed returns how many messages a client did not get since the start.
func (e *Engine) Missed(id string) uint64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	s := e.sessions[id]
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Hears tells whether somebody who is connected gets what is published to a
// topic.
func (e *Engine) Hears(topic string) bool {
	r := e.routeOf(topic)
	if len(r.locals) > 0 {
		return true
	}
	for i := range r.sessions {
		if r.sessions[i].session.online.Load() {
			return true
		}
	}
	for i := range r.groups {
		if slices.ContainsFunc(r.groups[i].members, func(s *subscription) bool { return s.session.online.Load() }) {
			return true
		}
	}
	return false
}
