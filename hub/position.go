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
		if d.ahead {
			d.ahead = false
			h.touch(domain)
		}
		return
	}
	by := seen - h.epoch // and one more, to be above it
	if raised := h.store.Raised(); by >= maxRaise || raised+by+1 > maxRaise {
		if d.ahead {
			return // it was reported, and is a problem that is shown
		}
		d.ahead = true
		h.touch(domain)
		h.events.Refuse("epoch of "+domain, topics.Event{Domain: domain, Message: fmt.Sprintf("%s reports epoch %d, ours is %d: ignored, reports may raise it by %d in all and have raised it by %d; if %s obeys no start commands, `dominionctl resync %s`", domain, seen, h.epoch, maxRaise, raised, domain, domain)}, now)
		return
	}
	h.keep(func(s *store.State) { s.Epoch, s.Raised = seen+1, s.Raised+by+1 })
	h.epoch, h.raisedBy = seen+1, 0
	for _, d := range h.domains {
		d.ordered.encoded, d.ordered.generation, d.claimed = "", 0, 0
	}
	h.dirty = true
	h.events.Add(topics.Event{Type: topics.EpochRaised, Domain: domain, Message: fmt.Sprintf("%s has seen epoch %d: ours is %d now", domain, seen, h.epoch)})
}

// claimGeneration notes a generation of this epoch that a domain reports and
// that this run of the hub did not give.
func (h *Hub) claimGeneration(d *domain, now time.Time) {
	known := max(d.ordered.generation, d.claimed)
	if d.last.Epoch != h.epoch || d.last.Generation <= known {
		return
	}
	by := d.last.Generation - known
	if by > maxRaise || h.raisedBy+by > maxRaise {
		h.events.Refuse("generation of "+d.name, topics.Event{Domain: d.name, Message: fmt.Sprintf("%s reports generation %d, given was %d: ignored; if it obeys no start commands, `dominionctl resync %s`", d.name, d.last.Generation, d.ordered.generation, d.name)}, now)
		return
	}
	h.raisedBy += by
	d.claimed = d.last.Generation
}

// seenGeneration is what the domain took last in this epoch, as far as its
// report is believed.
func (d *domain) seenGeneration(epoch uint64) uint64 {
	if d.last.Epoch != epoch || d.last.Generation > max(d.ordered.generation, d.claimed) {
		return 0
	}
	return d.last.Generation
}
