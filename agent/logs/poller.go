package logs

import "time"

// The intervals of polling.
const (
	capInterval    = 250 * time.Millisecond // while services run: a flood fills a disk by the second
	followInterval = 250 * time.Millisecond
	floodInterval  = 20 * time.Millisecond // while a service fills its log
)

// Poller polls a Dir when it is due: to cap the logs while a service may write, and to
// return new lines while a client follows them. Make it with NewPoller.
type Poller struct {
	*Dir
	// at is when the logs are polled next, if they must be.
	at time.Time
	// least is the least time between two polls that only cap the logs.
	least time.Duration
}

// NewPoller returns the poller of a Dir. least is the least time between two polls
// that only cap the logs.
func NewPoller(d *Dir, least time.Duration, now time.Time) *Poller {
	return &Poller{Dir: d, at: now, least: least}
}

// Follow has the new lines of a service returned until a time.
func (p *Poller) Follow(service string, now, until time.Time) {
	p.Dir.Follow(service, now, until)
	p.at = now.Add(followInterval)
}

// Expire polls the logs if they are due, and returns new lines of services that are
// followed. writing reports that a service may write.
func (p *Poller) Expire(now time.Time, writing bool) []Line {
	at := p.Next(now, writing)
	if at.IsZero() || now.Before(at) {
		return nil
	}
	lines := p.Poll(now)
	switch {
	case p.Flooded(now):
		p.at = now.Add(floodInterval)
	case p.Following(now):
		p.at = now.Add(followInterval)
	default:
		p.at = now.Add(max(capInterval, p.least))
	}
	return lines
}

// Next returns when Expire has something to do; zero: not by itself.
func (p *Poller) Next(now time.Time, writing bool) time.Time {
	if !writing && !p.Following(now) {
		return time.Time{}
	}
	return p.at
}
