package hub

import (
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// domain is what the hub knows of one domain. It is kept until it is forgotten.
type domain struct {
	Name, ID             string
	User                 string // of the broker, by which it joined; "": none that is known
	joined               string // session that was granted the last join
	former               string // session that beat last before the hub started, by what the broker retained
	Micro                bool
	expected             bool             // known from before our start, waited for while settling
	Available            bool             // the last word at its availability topic
	availabilityRetained bool             // that word was retained, nobody has said it since
	beat                 time.Time        // when the last heartbeat came or a join was granted, by our monotonic clock
	HasBeat              bool             // a heartbeat came in this run of the hub
	Heartbeat            topics.Heartbeat // the last heartbeat
	claimed              uint64           // generation of this epoch that it reported and that was not given by us
	Status               *topics.Domain   // nil until it came
	Hot                  bool             // it tells a temperature
	State                topics.DomainState
	Since                time.Time
	WasOnline            bool // was online in this run of the hub
	Gone                 bool // lost for failover_after
	Ordered              order
	Chosen               map[string]string // in what it was better than the next one, by service it was ordered
	StopReasons          map[string]string // why, by service it was ordered to stop
	flaps                flaps
	awaited              awaitedReport
	Ahead                bool // it reports an epoch that is not believed: it obeys no start commands
	Machine              planner.Machine
	usage                map[string]topics.Usage // by service, of the last metrics
	metrics              *topics.Metrics         // the last metrics, where Prometheus is told them
	usageAt              time.Time
	RunningOrder         map[string]uint64      // when each instance was first seen running, as a number that only grows
	assigned             map[string]*assignment // what each instance was ordered as, by service
	catalogSince         map[string]time.Time   // since when its catalog has its version of a service
}

// order is the last start command that was given to a domain.
type order struct {
	Generation uint64
	Services   map[string]bool
	Encoded    string // of the services, to tell whether something changed
	Message    topics.Message
	At         time.Time
}

// present reports whether the domain is there again after a start of the hub.
func (d *domain) present() bool {
	if d.Micro {
		return d.Status != nil
	}
	return d.Available && d.HasBeat && d.StatusCurrent()
}

// StatusCurrent reports whether we have the status that the last heartbeat speaks of.
// Brokers keep the order of a topic, not of two: mosquitto lets a heartbeat of
// QoS 0 overtake a status of QoS 1, and what it had stored may be older still.
// What such an old one does not list would be stopped.
func (d *domain) StatusCurrent() bool {
	s, b := d.Status, d.Heartbeat
	return s != nil && (b.Status == 0 || s.Session == b.Session && s.Seq >= b.Status)
}

func (d *domain) Beats(now time.Time, lostAfter time.Duration) bool {
	return !d.beat.IsZero() && now.Sub(d.beat) < lostAfter
}

// judge says what state a domain is in. A will makes it offline, only silence
// makes it lost. An ordered table: the first row that fits decides.
func (h *Hub) judge(d *domain, now time.Time) topics.DomainState {
	beats := d.Beats(now, h.cfg.Timing.LostAfter.Duration())
	switch {
	case d.Micro && d.Available && d.Status != nil:
		return topics.DomainIsOnline
	case d.Micro:
		return topics.DomainIsOffline // it does not beat, so it cannot be lost
	case beats && d.Available && d.HasBeat && (d.StatusCurrent() || d.Status != nil && d.State == topics.DomainIsOnline):
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
	if state == d.State {
		return
	}
	was := d.State
	d.State, d.Since, d.Gone = state, now, false
	h.usageChanged(d, now)
	h.touch(d.Name)
	switch state {
	case topics.DomainIsOnline:
		h.cameOnline(d, was)
		h.scheduleLeftovers(now)
	case topics.DomainIsOffline:
		switch {
		case was != topics.DomainIsOnline:
		case d.Micro:
			h.eventOf(d, topics.DomainOffline, d.Name+" is offline: it was switched off or its connection broke")
		default:
			h.eventOf(d, topics.DomainOffline, d.Name+" is offline: its agent stopped or its connection broke; its services stay")
		}
	case topics.DomainIsLost:
		h.leases.Lost(d.ID)
		clear(d.RunningOrder) // what runs when it is back is the younger copy
		// One that was lost before we started is no news.
		if d.WasOnline || !h.store.Known(d.Name).Lost {
			h.eventOf(d, topics.DomainLost, fmt.Sprintf("%s is lost: nothing was heard of it for %v", d.Name, h.cfg.Timing.LostAfter.Duration()))
			h.countLoss(d, now)
		}
		h.publishOffline(d)
		h.remember(d)
	}
}

func (h *Hub) cameOnline(d *domain, was topics.DomainState) {
	delete(h.lonely, d.Name)
	h.number(d)
	if d.WasOnline {
		h.eventOf(d, topics.DomainReturned, d.Name+" is online again")
	} else {
		h.eventOf(d, topics.DomainJoined, d.Name+" joined")
	}
	d.WasOnline = true
	if was == topics.DomainIsLost || h.store.Known(d.Name).Lost {
		h.remember(d)
	}
}

// publishOffline says it for a domain that cannot: a broker that lost it together
// with us has nobody else to do so.
func (h *Hub) publishOffline(d *domain) {
	if d.Available {
		d.Available = false
		h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainAvailability, Domain: d.Name}, []byte(topics.Offline)))
	}
}

// heartbeat takes a sign of life. A retained one is old and says nothing
// about life, but who it was.
func (h *Hub) heartbeat(name string, b topics.Heartbeat, retained bool, now time.Time) {
	d := h.domains[name]
	if retained {
		if d != nil && d.ID == b.ID && !d.HasBeat {
			d.former = b.Session
		}
		return
	}
	if d != nil && d.Micro {
		return
	}
	if d == nil || d.ID != b.ID {
		// Only an external broker brings us one that did not join in this run
		// and is not in our store: it goes on as it is.
		h.stirred = true
		if d = h.admitted(claim{name: name, id: b.ID, session: b.Session, user: h.from}, now); d == nil {
			return
		}
	}
	// One of many makes nothing due sooner than the one before it did: it costs
	// a look at its own domain, and not at a thousand.
	h.stirred = h.stirred || !d.HasBeat || !d.Beats(now, h.cfg.Timing.LostAfter.Duration()) || d.State != topics.DomainIsOnline
	if d.Heartbeat.Session != b.Session {
		h.touch(name) // what the run before said of exclusive services counts no more
	}
	d.beat, d.HasBeat, d.Heartbeat = now, true, b
	h.update(d, now)
	h.raiseEpoch(b.Epoch, name, now)
	h.claimGeneration(d, now)
	h.catchUp(d, now)
	h.answerBeat(d, b, now)
	h.askStatus(d, b, now)
}

// newDomain begins the record of a domain, also where another machine had the name.
func (h *Hub) newDomain(name, id string) *domain {
	d := &domain{Name: name, ID: id, State: topics.DomainIsOffline}
	if h.domains[name] == nil {
		w := h.guests.availability[name]
		d.Available, d.availabilityRetained = w.online, w.retained
		d.expected = !h.ready && w.online && w.retained
		if s, known := h.guests.status[name]; known && s.ID == id {
			d.Status = &s
		}
	}
	h.guests.remove(name)
	h.domains[name], h.sorted, h.agentsChanged = d, nil, true
	h.reportStatus(d)
	h.remember(d)
	h.touch(name)
	return d
}

// maxID bounds the id of a domain, which is a UUID.
const maxID = 64

// catchUp repeats a start command that a domain did not take although it was
// given some time ago. Repeating is harmless: an equal one changes nothing.
// A domain that took a command of somebody else is given its own, above it.
func (h *Hub) catchUp(d *domain, now time.Time) {
	const patience = 5 * time.Second
	if seen := d.SeenGeneration(h.epoch); d.Ordered.Encoded != "" && (seen > d.Ordered.Generation || seen == d.Ordered.Generation && h.obeysAnotherRun(d)) {
		h.events.Add(topics.Event{Type: topics.EpochRaised, Domain: d.Name, Message: fmt.Sprintf("%s obeyed a start command of generation %d that this hub did not give: it is given the right one", d.Name, d.Heartbeat.Generation)})
		d.Ordered.Encoded = ""
		h.touch(d.Name)
		return
	}
	if d.Ordered.Encoded == "" || now.Sub(d.Ordered.At) < patience ||
		(d.Heartbeat.Epoch == h.epoch && d.Heartbeat.Generation >= d.Ordered.Generation && !h.obeysAnotherRun(d)) {
		return
	}
	d.Ordered.At = now
	h.pub.Publish(d.Ordered.Message)
}

// domainStatus takes what a domain says of itself.
func (h *Hub) domainStatus(name string, s topics.Domain, m topics.Message, now time.Time) error {
	if err := plausible(m.Topic, s); err != nil {
		return err
	}
	d := h.domains[name]
	switch {
	case !s.Micro && s.ID == "", len(s.ID) > maxID:
		return noIdentity(m.Topic)
	case d != nil:
	case !s.Micro && m.Retain:
		if h.guests.take(name, now) { // perhaps of a domain that goes on beating
			h.guests.status[name] = s
		}
		return nil
	case s.Micro && h.full(name, now):
		return nil
	case s.Micro:
		d = h.newDomain(name, "") // it has none, and takes nobody's
	default:
		if d = h.admitted(claim{name: name, id: s.ID, session: s.Session, user: h.from}, now); d == nil {
			return nil
		}
		d.beat = now // it said something just now, and has its time to beat
	}
	if s.Micro != d.Micro {
		if d.Beats(now, h.cfg.Timing.LostAfter.Duration()) {
			return fmt.Errorf("a microdomain uses the name of %s: give it another one", name)
		}
		d.Micro = s.Micro
	}
	if !d.Micro && s.ID != d.ID {
		if other := h.withID(s.ID, name); other != nil && !m.Retain {
			return fmt.Errorf("cannot take %s: field id: %.64s is the id of %s", m.Topic, s.ID, other.Name)
		}
		return nil // of the machine that had the name before, or wants it
	}
	if !d.Micro && s.Name != "" && s.Name != name {
		return fmt.Errorf("cannot take %s: field name: it says that it is %.80q", m.Topic, s.Name)
	}
	if was := d.Status; was != nil && was.Session != "" && was.Session == s.Session && s.Seq < was.Seq {
		return nil // sent once more, after newer ones
	}
	d.stock(s, now)
	d.Status = &s
	h.reportStatus(d)
	h.touch(name)
	h.number(d)
	h.update(d, now)
	return nil
}

func noIdentity(topic string) error {
	return fmt.Errorf("cannot take %s: its \"id\" must have 1 to %d characters, or it is a microdomain and says \"micro\": true", topic, maxID)
}

// plausible refuses what no agent says: the planner's tables rely on the
// closed lists.
func plausible(topic string, s topics.Domain) error {
	told := make(map[string]bool, len(s.Services))
	for _, i := range s.Services {
		switch {
		case i.Service == "":
			return fmt.Errorf("cannot read %s: field services.service is missing", topic)
		case told[i.Service]:
			return fmt.Errorf("cannot read %s: field services: %s is there twice", topic, i.Service)
		case !slices.Contains(topics.States(), i.State):
			return fmt.Errorf("cannot read %s: field services.state: %.40q is not a valid state", topic, i.State)
		case i.Health != "" && i.Health != topics.UnknownHealth && i.Health != topics.Healthy && i.Health != topics.Unhealthy:
			return fmt.Errorf("cannot read %s: field services.health: %.40q is not a valid health", topic, i.Health)
		}
		told[i.Service] = true
	}
	return nil
}

// availability takes the word of a domain, or of its will.
func (h *Hub) availability(name, said string, retained bool, now time.Time) {
	d := h.domains[name]
	if d == nil {
		if h.guests.take(name, now) { // its status follows and makes the record
			h.guests.availability[name] = availabilityWord{said == topics.Online, retained}
		}
		return
	}
	d.Available, d.availabilityRetained = said == topics.Online, retained
	h.touch(name)
	h.update(d, now)
}

// forget clears what is known of a domain.
func (h *Hub) forget(name string, now time.Time) error {
	d := h.domains[name]
	if d == nil {
		if h.forgetUnreadable(name) {
			return nil
		}
		return fmt.Errorf("there is no domain %q", name)
	}
	if d.Beats(now, h.cfg.Timing.LostAfter.Duration()) || d.Micro && d.Available {
		return fmt.Errorf("%s is %s and would come back at once: stop its agent first", name, d.State)
	}
	h.keep(func(s *store.State) { delete(s.Domains, name) })
	delete(h.domains, name)
	delete(h.unread, name)
	h.sorted, h.agentsChanged = nil, true
	h.touch(name)
	h.scheduleLeftovers(now)
	h.announcer.RemoveDomain(name, now)
	h.events.Add(topics.Event{Type: topics.DomainForgotten, Domain: name, Message: name + " is forgotten"})
	return nil
}

// stock notes since when the domain's catalog has its version of each service.
func (d *domain) stock(s topics.Domain, now time.Time) {
	before := make(map[string]string)
	if d.Status != nil {
		if slices.Equal(d.Status.Catalog, s.Catalog) {
			return
		}
		for _, row := range d.Status.Catalog {
			before[row.Service] = row.Version
		}
	}
	since := d.catalogSince
	d.catalogSince = make(map[string]time.Time, len(s.Catalog))
	for _, row := range s.Catalog {
		d.catalogSince[row.Service] = now
		if version, was := before[row.Service]; was && version == row.Version && !since[row.Service].IsZero() {
			d.catalogSince[row.Service] = since[row.Service]
		}
	}
}

// Instance is what the domain says of a service, nil where it says nothing.
func (d *domain) Instance(service string) *topics.Instance {
	if d.Status == nil {
		return nil
	}
	for n := range d.Status.Services {
		if d.Status.Services[n].Service == service {
			return &d.Status.Services[n]
		}
	}
	return nil
}

func (d *domain) CatalogVersion(service string) string {
	if d.Status != nil {
		for _, row := range d.Status.Catalog {
			if row.Service == service {
				return row.Version
			}
		}
	}
	return ""
}

// TakesOrders reports whether the domain is given start commands. One that is
// not online yet has not said what runs on it: its first command must not stop
// that.
func (d *domain) TakesOrders() bool {
	first := d.Ordered.Encoded == "" && d.State != topics.DomainIsOnline
	return !d.Micro && d.Status != nil && !first && topics.SameMajor(d.Status.Protocol)
}

// eventOf reports an event of a domain.
func (h *Hub) eventOf(d *domain, t topics.EventType, message string) {
	h.events.Add(topics.Event{Type: t, Domain: d.Name, Message: message})
}
