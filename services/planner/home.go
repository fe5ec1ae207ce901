package planner

import (
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// home is the input, arranged for planning: what each service is, and where it
// has anything to do.
//
// The rules of place.go and fit.go read it through look, load, everyDomain and
// unfitAt, which note what the service that is being placed depends on; that
// is how a Planner knows whom a change touches. A rule that reads the domains
// of its own service's spots needs none of that.
type home struct {
	order      []*subject // dependencies first
	defs       map[string]*services.Definition
	retired    map[string]bool
	dependents map[string][]string
	wants      map[string]Want
	numbers    map[string]Scaled
	held       map[string]Held
	on         map[string]bool
	why        map[string]string // why a service is on or off

	domains  []*site // by name
	sites    map[string]*site
	subjects map[string]*subject
	placed   *subject // whose turn it is
	round    uint64   // counts the turns
	spare    []spot   // of the last turn
}

// site is a domain, and what it has to do with each service.
type site struct {
	Domain
	cells []*cell    // by service
	given []*subject // what this plan starts there, in the order of placing
	work  burden     // of what is wanted and there, before this plan
	known bool       // whether work is
}

// cell is what a domain has to do with one service: it has it in its catalog,
// was ordered to run it, or tells of it.
type cell struct {
	site     *site
	subject  *subject
	version  string // of the catalog
	held     bool   // it is in the catalog
	ordered  bool
	told     bool // the agent tells of it
	leaving  bool // it is to move elsewhere
	instance Instance
	chosen   string // why it was ordered here and not elsewhere
	unfit    unfitness
	judged   bool // whether unfit is known
	stay     stay
}

// stay is the reason that stays gave last, and for what.
type stay struct {
	why, chosen, text string
	state             topics.DomainState
}

// subject is a name that the home knows as a service's: of the configuration,
// or something that a domain has in its catalog.
type subject struct {
	name     string
	place    int // in the order; -1 when it is not defined
	cells    []*cell
	outcome  *Outcome
	room     room // whether a domain could run it (findPlace)
	searched bool // whether that is known

	// what its last placing read, and who read it
	readLoad, readAll bool
	readers           []*subject
	readIn            uint64 // the turn in which it was read last

	// what has to be done
	judge  bool // whether it is wanted
	replan bool
}

// subject returns what is known by a name, as a new one where nothing is.
func (h *home) subject(name string) *subject {
	s := h.subjects[name]
	if s == nil {
		s = &subject{name: name, place: -1}
		h.subjects[name] = s
	}
	return s
}

// look returns what a rule wants to know of a service: where it is, and
// whether it is wanted.
func (h *home) look(name string) *subject {
	s := h.subject(name)
	if h.placed == nil || s == h.placed || s.readIn == h.round {
		return s
	}
	s.readIn = h.round
	if !slices.Contains(s.readers, h.placed) {
		s.readers = append(s.readers, h.placed)
	}
	return s
}

// load is what a domain has to do: what is wanted and there, and what this
// plan gave it before.
func (h *home) load(d *site) burden {
	h.placed.readLoad = true
	if !d.known {
		d.known, d.work = true, burden{}
		for _, c := range d.cells {
			if h.on[c.subject.name] && c.burdens() {
				d.work.add(h.defs[c.subject.name].Needs)
			}
		}
	}
	b := d.work
	for _, s := range d.given {
		if s.place < h.placed.place {
			b.add(h.defs[s.name].Needs)
		}
	}
	return b
}

// everyDomain returns all domains, by name, for a rule that looks beyond those
// that have to do with its service.
func (h *home) everyDomain() []*site {
	h.placed.readAll = true
	return h.domains
}

func (h *home) anyDomain() bool { return len(h.everyDomain()) > 0 }

// unfitAt says why a domain cannot run a service that is defined.
func (h *home) unfitAt(c *cell) unfitness {
	if !c.judged {
		c.unfit, c.judged = unfit(h.defs[c.subject.name], &c.site.Domain), true
	}
	return c.unfit
}

// matters tells whether a domain has to be looked at when a service is placed:
// the service is there, or could be.
func (h *home) matters(c *cell) bool {
	return h.unfitAt(c).reason == "" || c.ordered || c.told
}

// hasPlace tells what findPlace found.
func (h *home) hasPlace(name string) room {
	s := h.subject(name)
	if !s.searched {
		s.room, s.searched = h.findPlace(s), true
	}
	return s.room
}

// find returns the place of a service among the cells of a domain.
func (d *site) find(service string) (int, bool) {
	return slices.BinarySearchFunc(d.cells, service, func(c *cell, name string) int { return strings.Compare(c.subject.name, name) })
}

// at returns the place of a domain among the cells of a service.
func (s *subject) at(domain string) (int, bool) {
	return slices.BinarySearchFunc(s.cells, domain, func(c *cell, name string) int { return strings.Compare(c.site.Name, name) })
}
