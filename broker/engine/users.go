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
	Memory      int // of all of them, as counted in memory; 0: half of Limits.Memory
	// WrittenBytes are those that the store writes a day because of them. It
	// binds clients without a user, and the program's own messages, too.
	WrittenBytes int
}

// usage is what the clients of a user have together. Clients without a user are
// one, so is each bridge of the program's own. It stays when they are gone:
// users are few.
type usage struct {
	named    bool         // UserLimits hold for it
	own      bool         // of the program itself: it is counted, and never refused
	sessions atomic.Int64 // written under Engine.mu
	queued   atomic.Int64 // bytes of QoS 1 and 2
	memory   atomic.Int64 // bytes, see memory
	search   search
}

// usageOf returns the account that a client belongs to. The caller holds
// Engine.mu.
func (e *Engine) usageOf(c *Client) *usage {
	key := c.User
	own := e.ask.OwnListener != "" && c.Listener == e.ask.OwnListener
	if own {
		key = "\x00" + c.ID // no user has such a name
	}
	u := e.users[key]
	if u == nil {
		u = &usage{named: key != "" && !own}
		e.users[key] = u
	}
	return u
}

// SetUserLimits puts others in place of the limits of users.
func (e *Engine) SetUserLimits(l UserLimits) { e.userLimits.Store(&l) }

// bill counts a session for the user of its client, and what it has. The caller
// holds Engine.mu and the session's mutex.
func (s *session) bill(c *Client) {
	u := s.e.usageOf(c)
	if s.usage == u {
		return
	}
	s.unbill()
	s.usage = u
	u.sessions.Add(1)
	u.queued.Add(int64(s.bytes))
	s.e.memory.add(u, s.charged)
}

// unbill is the end of it. The caller holds Engine.mu and the session's mutex.
func (s *session) unbill() {
	if s.usage == nil {
		return
	}
	s.usage.queued.Add(-int64(s.bytes))
	s.usage.sessions.Add(-1)
	s.e.memory.add(s.usage, -s.charged)
	s.usage = nil
}

// enter counts a delivery that waits for the client, and forget one that does
// not any more. The caller holds the mutex.
func (s *session) enter(m *message) {
	s.weigh(m.size())
	s.e.memory.take(m)
	s.hold(costDelivery + m.memory())
}

func (s *session) forget(m *message) {
	s.weigh(-m.size())
	s.e.memory.drop(m)
	s.hold(-costDelivery - m.memory())
}

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
	if s.usage == nil || !s.usage.named {
		return false
	}
	most := int64(s.e.userLimits.Load().QueuedBytes)
	if most == 0 || s.usage.queued.Load()+int64(size) <= most {
		return false
	}
	return int64(s.bytes+size) > most/max(s.usage.sessions.Load(), 1)
}

var errTooManyClients = errors.New("its user has as many clients as broker.limits.clients_per_user lets one have, all connected")

var errTooMuchWritten = errors.New("its user has more written to the disk than broker.limits.written_bytes_per_user allows, and its session or will would be written too")

// connectPatience is how long a client waits to be let in until its user may have
// its session written.
const connectPatience = 5 * time.Second

// makeRoom sees to it that a user may have one client more: where there are too
// many, the session that has been without its client for the longest ends. The
// caller holds Engine.mu, and dismisses what ended.
func (e *Engine) makeRoom(c *Client, old *session) (ended []*session, err error) {
	most := int64(e.userLimits.Load().Clients)
	u := e.usageOf(c)
	if most == 0 || !u.named || u.sessions.Load() < most || old != nil && old.owner() == u {
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
	c.reported = true
	c.e.ended(c.who.ID, c.remote, err.Error())
	return c.refuseConnect(wire.QuotaExceeded, err)
}
