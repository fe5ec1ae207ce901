package devices

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Homie is the convention of https://homieiot.github.io: until version 4 each
// attribute of a device has a topic of its own below homie/<device>/, from version
// 5 a device has a state and a description in JSON below <domain>/5/<device>/.

var homieFilters = []string{
	"homie/+/$homie", "homie/+/$name", "homie/+/$state", "homie/+/$implementation", "homie/+/$localip", "homie/+/$mac",
	"homie/+/$fw/+", "homie/+/+/$properties", "homie/+/+/+/$settable",
	"+/5/+/$state", "+/5/+/$description",
}

// homiePart returns the device and the attribute that a topic is of.
func homiePart(levels []string) (c convention, base, name string) {
	n := len(levels)
	if n < 3 || n > 5 || levels[1] == "" {
		return nil, "", ""
	}
	if last := levels[3:]; n == 4 && levels[1] == "5" && levels[2] != "" && (last[0] == "$state" || last[0] == "$description") {
		return homie5{}, strings.Join(levels[:3], "/"), last[0]
	}
	if levels[0] != "homie" {
		return nil, "", ""
	}
	base, name = "homie/"+levels[1], strings.Join(levels[2:], "/")
	if n == 3 && slices.Contains([]string{"$homie", "$name", "$state", "$implementation", "$localip", "$mac"}, name) ||
		n == 4 && (name == "$fw/name" || name == "$fw/version") ||
		n == 4 && levels[3] == "$properties" && levels[2] != "" && levels[2][0] != '$' ||
		n == 5 && levels[4] == "$settable" {
		return homie4{}, base, name
	}
	return nil, "", ""
}

// homieStates are the values of $state, and what they mean.
var homieStates = map[string]string{
	"init": topics.Online, "ready": topics.Online, "sleeping": topics.Online, "alert": topics.Online, // it is connected, or will be by itself
	"disconnected": topics.Offline, "lost": topics.Offline,
}

func homieState(payload []byte) (part, bool, error) {
	p := part{text: cut(string(payload), maxText)}
	if homieStates[p.text] == "" {
		return p, true, fmt.Errorf("its $state is %q: it can be init, ready, disconnected, sleeping, lost or alert", p.text)
	}
	return p, true, nil
}

// homie is what both forms of the convention have in common.
type homie struct{}

func (homie) availability() string              { return "$state" }
func (homie) repeats(part, string, []byte) bool { return false }

type homie4 struct{ homie }

// read reads one attribute of a device.
func (homie4) read(name string, payload []byte) (part, bool, error) {
	text := cut(string(payload), maxText)
	switch {
	case name == "$state":
		return homieState(payload)
	case name == "$mac":
		if _, ok := keyOfMAC(text); !ok {
			return part{}, true, fmt.Errorf("its $mac is %q, which is not a MAC address", text)
		}
	case strings.HasSuffix(name, "/$properties"):
		node := strings.TrimSuffix(name, "/$properties")
		var p part
		for property := range strings.SplitSeq(string(payload), ",") {
			if property = strings.TrimSpace(property); property != "" && len(p.state) < maxTopics {
				p.state = append(p.state, cut(node+"/"+property, maxText))
			}
		}
		return p, true, nil
	}
	return part{text: text}, true, nil
}

// announce makes a device of one that has $homie. When it clears that topic it is
// removed.
func (homie4) announce(s *State, base string, parts map[string]part) (*announcement, error) {
	if _, there := parts["$homie"]; !there {
		return nil, nil
	}
	a := newAnnouncement(base, topics.ByHomie)
	id := strings.TrimPrefix(base, "homie/")
	if err := a.identifier(id); err != nil {
		return nil, err
	}
	if k, ok := keyOfMAC(parts["$mac"].text); ok {
		a.key(k)
		a.connections = []topics.DeviceConnection{{Type: "mac", Address: colons(k)}}
	}
	a.name = parts["$name"].text
	a.version = parts["$fw/version"].text
	a.model = firstOf(parts["$fw/name"].text, parts["$implementation"].text)
	a.page = pageAt(parts["$localip"].text)
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		p := parts[name]
		for _, property := range p.state {
			if len(a.state) >= maxTopics {
				a.omitted++
				continue
			}
			a.topic(&a.state, base+"/"+property)
		}
		if property, ok := strings.CutSuffix(name, "/$settable"); ok && p.text == "true" {
			a.topic(&a.command, base+"/"+property+"/set")
		}
	}
	return a, s.watch(a, item{topic: base + "/$state", read: readHomie})
}

type homie5 struct{ homie }

// read reads the state or the description of a device.
func (homie5) read(name string, payload []byte) (part, bool, error) {
	if name == "$state" {
		return homieState(payload)
	}
	p := part{fields: make(map[string]string)}
	var title, root, parent string
	to := map[string]*string{"name": &title, "root": &root, "parent": &parent}
	err := readObject(payload, func(r *reader, key string) error {
		if key != "nodes" {
			return member(r, to, key)
		}
		_, err := r.object(func(node string) error {
			_, err := r.object(func(key string) error {
				if key != "properties" {
					return r.skip()
				}
				return p.properties(r, node)
			})
			return err
		})
		return err
	})
	for key, text := range to {
		if *text != "" {
			p.fields[key] = *text
		}
	}
	slices.Sort(p.state)
	slices.Sort(p.command)
	return p, true, err
}

// properties reads those of a node: their topics of states and commands.
func (p *part) properties(r *reader, node string) error {
	_, err := r.object(func(property string) error {
		settable := ""
		_, err := r.object(func(key string) error { return member(r, map[string]*string{"settable": &settable}, key) })
		topic := cut(node+"/"+property, maxText)
		if len(p.state) < maxTopics {
			p.state = append(p.state, topic)
		}
		if settable == "true" && len(p.command) < maxTopics {
			p.command = append(p.command, topic+"/set")
		}
		return err
	})
	return err
}

// announce makes a device of one that has $state. When it clears that topic it is
// removed. A child has no will of its own: it is online while its root is, too.
func (homie5) announce(s *State, base string, parts map[string]part) (*announcement, error) {
	if _, there := parts["$state"]; !there {
		return nil, nil
	}
	a := newAnnouncement(base, topics.ByHomie)
	domain, id, _ := strings.Cut(base, "/5/")
	if err := a.identifier(id); err != nil {
		return nil, err
	}
	d := parts["$description"]
	a.name = d.fields["name"]
	root := d.fields["root"]
	a.viaDevice(firstOf(d.fields["parent"], root))
	for _, property := range d.state {
		a.topic(&a.state, base+"/"+property)
	}
	for _, property := range d.command {
		a.topic(&a.command, base+"/"+property)
	}
	a.rule.mode = modeAll
	err := s.watch(a, item{topic: base + "/$state", read: readHomie})
	if root != "" && root != id {
		err = errors.Join(err, s.watch(a, item{topic: domain + "/5/" + root + "/$state", read: readHomie, optional: true}))
	}
	return a, err
}
