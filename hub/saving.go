package hub

import (
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// minorInterval is the time between two writes of changes that need not be on
// disk soon: a domain that is lost and comes back each few seconds must not wear
// the card out.
const minorInterval = 5 * time.Minute

// saveInterval is the time between tries to write what the disk did not take.
const saveInterval = time.Minute

// saving is what of the store is to be written, and when.
type saving struct {
	changed bool      // something that is to be on disk at the end of the pass
	minor   bool      // something that can wait until minorAt
	minorAt time.Time // not sooner
	retryAt time.Time // of what the disk did not take
	warned  time.Time // when the log was told that changes come too fast
}

// remember keeps on disk who the domain is and whether it was lost.
func (h *Hub) remember(d *domain) {
	if d.Micro {
		return
	}
	was, known := h.store.Known(d.Name), store.Known{ID: d.ID, Lost: d.State == topics.DomainIsLost, Hot: d.Hot, User: d.User}
	if was == known {
		return
	}
	change := func(s *store.State) { s.Domains[d.Name] = known }
	if was.ID == known.ID && was.User == known.User {
		h.keepMinor(change)
	} else {
		h.keep(change)
	}
}

// keep changes what is on disk, at the end of the pass: a home that is lost or
// comes back as a whole is one write, not one a domain.
func (h *Hub) keep(change func(*store.State)) {
	h.store.Change(change)
	h.saving.changed = true
}

// keepMinor changes what a hub can do without that is killed: it waits at its
// start for a domain that was lost, or tells Home Assistant of a temperature a
// moment later.
func (h *Hub) keepMinor(change func(*store.State)) {
	h.store.Change(change)
	h.saving.minor = true
}

// save writes what was kept, unless so much was written that it must wait. What
// is asked for again and again is obeyed all the same, and written later.
func (h *Hub) save() {
	s, now := &h.saving, time.Now()
	switch {
	case s.changed:
	case !s.minor:
		return
	case now.Before(s.minorAt):
		h.due(s.minorAt)
		return
	}
	if next := h.store.Next(now); next.After(now) {
		h.due(next)
		if s.warned.IsZero() || now.Sub(s.warned) >= time.Hour {
			s.warned = now
			h.log.Warn("what the hub keeps on disk changes so often that it is written later, for the sake of SD cards: who starts, stops or joins again and again?", "next", next.Sub(now).Round(time.Second))
		}
		return
	}
	h.saveNow()
}

// saveNow writes what was kept. A disk that does not take it is a problem that
// is shown, not a reason to disobey.
func (h *Hub) saveNow() {
	s, now := &h.saving, time.Now()
	if !s.changed && !s.minor {
		return
	}
	if s.minor {
		s.minorAt = now.Add(minorInterval)
	}
	s.changed, s.minor = false, false
	was := h.store.Err()
	err := h.store.Save()
	if err == nil {
		return
	}
	s.retryAt = now.Add(saveInterval)
	h.due(s.retryAt)
	if was == nil {
		h.events.Add(topics.Event{Type: topics.HubProblem, Message: "what was changed is not kept over a restart of the hub: " + err.Error()})
	}
}

// saveAgain tries again to write what the disk did not take.
func (h *Hub) saveAgain(now time.Time) {
	s := &h.saving
	switch {
	case h.store.Err() == nil:
		s.retryAt = time.Time{}
	case s.retryAt.IsZero():
		s.retryAt = now.Add(saveInterval)
		h.due(s.retryAt)
	case now.Before(s.retryAt):
		h.due(s.retryAt)
	case h.store.Save() != nil:
		s.retryAt = now.Add(saveInterval)
		h.due(s.retryAt)
	default:
		h.dirty = true
		h.events.Add(topics.Event{Type: topics.HubProblem, Message: "the disk takes changes again"})
	}
}
