// Package presence decides when the hub publishes of itself that it is there, and what it is
// and counts (hub/status).
//
// It does no I/O and knows no other part of the hub. Package hub alone imports it, and calls
// it from its loop.
package presence

import (
	"reflect"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Each domain receives hub/status for who the hub is and none for what it counts, so after a
// publication new counts wait perDomain for each domain beyond immediateDomains: a home has
// none of that, and a thousand domains do not receive three times that one of them obeyed.
const (
	immediateDomains = 100
	perDomain        = time.Millisecond
)

// Presence holds what was published last. Make it with New.
type Presence struct {
	// registry are the addresses of the registry.
	registry []string
	options  Options
	// started is when the hub started.
	started time.Time
	// aliveAt is when the next of them is due.
	aliveAt time.Time
	// startedAt is started, as it was published last.
	startedAt topics.Time
	// status was published last.
	status topics.Hub
	// countsAt is until when new counts wait.
	countsAt time.Time
	// waiting reports that there are some.
	waiting bool
}

// Options are what Presence is made of.
type Options struct {
	// Interval is the time between two messages that the hub is there; 0: none are
	// published, since its broker publishes its will.
	Interval time.Duration
	// ID is that of the dominion.
	ID string
	// Version is that of the program.
	Version string
	// Control is the path of the control socket; "": there is none.
	Control string
}

// New returns the Presence of a hub that does not run yet.
func New(o Options) *Presence { return &Presence{options: o} }

// Begin notes when the hub started.
func (p *Presence) Begin(now time.Time) { p.started = now }

// Started returns when the hub started, by its monotonic clock.
func (p *Presence) Started() time.Time { return p.started }

// Version returns the version of the program.
func (p *Presence) Version() string { return p.options.Version }

// Interval returns the time between two messages that the hub is there; 0: there are none.
func (p *Presence) Interval() time.Duration { return p.options.Interval }

// Status returns what the hub publishes of itself, without what it counts. When it started is
// given by the clock as it is now.
func (p *Presence) Status(now time.Time) topics.Hub {
	p.startedAt = topics.StartedAt(p.started, now, p.startedAt)
	return topics.Hub{
		ID: p.options.ID, Version: p.options.Version, Protocol: topics.Protocol,
		StartedAt: p.startedAt, Control: p.options.Control, Registry: p.registry,
	}
}

// SetRegistry sets the addresses of the registry. They must not be changed afterwards.
func (p *Presence) SetRegistry(urls []string) { p.registry = urls }

// AliveDue reports whether it is to be published now that the hub is there.
func (p *Presence) AliveDue(now time.Time) bool {
	if p.options.Interval == 0 || now.Before(p.aliveAt) {
		return false
	}
	p.aliveAt = now.Add(p.options.Interval)
	return true
}

// Accepts reports whether a status may be published now: its counts may have to wait.
func (p *Presence) Accepts(s topics.Hub, now time.Time) bool {
	before := p.status
	before.Domains, before.Services = s.Domains, s.Services
	p.waiting = reflect.DeepEqual(s, before) && now.Before(p.countsAt)
	return !p.waiting
}

// Published notes that a status was published, which so many domains receive.
func (p *Presence) Published(s topics.Hub, domains int, now time.Time) {
	p.status, p.waiting = s, false
	p.countsAt = now.Add(time.Duration(domains-immediateDomains) * perDomain)
}

// Reset has the next status published at once: the broker may not have the last one.
func (p *Presence) Reset() { p.status, p.countsAt, p.waiting = topics.Hub{}, time.Time{}, false }

// StatusDue reports whether counts have waited long enough.
func (p *Presence) StatusDue(now time.Time) bool { return p.waiting && !now.Before(p.countsAt) }

// Next returns when something is due; zero: nothing is scheduled.
func (p *Presence) Next() (next time.Time) {
	if p.options.Interval > 0 {
		next = p.aliveAt
	}
	if p.waiting && (next.IsZero() || p.countsAt.Before(next)) {
		next = p.countsAt
	}
	return next
}
