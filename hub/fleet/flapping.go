package fleet

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A domain that was lost so often within the window flaps: for some time, counted from the
// last loss, nothing is moved to it that can run elsewhere. It is measured by the hub's
// monotonic clock alone, and a restart of the hub forgets it: what runs stays where it is
// all the same.
const (
	flapLosses   = 3
	flapWindow   = 10 * time.Minute
	flapLifetime = 10 * time.Minute
)

// flaps is what a domain's losses make of it.
type flaps struct {
	// losses are those within the window, oldest first.
	losses []time.Time
	// until is when it flaps no more; zero: it does not flap.
	until time.Time
}

func (f *flaps) now() bool { return !f.until.IsZero() }

// lose counts a loss, and reports whether the domain begins to flap with it.
func (f *flaps) lose(now time.Time) (begins bool) {
	f.losses = slices.DeleteFunc(f.losses, func(at time.Time) bool { return now.Sub(at) > flapWindow })
	f.losses = append(f.losses, now)
	if len(f.losses) < flapLosses {
		return false
	}
	f.losses = f.losses[len(f.losses)-flapLosses:] // more add nothing
	begins = !f.now()
	f.until = now.Add(flapLifetime)
	return begins
}

// problem says what to do about it.
func (f *flaps) problem() string {
	return fmt.Sprintf("was lost %d times within %s: look at its power, its cable or its Wi-Fi; nothing is moved back to it for %s, unless nothing else can run it",
		flapLosses, minutes(flapWindow), minutes(time.Until(f.until)))
}

func minutes(d time.Duration) string {
	if n := math.Ceil(d.Minutes()); n > 1 {
		return fmt.Sprintf("%.0f minutes", n)
	}
	return "1 minute"
}

// CountLoss counts that a domain was lost once more. problem is not empty where it begins to
// flap by that.
func (f *Fleet) CountLoss(d *Domain, now time.Time) (problem string) {
	begins := d.flaps.lose(now)
	if d.flaps.now() {
		f.due(d.flaps.until, now)
	}
	if !begins {
		return ""
	}
	return d.flaps.problem()
}

// Flaps reports whether the domain was lost again and again.
func (d *Domain) Flaps() bool { return d.flaps.now() }
