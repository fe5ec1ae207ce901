package devices

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// part is what one topic announces of a device that announces itself in several
// topics: a text, or what is read of a JSON document.
type part struct {
	text           string
	fields         map[string]string
	state, command []string
}

func (p part) equal(o part) bool {
	return p.text == o.text && maps.Equal(p.fields, o.fields) && slices.Equal(p.state, o.state) && slices.Equal(p.command, o.command)
}

// cost is about the memory of a part.
func (p part) cost(name string) int {
	n := 4*costOfText + len(name) + len(p.text)
	for k, v := range p.fields {
		n += len(k) + len(v) + costOfText
	}
	for _, t := range append(slices.Clone(p.state), p.command...) {
		n += len(t) + costOfText
	}
	return n
}

// partialDevice is a device by its parts. What they announce together is the source
// that is named after its base.
type partialDevice struct {
	convention convention
	parts      map[string]part
}

// convention is one of those by which devices announce themselves in several
// topics.
type convention interface {
	// read reads the part of a device that a topic has. ok is false for a message
	// that is of something else.
	read(name string, payload []byte) (p part, ok bool, err error)
	// announce makes one announcement of the parts; nil where they do not make a
	// device.
	announce(s *State, base string, parts map[string]part) (*announcement, error)
	// availability is the part with the availability of the device.
	availability() string
	// repeats reports whether a message has nothing that its part does not have.
	repeats(had part, name string, payload []byte) bool
}

// partOf returns the convention, the device and the part that a topic is of; nil
// where it is of none.
func partOf(topic string, payload []byte) (c convention, base, name string) {
	if len(topic) > maxTopic {
		return nil, "", ""
	}
	levels := strings.Split(topic, "/")
	if c, base, name = homiePart(levels); c != nil {
		return c, base, name
	}
	return shellyPart(levels, payload)
}

// takePart takes a message that announces a part of a device.
func (s *State) takePart(c convention, base, name, topic string, payload []byte, live bool, now time.Time) {
	d := s.parts[base]
	if len(payload) == 0 {
		s.problems.remove(s.seed, topic)
		if topic == sharedAnnounce {
			for base := range s.parts {
				s.dropPart(base, shared)
			}
		}
		s.dropPart(base, name)
		return
	}
	if d != nil {
		if had, there := d.parts[name]; there && c.repeats(had, name, payload) {
			return
		}
	}
	var p part
	ok, err := true, error(nil)
	if len(payload) > s.limits.Payload {
		err = fmt.Errorf("%d bytes are more than the %d that are read", len(payload), s.limits.Payload)
	} else {
		p, ok, err = c.read(name, payload)
	}
	if err != nil {
		s.dropPart(base, name)
		s.problems.record(s.seed, topic, err.Error(), live, now)
		return
	}
	if !ok {
		return
	}
	if d != nil {
		if had, there := d.parts[name]; there && had.equal(p) {
			if !live {
				s.problems.confirm(topic)
			}
			return
		}
	}
	if err = s.putPart(c, base, name, p); err == nil {
		err = s.describe(base)
	}
	if err != nil {
		s.problems.record(s.seed, topic, err.Error(), live, now)
		return
	}
	s.problems.remove(s.seed, topic)
	topic = base + "/" + c.availability()
	if at := s.availabilityTopics[topic]; at != nil && !at.received { // the part came before the announcement
		if p, there := s.parts[base].parts[c.availability()]; there {
			s.receive(at, topic, p.text, false, now)
		}
	}
}

// putPart stores a part.
func (s *State) putPart(c convention, base, name string, p part) error {
	d := s.parts[base]
	cost, fresh := p.cost(name), 1
	if d != nil {
		if had, there := d.parts[name]; there {
			cost, fresh = cost-had.cost(name), 0
		}
	}
	if d != nil && len(d.parts)+fresh > s.limits.PerDevice {
		return fmt.Errorf("the limit of %d topics of one device is reached", s.limits.PerDevice)
	}
	if s.partCount+fresh > s.limits.Announcements || s.cost+s.partCost+cost > s.limits.Bytes {
		return errors.New("the limit of all announcements is reached")
	}
	if d == nil {
		d = &partialDevice{convention: c, parts: make(map[string]part)}
		s.parts[strings.Clone(base)] = d
	}
	s.partCount, s.partCost = s.partCount+fresh, s.partCost+cost
	d.parts[strings.Clone(name)] = p
	return nil
}

// dropPart removes a part, and a device without parts.
func (s *State) dropPart(base, name string) {
	d := s.parts[base]
	if d == nil {
		return
	}
	if had, there := d.parts[name]; there {
		s.partCount, s.partCost = s.partCount-1, s.partCost-had.cost(name)
		delete(d.parts, name)
		_ = s.describe(base) // with less of it there is room
	}
	if len(d.parts) == 0 {
		delete(s.parts, base)
	}
}

// describe replaces the announcement of a device by that of its parts.
func (s *State) describe(base string) error {
	d := s.parts[base]
	if len(d.parts) == 0 {
		return s.replace(base, nil)
	}
	a, err := d.convention.announce(s, base, d.parts)
	var all []*announcement
	if a != nil && err == nil {
		all = []*announcement{a}
	}
	refused := s.replace(base, all)
	if err != nil {
		return err
	}
	return refused
}
