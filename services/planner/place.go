package planner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// spot is one domain, as the placing of one service sees it.
type spot struct {
	*Domain
	*cell
	ordered bool // in the last start command
	holds   bool // it is there and not on its way out

	needed    string // a service that needs the version of this copy, which no other has
	preferred bool   // it has a version that no copy has and that is needed
	barred    string // why it is not started there: something that runs cannot use its version
	gives     string // why the copy gives way to one of another version
	choice    Choice
}

// usable tells whether the instance serves others now.
func (s *spot) usable() bool { return s.instance.usable() && s.State != topics.DomainIsLost }

// leaves tells whether the instance has to go although the service is wanted:
// its domain is emptied, or is no longer meant for it. What has finished is
// not in anybody's way, and would run again elsewhere.
func (s *spot) leaves() bool {
	return s.Draining && s.instance.State != topics.Finished || s.unfit.reason != "" || s.leaving || s.gives != ""
}

// place decides where a service runs.
func (h *home) place(name string) *Outcome {
	o := &Outcome{On: h.on[name], Reason: h.why[name]}
	spots := h.spots(name)
	if o.On {
		h.fill(name, o, spots)
	} else {
		h.empty(name, o, spots)
	}
	if h.defs[name].Exclusive {
		h.alone(name, o, spots)
	}
	if o.On {
		o.Broken = h.broken(name)
	}
	o.Choices = make([]Choice, len(spots))
	for i := range spots {
		o.Choices[i] = spots[i].choice
	}
	return o
}

// spots are the domains that have anything to do with a service: it is there, or
// could be. Why the others cannot run it is said when somebody asks.
func (h *home) spots(name string) []spot {
	cells := h.look(name).cells
	spots := slices.Grow(h.spare[:0], len(cells))
	h.spare = spots
	for _, c := range cells {
		if !h.matters(c) {
			continue
		}
		i := c.instance
		s := spot{Domain: &c.site.Domain, cell: c, ordered: c.ordered}
		// What has finished is held too: its agent does not start it again, another one would.
		s.holds = s.ordered || i.State == topics.Finished || (i.State.Listed() && i.State != topics.Stopping)
		s.choice = Choice{Domain: s.Name}
		if s.Micro {
			s.ordered, s.holds = false, false
		}
		spots = append(spots, s)
	}
	return spots
}

// empty stops a service that is not wanted, after what needs it has stopped.
// What a person switched off stops at once.
func (h *home) empty(name string, o *Outcome, spots []spot) {
	after := ""
	if h.wants[name].Switch != topics.Off || h.retired[name] {
		after = h.stillThere(h.dependents[name])
	}
	for i := range spots {
		s := &spots[i]
		switch {
		case s.Micro || (!s.ordered && !s.instance.State.Listed()):
			s.choice.Reason = o.Reason
		case after != "" && s.holds:
			s.keep(o.Reason + "; stops after " + after)
		default:
			s.stop(o.Reason)
		}
	}
}

// stillThere names the first of the services that has an instance left.
func (h *home) stillThere(names []string) string {
	for _, name := range names {
		for _, c := range h.look(name).cells {
			if d := c.site; !d.Gone && !d.Micro && c.instance.State.Listed() {
				return name
			}
		}
	}
	return ""
}

// fill gives a wanted service its instances: those that are there stay, what
// is missing is started on the best domains, what is too many is stopped.
func (h *home) fill(name string, o *Outcome, spots []spot) {
	n, all := h.target(name)
	p := sort(spots, all)
	there, away := builtIn(spots)
	if all {
		n = len(p.live) + len(p.free) + p.away + there + away
	}
	o.Wanted, o.BuiltIn = n, there
	needs := h.versionNeeds(name)
	if !all && !h.defs[name].Exclusive {
		h.suit(needs, &p, spots, n)
	}
	bar(needs, &p, spots)
	h.keepBest(name, o, p.live, spots)
	missing := n - len(p.live) - there
	if awaited := h.awaited(name, p, all); missing > 0 && awaited != "" {
		for _, s := range p.free {
			s.choice = Choice{Domain: s.Name, Action: topics.ActionWait, Reason: awaited}
		}
		missing -= len(p.free)
	} else if missing > 0 {
		h.start(name, o, p.free, missing, all)
		h.sayMoves(name, o, spots)
		missing -= len(p.free)
	}
	missing = failing(o, p.failed, missing, serving(spots) >= n)
	var stuck []string // lost domains that nothing can replace
	for _, s := range p.gone {
		switch {
		case all || missing > 0:
			s.keep(o.Reason + "; no other domain can run it, it goes on when " + s.Name + " is back")
			stuck = append(stuck, s.Name)
			missing--
		case serving(spots) < n:
			s.keep(s.Name + " is lost; stays until its replacement is healthy")
		default:
			s.stop("moved away: " + s.Name + " is lost")
		}
	}
	leave(spots, n, h.replaces(name, spots))
	if all && n > 0 { // it is wanted where it can run, and can there
		stuck = nil
	}
	h.explain(name, o, spots, stuck, missing, n)
	demand(needs, spots)
}

// awaited says which domain a service waits for before it is placed at all, ""
// where it need not: one that was there before the hub started may be back in a
// moment, and could run it as well as those that came first.
func (h *home) awaited(name string, p parts, all bool) string {
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

// failing says what becomes of copies that ended too often: they are tried
// again where they are until others serve. It returns how many are missing.
func failing(o *Outcome, failed []*spot, missing int, served bool) int {
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

// parts are the domains that can run a service.
type parts struct {
	live   []*spot // hold it
	free   []*spot // could be given it now
	failed []*spot // hold it, but it ended too often there; it may run elsewhere
	gone   []*spot // held it when they were lost
	away   int     // are offline now, and could be given it as soon as they are back
}

func sort(spots []spot, all bool) (p parts) {
	for i := range spots {
		s := &spots[i]
		switch {
		case s.leaves():
		case s.Gone && s.ordered:
			p.gone = append(p.gone, s)
		case s.Gone:
		case s.holds && s.instance.State == topics.Failed && !all:
			p.failed = append(p.failed, s)
		case s.holds:
			p.live = append(p.live, s)
		case unavailable(s.Domain) == "":
			p.free = append(p.free, s)
		default:
			p.away++
		}
	}
	return p
}

// serving counts the instances that serve, or have done what they were for, and
// are not to stop.
func serving(spots []spot) (n int) {
	for i := range spots {
		s := &spots[i]
		if (s.choice.Runs() || s.Micro) && (s.usable() || s.instance.State == topics.Finished && !s.Gone) {
			n++
		}
	}
	return n
}

// replaces reports whether a replacement of a copy that leaves is on its way: a
// copy that was started elsewhere, or waits for what can come. One that failed or
// is not healthy there is none: what leaves would wait for it for ever.
func (h *home) replaces(name string, spots []spot) bool {
	for i := range spots {
		s := &spots[i]
		switch {
		case s.Gone || s.Micro || s.leaves():
		case s.choice.Action == topics.ActionWait:
			if h.cannotCome(name) == "" {
				return true
			}
		case s.choice.Runs() && s.State == topics.DomainIsOnline && s.begins():
			return true
		}
	}
	return false
}

// begins reports whether a copy that is to run does not serve yet and may.
func (s *spot) begins() bool {
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
		s := h.look(dep.Service)
		comes := slices.ContainsFunc(s.cells, func(c *cell) bool {
			if _, runs := c.builtIn(); runs || c.instance.Done {
				return true
			}
			d := &c.site.Domain
			if s.outcome == nil || d.Gone || unavailable(d) != "" || c.instance.State == topics.Failed {
				return false
			}
			version := c.version
			if c.told {
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

// leave ends the copies on domains that are emptied or no longer meant for
// the service. A copy goes when its replacement serves; where none can come, one
// on a domain that is emptied goes at once, whether others serve or not. An
// ordered table: the first row that fits decides.
func leave(spots []spot, n int, coming bool) {
	serves := serving(spots)
	elsewhere := slices.ContainsFunc(spots, func(s spot) bool {
		return s.choice.Runs() && !s.Gone || s.choice.Action == topics.ActionWait
	})
	for i := range spots {
		s := &spots[i]
		reason := cmp.Or(s.unfit.reason, s.gives, "it moves, to spread the services anew")
		if s.Draining {
			reason = s.Name + " is draining"
		}
		spread := (s.leaving || s.gives != "") && s.unfit.reason == "" && !s.Draining
		reachable := s.State == topics.DomainIsOnline && s.holds
		replaced := s.unfit.reason != "" && s.unfit.at == replaced && !s.Draining
		switch {
		case !s.leaves() || s.Micro || (!s.ordered && !s.instance.State.Listed()):
		case s.unfit.reason != "" && s.unfit.at == now:
			s.stop(reason)
		case reachable && serves < n && (coming || replaced && elsewhere || spread):
			s.keep(reason + "; stays until its replacement is healthy")
		case replaced && !elsewhere:
			s.keep(reason + "; stays while nothing can replace it")
		case serves < n:
			s.stop(reason + ", and no other domain can take it now")
		default:
			s.stop(reason)
		}
	}
}

// explain says why the domains that were not chosen were not, and why the
// service does not run where it should.
func (h *home) explain(name string, o *Outcome, spots []spot, stuck []string, missing, n int) {
	chosen, waits := "", false
	for i := range spots {
		if c := spots[i].choice; c.Action == topics.ActionWait {
			o.Reason, waits = c.Reason, true
		} else if _, built := spots[i].cell.builtIn(); built || c.Runs() && !spots[i].Gone {
			chosen = cmp.Or(chosen, c.Domain)
		}
	}
	enough := ""
	for i := range spots {
		s := &spots[i]
		switch {
		case s.choice.Action != "":
		case s.choice.Reason != "": // another one was better
		case s.Micro:
			s.choice.Reason = s.ownWords()
		case s.unfit.reason != "":
			s.choice.Reason = s.unfit.reason
		case unavailable(s.Domain) != "":
			s.choice.Reason = unavailable(s.Domain)
		default:
			if enough == "" && n == 1 && chosen != "" {
				enough = "could run it, but one is enough: " + chosen + " has it"
			} else if enough == "" {
				enough = fmt.Sprintf("could run it, but %d are enough", n)
			}
			s.choice.Reason = enough
		}
	}
	switch {
	case len(stuck) > 0 && !waits && chosen == "":
		o.Reason = lostWith(stuck)
	case len(stuck) > 0 && !waits && missing <= 0:
		o.Reason += "; " + lostWith(stuck)
	case missing <= 0 && n > 0:
	case !h.anyDomain():
		o.Reason = "no domain has joined yet"
	case chosen == "" && missing >= n && awaited(spots) != "":
		o.Reason = awaited(spots)
	case chosen == "" && h.unoffered(name) != "":
		o.Reason = h.unoffered(name)
	case chosen == "" && h.unsuited(name, spots) != "":
		o.Reason = "no domain can run it now: " + h.unsuited(name, spots)
	case missing > 0:
		o.Reason = fmt.Sprintf("%s; %d of %d wanted, no further domain can run it now", o.Reason, n-missing, n)
	}
}

// lostWith says which lost domains a service waits for, as nothing else can run it.
func lostWith(stuck []string) string {
	are := "is"
	if len(stuck) > 1 {
		are = "are"
	}
	return list(stuck) + " " + are + " lost, and no other domain can run it now"
}

// unoffered names a trait that the service needs and no domain offers: one cause
// for all domains, and most likely misspelled.
func (h *home) unoffered(name string) string {
	domains := h.everyDomain()
	for _, trait := range h.defs[name].Traits {
		if slices.ContainsFunc(domains, func(d *site) bool { return slices.Contains(d.Traits, trait) }) {
			continue
		}
		var offered []string
		for _, d := range domains {
			offered = append(offered, d.Traits...)
		}
		if best := services.Nearest(trait, offered, 2); best != "" {
			return fmt.Sprintf("no domain offers the trait `%s` (did you mean `%s`?)", trait, best)
		}
		return fmt.Sprintf("no domain offers the trait `%s`", trait)
	}
	return ""
}

// unsuited says why the domains that are given nothing are not, as short as a
// large home needs it: first those that could run it, were they not emptied or
// away, as that is what somebody can change at once.
func (h *home) unsuited(name string, spots []spot) string {
	const most = 3
	var reasons []string
	left := 0
	for i := range spots {
		s := &spots[i]
		switch {
		case !s.onlyAway() && s.barred == "":
		case len(reasons) == most:
			left++
		default:
			reasons = append(reasons, s.choice.Reason)
		}
	}
	for _, d := range h.everyDomain() {
		for len(spots) > 0 && spots[0].Name < d.Name {
			spots = spots[1:]
		}
		here := len(spots) > 0 && spots[0].Name == d.Name
		reason := "" // a pin is the same for all
		switch {
		case here && spots[0].choice.Action != "":
			continue
		case here && spots[0].unfit.reason == "": // free, or named above
			continue
		case len(reasons) == most:
			left++
			continue
		case here:
			reason = spots[0].choice.Reason
		default:
			reason = unfit(h.defs[name], &d.Domain).reason
		}
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	if left > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", left))
	}
	return strings.Join(reasons, "; ")
}

// onlyAway tells whether a domain could run the service and is given nothing
// because of what it is at the moment.
func (s *spot) onlyAway() bool {
	return s.choice.Action == "" && s.unfit.reason == "" && unavailable(s.Domain) != ""
}

func (s *spot) keep(reason string) {
	s.choice.Action, s.choice.Reason = topics.ActionKeep, reason
}

func (s *spot) stop(reason string) {
	s.choice.Action, s.choice.Reason = topics.ActionStop, reason
}

func stays(why string, s *spot) string {
	if s.stay.text != "" && s.stay.why == why && s.stay.state == s.State && s.stay.chosen == s.chosen {
		return s.stay.text // most of all reasons in a home at rest, so it is not written again
	}
	text := why + "; it is on " + s.Name + " already"
	switch {
	case s.State != topics.DomainIsOnline:
		text = fmt.Sprintf("%s; stays on %s, which is %s", why, s.Name, s.State)
	case s.chosen != "":
		text += ", which was chosen then: " + s.chosen
	}
	s.stay = stay{why, s.chosen, text, s.State}
	return text
}
