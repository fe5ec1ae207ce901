package planner

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// A microdomain runs what is built into it and takes no orders. What it runs
// counts as a copy: no further one is started for it, and what needs it
// starts. Its word stops no copy that is there: it is the word of whoever may
// write to its topics. While it is away its service is told of with no state,
// so that what the service needs is not stopped at each blink of a Wi-Fi.

// builtIn tells whether a domain has a service built in, and whether it runs.
func (c *cell) builtIn() (has, runs bool) {
	if !c.site.Micro || !c.told {
		return false, false
	}
	return true, c.runs() && c.site.State == topics.DomainIsOnline
}

// builtIn counts the microdomains that run a service, and those that would if
// they were there.
func builtIn(spots []spot) (there, away int) {
	for i := range spots {
		switch has, runs := spots[i].cell.builtIn(); {
		case runs:
			there++
		case has && spots[i].State != topics.DomainIsOnline:
			away++
		}
	}
	return there, away
}

// ownWords is what a microdomain's part in its service is.
func (s *spot) ownWords() string {
	switch has, runs := s.cell.builtIn(); {
	case runs:
		return "it is built into " + s.Name + ", a microdomain, and runs there whatever is planned"
	case has && s.State != topics.DomainIsOnline:
		return "it is built into " + s.Name + ", which is " + string(s.State)
	}
	return s.unfit.reason
}

// awaited names the microdomains that have a service built in and are away.
func awaited(spots []spot) string {
	var names []string
	for i := range spots {
		if has, _ := spots[i].cell.builtIn(); has && spots[i].State != topics.DomainIsOnline {
			names = append(names, spots[i].Name)
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
