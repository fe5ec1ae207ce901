package hub

import (
	"fmt"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/hub/adoption"
	"github.com/jmbarzee/dominion/hub/fleet"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

type domain = fleet.Domain

// newFleet returns the fleet with the domains of earlier runs.
func (h *Hub) newFleet(embedded bool) *fleet.Fleet {
	f := fleet.New(fleet.Options{
		Dominion: h.ID(), IsAdmin: h.isAdmin, IsUser: h.isUser, HasKey: h.hasKey, RevokedKey: func(id string) string { return h.adoption.RevokedKey(id) }, Refuse: h.events.Refuse,
		LostAfter: h.cfg.Timing.LostAfter.Duration(), FailoverAfter: h.cfg.Timing.FailoverAfter.Duration(),
		Embedded: embedded,
	})
	for name, stored := range h.store.Domains() {
		f.Restore(fleet.Domain{Name: name, ID: stored.ID, User: stored.User, Hot: stored.Hot}, !stored.Lost)
	}
	return f
}

// heartbeat takes a heartbeat, the payload of m. It counts for the domain whose machine sent it.
func (h *Hub) heartbeat(name string, b topics.Heartbeat, m topics.Message, now time.Time) {
	if !h.takesFrom(name, b.ID, now) {
		return
	}
	if m.Retain {
		h.fleet.RetainedHeartbeat(name, b)
		return
	}
	d := h.admitted(h.fleet.Sender(fleet.Claim{Name: name, ID: b.ID, Session: b.Session, User: m.User}, now), now)
	if d == nil {
		return
	}
	another, notable := h.fleet.Beat(d, b, now)
	if another {
		h.touch(name) // what the session before reported of exclusive services counts no more
	}
	// One of many makes nothing due sooner than the one before it did: it costs
	// a look at its own domain, and not at a thousand.
	h.schedule.sooner = h.schedule.sooner || notable
	h.update(d, now)
	h.raiseEpoch(d, now)
	h.fleet.ClaimGeneration(d, h.epoch, now)
	h.catchUp(d, now)
	h.answerBeat(d, b, now)
	h.askStatus(d, b, now)
}

// admitted carries out what follows from an admission, and returns its domain; nil: none.
func (h *Hub) admitted(a fleet.Admission, now time.Time) *domain {
	d := a.Domain
	if a.New {
		h.ops.rollouts.RemoveDomain(d.Name)
		h.reportStatus(d)
		h.remember(d)
		h.touch(d.Name)
	}
	if was := a.Renamed; was != "" {
		h.store.Change(func(s *store.State) { delete(s.Domains, was); delete(s.Domains, d.Name) })
		h.ops.rollouts.RenameDomain(was, d.Name)
		h.remember(d)
		h.touch(was)
		h.touch(d.Name)
		h.views.announcer.RemoveDomain(was, now)
		h.eventOf(d, topics.DomainRenamed, fmt.Sprintf("%s is the machine that was %s (id %s): its services and leases follow", d.Name, was, d.ID))
	}
	return d
}

// raiseEpoch raises the epoch above the one that a domain obeys. One that has a key shows an order
// for that, when it joins (overtake).
func (h *Hub) raiseEpoch(d *domain, now time.Time) {
	if h.signsFor(d) {
		if h.fleet.NoteAhead(d, h.epoch, now) {
			h.touch(d.Name)
		}
		return
	}
	is := fleet.Epoch{Number: h.epoch, Raised: h.store.Raised()}
	next, changed := h.fleet.RaiseEpoch(d, is, now)
	if changed {
		h.touch(d.Name)
	}
	if next == is {
		return
	}
	h.store.Change(func(s *store.State) { s.Epoch, s.Raised = next.Number, next.Raised })
	h.epoch = next.Number
	h.changed.TouchAll()
	h.eventOf(d, topics.EpochRaised, fmt.Sprintf("%s has seen epoch %d: ours is %d now", d.Name, d.Heartbeat.Epoch, h.epoch))
}

// catchUp repeats a start command that a domain did not take although it was
// given some time ago. Repeating is harmless: an equal one changes nothing.
// A domain that took a command of somebody else is given its own, above it.
func (h *Hub) catchUp(d *domain, now time.Time) {
	const patience = 5 * time.Second
	if obeyed := d.ObeyedGeneration(h.epoch); d.Ordered.Encoded != "" && (obeyed > d.Ordered.Generation || obeyed == d.Ordered.Generation && h.obeysAnotherRun(d)) {
		h.eventOf(d, topics.EpochRaised, fmt.Sprintf("%s obeyed a start command of generation %d that this hub did not give: it is given the right one", d.Name, d.Heartbeat.Generation))
		d.Ordered.Encoded = ""
		h.touch(d.Name)
		return
	}
	if d.Ordered.Encoded == "" || now.Sub(d.Ordered.At) < patience ||
		(d.Heartbeat.Epoch == h.epoch && d.Heartbeat.Generation >= d.Ordered.Generation && !h.obeysAnotherRun(d)) {
		return
	}
	d.Ordered.At = now
	h.pub.Publish(d.Ordered.Message)
}

// takeStatus takes a message at the status topic of a domain.
func (h *Hub) takeStatus(name string, m topics.Message, now time.Time) error {
	s, err := decode[topics.Domain](m)
	if err != nil || s == nil {
		h.statusCleared(name, now)
	} else {
		err = h.unsignedStatus(name, *s, m, now)
	}
	if h.fleet.SetUnreadable(name, err, now) {
		h.touch(name)
	}
	return err
}

// unsignedStatus takes the status of a domain that has no key, or of a microdomain.
func (h *Hub) unsignedStatus(name string, s topics.Domain, m topics.Message, now time.Time) error {
	if by, adopted := h.adoption.Members()[s.ID]; adopted && !adoption.Unfinished(by) {
		return fmt.Errorf("cannot take %s: field id: it is the id of %s, which has a key, and is not signed by it", m.Topic, by.Name)
	}
	return h.domainStatus(name, s, m, now)
}

// domainStatus takes the status of a domain.
func (h *Hub) domainStatus(name string, s topics.Domain, m topics.Message, now time.Time) error {
	if !s.Micro && s.ID != "" && !h.takesFrom(name, s.ID, now) {
		return nil
	}
	if s.Micro && h.adoption.Has(name) {
		return fmt.Errorf("cannot take %s: a microdomain uses the name of %s, which has a key: give it another one", m.Topic, name)
	}
	a, taken, err := h.fleet.TakeStatus(name, fleet.Report{Topic: m.Topic, User: m.User, Retained: m.Retain, Status: s}, now)
	if d := h.admitted(a, now); taken {
		h.reportStatus(d)
		h.touch(name)
		h.update(d, now)
	}
	return err
}

// availability takes a message at the availability topic of a domain.
func (h *Hub) availability(name, payload string, retained bool, now time.Time) {
	if d := h.fleet.SetAvailability(name, payload == topics.Online, retained, now); d != nil {
		h.touch(name)
		h.update(d, now)
	}
}

// update has the state of a domain judged again.
func (h *Hub) update(d *domain, now time.Time) {
	if t, changed := h.fleet.Update(d, now); changed {
		h.stateChanged(t, now)
	}
}

// stateChanged carries out what follows from another state of a domain.
func (h *Hub) stateChanged(t fleet.Transition, now time.Time) {
	d := t.Domain
	h.usageChanged(d, now)
	h.touch(d.Name)
	switch d.State {
	case topics.DomainIsOnline:
		if t.First {
			h.eventOf(d, topics.DomainJoined, d.Name+" joined")
		} else {
			h.eventOf(d, topics.DomainReturned, d.Name+" is online again")
		}
		h.remember(d)
		h.scheduleLeftovers(now)
	case topics.DomainIsOffline:
		if t.Was != topics.DomainIsOnline || h.adoption.RevokedKey(d.ID) != "" { // that was reported
			return
		}
		if d.Micro {
			h.eventOf(d, topics.DomainOffline, d.Name+" is offline: it was switched off or its connection broke")
		} else {
			h.eventOf(d, topics.DomainOffline, d.Name+" is offline: its agent stopped or its connection broke; its services stay")
		}
	case topics.DomainIsLost:
		h.leases.Lost(d.ID)
		// One that was lost before the hub started is not reported again.
		if d.WasOnline || !h.store.Domain(d.Name).Lost {
			h.eventOf(d, topics.DomainLost, fmt.Sprintf("%s is lost: nothing was received of it for %v", d.Name, h.cfg.Timing.LostAfter.Duration()))
			if problem := h.fleet.CountLoss(d, now); problem != "" {
				h.eventOf(d, topics.DomainFlapping, d.Name+" "+problem)
			}
		}
		h.withdraw(d)
		h.remember(d)
	}
}

// withdraw publishes "offline" for a domain that cannot: a broker that lost it together with
// us has nobody else to do so.
func (h *Hub) withdraw(d *domain) {
	if d.Withdraw() {
		h.publishOffline(d.Name)
	}
}

func (h *Hub) publishOffline(name string) {
	h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainAvailability, Domain: name}, []byte(topics.Offline)))
}

// expireFleet carries out what time changed of the domains.
func (h *Hub) expireFleet(now time.Time) {
	h.fleetExpired(h.fleet.Expire(now), now)
}

// fleetExpired carries out what the fleet has decided: events, changes of states, and what is
// to be planned again.
func (h *Hub) fleetExpired(e fleet.Expired, now time.Time) {
	if e.Ready {
		h.becameReady(now)
	}
	for _, name := range e.Offline {
		h.publishOffline(name)
	}
	for _, a := range e.Lonely {
		text := a.Name
		if a.Address != "" {
			text += " at " + a.Address
		}
		h.events.Add(topics.Event{Type: topics.DomainLonely, Domain: a.Name, Message: text + " is lonely: it announces itself and has not joined"})
	}
	for _, t := range e.Transitions {
		h.stateChanged(t, now)
	}
	for _, name := range e.Changed {
		h.touch(name)
	}
	if e.Whole {
		h.changed.TouchAll()
	}
	h.dueUnlessZero(h.fleet.Next())
}

// forget removes a domain and clears what is retained of it.
func (h *Hub) forget(name string, now time.Time) (topics.Forgotten, error) {
	adopted := h.adoption.Has(name)
	if d := h.fleet.Get(name); adopted && d != nil {
		h.stopAll(d, now)
	}
	d, err := h.fleet.Forget(name, adopted, now)
	if err != nil && !adopted {
		return topics.Forgotten{}, err
	}
	if !h.adoption.Forget(name, now) && h.broker != nil && d != nil && d.ID != "" && !d.Micro {
		h.broker.EndDomain(d.ID) // else its will may come after its topics were cleared
	}
	forgotten, message := topics.Forgotten{Secrets: []string{}}, name+" is forgotten"
	if d == nil { // it never became one, or has not joined since its adoption
		for _, topic := range h.tree.DomainTopics(name) {
			h.pub.Clear(topic)
		}
	} else {
		h.store.Change(func(s *store.State) { delete(s.Domains, name) })
		h.adoption.ForgetUnsigned(d.ID)
		h.ops.rollouts.RemoveDomain(name)
		h.touch(name)
		h.scheduleLeftovers(now)
		h.views.announcer.RemoveDomain(name, now)
		if had := h.forgetSecrets(d.ID); len(had) > 0 {
			forgotten.Secrets = had
			message += ", which has had the secrets " + strings.Join(had, ", ") + ": set new values (`dominionctl secret set NAME`)"
		}
	}
	h.events.Add(topics.Event{Type: topics.DomainForgotten, Domain: name, Message: message})
	return forgotten, nil
}

// stopAll orders a domain that is about to be forgotten to stop everything. What is published
// reaches it before its connection ends.
func (h *Hub) stopAll(d *domain, now time.Time) {
	if !d.TakesOrders() || d.State != topics.DomainIsOnline {
		return
	}
	d.Ordered = h.command(d, map[string]topics.Spec{}, "", now)
	h.pub.Publish(d.Ordered.Message)
}

// eventOf reports an event of a domain.
func (h *Hub) eventOf(d *domain, t topics.EventType, message string) {
	h.events.Add(topics.Event{Type: t, Domain: d.Name, Message: message})
}
