package hub

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/hub/homeassistant"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// domain is what the hub knows of one domain. It is kept until it is forgotten.
type domain struct {
	name, id  string
	micro     bool
	expected  bool             // known from before our start, waited for while settling
	available bool             // the last word at its availability topic
	beat      time.Time        // when the last heartbeat came or a join was granted, by our monotonic clock
	heard     bool             // a heartbeat came in this run of the hub
	last      topics.Heartbeat // the last heartbeat
	status    *topics.Domain   // nil until it came
	hot       bool             // it tells a temperature
	state     topics.DomainState
	since     time.Time
	ever      bool // was online in this run of the hub
	gone      bool // lost for failover_after
	ordered   order
}

// order is the last start command that was given to a domain.
type order struct {
	generation uint64
	services   map[string]bool
	encoded    string // of the services, to tell whether something changed
	message    topics.Message
	at         time.Time
}

// refusal is a machine that wanted the name of another one.
type refusal struct {
	name, id, address, reason string
	at                        time.Time
}

// refusalKept is how long a refused machine is shown after it last asked.
const refusalKept = 30 * time.Second

// present tells whether the domain is there again after a start of the hub.
func (d *domain) present() bool {
	if d.micro {
		return d.status != nil
	}
	return d.status != nil && d.available && d.heard
}

func (d *domain) beats(now time.Time, lostAfter time.Duration) bool {
	return !d.beat.IsZero() && now.Sub(d.beat) < lostAfter
}

// judge says what state a domain is in. A will makes it offline, only silence
// makes it lost. An ordered table: the first row that fits decides.
func (h *Hub) judge(d *domain, now time.Time) topics.DomainState {
	beats := d.beats(now, h.cfg.Timing.LostAfter.Duration())
	switch {
	case d.micro && d.available:
		return topics.DomainIsOnline
	case d.micro && h.ready:
		return topics.DomainIsLost
	case beats && d.available && d.heard && d.status != nil:
		return topics.DomainIsOnline
	case beats || !h.ready:
		return topics.DomainIsOffline
	default:
		return topics.DomainIsLost
	}
}

// update judges a domain anew and says what changed.
func (h *Hub) update(d *domain, now time.Time) {
	state := h.judge(d, now)
	if state == d.state {
		return
	}
	was := d.state
	d.state, d.since, d.gone, h.dirty = state, now, false, true
	switch state {
	case topics.DomainIsOnline:
		h.cameOnline(d, was)
	case topics.DomainIsOffline:
		if was == topics.DomainIsOnline {
			h.eventOf(d, topics.DomainOffline, d.name+" is offline: its agent stopped or its connection broke; its services stay")
		}
	case topics.DomainIsLost:
		h.eventOf(d, topics.DomainLost, fmt.Sprintf("%s is lost: nothing was heard of it for %v", d.name, h.cfg.Timing.LostAfter.Duration()))
		h.sayOffline(d)
		h.remember(d)
	}
}

func (h *Hub) cameOnline(d *domain, was topics.DomainState) {
	delete(h.lonely, d.name)
	if d.ever {
		h.eventOf(d, topics.DomainReturned, d.name+" is online again")
	} else {
		h.eventOf(d, topics.DomainJoined, d.name+" joined")
	}
	d.ever = true
	if was == topics.DomainIsLost || h.store.State().Domains[d.name].Lost {
		h.remember(d)
	}
}

// sayOffline says it for a domain that cannot: a broker that lost it together
// with us has nobody else to do so.
func (h *Hub) sayOffline(d *domain) {
	if d.available && !d.micro {
		d.available = false
		h.bus.Publish(h.tree.Message(topics.Address{Kind: topics.DomainAvailability, Domain: d.name}, []byte(topics.Offline)))
	}
}

// remember keeps on disk who the domain is and whether it was lost.
func (h *Hub) remember(d *domain) {
	if d.micro {
		return
	}
	known := store.Known{ID: d.id, Lost: d.state == topics.DomainIsLost}
	if h.store.State().Domains[d.name] == known {
		return
	}
	h.keep(func(s *store.State) { s.Domains[d.name] = known })
}

// looks is how often at least the loop looks at domains that beat, within the
// silence that makes one lost.
const looks = 4

// stoodStill does not take our own standing still (a machine out of memory, or
// one that was paused) for silence of the domains: their heartbeats wait in
// the network until we read them.
func (h *Hub) stoodStill(now time.Time) {
	was, lostAfter := h.looked, h.cfg.Timing.LostAfter.Duration()
	h.looked = now
	still := now.Sub(was)
	if was.IsZero() || still < 2*lostAfter/looks {
		return
	}
	late := false
	for _, d := range h.domains {
		if d.beats(was, lostAfter) {
			d.beat = d.beat.Add(still)
			late = true
		}
	}
	if late {
		h.log.Warn("the hub stood still: is this machine out of memory, or was it paused?", "for", still.Round(time.Millisecond))
	}
}

// expire does what is due, and says when something is due next.
func (h *Hub) expire(now time.Time) {
	const idle = time.Hour
	h.wake = now.Add(idle)
	if !h.connected {
		return // silence says nothing while we hear nobody
	}
	h.settled(now)
	h.saveAgain(now)
	if !h.ready {
		h.due(h.settleBy)
	}
	for _, d := range h.domains {
		h.update(d, now)
		lost := d.since.Add(h.cfg.Timing.FailoverAfter.Duration())
		switch {
		case d.micro:
			d.gone = d.state == topics.DomainIsLost
		case d.state == topics.DomainIsLost && !d.gone && now.Before(lost):
			h.due(lost)
		case d.state == topics.DomainIsLost && !d.gone:
			d.gone, h.dirty = true, true
		case d.beats(now, h.cfg.Timing.LostAfter.Duration()):
			h.due(d.beat.Add(h.cfg.Timing.LostAfter.Duration()))
			h.due(now.Add(h.cfg.Timing.LostAfter.Duration() / looks))
		}
	}
	for id, r := range h.refused {
		if now.Sub(r.at) >= refusalKept {
			delete(h.refused, id)
			h.dirty = true
		} else {
			h.due(r.at.Add(refusalKept))
		}
	}
}

// keep changes what is on disk. A disk that does not take it is a problem that
// is shown, not a reason to disobey.
func (h *Hub) keep(change func(*store.State)) {
	was := h.store.Err()
	if err := h.store.Change(change); err != nil && was == nil {
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

func (h *Hub) due(at time.Time) {
	if at.Before(h.wake) {
		h.wake = at
	}
}

// heartbeat takes a sign of life. A retained one is old and says nothing
// about life, but who it was.
func (h *Hub) heartbeat(name string, b topics.Heartbeat, retained bool, now time.Time) {
	d := h.domains[name]
	if d == nil {
		// Only an external broker brings us one that did not join in this run
		// and is not in our store: it goes on as it is.
		if retained {
			return
		}
		d = h.newDomain(name, b.ID)
	}
	if d.micro || retained {
		return
	}
	if d.id != b.ID {
		if d.beats(now, h.cfg.Timing.LostAfter.Duration()) || d.expected {
			return // the machine that was refused has no voice
		}
		d = h.newDomain(name, b.ID)
	}
	d.beat, d.heard, d.last = now, true, b
	h.update(d, now)
	h.raiseEpoch(b.Epoch, name)
	h.catchUp(d, now)
}

// newDomain begins the record of a domain, also where another machine had the name.
func (h *Hub) newDomain(name, id string) *domain {
	d := &domain{name: name, id: id, state: topics.DomainIsOffline}
	if h.domains[name] == nil {
		d.available = h.words[name]
		if s, known := h.strays[name]; known && s.ID == id {
			d.status = &s
		}
	}
	delete(h.words, name)
	delete(h.strays, name)
	h.domains[name] = d
	h.remember(d)
	h.dirty = true
	return d
}

// maxEpochJump bounds by how much a heartbeat may raise our epoch: a hub that
// was restored from a backup is behind by few, a forger would use it up.
const maxEpochJump = 1_000_000

// raiseEpoch gets above an epoch that a domain has seen: this hub was restored
// from a backup, and its commands would be refused as old.
func (h *Hub) raiseEpoch(seen uint64, domain string) {
	if seen <= h.epoch {
		return
	}
	if seen-h.epoch > maxEpochJump {
		h.event(topics.Event{Type: topics.MessageRefused, Domain: domain, Message: fmt.Sprintf("%s claims epoch %d, ours is %d: ignored", domain, seen, h.epoch)})
		return
	}
	h.keep(func(s *store.State) { s.Epoch = seen + 1 })
	h.epoch = seen + 1
	for _, d := range h.domains {
		d.ordered.encoded, d.ordered.generation = "", 0
	}
	h.dirty = true
	h.event(topics.Event{Type: topics.EpochRaised, Domain: domain, Message: fmt.Sprintf("%s has seen epoch %d: ours is %d now", domain, seen, h.epoch)})
}

// catchUp repeats a start command that a domain did not take although it was
// given some time ago. Repeating is harmless: an equal one changes nothing.
// A domain that took a command of somebody else is given its own, above it.
func (h *Hub) catchUp(d *domain, now time.Time) {
	const patience = 5 * time.Second
	if d.seenGeneration(h.epoch) > d.ordered.generation && h.ready {
		h.event(topics.Event{Type: topics.EpochRaised, Domain: d.name, Message: fmt.Sprintf("%s obeyed a start command of generation %d that this hub did not give: it is given the right one", d.name, d.last.Generation)})
		d.ordered.encoded, h.dirty = "", true
		return
	}
	if d.ordered.encoded == "" || now.Sub(d.ordered.at) < patience ||
		(d.last.Epoch == h.epoch && d.last.Generation >= d.ordered.generation) {
		return
	}
	d.ordered.at = now
	h.bus.Publish(d.ordered.message)
}

// join decides whether a machine may be the domain of a name. The one that
// has it keeps it while it beats, or while it is waited for after our start.
func (h *Hub) join(ask topics.Ask, now time.Time) (topics.Grant, error) {
	switch {
	case !topics.ValidName(ask.Name):
		return topics.Grant{}, fmt.Errorf("%.80q is no name for a domain: use a-z, 0-9 and -", ask.Name)
	case ask.ID == "" || len(ask.ID) > 64:
		return topics.Grant{}, fmt.Errorf("the id of %s must have 1 to 64 characters", ask.Name)
	case ask.Protocol != "" && !topics.SameMajor(ask.Protocol):
		return topics.Grant{}, h.refuse(ask, now, fmt.Errorf("%s speaks protocol %.20s, this hub %s: bring both to the same version", ask.Name, ask.Protocol, topics.Protocol))
	}
	d := h.domains[ask.Name]
	switch {
	case d == nil:
		d = h.newDomain(ask.Name, ask.ID)
	case d.micro:
		return topics.Grant{}, h.refuse(ask, now, fmt.Errorf("the name %s belongs to a microdomain: choose another name in domain.toml", ask.Name))
	case d.id != ask.ID && (d.beats(now, h.cfg.Timing.LostAfter.Duration()) || d.expected):
		at := ""
		if d.status != nil && d.status.Address != "" {
			at = " at " + d.status.Address
		}
		return topics.Grant{}, h.refuse(ask, now, fmt.Errorf("the name %s belongs to another machine (id %s%s): choose another name in domain.toml, or stop that one", ask.Name, d.id, at))
	case d.id != ask.ID:
		d = h.newDomain(ask.Name, ask.ID)
	}
	delete(h.refused, ask.ID)
	delete(h.lonely, ask.Name)
	d.beat = now // it will beat as soon as it is connected with its will
	h.dirty = true
	return topics.Grant{Dominion: h.ID(), Name: h.cfg.Name, Epoch: h.epoch}, nil
}

// refuse notes a machine that was refused, and says so once.
func (h *Hub) refuse(ask topics.Ask, now time.Time, why error) error {
	r := h.refused[ask.ID]
	if r == nil || r.reason != why.Error() {
		h.event(topics.Event{Type: topics.DomainRefused, Domain: ask.Name, Message: fmt.Sprintf("a second machine (id %s%s) was refused: %v", ask.ID, at(ask.Address), why)})
		h.dirty = true
	}
	h.refused[ask.ID] = &refusal{name: ask.Name, id: ask.ID, address: ask.Address, reason: why.Error(), at: now}
	return why
}

func at(address string) string {
	if address == "" {
		return ""
	}
	return " at " + address
}

// domainStatus takes what a domain says of itself.
func (h *Hub) domainStatus(name string, s topics.Domain, retained bool, now time.Time) {
	d := h.domains[name]
	switch {
	case d == nil && (s.Micro || !retained):
		d = h.newDomain(name, s.ID)
	case d == nil:
		h.strays[name] = s // perhaps of a domain that goes on beating
		return
	}
	if s.Micro != d.micro {
		if d.beats(now, h.cfg.Timing.LostAfter.Duration()) {
			h.event(topics.Event{Type: topics.MessageRefused, Domain: name, Message: "a microdomain uses the name of " + name + ": give it another one"})
			return
		}
		d.micro = s.Micro
	}
	if !d.micro && s.ID != d.id {
		return // of the machine that had the name before, or wants it
	}
	d.status, h.dirty = &s, true
	h.update(d, now)
}

// availability takes the word of a domain, or of its will.
func (h *Hub) availability(name string, word string, now time.Time) {
	d := h.domains[name]
	if d == nil {
		h.words[name] = word == topics.Online // its status follows and makes the record
		return
	}
	d.available, h.dirty = word == topics.Online, true
	h.update(d, now)
}

func (h *Hub) seeLonely(all []Lonely, now time.Time) {
	seen := make(map[string]Lonely, len(all))
	for _, l := range all {
		if !topics.ValidName(l.Name) {
			continue
		}
		if d := h.domains[l.Name]; d != nil && d.id == l.ID && d.state == topics.DomainIsOnline {
			continue
		}
		seen[l.Name] = l
		if _, known := h.lonely[l.Name]; !known {
			h.event(topics.Event{Type: topics.DomainLonely, Domain: l.Name, Message: l.Name + at(l.Address) + " is lonely: it announces itself and has not joined"})
			h.dirty = true
		}
	}
	if len(seen) != len(h.lonely) {
		h.dirty = true
	}
	h.lonely = seen
}

// forget clears what is known of a domain.
func (h *Hub) forget(name string, now time.Time) error {
	d := h.domains[name]
	if d == nil {
		return fmt.Errorf("there is no domain %q", name)
	}
	if d.beats(now, h.cfg.Timing.LostAfter.Duration()) || d.micro && d.available {
		return fmt.Errorf("%s is %s and would come back at once: stop its agent first", name, d.state)
	}
	h.keep(func(s *store.State) { delete(s.Domains, name) })
	delete(h.domains, name)
	h.dirty = true
	if h.cfg.HomeAssistant.Enabled {
		h.remove(homeassistant.Domain(h.discovery(), topics.DomainView{Name: name}).Topic)
	}
	for _, topic := range h.tree.DomainTopics(name) {
		h.clear(topic)
	}
	h.event(topics.Event{Type: topics.DomainForgotten, Domain: name, Message: name + " is forgotten"})
	return nil
}
