package engine

import (
	"net"
	"sync"
	"time"
)

// admission counts connections against the limits, and knows those that have
// no session yet.
type admission struct {
	mu        sync.Mutex
	all       map[*conn]struct{}
	byAddress map[string]int
	second    time.Duration
	taken     int
}

func host(remote string) string {
	h, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return h
}

// enter tells whether a connection is within the limits.
func (a *admission) enter(c *conn) bool {
	l := &c.e.limits
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = make(map[*conn]struct{})
		a.byAddress = make(map[string]int)
	}
	now := c.e.now()
	if now-a.second >= time.Second {
		a.second, a.taken = now, 0
	}
	from := host(c.remote)
	switch {
	case len(a.all) >= l.MaxConnections,
		l.ConnectionsPerAddress > 0 && a.byAddress[from] >= l.ConnectionsPerAddress,
		l.ConnectionsPerSecond > 0 && a.taken >= l.ConnectionsPerSecond:
		c.e.stats.turnedAway.Add(1)
		return false
	}
	a.taken++
	a.all[c] = struct{}{}
	a.byAddress[from]++
	return true
}

func (a *admission) leave(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, c)
	from := host(c.remote)
	if a.byAddress[from]--; a.byAddress[from] <= 0 {
		delete(a.byAddress, from)
	}
}

func (a *admission) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.all)
}

// strangers returns the connections that have no session yet. Their goroutines
// set c.s under Engine.mu's and the session's mutexes; whoever asks has closed
// the engine, so that no more do.
func (a *admission) strangers() []*conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []*conn
	for c := range a.all {
		if !c.greeted.Load() {
			all = append(all, c)
		}
	}
	return all
}
