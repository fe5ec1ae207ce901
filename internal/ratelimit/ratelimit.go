// Package ratelimit bounds how often something is reported: a peer that repeats a
// mistake must not fill logs, networks and disks.
package ratelimit

import "time"

// Window bounds the reports of a minute, for each cause and in all. A window begins
// with its first report. It is not for concurrent use.
type Window struct {
	max        int // of all causes together
	ends       time.Time
	byCause    map[string]int
	total      int
	suppressed int
}

const length = time.Minute

// New returns a window of at most max reports a minute.
func New(max int) *Window { return &Window{max: max, byCause: make(map[string]int)} }

// Allow reports whether something may be reported of a cause of which at most max
// reports a minute are wanted, and counts it.
func (w *Window) Allow(cause string, max int, now time.Time) bool {
	if w.ends.IsZero() {
		w.ends = now.Add(length)
	}
	if w.total >= w.max || w.byCause[cause] >= max {
		w.suppressed++
		return false
	}
	w.byCause[cause]++
	w.total++
	return true
}

// Expire ends a window whose minute is over, and returns how many reports it did not
// allow.
func (w *Window) Expire(now time.Time) (suppressed int) {
	if w.ends.IsZero() || now.Before(w.ends) {
		return 0
	}
	suppressed = w.suppressed
	*w = *New(w.max)
	return suppressed
}

// Next returns when the window ends; zero: it has not begun.
func (w *Window) Next() time.Time { return w.ends }
