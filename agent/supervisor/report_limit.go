package supervisor

import (
	"maps"
	"time"
)

// The rate limit of reports about one service, to the log and to the hub: a burst,
// then one each reportEvery. A topic that flaps many times a second must not fill
// the disk by way of the journal.
const (
	reportsAtOnce       = 60
	reportEvery         = 10 * time.Second
	maxReportedServices = 1000 // services that are remembered
)

// reports limits the rate of reports, by service: it holds the time at which no
// report counts any more. The zero value is ready.
type reports map[string]time.Time

// allow reports whether a report about a service is within the limit, and counts it.
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
