package devicestest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Difference is one thing in which a list of devices and Home Assistant's
// registry are not alike.
type Difference struct {
	// Device is its first name in the registry, the id of ours, or the topic of a config.
	Device        string
	Field         string
	Ours          string
	HomeAssistant string
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s is %q, in Home Assistant %q", d.Device, d.Field, d.Ours, d.HomeAssistant)
}

// comparison is a list of devices beside a registry.
type comparison struct {
	ours     topics.Devices
	registry Registry
	// byName are our devices, by each of their identifiers and connections.
	byName map[string][]*topics.Device
	// matches are first names in the registry, by id of our device.
	matches  map[string][]string
	messages []Message
	all      []Difference
}

// Differences compares a list of devices with Home Assistant's registry, device
// by device and field by field, and the problems that the list names with what
// Home Assistant refused. published are the messages that both had.
func Differences(ours topics.Devices, registry Registry, published []Message) []Difference {
	c := comparison{ours: ours, registry: registry, messages: published, byName: make(map[string][]*topics.Device), matches: make(map[string][]string)}
	for i := range ours.Devices {
		d := &ours.Devices[i]
		for _, name := range names(d) {
			c.byName[name] = append(c.byName[name], d)
		}
	}
	for _, theirs := range registry.Devices {
		c.device(theirs)
	}
	for _, d := range ours.Devices {
		m := c.matches[d.ID]
		if len(m) == 0 && !c.refusedAndNamed(&d) {
			c.differ(d.ID, "listed", strings.Join(d.AnnouncedBy, ", "), "")
		} else if len(m) > 1 {
			c.differ(m[0], "devices", d.ID, strings.Join(m, ", "))
		}
	}
	c.refused()
	return c.all
}

func (c *comparison) differ(device, field, ours, theirs string) {
	c.all = append(c.all, Difference{device, field, ours, theirs})
}

// names returns what a device of ours is called by in the registry.
func names(d *topics.Device) []string {
	all := slices.Clone(d.Identifiers)
	for _, c := range d.Connections {
		all = append(all, strings.ToLower(c.Type+" "+c.Address))
	}
	return all
}

// match returns the device of ours that has one of the names, nil if none has.
func (c *comparison) match(theirs Device) *topics.Device {
	var found []*topics.Device
	for _, name := range theirs.Names {
		for _, d := range c.byName[name] {
			if !slices.Contains(found, d) {
				found = append(found, d)
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	if len(found) > 1 {
		c.differ(theirs.Names[0], "devices", fmt.Sprint(len(found)), "1")
	}
	return found[0]
}

// device compares a device of Home Assistant with ours.
func (c *comparison) device(theirs Device) {
	first := theirs.Names[0]
	d := c.match(theirs)
	if d == nil && theirs.Stub {
		return
	}
	if d == nil {
		c.differ(first, "listed", "", cmp.Or(theirs.Name, first))
		return
	}
	c.matches[d.ID] = append(c.matches[d.ID], first)
	name := theirs.Name
	if name == "" && (d.Name == d.ID || slices.Contains(theirs.Names, d.Name)) {
		name = d.Name // one without a name has its identifier instead
	}
	for _, f := range []struct{ field, ours, theirs string }{
		{"name", d.Name, name},
		{"manufacturer", d.Manufacturer, theirs.Manufacturer},
		{"model", d.Model, theirs.Model},
		{"model_id", d.ModelID, theirs.ModelID},
		{"sw_version", d.Version, theirs.Version},
		{"hw_version", d.Hardware, theirs.Hardware},
		{"serial_number", d.Serial, theirs.Serial},
		{"configuration_url", d.URL, theirs.URL},
		{"via", c.via(d), theirs.Via},
	} {
		if f.ours != f.theirs {
			c.differ(first, f.field, f.ours, f.theirs)
		}
	}
	if !c.sameAvailability(d, theirs) {
		c.differ(first, "availability", d.Availability, theirs.Availability)
	}
}

// via returns the first name of what a device of ours is reached through.
func (c *comparison) via(d *topics.Device) string {
	if d.Via == "" {
		return ""
	}
	for _, theirs := range c.registry.Devices {
		if slices.Contains(theirs.Names, d.Via) {
			return theirs.Names[0] // an identifier that nobody announces
		}
		for _, name := range theirs.Names {
			if slices.ContainsFunc(c.byName[name], func(other *topics.Device) bool { return other.ID == d.Via }) {
				return theirs.Names[0]
			}
		}
	}
	return d.Via
}

// sameAvailability reports whether both mean the same. Home Assistant has one
// word for what is offline and for what was never heard of; ours may say unknown
// there only if nothing was published at one of the topics.
func (c *comparison) sameAvailability(d *topics.Device, theirs Device) bool {
	switch theirs.Availability {
	case Available:
		return d.Availability == topics.Online
	case Unavailable:
		return d.Availability == topics.Offline || d.Availability == topics.DeviceUnknown && !c.published(d.Topics.Availability)
	}
	return d.Availability == topics.DeviceUnknown
}

// published reports whether there is a message of each of the topics.
func (c *comparison) published(all []string) bool {
	return !slices.ContainsFunc(all, func(topic string) bool {
		return !slices.ContainsFunc(c.messages, func(m Message) bool { return m.Topic == topic })
	})
}

// refusedAndNamed reports whether Home Assistant refused every config of a
// device of ours, and the list names each of them as a problem.
func (c *comparison) refusedAndNamed(d *topics.Device) bool {
	configs := 0
	for _, m := range c.messages {
		if !m.Config() || !announces(m, d) {
			continue
		}
		if configs++; c.registry.Refused[m.Topic] == "" || c.problem(m) == "" {
			return false
		}
	}
	return configs > 0
}

// announces reports whether a config is of a device of ours.
func announces(m Message, d *topics.Device) bool {
	return slices.ContainsFunc(d.Identifiers, func(id string) bool { return strings.Contains(m.Payload, `"`+id+`"`) })
}

// problem returns what the list has against a config, or against its device
// where no message alone is wrong.
func (c *comparison) problem(m Message) string {
	for _, p := range c.ours.Problems {
		if p.Topic == m.Topic {
			return p.Message
		}
	}
	if c.registry.Refused[m.Topic] == "" {
		return "" // it may be another one of the device that is meant
	}
	for i, d := range c.ours.Devices {
		for _, p := range c.ours.Problems {
			if p.Device == d.ID && announces(m, &c.ours.Devices[i]) {
				return p.Message
			}
		}
	}
	return ""
}

// refused compares what is named as a problem with what Home Assistant refused.
func (c *comparison) refused() {
	for _, m := range c.messages {
		why, refused := c.registry.Refused[m.Topic]
		if problem := c.problem(m); m.Config() && refused != (problem != "") {
			c.differ(m.Topic, "refused", problem, why)
		}
	}
}
