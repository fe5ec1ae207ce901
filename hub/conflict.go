package hub

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/topics"
)

// Conflict is another hub that announces itself by zeroconf with the id or the
// name of this dominion. ID and Name are checked by the hub.
type Conflict struct {
	ID, Name  string
	Addresses []string
}

// maxConflictAddresses bounds how many addresses of a conflict are named.
const maxConflictAddresses = 4

// conflictsOf makes conflicts of what zeroconf found: a hub is announced by each
// of its listeners.
func conflictsOf(found []zeroconf.Found) (all []Conflict) {
	for _, f := range found {
		id, name := f.Text["id"], f.Text["name"]
		i := slices.IndexFunc(all, func(c Conflict) bool { return c.ID == id && c.Name == name })
		if i < 0 {
			i = len(all)
			all = append(all, Conflict{ID: id, Name: name})
		}
		for _, a := range f.Addresses {
			if text := a.String(); !slices.Contains(all[i].Addresses, text) && len(all[i].Addresses) < maxConflictAddresses {
				all[i].Addresses = append(all[i].Addresses, text)
			}
		}
	}
	return all
}

// ConflictsSeen tells the hub which other hubs announce its id or its name now.
func (h *Hub) ConflictsSeen(all []Conflict) { h.box.Put(conflictsSeen(all)) }

// seeConflicts takes the conflicts of now. Each is an event once, however its
// addresses change.
func (h *Hub) seeConflicts(all []Conflict) {
	valid := all[:0]
	for _, c := range all {
		if topics.ValidName(c.Name) && (c.ID == h.ID() || c.Name == h.cfg.Name) {
			valid = append(valid, c)
		}
	}
	same := func(list []Conflict, c Conflict) bool {
		return slices.ContainsFunc(list, func(o Conflict) bool { return o.ID == c.ID && o.Name == c.Name })
	}
	for _, c := range valid {
		if !same(h.conflicts, c) {
			h.events.Add(topics.Event{Type: topics.HubProblem, Message: h.conflictProblem(c)})
		}
	}
	for _, c := range h.conflicts {
		if !same(valid, c) {
			h.events.Add(topics.Event{Type: topics.HubProblem, Message: fmt.Sprintf("another hub with the %s of this dominion does not answer any more", h.shared(c))})
		}
	}
	h.conflicts, h.dirty = valid, true
}

// shared names what a conflict has in common with this dominion.
func (h *Hub) shared(c Conflict) string {
	if c.ID == h.ID() {
		return "id"
	}
	return "name"
}

// conflictProblem returns a conflict in words, with its remedy.
func (h *Hub) conflictProblem(c Conflict) string {
	at := strings.Join(c.Addresses, ", ")
	if c.ID == h.ID() {
		return fmt.Sprintf("another hub announces the id of this dominion, %s, at %s: domains follow either of them; stop one of the two, and if its data_dir is a copy, start it with an empty one, which gives it an id of its own", c.ID, at)
	}
	return fmt.Sprintf("another dominion announces the name %q at %s, with id %.40q: zeroconf shows one of the two only; give one of them another name in its dominion.toml", c.Name, at, c.ID)
}
