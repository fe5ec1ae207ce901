package hub

import (
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// remember keeps on disk who the domain is and whether it was lost.
func (h *Hub) remember(d *domain) {
	if d.micro {
		return
	}
	known := store.Known{ID: d.id, Lost: d.state == topics.DomainIsLost, Hot: d.hot, User: d.user}
	if h.store.Known(d.name) == known {
		return
	}
	h.keep(func(s *store.State) { s.Domains[d.name] = known })
}

// keep changes what is on disk, at the end of the pass: a home that is lost or
// comes back as a whole is one write, not one a domain.
func (h *Hub) keep(change func(*store.State)) {
	h.store.Change(change)
	h.unsaved = true
}

// save writes what was kept. A disk that does not take it is a problem that is
// shown, not a reason to disobey.
func (h *Hub) save() {
	if !h.unsaved {
		return
	}
	h.unsaved = false
	was := h.store.Err()
	err := h.store.Save()
	if err == nil {
		return
	}
	h.saveAt = time.Now().Add(saveInterval)
	h.due(h.saveAt)
	if was == nil {
		h.event(topics.Event{Type: topics.HubProblem, Message: "what was changed is not kept over a restart of the hub: " + err.Error()})
	}
}

// saveInterval is the time between tries to write what the disk did not take.
const saveInterval = time.Minute

func (h *Hub) saveAgain(now time.Time) {
	switch {
	case h.store.Err() == nil:
		h.saveAt = time.Time{}
	case h.saveAt.IsZero():
		h.saveAt = now.Add(saveInterval)
		h.due(h.saveAt)
	case now.Before(h.saveAt):
		h.due(h.saveAt)
	case h.store.Save() != nil:
		h.saveAt = now.Add(saveInterval)
		h.due(h.saveAt)
	default:
		h.dirty = true
		h.event(topics.Event{Type: topics.HubProblem, Message: "the disk takes changes again"})
	}
}
