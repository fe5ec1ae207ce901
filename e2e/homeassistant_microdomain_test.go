package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A microcontroller of docs/microdomain.md is one device in the real Home Assistant:
// what its firmware announces and what the hub does, whichever comes first, also after
// a restart of either; and all of it is unavailable without current.
func TestHomeAssistantMicrodomain(t *testing.T) {
	home := onEmbedded(t)
	w := &microdomainHome{homeAssistant: newHomeAssistant(t, home.Host("homeassistant")), home: home}
	home.Configure(service("shed-light", `priority = "required"`))
	hub := home.StartHub()
	w.Start()
	w.AddMQTT(home.Hub.Address())
	w.Until(wellAgain, "the hub is there", func(s haStates) bool { return s.Is("on", "binary_sensor.dominion_ready") })

	w.lamp = home.ESPHome("shed-lamp", "shed-light", 80)
	w.lamp.Plug()
	w.oneDevice("after its first start")

	w.lamp.Unplug()
	w.Until(wellAgain, "the lamp is away", func(s haStates) bool {
		return s.Is("off", "binary_sensor.dominion_shed_lamp") && s.Is("on", "binary_sensor.dominion_shed_lamp_domain_problem") &&
			s.Is("unavailable", w.relay(s))
	})
	w.listed(topics.Offline)
	w.lamp.host.LinkUp()
	w.lamp.Plug()
	w.oneDevice("with current again")

	w.Stop()
	w.Start()
	w.oneDevice("after a restart of Home Assistant")
	hub.Stop()
	home.StartHub()
	w.oneDevice("after a restart of the hub")
	if bad, _ := w.Complaints(0, away...); len(bad) > 0 {
		t.Errorf("Home Assistant complains:\n%s", strings.Join(bad, "\n"))
	}
}

// microdomainHome is a home of a microcontroller with a Home Assistant.
type microdomainHome struct {
	*homeAssistant
	home *Home
	lamp *esphome
}

// relay is the entity of the firmware's own announcement.
func (w *microdomainHome) relay(s haStates) string {
	for entity := range s {
		if strings.HasPrefix(entity, "switch.") && strings.HasSuffix(entity, "light") && !strings.Contains(entity, "dominion") {
			return entity
		}
	}
	return ""
}

// oneDevice waits until Home Assistant has one device of the microcontroller, with
// the entities of its firmware and of the hub, all available.
func (w *microdomainHome) oneDevice(when string) {
	w.t.Helper()
	const mac = "a4:cf:12:ef:3b:70"
	var why string
	defer func() {
		if why != "" {
			w.t.Logf("%s: %s", when, why)
		}
	}()
	eventuallyWithin(w.t, time.Minute, when+" it is one device", func() bool {
		var rows []registryRow
		var entities []haEntity
		w.Ask("config/device_registry/list", nil, &rows)
		w.Ask("config/entity_registry/list", nil, &entities)
		var found []registryRow
		for _, row := range rows {
			if strings.Contains(strings.Join(row.names(), " "), mac) || row.Name == w.lamp.name {
				found = append(found, row)
			}
		}
		states := w.States()
		relay := w.relay(states)
		if why = "there is no device, or several"; len(found) != 1 {
			return false
		}
		if why = "it is not as its firmware says"; found[0].Model != "d1_mini" || found[0].Manufacturer != "Espressif" {
			return false
		}
		ofIt := make(map[string]bool)
		for _, e := range entities {
			if e.Device == found[0].ID {
				ofIt[e.ID] = true
			}
		}
		for _, entity := range []string{relay, "binary_sensor.dominion_shed_lamp", "binary_sensor.dominion_shed_lamp_domain_problem", "sensor.dominion_shed_lamp_domain_state"} {
			if why = entity + " is not of it"; !ofIt[entity] {
				return false
			}
		}
		why = "a state is another one"
		if !states.Is("on", "binary_sensor.dominion_shed_lamp") || !states.Is("running", "sensor.dominion_shed_lamp_domain_state") ||
			!states.Is("off", "binary_sensor.dominion_shed_lamp_domain_problem", relay) {
			return false
		}
		why = ""
		return true
	})
	w.listed(topics.Online)
}

// listed checks that dominionctl lists one device, which is the domain.
func (w *microdomainHome) listed(availability string) {
	w.t.Helper()
	var list topics.Devices
	eventually(w.t, "the device is listed as "+availability, func() bool {
		r := w.home.Ctl("devices", "--json")
		if err := json.Unmarshal([]byte(r.Stdout), &list); r.Code != 0 || err != nil {
			w.t.Fatalf("devices --json: code %d, %v: %s", r.Code, err, r.Stderr)
		}
		return len(list.Devices) == 1 && list.Devices[0].Domain == "shed-lamp" && list.Devices[0].Availability == availability
	})
	if len(list.Problems) > 0 {
		w.t.Errorf("problems: %+v", list.Problems)
	}
}
