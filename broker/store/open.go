package store

import "context"

// Store writes changes to disk. Its methods may be called from any goroutine.
type Store struct {
	memory Memory
}

// Open reads what is below dir, which it makes, and returns it. A dir has one
// store at a time.
func Open(dir string, o Options) (*Store, State, error) {
	return &Store{}, State{}, nil
}

// Append takes over records, to be kept all or none, and returns at once. done
// (which may be nil) is called when they are with the operating system, or on
// the disk where Options.Sync is zero: all dones from one goroutine, in the
// order of the Appends, so it must not wait for anything. It may call Append.
//
// While the disk is full, done gets ErrFull. A batch that adds (Retain and Will
// with a message, Session, Subscribe, Enqueue, Received) is then forgotten; one
// that only takes away or moves on is kept in memory, holds from now on, and is
// written as soon as there is room: nothing is to be repeated. The same goes
// for any other error of the disk.
func (s *Store) Append(records []Record, done func(error)) { s.memory.Append(records, done) }

// Close writes and syncs what was appended and calls the last dones.
func (s *Store) Close(ctx context.Context) error { return s.memory.Close(ctx) }
