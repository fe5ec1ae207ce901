package hub

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// resync has hub and domain agree anew on epoch, generation and session. The
// hub drops what it holds of the domain's start command; the agent of the session
// that beats joins again, and obeys from the epoch that it is granted, whatever
// it obeyed before. What runs goes on, and what the book of leases knows stays.
func (h *Hub) resync(name string, now time.Time) error {
	d, err := h.knownDomain(name)
	if err != nil {
		return err
	}
	if d.Micro {
		return fmt.Errorf("%s is a microdomain: it obeys no start commands", name)
	}
	if !d.HasBeat || !d.Beats(now, h.cfg.Timing.LostAfter.Duration()) {
		return fmt.Errorf("%s is %s: hub and domain agree anew when it joins", name, d.State)
	}
	d.Ordered.Encoded, d.Ordered.Message, d.claimed = "", topics.Message{}, 0
	h.touch(name)
	h.commandDomain(d, topics.Command{Action: topics.ActionResync, Session: d.Heartbeat.Session})
	h.eventOf(d, topics.DomainResynced, fmt.Sprintf("%s is told to join again: it obeyed epoch %d generation %d, ours is epoch %d", name, d.Heartbeat.Epoch, d.Heartbeat.Generation, h.epoch))
	return nil
}

// commandDomain sends a domain a command of the hub's own, whose refusal is
// reported.
func (h *Hub) commandDomain(d *domain, c topics.Command) {
	if len(h.orders) > maxOrders {
		clear(h.orders) // of agents that never answered
	}
	c.Transaction = rand.Text()
	h.orders[c.Transaction] = c.Service
	h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainCommand, Domain: d.Name}, topics.Encode(c)))
}

// awaitedReport is what the hub waits for from a domain that beats: the status of that run,
// since the start command that it obeys, or that it is available. Without it the domain
// is not taken for online, and without the status its exclusive services get no lease.
type awaitedReport struct {
	since, again time.Time // since when it is missing, and when to ask next; zero: it is not
	asked        bool
	lease        bool // exclusive services wait for it
	absent       bool // the status is there, the availability is not online
}

// A status that is on its way needs no question; one that was lost is asked for
// well within the time that a lease holds.
const (
	statusPatience = 2 * time.Second
	statusAgain    = 5 * time.Second
)

func (r awaitedReport) problem() string {
	if r.absent {
		return "beats, and its availability is not online: it was asked to report it (if it lasts, restart its agent)"
	}
	text := "beats, and has not reported what runs on it: it was asked to"
	if r.lease {
		text += "; until then its exclusive services get no lease"
	}
	return text + " (if it lasts, restart its agent)"
}

// askStatus asks a domain that beats for the status that is missing, or for its
// availability: a broker that lost a node may not replay what is retained, and what the
// hub said of a domain while it was cut off reached nobody that could contradict.
func (h *Hub) askStatus(d *domain, b topics.Heartbeat, now time.Time) {
	r := &d.awaited
	lease := h.leases.AwaitsStatus(d.ID, d.Name, b)
	switch {
	case d.StatusCurrent() && !lease && d.Available:
		if r.asked {
			h.touch(d.Name)
		}
		*r = awaitedReport{}
		return
	case r.since.IsZero():
		r.since, r.again = now, now.Add(statusPatience)
		return
	case now.Before(r.again):
		return
	}
	first, before := !r.asked, *r
	r.asked, r.again, r.lease, r.absent = true, now.Add(statusAgain), lease, d.StatusCurrent() && !lease
	if r.lease != before.lease || r.absent != before.absent {
		h.touch(d.Name) // the problem has another text
	}
	if first {
		h.touch(d.Name)
		h.eventOf(d, topics.DomainProblem, d.Name+" "+r.problem())
	}
	h.commandDomain(d, topics.Command{Action: topics.ActionReport})
}
