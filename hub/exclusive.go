package hub

import (
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/lease"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// exclusives is what the hub does for services that must never run twice. The
// rules are in services/lease; here is what they are told, and what they say
// to heartbeats, to the planner and to people.
type exclusives struct {
	book    *lease.Book
	run     string        // tells the commands of this run from any other's
	longest time.Duration // that a lease of this run matters
	again   time.Time     // when to plan again what was held back; zero: nothing was
}

// newRun is short: it travels with each heartbeat.
func newRun() string { return strings.ToLower(rand.Text()[:8]) }

// beginExclusives begins the book. What an earlier run gave may matter for as
// long as the file says, or as long as ours do: the file may be a backup.
func (h *Hub) beginExclusives() {
	x := &h.exclusives
	x.run = newRun()
	fresh := lease.NewBook(x.run, h.started, 0)
	fresh.Configure(h.leaseTerms())
	x.book = lease.NewBook(x.run, h.started, max(h.store.Patience(), fresh.Patience()))
	h.configureExclusives()
}

// leaseTerms are how long a lease holds, and how long each exclusive service
// may take to stop.
func (h *Hub) leaseTerms() (time.Duration, map[string]time.Duration) {
	stops := make(map[string]time.Duration)
	for _, defs := range []map[string]services.Definition{h.retired, h.defs} {
		for name, d := range defs {
			if d.Exclusive {
				stops[name] = d.StopTimeout
			}
		}
	}
	return h.cfg.Timing.Isolation.Duration(), stops
}

// configureExclusives takes the configuration over. How long leases matter is
// on disk before the first of them is given.
func (h *Hub) configureExclusives() {
	x := &h.exclusives
	x.book.Configure(h.leaseTerms())
	x.longest = max(x.longest, x.book.Patience())
	if h.store.Patience() < x.longest {
		h.keepPatience(x.longest)
		h.saveNow()
	}
}

func (h *Hub) keepPatience(d time.Duration) {
	h.keep(func(s *store.State) { s.Patience = topics.Seconds(d) })
}

// says tells the book what a domain says of its services.
func (h *Hub) says(d *domain) {
	s := d.status
	if d.micro || s == nil || s.Session == "" {
		return
	}
	all := make(map[string]topics.State, len(s.Services))
	for _, i := range s.Services {
		all[i.Service] = i.State
	}
	h.exclusives.book.Says(lease.Status{
		Run: lease.Run{Domain: d.id, Session: s.Session}, At: lease.Position{Epoch: s.Epoch, Generation: s.Generation, Run: s.Run}, Services: all,
	})
}

// leaseBeat is a heartbeat as the book takes it.
func leaseBeat(d *domain, b topics.Heartbeat) lease.Beat {
	return lease.Beat{
		Run: lease.Run{Domain: d.id, Session: b.Session}, Name: d.name,
		At: lease.Position{Epoch: b.Epoch, Generation: b.Generation, Run: b.Run}, Left: b.Lease.Duration(),
	}
}

// answerBeat answers a heartbeat by a lease, where the book says so.
func (h *Hub) answerBeat(d *domain, b topics.Heartbeat, now time.Time) {
	holds, ok := h.exclusives.book.Answer(leaseBeat(d, b), now)
	if ok {
		h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainLease, Domain: d.name}, topics.Encode(topics.Lease{
			Epoch: h.epoch, Session: b.Session, Seq: b.Seq, Seconds: holds.Seconds(),
		})))
	}
}

// expireExclusives notices what is over, and says when something will be.
func (h *Hub) expireExclusives(now time.Time) {
	x := &h.exclusives
	opened := x.book.Opened()
	next, changed := x.book.Expire(now)
	if !opened && x.book.Opened() && h.store.Patience() != x.longest {
		h.keepPatience(x.longest) // leases of before are over
	}
	if !x.again.IsZero() && !now.Before(x.again) {
		x.again, h.dirty = time.Time{}, true
	}
	if changed {
		_, stops := h.leaseTerms()
		for service := range stops {
			h.touchService(service)
		}
	}
	for _, at := range []time.Time{next, x.again} {
		if !at.IsZero() {
			h.due(at)
		}
	}
}

// held is who may be given each exclusive service now, as the planner takes it.
func (h *Hub) held(now time.Time) map[string]planner.Held {
	all := make(map[string]planner.Held)
	for name, d := range h.defs {
		if !d.Exclusive {
			continue
		}
		if hold := h.exclusives.book.Hold(name, now); !hold.Free {
			all[name] = h.inWords(hold)
		}
	}
	return all
}

// nameOf returns the name of the domain that has an id; "" where none has.
func (h *Hub) nameOf(id string) string {
	if d := h.withID(id, ""); d != nil {
		return d.name
	}
	return ""
}

// inWords says what a service waits for: by a moment where there is one, since the
// text stays the same while the time passes.
func (h *Hub) inWords(hold lease.Hold) planner.Held {
	held := planner.Held{Only: h.nameOf(hold.Only), Has: h.nameOf(hold.Has)}
	switch d := h.domains[hold.By]; {
	case hold.By == "" && hold.Until.IsZero():
		held.Why = "waits until it has stopped where it runs"
		if held.Only != "" {
			held.Why = "waits until it has stopped on " + held.Only
		}
	case hold.By == "":
		held.Why = "waits until what an earlier run of the hub allowed is over, at " + clock(hold.Until)
	case d != nil && d.state == topics.DomainIsOnline:
		held.Why = "waits until " + hold.By + " says that it has stopped there, or its lease is over"
	case d != nil && d.state != topics.DomainIsLost: // its lease may be renewed
		held.Why = "waits until the lease of " + hold.By + " is over: it may run there still"
	default:
		held.Why = "waits until the lease of " + hold.By + " is over, at " + clock(hold.Until) + ": it may run there still"
	}
	return held
}

// clock writes the first full second that is not before t.
func clock(t time.Time) string {
	return t.Add(time.Second - 1).Truncate(time.Second).Format("15:04:05 MST")
}

// mayOrder is the last word on a service that is to be ordered to a domain. The
// plan follows the same book, so it never says no; if the plan had a fault, a
// service would wait that should not, and nothing would run twice.
func (h *Hub) mayOrder(d *domain, def services.Definition, now time.Time) bool {
	if !def.Exclusive || d.ordered.services[def.Name] || h.exclusives.book.May(def.Name, d.id, now) {
		return true
	}
	// It has it already, by a command of an earlier run of the hub.
	if d.status != nil && d.ordered.encoded == "" && slices.ContainsFunc(d.status.Services, func(i topics.Instance) bool {
		return i.Service == def.Name && i.State != topics.Stopped
	}) {
		return true
	}
	h.log.Error("an exclusive service was planned where it may not run yet: held back", "service", def.Name, "domain", d.name)
	h.exclusives.again = now.Add(time.Second)
	h.due(h.exclusives.again)
	return false
}

// noteOrder tells the book of a start command.
func (h *Hub) noteOrder(d *domain, o order) {
	h.exclusives.book.Ordered(d.id, lease.Position{Epoch: h.epoch, Generation: o.generation, Run: h.exclusives.run}, o.services)
}

// above raises the generation of a command that brings an exclusive service
// above all that any domain was given in this epoch: what compares
// DOMINION_FENCE, which is epoch and generation, must see a later holder as later.
func (h *Hub) above(generation uint64, d *domain, specs map[string]topics.Spec) uint64 {
	brings := false
	for service, spec := range specs {
		brings = brings || spec.Exclusive && !d.ordered.services[service]
	}
	if !brings {
		return generation
	}
	for _, other := range h.domains {
		generation = max(generation, other.ordered.generation+1, other.seenGeneration(h.epoch)+1)
	}
	return generation
}

// foreign tells whether the domain obeys a command of this epoch that another
// run of a hub gave: one of us was restored from a backup.
func (h *Hub) foreign(d *domain) bool {
	return d.last.Epoch == h.epoch && d.last.Run != "" && d.last.Run != h.exclusives.run
}

// tellHeld tells the planner who may be given what now: that changes by time,
// and by leases, without anything else.
func (h *Hub) tellHeld(now time.Time) {
	held := h.held(now)
	for name, d := range h.defs {
		if d.Exclusive {
			h.planner.SetHeld(name, held[name])
		}
	}
}
