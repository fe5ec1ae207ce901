package devices

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jmbarzee/dominion/hub/devices/template"
	"github.com/jmbarzee/dominion/topics"
)

// rule is one availability in the sense of Home Assistant, that of an entity or
// of a device that announces itself: the conventions of others are cases of it.
type rule struct {
	mode  string
	items []item
}

// The modes of a rule. Latest is Home Assistant's default: the last payload of any
// topic decides.
const (
	modeAll    = "all"
	modeAny    = "any"
	modeLatest = "latest"
)

// item is one topic of availability, and how its payloads are read.
type item struct {
	topic           string
	online, offline string
	read            reading
	// field is for readEither; for readTemplate it is the template.
	field string
	// optional is set where it does not count without a payload.
	optional bool
}

// reading is how availability is read from a payload.
type reading uint8

const (
	readPlain    reading = iota // the payload
	readEither                  // a field of a JSON object, or the payload where it is none
	readOffline                 // offline, whatever the payload
	readTemplate                // what a template makes of it
	readUnknown                 // a template that is not supported
	readHomie                   // a state of the Homie convention
)

// template has an item read by a template of Home Assistant. The error names what
// of it is not supported.
func (i *item) template(text string, all templates) error {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	parsed, err := all.parse(text)
	switch {
	case err != nil:
		i.read = readUnknown
	case parsed.Constant(i.offline): // of a device that is switched off, by Zigbee2MQTT
		i.read = readOffline
	default:
		i.read, i.field = readTemplate, strings.Clone(text)
	}
	return err
}

// templates are those that were parsed, by their text: most devices have the
// same few.
type templates map[string]*template.Template

// maxTemplates is how many templates are shared.
const maxTemplates = 256

func (all templates) parse(text string) (*template.Template, error) {
	if t := all[text]; t != nil {
		return t, nil
	}
	t, err := template.Parse(text)
	if err != nil {
		return nil, err
	}
	if len(all) >= maxTemplates {
		clear(all)
	}
	all[strings.Clone(text)] = t
	return t, nil
}

// rules returns all rules of an announcement.
func (a *announcement) rules() iter.Seq[rule] {
	return func(yield func(rule) bool) {
		if len(a.rule.items) > 0 && !yield(a.rule) {
			return
		}
		for _, r := range a.components {
			if !yield(r) {
				return
			}
		}
	}
}

// watched returns the items of all rules.
func (a *announcement) watched() iter.Seq[item] {
	return func(yield func(item) bool) {
		for r := range a.rules() {
			for _, i := range r.items {
				if !yield(i) {
					return
				}
			}
		}
	}
}

// availabilityTopic is the state of one topic of availability.
type availabilityTopic struct {
	users  map[*announcement]bool
	states map[item]*itemState
	// received is set once a payload has come.
	received bool
	// payload is the last one, for items that come after it.
	payload string
	// order is that of the payload, as itemState.order.
	order uint64
}

// itemState is the availability by an item of a topic. As in Home Assistant each item
// has its own: a payload that means nothing to it leaves the last state in force.
type itemState struct {
	state string
	// order: counts payloads; zero: of one that the broker had retained.
	order uint64
	users int
	// latest is set where a rule uses the order.
	latest   bool
	template *template.Template
}

// Limits of payloads at topics of availability, in bytes: of one that is read,
// and of all that are remembered for announcements that are still to come.
const (
	maxAvailability = 4096
	maxStored       = 4 << 20
)

// maxItemStates is how many items may read one topic of availability in different
// ways: each takes time when something is published there.
const maxItemStates = 256

// follow registers an announcement with its topics of availability. The error is of
// an item that is unknown, since its topic is read in too many ways already.
func (s *State) follow(a *announcement) error {
	var wrong partialError
	for r := range a.rules() {
		for n := range r.items {
			wrong.add(s.followItem(a, &r.items[n], r.mode == modeLatest && len(r.items) > 1))
		}
	}
	return wrong.err()
}

// followItem registers an announcement with the topic of one item; latest: the order
// of payloads counts.
func (s *State) followItem(a *announcement, i *item, latest bool) (err error) {
	at := s.availabilityTopics[i.topic]
	if at == nil {
		at = new(availabilityTopic)
		s.availabilityTopics[i.topic] = at
		if w, ok := s.domainPayloads[i.topic]; ok {
			at.received, at.order = true, w.order
			s.store(at, w.payload)
		}
	}
	if at.users == nil {
		at.users, at.states = make(map[*announcement]bool), make(map[item]*itemState)
	}
	at.users[a] = true
	w := at.states[i.plain()]
	if w == nil && len(at.states) >= maxItemStates {
		if s.pruneStates(i.topic); len(at.states) >= maxItemStates {
			err = fmt.Errorf("the availability at %q is read in more than %d different ways", cut(i.topic, maxText), maxItemStates)
			*i = item{topic: i.topic, read: readUnknown}
			w = at.states[*i]
		}
	}
	if w == nil {
		w = s.newItemState(at, i)
		at.states[i.plain()] = w
	}
	w.users++
	w.latest = w.latest || latest
	return err
}

// newItemState returns the state of an item after the payload received before it.
func (s *State) newItemState(at *availabilityTopic, i *item) *itemState {
	w := &itemState{state: topics.DeviceUnknown}
	switch i.read {
	case readOffline:
		w.state = topics.Offline
		return w
	case readTemplate:
		w.template, _ = s.templates.parse(i.field) // it was parsed before
	case readPlain, readEither, readUnknown:
	}
	if at.received {
		w.state, _, _ = i.evaluate(at.payload, template.NewPayload(at.payload), w.template)
		w.order = at.order
	}
	return w
}

// plain returns the item as a key of states.
func (i item) plain() item {
	i.optional = false
	return i
}

// unfollow undoes follow. pruneStates removes the states.
func (s *State) unfollow(a *announcement) {
	for i := range a.watched() {
		at := s.availabilityTopics[i.topic]
		at.states[i.plain()].users--
		delete(at.users, a)
	}
}

// pruneStates removes the states of a topic that no item uses any more. An
// announcement that replaces another one registers again before that.
func (s *State) pruneStates(topic string) {
	at := s.availabilityTopics[topic]
	if at == nil {
		return
	}
	for i, w := range at.states {
		if w.users == 0 {
			delete(at.states, i)
		}
	}
}

// store stores the last payload of a topic while there is room.
func (s *State) store(at *availabilityTopic, payload string) {
	s.storedBytes -= len(at.payload)
	at.payload = ""
	if len(payload) <= maxAvailability && s.storedBytes+len(payload) <= maxStored {
		at.payload = strings.Clone(payload)
		s.storedBytes += len(payload)
	}
}

// receive takes a payload at a topic of availability.
func (s *State) receive(at *availabilityTopic, topic, payload string, live bool, now time.Time) {
	var wrong partialError
	changed := !at.received
	s.payloads++
	at.received, at.order = true, 0
	if live {
		at.order = s.payloads
	}
	s.store(at, payload)
	shared := template.NewPayload(payload)
	for i, w := range at.states {
		state, ok, err := i.evaluate(payload, shared, w.template)
		if wrong.add(err); !ok || !live && state == w.state {
			continue
		}
		changed = changed || w.latest || state != w.state
		w.state, w.order = state, at.order
	}
	if err := wrong.err(); err != nil {
		s.problems.record(s.seed, topic, err.Error(), live, now)
	} else {
		s.problems.remove(s.seed, topic)
	}
	if !changed {
		return
	}
	for a := range at.users {
		s.changed[a.id] = true
	}
}

// evaluate returns what a payload means to an item: online, offline, or unknown. ok
// is false where the payload leaves the last state in force. The error names why it
// cannot be evaluated.
func (i *item) evaluate(payload string, shared *template.Payload, t *template.Template) (state string, ok bool, err error) {
	value := payload
	switch i.read {
	case readOffline:
		return topics.Offline, false, nil
	case readUnknown:
		return topics.DeviceUnknown, true, nil
	case readEither:
		if found, ok := fieldOf(payload, i.field); ok {
			value = found
		}
	case readTemplate:
		if len(payload) > maxAvailability {
			return topics.DeviceUnknown, true, fmt.Errorf("a payload of availability with a template is longer than %d bytes", maxAvailability)
		}
		var other *template.Unsupported
		if value, err = t.Render(shared); errors.As(err, &other) {
			return topics.DeviceUnknown, true, fmt.Errorf("a template of availability cannot be evaluated: %w", err)
		} else if err != nil {
			return topics.DeviceUnknown, payload == "", nil
		}
	case readHomie:
		value = homieStates[payload]
		return firstOf(value, topics.DeviceUnknown), value != "" || payload == "", nil
	case readPlain:
	}
	switch {
	case !utf8.ValidString(payload):
		return topics.DeviceUnknown, false, nil
	case value == i.online:
		return topics.Online, true, nil
	case value == i.offline:
		return topics.Offline, true, nil
	}
	return topics.DeviceUnknown, payload == "", nil // which takes back what was retained
}

// fieldOf returns a field of a small JSON object.
func fieldOf(payload, field string) (value string, found bool) {
	if !strings.HasPrefix(strings.TrimSpace(payload), "{") {
		return "", false
	}
	err := read([]byte(payload), func(r *reader) error {
		_, err := r.object(func(key string) error {
			if key != field {
				return r.skip()
			}
			found = true
			var err error
			value, err = r.text()
			return err
		})
		return err
	})
	return value, found && err == nil
}

// availability evaluates a rule. In the mode latest only the order of payloads
// counts: which of several retained messages a broker sends first means nothing, so
// of these one that is offline is enough.
func (s *State) availability(r rule) string {
	var states []string
	last, lastOrder := topics.DeviceUnknown, uint64(0)
	for _, i := range r.items {
		w := s.availabilityTopics[i.topic].states[i.plain()]
		if w.state == topics.DeviceUnknown && i.optional {
			continue
		}
		states = append(states, w.state)
		if w.state != topics.DeviceUnknown && w.order > lastOrder {
			last, lastOrder = w.state, w.order
		}
	}
	online, offline := slices.Contains(states, topics.Online), slices.Contains(states, topics.Offline)
	silent := slices.Contains(states, topics.DeviceUnknown)
	switch r.mode {
	case modeAll:
		if offline || online && !silent {
			return pick(offline)
		}
	case modeAny:
		if online || offline && !silent {
			return pick(!online)
		}
	case modeLatest:
		if lastOrder > 0 {
			return last
		}
		if online || offline {
			return pick(offline)
		}
	}
	return topics.DeviceUnknown
}

func pick(offline bool) string {
	if offline {
		return topics.Offline
	}
	return topics.Online
}

// availabilityOf returns the availability of a device. The announcements of the device
// itself, or of its bridge, decide, and only where that is unknown the configs for
// Home Assistant: a former firmware may have left some of these, with topics that
// nobody publishes to any more. Of announcements with the same priority, and of the
// components of each, one that is available is enough, as the device has an available
// entity in Home Assistant then.
func (s *State) availabilityOf(device []*announcement) string {
	for last := range 2 {
		for _, by := range sourcePriority {
			if (by == topics.ByHomeAssistant) != (last == 1) {
				continue
			}
			if state := s.availabilityBy(by, device); state != topics.DeviceUnknown {
				return state
			}
		}
	}
	return topics.DeviceUnknown
}

// availabilityBy is availabilityOf by the announcements of one source.
func (s *State) availabilityBy(by string, device []*announcement) string {
	state := topics.DeviceUnknown
	for _, a := range device {
		if availabilitySource(a, device) != by {
			continue
		}
		for r := range a.rules() {
			state = combine(state, s.availability(r))
		}
	}
	return state
}

// availabilitySource returns the source that the availability of an announcement counts
// as. A node of ESPHome does not announce its topic, and where the configs of the
// device name other topics only, the assumed one counts no more than theirs.
func availabilitySource(a *announcement, device []*announcement) string {
	assumed := ""
	for i := range a.watched() {
		if !i.optional {
			return a.by
		}
		assumed = i.topic
	}
	source := a.by
	for _, other := range device {
		if other.by != topics.ByHomeAssistant {
			continue
		}
		for i := range other.watched() {
			if i.topic == assumed {
				return a.by
			}
			source = topics.ByHomeAssistant
		}
	}
	return source
}

// combine returns the availability by two rules of one device.
func combine(a, b string) string {
	for _, state := range []string{topics.Online, topics.Offline} {
		if a == state || b == state {
			return state
		}
	}
	return topics.DeviceUnknown
}
