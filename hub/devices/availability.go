package devices

import (
	"regexp"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// rule says how the availability of a device is told: Home Assistant's
// availability, which the others' conventions are cases of.
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

// item is one topic that tells of availability.
type item struct {
	topic           string
	online, offline string
	read            reading
	field           string // of readEither; of readConstant the text; of readTemplate the template
	optional        bool   // as long as it is silent it does not count
}

// reading is how the word is found in the payload.
type reading uint8

const (
	readPlain    reading = iota // the payload
	readEither                  // a field of a JSON object, or the payload where it is none
	readConstant                // not the payload's matter
	readTemplate                // what a template makes of it
	readUnknown                 // a template that nobody here understands
)

var (
	templateValue = regexp.MustCompile(`^\{\{-?\s*value\s*-?\}\}$`)
	templateConst = regexp.MustCompile(`^\{\{-?\s*(?:"([^"\\{}]*)"|'([^'\\{}]*)')\s*-?\}\}$`)
)

// template sets how an item is read from a template of Home Assistant. The
// payload itself and a constant need no evaluator.
func (i *item) template(t string) {
	t = strings.TrimSpace(t)
	constant := templateConst.FindStringSubmatch(t)
	switch {
	case t == "" || templateValue.MatchString(t):
	case constant != nil && len(t) <= maxText:
		i.read, i.field = readConstant, strings.Clone(constant[1]+constant[2])
	case len(t) <= maxTemplate && templateBody.MatchString(t):
		i.read, i.field = readTemplate, strings.Clone(t)
	default:
		i.read = readUnknown
	}
}

// said is the last word at a topic.
type said struct {
	payload string
	order   uint64 // counts words; zero: none yet
	users   map[*announcement]bool
}

// understood reports whether a payload is a word for anybody who uses the topic.
func (s *said) understood(topic, payload string) bool {
	one := &said{payload: payload, order: 1}
	for a := range s.users {
		for n := range a.rule.items {
			if i := &a.rule.items[n]; i.topic == topic && i.read != readConstant && i.word(one) != topics.DeviceUnknown {
				return true
			}
		}
	}
	return false
}

// maxSaid is the longest payload that is taken for a word of availability.
const maxSaid = 512

// word is what an item says: online, offline or unknown.
func (i *item) word(s *said) string {
	payload := ""
	if s != nil && s.order > 0 {
		payload = s.payload
	}
	value := payload
	switch i.read {
	case readEither:
		if found, ok := fieldOf(payload, i.field); ok {
			value = found
		}
	case readConstant:
		value = i.field
	case readTemplate:
		if s == nil || s.order == 0 {
			return topics.DeviceUnknown
		}
		var err error
		if value, err = render(i.field, payload); err != nil {
			return topics.DeviceUnknown
		}
	case readUnknown:
		return topics.DeviceUnknown
	}
	switch value {
	case "":
		return topics.DeviceUnknown
	case i.online:
		return topics.Online
	case i.offline:
		return topics.Offline
	}
	return topics.DeviceUnknown
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

// availability is what a rule comes to.
func (s *State) availability(r rule) string {
	var words []string
	last, lastOrder := topics.DeviceUnknown, uint64(0)
	for i := range r.items {
		it := &r.items[i]
		heard := s.said[it.topic]
		w := it.word(heard)
		if w == topics.DeviceUnknown && it.optional {
			continue
		}
		words = append(words, w)
		if heard != nil && heard.order > lastOrder && w != topics.DeviceUnknown {
			last, lastOrder = w, heard.order
		}
	}
	online, offline := slices.Contains(words, topics.Online), slices.Contains(words, topics.Offline)
	silent := slices.Contains(words, topics.DeviceUnknown)
	switch {
	case len(words) == 0:
		return topics.DeviceUnknown
	case r.mode == modeAll && offline, r.mode == modeAny && offline && !online && !silent:
		return topics.Offline
	case r.mode == modeAll && !silent, r.mode == modeAny && online:
		return topics.Online
	case r.mode == modeLatest && len(words) == 1: // also a constant, which is never heard
		return words[0]
	case r.mode == modeLatest:
		return last
	}
	return topics.DeviceUnknown
}
