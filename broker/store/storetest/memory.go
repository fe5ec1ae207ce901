// Package storetest has a store without a disk, and a model of what a store holds.
// Only tests import it.
package storetest

import (
	"context"
	"sync"

	"github.com/jmbarzee/dominion/broker/store"
)

// Memory has the methods of store.Store and persists nothing: an engine that ends and
// a new one with the same Memory are a restart. The zero value is ready.
type Memory struct {
	mu      sync.Mutex
	model   *Model
	err     error
	holding bool
	closed  bool
	pending []pendingAppend
	running bool
	ended   sync.WaitGroup
}

// pendingAppend is a call of Append that was not carried out yet.
type pendingAppend struct {
	records []store.Record
	done    func(error)
}

// Append is as store.Store.Append. Its goroutine runs only while there is something to do,
// so that a test's bubble of virtual time is idle when the store is.
func (m *Memory) Append(records []store.Record, done func(error)) {
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
	if m.model == nil {
		m.model = NewModel()
	}
	for len(m.pending) > 0 && !m.holding {
		a := m.pending[0]
		m.pending = m.pending[1:]
		err := m.err
		if m.closed {
			err = store.ErrClosed
		}
		if err == nil || err == store.ErrFull && !store.NeedsSpace(a.records) {
			for _, r := range a.records {
				m.model.Apply(r)
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

// State returns the state that store.Open would return.
func (m *Memory) State() store.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.model == nil {
		return store.State{}
	}
	return m.model.State()
}

// Close is as store.Store.Close. State may still be called; Reopen undoes it.
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

// Reopen undoes Close, and returns the state that store.Open would return.
func (m *Memory) Reopen() store.State {
	m.mu.Lock()
	m.closed = false
	m.mu.Unlock()
	return m.State()
}
