package store

import (
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"
)

// Compaction moves what is live out of the oldest segment to the end of the
// log, a little with each write, and removes the segment once what was moved
// is on the disk.
//
// Space: it runs while the files are larger than twice what is live and four
// segments, and while the disk is full whenever there is a segment to be won.
// Time: a write of n bytes reads at most pace×n and a batch of the
// old segment, so that a whole round costs a fraction of what it takes to write
// the log anew. Idle, nothing moves.
const (
	slack    = 4 // segments
	pace     = 4
	moveSize = 64 << 10 // about what one write of moved items takes
)

type cleaner struct {
	reading *segmentReader // a segment that is being moved; nil: none
	number  int            // of it
	moved   int            // segments up to this one wait for a sync to be dropped

	failedAt   time.Time // when there was no room to move to
	failedLive int64     // what was live then
}

// worthATry tells, on a full disk, whether moving may succeed where it failed.
func (c *cleaner) worthATry(live, segment int64) bool {
	return c.failedAt.IsZero() || live < c.failedLive-segment/8 || time.Since(c.failedAt) > retryAfter
}

func (c *cleaner) close() {
	if c.reading != nil {
		c.reading.close()
		c.reading = nil
	}
}

// clean moves on after n bytes were written.
func (s *Store) clean(n int) {
	left := int64(pace * n)
	if s.trouble.full {
		if !s.cleaner.worthATry(s.index.live, s.o.segment) {
			return
		}
		left = max(left, s.o.segment) // room is wanted now
	}
	for left > 0 && (len(s.debt) == 0 || s.trouble.full) {
		c := &s.cleaner
		if c.reading == nil && !s.next() && !s.splitTail() {
			return
		}
		if c.reading == nil {
			continue // the tail was split
		}
		before := c.reading.good
		err := s.move(before+left, s.index.holds)
		left -= c.reading.good - before
		switch {
		case err == nil:
			continue
		case errors.Is(err, errNotMoved):
			c.close() // from its beginning, when the disk takes it
			c.failedAt, c.failedLive = time.Now(), s.index.live
			return
		}
		s.through(err)
	}
}

// through is the end of the segment that is moved. The error says why.
func (s *Store) through(err error) {
	c := &s.cleaner
	if !errors.Is(err, io.EOF) {
		// The broker still knows what it held, but it is not kept.
		s.o.Log.Error("the store lost a part of one of its files", "file", c.reading.file.Name(), "at", c.reading.good, "error", err)
	}
	c.close()
	c.moved = c.number
	s.changed()
}

// next opens the oldest segment that is not moved yet, if it is worth it.
func (s *Store) next() bool {
	c := &s.cleaner
	size := s.size()
	for _, old := range s.segments {
		if old.number <= c.moved {
			size -= old.size
			continue
		}
		if most := 2*s.index.live + slack*s.o.segment; !s.trouble.full && size <= most {
			return false
		}
		if s.trouble.full && size <= s.index.live+min(s.o.segment, size/4) {
			return false
		}
		return s.openToMove(old.number)
	}
	return false
}

// spare is the room that is left over when something is moved or a segment is
// begun. On a full disk it is what that uses.
func (s *Store) spare() int64 {
	if s.trouble.full {
		return 0
	}
	return reserveSpare + reserveMove
}

// splitTail seals the tail of a full disk before it has the size of a segment,
// where most of it is no longer needed: a disk that is smaller than a segment, or
// full of something else, has no other segment to win room from.
func (s *Store) splitTail() bool {
	if !s.trouble.full || len(s.segments) > 0 || s.tail.size < 2*s.index.live+2*reserveSpare {
		return false
	}
	number := s.tail.number
	s.tail.giveBack() // the next segment needs what was promised to this one
	s.rotate()
	if s.tail.number == number {
		_ = s.tail.reserve(reserveMove)
		return false
	}
	return true
}

func (s *Store) openToMove(number int) bool {
	r, err := openSegment(filepath.Join(s.tail.dir, segmentName(number)))
	if err != nil {
		s.o.Log.Error("the store cannot read one of its files", "error", err)
		return false
	}
	s.cleaner.reading, s.cleaner.number = r, number
	return true
}

// move appends the items again, as they are, of the old segment up to end that
// stays reports true of. io.EOF says that it is through.
func (s *Store) move(end int64, stays func(item) bool) error {
	s.batch = append(s.batch[:0], version)
	var err error
	for r := s.cleaner.reading; r.good < end && err == nil; {
		var batch []byte
		if batch, err = r.next(); err != nil {
			break
		}
		err = items(batch, func(it item) {
			if stays(it) {
				s.batch = append(s.batch, it.raw...)
			}
		})
		if err == nil && len(s.batch) > moveSize {
			err = s.flushMoved()
		}
	}
	if flush := s.flushMoved(); flush != nil {
		return flush
	}
	return err
}

// renew moves everything that is live to a new segment and on. A sync that
// failed takes nothing back, but the system has given up on what it could not
// write, and later syncs do not say so; it is moved out of the system's memory,
// which still has it. It reports whether there was room for all.
//
// What takes something away is moved too. It may be lost where it was, and a power
// cut may bring back, of the segments that are removed, the last ones alone: with
// an item that it took away, and without another one that belongs to that item.
func (s *Store) renew() bool {
	c, before := &s.cleaner, s.tail.number
	c.close()
	if s.rotate(); s.tail.number == before {
		return false
	}
	for _, old := range s.segments {
		if old.number > before {
			break
		}
		if !s.openToMove(old.number) {
			return false
		}
		err := s.move(math.MaxInt64, func(it item) bool { return it.removes() || s.index.holds(it) })
		if errors.Is(err, errNotMoved) {
			return false
		}
		s.through(err)
	}
	return true
}

// errNotMoved says that the disk does not take what is moved.
var errNotMoved = errors.New("not moved")

func (s *Store) flushMoved() error {
	if len(s.batch) == 1 {
		return nil
	}
	if s.tail.reserve(int64(len(s.batch))+frameHeader+s.spare()) != nil {
		return errNotMoved
	}
	s.out = frame(s.out[:0], s.batch)
	err := s.tail.write(s.out)
	s.out, s.batch = s.out[:0], s.batch[:1]
	if err != nil {
		return errNotMoved
	}
	s.changed()
	if s.tail.size > s.o.segment {
		s.rotate()
	}
	return nil
}

// drop removes the segments up to number: what was live in them is on the disk
// behind them. The next sync makes sure of it: one that came back after a power
// cut, without a broken one behind it, would bring back what that took away.
func (s *Store) drop(number int) {
	for len(s.segments) > 0 && s.segments[0].number <= number {
		if err := os.Remove(filepath.Join(s.tail.dir, segmentName(s.segments[0].number))); err != nil {
			s.o.Log.Error("the store cannot remove one of its files", "error", err)
			break
		}
		s.segments = s.segments[1:]
		s.newName = true
		s.changed()
	}
}
