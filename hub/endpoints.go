package hub

import (
	"cmp"
	"net"
	"slices"
	"strconv"

	"github.com/jmbarzee/dominion/topics"
)

// row is one instance that a domain tells of, where that counts: the domain is
// neither lost nor a microcontroller that is away.
type row struct {
	*domain
	topics.Instance
	health topics.Health
}

// address is where the instance is reached, "" where nobody knows.
func (r row) address() string { return cmp.Or(r.Instance.Address, r.status.Address) }

// rows lists the instances by service, each list by domain.
func (h *Hub) rows() map[string][]row {
	rows := make(map[string][]row, len(h.defs))
	for _, d := range h.sortedDomains() {
		if d.status == nil || d.state == topics.DomainIsLost || d.micro && !d.available {
			continue
		}
		for _, i := range d.status.Services {
			rows[i.Service] = append(rows[i.Service], row{d, i, d.healthOf(i)})
		}
	}
	return rows
}

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
	before := d.seen
	d.seen = make(map[string]uint64)
	for _, i := range d.status.Services {
		if i.State != topics.Running {
			continue
		}
		if d.seen[i.Service] = before[i.Service]; d.seen[i.Service] == 0 {
			h.counter++
			d.seen[i.Service] = h.counter
		}
	}
}

// findEndpoints collects the usable instances of every service, best first:
// healthy ones, then the one that was first before, then the one that was seen
// running first.
func (h *Hub) findEndpoints(rows map[string][]row) {
	before := h.endpoints
	h.endpoints = make(map[string][]topics.Endpoint, len(h.defs))
	for service, all := range rows {
		if !h.defined(service) {
			continue
		}
		usable := slices.DeleteFunc(slices.Clone(all), func(r row) bool {
			return r.State != topics.Running || r.address() == "" || r.Port == 0
		})
		if len(usable) == 0 {
			continue
		}
		first := ""
		if was := before[service]; len(was) > 0 {
			first = was[0].Domain
		}
		slices.SortStableFunc(usable, func(a, b row) int {
			return cmp.Or(
				order01(a.health == topics.Healthy, b.health == topics.Healthy),
				order01(a.name == first, b.name == first),
				cmp.Compare(a.seen[service], b.seen[service]),
			)
		})
		for _, r := range usable {
			h.endpoints[service] = append(h.endpoints[service], topics.Endpoint{
				Domain: r.name, Address: r.address(), Port: r.Port, Version: r.Instance.Version, Healthy: r.health == topics.Healthy,
			})
		}
		best := h.endpoints[service][0]
		h.addresses[service] = net.JoinHostPort(best.Address, strconv.Itoa(best.Port))
	}
}

// order01 sorts what is true before what is not.
func order01(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}
