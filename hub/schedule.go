package hub

import (
	"time"

	"github.com/jmbarzee/dominion/hub/stall"
)

// schedule is when the loop does something by itself.
type schedule struct {
	// wake is when something is due. Each call of expire determines it again.
	wake time.Time
	// sooner reports that something came that may make something due before wake.
	sooner bool
	// planAfter is when the next pass may begin at the earliest.
	planAfter time.Time
	// stall detects that the loop stood still.
	stall *stall.Detector
}

// due has the loop wake at a moment, or before it.
func (h *Hub) due(at time.Time) {
	if at.Before(h.schedule.wake) {
		h.schedule.wake = at
	}
}

// dueUnlessZero is due for a part of the hub that may have nothing to do.
func (h *Hub) dueUnlessZero(at time.Time) {
	if !at.IsZero() {
		h.due(at)
	}
}
