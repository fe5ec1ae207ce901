package homeassistant

import (
	"slices"
	"time"
)

// Firmware is how the firmware of a microcontroller announces itself to Home
// Assistant. With its identifiers and connections in place of our own, Home Assistant
// makes one device of both announcements.
type Firmware struct {
	Identifiers []string `json:"identifiers,omitempty"`
	// Connections are pairs of type and address.
	Connections  [][2]string `json:"connections,omitempty"`
	Name         string      `json:"name,omitempty"`
	Manufacturer string      `json:"manufacturer,omitempty"`
	Model        string      `json:"model,omitempty"`
	ModelID      string      `json:"model_id,omitempty"`
	Version      string      `json:"version,omitempty"`
}

// device returns the device of a microdomain as its firmware announces it: who
// announces last overwrites name, model and version.
func (f Firmware) device(own device) device {
	own.Identifiers, own.Connections = f.Identifiers, f.Connections
	if f.Name != "" {
		own.Name = f.Name
	}
	if f.Model != "" {
		own.Model, own.ModelID = f.Model, own.Model
	}
	if f.ModelID != "" {
		own.ModelID = f.ModelID
	}
	own.Manufacturer, own.SWVersion = f.Manufacturer, f.Version
	return own
}

// sameDevice reports whether two announcements are of one device of Home Assistant.
func (f *Firmware) sameDevice(g *Firmware) bool {
	if f == nil || g == nil {
		return f == g
	}
	return slices.Equal(f.Identifiers, g.Identifiers) && slices.Equal(f.Connections, g.Connections)
}

// Firmware returns the firmware with which the device of a topic was announced as one
// device; nil: with none.
func (r *Registry) Firmware(topic string) *Firmware {
	if e := r.entries[topic]; e != nil {
		return e.Firmware
	}
	return nil
}

// Merge reports whether a device may be announced as one with a firmware, now. Home
// Assistant moves no entity from one device to another: where it has the device, it
// has to remove that first, and has to be online for that. Merge then begins the
// removal, and what is announced next of the topic is published after it. A device
// that was announced while Home Assistant was never online changes at once.
func (r *Registry) Merge(topic string, f *Firmware, now time.Time) bool {
	e := r.entries[topic]
	if e == nil || len(e.Components) == 0 || e.Undiscovered || e.Firmware.sameDevice(f) {
		return true
	}
	if e.Deleted != "" {
		return true // it is not announced
	}
	if !r.haOnline {
		return false
	}
	e.merging = true
	r.schedule(e, now)
	return true
}
