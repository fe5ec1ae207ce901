package engine

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// Session is the administrative view of a client's session.
type Session struct {
	Client
	Connected bool
	// Since is when it connected or disconnected; zero: before the start.
	Since time.Time
	// Expires is when the session of a disconnected client ends; zero: never.
	Expires       time.Time
	Subscriptions int
	// Queued is the number of messages of QoS 1 and 2 that are not acknowledged or not
	// yet sent.
	Queued      int
	QueuedBytes int
	// Dropped is the number of messages that were not delivered to it.
	Dropped uint64
	// Memory is in bytes, with that of the connection.
	Memory int
	// Refused is the number of subscriptions and messages refused for a limit.
	Refused uint64
}

// Sessions returns all sessions, ordered by client identifier.
func (e *Engine) Sessions() []Session {
	e.mu.RLock()
	all := slices.Collect(maps.Values(e.sessions))
	e.mu.RUnlock()
	list := make([]Session, 0, len(all))
	for _, s := range all {
		s.mu.Lock()
		one := Session{
			Client: *s.client.Load(), Connected: s.conn != nil, Since: s.disconnectedAt,
			Subscriptions: len(s.subscriptions), Queued: s.flow.queue.len() + s.flow.flights.len(), QueuedBytes: s.queuedBytes, Dropped: s.dropped,
			Memory: s.memory, Refused: s.refused,
		}
		if s.conn != nil {
			one.Since = s.conn.since
			one.Queued += len(s.conn.queue)
			one.QueuedBytes += s.conn.queuedBytes
		} else if s.timer != nil {
			one.Expires = s.disconnectedAt.Add(time.Duration(s.expiry) * time.Second)
		}
		removed := s.removed
		s.mu.Unlock()
		if !removed {
			list = append(list, one)
		}
	}
	slices.SortFunc(list, func(a, b Session) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Connected returns the client that is connected with a client identifier.
func (e *Engine) Connected(id string) (c Client, connected bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	s := e.sessions[id]
	if s == nil || !s.online.Load() {
		return Client{}, false
	}
	return *s.client.Load(), true
}

// Kick disconnects the clients for which match returns true, and returns their number.
// Clients of MQTT 5 get DISCONNECT 0x98 (administrative action). Their sessions stay,
// and their wills are sent. since is when the connection was accepted, before its
// client was authenticated.
func (e *Engine) Kick(reason string, match func(c Client, since time.Time) bool) int {
	e.mu.RLock()
	all := slices.Collect(maps.Values(e.sessions))
	e.mu.RUnlock()
	n := 0
	for _, s := range all {
		s.mu.Lock()
		if c := s.conn; c != nil && !c.ending && match(*s.client.Load(), c.since) {
			c.disconnect(wire.AdministrativeAction, reason)
			n++
		}
		s.mu.Unlock()
	}
	return n
}

// Forget ends the session of a client, and its connection if there is one. It reports
// whether there was a session.
func (e *Engine) Forget(id, reason string) bool {
	e.mu.Lock()
	s := e.sessions[id]
	if s == nil {
		e.mu.Unlock()
		return false
	}
	s.mu.Lock()
	if s.conn != nil {
		s.conn.disconnect(wire.AdministrativeAction, reason)
		s.conn = nil
		s.online.Store(false)
	}
	s.mu.Unlock()
	s.remove()
	e.mu.Unlock()
	s.teardown()
	return true
}

// CountDropped counts a message as dropped for a client that received it and could not
// pass it on: a client that is part of the program, such as a bridge.
func (e *Engine) CountDropped(id, topic, reason string) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if s := e.sessions[id]; s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.countDropped(topic, reason)
	}
}

// DroppedFor returns the number of messages that were not delivered to a client since
// the start.
func (e *Engine) DroppedFor(id string) uint64 {
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

// HasOnlineSubscriber reports whether a connected client, or the program itself, is
// subscribed to a topic.
func (e *Engine) HasOnlineSubscriber(topic string) bool {
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
