package announcer

import (
	"time"

	"github.com/jmbarzee/dominion/hub/homeassistant"
)

// firmwareTime is how long a new microdomain is not announced: what its firmware
// announces itself comes in the same moment, and they are one device.
const firmwareTime = 3 * time.Second

// awaitsFirmware reports whether a microdomain that was never announced is not to be
// announced yet.
func (a *Announcer) awaitsFirmware(domain string, now time.Time) bool {
	if a.firmware == nil || a.registry.Has(a.options.DomainTopic(domain), "connectivity") {
		return false
	}
	if _, announced := a.firmware(domain); announced {
		return false
	}
	until, awaited := a.awaited[domain]
	if !awaited {
		until = now.Add(firmwareTime)
		a.awaited[domain] = until
	}
	return now.Before(until)
}

// FirmwareDue returns the microdomains whose firmware was waited for, once: they are to
// be announced without it.
func (a *Announcer) FirmwareDue(now time.Time) (domains []string) {
	for domain, until := range a.awaited {
		if !until.IsZero() && !now.Before(until) {
			a.awaited[domain] = time.Time{}
			domains = append(domains, domain)
		}
	}
	return domains
}

// mergedFirmware returns the firmware with which a microdomain is announced as one
// device: the present one, and while there is none, or Home Assistant cannot be sent
// another, the one that was announced.
func (a *Announcer) mergedFirmware(domain string, now time.Time) *homeassistant.Firmware {
	topic := a.options.DomainTopic(domain)
	former := a.registry.Firmware(topic)
	if a.firmware == nil {
		return former
	}
	if f, announced := a.firmware(domain); announced && a.registry.Merge(topic, f, now) {
		return f
	}
	return former
}
