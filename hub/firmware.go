package hub

import (
	"time"

	"github.com/jmbarzee/dominion/hub/homeassistant"
)

// firmwareRest is how long a new microdomain is not announced to Home Assistant: what
// its firmware announces itself comes in the same moment, and they are one device.
const firmwareRest = 3 * time.Second

// awaitsFirmware reports whether a microdomain that Home Assistant was never told of
// is not to be told yet.
func (h *Hub) awaitsFirmware(domain string, now time.Time) bool {
	s := &h.discovery
	if !h.tracker.Enabled() || s.announcements.Has(s.options.DomainTopic(domain), "connectivity") {
		return false
	}
	if _, announced := h.tracker.Firmware(domain); announced {
		return false
	}
	until, awaits := s.awaits[domain]
	if !awaits {
		until = now.Add(firmwareRest)
		s.awaits[domain] = until
	}
	if now.Before(until) {
		h.due(until)
		return true
	}
	return false
}

// expireFirmware has the microdomains announced whose firmware was waited for.
func (h *Hub) expireFirmware(now time.Time) {
	for domain, until := range h.discovery.awaits {
		switch {
		case h.domains[domain] == nil:
			delete(h.discovery.awaits, domain)
		case until.IsZero():
		case now.Before(until):
			h.due(until)
		default:
			h.discovery.awaits[domain] = time.Time{}
			h.touch(domain)
		}
	}
}

// firmwareOf returns with which firmware the device of a microdomain is one: that
// which tells its availability at the domain's topic, and while nobody does, or Home
// Assistant cannot be told of another, the one that it was told.
func (h *Hub) firmwareOf(domain string, now time.Time) *homeassistant.Firmware {
	registry, topic := h.discovery.announcements, h.discovery.options.DomainTopic(domain)
	told := registry.Firmware(topic)
	if !h.tracker.Enabled() {
		return told
	}
	a, announced := h.tracker.Firmware(domain)
	if !announced {
		return told
	}
	f := &homeassistant.Firmware{
		Identifiers: a.Identifiers, Name: a.Name, Manufacturer: a.Manufacturer, Model: a.Model, ModelID: a.ModelID, Version: a.Version,
	}
	for _, c := range a.Connections {
		f.Connections = append(f.Connections, [2]string{c.Type, c.Address})
	}
	if !registry.Merge(topic, f, now) {
		return told
	}
	return f
}

// touchMicrodomains has the devices of microdomains looked at: Home Assistant is
// there, and may be told of their firmware.
func (h *Hub) touchMicrodomains() {
	for name, d := range h.domains {
		if d.Micro {
			h.touch(name)
		}
	}
}
