// Package changeset holds what a pass of the hub has to look at: a pass over a home
// costs as much as what changed in it.
//
// Whoever changes what the hub knows notes that in one of three ways: Touch, of a
// domain; TouchService, of what is wanted of a service; or TouchAll, which is always
// right and costs a look at everything.
//
// It does no I/O and knows no other part of the hub. Package hub alone imports it, and
// calls it from its loop.
package changeset

// Set collects changes until the next pass. The zero Set has none.
type Set struct {
	all      bool
	domains  map[string]bool
	services map[string]bool
}

// Changes are what one pass looks at. The pass itself adds what follows from them.
type Changes struct {
	// Whole reports that anything may have changed.
	Whole bool
	// Domains are those of which something changed; some may be forgotten.
	Domains map[string]bool
	// Services are those of which something else is to be published.
	Services map[string]bool
	// Moved are the services that are reached somewhere else.
	Moved []string
}

// Touch notes that something of a domain changed.
func (s *Set) Touch(domain string) {
	if s.domains == nil {
		s.domains = make(map[string]bool)
	}
	s.domains[domain] = true
}

// TouchService notes that something else is wanted of a service.
func (s *Set) TouchService(name string) {
	if s.services == nil {
		s.services = make(map[string]bool)
	}
	s.services[name] = true
}

// TouchAll notes that anything may have changed.
func (s *Set) TouchAll() { s.all = true }

// Pending reports whether a pass has anything to do.
func (s *Set) Pending() bool { return s.all || len(s.domains)+len(s.services) > 0 }

// Take returns what has changed since the last call. Of a whole home the domains and
// services are empty: the pass adds all that there are.
func (s *Set) Take() *Changes {
	c := &Changes{Whole: s.all, Domains: s.domains, Services: s.services}
	*s = Set{}
	if c.Domains == nil || c.Whole {
		c.Domains = make(map[string]bool)
	}
	if c.Services == nil || c.Whole {
		c.Services = make(map[string]bool)
	}
	return c
}
