package devices

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// entity is what is read of one component: its topics as they are written, until
// its "~" was read.
type entity struct {
	wrong  *partialError
	parsed templates
	// tooLong is set where its base is too long: topics with "~" are omitted.
	tooLong bool
	base    string
	topics  []struct{ key, topic string }
	omitted int
	items   []item
	// lostItems counts the topics of its availability that were too many or cannot be subscribed to.
	lostItems int
	mode      string
	// valueTpl is the key availability_template.
	valueTpl string
	online   string
	offline  string
}

// member reads one member of an entity, by its long key.
func (e *entity) member(r *reader, key string) error {
	var to *string
	switch {
	case key == "~":
		to = &e.base
	case key == "availability_mode":
		to = &e.mode
	case key == "availability_template":
		to = &e.valueTpl
	case key == "payload_available":
		to = &e.online
	case key == "payload_not_available":
		to = &e.offline
	case key == "availability":
		return e.availability(r)
	case key == "topic" || strings.HasSuffix(key, "_topic") || strings.HasSuffix(key, "_t"):
		topic, err := r.text()
		if err != nil || topic == "" {
			return err
		}
		switch {
		case len(topic) > maxTopic:
			e.wrong.add(fmt.Errorf("its %s is longer than %d bytes", cut(key, maxText/2), maxTopic))
			e.omitted++
			if isAvailability(key) {
				e.lostItems++
			}
		case len(e.topics) >= maxTopics:
			e.omitted++
		default:
			e.topics = append(e.topics, struct{ key, topic string }{strings.Clone(key), strings.Clone(topic)})
		}
		return nil
	default:
		return r.skip()
	}
	text, err := r.pythonText()
	if limit := limitOf(key); len(text) > limit {
		e.wrong.add(fmt.Errorf("its %s is longer than %d bytes", key, limit))
		e.tooLong = e.tooLong || key == "~"
		text = unreadable
	}
	if to == &e.valueTpl {
		text = writtenTemplate(text)
	}
	*to = strings.Clone(text)
	return err
}

// writtenTemplate returns a template that was written. Home Assistant renders an empty one,
// which means nothing.
func writtenTemplate(text string) string { return cmp.Or(text, "{##}") }

// unreadable stands for a template or a payload that is too long to be stored: no
// valid template, and no payload that anybody publishes.
const unreadable = "{{"

// maxTemplate is how long a template of availability may be, in bytes.
const maxTemplate = 1024

func limitOf(key string) int {
	if strings.HasSuffix(key, "template") {
		return maxTemplate
	}
	return maxTopic
}

// availability reads the list of topics, or the single one without brackets.
func (e *entity) availability(r *reader) error {
	return r.listOrOne(func(t json.Token) error {
		var i item
		template := ""
		to := map[string]*string{
			"topic": &i.topic, "payload_available": &i.online, "payload_not_available": &i.offline, "value_template": &template,
		}
		is, err := r.objectFrom(t, func(key string) error {
			field := to[long(key)]
			if field == nil {
				return r.skip()
			}
			text, err := r.pythonText()
			if limit := limitOf(long(key)); len(text) > limit {
				e.wrong.add(fmt.Errorf("the %s of its availability is longer than %d bytes", long(key), limit))
				if text = unreadable; field == &i.topic {
					text = ""
				}
			}
			if field == &template {
				text = writtenTemplate(text)
			}
			*field = strings.Clone(text)
			return err
		})
		if err != nil || !is {
			return err
		}
		switch {
		case len(e.items) >= maxItems:
			e.wrong.add(fmt.Errorf("its availability has more than %d topics", maxItems))
			e.omitted++
			e.lostItems++
		case i.topic == "":
			e.lostItems++
		default:
			i.online, i.offline = cmp.Or(i.online, topics.Online), cmp.Or(i.offline, topics.Offline)
			e.template(&i, "value_template of its availability", template)
			e.items = append(e.items, i)
		}
		return nil
	})
}

// template has an item read by a template, and records what is not supported.
func (e *entity) template(i *item, name, text string) {
	if text == unreadable { // which was noted
		i.read = readUnknown
	} else if err := i.template(text, e.parsed); err != nil {
		e.wrong.add(fmt.Errorf("its %s cannot be evaluated: %w", name, err))
	}
}

// topicsOf adds the topics of states and commands.
func (s *State) topicsOf(a *announcement, e *entity) {
	a.omitted += e.omitted
	for _, t := range e.topics {
		topic, ok := e.full(t.topic)
		if ok && isAvailability(t.key) {
			continue
		}
		switch {
		case !ok:
			a.omitted++
		case strings.HasPrefix(t.key, "set_") || strings.HasSuffix(t.key, "cmd_t") || strings.HasSuffix(t.key, "command_topic"):
			a.topic(&a.command, topic)
		default:
			a.topic(&a.state, topic)
		}
	}
}

func isAvailability(key string) bool { return key == "avty_t" || key == "availability_topic" }

// availabilityOf returns the topics of availability that are written in an entity,
// itself or the root, with the payloads and the template of e.
func (e *entity) availabilityOf(from *entity) (all []item) {
	all = slices.Clone(from.items)
	for _, t := range from.topics {
		if isAvailability(t.key) {
			i := item{topic: t.topic, online: cmp.Or(e.online, topics.Online), offline: cmp.Or(e.offline, topics.Offline)}
			e.template(&i, "availability_template", e.valueTpl)
			all = []item{i}
		}
	}
	return all
}

// component adds the availability of a component, which as in Home Assistant
// inherits from the root of the config each option that it does not have itself.
// One with a topic that the hub may not subscribe to is ignored as a whole: the others
// alone might mean something else.
func (s *State) component(a *announcement, e, root *entity) {
	e.online, e.offline = cmp.Or(e.online, root.online), cmp.Or(e.offline, root.offline)
	e.valueTpl, e.mode = cmp.Or(e.valueTpl, root.valueTpl), cmp.Or(e.mode, root.mode, modeLatest)
	r, from := rule{mode: e.mode}, e
	items := e.availabilityOf(e)
	if len(items)+e.lostItems == 0 {
		items, from = e.availabilityOf(root), root
	}
	lost := from.lostItems
	base := e
	if root.base != "" && from == root {
		base = root
	}
	for _, i := range items {
		topic, ok := base.full(i.topic)
		i.topic = topic
		if !ok {
			lost++
		} else if err := s.watchFor(a, &r, i); err != nil {
			e.wrong.add(err)
			lost++
		}
	}
	same := func(other rule) bool { return r.mode == other.mode && slices.Equal(r.items, other.items) }
	if lost > 0 {
		a.omitted += len(items)
		return
	}
	if len(r.items) == 0 || slices.ContainsFunc(a.components, same) {
		return
	}
	if len(a.components) >= maxRules {
		e.wrong.add(fmt.Errorf("its components have more than %d different availabilities", maxRules))
		a.omitted += len(r.items)
		return
	}
	a.components = append(a.components, r)
}

// full puts the base in the place of "~" at either end of a topic. ok is false
// where the base or the whole is too long.
func (e *entity) full(topic string) (full string, ok bool) {
	if e.base == "" {
		return topic, true
	}
	if rest, ok := strings.CutPrefix(topic, "~"); ok {
		full = e.base + rest
	} else if rest, ok := strings.CutSuffix(topic, "~"); ok {
		full = rest + e.base
	} else {
		return topic, true
	}
	if !e.tooLong && len(full) > maxTopic {
		e.wrong.add(fmt.Errorf("a topic is longer than %d bytes", maxTopic))
	}
	return full, !e.tooLong && len(full) <= maxTopic
}
