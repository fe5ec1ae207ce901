package fleet

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// settling is the wait, after a start of the hub, for the domains that were there before.
type settling struct {
	// ready reports that it is over: the hub may order.
	ready bool
	// until is when it ends at the latest; zero: the hub was never connected.
	until time.Time
	// lost reports that domains that were lost before the hub started may be back in a
	// moment still, although it is ready.
	lost bool
	// unproved reports that microdomains may be called online by what a broker that began
	// with the hub had stored.
	unproved bool
}

// Ready reports whether the hub waits for no domain any more. Until then nothing is ordered.
func (f *Fleet) Ready() bool { return f.settling.ready }

// Stop notes that the hub stops: it is not ready any more.
func (f *Fleet) Stop() { f.settling.ready = false }

// Settle begins the wait for the domains, at the first connection of this run of the hub to
// its broker. It reports whether this is the first.
func (f *Fleet) Settle(long time.Duration, now time.Time) (first bool) {
	if !f.settling.until.IsZero() {
		return false
	}
	f.settling.until = now.Add(long)
	return true
}

// expireSettling ends the wait as soon as every domain that was there before is there again,
// or its time is over. From then on those that are silent are lost.
func (f *Fleet) expireSettling(e *Expired, now time.Time) {
	s := &f.settling
	if s.until.IsZero() {
		return
	}
	over := !f.due(s.until, now)
	if !s.ready && (over || !f.waiting()) {
		s.ready, s.lost, e.Ready = true, !over, true
		for _, d := range f.domains {
			d.expected = false
		}
	}
	if over && s.lost {
		s.lost, e.Whole = false, true
	}
	if over && s.unproved {
		s.unproved = false
		f.expireUnproved(e)
	}
}

// waiting reports whether a domain that was there before the hub started, by what the hub or
// the broker has stored, is not there again.
func (f *Fleet) waiting() bool {
	for _, d := range f.domains {
		if d.expected && !d.present() {
			return true
		}
	}
	return f.guests.expected()
}

// expireUnproved corrects what a broker that began with the hub had stored of microdomains:
// one that did not publish "online" again is not connected. It sends no heartbeats, so
// nothing else would ever correct that.
func (f *Fleet) expireUnproved(e *Expired) {
	for _, d := range f.domains {
		if d.Micro && d.availabilityRetained && d.Withdraw() {
			e.Offline = append(e.Offline, d.Name)
		}
	}
}

// Awaits reports whether a domain that was lost before the hub started may be back in a
// moment: what may run on several is placed without it only then.
func (f *Fleet) Awaits(d *Domain) bool {
	return f.settling.lost && d.State == topics.DomainIsLost && !d.WasOnline
}
