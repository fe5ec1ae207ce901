package homeassistant

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Book keeps what Home Assistant was told, and says what it is to be told next
// and when. Like the rest of the package it does nothing itself: it is given
// the time and returns messages. What must survive a restart is in Kept.
//
// Home Assistant has rules that none of its documents lists in one place:
//
//   - A component that is left out of a config stays. It goes by being sent
//     once as its platform alone, and must be left out after that.
//   - It removes only what it has discovered in this run of its own. A removal
//     that it was not there for leaves entities in its registry for ever, and
//     one of a device that it does not know is a warning in its log. So what was
//     removed while it was away is announced once more at its birth, as little
//     of it as makes it known, and removed after that.
//   - A config that comes while it still works on an earlier one of the device
//     is taken in part: different ones of a device are seconds apart.
//   - A trigger that goes together with the last entity of its device may take that
//     for a deletion by a person. So triggers go first.
//   - When a person deletes a device it publishes the empty config itself.
//     Where the hub does not hear that, judge finds it out afterwards.
type Book struct {
	options Options
	keeps   func(topic string) bool
	entries map[string]*entry // by topic
	listens time.Time         // until then the broker tells what it keeps
	online  bool              // connected
	judged  bool              // what the broker keeps was compared with what is remembered
	changes uint64            // counts the changes to what the broker is to keep
	marked  *uint64           // the count that the broker kept; nil: it kept none
	said    uint64            // the count that the broker has
	verify  bool              // a config that is missing is asked for by its topic before it is taken for deleted
	doubts  []string          // topics that are to be asked for
	asked   time.Time         // until when the answers are waited for; zero: nothing was asked
	blind   bool              // the broker has what it did not replay to the wildcard
	found   []string          // topics of devices that were deleted while nobody heard it
	settled bool              // what nobody asked for by now is to go
	present bool              // Home Assistant said online in this run, and not offline since
	states  time.Time         // when to say the states again; zero: not
	wake    time.Time         // when Step has something to do; zero: nothing
	changed bool              // Kept gives something else than before
}

// Kept is what must survive a restart.
type Kept struct {
	Changes uint64          `json:"changes"` // as Book.changes
	Devices map[string]Told `json:"devices"` // by topic
}

// Told is what is remembered of one config, over restarts.
type Told struct {
	// Components are the platforms of those that Home Assistant may have, by key.
	Components map[string]string `json:"components,omitempty"`
	// Gone is a device that was removed while Home Assistant may have been away.
	Gone bool `json:"gone,omitempty"`
	// Deleted is set where a person deleted the device in Home Assistant: the
	// definition that it had then. It stays away until it has another.
	Deleted string `json:"deleted,omitempty"`
	// Definition is the one that it was told with.
	Definition string `json:"definition,omitempty"`
	// Change counts it among the changes: that it was told, or deleted.
	Change uint64 `json:"change,omitempty"`
	// There is one that the broker was seen to have: one that refuses what we
	// say at Home Assistant's topics may say nothing of that.
	There bool `json:"there,omitempty"`
	// Undiscovered is set while Home Assistant was not there since it was told first.
	Undiscovered bool `json:"undiscovered,omitempty"`
	// Firmware is with which it was told that it is one device.
	Firmware *Firmware `json:"firmware,omitempty"`
}

type entry struct {
	Told
	write      func() Config // nil: it is not to be there
	definition string
	known      bool              // the broker keeps said
	said       [sha256.Size]byte // of the payload
	at         time.Time         // of the last message
	due        time.Time         // when to look at it; zero: nothing is to be done
	repeat     bool              // Home Assistant was born: also what it was told before
	revive     bool              // and what it may have missed to lose is announced once more
	heard      bool              // it was there for what it is to lose
	marked     map[string]string // the components that it has been told to lose
	replaced   bool              // it becomes one with another device: it goes first
	echoes     int               // removals of ours that come back from the broker
	doubt      bool              // it is missing, and the broker was asked for it by its topic
	missed     bool              // the broker did not tell of it in this connection, and so it was taken for deleted
}

const (
	// listen is how long the broker is given to tell what it keeps.
	listen = time.Second
	// apart is the time between two configs of one device.
	apart = 5 * time.Second
	// sets is how long after its birth Home Assistant may still set up what the
	// broker gave it.
	sets = 2 * time.Second
	// Burst messages go out at once, and the next ones after a Beat: Home
	// Assistant works on one thing at a time.
	Burst = 10
	Beat  = 50 * time.Millisecond
	// statesAfter is the time between the last config and the states: entities
	// are set up, and listen.
	statesAfter = 2 * time.Second
	// most is beyond what any home has to show.
	most = 4096
)

// NewBook returns a book that goes on where Kept was. keeps tells whether the
// broker has what is retained at a topic after its end; nil: for all we know.
func NewBook(o Options, keeps func(topic string) bool, kept Kept) *Book {
	b := &Book{options: o, keeps: keeps, changes: kept.Changes, entries: make(map[string]*entry)}
	for topic, t := range kept.Devices {
		b.entries[topic] = &entry{Told: t}
	}
	return b
}

// Kept is what must survive a restart.
func (b *Book) Kept() Kept {
	kept := Kept{Changes: b.changes, Devices: make(map[string]Told)}
	for topic, e := range b.entries {
		if len(e.Components) > 0 || e.Gone || e.Deleted != "" {
			kept.Devices[topic] = e.Told
		}
	}
	return kept
}

// Changed tells whether Kept is another than when it was last asked so.
func (b *Book) Changed() bool {
	was := b.changed
	b.changed = false
	return was
}

// Has tells whether Home Assistant was told of a component, now or in an
// earlier run. What a device once had it keeps: it must not go and come back
// with what the hub happens to know after a restart.
func (b *Book) Has(topic, component string) bool {
	e := b.entries[topic]
	return e != nil && e.Components[component] != ""
}

// Connected begins to listen to what the broker keeps.
func (b *Book) Connected(now time.Time) {
	b.online, b.judged, b.listens = true, false, now.Add(listen)
	b.wakeAt(b.listens)
	for _, e := range b.entries {
		if e.write != nil {
			b.at(e, b.listens)
		}
	}
}

// Disconnected forgets what the broker keeps: the next one may be another.
func (b *Book) Disconnected() {
	b.Died()
	b.online, b.judged, b.marked = false, false, nil
	for _, e := range b.entries {
		e.known, e.echoes, e.missed, e.doubt = false, 0, false, false
	}
	b.doubts, b.asked = nil, time.Time{}
}

// Want says that a device is to be there, with the config that write gives. Of
// a device that a person deleted the definition decides whether it comes back.
func (b *Book) Want(topic, definition string, write func() Config, now time.Time) {
	e := b.entry(topic)
	e.write, e.definition = write, definition
	if e.Deleted != "" && e.Deleted != definition {
		e.Deleted, b.changed = "", true
	}
	if e.Gone && e.Deleted == "" { // it is there again: as told as its components
		e.Gone, b.changed = false, true
	}
	b.at(e, later(now, b.listens))
}

// Leave says that a device is not to be there any more. Its removal is in the
// messages of the next Step, or, where it was told of a moment ago, of a later
// one: Leaving.
func (b *Book) Leave(topic string, now time.Time) {
	e := b.entries[topic]
	if e == nil {
		return
	}
	e.write, e.There = nil, false
	if e.Deleted != "" {
		e.Deleted, b.changed = "", true
	}
	if !e.Gone {
		b.ends(e, now)
	}
}

// Leaving tells whether a removal is still to be said.
func (b *Book) Leaving(topic string) bool {
	e := b.entries[topic]
	return e != nil && e.write == nil && !e.due.IsZero() && e.leaves()
}

// Settled says that all is wanted that is to be there: the rest goes, but for
// what is spared.
func (b *Book) Settled(spared map[string]bool, now time.Time) {
	b.settled = true
	for topic, e := range b.entries {
		if e.write == nil && !spared[topic] {
			b.Leave(topic, now)
		}
	}
}

// ends lets a device go that the broker or Home Assistant may have.
func (b *Book) ends(e *entry, now time.Time) {
	if e.leaves() {
		b.at(e, now)
	}
}

// leaves tells whether there is something of it to be removed.
func (e *entry) leaves() bool {
	return e.known || len(e.Components) > 0 && (!e.Gone || e.heard)
}

// Retained takes a config of ours that the broker has kept.
func (b *Book) Retained(topic string, payload []byte, now time.Time) {
	if b.entries[topic] == nil && len(b.entries) >= most {
		return
	}
	e := b.entry(topic)
	if e.known {
		return // we have said something since
	}
	e.known, e.said = true, sha256.Sum256(payload)
	e.at = now  // for Home Assistant, too, may hear it only now
	if e.Gone { // somebody put it there again
		e.Gone, b.changed = false, true
	}
	if b.judged {
		b.reappeared(e, now)
	}
	if !e.There {
		e.There, b.changed = true, true
	}
	for key, platform := range platforms(payload) {
		if e.Components[key] == "" {
			e.add(key, platform)
			b.changed = true
		}
	}
	if b.settled && e.write == nil {
		b.at(e, now)
	}
}

// Born says that Home Assistant is ready. After the delay, which the caller
// draws by chance so that not all that is in a home answers at once, it is told
// everything again.
func (b *Book) Born(now time.Time, delay time.Duration) {
	b.present = true
	for _, e := range b.entries {
		e.at = later(e.at, now.Add(sets-apart))
		if e.known && e.Undiscovered {
			e.Undiscovered, b.changed = false, true
		}
		wanted := e.write != nil && e.Deleted == ""
		if wanted || e.leaves() || e.Gone {
			e.repeat, e.revive, e.heard, e.marked = wanted, true, false, nil
			b.at(e, now.Add(delay))
		}
	}
	b.states = now.Add(delay + statesAfter)
	b.wakeAt(b.states)
}

// Died says that Home Assistant is away.
func (b *Book) Died() {
	b.present = false
	for _, e := range b.entries {
		e.revive, e.heard, e.marked = false, false, nil // it may not hear the rest
	}
}

// Wake is when Step has something to do; zero: not before somebody says
// something.
func (b *Book) Wake() time.Time {
	if !b.online {
		return time.Time{}
	}
	return b.wake
}

// Step returns what is to be published now, and whether the states are due to
// be said again.
func (b *Book) Step(now time.Time) (out []topics.Message, states bool) {
	if !b.online || b.wake.IsZero() || now.Before(b.wake) {
		return nil, false
	}
	var due []string
	b.wake = time.Time{}
	if !b.judged && !now.Before(b.listens) {
		b.judge(now)
	} else if !b.judged {
		b.wakeAt(b.listens)
	}
	if !b.asked.IsZero() {
		if now.Before(b.asked) {
			b.wakeAt(b.asked)
		} else {
			b.unanswered(now)
		}
	}
	for topic, e := range b.entries {
		if e.doubt {
			continue
		}
		if e.repeat { // the states come after the configs
			b.states = later(b.states, e.due.Add(statesAfter))
		}
		switch {
		case e.due.IsZero():
		case now.Before(e.due):
			b.wakeAt(e.due)
		default:
			due = append(due, topic)
		}
	}
	slices.SortFunc(due, b.order)
	told := 0
	for _, topic := range due {
		e := b.entries[topic]
		if told >= Burst && e.write != nil {
			e.due = now.Add(Beat) // removals do not wait: what they showed is cleared after them
			b.wakeAt(e.due)
			continue
		}
		e.due = time.Time{}
		if m, said := b.act(topic, e, now); said {
			e.at = now
			out = append(out, m)
			told++
		}
		if e.write == nil && e.due.IsZero() && !e.leaves() && !e.Gone && e.Deleted == "" {
			delete(b.entries, topic)
		}
	}
	switch {
	case b.states.IsZero():
	case !now.Before(b.states):
		b.states, states = time.Time{}, true
	}
	if !b.states.IsZero() {
		b.wakeAt(b.states)
	}
	if m, due := b.mark(now); due {
		out = append(out, m)
	}
	return out, states
}

// order puts the hub first: the others are reached through it.
func (b *Book) order(x, y string) int {
	first := func(topic string) int {
		if topic == b.options.HubTopic() {
			return 0
		}
		return 1
	}
	return cmp.Or(first(x)-first(y), strings.Compare(x, y))
}

// act does the next thing about one device.
func (b *Book) act(topic string, e *entry, now time.Time) (topics.Message, bool) {
	if e.write == nil || e.Deleted != "" {
		return b.remove(topic, e, now)
	}
	if e.replaced && len(e.Components) > 0 {
		return b.replace(topic, e, now)
	}
	e.replaced = false
	c := e.write()
	lost := make(map[string]string)
	for key, platform := range e.Components {
		if c.Components[key] != platform {
			lost[key] = platform
		}
	}
	switch {
	case len(lost) == 0:
	case e.revive: // so that it has what it is to lose, whenever it was started
		e.revive, e.heard = false, true
		b.at(e, now.Add(apart))
		b.note(e, c)
		return topics.Message{Topic: topic, QoS: 1, Payload: b.with(c.Payload, lost, b.stub(topic))}, true
	case within(lost, e.marked):
		e.Components, b.changed = nil, true
		e.heard, e.marked, lost = false, nil, nil
	default:
		c.Payload = b.with(c.Payload, lost, marker)
		if b.present || e.heard {
			e.marked = lost
			b.at(e, now.Add(apart))
		}
	}
	if len(lost) == 0 {
		e.marked = nil
	}
	e.revive = false
	b.note(e, c)
	sum := sha256.Sum256(c.Payload)
	if e.known && e.said == sum && !e.repeat {
		return topics.Message{}, false
	}
	e.known, e.said, e.repeat = true, sum, false
	b.count(e)
	return topics.Message{Topic: topic, Payload: c.Payload, QoS: 1, Retain: true}, true
}

// note remembers what Home Assistant is told of. A component that changes its
// platform loses the old one first.
func (b *Book) note(e *entry, c Config) {
	if undiscovered := !b.present && (e.Undiscovered || len(e.Components) == 0); undiscovered != e.Undiscovered {
		e.Undiscovered, b.changed = undiscovered, true
	}
	for key, platform := range c.Components {
		if e.Components[key] == "" {
			e.add(key, platform)
			b.changed = true
		}
	}
	if e.Definition != e.definition {
		e.Definition, b.changed = e.definition, true
	}
	if !reflect.DeepEqual(e.Firmware, c.Firmware) {
		e.Firmware, b.changed = c.Firmware, true
	}
}

func (b *Book) entry(topic string) *entry {
	e := b.entries[topic]
	if e == nil {
		e = new(entry)
		b.entries[topic] = e
	}
	return e
}

func (e *entry) add(key, platform string) {
	e.Components = maps.Clone(e.Components) // Kept was given it
	if e.Components == nil {
		e.Components = make(map[string]string)
	}
	e.Components[key] = platform
}

// at lets Step look at a device, not sooner than is good for Home Assistant.
func (b *Book) at(e *entry, t time.Time) {
	if !e.at.IsZero() {
		t = later(t, e.at.Add(apart))
	}
	e.due = t
	b.wakeAt(t)
}

func (b *Book) wakeAt(t time.Time) {
	if b.wake.IsZero() || t.Before(b.wake) {
		b.wake = t
	}
}

// within tells whether all of a is in b.
func within(a, b map[string]string) bool {
	for key, platform := range a {
		if b[key] != platform {
			return false
		}
	}
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
