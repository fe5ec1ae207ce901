package hub

import (
	"time"

	"github.com/jmbarzee/dominion/hub/announcer"
	"github.com/jmbarzee/dominion/hub/homeassistant"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// newAnnouncer returns the part that announces the home to Home Assistant.
func (h *Hub) newAnnouncer(o Options) *announcer.Announcer {
	from := announcer.Options{
		HomeAssistant: homeassistant.Options{
			Tree: h.tree, DiscoveryPrefix: o.Config.HomeAssistant.DiscoveryPrefix,
			HubID: h.ID(), HubName: o.Config.Name, Version: o.Version, Certificate: h.views.ownProblems.HasCertificates(),
			Embedded: h.broker != nil, Keys: h.keys != nil,
		},
		Enabled: o.Config.HomeAssistant.Enabled, Publisher: h.pub, Store: h.store, Verify: o.Verify,
		Snapshot: store.ReadNote[homeassistant.Snapshot](h.store, announcer.File, o.Log),
		States:   h.shownStates, Log: o.Log,
	}
	if h.broker != nil {
		from.Persists = h.broker.Persists
	}
	if h.views.tracker.Enabled() {
		from.Firmware = h.firmware
	}
	return announcer.New(from)
}

// firmware returns how the firmware of a microdomain announces itself to Home Assistant.
func (h *Hub) firmware(domain string) (*homeassistant.Firmware, bool) {
	f, announced := h.views.tracker.Firmware(domain)
	if !announced {
		return nil, false
	}
	converted := &homeassistant.Firmware{
		Identifiers: f.Identifiers, Name: f.Name, Manufacturer: f.Manufacturer, Model: f.Model, ModelID: f.ModelID, Version: f.Version,
	}
	for _, c := range f.Connections {
		converted.Connections = append(converted.Connections, [2]string{c.Type, c.Address})
	}
	return converted, true
}

// announceChanged announces what changed to Home Assistant, and once everything has
// reported has the rest removed.
func (h *Hub) announceChanged(c *changes, now time.Time) {
	enabled := h.cfg.HomeAssistant.Enabled
	if enabled {
		h.views.announcer.AnnounceHub(now)
		h.announceDomains(c, now)
		h.announceServices(c, now)
	}
	if !h.fleet.Ready() || !c.Whole {
		return
	}
	var unreported []string
	for d := range h.fleet.All() {
		if enabled && d.Status == nil {
			unreported = append(unreported, d.Name)
		}
	}
	h.views.announcer.Complete(unreported, now)
}

func (h *Hub) announceDomains(c *changes, now time.Time) {
	for _, d := range h.touched(c) {
		if s := d.Status; s != nil {
			h.views.announcer.AnnounceDomain(homeassistant.Machine{
				Name: d.Name, ID: d.ID, Version: s.Version, OS: s.OS, Arch: s.Arch, Micro: d.Micro, Hot: d.Hot,
			}, now)
		}
	}
}

func (h *Hub) announceServices(c *changes, now time.Time) {
	var micro map[string]bool
	if len(c.Services) > 0 {
		micro = h.microServices()
	}
	for name := range c.Services {
		if v, is := h.views.statuses.Get(name); is {
			h.views.announcer.AnnounceService(homeassistant.Program{
				Name: name, URL: v.Link, Micro: micro[name], Versioned: v.Version != "" || v.Update.Latest != "",
			}, h.defs.Get(name), now)
		}
	}
}

// microServices returns the services that microcontrollers alone have. Until all domains
// have reported what they have, it is as it was announced before.
func (h *Hub) microServices() map[string]bool {
	only := make(map[string]bool)
	for d := range h.fleet.All() {
		if d.Micro && d.Status != nil {
			for _, i := range d.Status.Services {
				only[i.Service] = true
			}
		}
	}
	complete := h.fleet.Ready()
	if len(only) > 0 {
		for d := range h.fleet.All() {
			if d.Micro {
				continue
			}
			if d.Status == nil {
				complete = false
				continue
			}
			for _, row := range d.Status.Catalog {
				delete(only, row.Service)
			}
			for _, i := range d.Status.Services {
				delete(only, i.Service)
			}
		}
	}
	if complete {
		return only
	}
	for name := range h.views.statuses.All() {
		if micro, announced := h.views.announcer.MicroService(name); announced {
			only[name] = micro
		}
	}
	return only
}

// receiveHomeAssistant takes a message at Home Assistant's topics; ours is false for
// other ones.
func (h *Hub) receiveHomeAssistant(m topics.Message, now time.Time) (ours bool) {
	ours, birth := h.views.announcer.Receive(m, now)
	if birth { // from now on it takes the firmware of microdomains
		for d := range h.fleet.All() {
			if d.Micro {
				h.touch(d.Name)
			}
		}
	}
	return ours
}

// expireFirmware has the microdomains announced whose firmware was waited for.
func (h *Hub) expireFirmware(now time.Time) {
	for _, domain := range h.views.announcer.FirmwareDue(now) {
		h.touch(domain)
	}
}

// expireHomeAssistant publishes what is due to Home Assistant.
func (h *Hub) expireHomeAssistant(now time.Time) {
	for _, a := range h.views.announcer.Expire(now) {
		h.republish(a, now)
	}
	h.dueUnlessZero(h.views.announcer.Next())
}

// shownStates returns the addresses of what Home Assistant's entities show. That of a
// domain's condition stands for what its agent publishes, too.
func (h *Hub) shownStates() []topics.Address {
	all := []topics.Address{{Kind: topics.HubStatus}, {Kind: topics.HubAvailability}, {Kind: topics.HubAdoption}}
	for _, d := range h.fleet.Sorted() {
		all = append(all, topics.Address{Kind: topics.DomainCondition, Domain: d.Name})
	}
	for _, v := range h.views.statuses.Sorted() {
		all = append(all, topics.Address{Kind: topics.ServiceStatus, Service: v.Service})
	}
	return all
}
