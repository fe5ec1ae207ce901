package engine

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/jmbarzee/dominion/broker/wire"
)

// counters are the statistics since the start.
type counters struct {
	published          atomic.Uint64
	dropped            atomic.Uint64
	refused            atomic.Uint64
	retainedRefused    atomic.Uint64
	connects           atomic.Uint64
	connectionsRefused atomic.Uint64
	userRefused        atomic.Uint64
	userEnded          atomic.Uint64
	overQuota          atomic.Uint64
	// maxSessions is written under Engine.mu.
	maxSessions atomic.Int64
	expired     atomic.Uint64
	wills       atomic.Uint64
	in, out     traffic
	// ended is indexed by reason code.
	ended [256]atomic.Uint64
}

// traffic counts one direction.
type traffic struct {
	packets, bytes, publishes, payload atomic.Uint64
}

// add adds to the counters.
func (t *traffic) add(n Traffic) {
	t.packets.Add(n.Packets)
	t.bytes.Add(n.Bytes)
	if n.Publishes > 0 {
		t.publishes.Add(n.Publishes)
		t.payload.Add(n.Payload)
	}
}

// now returns the counters.
func (t *traffic) now() Traffic {
	return Traffic{t.packets.Load(), t.bytes.Load(), t.publishes.Load(), t.payload.Load()}
}

// Traffic is what was transferred in one direction since the start.
type Traffic struct {
	// Packets and Bytes are of all packet types.
	Packets, Bytes uint64
	// Publishes is the number of PUBLISH packets.
	Publishes uint64
	// Payload is the number of payload bytes in them.
	Payload uint64
}

// Stats are the statistics of an engine since its start, and its current figures.
type Stats struct {
	// Connections, now.
	Connections int
	// Sessions, now, with those that are offline.
	Sessions int
	// Offline is the number of sessions without a connection, now.
	Offline int
	// MaxSessions is the maximum number of sessions at a time.
	MaxSessions int
	// Expired is the number of sessions that expired.
	Expired uint64
	// Subscriptions, now, with shared ones.
	Subscriptions int
	// Shared is the number of these that are shared.
	Shared int
	// Queued is the number of messages of QoS 1 and 2 that wait for their clients,
	// now.
	Queued      int
	QueuedBytes int
	// Wills is the number of wills that were published.
	Wills   uint64
	In, Out Traffic
	// Ended is the number of connections that the broker ended, by reason code.
	Ended map[byte]uint64
	// Retained is the number of retained messages, now.
	Retained int
	// RetainedBytes is their size, now.
	RetainedBytes int
	// Published is the number of messages that were accepted.
	Published uint64
	// Dropped is the number of deliveries that were dropped.
	Dropped uint64
	// Refused is the number of messages that were not allowed, or beyond a limit.
	Refused uint64
	// RetainedRefused is the number of messages that were not retained for lack of
	// room.
	RetainedRefused uint64
	Connects        uint64
	// ConnectionsRefused is the number of connections beyond the limits.
	ConnectionsRefused uint64
	// UserRefused, UserEnded and UserDropped count the effects of the limits of users:
	// clients that were refused, sessions that ended for newer ones, messages that
	// were dropped.
	UserRefused, UserEnded, UserDropped uint64
	// Memory is what is held now, MemoryLimit its limit (0: none).
	Memory, MemoryLimit int
	// MemoryRefused counts what was refused or dropped for lack of memory, MemoryEnded
	// the sessions that were evicted.
	MemoryRefused, MemoryEnded uint64
}

// Totals returns the counters only: what was counted since the start.
func (e *Engine) Totals() Stats {
	return Stats{
		Published:          e.stats.published.Load(),
		Dropped:            e.stats.dropped.Load(),
		Refused:            e.stats.refused.Load(),
		RetainedRefused:    e.stats.retainedRefused.Load(),
		Connects:           e.stats.connects.Load(),
		ConnectionsRefused: e.stats.connectionsRefused.Load(),
		UserRefused:        e.stats.userRefused.Load(),
		UserEnded:          e.stats.userEnded.Load(),
		UserDropped:        e.stats.overQuota.Load(),
		MaxSessions:        int(e.stats.maxSessions.Load()),
		Expired:            e.stats.expired.Load(),
		Wills:              e.stats.wills.Load(),
		In:                 e.stats.in.now(),
		Out:                e.stats.out.now(),
	}
}

// Stats returns all figures. It visits each session.
func (e *Engine) Stats() Stats {
	s := e.Totals()
	s.Connections = e.admission.count()
	s.Memory, s.MemoryRefused, s.MemoryEnded = int(e.memory.total()), e.memory.refused.Load(), e.memory.evicted.Load()
	if e.memory.limit < unlimited {
		s.MemoryLimit = int(e.memory.limit)
	}
	s.Ended = make(map[byte]uint64)
	s.Retained, s.RetainedBytes = e.retained.count()
	for code := range e.stats.ended {
		if n := e.stats.ended[code].Load(); n > 0 {
			s.Ended[byte(code)] = n
		}
	}
	e.mu.RLock()
	all := slices.Collect(maps.Values(e.sessions))
	e.mu.RUnlock()
	s.Sessions = len(all)
	for _, one := range all {
		one.mu.Lock()
		if one.conn == nil {
			s.Offline++
		}
		s.Subscriptions += len(one.subscriptions)
		for filter := range one.subscriptions {
			if group, _ := wire.SplitShared(filter); group != "" {
				s.Shared++
			}
		}
		s.Queued += one.flow.queue.len() + one.flow.flights.len()
		s.QueuedBytes += one.queuedBytes
		one.mu.Unlock()
	}
	return s
}
