package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Store writes changes to disk. Its methods may be called from any goroutine.
//
// One goroutine writes: it takes everything appended meanwhile at once, so that
// many publishers share a write and a sync. It waits without a timer while
// there is nothing to do.
type Store struct {
	o       Options
	wake    chan struct{} // holds one: there is something to do
	ended   chan struct{}
	counted counters
	refuses atomic.Bool // see Refuses

	mu      sync.Mutex
	waiting []appended
	closed  bool

	// What follows belongs to the goroutine of run.
	lock     *os.File
	index    *index
	segments []segment // sealed ones, oldest first
	tail     tail
	debt     []byte // frames that hold and could not be written yet
	owing    error  // why; nil: nothing is owed
	trouble  trouble
	batch    writer // reused
	out      []byte // reused: the frames of one write
	answers  []answer
	unsynced bool
	sealed   []*os.File // written to since the last sync, to be synced and closed
	former   []*os.File // of the run before, to be synced after the first sync, and closed
	newName  bool       // a file was made since the last sync
	spoiled  bool       // a sync failed: what it was for may not be on the disk, whatever later ones say
	syncing  bool
	synced   chan toSync
	due      *time.Timer // the next sync; nil: none
	retry    *time.Timer // the next try to write debt; nil: none
	cleaner  cleaner
}

type counters struct{ writes, bytes, syncs, live, size, segments atomic.Int64 }

// Stats are figures of a store since Open.
type Stats struct {
	Writes, Bytes, Syncs int64 // calls of write(2), what they wrote, calls of fsync
	Live, Size           int64 // bytes that are needed, and of all files
	Segments             int64 // files
}

// Stats may be called at any time.
func (s *Store) Stats() Stats {
	c := &s.counted
	return Stats{c.writes.Load(), c.bytes.Load(), c.syncs.Load(), c.live.Load(), c.size.Load(), c.segments.Load()}
}

func (s *Store) count() {
	c := &s.counted
	c.writes.Store(s.tail.writes)
	c.bytes.Store(s.tail.bytes)
	c.live.Store(s.index.live)
	c.size.Store(s.size())
	c.segments.Store(int64(len(s.segments)) + 1)
}

// size is that of all segments.
func (s *Store) size() int64 {
	n := s.tail.size
	for _, one := range s.segments {
		n += one.size
	}
	return n
}

// Open reads what is below dir, which it makes, and returns it. A dir has one
// store at a time: a second one, of this process or another, is refused.
//
// A torn or corrupt end of a file is cut off with a warning. The error is for a
// disk that does not answer or has no room for the first bytes, and for files
// of a newer version, which are left as they are.
func Open(dir string, o Options) (*Store, State, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.segment == 0 {
		o.segment = segmentFor(dir)
	}
	s := &Store{
		o: o, wake: make(chan struct{}, 1), ended: make(chan struct{}), synced: make(chan toSync, 1),
		index: newIndex(o.Exclude), tail: tail{dir: dir},
	}
	state, err := s.open(dir)
	if err != nil {
		if s.lock != nil {
			s.lock.Close()
		}
		return nil, State{}, fmt.Errorf("cannot open the store in %s: %w", dir, err)
	}
	s.count()
	go s.run()
	return s, state, nil
}

func (s *Store) open(dir string) (State, error) {
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		return State{}, err
	}
	if s.lock, err = lock(filepath.Join(dir, "lock")); err != nil {
		return State{}, err
	}
	s.segments, err = replay(dir, s.o.Log, func(batch []byte) error { return items(batch, s.index.load) })
	if err != nil {
		return State{}, err
	}
	state, strays := s.index.loaded()
	if len(strays) > 0 {
		s.o.Log.Warn("some of the store belonged to what could not be read, and is forgotten", "dir", dir, "records", len(strays))
		s.owe(strays)
	}
	if n := len(s.segments); n > 0 && s.segments[n-1].size >= int64(len(header)) {
		last := s.segments[n-1]
		s.segments = s.segments[:n-1]
		if err := s.tail.resume(last); err != nil {
			return State{}, err
		}
		return s.restrict(state), s.resync()
	}
	number := 1
	if n := len(s.segments); n > 0 { // it broke off before its header was whole
		number = s.segments[n-1].number
		s.segments = s.segments[:n-1]
		if err := os.Remove(filepath.Join(dir, segmentName(number))); err != nil {
			return State{}, err
		}
	}
	if _, err = s.tail.begin(number, reserveSpare); err != nil {
		return State{}, err
	}
	return s.restrict(state), s.resync()
}

// resync has all of the log synced once more: who wrote it may have been killed
// before its last sync, and then the system writes it when it likes. What is
// written now does not wait for that.
func (s *Store) resync() error {
	for _, one := range s.segments {
		f, err := os.Open(filepath.Join(s.tail.dir, segmentName(one.number)))
		if err != nil {
			return err
		}
		s.former = append(s.former, f)
	}
	s.unsynced, s.newName = true, true
	return nil
}

// owe has records written that take away what the index does not hold.
func (s *Store) owe(records []Record) {
	batch := writer{version}
	for _, r := range records {
		s.index.serial++
		batch.record(s.index.serial, 0, r)
	}
	s.debt = frame(s.debt, batch)
}

// restrict takes out what Exclude names and an earlier run still wrote.
func (s *Store) restrict(state State) State {
	kept := state.Retained[:0]
	for _, m := range state.Retained {
		if s.index.exclude(m.Topic) {
			s.waiting = append(s.waiting, appended{records: []Record{Retain{Topic: m.Topic}}})
		} else {
			kept = append(kept, m)
		}
	}
	clear(state.Retained[len(kept):])
	state.Retained = kept
	if len(s.waiting) > 0 {
		s.wake <- struct{}{}
	}
	return state
}

// Append takes over records, to be kept all or none, and returns at once. done
// (which may be nil) is called when they are with the operating system, or on
// the disk where Options.Sync is zero: all dones from one goroutine, in the
// order of the Appends, so it must not wait for anything. It may call Append.
//
// While the disk is full, done gets ErrFull. A batch that adds (Retain and Will
// with a message, Session, Subscribe, Enqueue, Received) is then forgotten; one
// that only takes away or moves on is kept in memory, holds from now on, and is
// written as soon as there is room: nothing is to be repeated. A disk that
// fails in another way gives another error, and every batch is kept so.
func (s *Store) Append(records []Record, done func(error)) {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.waiting = append(s.waiting, appended{records, done})
	}
	s.mu.Unlock()
	if closed {
		if done != nil {
			go done(ErrClosed) // the caller may hold what done waits for
		}
		return
	}
	s.poke()
}

func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close writes and syncs what was appended, and calls the last dones. If ctx
// ends first, it returns, and the rest is done nevertheless.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.poke()
	select {
	case <-s.ended:
		if len(s.debt) > 0 {
			return errors.New("cannot close the store: some changes could not be written")
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot wait for the store: %w", ctx.Err())
	}
}
