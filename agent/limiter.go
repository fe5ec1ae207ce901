package agent

import "time"

// limiter keeps a peer that repeats a mistake from filling log and network:
// the same text passes once a window, and so many different ones at most.
type limiter struct {
	since time.Time
	said  map[string]bool
}

const (
	refusalWindow = time.Minute
	maxRefusals   = 20
)

func newLimiter() *limiter { return &limiter{} }

func (l *limiter) allow(text string, now time.Time) bool {
	if l.since.IsZero() || now.Sub(l.since) >= refusalWindow {
		l.since, l.said = now, make(map[string]bool)
	}
	if l.said[text] || len(l.said) == maxRefusals {
		return false
	}
	l.said[text] = true
	return true
}
