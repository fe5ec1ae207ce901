package fleet

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// maxAnnounced bounds the machines found by zeroconf.
const maxAnnounced = 256

// Announcement is a machine that announces itself by zeroconf and has not joined.
type Announcement struct {
	Name, ID, Version, Address string
	// Dominion and DominionName are of the dominion that it belongs to; "" for none.
	Dominion, DominionName string
}

// lonelyAfter is how long a machine announces itself before it is taken for lonely: each one
// does so for a moment before it joins.
const lonelyAfter = 5 * time.Second

// announced is a machine that announces itself.
type announced struct {
	Announcement
	since time.Time
}

// Announced takes all machines that announce themselves now.
func (f *Fleet) Announced(all []Announcement, now time.Time) (e Expired) {
	present := make(map[string]announced, len(all))
	for _, a := range all {
		if !topics.ValidName(a.Name) || len(present) >= maxAnnounced {
			continue
		}
		since := now
		if before, was := f.announced[a.Name]; was && before.ID == a.ID {
			since = before.since
		}
		present[a.Name] = announced{a, since}
	}
	f.announced = present
	f.expireAnnounced(&e, now)
	return e
}

// expireAnnounced takes those for lonely that have announced themselves for a while and are
// not online.
func (f *Fleet) expireAnnounced(e *Expired, now time.Time) {
	if len(f.announced)+len(f.lonely) == 0 {
		return
	}
	lonely := make(map[string]Announcement)
	for name, a := range f.announced {
		if f.isDomain(a.Announcement) && f.domains[name].State == topics.DomainIsOnline || f.due(a.since.Add(lonelyAfter), now) {
			continue
		}
		if d := f.WithID(a.ID); d != nil && d.State == topics.DomainIsOnline {
			continue // it was renamed, and its former announcement has not ended yet
		}
		lonely[name] = a.Announcement
		if _, was := f.lonely[name]; !was {
			e.Lonely = append(e.Lonely, a.Announcement)
			e.Changed = append(e.Changed, name)
			e.Whole = true
		}
	}
	for name := range f.lonely {
		if _, still := lonely[name]; !still {
			e.Changed = append(e.Changed, name)
		}
	}
	if len(lonely) != len(f.lonely) {
		e.Whole = true
	}
	f.lonely = lonely
}

// isDomain reports whether a machine that has not joined is a domain of the fleet.
func (f *Fleet) isDomain(a Announcement) bool {
	d := f.domains[a.Name]
	return d != nil && d.ID == a.ID
}

// whyLonely returns why a machine has not joined, as far as the hub can find out.
func (f *Fleet) whyLonely(a Announcement) string {
	if a.Dominion != "" && a.Dominion != f.o.Dominion {
		return fmt.Sprintf("belongs to another dominion, %q with id %q: to move it here set dominion = %q in its domain.toml", a.DominionName, a.Dominion, f.o.Dominion)
	}
	if f.alone {
		return `announces itself and cannot join: no other machine reaches a listener for MQTT (listen = ":1883" in [broker] lets others in)`
	}
	return "announces itself and has not joined: does it reach the broker? Are its user and password right? Its log says why (journalctl -u dominion-domain)"
}
