package hub

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// hypothesis is a home as somebody asks about it, without a part of the hub: it
// is planned beside the loop.
type hypothesis struct {
	in        planner.Input
	now       map[string]services.Definition // as they are, those that are gone too; nil: they stay
	next      map[string]services.Definition // as they would be; nil: as they are
	rebalance bool                           // what runs is spread anew
	settles   bool                           // the hub waits for the known domains, whatever it plans
	present   planner.Presence               // where everything is now; nil: what the hub does next is asked for
	addresses []string                       // of the domain that is lost
}

// supposes reports whether somebody asks about another home than there is.
func supposes(ask topics.Ask) bool { return ask.Without+ask.Drain+ask.Config != "" || ask.Rebalance }

// suppose returns the home as a question has it: without a domain, with one that
// is draining, with other definitions, or all of that. next is nil where the
// definitions stay as they are.
func (h *Hub) suppose(ask topics.Ask, next map[string]services.Definition) (hypothesis, error) {
	one := hypothesis{in: h.input(), next: next, rebalance: ask.Rebalance, settles: !h.fleet.Ready()}
	if ask.Without+ask.Drain != "" || ask.Rebalance {
		one.present = planner.PresenceOf(one.in)
	}
	if ask.Drain != "" {
		d, err := h.knownDomain(ask.Drain)
		switch {
		case err != nil:
			return hypothesis{}, err
		case d.Micro:
			return hypothesis{}, errMicroDrain(d.Name)
		}
		for i := range one.in.Domains {
			one.in.Domains[i].Draining = one.in.Domains[i].Draining || one.in.Domains[i].Name == ask.Drain
		}
	}
	if ask.Without != "" {
		d, err := h.knownDomain(ask.Without)
		if err != nil {
			return hypothesis{}, err
		}
		if d.Status != nil && !d.Micro {
			one.addresses = append(slices.Clone(d.Status.Addresses), d.Status.Address)
		}
		h.lose(&one.in, ask.Without)
	}
	if next != nil {
		one.now = maps.Clone(h.retired)
		maps.Copy(one.now, h.defs)
		h.redefine(&one.in, next)
	}
	return one, nil
}

// plan returns what the hub would do, or, where a domain leaves, what becomes of
// the services by it; ok is false where stop reported true before it was found.
func (one hypothesis) plan(stop func() bool) (lines []topics.PlanLine, ok bool) {
	if one.rebalance {
		moving, ok := planner.Rebalance(one.in, stop)
		if !ok {
			return nil, false
		}
		one.in = one.in.WithMoving(moving)
	}
	if one.present != nil {
		lines, ok = planner.Forecast(one.present, one.in, stop)
	} else {
		var plan planner.Plan
		plan, ok = planner.NewUntil(one.in, stop)
		lines = plan.Lines()
	}
	if !ok {
		return nil, false
	}
	if one.next != nil {
		one.sayRestarts(lines)
	}
	return settling(lines, one.settles), true
}

// hostsHub reports whether a machine of these addresses is the hub's own.
func hostsHub(addresses, own []string) bool {
	return slices.ContainsFunc(addresses, func(a string) bool {
		ip, err := netip.ParseAddr(a)
		return slices.Contains(own, a) || err == nil && ip.IsLoopback()
	})
}

// hubGoesDown is the line of a plan that says that the hub goes with a domain.
func hubGoesDown(domain string) topics.PlanLine {
	return topics.PlanLine{Action: topics.ActionGoesDown, Domain: domain, Reason: "the hub runs on this machine: without it nothing is moved, started or answered; what runs elsewhere goes on"}
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
	return settling(lines, !h.fleet.Ready())
}

// settling adds to a plan that it has to wait, where it has.
func settling(lines []topics.PlanLine, waits bool) []topics.PlanLine {
	for i := range lines {
		if waits && !stays(lines[i]) {
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
			if left := h.directory.Usable(service, ""); len(left) > 0 {
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

func byName(defs []services.Definition) map[string]services.Definition {
	all := make(map[string]services.Definition, len(defs))
	for _, d := range defs {
		all[d.Name] = d
	}
	return all
}
