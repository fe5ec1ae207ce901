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
// The rules of place.go and fit.go read it through read, load, everyDomain and
// unfitAt, which record what the service that is being placed depends on; that
// is how a Planner knows which services a change affects. A rule that reads the
// domains of its own service's candidates needs none of that.
type home struct {
	// order has the services, dependencies first.
	order      []*subject
	defs       map[string]*services.Definition
	retired    map[string]bool
	dependents map[string][]string
	overrides  map[string]Override
	numbers    map[string]Scaled
	holds      map[string]Hold
	// on is whether a service is wanted, and why the reason for that.
	on  map[string]bool
	why map[string]string

	domains  []*site // by name
	sites    map[string]*site
	subjects map[string]*subject
	// placing is the service that is being placed; round counts the placings.
	placing *subject
	round   uint64
	// buffer is the memory of the candidates of the last placing.
	buffer []candidate
}

// site is a domain, and what it has to do with each service.
type site struct {
	Domain
	// cells are by service.
	cells []*cell
	// starts is what this plan starts there, in the order of placing.
	starts []*subject
	// work is the load of what is wanted and present before this plan, if workValid.
	work      burden
	workValid bool
}

// cell is what a domain has to do with one service: it has it in its catalog,
// was ordered to run it, or reports an instance of it.
type cell struct {
	site    *site
	subject *subject
	// version is that of the catalog, if inCatalog.
	version   string
	inCatalog bool
	// ordered is set where the last start command has it.
	ordered bool
	// observed is set where the agent reports instance.
	observed bool
	instance Instance
	// moving is set where the copy is to move elsewhere.
	moving bool
	// chosen is why it was assigned here and not elsewhere.
	chosen string
	// unfit is valid if unfitValid.
	unfit      unfitness
	unfitValid bool
	stayReason stayReason
}

// stayReason is the last result of stays, and its arguments.
type stayReason struct {
	why, chosen, text string
	state             topics.DomainState
}

// subject is a name that the home knows as a service's: of the configuration,
// or something that a domain has in its catalog.
type subject struct {
	name string
	// index is its place in the order; -1 when it is not defined.
	index   int
	cells   []*cell
	outcome *Outcome
	// room is whether a domain could run it (findPlace), if roomValid.
	room      room
	roomValid bool

	// readLoad and readAll are what its last placing read; readers are those whose
	// placing read this service, readIn the round of the last of them.
	readLoad, readAll bool
	readers           []*subject
	readIn            uint64

	// reviseWanted: whether it is wanted has to be decided again; replan: where it runs.
	reviseWanted, replan bool
}

// subject returns the subject of a name, a new one where there is none.
func (h *home) subject(name string) *subject {
	s := h.subjects[name]
	if s == nil {
		s = &subject{name: name, index: -1}
		h.subjects[name] = s
	}
	return s
}

// read returns a service for a rule: where it is, and whether it is wanted.
func (h *home) read(name string) *subject {
	s := h.subject(name)
	if h.placing == nil || s == h.placing || s.readIn == h.round {
		return s
	}
	s.readIn = h.round
	if !slices.Contains(s.readers, h.placing) {
		s.readers = append(s.readers, h.placing)
	}
	return s
}

// load is the load of a domain: what is wanted and present, and what this plan has
// assigned to it before.
func (h *home) load(d *site) burden {
	h.placing.readLoad = true
	if !d.workValid {
		d.workValid, d.work = true, burden{}
		for _, c := range d.cells {
			if h.on[c.subject.name] && c.burdens() {
				d.work.add(h.defs[c.subject.name].Needs)
			}
		}
	}
	b := d.work
	for _, s := range d.starts {
		if s.index < h.placing.index {
			b.add(h.defs[s.name].Needs)
		}
	}
	return b
}

// everyDomain returns all domains, by name, for a rule that reads more than those
// that have to do with its service.
func (h *home) everyDomain() []*site {
	h.placing.readAll = true
	return h.domains
}

func (h *home) anyDomain() bool { return len(h.everyDomain()) > 0 }

// unfitAt returns why a domain cannot run a service that is defined.
func (h *home) unfitAt(c *cell) unfitness {
	if !c.unfitValid {
		c.unfit, c.unfitValid = unfit(h.defs[c.subject.name], &c.site.Domain), true
	}
	return c.unfit
}

// matters reports whether a domain is a candidate for a service: the service is
// there, or could be.
func (h *home) matters(c *cell) bool {
	return h.unfitAt(c).reason == "" || c.ordered || c.observed
}

// hasPlace returns the result of findPlace.
func (h *home) hasPlace(name string) room {
	s := h.subject(name)
	if !s.roomValid {
		s.room, s.roomValid = h.findPlace(s), true
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
