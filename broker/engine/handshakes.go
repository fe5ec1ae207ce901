package engine

import "sync"

// Handshakes holds the connections that have not logged in. Everyone who reaches a
// listener may open one, so their number is limited, and no address can use up all
// places: if there is one too many, the address that has most of them loses its
// oldest. A connection that logs in is removed.
type Handshakes struct {
	limit int

	mu    sync.Mutex
	count int
	last  uint64
	// byAddress has the oldest of each address first.
	byAddress map[string][]*handshake
	rejected  func(address string)
}

// handshake is a connection that has not logged in; number orders them by age.
type handshake struct {
	number uint64
	close  func()
}

// Add registers a connection. done removes it, and may be called twice. If there are
// too many, close of another is called.
func (l *Handshakes) Add(address string, closeConn func()) (done func()) {
	l.mu.Lock()
	if l.byAddress == nil {
		l.byAddress = make(map[string][]*handshake)
	}
	l.last++
	w := &handshake{l.last, closeConn}
	l.byAddress[address] = append(l.byAddress[address], w)
	l.count++
	var from string
	var victim *handshake
	if l.count > l.limit {
		from, victim = l.victim()
		l.remove(from, victim)
	}
	l.mu.Unlock()
	if victim != nil {
		l.rejected(from)
		victim.close()
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.remove(address, w)
	}
}

// victim returns the connection that is to be closed. The caller holds the mutex.
func (l *Handshakes) victim() (address string, w *handshake) {
	for a, all := range l.byAddress {
		if w == nil || len(all) > len(l.byAddress[address]) || len(all) == len(l.byAddress[address]) && all[0].number < w.number {
			address, w = a, all[0]
		}
	}
	return address, w
}

// remove removes a connection, if it is registered. The caller holds the mutex.
func (l *Handshakes) remove(address string, w *handshake) {
	all := l.byAddress[address]
	for i := range all {
		if all[i] != w {
			continue
		}
		l.count--
		if len(all) == 1 {
			delete(l.byAddress, address)
			return
		}
		copy(all[i:], all[i+1:])
		all[len(all)-1] = nil
		l.byAddress[address] = all[:len(all)-1]
		return
	}
}
