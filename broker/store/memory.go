package store

import (
	"context"
	"sync"
)

// Memory has the methods of Store and persists nothing. Tests use it: an engine that
// ends and a new one with the same Memory are a restart. The zero value is ready.
type Memory struct {
	mu      sync.Mutex
	mirror  *mirror
	err     error
	holding bool
	closed  bool
	pending []pendingAppend
	running bool
	ended   sync.WaitGroup
}

// Append is as Store.Append. Its goroutine runs only while there is something to do,
// so that a test's bubble of virtual time is idle when the store is.
func (m *Memory) Append(records []Record, done func(error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = append(m.pending, pendingAppend{records, done})
	m.start()
}

// start starts the goroutine if necessary. The caller holds the mutex.
func (m *Memory) start() {
	if m.running || m.holding || len(m.pending) == 0 {
		return
	}
	m.running = true
	m.ended.Go(m.run)
}

// run applies the pending records and calls their callbacks.
func (m *Memory) run() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mirror == nil {
		m.mirror = newMirror()
	}
	for len(m.pending) > 0 && !m.holding {
		a := m.pending[0]
		m.pending = m.pending[1:]
		err := m.err
		if m.closed {
			err = ErrClosed
		}
		if err == nil || err == ErrFull && !needsSpace(a.records) {
			for _, r := range a.records {
				m.mirror.apply(r)
			}
		}
		if a.done == nil {
			continue
		}
		m.mu.Unlock()
		a.done(err)
		m.mu.Lock()
	}
	m.running = false
}

// Hold holds back everything that is appended from now on, like a slow disk, until it
// is called with false.
func (m *Memory) Hold(hold bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holding = hold
	m.start()
}

// Fail makes every Append fail with err, like a full disk, until it is called with
// nil.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// State returns the state that Open would return.
func (m *Memory) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mirror == nil {
		return State{}
	}
	return m.mirror.state()
}

// Close is as Store.Close. State may still be called; Reopen undoes it.
func (m *Memory) Close(context.Context) error {
	m.mu.Lock()
	m.holding = false
	m.start()
	m.mu.Unlock()
	m.ended.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Reopen undoes Close, and returns the state that Open would return.
func (m *Memory) Reopen() State {
	m.mu.Lock()
	m.closed = false
	m.mu.Unlock()
	return m.State()
}

// needsSpace reports whether a batch needs space on disk, and so may be refused, or
// only removes or advances something.
func needsSpace(records []Record) bool {
	for _, r := range records {
		switch r := r.(type) {
		case Session, Subscribe, Enqueue, Received:
			return true
		case Retain:
			if r.Message != nil {
				return true
			}
		case Will:
			if r.Message != nil {
				return true
			}
		}
	}
	return false
}
