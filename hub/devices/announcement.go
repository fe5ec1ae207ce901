package devices

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// announcement is what one message announces of one device.
type announcement struct {
	// source is the topic, and which device, where it announces many.
	source string
	by     string
	*facts
	// rule is the availability of the device.
	rule rule
	// components are the availabilities of its components, each once.
	components     []rule
	state, command []string
	// omitted counts the topics that were omitted.
	omitted int

	// unique and places are the entities of a config of Home Assistant's discovery,
	// hashed: by platform and unique_id, and by their place in the device.
	unique, places []uint64
	// title is the hash of platform and name, for the config of one entity.
	title uint64

	// id is that of the device that it belongs to now.
	id string
	// cost is how many bytes it is accounted with.
	cost int
}

// facts are what announcements of one device repeat in each of them.
type facts struct {
	keys                                                           []key
	identifiers                                                    []string
	connections                                                    []topics.DeviceConnection
	name, manufacturer, model, modelID, version, area, via, domain string
	hardware, serial, url                                          string
	// page is set where the device serves one at its address and there is no url.
	page string
	// kind is read from its id, if there is no model.
	kind   string
	viaKey key
}

// What one announcement may have of each. What is more is counted and omitted.
const (
	maxKeys   = 16
	maxTopics = 64 // of states, and of commands
	maxItems  = 8  // topics of one availability
	maxRules  = 32 // different availabilities of components
)

// Fixed costs of an announcement and of its texts, about their memory.
const (
	costOfOne  = 500
	costOfText = 32
)

func newAnnouncement(source, by string) *announcement {
	return &announcement{source: source, by: by, facts: new(facts), rule: rule{mode: modeLatest}}
}

// identifier takes one identifier.
func (f *facts) identifier(s string) error {
	if s == "" {
		return nil
	}
	if len(f.identifiers)+len(f.connections) >= maxKeys {
		return fmt.Errorf("it has more than %d identifiers and connections", maxKeys)
	}
	f.key(keyOfIdentifier(s))
	f.identifiers = insert(f.identifiers, cut(s, maxIdent))
	if len(s) > maxIdent {
		return fmt.Errorf("an identifier is longer than %d bytes", maxIdent)
	}
	return nil
}

// connection takes one connection.
func (f *facts) connection(typ, address string) error {
	if typ == "" || address == "" {
		return nil
	}
	if len(f.identifiers)+len(f.connections) >= maxKeys {
		return fmt.Errorf("it has more than %d identifiers and connections", maxKeys)
	}
	c := topics.DeviceConnection{Type: cut(typ, maxIdent), Address: cut(address, maxIdent)}
	if k, ok := keyOfMAC(c.Address); ok && c.Type == "mac" {
		c.Address = colons(k) // each project writes it in a way of its own
	}
	if !slices.Contains(f.connections, c) {
		f.connections = append(f.connections, c)
	}
	f.key(keyOfConnection(typ, address))
	if len(typ) > maxIdent || len(address) > maxIdent {
		return fmt.Errorf("a connection is longer than %d bytes", maxIdent)
	}
	return nil
}

func (f *facts) key(k key) {
	if !slices.Contains(f.keys, k) {
		f.keys = append(f.keys, k)
	}
}

// link takes the page where the device is configured, of a scheme that Home
// Assistant takes too.
func (f *facts) link(s string) error {
	scheme, _, _ := strings.Cut(s, "://")
	if s == "" {
		return nil
	}
	if len(s) > maxTopic {
		return fmt.Errorf("its configuration_url is longer than %d bytes", maxTopic)
	}
	if scheme != "http" && scheme != "https" && scheme != "homeassistant" {
		return fmt.Errorf("its configuration_url is %q, which is not http, https or homeassistant", cut(s, maxText/2))
	}
	f.url = cut(s, maxTopic)
	return nil
}

// viaDevice takes the identifier of what the device is reached through.
func (f *facts) viaDevice(s string) {
	if s != "" {
		f.via, f.viaKey = cut(s, maxIdent), keyOfIdentifier(s)
	}
}

// insert adds s to a sorted list that has it once.
func insert(all []string, s string) []string {
	if i, there := slices.BinarySearch(all, s); !there {
		return slices.Insert(all, i, s)
	}
	return all
}

// topic adds a topic to a list of the announcement.
func (a *announcement) topic(all *[]string, topic string) {
	if topic == "" || slices.Contains(*all, topic) {
		return
	}
	if len(*all) >= maxTopics || len(topic) > maxTopic {
		a.omitted++
		return
	}
	*all = append(*all, cut(topic, maxTopic))
}

// watch adds a topic of availability to the rule of the device.
func (s *State) watch(a *announcement, i item) error { return s.watchFor(a, &a.rule, i) }

// watchFor adds a topic of availability to a rule. One that an announcement may not
// have the hub subscribe to is an error.
func (s *State) watchFor(a *announcement, r *rule, i item) error {
	switch {
	case i.topic == "":
		return nil
	case len(i.topic) > maxTopic:
		return fmt.Errorf("its topic of availability is longer than %d bytes", maxTopic)
	case strings.ContainsAny(i.topic, "+#\x00"), strings.HasPrefix(i.topic, "$"):
		return fmt.Errorf("its topic of availability is %q, which is not a topic of a device", cut(i.topic, maxText))
	}
	i.topic = cut(i.topic, maxTopic)
	if strings.HasPrefix(i.topic, s.prefix+"/") {
		domain, ok := s.domainOf(i.topic)
		if !ok {
			return fmt.Errorf("its topic of availability is %q, which is the dominion's own", i.topic)
		}
		a.domain = domain
	}
	if at := slices.IndexFunc(r.items, func(other item) bool { return other.topic == i.topic }); at >= 0 {
		r.items[at] = i // as in Home Assistant
		return nil
	}
	r.items = append(r.items, i)
	return nil
}

var errNobody = errors.New("it names a device without identifiers and connections: add one")

// finish sorts an announcement, and computes its cost.
func (a *announcement) finish() {
	slices.Sort(a.keys)
	slices.SortFunc(a.connections, func(x, y topics.DeviceConnection) int {
		return strings.Compare(x.Type+" "+x.Address, y.Type+" "+y.Address)
	})
	slices.Sort(a.state)
	slices.Sort(a.command)
	cost := costOfOne + len(a.source) + 8*(len(a.unique)+len(a.places))
	add := func(all ...string) {
		for _, s := range all {
			if s != "" {
				cost += len(s) + costOfText
			}
		}
	}
	for _, k := range a.keys {
		add(string(k))
	}
	for _, c := range a.connections {
		add(c.Type, c.Address)
	}
	for i := range a.watched() {
		add(i.topic, i.online, i.offline, i.field)
		cost += 4 * costOfText
	}
	add(a.identifiers...)
	add(a.state...)
	add(a.command...)
	add(a.name, a.manufacturer, a.model, a.modelID, a.version, a.area, a.via, a.domain, a.hardware, a.serial, a.url, a.page, a.kind)
	a.cost = cost
}
