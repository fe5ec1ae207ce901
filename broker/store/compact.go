package store

import (
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"
)

// Compaction moves live items out of the oldest segment to the end of the log, a few
// with each write, and removes the segment once what was moved is on disk.
//
// Space: it runs while the files are larger than twice the live data and compactSlack
// segments, and on a full disk whenever a segment can be freed. Time: a write of n
// bytes reads at most compactPace×n and a batch of the old segment, so a whole round
// costs a fraction of rewriting the log. An idle store does nothing.
const (
	// compactSlack is in segments.
	compactSlack = 4
	compactPace  = 4
	// moveBatchSize is about the size of one write of moved items in bytes.
	moveBatchSize = 64 << 10
)

// compactor is the state of compaction.
type compactor struct {
	// source is the segment that is being moved; nil: none.
	source       *segmentReader
	sourceNumber int
	// movedUpTo is the last segment that was moved; up to it they are removed after
	// the next sync.
	movedUpTo int

	// failedAt is when there was no space to move to, failedLive the size of the live
	// data then.
	failedAt   time.Time
	failedLive int64
}

// mayRetry reports, on a full disk, whether moving may succeed after it failed.
func (c *compactor) mayRetry(live, segment int64) bool {
	return c.failedAt.IsZero() || live < c.failedLive-segment/8 || time.Since(c.failedAt) > retryAfter
}

// close closes the source.
func (c *compactor) close() {
	if c.source != nil {
		c.source.close()
		c.source = nil
	}
}

// compact moves items after n bytes were written.
func (s *Store) compact(n int) {
	left := int64(compactPace * n)
	if s.failure.full {
		if !s.compactor.mayRetry(s.index.liveBytes, s.options.segment) {
			return
		}
		left = max(left, s.options.segment) // space is needed now
	}
	for left > 0 && (len(s.backlog) == 0 || s.failure.full) {
		c := &s.compactor
		if c.source == nil && !s.openNext() && !s.sealFullTail() {
			return
		}
		if c.source == nil {
			continue // the tail was split
		}
		before := c.source.validSize
		err := s.move(before+left, s.index.isLive)
		left -= c.source.validSize - before
		if err == nil {
			continue
		}
		if errors.Is(err, errNotMoved) {
			c.close() // it is moved from its beginning when the disk has space
			c.failedAt, c.failedLive = time.Now(), s.index.liveBytes
			return
		}
		s.finishSegment(err)
	}
}

// finishSegment ends the moving of the source. err is the reason, normally io.EOF.
func (s *Store) finishSegment(err error) {
	c := &s.compactor
	if !errors.Is(err, io.EOF) {
		// The broker still has the lost items in memory, but they are no longer stored.
		s.options.Log.Error("a part of a file of the store is lost", "file", c.source.file.Name(), "at", c.source.validSize, "error", err)
	}
	c.close()
	c.movedUpTo = c.sourceNumber
	s.scheduleSync()
}

// openNext opens the oldest segment that is not moved, if that is worthwhile.
func (s *Store) openNext() bool {
	c := &s.compactor
	size := s.totalSize()
	for _, old := range s.segments {
		if old.number <= c.movedUpTo {
			size -= old.size
			continue
		}
		if limit := 2*s.index.liveBytes + compactSlack*s.options.segment; !s.failure.full && size <= limit {
			return false
		}
		if s.failure.full && size <= s.index.liveBytes+min(s.options.segment, size/4) {
			return false
		}
		return s.openSource(old.number)
	}
	return false
}

// headroom returns the space that must remain when something is moved or a segment is
// begun. On a full disk that space may be used.
func (s *Store) headroom() int64 {
	if s.failure.full {
		return 0
	}
	return reserveSpare + reserveMove
}

// sealFullTail seals the tail on a full disk before it has the size of a segment, if
// most of it is no longer needed: a disk that is smaller than a segment, or full of
// other files, has no other segment to free.
func (s *Store) sealFullTail() bool {
	if !s.failure.full || len(s.segments) > 0 || s.tail.size < 2*s.index.liveBytes+2*reserveSpare {
		return false
	}
	number := s.tail.number
	s.tail.releaseReserved() // the next segment needs the space reserved for this one
	s.rotate()
	if s.tail.number == number {
		_ = s.tail.reserve(reserveMove)
		return false
	}
	return true
}

// openSource opens a segment to be moved.
func (s *Store) openSource(number int) bool {
	r, err := openSegment(filepath.Join(s.tail.dir, segmentName(number)))
	if err != nil {
		s.options.Log.Error("cannot read a file of the store", "error", err)
		return false
	}
	s.compactor.source, s.compactor.sourceNumber = r, number
	return true
}

// move appends the items of the source up to the offset end, unchanged, for which
// keep returns true. It returns io.EOF at the end of the segment.
func (s *Store) move(end int64, keep func(item) bool) error {
	s.batch = append(s.batch[:0], version)
	var err error
	for r := s.compactor.source; r.validSize < end && err == nil; {
		var batch []byte
		if batch, err = r.next(); err != nil {
			break
		}
		err = items(batch, func(it item) {
			if keep(it) {
				s.batch = append(s.batch, it.raw...)
			}
		})
		if err == nil && len(s.batch) > moveBatchSize {
			err = s.flushMoved()
		}
	}
	if flush := s.flushMoved(); flush != nil {
		return flush
	}
	return err
}

// rewriteLive moves all live items to new segments, and reports whether there was
// space for all. It is called after a failed sync: written data is not lost by that,
// but the system has given up on writing some of it and later syncs do not report
// that. The system's cache still has it, from which it is moved.
//
// Items that remove something are moved too. One may be lost where it was, and after a
// power cut only some of the removed segments may exist: with an item that it removes,
// and without another one that belongs to that item.
func (s *Store) rewriteLive() bool {
	c, before := &s.compactor, s.tail.number
	c.close()
	if s.rotate(); s.tail.number == before {
		return false
	}
	for _, old := range s.segments {
		if old.number > before {
			break
		}
		if !s.openSource(old.number) {
			return false
		}
		err := s.move(math.MaxInt64, func(it item) bool { return it.removes() || s.index.isLive(it) })
		if errors.Is(err, errNotMoved) {
			return false
		}
		s.finishSegment(err)
	}
	return true
}

// errNotMoved is returned if the disk refuses what is moved.
var errNotMoved = errors.New("not moved")

// flushMoved writes the items that were collected by move.
func (s *Store) flushMoved() error {
	if len(s.batch) == 1 {
		return nil
	}
	if s.tail.reserve(int64(len(s.batch))+frameHeaderSize+s.headroom()) != nil {
		return errNotMoved
	}
	s.out = frame(s.out[:0], s.batch)
	err := s.tail.write(s.out)
	s.out, s.batch = s.out[:0], s.batch[:1]
	if err != nil {
		return errNotMoved
	}
	s.scheduleSync()
	if s.tail.size > s.options.segment {
		s.rotate()
	}
	return nil
}

// removeSegments removes the segments up to number: their live items are on disk in
// later ones. The next sync makes the removal durable: a segment that came back after
// a power cut would bring back what later ones removed.
func (s *Store) removeSegments(number int) {
	for len(s.segments) > 0 && s.segments[0].number <= number {
		if err := os.Remove(filepath.Join(s.tail.dir, segmentName(s.segments[0].number))); err != nil {
			s.options.Log.Error("cannot remove a file of the store", "error", err)
			break
		}
		s.segments = s.segments[1:]
		s.dirUnsynced = true
		s.scheduleSync()
	}
}
