package store

import (
	"errors"
	"time"
)

// trouble is an episode in which the disk refuses what it should take. It
// begins with the first refusal and ends when everything that is owed is written
// and the largest batch that was refused would be taken, so that large and small
// batches in alternation on a full disk are one episode, reported once.
type trouble struct {
	full   bool      // the last refusal was for want of room
	broken bool      // the last refusal was for another reason
	told   [2]bool   // whether this episode is in the log as full, as broken
	needed int64     // bytes of the largest batch that was refused, at most a segment
	last   time.Time // the last refusal
}

// calmAfter is the time without a refusal after which an episode ends when there
// is room for a small batch: what was refused is not published any more.
const calmAfter = time.Minute

// lasts reports whether the episode goes on.
func (t *trouble) lasts() bool { return t.full || t.broken }

// want returns how much room ends the episode.
func (t *trouble) want() int64 {
	if time.Since(t.last) >= calmAfter {
		return 2 * reserveSpare
	}
	return t.needed
}

// failed notes that n bytes were refused, and reports it once an episode.
func (s *Store) failed(err error, n int64) {
	t := &s.trouble
	t.full = errors.Is(err, ErrFull)
	t.broken = !t.full
	t.needed = max(t.needed, min(n, s.o.segment))
	t.last = time.Now()
	switch {
	case t.full && !t.told[0]:
		t.told[0] = true
		s.o.Log.Error("the store's disk is full: nothing new is kept until there is room", "dir", s.tail.dir)
	case t.broken && !t.told[1]:
		t.told[1] = true
		s.o.Log.Error("the store's disk fails: nothing new is kept until it works", "dir", s.tail.dir, "error", err)
	}
	s.refuses.Store(true)
	if s.retry == nil {
		s.retry = time.NewTimer(retryAfter)
	}
}

// tryAgain looks, once a second during an episode, whether it is over.
func (s *Store) tryAgain() {
	t := &s.trouble
	if !t.lasts() {
		return
	}
	s.clean(0)
	err := s.settle()
	if err == nil {
		err = s.tail.reserve(t.want())
	}
	if err == nil {
		*t = trouble{}
		s.refuses.Store(false)
		s.o.Log.Info("the store's disk takes everything again", "dir", s.tail.dir)
		return
	}
	if s.retry == nil {
		s.retry = time.NewTimer(retryAfter)
	}
}

// Refuses reports whether the disk refused something and does not take
// everything again yet. It may be called at any time.
func (s *Store) Refuses() bool { return s.refuses.Load() }
