package hub

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// usages are what the hub publishes of what services use. The figures come with
// the metrics of the domains. They are summed up by service, at most once in
// topics.MetricsInterval, so that a service with many instances takes no more
// messages than one with a single one.
type usages struct {
	published map[string]topics.ServiceUsage // by service, in this connection
	changed   map[string]bool                // services of which new figures came
	last, at  time.Time                      // when they were published, and when they are to be; zero: not
	since     time.Time                      // of this connection: until an interval later domains may not have told theirs
}

// usagesConnected begins a connection, of which the broker may have figures that an
// earlier one published.
func (h *Hub) usagesConnected(now time.Time) {
	h.usages.since, h.usages.last = now, time.Time{}
	clear(h.usages.published)
}

// usageIdle notes that nothing of a service is there: that it uses nothing is
// published once. Home Assistant shows unknown where nothing is.
func (h *Hub) usageIdle(service string) {
	if _, known := h.usages.published[service]; !known {
		h.usageRecalled(service)
	}
}

// usageRecalled notes that an earlier run of the hub published figures of a service.
func (h *Hub) usageRecalled(service string) {
	h.usages.change(service)
	h.usagesDue(h.usages.since.Add(topics.MetricsInterval))
}

func (u *usages) change(service string) {
	if u.changed == nil {
		u.changed = make(map[string]bool)
	}
	u.changed[service] = true
}

func (h *Hub) usagesDue(at time.Time) {
	if u := &h.usages; u.at.IsZero() || at.Before(u.at) {
		u.at, h.stirred = at, true
	}
}

// usageChanged notes that the figures of all services of a domain may be others.
func (h *Hub) usageChanged(d *domain, now time.Time) {
	for service := range d.usage {
		h.usages.change(service)
	}
	if len(d.usage) == 0 {
		return
	}
	at := h.usages.last.Add(topics.MetricsInterval)
	if at.Before(now) {
		at = now
	}
	h.usagesDue(at)
}

// expireUsages publishes the figures that changed once they are due.
func (h *Hub) expireUsages(now time.Time) {
	u := &h.usages
	if u.at.IsZero() {
		return
	}
	if now.Before(u.at) {
		h.due(u.at)
		return
	}
	u.last, u.at = now, time.Time{}
	sums := make(map[string]topics.ServiceUsage, len(u.changed))
	for _, d := range h.domains {
		if d.State != topics.DomainIsOnline {
			continue
		}
		for service, used := range d.usage {
			if u.changed[service] {
				s := sums[service]
				s.CPU, s.Memory, s.Instances = s.CPU+used.CPU, s.Memory+used.Memory, s.Instances+1
				sums[service] = s
			}
		}
	}
	told := u.since.Add(topics.MetricsInterval)
	for _, service := range slices.Sorted(maps.Keys(u.changed)) {
		s, known := sums[service]
		if !known && now.Before(told) {
			h.usagesDue(told)
			continue
		}
		delete(u.changed, service)
		s.CPU = math.Round(s.CPU*1000) / 1000
		if last, known := u.published[service]; known && last == s || !h.defined(service) {
			continue
		}
		if u.published == nil {
			u.published = make(map[string]topics.ServiceUsage)
		}
		u.published[service] = s
		h.pub.Publish(h.usageMessage(service, s))
	}
}

func (h *Hub) usageMessage(service string, s topics.ServiceUsage) topics.Message {
	return h.tree.Message(topics.Address{Kind: topics.ServiceMetrics, Service: service}, topics.Encode(s))
}
