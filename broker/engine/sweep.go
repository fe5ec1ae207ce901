package engine

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
)

// sweeper removes messages that have expired: retained ones, so that topics
// nobody publishes to any more do not pile up, and those in the queues of
// clients that are away. It has a timer only while there is one that can expire.
type sweeper struct {
	mu     sync.Mutex
	timer  *time.Timer
	closed bool
}

// sweepEach is how long an expired message may still take up memory; it is not
// delivered in that time.
const sweepEach = time.Minute

// expires notes that a message was kept that will expire.
func (e *Engine) expires() {
	s := &e.sweeper
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer == nil && !s.closed {
		s.timer = time.AfterFunc(sweepEach, e.sweep)
	}
}

func (s *sweeper) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

func (e *Engine) sweep() {
	more, now := false, time.Now()
	for from := ""; ; {
		all, next, left := e.retained.expired(from, now)
		more = more || left
		for _, m := range all {
			e.unretain(m)
		}
		if next == "" {
			break
		}
		from = next
	}
	e.mu.RLock()
	for _, s := range e.sessions {
		s.mu.Lock()
		s.append(s.lapse(now), nil)
		more = more || !s.soonest.IsZero()
		s.mu.Unlock()
	}
	e.mu.RUnlock()
	s := &e.sweeper
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer = nil; more && !s.closed {
		s.timer = time.AfterFunc(sweepEach, e.sweep)
	}
}

// unretain forgets a retained message, if it is still its topic's.
func (e *Engine) unretain(m *message) {
	stripe := &e.stripes[maphash.String(seed, m.Topic)%uint64(len(e.stripes))]
	stripe.Lock()
	defer stripe.Unlock()
	if e.retained.drop(m) && e.persists(m.Topic) {
		for _, done := range e.paced.drop(m.Topic) {
			done(nil) // nothing is left to persist
		}
		e.store.Append([]store.Record{store.Retain{Topic: m.Topic}}, nil)
	}
}

// expired returns those of some retained messages that have expired, where to
// go on ("": it is the end), and whether others of them will expire.
func (r *retained) expired(from string, now time.Time) (all []*message, next string, more bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	seen := 0
	for at := r.seek(from); at != nil; at = at.next[0] {
		if seen++; seen > 10*replayed {
			return all, at.topic, more
		}
		switch {
		case at.m.Expires.IsZero():
		case at.m.expired(now):
			all = append(all, at.m)
		default:
			more = true
		}
	}
	return all, "", more
}
