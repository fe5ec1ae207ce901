package hub

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// refusal is a machine that wanted the name of another one.
type refusal struct {
	name, id, address, reason string
	at                        time.Time
}

// refusalKept is how long a refused machine is shown after it last asked.
const refusalKept = 30 * time.Second

// join decides whether a machine may be the domain of a name. The one that
// has it keeps it while it beats, or while it is waited for after our start.
func (h *Hub) join(ask topics.Ask, now time.Time) (topics.Grant, error) {
	switch {
	case !topics.ValidName(ask.Name):
		return topics.Grant{}, fmt.Errorf("%.80q is no name for a domain: use a-z, 0-9 and -", ask.Name)
	case ask.ID == "" || len(ask.ID) > maxID:
		return topics.Grant{}, fmt.Errorf("the id of %s must have 1 to %d characters", ask.Name, maxID)
	case ask.Protocol != "" && !topics.SameMajor(ask.Protocol):
		return topics.Grant{}, h.refuse(ask, now, fmt.Errorf("%s speaks protocol %.20s, this hub %s: bring both to the same version", ask.Name, ask.Protocol, topics.Protocol))
	}
	d := h.domains[ask.Name]
	switch {
	case d == nil && h.full(ask.Name, now):
		return topics.Grant{}, fmt.Errorf("%d domains are known and no further one is taken: forget some", len(h.domains))
	case d == nil:
		d = h.newDomain(ask.Name, ask.ID)
	case d.micro:
		return topics.Grant{}, h.refuse(ask, now, fmt.Errorf("the name %s belongs to a microdomain: choose another name in domain.toml", ask.Name))
	case d.id != ask.ID && (d.beats(now, h.cfg.Timing.LostAfter.Duration()) || d.expected):
		at := ""
		if d.status != nil && d.status.Address != "" {
			at = " at " + d.status.Address
		}
		return topics.Grant{}, h.refuse(ask, now, fmt.Errorf("the name %s belongs to another machine (id %s%s): choose another name in domain.toml, or stop that one", ask.Name, d.id, at))
	case d.id != ask.ID:
		d = h.newDomain(ask.Name, ask.ID)
	case d.copied(ask, now, h.cfg.Timing.LostAfter.Duration()):
		return topics.Grant{}, h.refuse(ask, now, fmt.Errorf("a machine of this very id runs as %s already: if its disk was copied, remove the file id in the data_dir of the copy and name it anew; if it just restarted, it is taken in a moment", ask.Name))
	}
	delete(h.refused, ask.ID)
	delete(h.lonely, ask.Name)
	d.beat = now // it will beat as soon as it is connected with its will
	h.touch(ask.Name)
	return topics.Grant{Dominion: h.ID(), Name: h.cfg.Name, Epoch: h.epoch}, nil
}

// copied tells whether another agent with the id of a domain asks while that
// one is there: a card that was copied with everything on it. An agent that
// connects anew is of the same session, and of one that ended the will says so.
func (d *domain) copied(ask topics.Ask, now time.Time, lostAfter time.Duration) bool {
	return ask.Session != "" && d.heard && d.available && d.last.Session != ask.Session && d.beats(now, lostAfter)
}

// refuse notes a machine that was refused, and says so once.
func (h *Hub) refuse(ask topics.Ask, now time.Time, why error) error {
	r := h.refused[ask.ID]
	if r == nil && len(h.refused) >= maxRefused {
		return why
	}
	if (r == nil || r.reason != why.Error()) && h.limits.allow("join as "+ask.Name, refusalsKept, now) {
		h.event(topics.Event{Type: topics.DomainRefused, Domain: ask.Name, Message: fmt.Sprintf("a second machine (id %s%s) was refused: %v", ask.ID, at(ask.Address), why)})
		h.dirty = true
	}
	h.refused[ask.ID] = &refusal{name: ask.Name, id: ask.ID, address: ask.Address, reason: why.Error(), at: now}
	return why
}

func at(address string) string {
	if address == "" {
		return ""
	}
	return " at " + address
}

func (h *Hub) seeLonely(all []Lonely, now time.Time) {
	seen := make(map[string]Lonely, len(all))
	for _, l := range all {
		if !topics.ValidName(l.Name) || len(seen) >= maxLonely {
			continue
		}
		if d := h.domains[l.Name]; d != nil && d.id == l.ID && d.state == topics.DomainIsOnline {
			continue
		}
		seen[l.Name] = l
		if _, known := h.lonely[l.Name]; !known {
			h.event(topics.Event{Type: topics.DomainLonely, Domain: l.Name, Message: l.Name + at(l.Address) + " is lonely: it announces itself and has not joined"})
			h.dirty = true
		}
	}
	if len(seen) != len(h.lonely) {
		h.dirty = true
	}
	h.lonely = seen
}
