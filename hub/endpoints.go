package hub

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/jmbarzee/dominion/topics"
)

// row is one instance that a domain tells of, as far as others are told.
type row struct {
	domain, service string
	state           topics.State
	health          topics.Health
	version         string
	address         string // where it is reached, "" where nobody knows
	port            int
	message         string
	next            topics.Time // when it is tried again; zero: it is not
	done            bool
	seen            uint64
}

func (r row) compare(domain string) int { return cmp.Compare(r.domain, domain) }

// done reports whether an instance has ended and all went well. Of one that ended
// without a code (by a signal, or while its agent was away) nobody knows.
func done(i topics.Instance) bool {
	return i.State == topics.Finished && i.ExitCode != nil && *i.ExitCode == 0
}

func addressOf(i topics.Instance, of *topics.Domain) string { return cmp.Or(i.Address, of.Address) }

// healthOf is the health of an instance. A microcontroller need not speak of it.
func (d *domain) healthOf(i topics.Instance) topics.Health {
	if d.micro && i.Health == "" && i.State == topics.Running {
		return topics.Healthy
	}
	return cmp.Or(i.Health, topics.UnknownHealth)
}

// number gives each instance that was not seen running before a number, so
// that the order in which this hub saw them, and no machine's clock, decides
// between equal ones.
func (h *Hub) number(d *domain) {
	before := d.runningOrder
	d.runningOrder = make(map[string]uint64)
	for _, i := range d.status.Services {
		if i.State != topics.Running {
			continue
		}
		if d.runningOrder[i.Service] = before[i.Service]; d.runningOrder[i.Service] == 0 {
			h.counter++
			d.runningOrder[i.Service] = h.counter
		}
	}
}

// findEndpoints collects the usable instances of the services that changed,
// best first: the one that was first before, unless only others are healthy;
// then healthy ones, and of these the one that was seen running first.
func (h *Hub) findEndpoints(c *changes) {
	changed := maps.Keys(c.services)
	if c.whole {
		all := maps.Clone(c.services)
		for service := range h.rows {
			all[service] = true
		}
		for service := range h.endpoints {
			all[service] = true
		}
		changed = maps.Keys(all)
	}
	for service := range changed {
		first := h.best(service)
		if usable := h.usable(service, h.former(service, first)); len(usable) > 0 {
			h.endpoints[service] = usable
			address := net.JoinHostPort(usable[0].Address, strconv.Itoa(usable[0].Port))
			if h.addresses[service] != address {
				h.addresses[service] = address
				c.moved = append(c.moved, service)
			}
		} else {
			delete(h.endpoints, service)
		}
		// The planner knows of a domain whether it has the best.
		if now := h.best(service); now != first {
			for _, name := range []string{first, now} {
				if h.domains[name] != nil {
					c.domains[name] = true
				}
			}
		}
	}
}

// former is the domain that should stay the first endpoint: the one that was,
// after a start that of the run before, as far as the broker kept its word. The
// one that was offered stays when two are one too many, whoever comes back first.
func (h *Hub) former(service, first string) string {
	return cmp.Or(h.offered[service], first)
}

// recall takes what an earlier run said of a service, until we have settled.
func (h *Hub) recall(service string, m topics.Message) {
	s, err := topics.Decode[topics.Service](m.Topic, m.Payload)
	if err != nil || h.offered == nil {
		return
	}
	h.recallDetails(service, s)
	if s.Running > 0 {
		h.usageRecalled(service)
	}
	if len(s.Instances) == 0 {
		return
	}
	if best := s.Instances[0]; best.State == topics.Running && topics.ValidName(best.Domain) {
		h.offered[service] = best.Domain
		h.touchService(service)
	}
}

// best is the domain of a service's first endpoint, "" where there is none.
func (h *Hub) best(service string) string {
	if all := h.endpoints[service]; len(all) > 0 {
		return all[0].Domain
	}
	return ""
}

func (h *Hub) usable(service, first string) []topics.Endpoint {
	if !h.defined(service) {
		return nil
	}
	var usable []row
	for _, r := range h.rows[service] {
		if r.state == topics.Running && r.address != "" && r.port != 0 {
			usable = append(usable, r)
		}
	}
	unwell := func(r row) int {
		if r.health == topics.Healthy {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(usable, func(a, b row) int {
		return cmp.Or(unwell(a)-unwell(b), cmp.Compare(a.seen, b.seen))
	})
	was := slices.IndexFunc(usable, func(r row) bool { return r.domain == first })
	if was > 0 && (usable[was].health == topics.Healthy) == (usable[0].health == topics.Healthy) {
		best := usable[was]
		copy(usable[1:], usable[:was])
		usable[0] = best
	}
	endpoints := make([]topics.Endpoint, 0, len(usable))
	for _, r := range usable {
		endpoints = append(endpoints, topics.Endpoint{
			Domain: r.domain, Address: r.address, Port: r.port, Version: r.version, Healthy: r.health == topics.Healthy,
		})
	}
	return endpoints
}
