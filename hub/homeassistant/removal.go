package homeassistant

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// remove returns the next message that removes a device, if there is one.
func (r *Registry) remove(topic string, e *entry, now time.Time) (topics.Message, bool) {
	if !e.removable() && !e.reannounce {
		return topics.Message{}, false
	}
	if e.reannounce {
		e.reannounce, e.prepared = false, true
		if !e.retained { // Home Assistant was restarted since, and does not store triggers
			_, e.Components = e.triggers()
		}
		r.schedule(e, now.Add(configInterval))
		return topics.Message{Topic: topic, QoS: 1, Payload: r.withComponents(r.emptyDevice(topic), e.Components, r.stubComponent(topic))}, true
	}
	if !e.retained && !e.prepared && r.options.atCurrentPrefix(topic) { // it may be in Home Assistant's registry alone: at the next birth
		e.Gone, r.changed = true, true
		return topics.Message{}, false
	}
	if m, first := r.removeTriggers(topic, e, now); first {
		return m, true
	}
	if r.haOnline {
		e.Record = Record{Deleted: e.Deleted}
	} else { // it is repeated at the next birth
		e.Gone = true
	}
	r.countChange(e)
	e.retained, e.prepared, e.repeat, e.removing = false, false, false, nil
	e.echoes++
	e.sentAt = now
	r.schedule(e, now) // to delete the entry: until then sentAt is needed
	return Removal(topic), true
}

// replace removes a device that is announced again in a moment.
func (r *Registry) replace(topic string, e *entry, now time.Time) (topics.Message, bool) {
	m, removed := r.remove(topic, e, now)
	if len(e.Components) == 0 || e.Gone { // Home Assistant removed it
		e.Gone, e.Components, e.merging, r.changed = false, nil, false, true
	}
	r.schedule(e, now.Add(configInterval))
	return m, removed
}

// removeTriggers removes the triggers of a device that is about to be removed, where
// Home Assistant is online: it does not store them over a restart. first is false
// where there are none.
func (r *Registry) removeTriggers(topic string, e *entry, now time.Time) (m topics.Message, first bool) {
	triggers, others := e.triggers()
	if len(triggers) == 0 || !r.haOnline && !e.prepared {
		return topics.Message{}, false
	}
	e.Components, r.changed = others, true
	r.schedule(e, now.Add(configInterval))
	return topics.Message{Topic: topic, QoS: 1, Payload: r.withComponents(r.emptyDevice(topic), triggers, removedComponent)}, true
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
