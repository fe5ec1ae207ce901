package engine

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// usage is what the clients of a user have together. Clients without a user share one,
// and each bridge of the program has one. It is never removed: users are few.
type usage struct {
	// limited is set if UserLimits apply.
	limited bool
	// exempt is set for the program itself: it is accounted for, and never refused.
	exempt bool
	// sessions is written under Engine.mu.
	sessions atomic.Int64
	// queued is the bytes of messages of QoS 1 and 2.
	queued atomic.Int64
	// memory is in bytes, see memory.
	memory   atomic.Int64
	searches searchQuota
}

// usageOf returns the usage that a client is accounted under. The caller holds
// Engine.mu.
func (e *Engine) usageOf(c *Client) *usage {
	key := e.account(c)
	own := e.opts.OwnListener != "" && c.Listener == e.opts.OwnListener
	if own {
		key = "\x00" + c.ID // no user has such a name
	}
	u := e.users[key]
	if u == nil {
		u = &usage{limited: key != "" && !own}
		e.users[key] = u
	}
	return u
}

// account returns the name that a client is accounted under: its user's, or that of several.
func (e *Engine) account(c *Client) string {
	if e.opts.Account == nil || c.User == "" {
		return c.User
	}
	return e.opts.Account(*c)
}

// SetUserLimits replaces the limits of users.
func (e *Engine) SetUserLimits(l UserLimits) { e.userLimits.Store(&l) }

// chargeUser accounts for a session, and what it holds, under the user of its client.
// The caller holds Engine.mu and s.mu.
func (s *session) chargeUser(c *Client) {
	u := s.e.usageOf(c)
	if s.usage == u {
		return
	}
	s.dischargeUser()
	s.usage = u
	u.sessions.Add(1)
	u.queued.Add(int64(s.queuedBytes))
	s.e.memory.add(u, s.chargedMemory)
}

// dischargeUser undoes chargeUser. The caller holds Engine.mu and s.mu.
func (s *session) dischargeUser() {
	if s.usage == nil {
		return
	}
	s.usage.queued.Add(-int64(s.queuedBytes))
	s.usage.sessions.Add(-1)
	s.e.memory.add(s.usage, -s.chargedMemory)
	s.usage = nil
}

// chargeDelivery accounts for a delivery that waits for the client. The caller holds
// s.mu.
func (s *session) chargeDelivery(m *message) {
	s.accountQueued(m.size())
	s.e.memory.addHolder(m)
	s.accountMemory(costDelivery + m.memory())
}

// releaseDelivery undoes chargeDelivery. The caller holds s.mu.
func (s *session) releaseDelivery(m *message) {
	s.accountQueued(-m.size())
	s.e.memory.removeHolder(m)
	s.accountMemory(-costDelivery - m.memory())
}

// accountQueued adds bytes to what is queued for the client and its user. The caller
// holds s.mu.
func (s *session) accountQueued(bytes int) {
	s.queuedBytes += bytes
	if s.usage != nil {
		s.usage.queued.Add(int64(bytes))
	}
}

// overQuota reports whether a message of size must be refused because of what waits
// for all clients of its user. A client below its share is served all the same: it
// reads, and the others do not. The caller holds s.mu.
func (s *session) overQuota(size int) bool {
	if s.usage == nil || !s.usage.limited {
		return false
	}
	limit := int64(s.e.userLimits.Load().QueuedBytes)
	if limit == 0 || s.usage.queued.Load()+int64(size) <= limit {
		return false
	}
	return int64(s.queuedBytes+size) > limit/max(s.usage.sessions.Load(), 1)
}

// errTooManyClients refuses a client beyond UserLimits.Clients.
var errTooManyClients = errors.New("its user has as many clients as broker.limits.clients_per_user allows, all connected")

// errOverWriteBudget refuses a client whose session would exceed
// UserLimits.WrittenBytes.
var errOverWriteBudget = errors.New("its user exceeds broker.limits.written_bytes_per_user, and its session or will would be written to disk")

// admitClient makes room for a client of a user: if the user has too many, the session
// that is offline for longest ends. The caller holds Engine.mu, and tears the ended
// one down after releasing it.
func (e *Engine) admitClient(c *Client, old *session) (ended []*session, err error) {
	limit := int64(e.userLimits.Load().Clients)
	u := e.usageOf(c)
	if limit == 0 || !u.limited || u.sessions.Load() < limit || old != nil && old.userUsage() == u {
		return nil, nil
	}
	var oldest *session
	var since time.Time
	for _, s := range e.sessions {
		if s == old || s.online.Load() {
			continue
		}
		s.mu.Lock()
		candidate, disconnectedAt := s.usage == u && !s.disconnectedAt.IsZero(), s.disconnectedAt // zero: its connection is being attached
		s.mu.Unlock()
		if candidate && (oldest == nil || disconnectedAt.Before(since)) {
			oldest, since = s, disconnectedAt
		}
	}
	if oldest == nil {
		e.stats.userRefused.Add(1)
		return nil, errTooManyClients
	}
	oldest.remove()
	e.stats.userEnded.Add(1)
	e.notify(oldest.client.Load(), "", "its session ended for a newer one: its user has as many clients as broker.limits.clients_per_user allows")
	return []*session{oldest}, nil
}

// userUsage returns s.usage.
func (s *session) userUsage() *usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usage
}

// refuseUser refuses a client for what its user has already.
func (c *conn) refuseUser(err error) error {
	c.refusalLogged = true
	c.e.ended(c.client.ID, c.remote, err.Error())
	return c.refuseConnect(wire.QuotaExceeded, err)
}
