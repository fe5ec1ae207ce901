package hub

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/jmbarzee/dominion/topics"
)

// sortedDomains lists the domains by name. It must not be changed.
func (h *Hub) sortedDomains() []*domain {
	if h.sorted == nil {
		h.sorted = slices.SortedFunc(maps.Values(h.domains), func(a, b *domain) int { return cmp.Compare(a.Name, b.Name) })
	}
	return h.sorted
}

// viewDomain is a domain as the hub sees it.
func (h *Hub) viewDomain(d *domain) topics.DomainView {
	v := topics.DomainView{
		Name: d.Name, ID: d.ID, State: d.State, Micro: d.Micro,
		Traits: []string{}, Services: []topics.Instance{}, Catalog: []string{},
	}
	if !d.Since.IsZero() {
		v.Since = topics.At(d.Since)
	}
	if d.HasBeat {
		last := d.Heartbeat
		v.Heartbeat = &last
	}
	v.Problem = h.problemOf(d)
	s := d.Status
	if s == nil {
		return v
	}
	v.Draining, v.Address, v.Version, v.OS, v.Arch = s.Draining, s.Address, s.Version, s.OS, s.Arch
	v.Traits = append(v.Traits, s.Traits...)
	v.Services = append(v.Services, s.Services...)
	v.Stale = d.State == topics.DomainIsLost || d.Micro && d.State == topics.DomainIsOffline
	for _, row := range s.Catalog {
		v.Catalog = append(v.Catalog, row.Service)
	}
	return v
}

// viewDomains lists every domain that is known, was seen or was refused.
func (h *Hub) viewDomains() []topics.DomainView {
	all := []topics.DomainView{}
	for _, d := range h.sortedDomains() {
		all = append(all, h.viewDomain(d))
	}
	for _, name := range slices.Sorted(maps.Keys(h.lonely)) {
		l := h.lonely[name]
		if h.refused[refusedKey{l.ID, l.Name}] == nil && !h.ours(l) {
			all = append(all, other(l.Name, l.ID, l.Address, topics.DomainIsLonely, whyLonely(l, h.ID(), h.alone)))
		}
	}
	byKey := func(a, b refusedKey) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.name, b.name)) }
	for _, key := range slices.SortedFunc(maps.Keys(h.refused), byKey) {
		r := h.refused[key]
		all = append(all, other(r.name, r.id, r.address, topics.DomainIsRefused, r.reason))
	}
	return append(all, h.viewUnreadable()...)
}

// ours reports whether a machine that has not joined is a domain that we know.
func (h *Hub) ours(l Lonely) bool {
	d := h.domains[l.Name]
	return d != nil && d.ID == l.ID
}

// problemOf is what is wrong with a domain. One that is away and announces
// itself cannot join: that is the one problem that it has.
func (h *Hub) problemOf(d *domain) string {
	if problem := cmp.Or(h.whyUnreadable(d.Name), d.problem()); problem != "" {
		return problem
	}
	if l, announced := h.lonely[d.Name]; announced && h.ours(l) && d.State != topics.DomainIsOnline {
		return whyLonely(l, h.ID(), h.alone)
	}
	return ""
}

// whyLonely returns why a domain has not joined, as far as the hub of dominion
// own can tell, which is alone if no other machine reaches it.
func whyLonely(l Lonely, own string, alone bool) string {
	switch {
	case l.Dominion != "" && l.Dominion != own:
		return fmt.Sprintf("belongs to another dominion, %q with id %q: to move it here set dominion = %q in its domain.toml", l.DominionName, l.Dominion, own)
	case alone:
		return `announces itself and cannot join: no other machine reaches a listener for MQTT (listen = ":1883" in [broker] lets others in)`
	}
	return "announces itself and has not joined: does it reach the broker? Are its user and password right? Its log says why (journalctl -u dominion-domain)"
}

func other(name, id, address string, state topics.DomainState, problem string) topics.DomainView {
	return topics.DomainView{
		Name: name, ID: id, State: state, Address: address, Problem: problem,
		Traits: []string{}, Services: []topics.Instance{}, Catalog: []string{},
	}
}
