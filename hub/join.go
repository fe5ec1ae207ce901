package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/hub/events"
	"github.com/jmbarzee/dominion/topics"
)

// refusedKey tells machines apart that were refused: a copy has the id of
// another one, and may have another name.
type refusedKey struct{ id, name string }

// refusal is a machine that wanted the name or the id of another one.
type refusal struct {
	name, id, address, reason string
	at                        time.Time
}

// refusalLifetime is how long a refused machine is shown after it last asked.
const refusalLifetime = 30 * time.Second

// join decides whether a machine may be the domain of a name. The one that
// has it keeps it while it beats, or while it is waited for after our start.
func (h *Hub) join(ask topics.Ask, now time.Time) (topics.Grant, error) {
	switch {
	case !topics.ValidName(ask.Name):
		return topics.Grant{}, fmt.Errorf("%.80q is not a valid domain name: use a-z, 0-9 and -", ask.Name)
	case ask.ID == "" || len(ask.ID) > maxID:
		return topics.Grant{}, fmt.Errorf("the id of %s must have 1 to %d characters", ask.Name, maxID)
	case ask.Protocol != "" && !topics.SameMajor(ask.Protocol):
		return topics.Grant{}, h.refuse(ask, now, fmt.Errorf("%s speaks protocol %.20s, this hub %s: bring both to the same version", ask.Name, ask.Protocol, topics.Protocol))
	}
	d, err := h.admit(claim{name: ask.Name, id: ask.ID, session: ask.Session, address: ask.Address, user: h.from}, now)
	if errors.Is(err, errFull) {
		return topics.Grant{}, err
	}
	if err != nil {
		return topics.Grant{}, h.refuse(ask, now, err)
	}
	delete(h.refused, refusedKey{ask.ID, ask.Name})
	delete(h.lonely, ask.Name)
	delete(h.announcing, ask.Name)
	delete(h.copies, ask.Session)
	d.beat = now // it will beat as soon as it is connected with its will
	d.joined = ask.Session
	if d.User != h.from {
		d.User, h.agentsChanged = h.from, true
		h.remember(d)
	}
	h.touch(ask.Name)
	return topics.Grant{Dominion: h.ID(), Name: h.cfg.Name, Epoch: h.epoch, Alive: topics.Seconds(h.alive)}, nil
}

// refuse notes a machine that was refused, and says so once.
func (h *Hub) refuse(ask topics.Ask, now time.Time, why error) error {
	key := refusedKey{ask.ID, ask.Name}
	r := h.refused[key]
	if r == nil && len(h.refused) >= maxRefused {
		return why
	}
	if (r == nil || r.reason != why.Error()) && h.events.MayReport("join as "+ask.Name, events.MaxRefusals, now) {
		h.events.Add(topics.Event{Type: topics.DomainRefused, Domain: ask.Name, Message: fmt.Sprintf("a second machine (id %s%s) was refused: %v", ask.ID, at(ask.Address), why)})
		h.dirty = true
	}
	h.refused[key] = &refusal{name: ask.Name, id: ask.ID, address: ask.Address, reason: why.Error(), at: now}
	return why
}

func at(address string) string {
	if address == "" {
		return ""
	}
	return " at " + address
}

// lonelyAfter is how long a machine announces itself before it is said not to have
// joined: each one does so for a moment before it joins.
const lonelyAfter = 5 * time.Second

// announced is a machine that announces itself.
type announced struct {
	Lonely
	since time.Time
}

// seeLonely takes which machines announce themselves now.
func (h *Hub) seeLonely(all []Lonely, now time.Time) {
	there := make(map[string]announced, len(all))
	for _, l := range all {
		if !topics.ValidName(l.Name) || len(there) >= maxLonely {
			continue
		}
		since := now
		if before, known := h.announcing[l.Name]; known && before.ID == l.ID {
			since = before.since
		}
		there[l.Name] = announced{l, since}
	}
	h.announcing = there
	h.expireLonely(now)
}

// expireLonely takes those for lonely that have announced themselves for a while and
// are not online.
func (h *Hub) expireLonely(now time.Time) {
	if len(h.announcing)+len(h.lonely) == 0 {
		return
	}
	lonely := make(map[string]Lonely)
	for name, a := range h.announcing {
		if d := h.domains[name]; d != nil && d.ID == a.ID && d.State == topics.DomainIsOnline {
			continue
		}
		if at := a.since.Add(lonelyAfter); now.Before(at) {
			h.due(at)
			continue
		}
		lonely[name] = a.Lonely
		if _, known := h.lonely[name]; !known {
			h.events.Add(topics.Event{Type: topics.DomainLonely, Domain: name, Message: name + at(a.Address) + " is lonely: it announces itself and has not joined"})
			h.dirty = true
			h.touch(name)
		}
	}
	for name := range h.lonely {
		if _, still := lonely[name]; !still {
			h.touch(name)
		}
	}
	if len(lonely) != len(h.lonely) {
		h.dirty = true
	}
	h.lonely = lonely
}
