package bridge

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Status is the state of a bridge and its counters since the start.
type Status struct {
	Connected bool
	// Since is when it connected or disconnected.
	Since time.Time
	// Reason is why it is not connected.
	Reason string
	// Refused is the number of refused messages.
	Refused uint64
	// Last is the last refused message.
	Last *Refusal
	// Filters are the subscriptions that are refused, with the reason, sorted.
	Filters []string
}

// bridgeStatus is the part of a bridge that other goroutines may read.
type bridgeStatus struct {
	mu     sync.Mutex
	status Status
	// refusedFilters are the refused subscriptions, with the reason.
	refusedFilters map[string]string
	// loggedTopics are the topics of refusals that were logged since loggedSince.
	loggedTopics map[string]bool
	loggedSince  time.Time
}

// Status returns a copy of the status.
func (r *bridgeStatus) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	for _, f := range slices.Sorted(maps.Keys(r.refusedFilters)) {
		s.Filters = append(s.Filters, f+": "+r.refusedFilters[f])
	}
	return s
}

// setState sets and reports whether the bridge is connected.
func (b *Bridge) setState(up bool, reason string) {
	b.mu.Lock()
	if b.status.Connected != up {
		b.status.Connected, b.status.Since = up, time.Now()
	}
	b.status.Reason = reason
	b.mu.Unlock()
	b.State(up, reason)
}
