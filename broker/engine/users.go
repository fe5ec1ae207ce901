package engine

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// UserLimits bound what all clients of one user have together. They may change
// while the engine runs: nothing that is there is ended by that. A zero is no
// limit. Clients without a user are not bound by them.
type UserLimits struct {
	Clients     int // sessions, with a connection and without
	QueuedBytes int // what waits for all of them; each may have its share beyond that
}

// usage is what the clients of a user have together.
type usage struct {
	sessions atomic.Int64 // written under Engine.mu
	queued   atomic.Int64 // bytes of QoS 1 and 2
}

// SetUserLimits puts others in place of the limits of users.
func (e *Engine) SetUserLimits(l UserLimits) { e.userLimits.Store(&l) }

// bill counts a session for the user of its client, and what waits for it too.
// The caller holds Engine.mu and the session's mutex.
func (s *session) bill(user string) {
	if s.billed == user && (s.usage != nil) == (user != "") {
		return
	}
	s.unbill()
	s.billed = user
	if user == "" {
		return
	}
	s.usage = s.e.users[user]
	if s.usage == nil {
		s.usage = new(usage)
		s.e.users[user] = s.usage
	}
	s.usage.sessions.Add(1)
	s.usage.queued.Add(int64(s.bytes))
}

// unbill is the end of it. The caller holds Engine.mu and the session's mutex.
func (s *session) unbill() {
	if s.usage == nil {
		return
	}
	s.usage.queued.Add(-int64(s.bytes))
	if s.usage.sessions.Add(-1) == 0 {
		delete(s.e.users, s.billed)
	}
	s.usage, s.billed = nil, ""
}

// weigh counts what waits for the client. The caller holds the mutex.
func (s *session) weigh(bytes int) {
	s.bytes += bytes
	if s.usage != nil {
		s.usage.queued.Add(int64(bytes))
	}
}

// crowded tells whether there is no room for a message because of what waits
// for the clients of its user. Those who have less than their share are served
// all the same: they read, and the others do not. The caller holds the mutex.
func (s *session) crowded(size int) bool {
	if s.usage == nil {
		return false
	}
	most := int64(s.e.userLimits.Load().QueuedBytes)
	if most == 0 || s.usage.queued.Load()+int64(size) <= most {
		return false
	}
	return int64(s.bytes+size) > most/max(s.usage.sessions.Load(), 1)
}

var errTooManyClients = errors.New("its user has as many clients as broker.limits.clients_per_user lets one have, all connected")

// makeRoom sees to it that a user may have one client more: where there are too
// many, the session that has been without its client for the longest ends. The
// caller holds Engine.mu, and dismisses what ended.
func (e *Engine) makeRoom(c *Client, old *session) (ended []*session, err error) {
	most := int64(e.userLimits.Load().Clients)
	u := e.users[c.User]
	if most == 0 || u == nil || u.sessions.Load() < most || old != nil && old.owner() == u {
		return nil, nil
	}
	var elder *session
	var since time.Time
	for _, s := range e.sessions {
		if s == old || s.online.Load() {
			continue
		}
		s.mu.Lock()
		theirs, left := s.usage == u && !s.left.IsZero(), s.left // zero: its connection is just being let in
		s.mu.Unlock()
		if theirs && (elder == nil || left.Before(since)) {
			elder, since = s, left
		}
	}
	if elder == nil {
		e.stats.clientsRefused.Add(1)
		return nil, errTooManyClients
	}
	elder.remove()
	e.stats.sessionsEnded.Add(1)
	e.noticed(elder.client.Load(), "", "its session ended for a newer one: its user has as many clients as broker.limits.clients_per_user lets one have")
	return []*session{elder}, nil
}

func (s *session) owner() *usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usage
}

// refuseUser refuses a client for what its user has already.
func (c *conn) refuseUser(err error) error {
	c.e.ended(c.who.ID, c.remote, err.Error())
	return c.refuseConnect(wire.QuotaExceeded, err)
}
