// Package workqueue orders the work that takes too long for the hub's loop and belongs to
// one domain: verifying what the domain signed, and signing what it is answered. The work of
// one domain is done one after the other, so that its messages keep their order; that of
// several domains at once.
//
// It does no I/O, has no goroutine and knows no other part of the hub: the hub runs what Take
// returns beside its loop, and hands the result to Done. Package hub alone imports it.
package workqueue

import (
	"errors"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/identity/signed"
)

// What may wait: whoever controls the broker can send any number of messages.
const (
	maxOfDomain = 64
	maxBytes    = 64 << 20
)

// maxBatch is how much of several domains is run in one go when much waits: each result costs
// the hub a round of its loop.
const maxBatch = 32

// Work is work of one domain.
type Work struct {
	// Domain is the id of the domain.
	Domain string
	// Source is what senders of messages are told apart by: those of wrong signatures are rate
	// limited; "": the work is the hub's own.
	Source string
	// Key is what work of the domain is told apart by: while such work waits or is being done,
	// more of it is not added, which is no error; "": it is always added.
	Key string
	// Size is how many bytes of a message it holds in memory.
	Size int
	// Run runs beside the loop. done is called in the loop; err reports that what it has
	// verified is not believed.
	Run func() (done func(now time.Time), err error)
	// Failed is called in the loop with the error of Run.
	Failed func(err error, now time.Time)
}

// Result is the result of what Take returned, for Done.
type Result struct{ all []result }

// result is the result of one Work.
type result struct {
	work Work
	done func(now time.Time)
	err  error
}

// Why work is not added.
var (
	errFull = errors.New("too many messages wait to be verified")
	errMany = errors.New("too many messages came whose signatures are not valid, or that are replayed")
)

// Queue holds the work of domains. Make it with New.
type Queue struct {
	// most is how much is done at once; running is how much is.
	most, running int
	domains       map[string]*domain
	// ready are the domains with work of which none is being done, in their order.
	ready    []string
	bytes    int
	throttle signed.Throttle
}

// domain is the work of a domain.
type domain struct {
	waiting []Work
	busy    bool
	// doing is the key of what is being done.
	doing string
}

// has reports whether work of a key waits or is being done.
func (d *domain) has(key string) bool {
	return d.busy && d.doing == key || slices.ContainsFunc(d.waiting, func(w Work) bool { return w.Key == key })
}

// New returns an empty queue, of which so much is done at once.
func New(most int) *Queue { return &Queue{most: most, domains: make(map[string]*domain)} }

// Add adds work, or returns why it does not.
func (q *Queue) Add(w Work, now time.Time) error {
	d := q.domains[w.Domain]
	if w.Key != "" && d != nil && d.has(w.Key) {
		return nil
	}
	if w.Source != "" {
		if d != nil && len(d.waiting) >= maxOfDomain || q.bytes+w.Size > maxBytes {
			return errFull
		}
		if !q.throttle.Allow(w.Source, now) {
			return errMany
		}
	}
	if d == nil {
		d = new(domain)
		q.domains[w.Domain] = d
	}
	q.bytes += w.Size
	d.waiting = append(d.waiting, w)
	if !d.busy && len(d.waiting) == 1 {
		q.ready = append(q.ready, w.Domain)
	}
	return nil
}

// Suspect rate limits a source as if a signature had been wrong: what it sent is signed, and is not
// taken, so it may be replayed without end.
func (q *Queue) Suspect(source string, now time.Time) { q.throttle.Failed(source, now) }

// Take returns the next work that is to be run beside the loop; its result is for Done. nil:
// there is none, or enough is being done.
func (q *Queue) Take() func() Result {
	if len(q.ready) == 0 || q.running >= q.most {
		return nil
	}
	batch := make([]Work, 0, min(max(1, len(q.ready)/q.most), maxBatch))
	for _, id := range q.ready[:cap(batch)] {
		d := q.domains[id]
		batch = append(batch, d.waiting[0])
		d.busy, d.doing = true, d.waiting[0].Key
		d.waiting = d.waiting[1:]
	}
	q.ready = q.ready[len(batch):]
	q.running++
	return func() (r Result) {
		for _, w := range batch {
			done, err := w.Run()
			r.all = append(r.all, result{w, done, err})
		}
		return r
	}
}

// Done carries out a result in the loop.
func (q *Queue) Done(r Result, now time.Time) {
	q.running--
	for _, one := range r.all {
		q.done(one, now)
	}
}

// done carries out the result of one Work.
func (q *Queue) done(r result, now time.Time) {
	id := r.work.Domain
	d := q.domains[id]
	q.bytes -= r.work.Size
	d.busy = false
	if len(d.waiting) > 0 {
		q.ready = append(q.ready, id)
	} else {
		delete(q.domains, id)
	}
	if r.err == nil {
		r.done(now)
		return
	}
	if r.work.Source != "" {
		q.throttle.Failed(r.work.Source, now)
	}
	r.work.Failed(r.err, now)
}
