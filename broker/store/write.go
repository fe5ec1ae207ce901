package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

const (
	writeSize  = 256 << 10 // about what one write takes at most
	retryAfter = time.Second
)

// answer is a done to be called once a write is through.
type answer struct {
	done func(error)
	err  error
}

type toSync struct {
	sealed []*os.File // closed afterwards
	tail   *os.File
	dir    string // "": no new names in it
	drop   int    // segments up to here are no longer needed afterwards
	err    error
}

// run is the goroutine that owns the files.
func (s *Store) run() {
	defer close(s.ended)
	defer s.lock.Close()
	if s.unsynced {
		s.changed()
	}
	_ = s.settle()
	for {
		select {
		case <-s.wake:
			if s.takeAll() {
				s.finish()
				return
			}
		case <-after(s.due):
			s.due = nil
			s.startSync()
		case r := <-s.synced:
			s.endSync(r)
		case <-after(s.retry):
			s.retry = nil
			s.tryAgain()
			s.count()
		}
	}
}

// after is the channel of a timer that may be nil: then nothing comes.
func after(t *time.Timer) <-chan time.Time {
	if t == nil {
		return nil
	}
	return t.C
}

// takeAll writes what waits now. It tells whether that is the end. What was
// appended meanwhile is for the next round: syncs have their turn between.
func (s *Store) takeAll() bool {
	s.mu.Lock()
	waiting, closed := s.waiting, s.closed
	s.waiting = nil
	s.mu.Unlock()
	if len(waiting) == 0 {
		return closed
	}
	for _, a := range waiting {
		s.take(a)
		if len(s.out) >= writeSize {
			s.commit()
		}
	}
	s.commit()
	s.poke()
	return false
}

// take makes one batch ready to be written, or refuses it.
func (s *Store) take(a appended) {
	err := s.prepare(a.records)
	s.answers = append(s.answers, answer{a.done, err})
}

func (s *Store) prepare(records []Record) error {
	adding := adds(records)
	if adding {
		if err := s.roomFor(records); err != nil {
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
	if !adding {
		err := s.owing
		n := int64(len(s.batch) + frameHeader)
		if err == nil {
			err = s.tail.reserve(int64(len(s.out)) + n + reserveMove)
		}
		if err != nil {
			s.debt = frame(s.debt, s.batch) // nothing passes what is owed
			s.owing = err
			s.failed(err, n)
			return err
		}
	}
	s.out = frame(s.out, s.batch)
	if cap(s.batch) > 2*writeSize {
		s.batch = nil // one large batch is no reason to keep so much
	}
	return nil
}

// roomFor asks the disk for room before anything is changed. Some is left
// over for what only takes away.
func (s *Store) roomFor(records []Record) error {
	n := int64(reserveSpare + reserveMove)
	for _, r := range records {
		n += bound(r)
	}
	if n > maxFrame {
		return fmt.Errorf("cannot write: a batch of %d bytes is too large", n)
	}
	if s.owing != nil {
		s.commit() // it is older than what is owed
		if err := s.settle(); err != nil {
			return err
		}
	}
	if err := s.tail.reserve(int64(len(s.out)) + n); err != nil {
		s.failed(err, n)
		return err
	}
	return nil
}

// bound is more than what a record takes on disk.
func bound(r Record) int64 {
	n := 128 + len(client(r))
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

// settle writes what is owed.
func (s *Store) settle() error {
	if len(s.debt) == 0 {
		return nil
	}
	n := int64(len(s.debt)) + reserveSpare + reserveMove
	err := s.tail.reserve(n)
	if err == nil {
		err = s.tail.write(s.debt)
	}
	if err != nil {
		s.owing = err
		s.failed(err, n)
		return err
	}
	s.debt, s.owing = nil, nil
	s.changed()
	return nil
}

// commit writes what is ready and answers.
func (s *Store) commit() {
	n := len(s.out)
	if n > 0 {
		err := s.tail.write(s.out)
		if err == nil && s.o.Sync == 0 {
			err = s.syncNow()
		} else if err == nil {
			s.changed()
		} else {
			s.debt = slices.Concat(s.out, s.debt)
			s.owing = err
			s.failed(err, int64(len(s.debt)))
		}
		for i := range s.answers {
			s.answers[i].err = errors.Join(s.answers[i].err, err)
		}
	}
	if cap(s.out) > 2*writeSize {
		s.out = nil
	}
	s.out = s.out[:0]
	s.count()
	answers := s.answers
	for _, a := range answers {
		if a.done != nil {
			a.done(a.err)
		}
	}
	clear(answers)
	s.answers = answers[:0]
	if s.tail.size > s.o.segment {
		s.rotate()
	}
	s.clean(n)
	s.count()
}

// rotate begins the next segment. Without room the tail grows on.
func (s *Store) rotate() {
	last := segment{s.tail.number, s.tail.size}
	before, err := s.tail.begin(last.number+1, s.spare())
	if err != nil {
		return
	}
	s.segments = append(s.segments, last)
	s.sealed, s.newName = append(s.sealed, before), true
	s.changed()
}

// changed sees to it that there is a sync in time.
func (s *Store) changed() {
	s.unsynced = true
	if s.due == nil && !s.syncing {
		wait := s.o.Sync
		if s.spoiled {
			wait = max(wait, retryAfter)
		}
		s.due = time.NewTimer(wait)
	}
}

// startSync syncs beside the writing, which goes on.
func (s *Store) startSync() {
	if s.syncing || !s.unsynced {
		return
	}
	s.syncing = true
	r := s.toSync()
	go func() {
		r.err = s.sync(r)
		s.synced <- r
	}()
}

// toSync is what there is to sync now.
func (s *Store) toSync() toSync {
	t := toSync{sealed: s.sealed, tail: s.tail.file, drop: s.cleaner.moved}
	if s.newName {
		t.dir = s.tail.dir
	}
	s.sealed, s.newName, s.unsynced = nil, false, false
	return t
}

// sync makes the content of files, and the names of new ones, safe. It is
// called from other goroutines too.
func (s *Store) sync(t toSync) (err error) {
	if s.o.sync != nil {
		return s.o.sync(t)
	}
	for _, f := range append(t.sealed[:len(t.sealed):len(t.sealed)], t.tail) {
		s.counted.syncs.Add(1)
		err = errors.Join(err, f.Sync())
	}
	if t.dir == "" {
		return err
	}
	s.counted.syncs.Add(1)
	d, openErr := os.Open(t.dir)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	return errors.Join(err, d.Sync(), d.Close())
}

func (s *Store) endSync(r toSync) {
	s.syncing = false
	if r.err != nil {
		if !s.spoiled {
			s.o.Log.Error("the store's disk does not sync: what is written may not survive a power cut until it does", "dir", s.tail.dir, "error", r.err)
		}
		s.spoiled = true
		s.sealed, s.newName = append(r.sealed, s.sealed...), true
		s.changed()
		return
	}
	for _, f := range r.sealed {
		_ = f.Close()
	}
	if former := s.former; former != nil {
		// In the next sync. Until then nothing is dropped: what took its place
		// may be in these.
		s.former = nil
		s.sealed = append(former, s.sealed...)
		s.unsynced = true
	} else if !s.spoiled {
		s.drop(r.drop)
	}
	if s.spoiled {
		s.recover()
	}
	if s.unsynced {
		s.changed()
	}
	s.count()
}

// recover is called when the first sync succeeds after one that failed.
func (s *Store) recover() {
	s.spoiled = false
	if s.renew() {
		s.o.Log.Info("the store's disk syncs again, and all that is kept is written anew", "dir", s.tail.dir)
		return
	}
	// A full disk, too: nothing is dropped that was not moved since.
	s.cleaner.close()
	s.cleaner.moved = 0
	s.o.Log.Error("the store's disk syncs again and has no room for what it may have lost: a power cut may take that", "dir", s.tail.dir)
}

// syncNow syncs before it returns.
func (s *Store) syncNow() error {
	if s.syncing {
		s.endSync(<-s.synced)
	}
	for {
		r := s.toSync()
		r.err = s.sync(r)
		spoiled := s.spoiled
		s.endSync(r)
		if r.err != nil || !spoiled || s.spoiled {
			return r.err // else what was written anew is to be synced, too
		}
	}
}

// finish is the end of run.
func (s *Store) finish() {
	_ = s.settle()
	if s.former != nil {
		s.sealed, s.former, s.unsynced = append(s.former, s.sealed...), nil, true
	}
	if s.unsynced || s.syncing {
		_ = s.syncNow()
	}
	for _, t := range []*time.Timer{s.due, s.retry} {
		if t != nil {
			t.Stop()
		}
	}
	s.cleaner.close()
	_ = s.tail.file.Truncate(s.tail.size)
	_ = s.tail.file.Close()
	for _, f := range s.sealed {
		_ = f.Close()
	}
	s.count()
}
