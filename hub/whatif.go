package hub

import (
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/questions"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// supposes reports whether somebody asks about another home than there is.
func supposes(ask topics.HubRequest) bool {
	return ask.Without+ask.Drain+ask.Config != "" || ask.Rebalance
}

// suppose returns the home as a question has it: without a domain, with one that
// is draining, with other definitions, or all of that. next is nil where the
// definitions stay as they are.
func (h *Hub) suppose(ask topics.HubRequest, next map[string]services.Definition) (questions.Home, error) {
	one := questions.Home{Input: h.input(), Next: next, Rebalance: ask.Rebalance, Settles: !h.fleet.Ready()}
	if ask.Without+ask.Drain != "" || ask.Rebalance {
		one.Present = planner.PresenceOf(one.Input)
	}
	if ask.Drain != "" {
		d, err := h.findDomain(ask.Drain)
		if err != nil {
			return questions.Home{}, err
		}
		if d.Micro {
			return questions.Home{}, errMicroDrain(d.Name)
		}
		for i := range one.Input.Domains {
			one.Input.Domains[i].Draining = one.Input.Domains[i].Draining || one.Input.Domains[i].Name == ask.Drain
		}
	}
	if ask.Without != "" {
		d, err := h.findDomain(ask.Without)
		if err != nil {
			return questions.Home{}, err
		}
		if d.Status != nil && !d.Micro {
			one.Addresses = append(slices.Clone(d.Status.Addresses), d.Status.Address)
		}
		h.lose(&one.Input, ask.Without)
	}
	if next != nil {
		one.Before = h.defs.All()
		for _, def := range next {
			if def.Bundle == nil {
				continue
			}
			for i := range one.Input.Domains {
				offerBundle(&one.Input.Domains[i], &def)
			}
		}
		one.Input.Services, one.Input.Retired = slices.Collect(maps.Values(next)), slices.Collect(maps.Values(h.defs.RetiredBy(next)))
	}
	return one, nil
}

// planNow returns the plan of the home as it is.
func (h *Hub) planNow() []topics.PlanLine {
	lines := h.plan.Lines()
	for i := range lines {
		lines[i].Reason += h.rolloutReason(lines[i].Service, lines[i].Domain)
	}
	if !h.fleet.Ready() {
		questions.AfterSettling(lines)
	}
	return lines
}

// lose makes of a domain one that is lost for good. What it ran is nobody's
// first endpoint any more: the next best one is.
func (h *Hub) lose(in *planner.Input, name string) {
	for i := range in.Domains {
		d := &in.Domains[i]
		if d.Name == name {
			d.State, d.Gone = topics.DomainIsLost, true
			if d.Micro { // of which only its availability shows that
				d.State, d.Gone = topics.DomainIsOffline, false
			}
			clear(d.Observed)
			continue
		}
		for service, one := range d.Observed {
			if h.best(service) != name {
				continue
			}
			if left := h.directory.Usable(service, ""); len(left) > 0 {
				left = slices.DeleteFunc(left, func(e topics.Endpoint) bool { return e.Domain == name })
				one.Best = len(left) > 0 && left[0].Domain == d.Name
				d.Observed[service] = one
			}
		}
	}
}

// stepQuestions publishes answers to questions about another home, and orders what they move.
func (h *Hub) stepQuestions(now time.Time) {
	for _, a := range h.pending.questions.Step(h.suppose, now) {
		h.orderMoves(a.Moves, now)
		if a.Publish != nil {
			a.Publish(a.Reply)
			continue
		}
		h.pub.Publish(a.Reply)
	}
}
