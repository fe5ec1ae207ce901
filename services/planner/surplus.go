package planner

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/jmbarzee/dominion/topics"
)

// ranks decide which of two copies stays when there is one too many. The first in
// which they differ decides, and is the reason in the plan.
var ranks = [...]struct {
	order  func(a, b *candidate) int
	reason string
}{
	// The last report of a domain that is lost is old: after a start of the hub it
	// may be of a copy that has moved since.
	{func(a, b *candidate) int {
		return first(a.State != topics.DomainIsLost, b.State != topics.DomainIsLost)
	}, "the other one is lost"},
	{func(a, b *candidate) int { return first(a.needed != "", b.needed != "") }, "whose version is needed"},
	{func(a, b *candidate) int { return first(a.usable(), b.usable()) }, "which serves"},
	{func(a, b *candidate) int { return first(a.instance.Best, b.instance.Best) }, "the first in the endpoints"},
	{func(a, b *candidate) int { return first(a.ordered, b.ordered) }, "where it was ordered to run"},
	{func(a, b *candidate) int {
		return first(a.instance.State == topics.Running, b.instance.State == topics.Running)
	}, "where it runs"},
	{func(a, b *candidate) int { return cmp.Compare(a.instance.Order, b.instance.Order) }, "where the hub saw it run first"},
	{func(a, b *candidate) int { return cmp.Compare(a.Name, b.Name) }, "the first by name"},
}

func rank(a, b *candidate) int { n, _ := compareCopies(a, b); return n }

func compareCopies(a, b *candidate) (n int, reason string) {
	for _, r := range ranks {
		if n := r.order(a, b); n != 0 {
			return n, r.reason
		}
	}
	return 0, ""
}

func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

// keepBest keeps as many of the copies as are wanted, the best by rank, and
// stops the others.
func (h *home) keepBest(name string, o *Outcome, live []*candidate, candidates []candidate) {
	if len(live) > o.Wanted { // else all stay
		slices.SortStableFunc(live, rank)
		replaceFlapping(live, o.Wanted)
	}
	for i, s := range live {
		switch {
		case i < o.Wanted:
			s.keep(stays(o.Reason, s))
		case o.Wanted == 0:
			s.stop("none is wanted")
		case s.needed != "":
			s.keep(fmt.Sprintf("one copy too many; stays: %s needs its version, and no other copy has it", s.needed))
		case live[o.Wanted-1].needed != "" && s.usable() && serving(candidates) < o.Wanted:
			s.keep(live[o.Wanted-1].needed + " needs another version; stays until its replacement is healthy")
		case s.Flapping && s.usable() && serving(candidates) < o.Wanted:
			s.keep(s.Name + " was lost too often lately; stays until its replacement is healthy")
		default:
			last := live[o.Wanted-1]
			_, reason := compareCopies(last, s)
			if s.Flapping && !last.Flapping {
				reason = "the other one was lost too often lately"
			}
			s.stop(h.excessReason(name) + last.Name + " keeps it, " + reason)
		}
	}
}

// replaceFlapping replaces a copy on a domain that flaps by a surplus one that serves
// elsewhere, or was ordered there meanwhile and is starting: the next loss of the
// domain then has no effect.
func replaceFlapping(live []*candidate, wanted int) {
	next := wanted
	for i := 0; i < wanted && i < len(live); i++ {
		if !live[i].Flapping || live[i].needed != "" {
			continue
		}
		for next < len(live) && !live[next].stable() {
			next++
		}
		if next >= len(live) {
			return
		}
		live[i], live[next] = live[next], live[i]
		next++
	}
}

// stable reports whether a copy may replace one on a domain that flaps.
func (s *candidate) stable() bool {
	return !s.Flapping && s.State == topics.DomainIsOnline && (s.ordered || s.usable())
}
