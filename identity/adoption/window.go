package adoption

import (
	"errors"
	"fmt"
	"time"
)

// Times of windows.
const (
	// DefaultWindow is how long permit-join opens a window by default.
	DefaultWindow = 2 * time.Minute
	// MaxWindow is the longest window.
	MaxWindow = 10 * time.Minute
	// DomainWindow is how long domain join open makes a domain join any dominion that is open.
	DomainWindow = 10 * time.Minute
)

// Window is the hub's: while it is open, a domain that asks for it is adopted without
// code and token. The time that is handed in must have a monotonic reading, so that
// setting the clock does not hold it open. The zero Window is closed, and so it is after a restart.
type Window struct {
	// Always is true for [identity] adoption = "open": a window without an end.
	Always bool

	until time.Time
	left  int
}

// Open opens the window for a duration and a number of domains. Zeros are the defaults: 2m, 1.
func (w *Window) Open(d time.Duration, count int, now time.Time) error {
	if d == 0 {
		d = DefaultWindow
	}
	if count == 0 {
		count = 1
	}
	if d < 0 || d > MaxWindow {
		return fmt.Errorf("cannot open the window for %v: use up to %v", d, MaxWindow)
	}
	if count < 0 || count > maxWaiting {
		return fmt.Errorf("cannot open the window for %d domains: use 1 to %d", count, maxWaiting)
	}
	w.until, w.left = now.Add(d), count
	return nil
}

// Close closes the window; one that is open always stays open.
func (w *Window) Close() { w.until, w.left = time.Time{}, 0 }

// IsOpen reports whether a domain may be adopted now.
func (w *Window) IsOpen(now time.Time) bool {
	return w.Always || w.left > 0 && now.Before(w.until)
}

// Take takes one domain in. It returns an error if the window is closed.
func (w *Window) Take(now time.Time) error {
	if !w.IsOpen(now) {
		return errors.New("the window is closed: open it with permit-join, or use the machine's code")
	}
	if w.Always {
		return nil
	}
	if w.left--; w.left == 0 {
		w.Close()
	}
	return nil
}

// Next returns when the window closes by itself; zero if it does not.
func (w *Window) Next() time.Time { return w.until }

// Left returns how many domains it still adopts; 0: it is closed, or there is no limit.
func (w *Window) Left() int {
	if w.Always {
		return 0
	}
	return w.left
}

// Expire closes a window whose time is over, and reports whether it did.
func (w *Window) Expire(now time.Time) bool {
	if w.until.IsZero() || now.Before(w.until) {
		return false
	}
	w.Close()
	return true
}
