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
	maxDomains   = 4096             // far beyond a home
	maxGuests    = 1024             // names of which we know too little for a record
	maxLonely    = 256              // seen by zeroconf
	maxRefused   = 256              // machines that wanted the name of another one
	maxRemoved   = 10_000           // discovery topics that are cleared
	guestsKept   = 15 * time.Second // longer than it takes to settle
	refusalsKept = 20               // messages of one cause that are told of in a minute
	refusalsAll  = 200              // messages of all causes
	passedOn     = 300              // events of one domain that are passed on in a minute, far more than a start of fifty services
	passedOnAll  = 20_000           // of all domains
)

// limiter bounds how often a minute something is said, by cause.
type limiter struct {
	most   int       // of all causes together
	until  time.Time // when the minute ends
	said   map[string]int
	all    int
	silent int // what was not said
}

func newLimiter(most int) limiter { return limiter{most: most, said: make(map[string]int)} }

// allow tells whether something may be said of a cause of which most may be
// said in a minute.
func (l *limiter) allow(cause string, most int, now time.Time) bool {
	if l.until.IsZero() {
		l.until = now.Add(time.Minute)
	}
	if l.all >= l.most || l.said[cause] >= most {
		l.silent++
		return false
	}
	l.said[cause]++
	l.all++
	return true
}

// over ends the minute and returns how much was not said in it.
func (l *limiter) over(now time.Time) (silent int) {
	if l.until.IsZero() || now.Before(l.until) {
		return 0
	}
	silent = l.silent
	*l = newLimiter(l.most)
	return silent
}

// refuseMessage says why a message is not obeyed, a few times a minute.
func (h *Hub) refuseMessage(cause string, e topics.Event, now time.Time) {
	if !h.limits.allow(cause, refusalsKept, now) {
		return
	}
	e.Type = topics.MessageRefused
	h.event(e)
}

// expireLimits says how much was not said.
func (h *Hub) expireLimits(now time.Time) {
	if silent := h.limits.over(now) + h.passing.over(now); silent > 0 {
		h.event(topics.Event{Type: topics.MessageRefused, Message: fmt.Sprintf("%d more messages of the last minute were refused or not passed on; the first of them were told of", silent)})
	}
	for _, l := range []limiter{h.limits, h.passing} {
		if !l.until.IsZero() {
			h.due(l.until)
		}
	}
}

// guests are names that speak as domains do and have no record: of an earlier
// run of the hub, or of nobody.
type guests struct {
	words  map[string]word
	status map[string]topics.Domain // retained
	until  time.Time                // when they are forgotten
}

// word is what was said at an availability topic.
type word struct{ online, retained bool }

func newGuests() guests {
	return guests{words: make(map[string]word), status: make(map[string]topics.Domain)}
}

// take lets a guest in. false: there are too many.
func (g *guests) take(name string, now time.Time) bool {
	_, spoke := g.words[name]
	_, told := g.status[name]
	if !spoke && !told && len(g.words)+len(g.status) >= maxGuests {
		return false
	}
	if g.until.IsZero() {
		g.until = now.Add(guestsKept)
	}
	return true
}

// expected tells whether somebody was online in an earlier run of a hub that
// knew more than we do.
func (g *guests) expected() bool {
	for _, w := range g.words {
		if w.online && w.retained {
			return true
		}
	}
	return false
}

func (g *guests) leave(name string) {
	delete(g.words, name)
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
	for name, w := range last.words {
		if h.unread[name] != "" { // it is there, and a domain once its status can be read
			h.guests.words[name] = w
			continue
		}
		if w.online && w.retained {
			h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainAvailability, Domain: name}, []byte(topics.Offline)))
		}
	}
}

// full tells that no further domain is taken, and says so.
func (h *Hub) full(name string, now time.Time) bool {
	if len(h.domains) < maxDomains {
		return false
	}
	h.refuseMessage("full", topics.Event{Domain: name, Message: fmt.Sprintf("%s is not taken: %d domains are known, forget some", name, len(h.domains))}, now)
	return true
}
