package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// LookAfter is what to do about a domain that is away.
const LookAfter = "is it switched on and connected? `forget` it if it is gone for good"

// View returns a domain as others see it.
func (f *Fleet) View(d *Domain) topics.DomainView {
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
	v.Problem = f.Problem(d)
	s := d.Status
	if s == nil {
		return v
	}
	v.Draining, v.Address, v.Version, v.OS, v.Arch = s.Draining, s.Address, s.Version, s.OS, s.Arch
	v.Platform, v.Accept = s.Platform, s.Accept
	v.Traits = append(v.Traits, s.Traits...)
	v.Services = append(v.Services, s.Services...)
	v.Stale = d.State == topics.DomainIsLost || d.Micro && d.State == topics.DomainIsOffline
	for _, row := range s.Catalog {
		v.Catalog = append(v.Catalog, row.Service)
	}
	return v
}

// Views returns every domain, then the machines that are none: lonely ones, refused ones,
// and those whose status cannot be read.
func (f *Fleet) Views() []topics.DomainView {
	all := []topics.DomainView{}
	for _, d := range f.Sorted() {
		all = append(all, f.View(d))
	}
	for _, name := range slices.Sorted(maps.Keys(f.lonely)) {
		a := f.lonely[name]
		if f.refused[refusalKey{a.ID, a.Name}] == nil && !f.isDomain(a) {
			all = append(all, stranger(a.Name, a.ID, a.Address, topics.DomainIsLonely, f.whyLonely(a)))
		}
	}
	byKey := func(a, b refusalKey) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.name, b.name)) }
	for _, key := range slices.SortedFunc(maps.Keys(f.refused), byKey) {
		r := f.refused[key]
		all = append(all, stranger(r.name, r.id, r.address, topics.DomainIsRefused, r.reason))
	}
	for _, name := range slices.Sorted(maps.Keys(f.unreadable)) {
		if f.domains[name] == nil {
			all = append(all, stranger(name, "", "", topics.DomainIsRefused, f.whyUnreadable(name)))
		}
	}
	return all
}

// stranger returns the view of a machine that is no domain.
func stranger(name, id, address string, state topics.DomainState, problem string) topics.DomainView {
	return topics.DomainView{
		Name: name, ID: id, State: state, Address: address, Problem: problem,
		Traits: []string{}, Services: []topics.Instance{}, Catalog: []string{},
	}
}

// Count returns how many domains are in which state.
func (f *Fleet) Count() (n topics.DomainCount) {
	for _, d := range f.domains {
		if d.State == topics.DomainIsOnline {
			n.Online++
		} else {
			n.Offline++
		}
	}
	for _, a := range f.lonely {
		if !f.isDomain(a) {
			n.Lonely++
		}
	}
	return n
}

// Condition returns what is wrong with a domain and what to do, "" where it is well.
func (f *Fleet) Condition(d *Domain) string {
	if problem := f.Problem(d); problem != "" {
		return problem
	}
	if d.Micro && d.State == topics.DomainIsOffline {
		return "is offline: " + LookAfter
	}
	if d.State == topics.DomainIsLost {
		return "is lost: " + LookAfter
	}
	return ""
}

// Problem returns what is wrong with a domain besides that it is away. One that is away and
// announces itself cannot join: that is the one problem that it has.
func (f *Fleet) Problem(d *Domain) string {
	if problem := cmp.Or(f.whyRevoked(d), f.whyUnreadable(d.Name), d.problem()); problem != "" {
		return problem
	}
	if a, is := f.lonely[d.Name]; is && f.isDomain(a) && d.State != topics.DomainIsOnline {
		return f.whyLonely(a)
	}
	return ""
}

// whyRevoked returns what to do about a domain whose key was revoked; "": it was not.
func (f *Fleet) whyRevoked(d *Domain) string {
	if !f.isRevoked(d) {
		return ""
	}
	key := f.o.RevokedKey(d.ID)
	return fmt.Sprintf("its key %s was revoked, so nothing is taken from it: run `domain reset` on it, start its agent and adopt it as a new machine, or `forget` it if it is gone for good", key)
}

// isRevoked reports whether the key of a domain was revoked.
func (f *Fleet) isRevoked(d *Domain) bool {
	return f.o.RevokedKey != nil && !d.Micro && f.o.RevokedKey(d.ID) != ""
}

// problem returns what is wrong by what the domain publishes.
func (d *Domain) problem() string {
	switch s := d.Status; {
	case s != nil && !d.Micro && !topics.SameMajor(s.Protocol):
		return fmt.Sprintf("speaks protocol %s, this hub %s: it is given no services; bring both to the same version", s.Protocol, topics.Protocol)
	case d.Ahead:
		return fmt.Sprintf("reports epoch %d, which this hub never gave: it obeys no start commands; `dominionctl resync %s`", d.Heartbeat.Epoch, d.Name)
	case d.awaited.asked && !(d.awaited.absent && d.Available): // the next heartbeat notices that it came
		return d.awaited.problem()
	case d.flaps.now():
		return d.flaps.problem()
	case s != nil && len(s.Problems) > 0 && d.State == topics.DomainIsOnline:
		return "reports: " + strings.Join(s.Problems, "; ")
	}
	return ""
}

// whyUnreadable returns what to do about the status of a domain, "" where it was taken.
func (f *Fleet) whyUnreadable(name string) string {
	why := f.unreadable[name]
	if why == "" {
		return ""
	}
	return "its last status was not taken: " + why + "; correct it, or clear it by an empty retained message"
}
