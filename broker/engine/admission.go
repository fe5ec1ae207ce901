package engine

import (
	"net"
	"sync"
	"time"
)

// admission counts connections against the limits, and holds all that are open.
type admission struct {
	mu        sync.Mutex
	open      map[*conn]struct{}
	byAddress map[string]int
	// second is when the current second began, since Engine.started.
	second time.Duration
	// accepted counts the connections accepted since then.
	accepted int
}

// host returns an address without its port.
func host(remote string) string {
	h, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return h
}

// admit adds a connection, and reports whether it is within the limits of connections:
// in total, of its address, and a second.
func (a *admission) admit(c *conn) bool {
	l := &c.e.limits
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		a.open = make(map[*conn]struct{})
		a.byAddress = make(map[string]int)
	}
	now := c.e.now()
	if now-a.second >= time.Second {
		a.second, a.accepted = now, 0
	}
	from := host(c.remote)
	if len(a.open) >= l.MaxConnections ||
		l.ConnectionsPerAddress > 0 && a.byAddress[from] >= l.ConnectionsPerAddress ||
		l.ConnectionsPerSecond > 0 && a.accepted >= l.ConnectionsPerSecond {
		c.e.stats.connectionsRefused.Add(1)
		return false
	}
	a.accepted++
	a.open[c] = struct{}{}
	a.byAddress[from]++
	return true
}

// release removes a connection.
func (a *admission) release(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, c)
	from := host(c.remote)
	if a.byAddress[from]--; a.byAddress[from] <= 0 {
		delete(a.byAddress, from)
	}
}

// count returns the number of connections.
func (a *admission) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.open)
}

// withoutSession returns the connections that have no session yet. Their goroutines
// set conn.s under Engine.mu and the session's mutex; the caller has closed the
// engine, so no more of them do.
func (a *admission) withoutSession() []*conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []*conn
	for c := range a.open {
		if !c.hasSession.Load() {
			all = append(all, c)
		}
	}
	return all
}
