package engine

import "sync/atomic"

type counters struct {
	published       atomic.Uint64
	dropped         atomic.Uint64
	refused         atomic.Uint64
	retainedRefused atomic.Uint64
	connects        atomic.Uint64
	turnedAway      atomic.Uint64
}

// Stats is what an engine did since its start, and what it has now.
type Stats struct {
	Connections     int    // now
	Sessions        int    // now, with those that are offline
	Retained        int    // messages, now
	RetainedBytes   int    // now
	Published       uint64 // messages that were taken
	Dropped         uint64 // deliveries: the client did not take them in time
	Refused         uint64 // messages: not allowed, or beyond a limit
	RetainedRefused uint64 // messages that were not kept for want of room
	Connects        uint64
	TurnedAway      uint64 // connections beyond the limits
}

// Stats returns the counters as they are.
func (e *Engine) Stats() Stats {
	e.mu.RLock()
	sessions := len(e.sessions)
	e.mu.RUnlock()
	messages, bytes := e.retained.count()
	return Stats{
		Connections:     e.admission.count(),
		Sessions:        sessions,
		Retained:        messages,
		RetainedBytes:   bytes,
		Published:       e.stats.published.Load(),
		Dropped:         e.stats.dropped.Load(),
		Refused:         e.stats.refused.Load(),
		RetainedRefused: e.stats.retainedRefused.Load(),
		Connects:        e.stats.connects.Load(),
		TurnedAway:      e.stats.turnedAway.Load(),
	}
}
