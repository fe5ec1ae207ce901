package homeassistant

import (
	"cmp"
	"crypto/sha256"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const (
	// replayTime is how long the broker is given to replay what it retains.
	replayTime = time.Second
	// configInterval is the time between two configs of one device.
	configInterval = 5 * time.Second
	// setupTime is how long after its birth Home Assistant may still set up what the
	// broker replayed to it.
	setupTime = 2 * time.Second
	// Burst messages go out at once, and the next ones after a Beat: Home
	// Assistant works on one thing at a time.
	Burst = 10
	Beat  = 50 * time.Millisecond
	// statesAfter is the time between the last config and the states: entities
	// are set up, and listen.
	statesAfter = 2 * time.Second
	// maxDevices is beyond what any home has.
	maxDevices = 4096
)

// Wake returns when Step has something to do; zero: not before another method is
// called.
func (r *Registry) Wake() time.Time {
	if !r.online {
		return time.Time{}
	}
	return r.wake
}

// Step returns what is to be published now, and whether the states are due to be
// published again.
func (r *Registry) Step(now time.Time) (out []topics.Message, states bool) {
	if !r.online || r.wake.IsZero() || now.Before(r.wake) {
		return nil, false
	}
	var due []string
	r.wake = time.Time{}
	if !r.compared && !now.Before(r.replayUntil) {
		r.compareReplay(now)
	} else if !r.compared {
		r.wakeAt(r.replayUntil)
	}
	if !r.verifyUntil.IsZero() {
		if now.Before(r.verifyUntil) {
			r.wakeAt(r.verifyUntil)
		} else {
			r.verifyTimeout(now)
		}
	}
	for topic, e := range r.entries {
		if e.unverified {
			continue
		}
		if e.repeat { // the states come after the configs
			r.states = later(r.states, e.due.Add(statesAfter))
		}
		if e.due.IsZero() {
			continue
		}
		if now.Before(e.due) {
			r.wakeAt(e.due)
		} else {
			due = append(due, topic)
		}
	}
	r.order(due)
	published := 0
	for _, topic := range due {
		e := r.entries[topic]
		if published >= Burst && e.write != nil {
			e.due = now.Add(Beat) // removals do not wait: their state topics are cleared after them
			r.wakeAt(e.due)
			continue
		}
		e.due = time.Time{}
		if m, publish := r.act(topic, e, now); publish {
			e.sentAt = now
			out = append(out, m)
			published++
		}
		if e.write == nil && e.due.IsZero() && !e.removable() && !e.Gone && e.Deleted == "" {
			delete(r.entries, topic)
		}
	}
	if !r.states.IsZero() && !now.Before(r.states) {
		r.states, states = time.Time{}, true
	}
	if !r.states.IsZero() {
		r.wakeAt(r.states)
	}
	if m, due := r.publishCount(now); due {
		out = append(out, m)
	}
	return out, states
}

// order sorts topics, the hub's first: the others refer to it by via_device.
func (r *Registry) order(all []string) {
	hub := r.options.HubTopic() // once, not for each comparison
	first := func(topic string) int {
		if topic == hub {
			return 0
		}
		return 1
	}
	slices.SortFunc(all, func(x, y string) int { return cmp.Or(first(x)-first(y), strings.Compare(x, y)) })
}

// act returns the next message about one device, if there is one.
func (r *Registry) act(topic string, e *entry, now time.Time) (topics.Message, bool) {
	if e.write == nil || e.Deleted != "" {
		return r.remove(topic, e, now)
	}
	if e.merging && len(e.Components) > 0 {
		return r.replace(topic, e, now)
	}
	e.merging = false
	c := e.write()
	removed := make(map[string]string)
	for key, platform := range e.Components {
		if c.Components[key] != platform {
			removed[key] = platform
		}
	}
	if len(removed) > 0 && e.reannounce { // so that Home Assistant has what it is to remove, whenever it was started
		e.reannounce, e.prepared = false, true
		r.schedule(e, now.Add(configInterval))
		r.recordAnnounced(e, c)
		return topics.Message{Topic: topic, QoS: 1, Payload: r.withComponents(c.Payload, removed, r.stubComponent(topic))}, true
	}
	if len(removed) > 0 && subset(removed, e.removing) {
		e.Components, r.changed = nil, true
		e.prepared, e.removing, removed = false, nil, nil
	}
	if len(removed) > 0 {
		c.Payload = r.withComponents(c.Payload, removed, removedComponent)
		e.repeat = e.repeat || e.prepared // Home Assistant was just given what it is to remove
		if r.haOnline {
			e.removing = removed
			r.schedule(e, now.Add(configInterval))
		} else { // it is repeated at the next birth
			e.prepared = false
		}
	} else {
		e.removing = nil
	}
	e.reannounce = false
	r.recordAnnounced(e, c)
	sum := sha256.Sum256(c.Payload)
	if e.retained && e.sum == sum && !e.repeat {
		return topics.Message{}, false
	}
	e.retained, e.sum, e.repeat = true, sum, false
	r.countChange(e)
	return topics.Message{Topic: topic, Payload: c.Payload, QoS: 1, Retain: true}, true
}

// recordAnnounced records what is announced. A component that changes its platform
// is removed with the old one first.
func (r *Registry) recordAnnounced(e *entry, c Config) {
	if undiscovered := !r.haOnline && (e.Undiscovered || len(e.Components) == 0); undiscovered != e.Undiscovered {
		e.Undiscovered, r.changed = undiscovered, true
	}
	for key, platform := range c.Components {
		if e.Components[key] == "" {
			e.add(key, platform)
			r.changed = true
		}
	}
	if e.Definition != e.definition {
		e.Definition, r.changed = e.definition, true
	}
	if !reflect.DeepEqual(e.Firmware, c.Firmware) {
		e.Firmware, r.changed = c.Firmware, true
	}
}

// schedule has Step process a device, configInterval after its last message at the
// earliest.
func (r *Registry) schedule(e *entry, t time.Time) {
	if !e.sentAt.IsZero() {
		t = later(t, e.sentAt.Add(configInterval))
	}
	e.due = t
	r.wakeAt(t)
}

func (r *Registry) wakeAt(t time.Time) {
	if r.wake.IsZero() || t.Before(r.wake) {
		r.wake = t
	}
}
