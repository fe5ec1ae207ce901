package hub

import (
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/leases"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// newLeases returns the leases of a hub, which Run begins.
func (h *Hub) newLeases() *leases.Leases {
	return leases.New(leases.Home{
		NameOf: func(id string) string {
			if d := h.fleet.WithID(id); d != nil {
				return d.Name
			}
			return ""
		},
		StateOf: func(name string) topics.DomainState {
			if d := h.fleet.Get(name); d != nil {
				return d.State
			}
			return ""
		},
	})
}

// leaseTerms are those of the configuration, and of services that are gone from it and may
// run still.
func (h *Hub) leaseTerms() leases.Terms {
	stops := make(map[string]time.Duration)
	for name, d := range h.defs.All() {
		if d.Exclusive {
			stops[name] = d.StopTimeout
		}
	}
	return leases.Terms{Length: h.cfg.Timing.Isolation.Duration(), StopTimeouts: stops}
}

// beginLeases begins a run of the hub.
func (h *Hub) beginLeases() {
	h.leases.Begin(h.leaseTerms(), h.store.LeaseValidity(), h.views.presence.Started())
	h.ensureLeaseValidity()
}

// configureLeases takes over the configuration.
func (h *Hub) configureLeases() {
	h.leases.Configure(h.leaseTerms())
	h.ensureLeaseValidity()
}

// ensureLeaseValidity has on disk how long leases may be valid before the first of them is
// granted.
func (h *Hub) ensureLeaseValidity() {
	if h.store.LeaseValidity() < h.leases.MaxValidity() {
		h.persistLeaseValidity(h.leases.MaxValidity())
		h.saveNow()
	}
}

func (h *Hub) persistLeaseValidity(d time.Duration) {
	h.store.Change(func(s *store.State) { s.LeaseValidity = topics.Seconds(d) })
}

// reportStatus passes on what a domain reports of its services.
func (h *Hub) reportStatus(d *domain) {
	if !d.Micro && d.Status != nil {
		h.leases.Report(d.ID, *d.Status)
	}
}

// answerBeat answers a heartbeat by a lease, where one is granted.
func (h *Hub) answerBeat(d *domain, b topics.Heartbeat, now time.Time) {
	l, ok := h.leases.Answer(d.ID, d.Name, b, h.epoch, now)
	if !ok {
		return
	}
	payload := topics.Encode(l)
	if h.signsFor(d) {
		var err error
		if payload, err = h.macs.Lease(d.ID, payload); err != nil {
			h.log.Error("a lease could not be given", "domain", d.Name, "error", err)
			return
		}
	}
	h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainLease, Domain: d.Name}, payload))
}

// expireLeases removes what has expired, and has what that allows planned.
func (h *Hub) expireLeases(now time.Time) {
	e := h.leases.Expire(now)
	if e.Former && h.store.LeaseValidity() != h.leases.MaxValidity() {
		h.persistLeaseValidity(h.leases.MaxValidity())
	}
	if e.Retry {
		h.changed.TouchAll()
	}
	if e.Holds {
		for service := range h.leaseTerms().StopTimeouts {
			h.touchService(service)
		}
	}
	h.dueUnlessZero(h.leases.Next())
}

// holds returns to whom each exclusive service may be assigned now, of those that not every
// domain may have.
func (h *Hub) holds(now time.Time) map[string]planner.Hold {
	all := make(map[string]planner.Hold)
	for name, d := range h.defs.Configured() {
		if d.Exclusive {
			if hold, is := h.leases.Hold(name, now); is {
				all[name] = hold
			}
		}
	}
	return all
}

// updateHolds passes the planner to whom exclusive services may be assigned now: that changes
// by time and by leases alone.
func (h *Hub) updateHolds(now time.Time) {
	for name, d := range h.defs.Configured() {
		if d.Exclusive {
			hold, _ := h.leases.Hold(name, now)
			h.planner.SetHold(name, hold)
		}
	}
}

// mayOrder is the last check of a service that is to be assigned to a domain. The plan
// follows the same leases, so it always passes; if the planner had a fault, a service would
// wait that should not, and nothing would run twice.
func (h *Hub) mayOrder(d *domain, def services.Definition, now time.Time) bool {
	if !def.Exclusive || d.Ordered.Services[def.Name] || h.leases.May(def.Name, d.ID, now) {
		return true
	}
	// It has it already, by a command of an earlier run of the hub.
	if d.Status != nil && d.Ordered.Encoded == "" && slices.ContainsFunc(d.Status.Services, func(i topics.Instance) bool {
		return i.Service == def.Name && i.State != topics.Stopped
	}) {
		return true
	}
	h.log.Error("an exclusive service was planned where it may not run yet: held back", "service", def.Name, "domain", d.Name)
	h.leases.HoldBack(now)
	h.dueUnlessZero(h.leases.Next())
	return false
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
	for other := range h.fleet.All() {
		generation = max(generation, other.Ordered.Generation+1, other.ObeyedGeneration(h.epoch)+1)
	}
	return generation
}

// obeysAnotherRun reports whether the domain obeys a command of this epoch that another run
// of a hub published.
func (h *Hub) obeysAnotherRun(d *domain) bool { return h.leases.OtherRun(d.Heartbeat, h.epoch) }
