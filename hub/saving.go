package hub

import (
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// remember persists who the domain is and whether it was lost.
func (h *Hub) remember(d *domain) {
	if d.Micro {
		return
	}
	was, is := h.store.Domain(d.Name), store.Domain{ID: d.ID, Lost: d.State == topics.DomainIsLost, Hot: d.Hot, User: d.User}
	if was == is {
		return
	}
	change := func(s *store.State) { s.Domains[d.Name] = is }
	if was.ID == is.ID && was.User == is.User {
		h.store.ChangeMinor(change)
	} else {
		h.store.Change(change)
	}
}

// save writes what has changed, unless so much was written that it must wait. What is asked
// for again and again is obeyed all the same, and written later.
func (h *Hub) save() {
	h.reportSaved(h.store.SaveWhenDue(time.Now()))
	h.dueUnlessZero(h.store.Next())
}

// saveNow writes what has changed, before what is done next has an effect elsewhere.
func (h *Hub) saveNow() {
	h.reportSaved(h.store.Save(time.Now()))
	h.dueUnlessZero(h.store.Next())
}

// reportSaved reports that the disk takes no changes any more, or takes them again. It is a
// problem that is shown, not a reason to disobey.
func (h *Hub) reportSaved(s store.Saved) {
	if s.Failed != nil {
		h.events.Add(topics.Event{Type: topics.HubProblem, Message: "what was changed is not kept over a restart of the hub: " + s.Failed.Error()})
	}
	if s.Recovered {
		h.changed.TouchAll()
		h.events.Add(topics.Event{Type: topics.HubProblem, Message: "the disk takes changes again"})
	}
}
