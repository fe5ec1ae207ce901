package devices

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// rank orders the announcements of a device by who announces it.
func rank(by string) int { return slices.Index(topics.Announcers(), by) }

// IDs returns the id of every entry, sorted.
func (s *State) IDs() []string { return slices.Sorted(maps.Keys(s.devices)) }

// Device returns one entry.
func (s *State) Device(id string) (topics.Device, bool) {
	if s.devices[id] == nil {
		return topics.Device{}, false
	}
	return s.entry(id), true
}

// entry makes one entry of the announcements of a device.
func (s *State) entry(id string) topics.Device {
	d := topics.Device{ID: id, Availability: topics.DeviceUnknown}
	device := s.devices[id]
	for _, f := range []struct {
		to *string
		of func(*announcement) string
	}{
		{&d.Name, func(a *announcement) string { return a.name }},
		{&d.Manufacturer, func(a *announcement) string { return a.manufacturer }},
		{&d.Model, func(a *announcement) string { return a.model }},
		{&d.ModelID, func(a *announcement) string { return a.modelID }},
		{&d.Version, func(a *announcement) string { return a.version }},
		{&d.Hardware, func(a *announcement) string { return a.hardware }},
		{&d.Serial, func(a *announcement) string { return a.serial }},
		{&d.URL, func(a *announcement) string { return a.url }},
		{&d.Area, func(a *announcement) string { return a.area }},
		{&d.Domain, func(a *announcement) string { return a.domain }},
		{&d.Via, s.viaID},
	} {
		*f.to = preferred(device, f.of)
	}
	if d.URL == "" {
		d.URL = preferred(device, func(a *announcement) string { return a.page })
	}
	if d.Model == "" {
		d.Model = preferred(device, func(a *announcement) string { return a.kind })
	}
	var state, command, availability []string
	left := 0
	for _, a := range device {
		if !slices.Contains(d.AnnouncedBy, a.by) {
			d.AnnouncedBy = append(d.AnnouncedBy, a.by)
		}
		d.Identifiers = append(d.Identifiers, a.identifiers...)
		d.Connections = append(d.Connections, a.connections...)
		state, command = append(state, a.state...), append(command, a.command...)
		for i := range a.watched() {
			if !i.optional || s.availabilityTopics[i.topic].received { // the topic is assumed, and may not exist
				availability = append(availability, i.topic)
			}
		}
		left += a.omitted
	}
	d.Availability = s.availabilityOf(device)
	d.Identifiers = limited(d.Identifiers, strings.Compare, nil)
	d.Connections = limited(d.Connections, func(x, y topics.DeviceConnection) int {
		return cmp.Or(strings.Compare(x.Type, y.Type), strings.Compare(x.Address, y.Address))
	}, nil)
	for _, name := range d.Identifiers {
		d.Name = cmp.Or(d.Name, name)
	}
	d.Name = cmp.Or(d.Name, id)
	d.Topics = topics.DeviceTopics{
		Availability: limited(availability, strings.Compare, &left),
		State:        limited(state, strings.Compare, &left),
		Command:      limited(command, strings.Compare, &left),
		More:         left,
	}
	return d
}

// limited sorts a list, removes duplicates, and omits what exceeds maxTopics, which it
// counts.
func limited[T comparable](all []T, order func(x, y T) int, left *int) []T {
	slices.SortFunc(all, order)
	all = slices.Compact(all)
	if len(all) > maxTopics {
		if left != nil {
			*left += len(all) - maxTopics
		}
		all = all[:maxTopics]
	}
	return slices.Clip(all)
}

// viaID returns the id of the device that one is reached through, or the name
// that it announces where no device has that name.
func (s *State) viaID(a *announcement) string {
	for other := range s.keys[a.viaKey] {
		if other.id == a.id {
			return ""
		}
		return other.id
	}
	return a.via
}

// equal reports whether announcements have the same facts.
func (f *facts) equal(g *facts) bool {
	return f.name == g.name && f.manufacturer == g.manufacturer && f.model == g.model && f.modelID == g.modelID &&
		f.version == g.version && f.area == g.area && f.via == g.via && f.domain == g.domain && f.viaKey == g.viaKey &&
		f.hardware == g.hardware && f.serial == g.serial && f.url == g.url && f.page == g.page && f.kind == g.kind &&
		slices.Equal(f.keys, g.keys) && slices.Equal(f.identifiers, g.identifiers) && slices.Equal(f.connections, g.connections)
}
