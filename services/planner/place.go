package planner

import (
	"slices"

	"github.com/jmbarzee/dominion/topics"
)

// candidate is a domain in the placing of one service.
type candidate struct {
	*Domain
	*cell
	// ordered is set where the last start command has the service, unless it is a
	// microdomain's.
	ordered bool
	// present is set where there is an instance that is not stopping.
	present bool

	// needed is a service that needs the version of this copy, which no other has.
	needed string
	// preferred is set where it has a version that is needed and that no copy has.
	preferred bool
	// excluded is why it is not started there: something that runs cannot use its version.
	excluded string
	// replacedFor is why the copy is replaced by one of another version.
	replacedFor string
	choice      Choice
}

// usable reports whether the instance serves others now.
func (s *candidate) usable() bool { return s.instance.usable() && s.State != topics.DomainIsLost }

// leaves reports whether the instance has to leave its domain although the service is
// wanted: the domain is draining, or no longer fit for it. What has finished uses
// nothing, and would run again elsewhere.
func (s *candidate) leaves() bool {
	return s.Draining && s.instance.State != topics.Finished || s.unfit.reason != "" || s.moving || s.replacedFor != ""
}

// place decides where a service runs.
func (h *home) place(name string) *Outcome {
	o := &Outcome{On: h.on[name], Reason: h.why[name]}
	candidates := h.candidates(name)
	if o.On {
		h.fill(name, o, candidates)
	} else {
		h.empty(name, o, candidates)
	}
	if h.defs[name].Exclusive {
		h.makeExclusive(name, o, candidates)
	}
	if o.On {
		o.Broken = h.broken(name)
	}
	o.Choices = make([]Choice, len(candidates))
	for i := range candidates {
		o.Choices[i] = candidates[i].choice
	}
	return o
}

// candidates are the domains that have anything to do with a service: it is there, or
// could be. Why the others cannot run it is computed when it is asked for.
func (h *home) candidates(name string) []candidate {
	cells := h.read(name).cells
	candidates := slices.Grow(h.buffer[:0], len(cells))
	h.buffer = candidates
	for _, c := range cells {
		if !h.matters(c) {
			continue
		}
		i := c.instance
		s := candidate{Domain: &c.site.Domain, cell: c, ordered: c.ordered}
		// What has finished is present too: its agent does not start it again, another one would.
		s.present = s.ordered || i.State == topics.Finished || (i.State.Listed() && i.State != topics.Stopping)
		s.choice = Choice{Domain: s.Name}
		if s.Micro {
			s.ordered, s.present = false, false
		}
		candidates = append(candidates, s)
	}
	return candidates
}

// empty stops a service that is not wanted, after its dependents have stopped. What
// a person switched off stops at once.
func (h *home) empty(name string, o *Outcome, candidates []candidate) {
	after := ""
	if h.overrides[name].Switch != topics.Off || h.retired[name] {
		after = h.remainingDependent(h.dependents[name])
	}
	for i := range candidates {
		s := &candidates[i]
		switch {
		case s.Micro || (!s.ordered && !s.instance.State.Listed()):
			s.choice.Reason = o.Reason
		case after != "" && s.present:
			s.keep(o.Reason + "; stops after " + after)
		default:
			s.stop(o.Reason)
		}
	}
}

// remainingDependent returns the first of the services that has an instance left.
func (h *home) remainingDependent(names []string) string {
	for _, name := range names {
		for _, c := range h.read(name).cells {
			if d := c.site; !d.Gone && !d.Micro && c.instance.State.Listed() {
				return name
			}
		}
	}
	return ""
}

// fill assigns the instances of a wanted service: those that are present stay, what
// is missing is started on the best domains, surplus ones are stopped.
func (h *home) fill(name string, o *Outcome, candidates []candidate) {
	n, all := h.target(name)
	p := groupCandidates(candidates, all)
	there, away := builtIn(candidates)
	if all {
		n = len(p.live) + len(p.free) + p.away + there + away
	}
	o.Wanted, o.BuiltIn = n, there
	needs := h.versionNeeds(name)
	if !all && !h.defs[name].Exclusive {
		h.assignVersions(needs, &p, candidates, n)
	}
	excludeVersions(needs, &p, candidates)
	h.keepBest(name, o, p.live, candidates)
	missing := n - len(p.live) - there
	if awaited := h.awaitedDomain(name, p, all); missing > 0 && awaited != "" {
		for _, s := range p.free {
			s.choice = Choice{Domain: s.Name, Action: topics.ActionWait, Reason: awaited}
		}
		missing -= len(p.free)
	} else if missing > 0 {
		h.start(name, o, p.free, missing, all)
		h.explainMoves(name, o, candidates)
		missing -= len(p.free)
	}
	missing = retryFailed(o, p.failed, missing, serving(candidates) >= n)
	var stuck []string // lost domains that nothing can replace
	for _, s := range p.gone {
		switch {
		case all || missing > 0:
			s.keep(o.Reason + "; no other domain can run it, it goes on when " + s.Name + " is back")
			stuck = append(stuck, s.Name)
			missing--
		case serving(candidates) < n:
			s.keep(s.Name + " is lost; stays until its replacement is healthy")
		default:
			s.stop("moved away: " + s.Name + " is lost")
		}
	}
	endLeaving(candidates, n, h.replaces(name, candidates))
	if all && n > 0 { // it is wanted where it can run, and can there
		stuck = nil
	}
	h.explain(name, o, candidates, stuck, missing, n)
	setRanges(needs, candidates)
}

// awaitedDomain describes the domain that a service waits for before it is placed at
// all, "" where it need not: one that was there before the hub started may be back in a
// moment, and could run it as well as those that came first.
func (h *home) awaitedDomain(name string, p groups, all bool) string {
	if all || len(p.live)+len(p.failed)+len(p.gone) > 0 || len(p.free) == 0 {
		return ""
	}
	for _, d := range h.everyDomain() {
		if !d.Awaited {
			continue
		}
		at, there := d.find(name)
		fits := d.Unknown
		if there {
			fits = h.unfitAt(d.cells[at]).reason == ""
		}
		if fits && (len(h.defs[name].Domains) == 0 || slices.Contains(h.defs[name].Domains, d.Name)) {
			return "waits a moment for " + d.Name + ", which was there before the hub started and could run it"
		}
	}
	return ""
}

// retryFailed plans copies that have failed: they are tried again where they are until
// others serve. It returns how many are missing.
func retryFailed(o *Outcome, failed []*candidate, missing int, served bool) int {
	slices.SortStableFunc(failed, rank)
	for _, s := range failed {
		switch {
		case served && s.needed != "":
			s.keep("it failed on " + s.Name + ", and is tried again there: " + s.needed + " needs its version")
		case served:
			s.stop("it failed on " + s.Name + "; others serve")
		case missing > 0:
			s.keep(o.Reason + "; it failed on " + s.Name + ", and no other domain can run it")
			missing--
		default:
			s.keep("it failed on " + s.Name + "; stays until its replacement is healthy")
		}
	}
	return missing
}

// groups are the domains that can run a service.
type groups struct {
	live   []*candidate // have it
	free   []*candidate // could be assigned it now
	failed []*candidate // have it, but it failed there; it may run elsewhere
	gone   []*candidate // had it when they were lost
	away   int          // are offline now, and could be assigned it as soon as they are back
}

// groupCandidates groups the domains that can run a service; all: it is to run on each.
func groupCandidates(candidates []candidate, all bool) (p groups) {
	for i := range candidates {
		s := &candidates[i]
		if s.leaves() || s.Gone && !s.ordered {
			continue
		}
		switch {
		case s.Gone:
			p.gone = append(p.gone, s)
		case s.present && s.instance.State == topics.Failed && !all:
			p.failed = append(p.failed, s)
		case s.present:
			p.live = append(p.live, s)
		case unavailable(s.Domain) == "":
			p.free = append(p.free, s)
		default:
			p.away++
		}
	}
	return p
}

// serving counts the instances that serve, or have finished, and are not to stop.
func serving(candidates []candidate) (n int) {
	for i := range candidates {
		s := &candidates[i]
		if (s.choice.Runs() || s.Micro) && (s.usable() || s.instance.State == topics.Finished && !s.Gone) {
			n++
		}
	}
	return n
}

// replaces reports whether a replacement of a copy that leaves is on its way: a
// copy that was started elsewhere, or waits for what can come. One that failed or
// is not healthy does not count: what leaves would wait for it for ever.
func (h *home) replaces(name string, candidates []candidate) bool {
	for i := range candidates {
		s := &candidates[i]
		if s.Gone || s.Micro || s.leaves() {
			continue
		}
		if s.choice.Action == topics.ActionWait {
			if h.cannotCome(name) == "" {
				return true
			}
		} else if s.choice.Runs() && s.State == topics.DomainIsOnline && s.begins() {
			return true
		}
	}
	return false
}

// begins reports whether a copy that is to run does not serve yet and may.
func (s *candidate) begins() bool {
	switch s.instance.State {
	case topics.Failed, topics.Finished:
		return false
	case topics.Running:
		return s.instance.Health == topics.UnknownHealth
	}
	return true
}

// cannotCome returns the dependency that a service waits for in vain: no domain
// that takes orders is to run it. "" where there is none. The dependencies were
// placed before.
func (h *home) cannotCome(name string) string {
	for _, dep := range h.defs[name].Dependencies {
		s := h.read(dep.Service)
		comes := slices.ContainsFunc(s.cells, func(c *cell) bool {
			if _, runs := c.builtIn(); runs || c.instance.Done {
				return true
			}
			d := &c.site.Domain
			if s.outcome == nil || d.Gone || unavailable(d) != "" || c.instance.State == topics.Failed {
				return false
			}
			version := c.version
			if c.observed {
				version = c.instance.Version
			}
			choice := s.outcome.At(d.Name)
			return dep.Version.Contains(version) && (choice.Runs() || choice.Action == topics.ActionWait && h.cannotCome(dep.Service) == "")
		})
		if !comes {
			return dep.Service
		}
	}
	return ""
}

// endLeaving ends the copies on domains that are draining or no longer fit for the
// service. A copy stops when its replacement serves. n are wanted; coming reports that a
// replacement starts.
func endLeaving(candidates []candidate, n int, coming bool) {
	missing := serving(candidates) < n
	elsewhere := slices.ContainsFunc(candidates, func(s candidate) bool {
		return s.choice.Runs() && !s.Gone || s.choice.Action == topics.ActionWait
	})
	for i := range candidates {
		s := &candidates[i]
		if s.leaves() && !s.Micro && (s.ordered || s.instance.State.Listed()) {
			s.endLeaving(missing, coming, elsewhere)
		}
	}
}

// endLeaving ends a copy that leaves, or keeps it until its replacement serves. missing
// reports that less serve than are wanted, coming that a replacement starts, elsewhere that
// another domain has a copy or gets one. Where no replacement can come, a copy on a domain
// that is draining stops at once, whether others serve or not. An ordered table: the first
// row that fits decides.
func (s *candidate) endLeaving(missing, coming, elsewhere bool) {
	reason := s.leavingReason()
	unfit := s.unfit.reason != ""
	spread := (s.moving || s.replacedFor != "") && !unfit && !s.Draining
	replaced := unfit && s.unfit.ends == endsWhenReplaced && !s.Draining
	reachable := s.State == topics.DomainIsOnline && s.present
	switch {
	case unfit && s.unfit.ends == endsNow:
		s.stop(reason)
	case reachable && missing && (coming || replaced && elsewhere || spread):
		s.keep(reason + "; stays until its replacement is healthy")
	case replaced && !elsewhere:
		s.keep(reason + "; stays while nothing can replace it")
	case missing:
		s.stop(reason + ", and no other domain can take it now")
	default:
		s.stop(reason)
	}
}

func (s *candidate) keep(reason string) {
	s.choice.Action, s.choice.Reason = topics.ActionKeep, reason
}

func (s *candidate) stop(reason string) {
	s.choice.Action, s.choice.Reason = topics.ActionStop, reason
}
