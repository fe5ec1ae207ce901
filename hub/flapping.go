package hub

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A domain that was lost so often within the window flaps: for the time of its
// rest, counted from the last loss, nothing is moved to it that can run
// elsewhere. It is known by our monotonic clock alone, and a restart of the
// hub forgets it: what runs stays where it is all the same.
const (
	flapLosses = 3
	flapWindow = 10 * time.Minute
	flapRest   = 10 * time.Minute
)

// flaps is what a domain's losses make of it.
type flaps struct {
	losses []time.Time // within the window, oldest first
	until  time.Time   // when its rest ends; zero: it does not flap
}

func (f *flaps) now() bool { return !f.until.IsZero() }

// lose counts a loss, and reports whether the domain begins to flap with it.
func (f *flaps) lose(now time.Time) (begins bool) {
	f.losses = slices.DeleteFunc(f.losses, func(at time.Time) bool { return now.Sub(at) > flapWindow })
	f.losses = append(f.losses, now)
	if len(f.losses) < flapLosses {
		return false
	}
	f.losses = f.losses[len(f.losses)-flapLosses:] // more say nothing more
	begins = !f.now()
	f.until = now.Add(flapRest)
	return begins
}

// problem says what to do about it.
func (f *flaps) problem() string {
	return fmt.Sprintf("was lost %d times within %s: look at its power, its cable or its Wi-Fi; nothing is moved back to it for %s, unless nothing else can run it",
		flapLosses, minutes(flapWindow), minutes(time.Until(f.until)))
}

func minutes(d time.Duration) string {
	return count(max(int(math.Ceil(d.Minutes())), 1), "minute")
}

// countLoss notes that a domain was lost once more.
func (h *Hub) countLoss(d *domain, now time.Time) {
	if d.flaps.lose(now) {
		h.eventOf(d, topics.DomainFlapping, d.Name+" "+d.flaps.problem())
	}
}

// rested ends the rest of a domain that was not lost again.
func (h *Hub) rested(d *domain, now time.Time) {
	switch {
	case !d.flaps.now():
	case now.Before(d.flaps.until):
		h.due(d.flaps.until)
	default:
		d.flaps.until = time.Time{}
		h.touch(d.Name)
	}
}
