package store

import (
	"context"
	"sync"
)

// Memory has the shape of Store and keeps nothing beyond its own life. Tests
// use it: an engine that ends and a new one with the same Memory are a restart.
// The zero value is ready.
type Memory struct {
	mu      sync.Mutex
	mirror  *mirror
	err     error
	held    bool
	closed  bool
	waiting []appended
	running bool
	ended   sync.WaitGroup
}

type appended struct {
	records []Record
	done    func(error)
}

// Append is as Store.Append. A goroutine lives while there is something to
// do, so that a test's bubble of virtual time is idle when the store is.
func (m *Memory) Append(records []Record, done func(error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = append(m.waiting, appended{records, done})
	m.start()
}

func (m *Memory) start() {
	if m.running || m.held || len(m.waiting) == 0 {
		return
	}
	m.running = true
	m.ended.Go(m.run)
}

func (m *Memory) run() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mirror == nil {
		m.mirror = newMirror()
	}
	for len(m.waiting) > 0 && !m.held {
		a := m.waiting[0]
		m.waiting = m.waiting[1:]
		err := m.err
		if m.closed {
			err = ErrClosed
		}
		if err == nil || err == ErrFull && !adds(a.records) {
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

// Hold keeps back everything appended from now on, as a slow disk does, until
// it is called with false.
func (m *Memory) Hold(held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = held
	m.start()
}

// Fail makes each Append fail with err, as a full disk does, until it is
// called with nil.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// State returns what is kept, as Open would.
func (m *Memory) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mirror == nil {
		return State{}
	}
	return m.mirror.state()
}

// Close is as Store.Close. State can still be asked for; Reopen takes it back.
func (m *Memory) Close(context.Context) error {
	m.mu.Lock()
	m.held = false
	m.start()
	m.mu.Unlock()
	m.ended.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Reopen takes back Close, and returns what Open would.
func (m *Memory) Reopen() State {
	m.mu.Lock()
	m.closed = false
	m.mu.Unlock()
	return m.State()
}

// adds tells a batch that needs room, and may be refused, from one that only
// takes away or moves on.
func adds(records []Record) bool {
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
