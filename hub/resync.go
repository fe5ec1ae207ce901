package hub

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// resync has hub and domain agree again on epoch, generation and session. The
// hub drops what it holds of the domain's start command; the agent of the session
// that sends heartbeats joins again, and obeys from the epoch that it is granted, whatever
// it obeyed before. What runs goes on, and so do leases.
func (h *Hub) resync(name string, now time.Time) error {
	d, err := h.findDomain(name)
	if err != nil {
		return err
	}
	if d.Micro {
		return fmt.Errorf("%s is a microdomain: it obeys no start commands", name)
	}
	if !d.HasBeat || !h.fleet.Beats(d, now) {
		return fmt.Errorf("%s is %s: hub and domain agree anew when it joins", name, d.State)
	}
	d.OrderAgain()
	h.touch(name)
	h.commandDomain(d, topics.Command{Action: topics.ActionResync, Session: d.Heartbeat.Session})
	h.eventOf(d, topics.DomainResynced, fmt.Sprintf("%s is ordered to join again: it obeyed epoch %d generation %d, ours is epoch %d", name, d.Heartbeat.Epoch, d.Heartbeat.Generation, h.epoch))
	return nil
}

// askStatus asks a domain that sends heartbeats for the status that is missing, or for its
// availability.
func (h *Hub) askStatus(d *domain, b topics.Heartbeat, now time.Time) {
	q := d.AwaitStatus(h.leases.AwaitsStatus(d.ID, d.Name, b), now)
	if q.Changed {
		h.touch(d.Name)
	}
	if q.Problem != "" {
		h.eventOf(d, topics.DomainProblem, d.Name+" "+q.Problem)
	}
	if q.Ask {
		h.commandDomain(d, topics.Command{Action: topics.ActionReport})
	}
}
