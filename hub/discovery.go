package hub

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/homeassistant"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// discovery is what the hub does for Home Assistant. Package homeassistant decides
// what is announced and when; this is the input and the output of that.
type discovery struct {
	options       homeassistant.Options
	announcements *homeassistant.Registry
	shown         map[string]any      // what the device of a thing shows, by topic
	after         map[string][]string // what is cleared once the device is, by its topic
	again         []func()            // what is still to be published again
	againAt       time.Time           // not sooner
	unsaved       bool
	// awaits holds microdomains that are not told yet: until when their firmware is
	// waited for; zero: not any more.
	awaits map[string]time.Time
	saveAt time.Time // not sooner
}

// discoveryFile holds what was announced to Home Assistant, apart from the hub's
// state: it changes at another rate.
const discoveryFile = "homeassistant.json"

func newDiscovery(o homeassistant.Options, retains func(topic string) bool, snapshot homeassistant.Snapshot) discovery {
	o.FormerPrefixes = o.Former(snapshot)
	return discovery{options: o, announcements: homeassistant.NewRegistry(o, retains, snapshot), shown: make(map[string]any), after: make(map[string][]string), awaits: make(map[string]time.Time)}
}

// publishDiscovery says what is to be in Home Assistant, and once all is known
// that the rest goes.
func (h *Hub) publishDiscovery(c *changes, now time.Time) {
	if h.cfg.HomeAssistant.Enabled {
		h.showAll(c, now)
	}
	if !h.ready || !c.whole {
		return
	}
	unheard := make(map[string]bool) // of these we know nothing yet but that they are
	for _, d := range h.domains {
		if d.Status == nil && h.cfg.HomeAssistant.Enabled {
			unheard[h.discovery.options.DomainTopic(d.Name)] = true
		}
	}
	h.discovery.announcements.Complete(unheard, now)
}

func (h *Hub) showAll(c *changes, now time.Time) {
	o := h.discovery.options
	// The options do not change while the hub runs.
	h.show(o.HubTopic(), o.HubName, o.HubName, func() homeassistant.Config { return homeassistant.Hub(o) }, now)
	for _, d := range h.touched(c) {
		s := d.Status
		if s == nil || d.Micro && h.awaitsFirmware(d.Name, now) {
			continue
		}
		m := homeassistant.Machine{Name: d.Name, ID: d.ID, Version: s.Version, OS: s.OS, Arch: s.Arch, Micro: d.Micro, Hot: d.Hot}
		defined := m
		defined.Version, defined.Hot = "", false
		shown := any(m)
		if d.Micro {
			m.Firmware = h.firmwareOf(d.Name, now)
			shown = digest(m)
		}
		h.show(o.DomainTopic(d.Name), shown, digest(defined), func() homeassistant.Config { return homeassistant.Domain(o, m) }, now)
	}
	var micro map[string]bool
	if len(c.services) > 0 {
		micro = h.microOnly()
	}
	for name := range c.services {
		v, known := h.views[name]
		if !known {
			continue
		}
		topic, def := o.ServiceTopic(name), h.definition(name)
		p := homeassistant.Program{
			Name: name, URL: v.Link, MaxReplicas: maxReplicasShown(def), Micro: micro[name],
			Versioned: v.Version != "" || v.Update.Latest != "" || h.discovery.announcements.Has(topic, "version"),
		}
		h.show(topic, serviceShown{p, definitionOf(def)}, definitionOf(def), func() homeassistant.Config { return homeassistant.Service(o, p) }, now)
	}
}

// microOnly returns the services that microcontrollers alone have. Until all domains
// have told what they have, it is as Home Assistant was told before.
func (h *Hub) microOnly() map[string]bool {
	only := make(map[string]bool)
	for _, d := range h.domains {
		if d.Micro && d.Status != nil {
			for _, i := range d.Status.Services {
				only[i.Service] = true
			}
		}
	}
	whole := h.ready
	if len(only) > 0 {
		for _, d := range h.domains {
			if d.Micro {
				continue
			}
			if d.Status == nil {
				whole = false
				continue
			}
			for _, row := range d.Status.Catalog {
				delete(only, row.Service)
			}
			for _, i := range d.Status.Services {
				delete(only, i.Service)
			}
		}
	}
	if whole {
		return only
	}
	registry, o := h.discovery.announcements, h.discovery.options
	for name := range h.views {
		if topic := o.ServiceTopic(name); registry.Has(topic, "state") {
			only[name] = !registry.Has(topic, "switch")
		}
	}
	return only
}

type serviceShown struct {
	homeassistant.Program
	definition string // a device that was deleted comes back with another one
}

// show announces a thing that shows something else than before.
func (h *Hub) show(topic string, shown any, definition string, write func() homeassistant.Config, now time.Time) {
	if was, known := h.discovery.shown[topic]; known && was == shown {
		return
	}
	h.discovery.shown[topic] = shown
	delete(h.discovery.after, topic)
	h.discovery.announcements.Announce(topic, definition, write, now)
}

// hide takes a device out of Home Assistant, and after that what it showed out
// of the broker: its templates complain about a state that is empty.
func (h *Hub) hide(topic string, states []string, now time.Time) {
	s := &h.discovery
	delete(s.shown, topic)
	s.announcements.Remove(topic, now)
	h.discover(now)
	if s.announcements.Removing(topic) {
		s.after[topic] = states
		return
	}
	for _, state := range states {
		h.pub.Clear(state)
	}
}

// maxReplicasShown is how many replicas a person may ask for in Home Assistant;
// 0 where the number is not for a person to choose.
func maxReplicasShown(d services.Definition) int {
	const many = 100
	switch {
	case d.Exclusive, d.Priority == services.Required && d.Replicas == 0 && d.Scale == nil:
		return 0
	case len(d.Domains) > 0:
		return len(d.Domains)
	}
	return many
}

// definitionOf reports whether two definitions are one, over restarts.
func definitionOf(d services.Definition) string {
	ranges := d.Version.String()
	for _, dep := range d.Dependencies {
		ranges += "\x00" + dep.Version.String() // it does not show itself as JSON
	}
	return digest(struct {
		services.Definition
		Ranges string
	}{d, ranges})
}

func digest(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		b = fmt.Appendf(nil, "%+v", v)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// discover says what is due to be said to Home Assistant.
func (h *Hub) discover(now time.Time) {
	s := &h.discovery
	if !h.connected {
		return
	}
	messages, states := s.announcements.Step(now)
	if unverified := s.announcements.Unverified(); len(unverified) > 0 {
		h.verify(append(unverified, h.tree.Hub(topics.HubDiscovery)))
	}
	if s.announcements.NoWildcardReplay() {
		h.log.Warn("this broker does not replay retained messages to wildcards: what else is in it of earlier runs is not noticed")
	}
	for _, topic := range s.announcements.DeletedAway() {
		h.log.Info("a device was deleted in Home Assistant while the hub was away: it stays away until its definition changes", "topic", topic)
	}
	for _, m := range messages {
		h.pub.Publish(m)
		if len(m.Payload) == 0 {
			for _, state := range s.after[m.Topic] {
				h.pub.Clear(state)
			}
			delete(s.after, m.Topic)
		}
	}
	if states && h.cfg.HomeAssistant.Enabled {
		s.again = h.republishers()
	}
	if n := min(len(s.again), homeassistant.Burst); n > 0 && !now.Before(s.againAt) {
		for _, say := range s.again[:n] {
			say()
		}
		s.again, s.againAt = s.again[n:], now.Add(homeassistant.Beat)
	}
	if len(s.again) > 0 {
		h.due(s.againAt)
	}
	if wake := s.announcements.Wake(); !wake.IsZero() {
		h.due(wake)
	}
	if s.unsaved = s.announcements.Changed() || s.unsaved; s.unsaved && !now.Before(s.saveAt) {
		h.saveDiscovery(now)
	}
	if s.unsaved {
		h.due(s.saveAt)
	}
}

// saveDiscovery writes what Home Assistant was told. A disk that does not take
// it is a warning: the broker keeps the configs, too.
func (h *Hub) saveDiscovery(now time.Time) {
	s := &h.discovery
	if !s.unsaved {
		return
	}
	if err := h.store.WriteNote(discoveryFile, s.announcements.Snapshot()); err != nil {
		h.log.Warn("what Home Assistant was told is not kept over a restart of the hub", "error", err)
		s.saveAt = now.Add(saveInterval)
		return
	}
	s.unsaved, s.saveAt = false, now.Add(time.Second)
	if next := h.store.NextNote(now); next.After(s.saveAt) { // devices that come and go
		s.saveAt = next
	}
}

// receiveDiscovery takes what comes at Home Assistant's topics. ours is false
// for others.
func (h *Hub) receiveDiscovery(m topics.Message, now time.Time) (ours bool) {
	registry := h.discovery.announcements
	switch _, own := h.discovery.options.Ours(m.Topic); {
	case own && m.Retain && len(m.Payload) > 0:
		registry.Retained(m.Topic, m.Payload, now)
	case own && len(m.Payload) == 0:
		if registry.Emptied(m.Topic) {
			h.log.Info("a device was deleted in Home Assistant: it stays away until its definition changes", "topic", m.Topic)
		}
	case own && !m.Retain:
		registry.Filled(m.Topic, now)
	case own:
	case !slices.Contains(h.discovery.options.BirthTopics(), m.Topic):
		return false
	case m.Retain: // it may be long ago
	case string(m.Payload) == topics.Online:
		// Not all that is in a home answers at the same moment.
		registry.Birth(now, time.Second+rand.N(2*time.Second))
		h.touchMicrodomains()
	case string(m.Payload) == topics.Offline:
		registry.Offline()
	}
	return true
}

// republishers returns functions that publish the states of Home Assistant's entities again,
// after its birth message: one function for each topic or domain.
func (h *Hub) republishers() []func() {
	again := func(topic string, payload func() []byte) func() {
		return func() {
			h.pub.Forget(topic)
			h.pub.Retain(topic, payload())
		}
	}
	all := []func(){
		again(h.tree.Hub(topics.HubStatus), func() []byte { return topics.Encode(h.hubStatus()) }),
		again(h.tree.Hub(topics.HubAvailability), func() []byte { return []byte(topics.Online) }),
	}
	for _, d := range h.sortedDomains() {
		all = append(all, func() {
			if h.domains[d.Name] != d {
				return // forgotten meanwhile
			}
			h.pub.Forget(h.tree.Domain(topics.DomainCondition, d.Name))
			h.publishCondition(d)
			if d.State == topics.DomainIsOnline && !d.Micro {
				h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainCommand, Domain: d.Name}, topics.Encode(topics.Command{Action: topics.ActionReport})))
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(h.views)) {
		all = append(all, func() {
			if v, known := h.views[name]; known {
				again(h.tree.Service(topics.ServiceStatus, name), func() []byte { return topics.Encode(v) })()
			}
		})
	}
	return all
}
