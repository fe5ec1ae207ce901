// Package announcer announces the hub, its domains and its services to Home Assistant.
// It owns what their devices show there, the states that are published after Home
// Assistant's birth, and the file with what must survive a restart. What is announced
// and when is decided in hub/homeassistant.
//
// It publishes and stores by what it is given, and knows no other part of the hub.
// Package hub alone imports it, and calls it from its loop.
package announcer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/homeassistant"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// File holds what was announced, apart from the hub's state: it changes at another rate.
const File = "homeassistant.json"

const (
	// saveInterval is the least time between two writes of the file, and retryInterval
	// that after a write that failed.
	saveInterval  = time.Second
	retryInterval = time.Minute
)

// Publisher publishes to the broker.
type Publisher interface {
	// Publish publishes a message as it is.
	Publish(topics.Message)
	// Clear removes a retained topic from the broker.
	Clear(topic string)
}

// Store writes small files.
type Store interface {
	WriteNote(name string, v any) error
	// NextNote returns when the disk takes the next file without harm.
	NextNote(now time.Time) time.Time
}

// Options are what an Announcer is made of.
type Options struct {
	HomeAssistant homeassistant.Options
	// Enabled is false where nothing is announced: then only what an earlier run
	// announced is removed.
	Enabled   bool
	Publisher Publisher
	Store     Store
	// Snapshot is what an earlier run wrote into File.
	Snapshot homeassistant.Snapshot
	// Persists reports whether the broker has what is retained at a topic after its end;
	// nil: it does.
	Persists func(topic string) bool
	// Verify asks the broker for topics as if for the first time, so that what is
	// retained there comes. Nil: the broker replays retained messages to wildcards.
	Verify func(topics []string)
	// States returns the addresses of the states that entities show.
	States func() []topics.Address
	// Firmware returns how the firmware of a microdomain announces itself; ok is false
	// where it does not. Nil: nobody listens for that.
	Firmware func(domain string) (f *homeassistant.Firmware, ok bool)
	Log      *slog.Logger
}

// Announcer announces. Make it with New.
type Announcer struct {
	options   homeassistant.Options
	enabled   bool
	connected bool
	registry  *homeassistant.Registry
	pub       Publisher
	store     Store
	verify    func(topics []string)
	states    func() []topics.Address
	firmware  func(domain string) (*homeassistant.Firmware, bool)
	log       *slog.Logger

	// shown is what each device shows, by the topic of its config.
	shown map[string]any
	// clearAfter are the topics that are cleared once a device is removed, by the topic
	// of its config.
	clearAfter map[string][]string
	// again are the states that are still to be published again, and againAt is when the
	// next of them are.
	again   []topics.Address
	againAt time.Time
	// awaited are the microdomains that were not announced at once: until when their
	// firmware is waited for; zero: no longer.
	awaited map[string]time.Time
	// unsaved is set where the file is to be written, and saveAt is when at the earliest.
	unsaved bool
	saveAt  time.Time
}

// New returns an announcer that continues from a snapshot.
func New(o Options) *Announcer {
	o.HomeAssistant.FormerPrefixes = o.HomeAssistant.Former(o.Snapshot)
	a := &Announcer{
		options: o.HomeAssistant, enabled: o.Enabled,
		registry: homeassistant.NewRegistry(o.HomeAssistant, o.Persists, o.Snapshot),
		pub:      o.Publisher, store: o.Store, verify: o.Verify, states: o.States, firmware: o.Firmware, log: o.Log,
		shown: make(map[string]any), clearAfter: make(map[string][]string), awaited: make(map[string]time.Time),
	}
	if a.verify != nil {
		a.registry.Verify()
	}
	return a
}

// ConfigFilters match the configs of devices. They are subscribed to also where nothing
// is announced: an earlier run may have.
func (a *Announcer) ConfigFilters() []string { return a.options.Filters() }

// BirthTopics are where Home Assistant publishes that it is ready.
func (a *Announcer) BirthTopics() []string { return a.options.BirthTopics() }

// Connected notes that the broker is connected, and replays what it retains.
func (a *Announcer) Connected(now time.Time) {
	a.connected = true
	a.registry.Connected(now)
}

// Disconnected forgets what the broker retains: the next one may be another.
func (a *Announcer) Disconnected() {
	a.connected, a.again = false, nil
	a.registry.Disconnected()
}

// Receive takes a message at Home Assistant's topics; ours is false for other ones. birth
// reports that Home Assistant is ready now.
func (a *Announcer) Receive(m topics.Message, now time.Time) (ours, birth bool) {
	if _, own := a.options.Ours(m.Topic); own {
		a.receiveConfig(m, now)
		return true, false
	}
	if !a.options.IsBirthTopic(m.Topic) {
		return false, false
	}
	if m.Retain {
		return true, false // it may be long ago
	}
	switch string(m.Payload) {
	case topics.Online:
		// Not everything in a home answers at the same moment.
		a.registry.Birth(now, time.Second+rand.N(2*time.Second))
		return true, true
	case topics.Offline:
		a.registry.Offline()
	}
	return true, false
}

// receiveConfig takes a config of ours, published or retained by us or by others.
func (a *Announcer) receiveConfig(m topics.Message, now time.Time) {
	if len(m.Payload) == 0 {
		if a.registry.Emptied(m.Topic) {
			a.log.Info("a device was deleted in Home Assistant: it stays away until its definition changes", "topic", m.Topic)
		}
		return
	}
	if m.Retain {
		a.registry.Retained(m.Topic, m.Payload, now)
	} else {
		a.registry.Filled(m.Topic, now)
	}
}

// ReceiveCount takes the count of changes that the broker retained.
func (a *Announcer) ReceiveCount(changes uint64, now time.Time) {
	a.registry.RetainedCount(changes, now)
}

// AnnounceHub announces the hub. It does not change while it runs.
func (a *Announcer) AnnounceHub(now time.Time) {
	o := a.options
	a.announce(o.HubTopic(), o.HubName, o.HubName, func() homeassistant.Config { return homeassistant.Hub(o) }, now)
}

// AnnounceDomain announces a domain, unless it was announced like this. A microdomain
// may wait for its firmware.
func (a *Announcer) AnnounceDomain(m homeassistant.Machine, now time.Time) {
	if m.Micro && a.awaitsFirmware(m.Name, now) {
		return
	}
	o := a.options
	defined := m
	defined.Version, defined.Hot = "", false
	shown := any(m)
	if m.Micro {
		m.Firmware = a.mergedFirmware(m.Name, now)
		shown = digest(m)
	}
	a.announce(o.DomainTopic(m.Name), shown, digest(defined), func() homeassistant.Config { return homeassistant.Domain(o, m) }, now)
}

// shownService is what the device of a service shows.
type shownService struct {
	homeassistant.Program
	// definition is a part of it because a device that a person deleted is announced
	// again with another one.
	definition string
}

// AnnounceService announces a service, unless it was announced like this. How many
// replicas a person may choose follows from its definition.
func (a *Announcer) AnnounceService(p homeassistant.Program, d services.Definition, now time.Time) {
	o := a.options
	topic, definition := o.ServiceTopic(p.Name), definitionOf(d)
	p.MaxReplicas = maxReplicas(d)
	p.Versioned = p.Versioned || a.registry.Has(topic, "version")
	a.announce(topic, shownService{p, definition}, definition, func() homeassistant.Config { return homeassistant.Service(o, p) }, now)
}

// announce announces a device that shows something else than before.
func (a *Announcer) announce(topic string, shown any, definition string, write func() homeassistant.Config, now time.Time) {
	if was, is := a.shown[topic]; is && was == shown {
		return
	}
	a.shown[topic] = shown
	delete(a.clearAfter, topic)
	a.registry.Announce(topic, definition, write, now)
}

// MicroService reports whether a service was announced, now or in an earlier run, and
// whether as one that microcontrollers alone have.
func (a *Announcer) MicroService(name string) (micro, announced bool) {
	topic := a.options.ServiceTopic(name)
	return !a.registry.Has(topic, "switch"), a.registry.Has(topic, "state")
}

// Complete notes that all devices were announced that are to exist: the others are
// removed, except those of the domains that did not report yet.
func (a *Announcer) Complete(unreported []string, now time.Time) {
	spared := make(map[string]bool, len(unreported))
	for _, domain := range unreported {
		spared[a.options.DomainTopic(domain)] = true
	}
	a.registry.Complete(spared, now)
}

// RemoveDomain removes the device of a domain, and then the domain's topics.
func (a *Announcer) RemoveDomain(name string, now time.Time) {
	delete(a.awaited, name)
	a.remove(a.options.DomainTopic(name), a.options.Tree.DomainTopics(name), now)
}

// RemoveService removes the device of a service, and then the service's topics.
func (a *Announcer) RemoveService(name string, now time.Time) {
	a.remove(a.options.ServiceTopic(name), a.options.Tree.ServiceTopics(name), now)
}

// remove removes a device from Home Assistant, and after that what it showed from the
// broker: its templates complain about an empty state.
func (a *Announcer) remove(topic string, states []string, now time.Time) {
	delete(a.shown, topic)
	a.registry.Remove(topic, now)
	a.publish(now)
	if a.registry.Removing(topic) {
		a.clearAfter[topic] = states
		return
	}
	for _, state := range states {
		a.pub.Clear(state)
	}
}

// Idle reports whether nothing is still to be published to Home Assistant.
func (a *Announcer) Idle() bool { return a.registry.Wake().IsZero() }

// Expire publishes what is due, and returns the states that are to be published again
// now: Home Assistant was started, and has none of them.
func (a *Announcer) Expire(now time.Time) (again []topics.Address) {
	if !a.connected {
		return nil
	}
	a.publish(now)
	if n := min(len(a.again), homeassistant.Burst); n > 0 && !now.Before(a.againAt) {
		again, a.again, a.againAt = a.again[:n], a.again[n:], now.Add(homeassistant.Beat)
	}
	if a.unsaved = a.registry.Changed() || a.unsaved; a.unsaved && !now.Before(a.saveAt) {
		a.Save(now)
	}
	return again
}

// publish publishes the configs that are due.
func (a *Announcer) publish(now time.Time) {
	if !a.connected {
		return
	}
	messages, states := a.registry.Step(now)
	if unverified := a.registry.Unverified(); len(unverified) > 0 {
		a.verify(append(unverified, a.options.Tree.Hub(topics.HubDiscovery)))
	}
	if a.registry.NoWildcardReplay() {
		a.log.Warn("this broker does not replay retained messages to wildcards: what else is in it of earlier runs is not noticed")
	}
	for _, topic := range a.registry.DeletedAway() {
		a.log.Info("a device was deleted in Home Assistant while the hub was away: it stays away until its definition changes", "topic", topic)
	}
	for _, m := range messages {
		a.pub.Publish(m)
	}
	for _, topic := range slices.Sorted(maps.Keys(a.clearAfter)) {
		if a.registry.Removing(topic) {
			continue
		}
		for _, state := range a.clearAfter[topic] {
			a.pub.Clear(state)
		}
		delete(a.clearAfter, topic)
	}
	if states && a.enabled {
		a.again = a.states()
	}
}

// Next returns when Expire or FirmwareDue has something to do; zero: not by itself.
func (a *Announcer) Next() (next time.Time) {
	if !a.connected {
		return time.Time{}
	}
	due := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	due(a.registry.Wake())
	if len(a.again) > 0 {
		due(a.againAt)
	}
	if a.unsaved {
		due(a.saveAt)
	}
	for _, until := range a.awaited {
		due(until)
	}
	return next
}

// Save writes what was announced, if that changed. A disk that does not take it is a
// warning: the broker retains the configs, too.
func (a *Announcer) Save(now time.Time) {
	if !a.unsaved {
		return
	}
	if err := a.store.WriteNote(File, a.registry.Snapshot()); err != nil {
		a.log.Warn("what was announced to Home Assistant is not kept over a restart of the hub", "error", err)
		a.saveAt = now.Add(retryInterval)
		return
	}
	a.unsaved, a.saveAt = false, now.Add(saveInterval)
	if next := a.store.NextNote(now); next.After(a.saveAt) { // devices that come and go
		a.saveAt = next
	}
}

// maxReplicas returns how many replicas a person may ask for in Home Assistant; 0 where
// the number is not for a person to choose.
func maxReplicas(d services.Definition) int {
	const many = 100
	if d.Exclusive || d.Priority == services.Required && d.Replicas == 0 && d.Scale == nil {
		return 0
	}
	if len(d.Domains) > 0 {
		return len(d.Domains)
	}
	return many
}

// definitionOf returns a text that is the same for equal definitions, over restarts.
func definitionOf(d services.Definition) string {
	ranges := d.Version.String()
	for _, dep := range d.Dependencies {
		ranges += "\x00" + dep.Version.String() // it is not a part of the JSON
	}
	return digest(struct {
		services.Definition
		Ranges string
	}{d, ranges})
}

// digest returns a short text that is the same for equal values.
func digest(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		b = fmt.Appendf(nil, "%+v", v)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
