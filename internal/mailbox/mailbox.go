// Package mailbox passes events to a loop that owns its state: any goroutine puts
// events in without blocking, one goroutine takes them out in order.
//
// A channel would block the sender while the loop is busy; the senders here are
// goroutines of a broker, which must not block.
package mailbox

import "sync"

// Box is a bounded queue of events. Make it with New.
type Box[T any] struct {
	mu    sync.Mutex
	queue []T
	// limit is the maximum number of events.
	limit int
	// bytes is the size of the events in the queue.
	bytes int
	// maxBytes bounds bytes; 0: no limit.
	maxBytes int
	// size returns the memory of an event; nil if that is not counted.
	size    func(T) int
	dropped int
	// ready has a value when there may be something to take.
	ready chan struct{}
}

// New returns an empty box for at most limit events.
func New[T any](limit int) *Box[T] {
	return &Box[T]{limit: limit, ready: make(chan struct{}, 1)}
}

// NewSized returns an empty box for at most limit events of at most bytes in total.
// size returns the memory of an event.
func NewSized[T any](limit, bytes int, size func(T) int) *Box[T] {
	b := New[T](limit)
	b.maxBytes, b.size = bytes, size
	return b
}

// Put adds an event. If the box is full, the event is dropped and counted: its owner
// does not process events, and the memory must not grow.
func (b *Box[T]) Put(v T) {
	size := 0
	if b.size != nil {
		size = b.size(v)
	}
	b.mu.Lock()
	if len(b.queue) >= b.limit || b.maxBytes > 0 && b.bytes+size > b.maxBytes {
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

// PutAlways adds an event also if the box is full. It is for those that must not be lost
// and whose number something else bounds, such as the result of work of which one is
// under way.
func (b *Box[T]) PutAlways(v T) {
	b.mu.Lock()
	b.queue = append(b.queue, v)
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// Ready returns a channel that has a value when there may be something to take.
func (b *Box[T]) Ready() <-chan struct{} { return b.ready }

// Take removes and returns all events, oldest first, and how many were dropped since
// the last Take.
func (b *Box[T]) Take() (events []T, dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	events, dropped = b.queue, b.dropped
	b.queue, b.bytes, b.dropped = nil, 0, 0
	return events, dropped
}
