package engine

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
)

// fullness is what the engine knows of a store that refuses messages, so that
// most of what the store would refuse is refused without asking it.
type fullness struct {
	since    atomic.Int64 // the last try, since Engine.began; 0: the store takes everything
	smallest atomic.Int64 // bytes of the smallest batch that was refused
}

// refuser is a store that knows itself whether it refuses what is large.
type refuser interface{ Refuses() bool }

// storeRefuses reports whether the store refused something and does not take
// everything again yet.
func (e *Engine) storeRefuses() bool {
	if s, knows := e.store.(refuser); knows {
		return s.Refuses()
	}
	return e.full.since.Load() != 0
}

// StoreFull reports whether the store refused something and does not take
// everything again yet.
func (e *Engine) StoreFull() bool { return e.store != nil && e.storeRefuses() }

// refuses reports whether a message of a size that must be stored is refused
// without a try: something of about its size was refused a moment ago.
func (e *Engine) refuses(size int) bool {
	f := &e.full
	at := f.since.Load()
	if at == 0 || 2*int64(size) < f.smallest.Load() {
		return false
	}
	if !e.storeRefuses() {
		f.since.Store(0)
		return false
	}
	now := int64(e.now())
	// one a second tries whether there is room again
	return now-at < int64(time.Second) || !f.since.CompareAndSwap(at, now)
}

// storeAnswered notes what the store answers.
func (e *Engine) storeAnswered(records []store.Record, err error) {
	f := &e.full
	if err == nil {
		if _, knows := e.store.(refuser); f.since.Load() != 0 && (!knows || !e.storeRefuses()) {
			f.since.Store(0)
		}
		return
	}
	if f.since.Load() == 0 {
		f.smallest.Store(math.MaxInt64)
	}
	if size := int64(sizeOf(records)); size < f.smallest.Load() {
		f.smallest.Store(size)
	}
	f.since.Store(max(int64(e.now()), 1))
}

// sizeOf returns about what the messages in records take on the disk.
func sizeOf(records []store.Record) (size int) {
	var last *store.Message
	for _, r := range records {
		var m *store.Message
		switch r := r.(type) {
		case store.Retain:
			m = r.Message
		case store.Enqueue:
			m = r.Message
		}
		if m != nil && m != last {
			size += len(m.Topic) + len(m.Payload)
			last = m
		}
	}
	return size
}
