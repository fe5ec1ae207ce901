package engine

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/jmbarzee/dominion/broker/wire"
)

type counters struct {
	published       atomic.Uint64
	dropped         atomic.Uint64
	refused         atomic.Uint64
	retainedRefused atomic.Uint64
	connects        atomic.Uint64
	turnedAway      atomic.Uint64
	clientsRefused  atomic.Uint64
	sessionsEnded   atomic.Uint64
	crowded         atomic.Uint64
	most            atomic.Int64 // sessions; written under Engine.mu
	expired         atomic.Uint64
	wills           atomic.Uint64
	in, out         traffic
	ended           [256]atomic.Uint64 // by reason code
}

// traffic counts one way.
type traffic struct {
	packets, bytes, publishes, payload atomic.Uint64
}

func (t *traffic) add(n Traffic) {
	t.packets.Add(n.Packets)
	t.bytes.Add(n.Bytes)
	if n.Publishes > 0 {
		t.publishes.Add(n.Publishes)
		t.payload.Add(n.Payload)
	}
}

func (t *traffic) now() Traffic {
	return Traffic{t.packets.Load(), t.bytes.Load(), t.publishes.Load(), t.payload.Load()}
}

// Traffic is what went over the connections one way since the start.
type Traffic struct {
	Packets, Bytes uint64 // of all kinds
	Publishes      uint64 // PUBLISH packets
	Payload        uint64 // bytes in them
}

// Stats is what an engine did since its start, and what it has now.
type Stats struct {
	Connections     int    // now
	Sessions        int    // now, with those that are offline
	Offline         int    // sessions without a connection, now
	Most            int    // sessions there were at a time
	Expired         uint64 // sessions whose time was over
	Subscriptions   int    // now, shared ones too
	Shared          int    // of these
	Queued          int    // messages of QoS 1 and 2 that wait for their clients, now
	QueuedBytes     int
	Wills           uint64 // that were published
	In, Out         Traffic
	Ended           map[byte]uint64 // connections the broker ended, by reason code
	Retained        int             // messages, now
	RetainedBytes   int             // now
	Published       uint64          // messages that were taken
	Dropped         uint64          // deliveries: the client did not take them in time
	Refused         uint64          // messages: not allowed, or beyond a limit
	RetainedRefused uint64          // messages that were not kept for want of room
	Connects        uint64
	TurnedAway      uint64 // connections beyond the limits
	// What the limits of users did: clients that were refused, sessions that
	// ended for newer ones, messages that were dropped.
	UserRefused, UserEnded, UserDropped uint64
	// The account of memory: what is held now, its limit (0: none), and what it
	// did: things that were refused or dropped, and sessions that were ended.
	Memory, MemoryLimit        int
	MemoryRefused, MemoryEnded uint64
}

// Totals returns the counters alone: what was done since the start.
func (e *Engine) Totals() Stats {
	return Stats{
		Published:       e.stats.published.Load(),
		Dropped:         e.stats.dropped.Load(),
		Refused:         e.stats.refused.Load(),
		RetainedRefused: e.stats.retainedRefused.Load(),
		Connects:        e.stats.connects.Load(),
		TurnedAway:      e.stats.turnedAway.Load(),
		UserRefused:     e.stats.clientsRefused.Load(),
		UserEnded:       e.stats.sessionsEnded.Load(),
		UserDropped:     e.stats.crowded.Load(),
		Most:            int(e.stats.most.Load()),
		Expired:         e.stats.expired.Load(),
		Wills:           e.stats.wills.Load(),
		In:              e.stats.in.now(),
		Out:             e.stats.out.now(),
	}
}

// Stats returns all figures as they are. It looks at each session.
func (e *Engine) Stats() Stats {
	s := e.Totals()
	s.Connections = e.admission.count()
	s.Memory, s.MemoryRefused, s.MemoryEnded = int(e.memory.total()), e.memory.refused.Load(), e.memory.ended.Load()
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
		s.Subscriptions += len(one.subs)
		for filter := range one.subs {
			if group, _ := wire.Shared(filter); group != "" {
				s.Shared++
			}
		}
		s.Queued += one.flow.queue.len() + one.flow.flights.len()
		s.QueuedBytes += one.bytes
		one.mu.Unlock()
	}
	return s
}
