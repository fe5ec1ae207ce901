package hub

import (
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// maxUnreadable is how many domains with an unreadable status are remembered.
const maxUnreadable = 256

// takeStatus takes the status of a domain. One that cannot be read is a problem
// until the domain has another one: a microdomain whose firmware writes a wrong
// word is not seen otherwise, and its broker sends that status to every hub.
func (h *Hub) takeStatus(name string, m topics.Message, now time.Time) error {
	s, err := decode[topics.Domain](m)
	switch {
	case err != nil, s == nil:
		h.statusCleared(name, now)
	default:
		err = h.domainStatus(name, *s, m, now)
	}
	h.noteUnreadable(name, err, now)
	return err
}

// noteUnreadable notes why the last status of a domain was not taken; nil: it was
// taken or cleared.
func (h *Hub) noteUnreadable(name string, err error, now time.Time) {
	was, known := h.unread[name]
	switch {
	case err == nil && !known, err != nil && !known && len(h.unread) >= maxUnreadable:
		return
	case err == nil:
		delete(h.unread, name)
		if _, spoke := h.guests.availability[name]; spoke && h.guests.until.IsZero() {
			h.guests.until = now.Add(guestLifetime)
		}
	case was == err.Error():
		return
	default:
		h.unread[name] = err.Error()
	}
	h.touch(name)
}

// whyUnreadable is the problem with the status of a domain, "" where there is none.
func (h *Hub) whyUnreadable(name string) string {
	why := h.unread[name]
	if why == "" {
		return ""
	}
	return "its last status was not taken: " + why + "; correct it, or clear it by an empty retained message"
}

// viewUnreadable lists the domains that are not known otherwise.
func (h *Hub) viewUnreadable() (all []topics.DomainView) {
	for _, name := range slices.Sorted(maps.Keys(h.unread)) {
		if h.domains[name] == nil {
			all = append(all, other(name, "", "", topics.DomainIsRefused, h.whyUnreadable(name)))
		}
	}
	return all
}

// forgetUnreadable clears what a domain published that never became one. It
// reports whether there is such a domain.
func (h *Hub) forgetUnreadable(name string) bool {
	if h.unread[name] == "" {
		return false
	}
	delete(h.unread, name)
	for _, topic := range h.tree.DomainTopics(name) {
		h.pub.Clear(topic)
	}
	h.events.Add(topics.Event{Type: topics.DomainForgotten, Domain: name, Message: name + " is forgotten"})
	return true
}
