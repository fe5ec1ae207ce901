package homeassistant

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// remove takes a device away.
func (b *Book) remove(topic string, e *entry, now time.Time) (topics.Message, bool) {
	if !e.leaves() && !e.revive {
		return topics.Message{}, false
	}
	if e.revive {
		e.revive, e.heard = false, true
		if !e.known { // it was started since, and remembers no triggers
			_, e.Components = e.triggers()
		}
		b.at(e, now.Add(apart))
		return topics.Message{Topic: topic, QoS: 1, Payload: b.with(b.bare(topic), e.Components, b.stub(topic))}, true
	}
	if !e.known && !e.heard && b.options.current(topic) { // it may be in its registry alone: at the next birth
		e.Gone, b.changed = true, true
		return topics.Message{}, false
	}
	if m, first := b.removeTriggers(topic, e, now); first {
		return m, true
	}
	if b.present || e.heard {
		e.Told = Told{Deleted: e.Deleted}
	} else {
		e.Gone = true
	}
	b.count(e)
	e.known, e.heard, e.repeat, e.marked = false, false, false, nil
	e.echoes++
	e.at = now
	b.at(e, now) // to be forgotten: until then it is known when it was told
	return Removal(topic), true
}

// replace takes a device away that is told anew in a moment.
func (b *Book) replace(topic string, e *entry, now time.Time) (topics.Message, bool) {
	m, removed := b.remove(topic, e, now)
	if len(e.Components) == 0 || e.Gone { // Home Assistant lost it
		e.Gone, e.Components, e.replaced, b.changed = false, nil, false, true
	}
	b.at(e, now.Add(apart))
	return m, removed
}

// removeTriggers takes the triggers of a device away that is about to go, where Home
// Assistant listens: it does not remember them over a restart. false: it has none.
func (b *Book) removeTriggers(topic string, e *entry, now time.Time) (topics.Message, bool) {
	triggers, others := e.triggers()
	if len(triggers) == 0 || !b.present && !e.heard {
		return topics.Message{}, false
	}
	e.Components, b.changed = others, true
	b.at(e, now.Add(apart))
	return topics.Message{Topic: topic, QoS: 1, Payload: b.with(b.bare(topic), triggers, marker)}, true
}

// triggers returns the triggers among the components, and the others.
func (e *entry) triggers() (triggers, others map[string]string) {
	triggers, others = make(map[string]string), make(map[string]string)
	for key, platform := range e.Components {
		if platform == deviceAutomation {
			triggers[key] = platform
		} else {
			others[key] = platform
		}
	}
	return triggers, others
}
