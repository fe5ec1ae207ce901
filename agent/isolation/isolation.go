// Package isolation decides when a domain is lonely: no hub was reachable for the
// isolation time. A lonely domain is announced by zeroconf and searches for other hubs;
// its services run on.
//
// The agent's loop reports whether a hub is reachable; the package owns the announcement
// and its goroutine. It does not know how a hub is found. Only package agent imports it.
package isolation

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// announceDelay is how long a domain is lonely before it is announced: most are lonely
// for a moment only, at their start.
const announceDelay = 2 * time.Second

// Options are what a monitor works with.
type Options struct {
	// Timeout is for how long no hub is reachable before the domain is lonely.
	Timeout time.Duration
	// Search begins or ends the search for other hubs.
	Search func(on bool)
	// Stranger is called when no hub was reachable for the timeout, also after the start,
	// and when one is again; nil: it is not called.
	Stranger func(on bool)
	// Announcement returns a function that announces the domain as it is now, until
	// ctx ends; nil: it is not announced.
	Announcement func() func(ctx context.Context) error
	Log          *slog.Logger
}

// Monitor is whether a domain is lonely. Make it with New.
type Monitor struct {
	o Options
	// unreachableSince is since when no hub is reachable; zero: one is.
	unreachableSince time.Time
	lonely           bool
	// stranger reports that no hub was reachable for the timeout.
	stranger bool
	// withdraw ends the announcement; nil: there is none.
	withdraw context.CancelFunc
	// announcements are the goroutines of the announcements.
	announcements sync.WaitGroup
}

// New returns the monitor of a domain that is not lonely yet.
func New(o Options) *Monitor { return &Monitor{o: o} }

// Begin makes the domain lonely, as it has no hub when its agent starts.
func (m *Monitor) Begin(now time.Time) {
	m.unreachableSince = now
	m.setLonely(true)
}

// Restart begins the time without a hub anew, as another dominion has adopted the domain.
func (m *Monitor) Restart(now time.Time) {
	m.stranger = false
	if !m.unreachableSince.IsZero() {
		m.unreachableSince = now
	}
}

// SetTimeout sets for how long no hub is reachable before the domain is lonely.
func (m *Monitor) SetTimeout(d time.Duration) { m.o.Timeout = d }

// SetReachable notes whether a hub is reachable now. While one is, the domain is not
// lonely.
func (m *Monitor) SetReachable(reachable bool, now time.Time) {
	if !reachable {
		if m.unreachableSince.IsZero() {
			m.unreachableSince = now
		}
		return
	}
	m.unreachableSince = time.Time{}
	m.setStranger(false)
	if m.lonely {
		m.setLonely(false)
	}
}

// Expire makes the domain lonely, and a stranger, when no hub was reachable for the
// isolation time.
func (m *Monitor) Expire(now time.Time) {
	at := m.Next()
	if at.IsZero() || now.Before(at) {
		return
	}
	if !m.lonely {
		m.o.Log.Warn("no hub is reachable: the domain is lonely; services run on, searching for a hub", "since", m.unreachableSince.Format(time.TimeOnly))
		m.setLonely(true)
	}
	m.setStranger(true)
}

// setStranger says to the user of the monitor when the domain becomes a stranger, or
// ceases to be one.
func (m *Monitor) setStranger(on bool) {
	if m.stranger != on && m.o.Stranger != nil {
		m.stranger = on
		m.o.Stranger(on)
	}
}

// Next returns when Expire has something to do; zero: not by itself.
func (m *Monitor) Next() time.Time {
	waits := !m.lonely || m.o.Stranger != nil && !m.stranger
	if !waits || m.unreachableSince.IsZero() {
		return time.Time{}
	}
	return m.unreachableSince.Add(m.o.Timeout)
}

// setLonely begins or ends the search for other hubs and the announcement.
func (m *Monitor) setLonely(lonely bool) {
	m.lonely = lonely
	m.o.Search(lonely)
	m.Withdraw()
	if !lonely || m.o.Announcement == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.withdraw = cancel
	announce := m.o.Announcement()
	m.announcements.Go(func() { m.announce(ctx, announce) })
}

// announce announces the domain until ctx ends, and again after an error.
func (m *Monitor) announce(ctx context.Context, announce func(context.Context) error) {
	for {
		timer := time.NewTimer(announceDelay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := announce(ctx); ctx.Err() == nil {
			m.o.Log.Warn("cannot announce this domain by zeroconf", "error", err)
		}
	}
}

// Withdraw ends the announcement, without waiting for its end.
func (m *Monitor) Withdraw() {
	if m.withdraw != nil {
		m.withdraw()
		m.withdraw = nil
	}
}

// Close ends the announcement and waits for its end.
func (m *Monitor) Close() {
	m.Withdraw()
	m.announcements.Wait()
}
