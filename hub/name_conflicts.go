package hub

import (
	"slices"

	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/hub/ownproblems"
	"github.com/jmbarzee/dominion/topics"
)

// Conflict is another hub that announces itself by zeroconf with the id or the name of
// this dominion.
type Conflict = ownproblems.Conflict

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
			if text := a.String(); !slices.Contains(all[i].Addresses, text) && len(all[i].Addresses) < ownproblems.MaxConflictAddresses {
				all[i].Addresses = append(all[i].Addresses, text)
			}
		}
	}
	return all
}

// ConflictsFound passes the hub the other hubs that announce its id or its name now.
func (h *Hub) ConflictsFound(all []Conflict) { h.box.Put(conflictsFound(all)) }

// receiveConflicts takes the conflicts of now.
func (h *Hub) receiveConflicts(all []Conflict) {
	for _, news := range h.views.ownProblems.SetConflicts(all) {
		h.events.Add(topics.Event{Type: topics.HubProblem, Message: news})
	}
	h.changed.TouchAll()
}
