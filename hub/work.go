package hub

import (
	"sync"
	"time"

	"github.com/jmbarzee/dominion/hub/adoption"
)

// work does what takes too long for the loop, one after the other, in a goroutine that runs
// while there is something to do. The loop owns it.
type work struct {
	// done hands a result to the loop. It is called beside the loop.
	done    func(workDone)
	waiting []adoption.Work
	busy    bool
	ended   sync.WaitGroup
}

// Put adds work.
func (w *work) Put(one adoption.Work) {
	w.waiting = append(w.waiting, one)
	w.next()
}

// Len returns how much waits.
func (w *work) Len() int { return len(w.waiting) }

// next begins the next one.
func (w *work) next() {
	if w.busy || len(w.waiting) == 0 {
		return
	}
	one := w.waiting[0]
	w.waiting = w.waiting[1:]
	w.busy = true
	w.ended.Go(func() { w.done(workDone(one())) })
}

// take carries out a result, and begins the next work.
func (w *work) take(d workDone, now time.Time) {
	w.busy = false
	d(now)
	w.next()
}

// Close waits for the work that was begun.
func (w *work) Close() { w.ended.Wait() }
