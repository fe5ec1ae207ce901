package planner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Machine is what is known of a domain's machine. The hub takes a figure over
// only when it has clearly changed, so that a load that flickers is the same
// input.
type Machine struct {
	Cores  int    // 0: unknown, counts as one
	Memory uint64 // bytes in all; 0: unknown
	Load   int    // how many quarters of its cores are busy
	Full   bool   // nearly all of its memory is in use
}

func (m Machine) cores() int { return max(m.Cores, 1) }

// undeclared is what a service counts for that does not declare its need of
// the processor: a tenth of a core, in thousandths.
const undeclared = 100

// burden is what the services that a domain was given need.
type burden struct {
	services int
	cpu      float64 // thousandths of a core
	memory   float64 // bytes
}

func (b *burden) add(n services.Needs) {
	b.services++
	b.memory += float64(n.Memory)
	if n.CPU > 0 {
		b.cpu += 1000 * n.CPU
	} else {
		b.cpu += undeclared
	}
}

// burdens reports whether a service that is wanted is part of the load of its domain
// before anything is placed: the domain was ordered to run it, or it runs there
// without an order, as after a restart of the hub.
func (c *cell) burdens() bool {
	return !c.site.Micro && (c.ordered || c.runs())
}

// runs reports whether there is an instance that is not stopping.
func (c *cell) runs() bool {
	return c.observed && c.instance.State.Listed() && c.instance.State != topics.Stopping
}

// score is how well a domain suits a service that is to be started.
type score struct {
	*candidate
	usableBy   int    // how many dependents can use the version it has
	tight      bool   // its memory is promised or used already
	used       [3]int // how much of it would be in use, in ten-thousandths, by resource
	neighbours int    // how many services that this one works with are there
	load       burden // without the service
}

// The resources of a machine.
const (
	processor = iota // as the services declare
	memory           // as the services declare
	load             // as the machine reports
)

// busiest is the resource that is used most.
func (s *score) busiest() (resource int) {
	for r, used := range s.used {
		if used > s.used[resource] {
			resource = r
		}
	}
	return resource
}

const full = 10_000 // of a resource

// step is how much of a machine has to be in use to count as more: less than a
// tenth of it is not worth being far from what a service works with.
const step = full / 10

func (h *home) score(name string, s *candidate) score {
	c := score{candidate: s, usableBy: h.usableBy(name, s.cell.version), load: h.load(s.cell.site), neighbours: len(h.neighbours(name, s.cell.site))}
	if s.preferred {
		c.usableBy += len(h.dependents[name]) // more than any other has
	}
	c.computeUse(h.defs[name].Needs)
	return c
}

// computeUse computes how much of the machine is in use with the service and the load.
func (s *score) computeUse(needs services.Needs) {
	then, m := s.load, s.Machine
	then.add(needs)
	s.used = [3]int{processor: share(then.cpu, 1000*float64(m.cores())), load: m.Load * full / 4}
	s.tight = m.Full
	if m.Memory > 0 {
		s.used[memory] = share(then.memory, float64(m.Memory))
		s.tight = m.Full || s.used[memory] > full
	}
}

// subtract removes the service, which runs there, from the load.
func (s *score) subtract(needs services.Needs) {
	var one burden
	one.add(needs)
	s.load.services -= one.services
	s.load.cpu -= one.cpu
	s.load.memory -= one.memory
	s.computeUse(needs)
}

func share(part, of float64) int {
	const most = 1000 * full // far beyond any sensible machine, and far from an overflow
	return int(min(part/of*full, most))
}

// neighbours names the wanted services that name works with, because one needs
// the other, and that run or will run on the domain.
func (h *home) neighbours(name string, d *site) []string {
	var all []string
	there := func(other string) bool {
		h.read(other)
		i, known := d.find(other)
		if !known || !h.on[other] {
			return false
		}
		c := d.cells[i]
		if c.ordered || c.runs() {
			return true
		}
		_, everywhere := h.target(other)
		return everywhere && unavailable(&d.Domain) == "" && h.unfitAt(c).reason == ""
	}
	for _, t := range h.dependents[name] {
		if there(t) {
			all = append(all, t)
		}
	}
	for _, dep := range h.defs[name].Dependencies {
		if there(dep.Service) && !slices.Contains(all, dep.Service) {
			all = append(all, dep.Service)
		}
	}
	slices.Sort(all)
	return all
}

// criterion is why a domain is better than another one. The first in which two
// domains differ decides.
type criterion int

const (
	bySuits    criterion = iota // the version that most dependents can use
	byFlapping                  // was not lost too often
	byMemory                    // has memory left
	byUse                       // would be in use less, in coarse steps
	byNear                      // has what the service works with
	byExactUse                  // would be in use less
	byPromised                  // less of its processor is promised, where all are busy alike
	byName
)

// compareScores orders scores by which domain is preferred.
func compareScores(a, b *score) (int, criterion) {
	for c := bySuits; c < byName; c++ {
		if n := c.compare(a, b); n != 0 {
			return n, c
		}
	}
	return cmp.Compare(a.Name, b.Name), byName
}

// compare compares two scores by one criterion; negative: a is better.
func (c criterion) compare(a, b *score) int {
	switch c {
	case bySuits:
		return b.usableBy - a.usableBy
	case byFlapping:
		return first(!a.Flapping, !b.Flapping)
	case byMemory:
		return first(!a.tight, !b.tight)
	case byUse:
		return a.used[a.busiest()]/step - b.used[b.busiest()]/step
	case byNear:
		return b.neighbours - a.neighbours
	case byExactUse:
		return a.used[a.busiest()] - b.used[b.busiest()]
	case byPromised:
		return a.used[processor] - b.used[processor]
	}
	return 0
}

// because describes in what a, which was chosen, is better than b. past is for the
// later description of a choice.
func (h *home) because(name string, a, b *score, past bool) string {
	is, are, has := "is", "are", "has"
	if past {
		is, are, has = "was", "were", "had"
	}
	_, c := compareScores(a, b)
	switch c {
	case bySuits:
		return fmt.Sprintf("%s %s a version that more of what needs it can use than that of %s", a.Name, has, b.Name)
	case byFlapping:
		return fmt.Sprintf("%s was lost too often lately, %s was not", b.Name, a.Name)
	case byMemory:
		return fmt.Sprintf("%s %s memory left, that of %s %s %s", a.Name, has, b.Name, is, tightness(b))
	case byNear:
		return fmt.Sprintf("%s %s the machine of %s", a.Name, is, list(h.neighbours(name, a.cell.site)))
	case byUse, byExactUse, byPromised:
		r := b.busiest()
		if c == byPromised {
			r = processor
		}
		return fmt.Sprintf("%s %s less to do (%s) than %s (%s)", a.Name, has, a.describeLoad(r, b), b.Name, b.describeLoad(r, a))
	}
	return fmt.Sprintf("%s and %s %s equal, %s comes first by name", a.Name, b.Name, are, a.Name)
}

func tightness(s *score) string {
	if s.Machine.Full {
		return "nearly full"
	}
	return "promised to others"
}

// describeLoad describes the load of a domain, for the comparison of two by one
// resource.
func (s *score) describeLoad(resource int, other *score) string {
	what := fmt.Sprintf("%d services", s.load.services)
	switch s.load.services {
	case 0:
		what = "no service"
	case 1:
		what = "1 service"
	}
	cores := "1 core"
	if s.Machine.Cores > 1 {
		cores = fmt.Sprintf("%d cores", s.Machine.Cores)
	}
	counted := func(s *score) bool { return s.load.cpu == float64(undeclared*s.load.services) }
	switch {
	case resource == load:
		return fmt.Sprintf("%s, load about %s on %s", what, number(float64(s.Machine.Load*s.Machine.cores())/4), cores)
	case resource == memory:
		return fmt.Sprintf("%s, %s of %s promised", what, size(s.load.memory), size(float64(s.Machine.Memory)))
	case !counted(s) || !counted(other):
		return fmt.Sprintf("%s, %s of %s promised", what, number(s.load.cpu/1000), cores)
	case s.Machine.cores() != other.Machine.cores():
		return what + " on " + cores
	}
	return what
}

// number writes at most two digits behind the point.
func number(n float64) string {
	s := fmt.Sprintf("%.2f", n)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// size writes bytes as the configuration takes them.
func size(bytes float64) string {
	if bytes >= 1e9 {
		return number(bytes/1e9) + " GB"
	}
	if bytes >= 1e6 {
		return fmt.Sprintf("%.0f MB", bytes/1e6)
	}
	return fmt.Sprintf("%.0f kB", bytes/1e3)
}

// start chooses among the free domains, with the reasons.
func (h *home) start(name string, o *Outcome, free []*candidate, missing int, all bool) {
	wait := h.unmet(name)
	taken := min(missing, len(free))
	var scores []score
	if !all && len(free) > 1 {
		scores = make([]score, 0, len(free))
		for _, s := range free {
			scores = append(scores, h.score(name, s))
		}
		slices.SortFunc(scores, func(a, b score) int { n, _ := compareScores(&a, &b); return n })
		for i := range scores {
			free[i] = scores[i].candidate
		}
	}
	for i, s := range free {
		switch {
		case i >= taken && taken > 0: // scores are there: not all are taken
			s.choice.Reason = "could run it, but " + h.because(name, &scores[taken-1], &scores[i], false)
			continue
		case i >= taken:
			continue
		case all:
			s.choice.Reason = o.Reason + "; " + s.Name + " can run it"
		case len(free) == 1:
			s.choice.Reason = o.Reason + "; " + s.Name + " is the only domain that can run it now"
		case taken == len(free):
			s.choice.Reason = o.Reason + "; each domain that can run it now is needed"
		default:
			s.choice.Reason = o.Reason + "; " + h.because(name, &scores[i], &scores[taken], false)
			s.choice.Because = h.because(name, &scores[i], &scores[taken], true)
		}
		if s.choice.Action = topics.ActionStart; wait != "" {
			s.choice = Choice{Domain: s.Name, Action: topics.ActionWait, Reason: wait}
		}
	}
}
