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

// The modes of a rule. Latest is Home Assistant's default: the last word of any
// topic counts.
const (
	modeAll    = "all"
	modeAny    = "any"
	modeLatest = "latest"
)

// item is one topic that tells of availability, and how.
type item struct {
	topic           string
	online, offline string
	read            reading
	field           string // of readEither; of readTemplate the template
	optional        bool   // as long as it is silent it does not count
}

// reading is how a word is found in a payload.
type reading uint8

const (
	readPlain    reading = iota // the payload
	readEither                  // a field of a JSON object, or the payload where it is none
	readOffline                 // offline, whatever the payload
	readTemplate                // what a template makes of it
	readUnknown                 // a template that nobody here understands
	readHomie                   // a state of the Homie convention
)

// template has an item read by a template of Home Assistant. The error says what
// of it is not understood.
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

// said is what is known of one topic of availability.
type said struct {
	users   map[*announcement]bool
	words   map[item]*word
	arrived bool   // a payload
	payload string // the last one, for items that come after it
	order   uint64 // of it, as that of a word
}

// word is what an item of a topic says. As in Home Assistant each item has its
// own: a payload that says nothing to it leaves the last word in force.
type word struct {
	state    string
	order    uint64 // counts payloads; zero: of one that the broker had retained
	users    int
	latest   bool // the order counts for somebody
	template *template.Template
}

// Limits of payloads at topics of availability, in bytes: of one that is read,
// and of all that are remembered for announcements that are still to come.
const (
	maxSaid       = 4096
	maxRemembered = 4 << 20
)

// maxWords is how many items may read one topic of availability in different
// ways: each takes time when something is published there.
const maxWords = 256

// listen has the topics of availability heard for an announcement. The error is
// of an item that is unknown, since its topic is read in too many ways already.
func (s *State) listen(a *announcement) error {
	var wrong details
	for r := range a.rules() {
		for n := range r.items {
			wrong.note(s.listenTo(a, &r.items[n], r.mode == modeLatest && len(r.items) > 1))
		}
	}
	return wrong.err()
}

func (s *State) listenTo(a *announcement, i *item, latest bool) (err error) {
	heard := s.said[i.topic]
	if heard == nil {
		heard = new(said)
		s.said[i.topic] = heard
		if w, ok := s.own[i.topic]; ok {
			heard.arrived, heard.order = true, w.order
			s.remember(heard, w.payload)
		}
	}
	if heard.users == nil {
		heard.users, heard.words = make(map[*announcement]bool), make(map[item]*word)
	}
	heard.users[a] = true
	w := heard.words[i.plain()]
	if w == nil && len(heard.words) >= maxWords {
		if s.forgetWords(i.topic); len(heard.words) >= maxWords {
			err = fmt.Errorf("the availability at %q is read in more than %d different ways", cut(i.topic, maxText), maxWords)
			*i = item{topic: i.topic, read: readUnknown}
			w = heard.words[*i]
		}
	}
	if w == nil {
		w = s.newWord(heard, i)
		heard.words[i.plain()] = w
	}
	w.users++
	w.latest = w.latest || latest
	return err
}

// newWord returns what an item says after what was heard before it.
func (s *State) newWord(heard *said, i *item) *word {
	w := &word{state: topics.DeviceUnknown}
	switch i.read {
	case readOffline:
		w.state = topics.Offline
		return w
	case readTemplate:
		w.template, _ = s.templates.parse(i.field) // it was parsed before
	case readPlain, readEither, readUnknown:
	}
	if heard.arrived {
		w.state, _, _ = i.judge(heard.payload, template.NewPayload(heard.payload), w.template)
		w.order = heard.order
	}
	return w
}

// plain returns the item as it is a key of words.
func (i item) plain() item {
	i.optional = false
	return i
}

// silence ends what listen began. The words are dropped by forgetWords.
func (s *State) silence(a *announcement) {
	for i := range a.watched() {
		heard := s.said[i.topic]
		heard.words[i.plain()].users--
		delete(heard.users, a)
	}
}

// forgetWords drops the words of a topic of which nobody asks any more. An
// announcement that is replaced by a newer one asks again before that.
func (s *State) forgetWords(topic string) {
	heard := s.said[topic]
	if heard == nil {
		return
	}
	for i, w := range heard.words {
		if w.users == 0 {
			delete(heard.words, i)
		}
	}
}

// remember keeps the last payload of a topic while there is room.
func (s *State) remember(heard *said, payload string) {
	s.remembered -= len(heard.payload)
	heard.payload = ""
	if len(payload) <= maxSaid && s.remembered+len(payload) <= maxRemembered {
		heard.payload = strings.Clone(payload)
		s.remembered += len(payload)
	}
}

// hear takes a payload at a topic of availability.
func (s *State) hear(heard *said, topic, payload string, live bool, now time.Time) {
	var wrong details
	changed := !heard.arrived
	s.words++
	heard.arrived, heard.order = true, 0
	if live {
		heard.order = s.words
	}
	s.remember(heard, payload)
	shared := template.NewPayload(payload)
	for i, w := range heard.words {
		state, ok, err := i.judge(payload, shared, w.template)
		if wrong.note(err); !ok || !live && state == w.state {
			continue
		}
		changed = changed || w.latest || state != w.state
		w.state, w.order = state, heard.order
	}
	if err := wrong.err(); err != nil {
		s.trouble.put(s.seed, topic, err.Error(), live, now)
	} else {
		s.trouble.forget(s.seed, topic)
	}
	if !changed {
		return
	}
	for a := range heard.users {
		s.changed[a.id] = true
	}
}

// judge returns what a payload says to an item: online, offline, or unknown. It
// is false where the payload leaves the last word in force. The error names why
// it cannot be told what it says.
func (i *item) judge(payload string, shared *template.Payload, t *template.Template) (state string, ok bool, err error) {
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
		if len(payload) > maxSaid {
			return topics.DeviceUnknown, true, fmt.Errorf("a payload of availability with a template is longer than %d bytes", maxSaid)
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

// availability is what a rule comes to. In the mode latest the order of what is
// heard counts, and only that: which of several retained messages a broker sends
// first means nothing, so of these one that says offline is enough.
func (s *State) availability(r rule) string {
	var words []string
	last, lastOrder := topics.DeviceUnknown, uint64(0)
	for _, i := range r.items {
		w := s.said[i.topic].words[i.plain()]
		if w.state == topics.DeviceUnknown && i.optional {
			continue
		}
		words = append(words, w.state)
		if w.state != topics.DeviceUnknown && w.order > lastOrder {
			last, lastOrder = w.state, w.order
		}
	}
	online, offline := slices.Contains(words, topics.Online), slices.Contains(words, topics.Offline)
	silent := slices.Contains(words, topics.DeviceUnknown)
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

// present returns whether a device is there. The device itself decides, or who
// speaks for it, and only where they do not know the configs for Home Assistant:
// of these a former firmware may have left some behind, at topics that nobody
// writes any more. Of those who are believed alike, and of the components of each,
// one that is available is enough, as a device has something to show in Home
// Assistant then.
func (s *State) present(device []*announcement) string {
	for last := range 2 {
		for _, by := range believe {
			if (by == topics.ByHomeAssistant) != (last == 1) {
				continue
			}
			if state := s.presentBy(by, device); state != topics.DeviceUnknown {
				return state
			}
		}
	}
	return topics.DeviceUnknown
}

func (s *State) presentBy(by string, device []*announcement) string {
	state := topics.DeviceUnknown
	for _, a := range device {
		if speaker(a, device) != by {
			continue
		}
		for r := range a.rules() {
			state = better(state, s.availability(r))
		}
	}
	return state
}

// speaker returns whose word the availability of an announcement is. A node of
// ESPHome does not say where it is told, and where the configs of the device
// name other topics alone the one that is assumed counts no more than theirs.
func speaker(a *announcement, device []*announcement) string {
	assumed := ""
	for i := range a.watched() {
		if !i.optional {
			return a.by
		}
		assumed = i.topic
	}
	speaker := a.by
	for _, other := range device {
		if other.by != topics.ByHomeAssistant {
			continue
		}
		for i := range other.watched() {
			if i.topic == assumed {
				return a.by
			}
			speaker = topics.ByHomeAssistant
		}
	}
	return speaker
}

// better is what two rules of one device come to.
func better(a, b string) string {
	for _, state := range []string{topics.Online, topics.Offline} {
		if a == state || b == state {
			return state
		}
	}
	return topics.DeviceUnknown
}
