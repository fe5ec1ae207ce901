// Package restarts holds the restarts that a person asked for. The instances of a service
// are restarted one after the other: the next one follows when the last is healthy again,
// and none when it is not. A restart of the hub ends them.
//
// It does no I/O and knows no other part of the hub. Package hub alone imports it, and calls
// it from its loop.
package restarts

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Restarts holds the services that are restarted. Make it with New.
type Restarts struct {
	home     Home
	services map[string]*restart
}

// Home is what the hub knows. Its functions are called within Expire alone.
type Home struct {
	// Instance returns the state of a service on a domain.
	Instance func(service, domain string) Instance
	// Patience returns how long an instance may take until it is healthy again.
	Patience func(service string) time.Duration
}

// Instance is the state of a service on a domain.
type Instance struct {
	// Reported is what the domain reports of it; nil: nothing, or the service is not
	// defined any more.
	Reported *topics.Instance
	// Health is that of Reported.
	Health topics.Health
	// Online reports whether the domain is.
	Online bool
	// Expected reports whether it is planned to run there, on a domain that is not lost.
	Expected bool
}

// Command is a restart that is to be ordered now.
type Command struct{ Service, Domain string }

// restart is a service whose instances are restarted.
type restart struct {
	// waiting are the domains whose instance is restarted later, by name.
	waiting []string
	// current is the domain whose instance is restarted now; "": none.
	current string
	// before is that instance before it was restarted.
	before topics.Instance
	// until is when it has had all the time that it may take.
	until time.Time
}

// New returns Restarts of no service.
func New(home Home) *Restarts {
	return &Restarts{home: home, services: make(map[string]*restart)}
}

// Add has the instances of a service on some domains restarted, after those that wait
// already. Expire begins with the first.
func (r *Restarts) Add(service string, domains []string) {
	one := r.services[service]
	if one == nil {
		one = new(restart)
		r.services[service] = one
	}
	one.waiting = append(one.waiting, domains...)
	slices.Sort(one.waiting)
	one.waiting = slices.Compact(one.waiting)
}

// Expire returns the restarts that are to be ordered now: of each service whose last
// instance is healthy again. The restart of a service ends where it is not, with an event.
func (r *Restarts) Expire(now time.Time) (commands []Command, events []topics.Event) {
	for _, service := range slices.Sorted(maps.Keys(r.services)) {
		one := r.services[service]
		if one.current != "" {
			over, problem := r.check(service, one, now)
			if !over {
				continue
			}
			if problem != "" && len(one.waiting) > 0 {
				events = append(events, topics.Event{
					Type: topics.ServiceReverted, Service: service, Domain: one.current,
					Message: fmt.Sprintf("%s: the restart goes no further: on %s %s; %s not restarted", service, one.current, problem, were(one.waiting)),
				})
				one.waiting = nil
			}
		}
		if r.next(service, one, now) {
			commands = append(commands, Command{service, one.current})
		} else {
			delete(r.services, service)
		}
	}
	return commands, events
}

// Next returns when an instance has had all its time; zero: none is restarted.
func (r *Restarts) Next() (next time.Time) {
	for _, one := range r.services {
		if one.current != "" && (next.IsZero() || one.until.Before(next)) {
			next = one.until
		}
	}
	return next
}

// next begins the restart of the next instance of a service. Those that are gone meanwhile
// are left out. It reports whether there is one.
func (r *Restarts) next(service string, one *restart, now time.Time) bool {
	one.current = ""
	for len(one.waiting) > 0 {
		domain := one.waiting[0]
		one.waiting = one.waiting[1:]
		i := r.home.Instance(service, domain)
		if !i.Online || i.Reported == nil || i.Reported.State == topics.Stopped {
			continue
		}
		one.current, one.before, one.until = domain, *i.Reported, now.Add(r.home.Patience(service))
		return true
	}
	return false
}

// check reports whether the restart of the current instance is over, and what is wrong with
// it; "": it is healthy, or not expected to run any more.
func (r *Restarts) check(service string, one *restart, now time.Time) (over bool, problem string) {
	i, late := r.home.Instance(service, one.current), !now.Before(one.until)
	if !i.Expected {
		return true, ""
	}
	if i.Reported == nil || !isAnotherRun(one.before, *i.Reported) {
		return late, "it was not restarted in time"
	}
	if i.Reported.State == topics.Finished || i.Reported.State == topics.Running && i.Health == topics.Healthy {
		return true, ""
	}
	if i.Reported.State == topics.Failed {
		return true, "it failed"
	}
	return late, "it was not healthy in time"
}

// isAnotherRun reports whether an instance is another run than before.
func isAnotherRun(before, now topics.Instance) bool {
	if now.Restarts != before.Restarts {
		return true
	}
	if before.PID != 0 || now.PID != 0 {
		return now.PID != before.PID && now.State != topics.Stopping
	}
	return now.Since != before.Since
}

func were(domains []string) string {
	if len(domains) == 1 {
		return domains[0] + " was"
	}
	return strings.Join(domains, ", ") + " were"
}
