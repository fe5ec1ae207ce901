// Package usage sums up what the instances of each service use, for the service's topic of
// metrics. Figures come with the metrics of the domains; sums are published at most once in
// topics.MetricsInterval, so that a service with many instances takes no more messages than
// one with a single one.
//
// It does no I/O and knows no other part of the hub: it gets the services of which figures
// came, and returns sums that are to be published. Package hub alone imports it, and calls
// it from its loop.
package usage

import (
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Usage holds what is published and what is to be. Make it with New.
type Usage struct {
	// published are the sums by service, in this connection to the broker.
	published map[string]topics.ServiceUsage
	// changed are the services of which other figures may have come.
	changed map[string]bool
	// connectedAt is when this connection began: until an interval later domains may not
	// have reported theirs.
	connectedAt time.Time
	// last is when sums were published; zero: not in this connection.
	last time.Time
	// next is when they are to be; zero: nothing changed.
	next time.Time
}

// New returns a Usage without services.
func New() *Usage {
	return &Usage{published: make(map[string]topics.ServiceUsage), changed: make(map[string]bool)}
}

// Connected begins a connection. The broker may have sums that an earlier one published.
func (u *Usage) Connected(now time.Time) {
	u.connectedAt, u.last = now, time.Time{}
	clear(u.published)
}

// Idle notes that no instance of a service is there: that it uses nothing is published once.
// Home Assistant shows unknown where nothing is.
func (u *Usage) Idle(service string) {
	if _, is := u.published[service]; !is {
		u.Recall(service)
	}
}

// Recall notes that an earlier run of the hub may have published a sum of a service.
func (u *Usage) Recall(service string) {
	u.changed[service] = true
	u.due(u.reportedBy())
}

// reportedBy is when all domains have reported figures in this connection.
func (u *Usage) reportedBy() time.Time { return u.connectedAt.Add(topics.MetricsInterval) }

// Change notes that other figures of these services may have come.
func (u *Usage) Change(services iter.Seq[string], now time.Time) {
	some := false
	for service := range services {
		u.changed[service], some = true, true
	}
	if !some {
		return
	}
	at := u.last.Add(topics.MetricsInterval)
	if at.Before(now) {
		at = now
	}
	u.due(at)
}

func (u *Usage) due(at time.Time) {
	if u.next.IsZero() || at.Before(u.next) {
		u.next = at
	}
}

// Next returns when Expire has something to do; zero: never.
func (u *Usage) Next() time.Time { return u.next }

// Sum is what the instances of a service use together.
type Sum struct {
	Service string
	topics.ServiceUsage
}

// Expire returns the sums that are to be published, by service. figures are those of each
// domain that is online. Of services that are not defined nothing is published.
func (u *Usage) Expire(figures iter.Seq[map[string]topics.Usage], defined func(service string) bool, now time.Time) (all []Sum) {
	if u.next.IsZero() || now.Before(u.next) {
		return nil
	}
	u.last, u.next = now, time.Time{}
	sums := u.sums(figures)
	for _, service := range slices.Sorted(maps.Keys(u.changed)) {
		sum, reported := sums[service]
		if !reported && now.Before(u.reportedBy()) {
			u.due(u.reportedBy())
			continue
		}
		delete(u.changed, service)
		if last, is := u.published[service]; is && last == sum || !defined(service) {
			continue
		}
		u.published[service] = sum
		all = append(all, Sum{service, sum})
	}
	return all
}

// sums adds the figures of the services that changed up.
func (u *Usage) sums(figures iter.Seq[map[string]topics.Usage]) map[string]topics.ServiceUsage {
	sums := make(map[string]topics.ServiceUsage, len(u.changed))
	for services := range figures {
		for service, used := range services {
			if u.changed[service] {
				s := sums[service]
				s.CPU, s.Memory, s.Instances = s.CPU+used.CPU, s.Memory+used.Memory, s.Instances+1
				sums[service] = s
			}
		}
	}
	for service, s := range sums {
		s.CPU = math.Round(s.CPU*1000) / 1000
		sums[service] = s
	}
	return sums
}
