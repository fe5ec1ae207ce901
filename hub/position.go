package hub

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// Domains report which epoch and generation they obey. A hub that was restored
// from a backup must get above both, or its commands would be refused as old.
// What domains report is not proved, so all of them together raise the hub's
// numbers by maxRaise at most: the epoch over all runs, generations within one
// epoch. Agents accept jumps that are ten times as far, so no report can carry
// the commands for one domain beyond what another one obeys.
const maxRaise = 100_000

// raiseEpoch gets above an epoch that a domain has seen.
func (h *Hub) raiseEpoch(seen uint64, domain string, now time.Time) {
	d := h.domains[domain]
	if seen <= h.epoch {
		if d.Ahead {
			d.Ahead = false
			h.touch(domain)
		}
		return
	}
	by := seen - h.epoch // and one more, to be above it
	if raised := h.store.Raised(); by >= maxRaise || raised+by+1 > maxRaise {
		if d.Ahead {
			return // it was reported, and is a problem that is shown
		}
		d.Ahead = true
		h.touch(domain)
		h.events.Refuse("epoch of "+domain, topics.Event{Domain: domain, Message: fmt.Sprintf("%s reports epoch %d, ours is %d: ignored, reports may raise it by %d in all and have raised it by %d; if %s obeys no start commands, `dominionctl resync %s`", domain, seen, h.epoch, maxRaise, raised, domain, domain)}, now)
		return
	}
	h.keep(func(s *store.State) { s.Epoch, s.Raised = seen+1, s.Raised+by+1 })
	h.epoch, h.raisedBy = seen+1, 0
	for _, d := range h.domains {
		d.Ordered.Encoded, d.Ordered.Generation, d.claimed = "", 0, 0
	}
	h.dirty = true
	h.events.Add(topics.Event{Type: topics.EpochRaised, Domain: domain, Message: fmt.Sprintf("%s has seen epoch %d: ours is %d now", domain, seen, h.epoch)})
}

// claimGeneration notes a generation of this epoch that a domain reports and
// that this run of the hub did not give.
func (h *Hub) claimGeneration(d *domain, now time.Time) {
	known := max(d.Ordered.Generation, d.claimed)
	if d.Heartbeat.Epoch != h.epoch || d.Heartbeat.Generation <= known {
		return
	}
	by := d.Heartbeat.Generation - known
	if by > maxRaise || h.raisedBy+by > maxRaise {
		h.events.Refuse("generation of "+d.Name, topics.Event{Domain: d.Name, Message: fmt.Sprintf("%s reports generation %d, given was %d: ignored; if it obeys no start commands, `dominionctl resync %s`", d.Name, d.Heartbeat.Generation, d.Ordered.Generation, d.Name)}, now)
		return
	}
	h.raisedBy += by
	d.claimed = d.Heartbeat.Generation
}

// SeenGeneration is what the domain took last in this epoch, as far as its
// report is believed.
func (d *domain) SeenGeneration(epoch uint64) uint64 {
	if d.Heartbeat.Epoch != epoch || d.Heartbeat.Generation > max(d.Ordered.Generation, d.claimed) {
		return 0
	}
	return d.Heartbeat.Generation
}
