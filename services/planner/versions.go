package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// A dependency is met in a range of versions. So of a service that others need,
// the copies that run have to cover the ranges of all of them, as far as there are
// copies to do so: the only copy in a range is not stopped, and one that nobody
// needs gives way to one on a domain with a version that somebody does.

// need is a range of versions that a service which is wanted asks for.
type need struct {
	of   string // the service that is needed
	by   string
	in   services.Range
	runs bool // a copy of the service that asks is there
}

// hasCopy reports whether a domain reports a copy of a service.
func (h *home) hasCopy(name string) bool {
	return slices.ContainsFunc(h.read(name).cells, func(c *cell) bool {
		return !c.site.Gone && c.observed && c.instance.State.Listed()
	})
}

// versionNeeds returns the ranges in which others need a service.
func (h *home) versionNeeds(name string) (all []need) {
	for _, t := range h.dependents[name] {
		for _, dep := range h.defs[t].Dependencies {
			if dep.Service != name || dep.Version.String() == "" {
				continue
			}
			if h.read(t); h.on[t] {
				all = append(all, need{name, t, dep.Version, h.hasCopy(t)})
			}
		}
	}
	slices.SortFunc(all, func(a, b need) int { return strings.Compare(a.by, b.by) })
	return all
}

// covers reports whether a copy on the domain is, or would be, in the range. One
// that failed is started as what is on the disk now.
func (n need) covers(s *candidate) bool {
	if s.observed && s.instance.State.Listed() && s.instance.State != topics.Failed && s.instance.Version != "" {
		return n.in.Contains(s.instance.Version)
	}
	return n.in.Contains(s.cell.version)
}

// assignVersions marks the copies whose version others need, and has one that nobody needs
// give way where a range is not covered and a free domain has a version in it.
func (h *home) assignVersions(needs []need, p *groups, candidates []candidate, n int) {
	if len(needs) == 0 {
		return
	}
	name := needs[0].of
	byRank := slices.Clone(p.live)
	slices.SortStableFunc(byRank, rank)
	all := append(byRank, p.failed...)
	built := 0
	for i := range candidates {
		if _, runs := candidates[i].cell.builtIn(); runs {
			all = append(all, &candidates[i])
			built++
		}
	}
	var open []need
	for _, one := range needs {
		if slices.ContainsFunc(all, func(s *candidate) bool { return s.needed != "" && one.covers(s) }) {
			continue
		}
		if at := slices.IndexFunc(all, one.covers); at >= 0 {
			all[at].needed = one.by
		} else {
			open = append(open, one)
		}
	}
	for _, one := range open {
		better := false
		for _, s := range p.free {
			if one.covers(s) {
				s.preferred, better = true, true
			}
		}
		if !better || len(p.live)+built < n {
			continue
		}
		for i, s := range slices.Backward(byRank) {
			if s.needed == "" && s.replacedFor == "" && slices.Contains(p.live, s) && i < n {
				s.replacedFor = fmt.Sprintf("%s needs %s %s", one.by, name, one.in)
				p.live = slices.DeleteFunc(p.live, func(other *candidate) bool { return other == s })
				break
			}
		}
	}
}

// excludeVersions removes the free domains whose version is out of the range that a service
// which runs needs, and that no copy covers: that service would be beside a version
// that it cannot use. What does not run yet waits for a version in its range
// instead (unmet).
func excludeVersions(needs []need, p *groups, candidates []candidate) {
	for _, one := range needs {
		covered := slices.ContainsFunc(p.live, one.covers)
		for i := range candidates {
			_, runs := candidates[i].cell.builtIn()
			covered = covered || runs && one.covers(&candidates[i])
		}
		if !one.runs || covered {
			continue
		}
		p.free = slices.DeleteFunc(p.free, func(s *candidate) bool {
			if one.covers(s) {
				return false
			}
			s.excluded = fmt.Sprintf("%s has %s %s, and %s, which runs, needs %s", s.Name, one.of, orUnknown(s.cell.version), one.by, one.in)
			s.choice.Reason = s.excluded
			return true
		})
	}
}

// setRanges sets with each copy which ranges it has to be started in: those that
// services which run need, it covers now or may cover, and no other copy does.
func setRanges(needs []need, candidates []candidate) {
	for i := range candidates {
		s := &candidates[i]
		if !s.choice.Runs() || s.Micro {
			continue
		}
		var all []string
		for _, one := range needs {
			versionKnown := s.observed && s.instance.Version != ""
			if !one.runs || versionKnown && !one.in.Contains(s.instance.Version) {
				continue
			}
			elsewhere := false
			for j := range candidates {
				other := &candidates[j]
				elsewhere = elsewhere || j != i && (other.choice.Runs() || other.Micro) && other.usable() && one.in.Contains(other.instance.Version)
			}
			if !elsewhere {
				all = append(all, one.by+" "+one.in.String())
			}
		}
		s.choice.Ranges = strings.Join(all, ", ")
	}
}

// Versions returns the ranges of a choice by the service that needs them; nil
// where there are none.
func (c Choice) Versions() map[string]string {
	if c.Ranges == "" {
		return nil
	}
	all := make(map[string]string)
	for one := range strings.SplitSeq(c.Ranges, ", ") {
		by, in, _ := strings.Cut(one, " ")
		all[by] = in
	}
	return all
}

// broken describes the dependency of a service that runs in no version that it can use,
// and what to do; "" where none does. It is about what runs as well as about what
// waits.
func (h *home) broken(name string) string {
	for _, dep := range h.defs[name].Dependencies {
		if dep.Version.String() == "" {
			continue
		}
		runs, has := "", ""
		met := false
		s := h.read(dep.Service)
		for _, c := range s.cells {
			d := c.site
			if d.Gone || d.State == topics.DomainIsLost {
				continue
			}
			if c.observed && (c.instance.State == topics.Running || c.instance.Done) {
				if dep.Version.Contains(c.instance.Version) {
					met = true
					break
				}
				runs = fmt.Sprintf("%s runs %s", d.Name, orUnknown(c.instance.Version))
			}
			if s.outcome != nil && s.outcome.At(d.Name).Runs() && c.instance.State != topics.Failed && dep.Version.Contains(c.version) {
				met = true // it is on its way
				break
			}
			if c.inCatalog && !c.ordered && h.defs[dep.Service] != nil && h.unfitAt(c).reason == "" && dep.Version.Contains(c.version) {
				has = d.Name
			}
		}
		if met || runs == "" {
			continue
		}
		what := fmt.Sprintf("%s needs %s %s, and %s", name, dep.Service, dep.Version, runs)
		if has != "" {
			return fmt.Sprintf("%s; %s has a version in that range: `dominionctl scale %s %d` runs it there, too", what, has, dep.Service, h.copies(dep.Service)+1)
		}
		return what + "; put a version in that range into the services_dir of a domain, or change the range in dominion.toml"
	}
	return ""
}

// copies counts the copies of a service that are there.
func (h *home) copies(name string) (n int) {
	for _, c := range h.read(name).cells {
		if !c.site.Gone && c.burdens() {
			n++
		}
	}
	return n
}
