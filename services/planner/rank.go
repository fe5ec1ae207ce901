package planner

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/jmbarzee/dominion/topics"
)

// ranks say which of two copies stays when there is one too many. The first
// that tells them apart decides, and the plan says which it was.
var ranks = [...]struct {
	order func(a, b *spot) int
	says  string
}{
	// What a domain that is lost said last is old: after a start of the hub it
	// is perhaps of a copy that has moved since.
	{func(a, b *spot) int { return first(a.State != topics.DomainIsLost, b.State != topics.DomainIsLost) }, "the other one is lost"},
	{func(a, b *spot) int { return first(a.needed != "", b.needed != "") }, "whose version is needed"},
	{func(a, b *spot) int { return first(a.usable(), b.usable()) }, "which serves"},
	{func(a, b *spot) int { return first(a.instance.Best, b.instance.Best) }, "the first in the endpoints"},
	{func(a, b *spot) int { return first(a.ordered, b.ordered) }, "where it was ordered to run"},
	{func(a, b *spot) int {
		return first(a.instance.State == topics.Running, b.instance.State == topics.Running)
	}, "where it runs"},
	{func(a, b *spot) int { return cmp.Compare(a.instance.Seen, b.instance.Seen) }, "where the hub saw it run first"},
	{func(a, b *spot) int { return cmp.Compare(a.Name, b.Name) }, "the first by name"},
}

func rank(a, b *spot) int { n, _ := compareCopies(a, b); return n }

func compareCopies(a, b *spot) (n int, says string) {
	for _, r := range ranks {
		if n := r.order(a, b); n != 0 {
			return n, r.says
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
func (h *home) keepBest(name string, o *Outcome, live []*spot, spots []spot) {
	if len(live) > o.Wanted { // else all stay
		slices.SortStableFunc(live, rank)
		calmFirst(live, o.Wanted)
	}
	for i, s := range live {
		switch {
		case i < o.Wanted:
			s.keep(stays(o.Reason, s))
		case o.Wanted == 0:
			s.stop("none is wanted")
		case s.needed != "":
			s.keep(fmt.Sprintf("one copy too many; stays: %s needs its version, and no other copy has it", s.needed))
		case live[o.Wanted-1].needed != "" && s.usable() && serving(spots) < o.Wanted:
			s.keep(live[o.Wanted-1].needed + " needs another version; stays until its replacement is healthy")
		case s.Flapping && s.usable() && serving(spots) < o.Wanted:
			s.keep(s.Name + " was lost too often lately; stays until its replacement is healthy")
		default:
			last := live[o.Wanted-1]
			_, says := compareCopies(last, s)
			if s.Flapping && !last.Flapping {
				says = "the other one was lost too often lately"
			}
			s.stop(h.excess(name) + last.Name + " keeps it, " + says)
		}
	}
}

// calmFirst lets a copy on a domain that flaps give way to one too many that
// serves elsewhere, or was ordered there meanwhile and is on its way: at the
// next loss nobody will miss it.
func calmFirst(live []*spot, wanted int) {
	next := wanted
	for i := 0; i < wanted && i < len(live); i++ {
		if !live[i].Flapping || live[i].needed != "" {
			continue
		}
		for next < len(live) && !live[next].calm() {
			next++
		}
		if next >= len(live) {
			return
		}
		live[i], live[next] = live[next], live[i]
		next++
	}
}

// calm tells whether a copy may take the place of one on a domain that flaps.
func (s *spot) calm() bool {
	return !s.Flapping && s.State == topics.DomainIsOnline && (s.ordered || s.usable())
}
