package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// Id and name of a domain are one to one: a name belongs to one machine, and a
// machine has one name. Whatever speaks as a domain is admitted here before the
// hub stores anything under its name or its id.

// claim is what a machine says of itself.
type claim struct {
	name, id, session string
	address           string
	user              string // the broker's user who published it; "": without one, or not our broker
}

// withID returns the domain of another name that has an id; nil: none has. It
// looks at all domains: it is asked only where a machine is new or claims what
// it does not have.
func (h *Hub) withID(id, butName string) *domain {
	if id == "" {
		return nil
	}
	for _, d := range h.domains {
		if d.ID == id && d.Name != butName && !d.Micro {
			return d
		}
	}
	return nil
}

// errFull says that no further domain is taken.
var errFull = errors.New("no further domain is taken: forget some")

// admit returns the record of the machine that makes a claim, or why it may not
// have that name. The rules, the first that fits decides:
//   - a name belongs to the machine that has it while that one is there or is
//     waited for;
//   - an id belongs to the domain that has it as long; another machine that shows
//     it is a copy;
//   - an id whose domain is gone moves to the new name with all that is known of
//     the machine: it was renamed. A user who is no admin may do that only where
//     the user of the former name does not exist any more.
func (h *Hub) admit(c claim, now time.Time) (*domain, error) {
	lostAfter := h.cfg.Timing.LostAfter.Duration()
	d, former := h.domains[c.name], h.withID(c.id, c.name)
	if d != nil && d.Micro {
		return nil, fmt.Errorf("the name %s belongs to a microdomain: choose another name in domain.toml", c.name)
	}
	if d != nil && d.ID != c.id && (d.Beats(now, lostAfter) || d.expected) {
		return nil, fmt.Errorf("the name %s belongs to another machine (id %s%s): choose another name in domain.toml, or stop that one", c.name, d.ID, at(d.address()))
	}
	if former != nil {
		if err := h.mayRename(former, c, now); err != nil {
			return nil, err
		}
		return h.rename(former, c, now), nil
	}
	if d != nil && d.ID == c.id {
		if h.isCopy(d, c, now) {
			return nil, copied(d)
		}
		return d, nil
	}
	if d == nil && h.full(c.name, now) {
		return nil, fmt.Errorf("%d domains are known and %w", len(h.domains), errFull)
	}
	d = h.newDomain(c.name, c.id)
	if d.User != c.user {
		d.User = c.user
		h.remember(d)
	}
	return d, nil
}

// admitted is admit for a heartbeat or a status, which nobody answers: what is
// refused is reported at a bounded rate.
func (h *Hub) admitted(c claim, now time.Time) *domain {
	if c.id == "" || len(c.id) > maxID {
		return nil
	}
	d, err := h.admit(c, now)
	if err == nil {
		return d
	}
	if had := h.domains[c.name]; had == nil || had.ID == c.id || h.withID(c.id, c.name) != nil {
		// else it is the machine that was refused the name, and has no voice
		h.events.Refuse("identity of "+c.name, topics.Event{Domain: c.name, Message: fmt.Sprintf("cannot take what is published as %s with id %.64s: %v", c.name, c.id, err)}, now)
	}
	return nil
}

// mayRename reports why the machine of a domain may not be the domain of another
// name now.
func (h *Hub) mayRename(former *domain, c claim, now time.Time) error {
	there := former.Available && former.Beats(now, h.cfg.Timing.LostAfter.Duration())
	if h.isCopy(former, c, now) || former.expected || there {
		return copied(former)
	}
	if c.user == "" || c.user == former.User || h.isAdmin(c.user) {
		return nil
	}
	if former.User != "" && !h.isUser(former.User) {
		return nil
	}
	return fmt.Errorf("the id %s belongs to %s, which is not there now: if this machine was renamed, `dominionctl forget %s`; if its disk was copied, stop its agent and run `domain reset` on it", c.id, former.Name, former.Name)
}

// isAdmin reports whether a user of our broker is an admin.
func (h *Hub) isAdmin(user string) bool {
	if h.broker == nil {
		return false
	}
	a, err := h.broker.Access(topics.Ask{User: user, Action: access.Publish.String(), Topic: h.tree.Hub(topics.HubEvent)})
	return err == nil && a.Role == access.RoleAdmin
}

// isUser reports whether our broker has a user.
func (h *Hub) isUser(user string) bool {
	if h.broker == nil {
		return true
	}
	_, err := h.broker.Access(topics.Ask{User: user, Action: access.Publish.String(), Topic: h.tree.Hub(topics.HubEvent)})
	return err == nil
}

// updateAgents tells the broker whose ids are whose, where that changed.
func (h *Hub) updateAgents() {
	if !h.agentsChanged || h.broker == nil {
		return
	}
	h.agentsChanged = false
	byID := make(map[string]broker.Agent, len(h.domains))
	for _, d := range h.domains {
		if !d.Micro && d.ID != "" {
			byID[d.ID] = broker.Agent{Domain: d.Name, User: d.User}
		}
	}
	h.broker.SetAgents(byID)
}

// copyMark is a machine that was refused because another one of its id was there.
type copyMark struct {
	of     string // session of the other one
	seq    uint64 // its heartbeat then
	proved bool   // the other one went on beating: there are two machines
	at     time.Time
}

// copyLifetime is how long a copy is remembered after it last asked.
const copyLifetime = 10 * time.Minute

// isCopy reports whether a machine that shows the id of a domain is another one
// than the machine that is there. An agent that connects again is of the same
// session; of one that ended the will says so, or silence. One that asked while
// the other went on beating is a copy for good: it does not take the place of a
// machine that is away for a moment.
func (h *Hub) isCopy(d *domain, c claim, now time.Time) bool {
	if c.session == "" || c.session == d.running() {
		return false
	}
	if d.former != "" && c.session == d.former {
		// It was there before the hub started; what joined since is the copy.
		if d.joined != "" && d.joined != c.session {
			h.markCopy(d.joined, &copyMark{proved: true, at: now})
		}
		return false
	}
	there := d.HasBeat && d.Available && d.Beats(now, h.cfg.Timing.LostAfter.Duration())
	mark := h.copies[c.session]
	if mark != nil {
		mark.at = now
		// One more heartbeat may have been on its way.
		mark.proved = mark.proved || d.Heartbeat.Session == mark.of && d.Heartbeat.Seq > mark.seq+1
		return there || mark.proved
	}
	if there {
		h.markCopy(c.session, &copyMark{of: d.Heartbeat.Session, seq: d.Heartbeat.Seq, at: now})
	}
	return there
}

func (h *Hub) markCopy(session string, m *copyMark) {
	if len(h.copies) < maxRefused || h.copies[session] != nil {
		h.copies[session] = m
	}
}

// running is the session of the agent that is the domain now.
func (d *domain) running() string {
	if d.joined != "" {
		return d.joined
	}
	return d.Heartbeat.Session
}

// address is where the domain is reached, "" where nobody knows.
func (d *domain) address() string {
	if d.Status == nil {
		return ""
	}
	return d.Status.Address
}

// copied says what to do about a second machine of an id.
func copied(d *domain) error {
	return fmt.Errorf("a machine of this very id runs as %s already%s: if the disk was copied, stop the agent of the copy and run `domain reset` on it, which gives it an id of its own; if this machine just restarted or was renamed, it is taken in a moment", d.Name, at(d.address()))
}

// rename gives the machine of a domain another name. All that is known of the
// machine follows; what others remember by the former name is cleared.
func (h *Hub) rename(d *domain, c claim, now time.Time) *domain {
	was, name := d.Name, c.name
	if other := h.domains[name]; other != nil { // a machine that is gone had the name
		delete(h.domains, name)
	}
	h.keep(func(s *store.State) { delete(s.Domains, was); delete(s.Domains, name) })
	delete(h.domains, was)
	d.Name, d.User, d.expected = name, c.user, false
	w := h.guests.availability[name]
	d.Available, d.availabilityRetained, d.HasBeat = w.online, w.retained, false
	// The last start command named the former name's topic: another one follows
	// once the machine is online.
	d.Ordered.Encoded, d.Ordered.Message = "", topics.Message{}
	h.guests.remove(name)
	h.domains[name], h.sorted, h.agentsChanged = d, nil, true
	h.remember(d)
	h.touch(was)
	h.touch(name)
	h.announcer.RemoveDomain(was, now)
	h.events.Add(topics.Event{Type: topics.DomainRenamed, Domain: name, Message: fmt.Sprintf("%s is the machine that was %s (id %s): its services and leases follow", name, was, d.ID)})
	return d
}

// expireIdentities forgets copies that ask no more.
func (h *Hub) expireIdentities(now time.Time) {
	for session, m := range h.copies {
		if now.Sub(m.at) >= copyLifetime {
			delete(h.copies, session)
		} else {
			h.due(m.at.Add(copyLifetime))
		}
	}
}
