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

// leases is what the hub does for services that must never run twice. The rules are in
// services/lease; here is what that is told, and how its answers reach heartbeats, the
// planner and people.
type leases struct {
	table *lease.Table
	// run distinguishes the commands of this run of the hub from those of any other.
	run string
	// longest is how long a lease of this run may be valid.
	longest time.Duration
	// again is when to plan what was held back; zero: nothing was.
	again time.Time
}

// newRun is short: it travels with each heartbeat.
func newRun() string { return strings.ToLower(rand.Text()[:8]) }

// beginLeases begins the table. Leases of an earlier run may be valid for as long as the
// file says, or as long as those of this run: the file may be a backup.
func (h *Hub) beginLeases() {
	x := &h.leases
	x.run = newRun()
	fresh := lease.NewTable(x.run, h.started, 0)
	fresh.Configure(h.leaseTerms())
	x.table = lease.NewTable(x.run, h.started, max(h.store.Patience(), fresh.Validity()))
	h.configureLeases()
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

// configureLeases takes over the configuration. How long leases may be valid is on disk
// before the first of them is granted.
func (h *Hub) configureLeases() {
	x := &h.leases
	x.table.Configure(h.leaseTerms())
	x.longest = max(x.longest, x.table.Validity())
	if h.store.Patience() < x.longest {
		h.keepPatience(x.longest)
		h.saveNow()
	}
}

func (h *Hub) keepPatience(d time.Duration) {
	h.keep(func(s *store.State) { s.Patience = topics.Seconds(d) })
}

// reportStatus passes on what a domain reports of its services.
func (h *Hub) reportStatus(d *domain) {
	s := d.Status
	if d.Micro || s == nil || s.Session == "" {
		return
	}
	all := make(map[string]topics.State, len(s.Services))
	for _, i := range s.Services {
		all[i.Service] = i.State
	}
	h.leases.table.Report(lease.Status{
		Run: lease.Run{Domain: d.ID, Session: s.Session}, At: lease.Position{Epoch: s.Epoch, Generation: s.Generation, Run: s.Run}, Services: all,
	})
}

// leaseBeat is a heartbeat as the table takes it.
func leaseBeat(d *domain, b topics.Heartbeat) lease.Beat {
	return lease.Beat{
		Run: lease.Run{Domain: d.ID, Session: b.Session}, Name: d.Name,
		At: lease.Position{Epoch: b.Epoch, Generation: b.Generation, Run: b.Run}, Left: b.Lease.Duration(),
	}
}

// answerBeat answers a heartbeat by a lease, where one is granted.
func (h *Hub) answerBeat(d *domain, b topics.Heartbeat, now time.Time) {
	holds, ok := h.leases.table.Answer(leaseBeat(d, b), now)
	if ok {
		h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainLease, Domain: d.Name}, topics.Encode(topics.Lease{
			Epoch: h.epoch, Session: b.Session, Seq: b.Seq, Seconds: holds.Seconds(),
		})))
	}
}

// expireLeases removes what has expired, and schedules what will.
func (h *Hub) expireLeases(now time.Time) {
	x := &h.leases
	opened := x.table.FormerExpired()
	next, changed := x.table.Expire(now)
	if !opened && x.table.FormerExpired() && h.store.Patience() != x.longest {
		h.keepPatience(x.longest) // those of earlier runs have expired
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

// holds returns to whom each exclusive service may be assigned now, as the planner takes it.
func (h *Hub) holds(now time.Time) map[string]planner.Hold {
	all := make(map[string]planner.Hold)
	for name, d := range h.defs {
		if !d.Exclusive {
			continue
		}
		if hold := h.leases.table.Hold(name, now); !hold.Free {
			all[name] = h.explainHold(hold)
		}
	}
	return all
}

// nameOf returns the name of the domain that has an id; "" where none has.
func (h *Hub) nameOf(id string) string {
	if d := h.withID(id, ""); d != nil {
		return d.Name
	}
	return ""
}

// explainHold describes what a service waits for: by a moment where there is one, since the
// text stays the same while the time passes.
func (h *Hub) explainHold(hold lease.Hold) planner.Hold {
	wait := planner.Hold{Only: h.nameOf(hold.Only), Has: h.nameOf(hold.Has)}
	switch d := h.domains[hold.By]; {
	case hold.By == "" && hold.Until.IsZero():
		wait.Why = "waits until it has stopped where it runs"
		if wait.Only != "" {
			wait.Why = "waits until it has stopped on " + wait.Only
		}
	case hold.By == "":
		wait.Why = "waits until what an earlier run of the hub allowed is over, at " + clock(hold.Until)
	case d != nil && d.State == topics.DomainIsOnline:
		wait.Why = "waits until " + hold.By + " says that it has stopped there, or its lease is over"
	case d != nil && d.State != topics.DomainIsLost: // its lease may be renewed
		wait.Why = "waits until the lease of " + hold.By + " is over: it may run there still"
	default:
		wait.Why = "waits until the lease of " + hold.By + " is over, at " + clock(hold.Until) + ": it may run there still"
	}
	return wait
}

// clock writes the first full second that is not before t.
func clock(t time.Time) string {
	return t.Add(time.Second - 1).Truncate(time.Second).Format("15:04:05 MST")
}

// mayOrder is the last check of a service that is to be assigned to a domain. The plan
// follows the same table, so it always passes; if the planner had a fault, a service would
// wait that should not, and nothing would run twice.
func (h *Hub) mayOrder(d *domain, def services.Definition, now time.Time) bool {
	if !def.Exclusive || d.Ordered.Services[def.Name] || h.leases.table.May(def.Name, d.ID, now) {
		return true
	}
	// It has it already, by a command of an earlier run of the hub.
	if d.Status != nil && d.Ordered.Encoded == "" && slices.ContainsFunc(d.Status.Services, func(i topics.Instance) bool {
		return i.Service == def.Name && i.State != topics.Stopped
	}) {
		return true
	}
	h.log.Error("an exclusive service was planned where it may not run yet: held back", "service", def.Name, "domain", d.Name)
	h.leases.again = now.Add(time.Second)
	h.due(h.leases.again)
	return false
}

// noteOrder notes a start command in the table.
func (h *Hub) noteOrder(d *domain, o order) {
	h.leases.table.Ordered(d.ID, lease.Position{Epoch: h.epoch, Generation: o.Generation, Run: h.leases.run}, o.Services)
}

// fencedGeneration raises the generation of a command that assigns an exclusive service
// above those of all commands in this epoch: what compares DOMINION_FENCE, which is epoch
// and generation, must see a later holder as later.
func (h *Hub) fencedGeneration(generation uint64, d *domain, specs map[string]topics.Spec) uint64 {
	brings := false
	for service, spec := range specs {
		brings = brings || spec.Exclusive && !d.Ordered.Services[service]
	}
	if !brings {
		return generation
	}
	for _, other := range h.domains {
		generation = max(generation, other.Ordered.Generation+1, other.SeenGeneration(h.epoch)+1)
	}
	return generation
}

// obeysAnotherRun reports whether the domain obeys a command of this epoch that another run
// of a hub published: one of the two was restored from a backup.
func (h *Hub) obeysAnotherRun(d *domain) bool {
	return d.Heartbeat.Epoch == h.epoch && d.Heartbeat.Run != "" && d.Heartbeat.Run != h.leases.run
}

// updateHolds tells the planner to whom exclusive services may be assigned now: that changes
// by time and by leases alone.
func (h *Hub) updateHolds(now time.Time) {
	holds := h.holds(now)
	for name, d := range h.defs {
		if d.Exclusive {
			h.planner.SetHold(name, holds[name])
		}
	}
}
