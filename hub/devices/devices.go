// Package devices knows who else is on the broker: it reads what devices
// announce of themselves by the conventions of Home Assistant's discovery, of
// ESPHome, Tasmota, Zigbee2MQTT, Homie and Shelly, and makes one entry of each
// device, however many announce it.
//
// It is pure state: messages in, entries and problems out; no clock, no I/O,
// no log. What it says is a function of the last message of each topic, so it
// does not depend on the order in which a broker replays them, and nothing of
// it need be kept. It believes nobody: what it keeps is bounded (Limits), and
// what it cannot read it names (Problems). Only hub imports it.
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

// Limits bound what a State keeps and reads.
type Limits struct {
	Announcements int // kept
	Devices       int // entries
	PerDevice     int // announcements of one device
	Watched       int // topics of availability
	Bytes         int // of texts and what holds them, about
	Payload       int // bytes of a message of one device
	List          int // bytes of a message of many devices
	Problems      int // that are remembered
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
	Prefix          string // of the dominion's own topics
	DiscoveryPrefix string // of Home Assistant's discovery
	Limits          Limits
}

// State is all that is known of devices. It is not for several goroutines.
type State struct {
	prefix, discovery string // with a slash behind the second
	limits            Limits

	sources map[string]*source
	keys    map[key]map[*announcement]bool
	vias    map[key]map[*announcement]bool // who is reached through whom
	devices map[string][]*announcement     // by id
	said    map[string]*said               // by topic of availability
	own     map[string]ownWord             // at the availability topics of our domains, used or not
	words   uint64                         // payloads of availability that were heard
	count   int
	cost    int

	parts     map[string]*described // devices that describe themselves in several topics, by their base
	partCount int
	partCost  int

	remembered int // bytes of payloads of availability
	templates  templates

	changed map[string]bool
	trouble problems
	seed    maphash.Seed
}

// ownWord is what one of our domains said of its availability.
type ownWord struct {
	payload string
	order   uint64 // as that of a word
}

// source is one topic and what it announces.
type source struct {
	sum uint64 // of the payload
	all []*announcement
}

// New returns a state that knows nobody.
func New(o Options) *State {
	return &State{
		prefix: o.Prefix, discovery: o.DiscoveryPrefix + "/", limits: o.Limits,
		sources: make(map[string]*source),
		keys:    make(map[key]map[*announcement]bool),
		vias:    make(map[key]map[*announcement]bool),
		devices: make(map[string][]*announcement),
		said:    make(map[string]*said),
		parts:   make(map[string]*described),
		own:     make(map[string]ownWord),
		changed: make(map[string]bool), templates: make(templates),
		trouble: newProblems(o.Limits.Problems),
		seed:    maphash.MakeSeed(),
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

// Watched are the topics of availability of the devices that are known, and those
// at which the broker is asked whether it retains what is wrong, sorted.
func (s *State) Watched() []string {
	all := s.trouble.asked()
	for topic, heard := range s.said {
		if len(heard.users) > 0 {
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

// TakeLive takes a message that came as it was published. Whether the broker
// retains it nobody says: where something is wrong with it the topic is one of
// Watched, and what does not come again by Take has passed.
func (s *State) TakeLive(topic string, payload []byte, now time.Time) {
	s.take(topic, payload, true, now)
}

func (s *State) take(topic string, payload []byte, live bool, now time.Time) {
	s.keepOwn(topic, payload, live)
	if heard := s.said[topic]; heard != nil {
		s.hear(heard, topic, string(payload), live, now)
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
		s.trouble.forget(s.seed, topic)
		s.replace(topic, nil)
		return
	}
	sum := maphash.Bytes(s.seed, payload)
	if had := s.sources[topic]; had != nil && had.sum == sum {
		if !live {
			s.trouble.stands(topic)
		}
		return
	}
	var all []*announcement
	err := error(nil)
	if len(payload) > limit {
		err = fmt.Errorf("%d bytes are more than the %d that are read", len(payload), limit)
	} else if all, err = read(payload); err != nil {
		if _, part := err.(*details); !part { //nolint:errorlint // it is never wrapped
			all = nil
		}
	}
	refused := s.replace(topic, all)
	if had := s.sources[topic]; had != nil {
		had.sum = sum
	}
	if err = errors.Join(err, refused); err != nil {
		s.trouble.put(s.seed, topic, err.Error(), live, now)
	} else {
		s.trouble.forget(s.seed, topic)
	}
}

// reader returns who reads the announcements of a topic, and how many bytes at
// most; nil where nobody announces anything.
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

// replace puts what a topic announces in the place of what it did before.
func (s *State) replace(topic string, all []*announcement) (refused error) {
	if had := s.sources[topic]; had != nil {
		for _, a := range had.all {
			s.remove(a)
		}
		delete(s.sources, topic)
		defer func() {
			for _, a := range had.all {
				for i := range a.watched() {
					s.forgetWords(i.topic)
				}
			}
		}()
	}
	var kept []*announcement
	for _, a := range all {
		if err := s.add(a); err != nil {
			refused = cmp.Or(refused, err)        // the first of many that are alike
			if _, part := err.(*details); !part { //nolint:errorlint // it is never wrapped
				continue
			}
		}
		kept = append(kept, a)
	}
	if len(kept) > 0 {
		s.sources[topic] = &source{all: kept}
	}
	return refused
}

// add makes an announcement known, and one device of all whose keys it shares. An
// error that is details is of a part of what was added.
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
		if s.said[i.topic] == nil {
			fresh[i.topic] = true
		}
	}
	switch {
	case with >= s.limits.PerDevice:
		return fmt.Errorf("%d announcements of one device are enough", s.limits.PerDevice)
	case len(joined) == 0 && len(s.devices) >= s.limits.Devices:
		return fmt.Errorf("%d devices are enough, this one is left out", s.limits.Devices)
	case s.count >= s.limits.Announcements || s.cost+s.partCost+a.cost > s.limits.Bytes || len(s.said)+len(fresh) > s.limits.Watched:
		return errors.New("so much is announced that there is no room for it")
	}
	s.count++
	s.cost += a.cost
	for _, k := range a.keys {
		join(s.keys, k, a)
	}
	if a.viaKey != "" {
		join(s.vias, a.viaKey, a)
	}
	part := s.listen(a)
	device := []*announcement{a}
	for id := range joined {
		for _, other := range s.devices[id] {
			if other.facts != a.facts && other.same(a.facts) {
				a.facts = other.facts // the same words are kept once
			}
			device = append(device, other)
		}
	}
	s.settle(joined, device)
	return part
}

// remove takes an announcement back. What it held together may fall apart.
func (s *State) remove(a *announcement) {
	s.count--
	s.cost -= a.cost
	for _, k := range a.keys {
		leave(s.keys, k, a)
	}
	if a.viaKey != "" {
		leave(s.vias, a.viaKey, a)
	}
	s.silence(a)
	rest := slices.DeleteFunc(slices.Clone(s.devices[a.id]), func(other *announcement) bool { return other == a })
	old := map[string]bool{a.id: true}
	if len(rest) == 0 {
		s.settle(old, nil)
	}
	for seen := make(map[*announcement]bool); len(rest) > 0; old = nil {
		part := s.together(rest[0])
		for _, other := range part {
			seen[other] = true
		}
		s.settle(old, part)
		rest = slices.DeleteFunc(rest, func(other *announcement) bool { return seen[other] })
	}
	s.viaChanged(a.keys)
}

// together are all announcements that share keys with a, directly or through
// others.
func (s *State) together(a *announcement) []*announcement {
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

// settle makes one device of announcements, in the place of those of the old
// ids.
func (s *State) settle(old map[string]bool, device []*announcement) {
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

// viaChanged notes that who has these keys has another id than before.
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

func join[K comparable](m map[K]map[*announcement]bool, k K, a *announcement) {
	if m[k] == nil {
		m[k] = make(map[*announcement]bool)
	}
	m[k][a] = true
}

func leave[K comparable](m map[K]map[*announcement]bool, k K, a *announcement) {
	if delete(m[k], a); len(m[k]) == 0 {
		delete(m, k)
	}
}

// keepOwn keeps the word at the availability topic of a domain of ours. The hub
// subscribes to these topics for itself, so the broker does not send a retained
// word again when an announcement that comes later names one of them.
func (s *State) keepOwn(topic string, payload []byte, live bool) {
	if _, ours := s.domainOf(topic); !ours {
		return
	}
	w := ownWord{payload: string(payload)}
	if s.words++; live {
		w.order = s.words
	}
	_, had := s.own[topic]
	switch {
	case len(payload) == 0 || len(payload) > maxOwn:
		delete(s.own, topic)
	case had || len(s.own) < s.limits.Watched:
		s.own[strings.Clone(topic)] = w
	}
}

// maxOwn is the longest word of a domain of ours, in bytes.
const maxOwn = 128

// domainOf returns the domain whose availability a topic tells.
func (s *State) domainOf(topic string) (domain string, ok bool) {
	below, ok := strings.CutPrefix(topic, s.prefix+"/domain/")
	if !ok {
		return "", false
	}
	domain, ok = strings.CutSuffix(below, "/availability")
	return domain, ok && topics.ValidName(domain)
}

// Pending reports whether Changed has something to return, or Watched has a topic
// more because of a problem.
func (s *State) Pending() bool { return len(s.changed) > 0 || s.trouble.asks }

// Changed returns the ids of whose entry may be another one, or gone, since it
// was called last.
func (s *State) Changed() []string {
	all := slices.Sorted(maps.Keys(s.changed))
	clear(s.changed)
	s.trouble.asks = false
	return all
}

// Forget forgets all announcements, because they all come again: of another
// connection to the broker. The last words of availability stay until Prune,
// since they may be the first to come.
func (s *State) Forget() {
	for topic := range s.sources {
		s.replace(topic, nil)
	}
	clear(s.parts)
	s.partCount, s.partCost = 0, 0
	for topic, w := range s.own {
		s.own[topic] = ownWord{payload: w.payload}
	}
	for _, heard := range s.said {
		heard.order = 0
	}
	s.trouble.clear()
}

// Prune forgets the words of whom nobody has announced.
func (s *State) Prune() {
	for topic, heard := range s.said {
		if len(heard.users) == 0 {
			s.remembered -= len(heard.payload)
			delete(s.said, topic)
		}
	}
}
