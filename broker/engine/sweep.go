package engine

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
)

// sweeper removes expired messages: retained ones, so that topics that are no longer
// published do not accumulate, and those in the queues of disconnected clients. Its
// timer runs only while there is a message that expires.
type sweeper struct {
	mu     sync.Mutex
	timer  *time.Timer
	closed bool
}

// sweepInterval is how long an expired message may still take memory; it is not
// delivered in that time.
const sweepInterval = time.Minute

// scheduleSweep is called when a message that expires was retained or queued.
func (e *Engine) scheduleSweep() {
	s := &e.sweeper
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer == nil && !s.closed {
		s.timer = time.AfterFunc(sweepInterval, e.sweep)
	}
}

// stop stops the timer for good.
func (s *sweeper) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

// sweep removes all expired messages, and sets the timer if others will expire.
func (e *Engine) sweep() {
	more, now := false, time.Now()
	for from := ""; ; {
		all, next, willExpire := e.retained.findExpired(from, now)
		more = more || willExpire
		for _, m := range all {
			e.removeRetained(m)
		}
		if next == "" {
			break
		}
		from = next
	}
	e.mu.RLock()
	for _, s := range e.sessions {
		s.mu.Lock()
		s.append(s.removeExpired(now), nil)
		more = more || !s.nextExpiry.IsZero()
		s.mu.Unlock()
	}
	e.mu.RUnlock()
	s := &e.sweeper
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer = nil; more && !s.closed {
		s.timer = time.AfterFunc(sweepInterval, e.sweep)
	}
}

// removeRetained removes a retained message, if it is still the one of its topic.
func (e *Engine) removeRetained(m *message) {
	stripe := &e.stripes[maphash.String(hashSeed, m.Topic)%uint64(len(e.stripes))]
	stripe.Lock()
	defer stripe.Unlock()
	if e.retained.removeMessage(m) && e.persists(m.Topic) {
		for _, done := range e.deferred.drop(m.Topic) {
			done(nil) // nothing is left to persist
		}
		e.store.Append([]store.Record{store.Retain{Topic: m.Topic}}, nil)
	}
}

// findExpired returns expired messages from a topic on, the topic at which to continue
// ("": the end), and whether others of those examined will expire.
func (r *retained) findExpired(from string, now time.Time) (all []*message, next string, more bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	examined := 0
	for at := r.seek(from); at != nil; at = at.next[0] {
		if examined++; examined > 10*replayBatch {
			return all, at.topic, more
		}
		if at.msg.expired(now) {
			all = append(all, at.msg)
		} else if !at.msg.Expires.IsZero() {
			more = true
		}
	}
	return all, "", more
}
