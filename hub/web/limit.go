package web

import (
	"net"
	"net/http"
	"sync"
)

// limiter bounds the connections that are not WebSockets, so that they do not use
// up the file descriptors of MQTT. When there is one too many, the address with the
// most loses one: its oldest idle one, or else its oldest.
type limiter struct {
	most int

	mu    sync.Mutex
	clock uint64
	open  map[net.Conn]*visit
}

// visit is an open connection.
type visit struct {
	address string
	since   uint64
	idle    bool
}

func newLimiter(most int) *limiter { return &limiter{most: most, open: make(map[net.Conn]*visit)} }

// state is the ConnState of the servers.
func (l *limiter) state(c net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateNew:
		if len(l.open) >= l.most {
			l.closeOne()
		}
		l.clock++
		address, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		l.open[c] = &visit{address: address, since: l.clock, idle: true}
	case http.StateActive, http.StateIdle:
		if v := l.open[c]; v != nil {
			v.idle = state == http.StateIdle
		}
	case http.StateHijacked, http.StateClosed:
		delete(l.open, c)
	}
}

// closeOne makes room. The caller holds the mutex.
func (l *limiter) closeOne() {
	of := make(map[string]int)
	for _, v := range l.open {
		of[v.address]++
	}
	var victim net.Conn
	for c, v := range l.open {
		if victim == nil || worse(v, l.open[victim], of) {
			victim = c
		}
	}
	delete(l.open, victim)
	_ = victim.Close() // its server notices
}

// worse reports whether a is closed before b.
func worse(a, b *visit, of map[string]int) bool {
	if of[a.address] != of[b.address] {
		return of[a.address] > of[b.address]
	}
	if a.idle != b.idle {
		return a.idle
	}
	return a.since < b.since
}
