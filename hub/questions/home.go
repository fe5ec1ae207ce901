package questions

import (
	"fmt"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// Home is a home as somebody asks about it. It shares nothing with the loop that changes.
type Home struct {
	Input planner.Input
	// Before are the definitions as they are, those that are gone too; Next are those as
	// they would be. Nil: they stay.
	Before, Next map[string]services.Definition
	// Rebalance reports that what runs is spread again.
	Rebalance bool
	// Settles reports that the hub waits for the domains from before its start, whatever it
	// plans.
	Settles bool
	// Present is where everything is now; nil: what the hub does next is asked for.
	Present planner.Presence
	// Addresses are those of the domain that is lost.
	Addresses []string
}

// Plan returns what the hub would do, or, where a domain leaves, what becomes of the services
// by it; ok is false where stop reported true before it was found.
func (h Home) Plan(stop func() bool) (lines []topics.PlanLine, ok bool) {
	if h.Rebalance {
		moving, ok := planner.Rebalance(h.Input, stop)
		if !ok {
			return nil, false
		}
		h.Input = h.Input.WithMoving(moving)
	}
	if h.Present != nil {
		lines, ok = planner.Forecast(h.Present, h.Input, stop)
	} else {
		var plan planner.Plan
		plan, ok = planner.NewUntil(h.Input, stop)
		lines = plan.Lines()
	}
	if !ok {
		return nil, false
	}
	if h.Next != nil {
		h.addRestarts(lines)
	}
	if h.Settles {
		AfterSettling(lines)
	}
	return lines, true
}

// AfterSettling adds to the lines of a plan that what changes has to wait until the hub has
// settled.
func AfterSettling(lines []topics.PlanLine) {
	for i := range lines {
		if !stays(lines[i]) {
			lines[i].Reason += " (after the hub has settled)"
		}
	}
}

// addRestarts adds to what stays that it is restarted where its command, port or environment
// changes.
func (h Home) addRestarts(lines []topics.PlanLine) {
	changed := make(map[string]bool)
	for name, d := range h.Next {
		changed[name] = d.Spec(nil).Revision != h.Before[name].Spec(nil).Revision
	}
	copies := make(map[string]int)
	for _, l := range lines {
		if stays(l) {
			copies[l.Service]++
		}
	}
	for i := range lines {
		l := &lines[i]
		if !stays(*l) || !changed[l.Service] {
			continue
		}
		l.Reason += fmt.Sprintf("; %s is restarted there: its command, port or environment changes", l.Service)
		if copies[l.Service] > 1 {
			l.Reason += "; one instance after the other"
		}
	}
}

func stays(l topics.PlanLine) bool {
	return l.Action == topics.ActionKeep || l.Action == topics.ActionStays
}
