package store

import (
	"errors"
	"time"
)

// failureEpisode is a time in which the disk refuses writes. It begins with the first
// refusal, and ends when the backlog is written and the largest batch that was refused
// would be accepted. So alternating large and small batches on a full disk are one
// episode, which is logged once.
type failureEpisode struct {
	// full is set if the last refusal was for lack of space, broken if it was for
	// another reason.
	full   bool
	broken bool
	// logged is set when the episode was logged as full (0), as broken (1).
	logged [2]bool
	// required is the size of the largest batch that was refused, at most a segment.
	required    int64
	lastRefusal time.Time
}

// quietPeriod is the time without a refusal after which space for a small batch ends
// an episode: what was refused is no longer published.
const quietPeriod = time.Minute

// active reports whether there is an episode.
func (t *failureEpisode) active() bool { return t.full || t.broken }

// requiredSpace returns how much space ends the episode.
func (t *failureEpisode) requiredSpace() int64 {
	if time.Since(t.lastRefusal) >= quietPeriod {
		return 2 * reserveSpare
	}
	return t.required
}

// noteFailure records that n bytes were refused, and logs that once in an episode.
func (s *Store) noteFailure(err error, n int64) {
	t := &s.failure
	t.full = errors.Is(err, ErrFull)
	t.broken = !t.full
	t.required = max(t.required, min(n, s.options.segment))
	t.lastRefusal = time.Now()
	if t.full && !t.logged[0] {
		t.logged[0] = true
		s.options.Log.Error("the store's disk is full: nothing new is persisted until there is space", "dir", s.tail.dir)
	} else if t.broken && !t.logged[1] {
		t.logged[1] = true
		s.options.Log.Error("the store's disk fails: nothing new is persisted until it works", "dir", s.tail.dir, "error", err)
	}
	s.refuses.Store(true)
	if s.retryTimer == nil {
		s.retryTimer = time.NewTimer(retryAfter)
	}
}

// retryFailed checks, once a second during an episode, whether it is over.
func (s *Store) retryFailed() {
	t := &s.failure
	if !t.active() {
		return
	}
	s.compact(0)
	err := s.writeBacklog()
	if err == nil {
		err = s.tail.reserve(t.requiredSpace())
	}
	if err == nil {
		*t = failureEpisode{}
		s.refuses.Store(false)
		s.options.Log.Info("the store's disk accepts everything again", "dir", s.tail.dir)
		return
	}
	if s.retryTimer == nil {
		s.retryTimer = time.NewTimer(retryAfter)
	}
}

// Refuses reports whether the disk refused something and does not accept everything
// again yet. It may be called at any time.
func (s *Store) Refuses() bool { return s.refuses.Load() }
