// Package moves holds the instances that are to run on another domain, since somebody had
// the services rebalanced. An instance waits for its replacement for a bounded time, and
// stays after that. A restart of the hub ends all moves.
//
// It does no I/O and knows no other part of the hub. Package hub alone imports it, and calls
// it from its loop.
package moves

import (
	"slices"
	"time"
)

// Limit is how long an instance waits for its replacement.
const Limit = 5 * time.Minute

// Moves holds what moves. Make it with New.
type Moves struct {
	// until is when the move of an instance is given up, by domain and service.
	until map[string]map[string]time.Time
}

// New returns Moves of no instance.
func New() *Moves { return &Moves{until: make(map[string]map[string]time.Time)} }

// Add has instances move: by service, the domains that they leave. It returns the domains
// of which something else moves than before.
func (m *Moves) Add(moving map[string][]string, now time.Time) (domains []string) {
	for service, from := range moving {
		for _, domain := range from {
			if m.until[domain] == nil {
				m.until[domain] = make(map[string]time.Time)
			}
			m.until[domain][service] = now.Add(Limit)
			domains = append(domains, domain)
		}
	}
	slices.Sort(domains)
	return slices.Compact(domains)
}

// From returns the services whose instance is to leave a domain, as the planner takes them.
func (m *Moves) From(domain string) map[string]bool {
	if len(m.until[domain]) == 0 {
		return nil
	}
	services := make(map[string]bool, len(m.until[domain]))
	for service := range m.until[domain] {
		services[service] = true
	}
	return services
}

// Expire ends the moves of instances that are not present any more, and those that were not
// done in time. It returns the domains of which something else moves than before.
func (m *Moves) Expire(present func(service, domain string) bool, now time.Time) (domains []string) {
	for domain, services := range m.until {
		before := len(services)
		for service, until := range services {
			if !now.Before(until) || !present(service, domain) {
				delete(services, service)
			}
		}
		if len(services) < before {
			domains = append(domains, domain)
		}
		if len(services) == 0 {
			delete(m.until, domain)
		}
	}
	return domains
}

// Next returns when the next move is given up; zero: nothing moves.
func (m *Moves) Next() (next time.Time) {
	for _, services := range m.until {
		for _, until := range services {
			if next.IsZero() || until.Before(next) {
				next = until
			}
		}
	}
	return next
}
