package planner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/internal/nearest"
	"github.com/jmbarzee/dominion/topics"
)

// leavingReason returns why a copy leaves its domain.
func (s *candidate) leavingReason() string {
	if s.Draining {
		return s.Name + " is draining"
	}
	return cmp.Or(s.unfit.reason, s.replacedFor, "it moves, to spread the services anew")
}

// explain sets the reasons of the domains that were not chosen, and why the service
// does not run where it should.
func (h *home) explain(name string, o *Outcome, candidates []candidate, stuck []string, missing, n int) {
	chosen, waits := "", false
	for i := range candidates {
		if c := candidates[i].choice; c.Action == topics.ActionWait {
			o.Reason, waits = c.Reason, true
		} else if _, built := candidates[i].cell.builtIn(); built || c.Runs() && !candidates[i].Gone {
			chosen = cmp.Or(chosen, c.Domain)
		}
	}
	explainNotChosen(candidates, chosen, n)
	switch {
	case len(stuck) > 0 && !waits && chosen == "":
		o.Reason = lostWith(stuck)
	case len(stuck) > 0 && !waits && missing <= 0:
		o.Reason += "; " + lostWith(stuck)
	case missing > 0 || n <= 0:
		o.Reason = h.missingReason(name, o.Reason, candidates, chosen, missing, n)
	}
}

// explainNotChosen sets the reason of each domain that was not chosen and has none
// yet. chosen is a domain that has the service, "" where none has; n instances are
// wanted.
func explainNotChosen(candidates []candidate, chosen string, n int) {
	enough := ""
	for i := range candidates {
		s := &candidates[i]
		if s.choice.Action != "" || s.choice.Reason != "" { // with a reason: another one was better
			continue
		}
		switch {
		case s.Micro:
			s.choice.Reason = s.microReason()
		case s.unfit.reason != "":
			s.choice.Reason = s.unfit.reason
		case unavailable(s.Domain) != "":
			s.choice.Reason = unavailable(s.Domain)
		default:
			if enough == "" { // the same for all, so it is formatted once
				enough = fmt.Sprintf("could run it, but %d are enough", n)
				if n == 1 && chosen != "" {
					enough = "could run it, but one is enough: " + chosen + " has it"
				}
			}
			s.choice.Reason = enough
		}
	}
}

// missingReason returns the reason of a service of which instances are missing, or of
// which none is wanted; it is the reason so far where there is nothing to add.
func (h *home) missingReason(name, reason string, candidates []candidate, chosen string, missing, n int) string {
	if !h.anyDomain() {
		return "no domain has joined yet"
	}
	if chosen == "" {
		if micro := awaitedMicrodomains(candidates); missing >= n && micro != "" {
			return micro
		}
		if trait := h.unoffered(name); trait != "" {
			return trait
		}
		if why := h.unsuited(name, candidates); why != "" {
			return "no domain can run it now: " + why
		}
	}
	if missing > 0 {
		staying := stayingUnfit(candidates)
		if missing -= len(staying); missing <= 0 {
			s := staying[0]
			return fmt.Sprintf("%s; it stays on %s while nothing can replace it, though %s", reason, s.Name, s.unfit.reason)
		}
		return fmt.Sprintf("%s; %d of %d wanted, no further domain can run it now", reason, n-missing, n)
	}
	return reason
}

// stayingUnfit returns the candidates whose copies stay though their domains are not fit for the service
// any more, as nothing can replace them.
func stayingUnfit(candidates []candidate) (all []*candidate) {
	for i := range candidates {
		if s := &candidates[i]; s.unfit.reason != "" && s.choice.Action == topics.ActionKeep && s.State != topics.DomainIsLost {
			all = append(all, s)
		}
	}
	return all
}

// lostWith describes the lost domains that a service waits for, as no other can run it.
func lostWith(stuck []string) string {
	are := "is"
	if len(stuck) > 1 {
		are = "are"
	}
	return list(stuck) + " " + are + " lost, and no other domain can run it now"
}

// unoffered describes a trait that the service needs and no domain offers: one cause
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
		if best := nearest.Find(trait, offered, 2); best != "" {
			return fmt.Sprintf("no domain offers the trait `%s` (did you mean `%s`?)", trait, best)
		}
		return fmt.Sprintf("no domain offers the trait `%s`", trait)
	}
	return ""
}

// unsuited describes why no other domain is assigned the service, shortened for a large
// home: first those that could run it if they were not draining or offline, as that
// is what a person can change at once.
func (h *home) unsuited(name string, candidates []candidate) string {
	const most = 3
	var reasons []string
	left := 0
	for i := range candidates {
		s := &candidates[i]
		if !s.onlyAway() && s.excluded == "" {
			continue
		}
		if len(reasons) == most {
			left++
		} else {
			reasons = append(reasons, s.choice.Reason)
		}
	}
	for _, d := range h.everyDomain() {
		for len(candidates) > 0 && candidates[0].Name < d.Name {
			candidates = candidates[1:]
		}
		here := len(candidates) > 0 && candidates[0].Name == d.Name
		reason := "" // a pin is the same for all
		switch {
		case here && candidates[0].choice.Action != "":
			continue
		case here && candidates[0].unfit.reason == "": // free, or named above
			continue
		case len(reasons) == most:
			left++
			continue
		case here:
			reason = candidates[0].choice.Reason
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

// onlyAway reports whether a domain could run the service, and is not assigned it only
// because of its present state.
func (s *candidate) onlyAway() bool {
	return s.choice.Action == "" && s.unfit.reason == "" && unavailable(s.Domain) != ""
}

// stays returns the reason of a copy that stays on its domain.
func stays(why string, s *candidate) string {
	if s.stayReason.text != "" && s.stayReason.why == why && s.stayReason.state == s.State && s.stayReason.chosen == s.chosen {
		return s.stayReason.text // these are most of the reasons of a home at rest, so they are not formatted again
	}
	text := why + "; it is on " + s.Name + " already"
	if s.State != topics.DomainIsOnline {
		text = fmt.Sprintf("%s; stays on %s, which is %s", why, s.Name, s.State)
	} else if s.chosen != "" {
		text += ", which was chosen then: " + s.chosen
	}
	s.stayReason = stayReason{why, s.chosen, text, s.State}
	return text
}
