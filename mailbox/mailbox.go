// Package mailbox is the way into a loop that owns its state: anybody puts an
// event in and never waits, one goroutine takes them out in order.
//
// A channel would make the sender wait while the loop is busy; the senders
// here are a broker's goroutines, which must not.
package mailbox

import "sync"

// Box is a queue of events with a limit. Make it with New.
type Box[T any] struct {
	mu      sync.Mutex
	queue   []T
	limit   int // events
	bytes   int // of the events in the queue, by size
	most    int // bytes; 0: no limit
	size    func(T) int
	dropped int
	ready   chan struct{}
}

// New returns an empty box that holds limit events.
func New[T any](limit int) *Box[T] {
	return &Box[T]{limit: limit, ready: make(chan struct{}, 1)}
}

// NewSized returns an empty box that holds limit events of so many bytes
// together. size returns the memory that an event takes up.
func NewSized[T any](limit, bytes int, size func(T) int) *Box[T] {
	b := New[T](limit)
	b.most, b.size = bytes, size
	return b
}

// Put adds an event. A full box drops and counts it: its owner stands still,
// and memory is what the rest of the machine needs.
func (b *Box[T]) Put(v T) {
	size := 0
	if b.size != nil {
		size = b.size(v)
	}
	b.mu.Lock()
	if len(b.queue) >= b.limit || b.most > 0 && b.bytes+size > b.most {
		b.dropped++
	} else {
		b.queue = append(b.queue, v)
		b.bytes += size
	}
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// Ready receives a value when there may be something to take.
func (b *Box[T]) Ready() <-chan struct{} { return b.ready }

// Take returns all events, oldest first, and how many were dropped since the
// last Take.
func (b *Box[T]) Take() (events []T, dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	events, dropped = b.queue, b.dropped
	b.queue, b.bytes, b.dropped = nil, 0, 0
	return events, dropped
}
