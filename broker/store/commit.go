package store

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// writeSize is about the maximum size of one write.
	writeSize  = 256 << 10
	retryAfter = time.Second
)

// callback is a done to be called when its write has ended.
type callback struct {
	done func(error)
	err  error
}

// run is the goroutine that owns the files.
func (s *Store) run() {
	defer close(s.ended)
	defer s.lock.Close()
	if s.unsynced {
		s.scheduleSync()
	}
	_ = s.writeBacklog()
	for {
		select {
		case <-s.wake:
			if s.writePending() {
				s.shutDown()
				return
			}
		case <-after(s.syncTimer):
			s.syncTimer = nil
			s.startSync()
		case r := <-s.syncDone:
			s.finishSync(r)
		case <-after(s.retryTimer):
			s.retryTimer = nil
			s.retryFailed()
			s.updateStats()
		}
	}
}

// after returns the channel of a timer, or nil for no timer.
func after(t *time.Timer) <-chan time.Time {
	if t == nil {
		return nil
	}
	return t.C
}

// writePending writes what is pending, and reports whether the store is to end. What
// is appended in the meantime is left for the next round, so that syncs can run in
// between.
func (s *Store) writePending() bool {
	s.mu.Lock()
	waiting, closed := s.pending, s.closed
	s.pending = nil
	s.mu.Unlock()
	if len(waiting) == 0 {
		return closed
	}
	for _, a := range waiting {
		s.prepareAppend(a)
		if len(s.out) >= writeSize {
			s.commit()
		}
	}
	s.commit()
	s.notify()
	return false
}

// prepareAppend prepares one batch to be written, or refuses it.
func (s *Store) prepareAppend(a pendingAppend) {
	err := s.prepare(a.records)
	s.callbacks = append(s.callbacks, callback{a.done, err})
}

// prepare encodes a batch into the next write. One that needs no space is added to the
// backlog if it cannot be written.
func (s *Store) prepare(records []Record) error {
	needs := NeedsSpace(records)
	if needs {
		if err := s.reserveFor(records); err != nil {
			return err
		}
	}
	s.batch = append(s.batch[:0], version)
	for _, r := range records {
		s.index.add(&s.batch, r)
	}
	if len(s.batch) == 1 {
		return nil
	}
	if !needs {
		err := s.backlogErr
		n := int64(len(s.batch) + frameHeaderSize)
		if err == nil {
			err = s.tail.reserve(int64(len(s.out)) + n + reserveMove)
		}
		if err != nil {
			s.backlog = frame(s.backlog, s.batch) // the order is kept: nothing overtakes the backlog
			s.backlogErr = err
			s.noteFailure(err, n)
			return err
		}
	}
	s.out = frame(s.out, s.batch)
	if cap(s.batch) > 2*writeSize {
		s.batch = nil // the memory of a large batch is released
	}
	return nil
}

// reserveFor reserves space before anything is changed, and leaves some for records
// that only remove something.
func (s *Store) reserveFor(records []Record) error {
	n := int64(reserveSpare + reserveMove)
	for _, r := range records {
		n += maxRecordSize(r)
	}
	if n > maxFrame {
		return fmt.Errorf("cannot write: a batch of %d bytes is too large", n)
	}
	if s.backlogErr != nil {
		s.commit() // what is prepared is older than the backlog
		if err := s.writeBacklog(); err != nil {
			return err
		}
	}
	if err := s.tail.reserve(int64(len(s.out)) + n); err != nil {
		s.noteFailure(err, n)
		return err
	}
	return nil
}

// maxRecordSize returns an upper bound of the size of a record on disk.
func maxRecordSize(r Record) int64 {
	n := 128 + len(Client(r))
	switch r := r.(type) {
	case Retain:
		n += len(r.Topic)
	case Session:
		n += len(r.User) + len(r.Listener)
	case Subscribe:
		n += len(r.Filter)
	case Enqueue:
		n += 5*len(r.Identifiers) + len(r.Shared)
	}
	if m := messageOf(r); m != nil {
		p := &m.Properties
		n += 64 + len(m.Topic) + len(m.Payload) + len(m.Publisher) + len(p.ContentType) + len(p.ResponseTopic) + len(p.Correlation)
		for _, u := range p.User {
			n += 20 + len(u.Name) + len(u.Value)
		}
	}
	return int64(n)
}

// writeBacklog writes the backlog.
func (s *Store) writeBacklog() error {
	if len(s.backlog) == 0 {
		return nil
	}
	n := int64(len(s.backlog)) + reserveSpare + reserveMove
	err := s.tail.reserve(n)
	if err == nil {
		err = s.tail.write(s.backlog)
	}
	if err != nil {
		s.backlogErr = err
		s.noteFailure(err, n)
		return err
	}
	s.backlog, s.backlogErr = nil, nil
	s.scheduleSync()
	return nil
}

// commit writes what is prepared and calls the callbacks.
func (s *Store) commit() {
	n := len(s.out)
	if n > 0 {
		err := s.tail.write(s.out)
		if err == nil && s.options.Sync == 0 {
			err = s.syncNow()
		} else if err == nil {
			s.scheduleSync()
		} else {
			s.backlog = slices.Concat(s.out, s.backlog)
			s.backlogErr = err
			s.noteFailure(err, int64(len(s.backlog)))
		}
		for i := range s.callbacks {
			s.callbacks[i].err = errors.Join(s.callbacks[i].err, err)
		}
	}
	if cap(s.out) > 2*writeSize {
		s.out = nil
	}
	s.out = s.out[:0]
	s.updateStats()
	callbacks := s.callbacks
	for _, a := range callbacks {
		if a.done != nil {
			a.done(a.err)
		}
	}
	clear(callbacks)
	s.callbacks = callbacks[:0]
	if s.tail.size > s.options.segment {
		s.rotate()
	}
	s.compact(n)
	s.updateStats()
}

// rotate begins the next segment. If there is no space for it, the tail continues to
// grow.
func (s *Store) rotate() {
	last := segment{s.tail.number, s.tail.size}
	before, err := s.tail.beginSegment(last.number+1, s.headroom())
	if err != nil {
		return
	}
	s.segments = append(s.segments, last)
	s.sealedFiles, s.dirUnsynced = append(s.sealedFiles, before), true
	s.scheduleSync()
}

// shutDown ends run: it writes, syncs and closes everything.
func (s *Store) shutDown() {
	_ = s.writeBacklog()
	if s.previousFiles != nil {
		s.sealedFiles, s.previousFiles, s.unsynced = append(s.previousFiles, s.sealedFiles...), nil, true
	}
	if s.unsynced || s.syncing {
		_ = s.syncNow()
	}
	for _, t := range []*time.Timer{s.syncTimer, s.retryTimer} {
		if t != nil {
			t.Stop()
		}
	}
	s.compactor.close()
	_ = s.tail.file.Truncate(s.tail.size)
	_ = s.tail.file.Close()
	for _, f := range s.sealedFiles {
		_ = f.Close()
	}
	s.updateStats()
}
