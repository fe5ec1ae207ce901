package fleet

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Transition is a change of the state of a domain, which is in the domain already.
type Transition struct {
	Domain *Domain
	Was    topics.DomainState
	// First reports that it is online for the first time in this run of the hub.
	First bool
}

// Update judges the state of a domain, and returns what changed.
func (f *Fleet) Update(d *Domain, now time.Time) (t Transition, changed bool) {
	state := f.judge(d, now)
	if state == d.State {
		return Transition{}, false
	}
	t = Transition{Domain: d, Was: d.State}
	d.State, d.Since, d.Gone = state, now, false
	switch state {
	case topics.DomainIsOnline:
		t.First, d.WasOnline = !d.WasOnline, true
		delete(f.lonely, d.Name)
		f.numberRunning(d)
	case topics.DomainIsLost:
		clear(d.RunningOrder) // what runs when it is back is the younger copy
	}
	return t, true
}

// judge returns the state of a domain. A will makes it offline, only silence makes it lost.
// An ordered table: the first row that fits decides.
func (f *Fleet) judge(d *Domain, now time.Time) topics.DomainState {
	beats := f.Beats(d, now)
	switch {
	case d.Micro && d.Available && d.Status != nil:
		return topics.DomainIsOnline
	case d.Micro:
		return topics.DomainIsOffline // it sends no heartbeats, so it cannot be lost
	case beats && d.Available && d.HasBeat && !f.isRevoked(d) && (d.StatusCurrent() || d.Status != nil && d.State == topics.DomainIsOnline):
		return topics.DomainIsOnline
	case beats || !f.settling.ready:
		return topics.DomainIsOffline
	default:
		return topics.DomainIsLost
	}
}

// SetAvailability takes a message at the availability topic of a name, of the domain or of
// its will. It returns the domain; nil: there is none, and one that comes soon will have
// it.
func (f *Fleet) SetAvailability(name string, online, retained bool, now time.Time) *Domain {
	d := f.domains[name]
	if d == nil {
		if f.guests.take(name, now) { // its status follows and makes the record
			f.guests.availability[name] = availability{online, retained}
		}
		return nil
	}
	d.Available, d.availabilityRetained = online, retained
	return d
}

// Withdraw notes that the hub publishes "offline" for a domain that cannot. It reports
// whether that has to be done: it was available.
func (d *Domain) Withdraw() bool {
	was := d.Available
	d.Available = false
	return was
}

// RetainedHeartbeat takes a heartbeat that the broker had stored. It is no sign of life, and
// shows which session the domain had.
func (f *Fleet) RetainedHeartbeat(name string, b topics.Heartbeat) {
	if d := f.domains[name]; d != nil && d.ID == b.ID && !d.HasBeat {
		d.former = b.Session
	}
}

// Beat takes a heartbeat of a domain. another reports that it is of another session than
// the last one, notable that it is more than one of many: something may become due by it
// that was not before.
func (f *Fleet) Beat(d *Domain, b topics.Heartbeat, now time.Time) (another, notable bool) {
	notable = !d.HasBeat || !f.Beats(d, now) || d.State != topics.DomainIsOnline
	another = d.Heartbeat.Session != b.Session
	if d.joined != "" && b.Session != d.joined {
		d.othersBeatAt = now
	}
	d.BeatAt, d.HasBeat, d.Heartbeat = now, true, b
	return another, notable
}

// numberRunning gives each instance that was not reported running before the next number.
func (f *Fleet) numberRunning(d *Domain) {
	before := d.RunningOrder
	d.RunningOrder = make(map[string]uint64)
	for _, i := range d.Status.Services {
		if i.State != topics.Running {
			continue
		}
		if d.RunningOrder[i.Service] = before[i.Service]; d.RunningOrder[i.Service] == 0 {
			f.lastRunning++
			d.RunningOrder[i.Service] = f.lastRunning
		}
	}
}
