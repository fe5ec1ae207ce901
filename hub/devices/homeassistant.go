package devices

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// full gives the long form of the keys that are read here. Every abbreviation
// of a key that holds a topic ends in "_t" and is long in its last part alone,
// so it needs no table.
var full = map[string]string{
	"dev": "device", "cmps": "components", "o": "origin", "p": "platform", "t": "topic",
	"ids": "identifiers", "cns": "connections", "mf": "manufacturer", "mdl": "model", "mdl_id": "model_id",
	"sw": "sw_version", "hw": "hw_version", "sn": "serial_number", "cu": "configuration_url", "sa": "suggested_area",
	"avty": "availability", "avty_t": "availability_topic", "avty_mode": "availability_mode", "avty_tpl": "availability_template",
	"pl_avail": "payload_available", "pl_not_avail": "payload_not_available", "val_tpl": "value_template",
	"migr_discvry": "migrate_discovery", "cdevs": "child_devices", "cdev": "child_device",
}

func long(key string) string {
	if l := full[key]; l != "" {
		return l
	}
	return key
}

// hassTopic reports whether a topic below the discovery prefix is a config, and
// whether of a whole device. Home Assistant ignores others, and so do we.
func hassTopic(below string) (device, ok bool) {
	levels := strings.Split(below, "/")
	if len(levels) < 3 || len(levels) > 4 || levels[len(levels)-1] != "config" {
		return false, false
	}
	for i, level := range levels[:len(levels)-1] {
		if level == "" || strings.ContainsFunc(level, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && (r != '-' || i == 0)
		}) {
			return false, false
		}
	}
	return levels[0] == "device", true
}

// maxComponents is how many components of one device are read.
const maxComponents = 1000

// child is a part of a device that Home Assistant shows as a device of its own
// (since 2026.9): an outlet of a power strip.
type child struct {
	*announcement
	parts []entity
}

// hass reads Home Assistant's discovery, of an entity or of a device. An
// announcement of the device comes first, then those of its child devices. None
// is one that names no device: an entity may be without.
func (s *State) hass(topic string, payload []byte, device bool) ([]*announcement, error) {
	a := newAnnouncement(topic, topics.ByHomeAssistant)
	named, migrates := false, false
	var wrong partialError
	root := entity{wrong: &wrong, parsed: s.templates}
	var parts []entity
	var children []child
	err := readObject(payload, func(r *reader, key string) (err error) {
		switch key = long(key); {
		case key == "device" && device:
			named, err = hassDevice(r, a.facts, nil, &wrong)
		case key == "device":
			one := child{announcement: newAnnouncement(topic, topics.ByHomeAssistant)}
			if named, err = hassDevice(r, a.facts, one.facts, &wrong); len(one.keys) > 0 {
				children = []child{one}
			}
		case key == "migrate_discovery":
			migrates = true
			err = r.skip()
		case device && key == "components":
			parts, err = hassComponents(r, s.templates, &wrong)
		case device && key == "child_devices":
			children, err = hassChildren(r, topic, s.templates, &wrong)
		default:
			err = root.member(r, key)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case migrates && !named:
		return nil, nil
	case !named && device:
		return nil, errors.New("it is of a device and has no device")
	case !named:
		return nil, nil
	case len(a.keys) == 0:
		return nil, errNobody
	}
	all := []*announcement{a}
	if device || len(children) == 0 { // else the one entity is of the child
		s.entities(a, &root, parts, device)
	}
	for _, c := range children {
		c.within(a)
		s.entities(c.announcement, &root, c.parts, device)
		all = append(all, c.announcement)
	}
	return all, wrong.err()
}

// within makes a child device one that is reached through its parent.
func (c *child) within(parent *announcement) {
	c.source += " " + string(c.keys[0])
	c.viaKey = parent.keys[0]
	if len(parent.identifiers) > 0 {
		c.via = parent.identifiers[0]
	} else {
		c.via = parent.connections[0].Address
	}
}

// entities adds what the root of a config has and what each of its components has;
// the config of an entity has one component, at the root.
func (s *State) entities(a *announcement, root *entity, parts []entity, device bool) {
	s.topicsOf(a, root)
	for _, e := range parts {
		s.topicsOf(a, &e)
	}
	if !device {
		parts = []entity{{wrong: root.wrong, parsed: root.parsed}}
	}
	for _, e := range parts {
		s.component(a, &e, root)
	}
}

// maxChildren is how many child devices of one device are read.
const maxChildren = 100

// hassChildren reads the child devices of a device.
func hassChildren(r *reader, topic string, parsed templates, wrong *partialError) (children []child, err error) {
	_, err = r.list(func(t json.Token) error {
		if len(children) >= maxChildren {
			wrong.add(fmt.Errorf("it has more than %d child devices", maxChildren))
			return r.skipFrom(t)
		}
		c := child{announcement: newAnnouncement(topic, topics.ByHomeAssistant)}
		_, err := r.objectFrom(t, func(key string) (err error) {
			if long(key) == "components" {
				c.parts, err = hassComponents(r, parsed, wrong)
				return err
			}
			return hassFact(r, c.facts, long(key), wrong)
		})
		if err == nil && len(c.keys) == 0 {
			wrong.add(errors.New("it has a child device without identifiers"))
		} else if err == nil {
			children = append(children, c)
		}
		return err
	})
	return children, err
}

// hassComponents reads the components of a device. One that has its platform
// alone was removed.
func hassComponents(r *reader, parsed templates, wrong *partialError) (parts []entity, err error) {
	components := 0
	_, err = r.object(func(string) error {
		if components++; components > maxComponents {
			wrong.add(fmt.Errorf("it has more than %d components", maxComponents))
			return r.skip()
		}
		c := entity{wrong: wrong, parsed: parsed}
		members := 0
		is, err := r.object(func(key string) error {
			if key = long(key); key != "platform" {
				members++
			}
			return c.member(r, key)
		})
		if err == nil && is && members > 0 {
			parts = append(parts, c)
		}
		return err
	})
	return parts, err
}

// hassDevice reads the device of a config, and into part, if it is not nil, the
// child device that is meant where there is one.
func hassDevice(r *reader, f, part *facts, wrong *partialError) (bool, error) {
	return r.object(func(key string) error {
		if key = long(key); key == "child_device" && part != nil {
			_, err := r.object(func(key string) error { return hassFact(r, part, long(key), wrong) })
			return err
		}
		return hassFact(r, f, key, wrong)
	})
}

// hassFact reads one member of a device, by its long key.
func hassFact(r *reader, f *facts, key string, wrong *partialError) error {
	switch key {
	case "identifiers":
		return r.texts(func(s string) error {
			wrong.add(f.identifier(s))
			return nil
		})
	case "connections":
		return hassConnections(r, f, wrong)
	case "configuration_url":
		url, err := r.text()
		wrong.add(f.link(url))
		return err
	case "via_device":
		via, err := r.text()
		f.viaDevice(via)
		return err
	}
	to := f.hassText(key)
	if to == nil {
		return r.skip()
	}
	text, err := r.text()
	*to = cut(text, maxText)
	return err
}

// hassText returns where a text of a device is stored, nil where it is not.
func (f *facts) hassText(key string) *string {
	switch key {
	case "name":
		return &f.name
	case "manufacturer":
		return &f.manufacturer
	case "model":
		return &f.model
	case "model_id":
		return &f.modelID
	case "sw_version":
		return &f.version
	case "suggested_area":
		return &f.area
	case "hw_version":
		return &f.hardware
	case "serial_number":
		return &f.serial
	}
	return nil
}

// hassConnections reads pairs of a kind and an address.
func hassConnections(r *reader, f *facts, wrong *partialError) error {
	_, err := r.list(func(t json.Token) error {
		if t != json.Delim('[') {
			return r.skipFrom(t)
		}
		var pair []string
		err := r.listFrom(func(t json.Token) error {
			part, err := r.textFrom(t)
			if len(pair) < 2 {
				pair = append(pair, part)
			}
			return err
		})
		if err != nil || len(pair) < 2 {
			return err
		}
		wrong.add(f.connection(pair[0], pair[1]))
		return nil
	})
	return err
}
