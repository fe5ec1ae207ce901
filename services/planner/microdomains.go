package planner

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// A microdomain runs what is built into it and takes no orders. What it runs
// counts as a copy: no further one is started for it, and its dependents start. Its
// status stops no other copy: anybody who may publish to its topics can write it.
// While it is offline its service is reported without a state, so that what the
// service needs is not stopped at each interruption of a Wi-Fi.

// builtIn reports whether a domain has a service built in, and whether it runs.
func (c *cell) builtIn() (has, runs bool) {
	if !c.site.Micro || !c.observed {
		return false, false
	}
	return true, c.runs() && c.site.State == topics.DomainIsOnline
}

// builtIn counts the microdomains that run a service, and those that would if
// they were online.
func builtIn(candidates []candidate) (there, away int) {
	for i := range candidates {
		switch has, runs := candidates[i].cell.builtIn(); {
		case runs:
			there++
		case has && candidates[i].State != topics.DomainIsOnline:
			away++
		}
	}
	return there, away
}

// microReason is the reason for a microdomain, which has the service built in or cannot
// run it.
func (s *candidate) microReason() string {
	switch has, runs := s.cell.builtIn(); {
	case runs:
		return "it is built into " + s.Name + ", a microdomain, and runs there whatever is planned"
	case has && s.State != topics.DomainIsOnline:
		return "it is built into " + s.Name + ", which is " + string(s.State)
	}
	return s.unfit.reason
}

// awaitedMicrodomains lists the microdomains that have a service built in and are away.
func awaitedMicrodomains(candidates []candidate) string {
	var names []string
	for i := range candidates {
		if has, _ := candidates[i].cell.builtIn(); has && candidates[i].State != topics.DomainIsOnline {
			names = append(names, candidates[i].Name)
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return "it is built into " + names[0] + ", which is offline"
	default:
		return "it is built into " + strings.Join(names[:min(len(names), 3)], ", ") + ", which are offline"
	}
}
