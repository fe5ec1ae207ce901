// Package directory holds what the domains report of their instances, by service, and
// where each service is reached: its endpoints, best first.
//
// It does no I/O and knows no other part of the hub: rows of domains in, endpoints out.
// Package hub alone imports it, and calls it from its loop.
package directory

import (
	"cmp"
	"net"
	"slices"
	"strconv"

	"github.com/jmbarzee/dominion/topics"
)

// Row is an instance that a domain reports, with what is published of it.
type Row struct {
	Domain, Service string
	State           topics.State
	Health          topics.Health
	Version         string
	// Address is where it is reached; "": unknown.
	Address string
	Port    int
	Message string
	// NextTry is when it is started again; zero: it is not.
	NextTry topics.Time
	// Progress is how much of its bundle is there, in percent.
	Progress int
	// Done reports that it has ended and all went well.
	Done bool
	// Order numbers the instances in the order in which they were reported running, so that
	// no machine's clock decides between equal ones.
	Order uint64
}

func (r Row) compare(domain string) int { return cmp.Compare(r.Domain, domain) }

// Directory is the directory of a home. Make it with New.
type Directory struct {
	// rows are the instances by service, sorted by domain.
	rows map[string][]Row
	// services are those of the rows of each domain.
	services map[string][]string
	// endpoints are by service.
	endpoints map[string][]topics.Endpoint
	// addresses are the last address:port of each service.
	addresses map[string]string
	// former is the best domain of an earlier run, by service; nil after Settle.
	former map[string]string
}

// New returns an empty directory.
func New() *Directory {
	return &Directory{
		rows: make(map[string][]Row), services: make(map[string][]string),
		endpoints: make(map[string][]topics.Endpoint), addresses: make(map[string]string), former: make(map[string]string),
	}
}

// SetDomain replaces the rows of a domain, and returns the services whose rows changed.
func (d *Directory) SetDomain(domain string, rows []Row) (changed []string) {
	for _, service := range d.services[domain] {
		if !slices.ContainsFunc(rows, func(r Row) bool { return r.Service == service }) {
			d.remove(service, domain)
			changed = append(changed, service)
		}
	}
	delete(d.services, domain)
	for _, r := range rows {
		d.services[domain] = append(d.services[domain], r.Service)
		if d.set(r) {
			changed = append(changed, r.Service)
		}
	}
	return changed
}

// set puts a row, and reports whether it is another one than before.
func (d *Directory) set(r Row) bool {
	rows := d.rows[r.Service]
	i, is := slices.BinarySearchFunc(rows, r.Domain, Row.compare)
	if !is {
		d.rows[r.Service] = slices.Insert(rows, i, r)
		return true
	}
	if rows[i] == r {
		return false
	}
	rows[i] = r
	return true
}

// remove removes the row of a service on a domain.
func (d *Directory) remove(service, domain string) {
	rows := d.rows[service]
	if i, is := slices.BinarySearchFunc(rows, domain, Row.compare); is {
		rows = slices.Delete(rows, i, i+1)
	}
	if d.rows[service] = rows; len(rows) == 0 {
		delete(d.rows, service)
	}
}

// Rows returns the rows of a service, sorted by domain. They must not be changed.
func (d *Directory) Rows(service string) []Row { return d.rows[service] }

// Domains returns the domains that have rows.
func (d *Directory) Domains() []string {
	all := make([]string, 0, len(d.services))
	for domain := range d.services {
		all = append(all, domain)
	}
	return all
}

// Services returns the services that have rows or endpoints. One may come twice.
func (d *Directory) Services() []string {
	all := make([]string, 0, len(d.rows)+len(d.endpoints))
	for service := range d.rows {
		all = append(all, service)
	}
	for service := range d.endpoints {
		all = append(all, service)
	}
	return all
}

// Update determines the endpoints of a service; one that is not defined has none. It
// reports whether the service is reached somewhere else than before, and returns the
// domains of the best endpoint before and now; "": there is none.
func (d *Directory) Update(service string, defined bool) (moved bool, before, now string) {
	before = d.Best(service)
	var usable []topics.Endpoint
	if defined {
		usable = d.Usable(service, cmp.Or(d.former[service], before))
	}
	if len(usable) == 0 {
		delete(d.endpoints, service)
		return false, before, ""
	}
	d.endpoints[service] = usable
	if address := net.JoinHostPort(usable[0].Address, strconv.Itoa(usable[0].Port)); d.addresses[service] != address {
		d.addresses[service] = address
		moved = true
	}
	return moved, before, d.Best(service)
}

// Usable returns the endpoints of a service, best first: that of the domain first, unless
// only others are healthy; then healthy ones, and of these the one that was reported running
// first.
func (d *Directory) Usable(service, first string) []topics.Endpoint {
	var usable []Row
	for _, r := range d.rows[service] {
		if r.State == topics.Running && r.Address != "" && r.Port != 0 {
			usable = append(usable, r)
		}
	}
	unwell := func(r Row) int {
		if r.Health == topics.Healthy {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(usable, func(a, b Row) int {
		return cmp.Or(unwell(a)-unwell(b), cmp.Compare(a.Order, b.Order))
	})
	at := slices.IndexFunc(usable, func(r Row) bool { return r.Domain == first })
	if at > 0 && unwell(usable[at]) == unwell(usable[0]) {
		best := usable[at]
		copy(usable[1:], usable[:at])
		usable[0] = best
	}
	endpoints := make([]topics.Endpoint, 0, len(usable))
	for _, r := range usable {
		endpoints = append(endpoints, topics.Endpoint{
			Domain: r.Domain, Address: r.Address, Port: r.Port, Version: r.Version, Healthy: r.Health == topics.Healthy,
		})
	}
	return endpoints
}

// Endpoints returns the endpoints of a service, best first. They must not be changed.
func (d *Directory) Endpoints(service string) []topics.Endpoint { return d.endpoints[service] }

// Best returns the domain of a service's best endpoint, "" where there is none.
func (d *Directory) Best(service string) string {
	if all := d.endpoints[service]; len(all) > 0 {
		return all[0].Domain
	}
	return ""
}

// Address returns the last known address:port of a service: one that is away for a moment
// keeps its address. false: it never had one.
func (d *Directory) Address(service string) (string, bool) {
	address, is := d.addresses[service]
	return address, is
}

// Recall notes which domain had the best endpoint of a service in an earlier run of the
// hub, and reports whether that counts: it does until Settle. That one stays the best,
// whoever comes back first.
func (d *Directory) Recall(service, domain string) bool {
	if d.former == nil {
		return false
	}
	d.former[service] = domain
	return true
}

// Recalls reports whether Recall still counts.
func (d *Directory) Recalls() bool { return d.former != nil }

// Settle ends what an earlier run of the hub counts for: the endpoints go on from here.
func (d *Directory) Settle() { d.former = nil }

// Remove forgets the address of a service that is gone from the configuration.
func (d *Directory) Remove(service string) { delete(d.addresses, service) }
