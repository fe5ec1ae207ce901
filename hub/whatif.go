package hub

import (
	"fmt"
	"maps"
	"slices"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// hypothesis is a home as somebody asks about it, without a part of the hub: it
// is planned beside the loop.
type hypothesis struct {
	in      planner.Input
	now     map[string]services.Definition // as they are, those that are gone too; nil: they stay
	next    map[string]services.Definition // as they would be; nil: as they are
	settles bool                           // the hub waits for the known domains, whatever it plans
}

// suppose returns the home as a question has it: without a domain, with other
// definitions, or both. next is nil where the definitions stay as they are.
func (h *Hub) suppose(without string, next map[string]services.Definition) (hypothesis, error) {
	one := hypothesis{in: h.input(), next: next, settles: !h.ready}
	if without != "" {
		if _, err := h.knownDomain(without); err != nil {
			return hypothesis{}, err
		}
		h.lose(&one.in, without)
	}
	if next != nil {
		one.now = maps.Clone(h.retired)
		maps.Copy(one.now, h.defs)
		h.redefine(&one.in, next)
	}
	return one, nil
}

// plan returns what the hub would do; ok is false where stop reported true
// before it was found.
func (one hypothesis) plan(stop func() bool) (lines []topics.PlanLine, ok bool) {
	plan, ok := planner.NewUntil(one.in, stop)
	if !ok {
		return nil, false
	}
	lines = plan.Lines()
	if one.next != nil {
		one.sayRestarts(lines)
	}
	return settling(lines, one.settles), true
}

// definitions reads the services of a question; nil where it asks about those
// that there are.
func definitions(ask topics.Ask, environ []string) (map[string]services.Definition, error) {
	if ask.Config == "" {
		return nil, nil
	}
	defs, err := config.ParseServices(ask.Config, environ)
	if err != nil {
		return nil, err
	}
	return byName(defs), nil
}

// planNow returns the plan of the home as it is.
func (h *Hub) planNow() []topics.PlanLine {
	lines := h.plan.Lines()
	for i := range lines {
		lines[i].Reason += h.rollReason(lines[i].Service, lines[i].Domain)
	}
	return settling(lines, !h.ready)
}

// settling adds to a plan that it has to wait, where it has.
func settling(lines []topics.PlanLine, waits bool) []topics.PlanLine {
	for i := range lines {
		if waits && lines[i].Action != topics.ActionKeep {
			lines[i].Reason += " (after the hub has settled)"
		}
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
			if d.Micro { // of which only its availability tells
				d.State, d.Gone = topics.DomainIsOffline, false
			}
			clear(d.Observed)
			continue
		}
		for service, one := range d.Observed {
			if h.best(service) != name {
				continue
			}
			if left := h.usable(service, ""); len(left) > 0 {
				left = slices.DeleteFunc(left, func(e topics.Endpoint) bool { return e.Domain == name })
				one.Best = len(left) > 0 && left[0].Domain == d.Name
				d.Observed[service] = one
			}
		}
	}
}

// redefine puts other definitions into the home, as a reload does.
func (h *Hub) redefine(in *planner.Input, next map[string]services.Definition) {
	retired := make(map[string]services.Definition)
	for _, defs := range []map[string]services.Definition{h.retired, h.defs} {
		for name, d := range defs {
			if _, stays := next[name]; !stays {
				retired[name] = d
			}
		}
	}
	in.Services, in.Retired = slices.Collect(maps.Values(next)), slices.Collect(maps.Values(retired))
}

// sayRestarts adds to what stays that it is restarted where its command, port
// or environment changes.
func (one hypothesis) sayRestarts(lines []topics.PlanLine) {
	changed := make(map[string]bool)
	for name, d := range one.next {
		changed[name] = d.Spec(nil).Revision != one.now[name].Spec(nil).Revision
	}
	copies := make(map[string]int)
	for _, l := range lines {
		if l.Action == topics.ActionKeep {
			copies[l.Service]++
		}
	}
	for i := range lines {
		l := &lines[i]
		if l.Action != topics.ActionKeep || !changed[l.Service] {
			continue
		}
		l.Reason += fmt.Sprintf("; %s is restarted there: its command, port or environment changes", l.Service)
		if copies[l.Service] > 1 {
			l.Reason += "; one instance after the other"
		}
	}
}

func byName(defs []services.Definition) map[string]services.Definition {
	all := make(map[string]services.Definition, len(defs))
	for _, d := range defs {
		all[d.Name] = d
	}
	return all
}
