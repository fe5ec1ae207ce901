package supervisor

import (
	"maps"
	"time"
)

// What is reported of one service goes to the log and to the hub: so much at
// once, then one report each reportEvery. A topic that flaps many times a second
// must not fill the disk by way of the journal.
const (
	reportsAtOnce       = 60
	reportEvery         = 10 * time.Second
	maxReportedServices = 1000 // services that are remembered
)

// reports bounds what is reported, by service: the moment at which nothing of
// what was reported counts any more. The zero value is ready.
type reports map[string]time.Time

// allow reports whether something may be reported of a service.
func (r *reports) allow(service string, now time.Time) bool {
	if *r == nil {
		*r = make(reports)
	}
	if len(*r) >= maxReportedServices {
		maps.DeleteFunc(*r, func(_ string, until time.Time) bool { return !until.After(now) })
	}
	until := (*r)[service]
	if until.Before(now) {
		until = now
	}
	if until = until.Add(reportEvery); until.Sub(now) > reportsAtOnce*reportEvery {
		return false
	}
	(*r)[service] = until
	return true
}
