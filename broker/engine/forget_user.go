package engine

import (
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// ForgetUser ends the sessions of a user, and their connections that were made before a
// time, with what is queued for them and without their wills. It returns their client
// identifiers.
func (e *Engine) ForgetUser(user, reason string, before time.Time) (ended []string) {
	var all []*session
	e.mu.Lock()
	for _, s := range e.sessions {
		s.mu.Lock()
		if s.client.Load().User == user && (s.conn == nil || s.conn.since.Before(before)) {
			s.revoke(reason)
			all = append(all, s)
		}
		s.mu.Unlock()
	}
	return e.removeRevoked(all)
}

// ForgetClients ends the sessions of client identifiers as ForgetUser does: their wills are
// not published. It returns those that had a session.
func (e *Engine) ForgetClients(reason string, ids ...string) (ended []string) {
	var all []*session
	e.mu.Lock()
	for _, id := range ids {
		if s := e.sessions[id]; s != nil {
			s.mu.Lock()
			s.revoke(reason)
			s.mu.Unlock()
			all = append(all, s)
		}
	}
	return e.removeRevoked(all)
}

// revoke ends the connection of a session that is about to be removed, and discards its will.
// The caller holds Engine.mu and s.mu.
func (s *session) revoke(reason string) {
	if s.conn != nil {
		s.conn.disconnect(wire.AdministrativeAction, reason)
		s.conn = nil
		s.online.Store(false)
	}
	s.setWill(nil)
}

// removeRevoked removes sessions that were revoked, and returns their client identifiers. The caller
// holds Engine.mu, which is released.
func (e *Engine) removeRevoked(all []*session) (ended []string) {
	for _, s := range all {
		s.remove()
		ended = append(ended, s.id)
	}
	e.mu.Unlock()
	for _, s := range all {
		s.teardown()
	}
	return ended
}

// ClearRetained clears what a user has retained ("": nobody), and what was published with
// one of several client identifiers: of a message from before a restart the identifier
// alone is stored.
func (e *Engine) ClearRetained(user string, ids map[string]bool) {
	var found []string
	for at := newCursor("#"); !at.done; {
		for _, m := range e.retained.next(&at, replayBatch, time.Now()) {
			if m.Publisher != "" && (user != "" && m.user == user || ids[m.Publisher]) {
				found = append(found, m.Topic)
			}
		}
	}
	for _, topic := range found {
		e.Publish(topics.Message{Topic: topic, QoS: 1, Retain: true})
	}
}
