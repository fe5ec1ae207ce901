package hub

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// What others can make the hub remember is bounded: whoever may publish at all
// could else fill its memory with names, and the log and the SD card with what
// it says about them.
const (
	maxDomains    = 4096             // far beyond a home
	maxGuests     = 1024             // names of which we know too little for a record
	maxLonely     = 256              // seen by zeroconf
	maxRefused    = 256              // machines that wanted the name of another one
	guestLifetime = 15 * time.Second // longer than it takes to settle
)

// guests are names that speak as domains do and have no record: of an earlier
// run of the hub, or of nobody.
type guests struct {
	availability map[string]availabilityWord
	status       map[string]topics.Domain // retained
	until        time.Time                // when they are forgotten
}

// availabilityWord is what was said at an availability topic.
type availabilityWord struct{ online, retained bool }

func newGuests() guests {
	return guests{availability: make(map[string]availabilityWord), status: make(map[string]topics.Domain)}
}

// take lets a guest in. false: there are too many.
func (g *guests) take(name string, now time.Time) bool {
	_, spoke := g.availability[name]
	_, told := g.status[name]
	if !spoke && !told && len(g.availability)+len(g.status) >= maxGuests {
		return false
	}
	if g.until.IsZero() {
		g.until = now.Add(guestLifetime)
	}
	return true
}

// expected reports whether somebody was online in an earlier run of a hub that
// knew more than we do.
func (g *guests) expected() bool {
	for _, w := range g.availability {
		if w.online && w.retained {
			return true
		}
	}
	return false
}

func (g *guests) remove(name string) {
	delete(g.availability, name)
	delete(g.status, name)
}

// expireGuests forgets who did not become a domain. Of one that a broker still
// calls online since an earlier run it is said that it is not.
func (h *Hub) expireGuests(now time.Time) {
	if h.guests.until.IsZero() {
		return
	}
	if now.Before(h.guests.until) {
		h.due(h.guests.until)
		return
	}
	last := h.guests
	h.guests = newGuests()
	for name, w := range last.availability {
		if h.unread[name] != "" { // it is there, and a domain once its status can be read
			h.guests.availability[name] = w
			continue
		}
		if w.online && w.retained {
			h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainAvailability, Domain: name}, []byte(topics.Offline)))
		}
	}
}

// full reports that no further domain is taken, and says so.
func (h *Hub) full(name string, now time.Time) bool {
	if len(h.domains) < maxDomains {
		return false
	}
	h.events.Refuse("full", topics.Event{Domain: name, Message: fmt.Sprintf("%s is not taken: %d domains are known, forget some", name, len(h.domains))}, now)
	return true
}
