package fleet

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Domains report which epoch and generation they obey. A hub that was restored from a backup
// must get above both, or its commands would be refused as old. What domains report is not
// proved, so all of them together raise the hub's numbers by maxRaise at most: the epoch
// over all runs, generations within one epoch. Agents accept jumps that are ten times as
// far, so no report can carry the commands for one domain beyond what another one obeys.
const maxRaise = 100_000

// Epoch is the hub's, and by how much reports have raised it over all runs.
type Epoch struct{ Number, Raised uint64 }

// RaiseEpoch returns the epoch that the hub has to take to get above the one that a domain
// obeys; the same where it needs no other one, or the report is not believed. changed
// reports that the state of the domain changed. Where the epoch rises every domain is
// to be given its start command again.
func (f *Fleet) RaiseEpoch(d *Domain, is Epoch, now time.Time) (next Epoch, changed bool) {
	obeyed := d.Heartbeat.Epoch
	if obeyed <= is.Number {
		changed, d.Ahead = d.Ahead, false
		return is, changed
	}
	by := obeyed - is.Number // and one more, to be above it
	if by >= maxRaise || is.Raised+by+1 > maxRaise {
		if d.Ahead {
			return is, false // it was reported, and is a problem that is shown
		}
		d.Ahead = true
		f.o.Refuse("epoch of "+d.Name, topics.Event{Domain: d.Name, Message: fmt.Sprintf("%s reports epoch %d, ours is %d: ignored, reports may raise it by %d in all and have raised it by %d; if %s obeys no start commands, `dominionctl resync %s`", d.Name, obeyed, is.Number, maxRaise, is.Raised, d.Name, d.Name)}, now)
		return is, true
	}
	f.OrderAllAgain()
	return Epoch{Number: obeyed + 1, Raised: is.Raised + by + 1}, false
}

// NoteAhead notes whether a domain that has a key reports an epoch above the hub's, which does
// not raise that. It reports whether the state of the domain changed.
func (f *Fleet) NoteAhead(d *Domain, epoch uint64, now time.Time) (changed bool) {
	was := d.Ahead
	if d.Ahead = d.Heartbeat.Epoch > epoch; d.Ahead && !was {
		f.o.Refuse("epoch of "+d.Name, topics.Event{Domain: d.Name, Message: fmt.Sprintf("%s reports epoch %d, ours is %d: ignored, as it has shown no order of this hub with it; if %s obeys no start commands, `dominionctl resync %s`", d.Name, d.Heartbeat.Epoch, epoch, d.Name, d.Name)}, now)
	}
	return d.Ahead != was
}

// OrderAllAgain begins an epoch: every domain is given its start command again, of
// generation 1.
func (f *Fleet) OrderAllAgain() {
	f.claimed = 0
	for _, d := range f.domains {
		d.Ordered.Encoded, d.Ordered.Generation, d.claimed = "", 0, 0
	}
}

// ClaimGeneration notes a generation of this epoch that a domain reports and that this run
// of the hub did not give.
func (f *Fleet) ClaimGeneration(d *Domain, epoch uint64, now time.Time) {
	last := max(d.Ordered.Generation, d.claimed)
	if d.Heartbeat.Epoch != epoch || d.Heartbeat.Generation <= last {
		return
	}
	by := d.Heartbeat.Generation - last
	if by > maxRaise || f.claimed+by > maxRaise {
		f.o.Refuse("generation of "+d.Name, topics.Event{Domain: d.Name, Message: fmt.Sprintf("%s reports generation %d, given was %d: ignored; if it obeys no start commands, `dominionctl resync %s`", d.Name, d.Heartbeat.Generation, d.Ordered.Generation, d.Name)}, now)
		return
	}
	f.claimed += by
	d.claimed = d.Heartbeat.Generation
}

// ObeyedGeneration returns the generation that the domain obeyed last in this epoch, as far as
// its report is believed.
func (d *Domain) ObeyedGeneration(epoch uint64) uint64 {
	if d.Heartbeat.Epoch != epoch || d.Heartbeat.Generation > max(d.Ordered.Generation, d.claimed) {
		return 0
	}
	return d.Heartbeat.Generation
}

// OrderAgain forgets the last start command of a domain and what it claims to obey: it is
// given another one.
func (d *Domain) OrderAgain() {
	d.Ordered.Encoded, d.Ordered.Message, d.claimed = "", topics.Message{}, 0
}
