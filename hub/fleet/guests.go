package fleet

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// maxGuests bounds the names that have no record yet.
const maxGuests = 1024

// guestLifetime is longer than it takes to settle.
const guestLifetime = 15 * time.Second

// guests are names at whose topics something was published and which have no record: of an
// earlier run of the hub, or of nobody.
type guests struct {
	availability map[string]availability
	// status is the retained one, by name.
	status map[string]topics.Domain
	// until is when they are forgotten; zero: there are none.
	until time.Time
}

// availability is a message at an availability topic.
type availability struct{ online, retained bool }

func newGuests() guests {
	return guests{availability: make(map[string]availability), status: make(map[string]topics.Domain)}
}

// take reports whether there is room for a guest.
func (g *guests) take(name string, now time.Time) bool {
	_, hasAvailability := g.availability[name]
	_, hasStatus := g.status[name]
	if !hasAvailability && !hasStatus && len(g.availability)+len(g.status) >= maxGuests {
		return false
	}
	if g.until.IsZero() {
		g.until = now.Add(guestLifetime)
	}
	return true
}

// expected reports whether a guest was online in an earlier run of a hub that knew more
// domains.
func (g *guests) expected() bool {
	for _, a := range g.availability {
		if a.online && a.retained {
			return true
		}
	}
	return false
}

func (g *guests) remove(name string) {
	delete(g.availability, name)
	delete(g.status, name)
}

// expireGuests forgets the guests that did not become domains. Those that the broker still
// calls online since an earlier run are not.
func (f *Fleet) expireGuests(e *Expired, now time.Time) {
	if f.guests.until.IsZero() || f.due(f.guests.until, now) {
		return
	}
	last := f.guests
	f.guests = newGuests()
	for name, a := range last.availability {
		if f.unreadable[name] != "" { // it is there, and a domain once its status can be read
			f.guests.availability[name] = a
			continue
		}
		if a.online && a.retained {
			e.Offline = append(e.Offline, name)
		}
	}
}
