package engine

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
)

// storeFullState is what the engine knows of a store that refuses messages, so that
// most of what the store would refuse is refused without asking it.
type storeFullState struct {
	// lastTry is when the store last refused, since Engine.started; 0: it accepts
	// everything.
	lastTry atomic.Int64
	// smallestRefused is the size in bytes of the smallest batch that was refused.
	smallestRefused atomic.Int64
}

// fullReporter is a store that reports itself whether it refuses large records.
type fullReporter interface{ Refuses() bool }

// storeRefuses reports whether the store refused something and does not accept
// everything again yet.
func (e *Engine) storeRefuses() bool {
	if s, ok := e.store.(fullReporter); ok {
		return s.Refuses()
	}
	return e.storeFull.lastTry.Load() != 0
}

// StoreFull reports whether the store refused something and does not accept everything
// again yet.
func (e *Engine) StoreFull() bool { return e.store != nil && e.storeRefuses() }

// expectRefusal reports whether a message of size bytes is to be refused without
// asking the store: something of about its size was refused within the last second.
// Once a second one message is let through, to find out whether there is space again.
func (e *Engine) expectRefusal(size int) bool {
	f := &e.storeFull
	at := f.lastTry.Load()
	if at == 0 || 2*int64(size) < f.smallestRefused.Load() {
		return false
	}
	if !e.storeRefuses() {
		f.lastTry.Store(0)
		return false
	}
	now := int64(e.now())
	// one message a second tries whether there is space again
	return now-at < int64(time.Second) || !f.lastTry.CompareAndSwap(at, now)
}

// noteStoreResult updates storeFull by the result of a batch of records.
func (e *Engine) noteStoreResult(records []store.Record, err error) {
	f := &e.storeFull
	if err == nil {
		if _, ok := e.store.(fullReporter); f.lastTry.Load() != 0 && (!ok || !e.storeRefuses()) {
			f.lastTry.Store(0)
		}
		return
	}
	if f.lastTry.Load() == 0 {
		f.smallestRefused.Store(math.MaxInt64)
	}
	if size := int64(messageBytes(records)); size < f.smallestRefused.Load() {
		f.smallestRefused.Store(size)
	}
	f.lastTry.Store(max(int64(e.now()), 1))
}

// messageBytes returns the approximate size of the messages in records, each message
// counted once.
func messageBytes(records []store.Record) (size int) {
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
