package adoption

import (
	"fmt"
	"time"
)

const (
	firstWait = time.Second
	maxWait   = time.Minute
	// forgetAfter is how long the wrong codes of an asker count.
	forgetAfter = 10 * time.Minute
	maxAskers   = 256
)

// Limiter slows wrong codes, for each asker: 1 s after the first, doubling to 1 min. An asker is
// what the caller tells them apart by: a hub at a domain, a user at a hub. The zero Limiter
// is ready for use.
type Limiter struct {
	askers map[string]*asker
}

// asker is one that had a wrong code.
type asker struct {
	wait  time.Duration
	until time.Time
	last  time.Time
}

// Check returns an error that wraps ErrTooSoon if an asker has to wait.
func (l *Limiter) Check(name string, now time.Time) error {
	if a := l.askers[name]; a != nil && now.Before(a.until) {
		const unit = 100 * time.Millisecond
		return fmt.Errorf("%w %v", ErrTooSoon, (a.until.Sub(now) + unit - 1).Truncate(unit))
	}
	return nil
}

// Wrong records a wrong code of an asker, and returns how long it has to wait.
func (l *Limiter) Wrong(name string, now time.Time) time.Duration {
	if l.askers == nil {
		l.askers = make(map[string]*asker)
	}
	a := l.askers[name]
	if a == nil || now.Sub(a.last) > forgetAfter {
		l.makeRoom(now)
		a = &asker{wait: firstWait / 2}
		l.askers[name] = a
	}
	a.wait = min(2*a.wait, maxWait)
	a.last, a.until = now, now.Add(a.wait)
	return a.wait
}

// Right forgets the wrong codes of an asker.
func (l *Limiter) Right(name string) { delete(l.askers, name) }

// makeRoom removes askers whose wrong codes do not count any more, and if there are too many the one
// that was wrong the longest ago.
func (l *Limiter) makeRoom(now time.Time) {
	if len(l.askers) < maxAskers {
		return
	}
	var oldest string
	for name, a := range l.askers {
		if now.Sub(a.last) > forgetAfter {
			delete(l.askers, name)
		} else if o := l.askers[oldest]; o == nil || a.last.Before(o.last) {
			oldest = name
		}
	}
	if len(l.askers) >= maxAskers {
		delete(l.askers, oldest)
	}
}
