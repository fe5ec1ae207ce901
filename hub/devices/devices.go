// Package devices lists the other devices on the broker: it reads what devices
// announce by the conventions of Home Assistant's discovery, of
// ESPHome, Tasmota, Zigbee2MQTT, Homie and Shelly, and makes one entry of each
// device, however many announce it.
//
// It is pure state: messages in, entries and problems out; no clock, no I/O,
// no log. Its result is a function of the last message of each topic, so it
// does not depend on the order in which a broker replays them, and nothing of
// it need be stored. It trusts no announcement: what it stores is bounded (Limits),
// and what it cannot read it lists (Problems). Only hub imports it.
//
// # Files
//
//	announcement.go     what one message announces, and its bounds
//	availability.go     when a device is available; bounds of what is remembered
//	conflicts.go        announcements that contradict each other
//	device_entry.go     one entry of all announcements of a device
//	devices.go          which topics are read by whom; forming devices
//	domains.go          devices that are domains; their availability
//	entity.go           an entity of discovery
//	esphome_tasmota.go  ESPHome and Tasmota
//	homeassistant.go    discovery of Home Assistant: devices, children, components
//	homie.go            Homie
//	identity.go         which identifiers are the same device
//	json_reader.go      JSON of strangers: depth, lengths
//	lint.go             checks of an announcement
//	lint_children.go    checks of child devices
//	lint_json.go        what the checks read of JSON
//	lint_platforms.go   topics that platforms need
//	lint_values.go      checks of single values: texts, topics, URLs
//	partial_devices.go  devices that are announced by several topics
//	partial_error.go    faults of parts of an announcement
//	priority.go         which announcement counts
//	problems.go         problems: confirming, how long they are listed
//	shelly.go           Shelly
//	zigbee2mqtt.go      Zigbee2MQTT: its list and its coordinator
package devices

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Limits bound what a State stores and reads.
type Limits struct {
	// Announcements is how many are stored.
	Announcements int
	// Devices is how many entries there are.
	Devices int
	// PerDevice is how many announcements one device has.
	PerDevice int
	// Watched is how many topics of availability are subscribed to.
	Watched int
	// Bytes is about how much memory texts and what holds them use.
	Bytes int
	// Payload is the size of a message of one device, in bytes.
	Payload int
	// List is the size of a message of many devices, in bytes.
	List int
	// Problems is how many problems are listed.
	Problems int
}

// DefaultLimits are far beyond a home, and less than what a small machine has.
func DefaultLimits() Limits {
	return Limits{
		Announcements: 20_000, Devices: 4000, PerDevice: 500, Watched: 4000,
		Bytes: 16 << 20, Payload: topics.MaxPayload, List: 8 << 20, Problems: 100,
	}
}

// Options are what a State has to know of the home.
type Options struct {
	// Prefix is that of the dominion's own topics.
	Prefix string
	// DiscoveryPrefix is that of Home Assistant's discovery.
	DiscoveryPrefix string
	Limits          Limits
}

// State holds what devices have announced. It is not for several goroutines.
type State struct {
	prefix string
	// discovery is the discovery prefix, with a slash.
	discovery string
	limits    Limits

	// sources are what topics announce, by topic.
	sources map[string]*source
	// keys are the announcements by their keys; vias those that name a key as the
	// device through which they are reached.
	keys, vias map[key]map[*announcement]bool
	// devices are the announcements of each device, by its id.
	devices map[string][]*announcement
	// count and cost are those of all announcements.
	count, cost int

	availabilityTopics map[string]*availabilityTopic
	// domainPayloads are the payloads at the availability topics of our domains,
	// whether a device names them or not.
	domainPayloads map[string]domainPayload
	// payloads counts those of availability that were received.
	payloads uint64
	// storedBytes are those of stored payloads of availability.
	storedBytes int

	// parts are the devices that announce themselves in several topics, by their base.
	parts               map[string]*partialDevice
	partCount, partCost int

	templates templates

	// changed are the ids of devices that changed since the last call of Changed.
	changed  map[string]bool
	problems problems
	seed     maphash.Seed
}

// source is one topic and what it announces.
type source struct {
	// sum is that of the payload.
	sum uint64
	all []*announcement
}

// New returns a state without devices.
func New(o Options) *State {
	return &State{
		prefix: o.Prefix, discovery: o.DiscoveryPrefix + "/", limits: o.Limits,
		sources:            make(map[string]*source),
		keys:               make(map[key]map[*announcement]bool),
		vias:               make(map[key]map[*announcement]bool),
		devices:            make(map[string][]*announcement),
		availabilityTopics: make(map[string]*availabilityTopic),
		parts:              make(map[string]*partialDevice),
		domainPayloads:     make(map[string]domainPayload),
		changed:            make(map[string]bool), templates: make(templates),
		problems: newProblems(o.Limits.Problems),
		seed:     maphash.MakeSeed(),
	}
}

// Filters are the topics at which devices announce themselves.
func (s *State) Filters() []string {
	return slices.Concat([]string{
		s.discovery + "+/+/config",
		s.discovery + "+/+/+/config",
		"esphome/discover/+",
		"tasmota/discovery/+/+",
		"+/bridge/devices",
		"+/bridge/info",
		"+/+/bridge/devices",
		"+/+/bridge/info",
	}, homieFilters, shellyFilters)
}

// Watched are the topics of availability of the devices, and those
// at which a message has an unconfirmed problem, sorted.
func (s *State) Watched() []string {
	all := s.problems.unconfirmedTopics()
	for topic, at := range s.availabilityTopics {
		if len(at.users) > 0 {
			all = append(all, topic)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Take takes a message of any topic that the broker had retained, among which the
// order means nothing; an empty payload takes back what a topic announced. now is
// when, for the problems.
func (s *State) Take(topic string, payload []byte, now time.Time) { s.take(topic, payload, false, now) }

// TakeLive takes a message that came as it was published. It does not show whether the
// broker retains it: where something is wrong with it the topic is one of Watched, and
// what does not come again by Take has passed.
func (s *State) TakeLive(topic string, payload []byte, now time.Time) {
	s.take(topic, payload, true, now)
}

// take takes a message; live: it came as it was published.
func (s *State) take(topic string, payload []byte, live bool, now time.Time) {
	s.recordDomainPayload(topic, payload, live)
	if at := s.availabilityTopics[topic]; at != nil {
		s.receive(at, topic, string(payload), live, now)
	}
	if c, base, name := partOf(topic, payload); c != nil {
		s.takePart(c, base, name, topic, payload, live, now)
		return
	}
	read, limit := s.reader(topic)
	if read == nil {
		return
	}
	if len(payload) == 0 {
		s.problems.remove(s.seed, topic)
		s.replace(topic, nil)
		return
	}
	sum := maphash.Bytes(s.seed, payload)
	if had := s.sources[topic]; had != nil && had.sum == sum {
		if !live {
			s.problems.confirm(topic)
		}
		return
	}
	var all []*announcement
	err := error(nil)
	if len(payload) > limit {
		err = fmt.Errorf("%d bytes are more than the %d that are read", len(payload), limit)
	} else if all, err = read(payload); err != nil {
		if _, part := err.(*partialError); !part { //nolint:errorlint // it is never wrapped
			all = nil
		}
	}
	refused := s.replace(topic, all)
	if had := s.sources[topic]; had != nil {
		had.sum = sum
	}
	if err = errors.Join(err, refused); err != nil {
		s.problems.record(s.seed, topic, err.Error(), live, now)
	} else {
		s.problems.remove(s.seed, topic)
	}
}

// reader returns the function that reads the announcements of a topic, and its limit
// in bytes; nil where there are none.
func (s *State) reader(topic string) (func([]byte) ([]*announcement, error), int) {
	one := func(a *announcement, err error) ([]*announcement, error) {
		if a == nil {
			return nil, err
		}
		return []*announcement{a}, err
	}
	if len(topic) > 4*maxTopic {
		return nil, 0
	}
	if below, ok := strings.CutPrefix(topic, s.discovery); ok {
		if device, ok := hassTopic(below); ok {
			return func(p []byte) ([]*announcement, error) { return s.checked(topic, p, device) }, s.limits.Payload
		}
		if err := illegalTopic(below); err != nil {
			return func([]byte) ([]*announcement, error) { return nil, err }, s.limits.Payload
		}
		return nil, 0
	}
	if node, ok := strings.CutPrefix(topic, "esphome/discover/"); ok && !strings.Contains(node, "/") {
		return func(p []byte) ([]*announcement, error) { return one(s.esphome(topic, node, p)) }, s.limits.Payload
	}
	if below, ok := strings.CutPrefix(topic, "tasmota/discovery/"); ok {
		if id, kind, _ := strings.Cut(below, "/"); kind == "config" || kind == "sensors" {
			return func(p []byte) ([]*announcement, error) { return one(s.tasmota(topic, id, kind, p)) }, s.limits.Payload
		}
		return nil, 0
	}
	base, below, ok := strings.Cut(topic, "/bridge/")
	if !ok || strings.Count(base, "/") > 1 {
		return nil, 0
	}
	switch below {
	case "devices":
		return func(p []byte) (all []*announcement, err error) {
			err = s.zigbeeList(topic, base, p, func(a *announcement) { all = append(all, a) })
			return all, err
		}, s.limits.List
	case "info":
		return func(p []byte) ([]*announcement, error) { return one(s.zigbeeInfo(topic, base, p)) }, s.limits.List
	}
	return nil, 0
}

// replace replaces the announcements of a topic.
func (s *State) replace(topic string, all []*announcement) (refused error) {
	if had := s.sources[topic]; had != nil {
		for _, a := range had.all {
			s.remove(a)
		}
		delete(s.sources, topic)
		defer func() {
			for _, a := range had.all {
				for i := range a.watched() {
					s.pruneStates(i.topic)
				}
			}
		}()
	}
	var added []*announcement
	for _, a := range all {
		if err := s.add(a); err != nil {
			refused = cmp.Or(refused, err)             // the first of many that are alike
			if _, part := err.(*partialError); !part { //nolint:errorlint // it is never wrapped
				continue
			}
		}
		added = append(added, a)
	}
	if len(added) > 0 {
		s.sources[topic] = &source{all: added}
	}
	return refused
}

// add adds an announcement, and makes one device of all whose keys it shares. A
// partialError is about a part of what was added.
func (s *State) add(a *announcement) error {
	a.finish()
	joined := make(map[string]bool) // devices
	with := 0
	for _, k := range a.keys {
		for other := range s.keys[k] {
			if !joined[other.id] {
				joined[other.id] = true
				with += len(s.devices[other.id])
			}
			break // all of a key are of one device
		}
	}
	fresh := make(map[string]bool) // topics
	for i := range a.watched() {
		if s.availabilityTopics[i.topic] == nil {
			fresh[i.topic] = true
		}
	}
	switch {
	case with >= s.limits.PerDevice:
		return fmt.Errorf("the limit of %d announcements of one device is reached", s.limits.PerDevice)
	case len(joined) == 0 && len(s.devices) >= s.limits.Devices:
		return fmt.Errorf("the limit of %d devices is reached: it is not listed", s.limits.Devices)
	case s.count >= s.limits.Announcements || s.cost+s.partCost+a.cost > s.limits.Bytes || len(s.availabilityTopics)+len(fresh) > s.limits.Watched:
		return errors.New("the limit of all announcements is reached")
	}
	s.count++
	s.cost += a.cost
	for _, k := range a.keys {
		addTo(s.keys, k, a)
	}
	if a.viaKey != "" {
		addTo(s.vias, a.viaKey, a)
	}
	part := s.follow(a)
	device := []*announcement{a}
	for id := range joined {
		for _, other := range s.devices[id] {
			if other.facts != a.facts && other.equal(a.facts) {
				a.facts = other.facts // equal facts are stored once
			}
			device = append(device, other)
		}
	}
	s.formDevice(joined, device)
	return part
}

// remove removes an announcement. A device that it joined may become several.
func (s *State) remove(a *announcement) {
	s.count--
	s.cost -= a.cost
	for _, k := range a.keys {
		removeFrom(s.keys, k, a)
	}
	if a.viaKey != "" {
		removeFrom(s.vias, a.viaKey, a)
	}
	s.unfollow(a)
	rest := slices.DeleteFunc(slices.Clone(s.devices[a.id]), func(other *announcement) bool { return other == a })
	old := map[string]bool{a.id: true}
	if len(rest) == 0 {
		s.formDevice(old, nil)
	}
	for seen := make(map[*announcement]bool); len(rest) > 0; old = nil {
		part := s.connected(rest[0])
		for _, other := range part {
			seen[other] = true
		}
		s.formDevice(old, part)
		rest = slices.DeleteFunc(rest, func(other *announcement) bool { return seen[other] })
	}
	s.viaChanged(a.keys)
}

// connected returns all announcements that share keys with a, directly or through
// others.
func (s *State) connected(a *announcement) []*announcement {
	all, seen := []*announcement{a}, map[*announcement]bool{a: true}
	walked := make(map[key]bool)
	for n := 0; n < len(all); n++ {
		for _, k := range all[n].keys {
			if walked[k] {
				continue
			}
			walked[k] = true
			for other := range s.keys[k] {
				if !seen[other] {
					seen[other] = true
					all = append(all, other)
				}
			}
		}
	}
	return all
}

// formDevice makes one device of announcements, in the place of those of the old
// ids.
func (s *State) formDevice(old map[string]bool, device []*announcement) {
	for id := range old {
		delete(s.devices, id)
		s.changed[id] = true
	}
	if len(device) == 0 {
		return
	}
	id := strongest(device).id()
	slices.SortFunc(device, func(x, y *announcement) int {
		return cmp.Or(cmp.Compare(rank(x.by), rank(y.by)), strings.Compare(x.source, y.source))
	})
	renamed := len(old) != 1 || !old[id]
	for _, a := range device {
		a.id = id
		if renamed {
			s.viaChanged(a.keys)
		}
	}
	s.devices[id] = device
	s.changed[id] = true
}

// viaChanged notes that the device with these keys has another id than before.
func (s *State) viaChanged(keys []key) {
	for _, k := range keys {
		for a := range s.vias[k] {
			s.changed[a.id] = true
		}
	}
}

func strongest(device []*announcement) key {
	best := device[0].keys[0] // they are sorted
	for _, a := range device[1:] {
		best = min(best, a.keys[0])
	}
	return best
}

func addTo[K comparable](m map[K]map[*announcement]bool, k K, a *announcement) {
	if m[k] == nil {
		m[k] = make(map[*announcement]bool)
	}
	m[k][a] = true
}

func removeFrom[K comparable](m map[K]map[*announcement]bool, k K, a *announcement) {
	if delete(m[k], a); len(m[k]) == 0 {
		delete(m, k)
	}
}

// Pending reports whether Changed has something to return, or Watched has a topic
// more because of a problem.
func (s *State) Pending() bool { return len(s.changed) > 0 || s.problems.recheck }

// Changed returns the ids of whose entry may be another one, or gone, since it
// was called last.
func (s *State) Changed() []string {
	all := slices.Sorted(maps.Keys(s.changed))
	clear(s.changed)
	s.problems.recheck = false
	return all
}

// Forget forgets all announcements, because they all come again: of another
// connection to the broker. The last payloads of availability stay until Prune,
// since they may be the first to come.
func (s *State) Forget() {
	for topic := range s.sources {
		s.replace(topic, nil)
	}
	clear(s.parts)
	s.partCount, s.partCost = 0, 0
	for topic, w := range s.domainPayloads {
		s.domainPayloads[topic] = domainPayload{payload: w.payload}
	}
	for _, at := range s.availabilityTopics {
		at.order = 0
	}
	s.problems.clear()
}

// Prune removes the topics of availability that no announcement names.
func (s *State) Prune() {
	for topic, at := range s.availabilityTopics {
		if len(at.users) == 0 {
			s.storedBytes -= len(at.payload)
			delete(s.availabilityTopics, topic)
		}
	}
}
