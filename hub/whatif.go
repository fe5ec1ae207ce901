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

// planOf is the plan of the home as it is, or of what somebody asks about:
// without a domain, with another configuration, or both. Nothing comes of it.
func (h *Hub) planOf(ask topics.Ask) ([]topics.PlanLine, error) {
	if ask.Without == "" && ask.Config == "" {
		lines := h.plan.Lines()
		for i := range lines {
			lines[i].Reason += h.rollReason(lines[i].Service, lines[i].Domain)
		}
		return h.settling(lines), nil
	}
	in := h.input()
	if ask.Without != "" {
		if _, err := h.knownDomain(ask.Without); err != nil {
			return nil, err
		}
		h.lose(&in, ask.Without)
	}
	var next map[string]services.Definition
	if ask.Config != "" {
		defs, err := config.ParseServices(ask.Config, h.environ)
		if err != nil {
			return nil, err
		}
		next = byName(defs)
		h.redefine(&in, next)
	}
	lines := planner.New(in).Lines()
	if next != nil {
		h.sayRestarts(lines, next)
	}
	return h.settling(lines), nil
}

// settling adds to a plan that it has to wait.
func (h *Hub) settling(lines []topics.PlanLine) []topics.PlanLine {
	if !h.ready {
		for i := range lines {
			if lines[i].Action != topics.ActionKeep {
				lines[i].Reason += " (after the hub has settled)"
			}
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
func (h *Hub) sayRestarts(lines []topics.PlanLine, next map[string]services.Definition) {
	changed := make(map[string]bool)
	for name, d := range next {
		changed[name] = d.Spec(nil).Revision != h.definition(name).Spec(nil).Revision
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
