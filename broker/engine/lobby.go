package engine

import "sync"

// Lobby holds the connections that have not said who they are. Whoever reaches
// a listener may open one, so they are few, and nobody takes the places of all:
// when there is one too many, the address that has the most loses the one that
// waits longest. Connections that are let in leave it.
type Lobby struct {
	most int

	mu       sync.Mutex
	count    int
	last     uint64
	waits    map[string][]*waiting // by address, those that wait longest first
	rejected func(address string)
}

type waiting struct {
	number uint64
	hangUp func()
}

// Enter takes a connection in. leave takes it out again, and may be called
// twice.
func (l *Lobby) Enter(address string, hangUp func()) (leave func()) {
	l.mu.Lock()
	if l.waits == nil {
		l.waits = make(map[string][]*waiting)
	}
	l.last++
	w := &waiting{l.last, hangUp}
	l.waits[address] = append(l.waits[address], w)
	l.count++
	var from string
	var out *waiting
	if l.count > l.most {
		from, out = l.longest()
		l.remove(from, out)
	}
	l.mu.Unlock()
	if out != nil {
		l.rejected(from)
		out.hangUp()
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.remove(address, w)
	}
}

// longest returns who has to go. The caller holds the mutex.
func (l *Lobby) longest() (address string, w *waiting) {
	for a, all := range l.waits {
		if w == nil || len(all) > len(l.waits[address]) || len(all) == len(l.waits[address]) && all[0].number < w.number {
			address, w = a, all[0]
		}
	}
	return address, w
}

func (l *Lobby) remove(address string, w *waiting) {
	all := l.waits[address]
	for i := range all {
		if all[i] != w {
			continue
		}
		l.count--
		if len(all) == 1 {
			delete(l.waits, address)
			return
		}
		copy(all[i:], all[i+1:])
		all[len(all)-1] = nil
		l.waits[address] = all[:len(all)-1]
		return
	}
}
