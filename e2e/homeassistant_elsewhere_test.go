package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A home whose broker is mosquitto, with other prefixes than the usual ones
// for the dominion's topics and for discovery: Home Assistant shows it all the
// same, and while the hub is away the broker is not. What is deleted then stays
// deleted, and what the broker forgets is there again.
func TestHomeAssistantElsewhere(t *testing.T) {
	needs(t)
	t.Parallel()
	home := newHome(t, External)
	w := &shownHome{homeAssistant: newHomeAssistant(t, home.Host("homeassistant")), home: home, services: []string{"lamp", "spare"}}
	home.external.opens()
	w.kitchen = home.Domain("kitchen")
	below := func(prefix string) {
		w.kitchen.Configure([]string{"lamp", "spare"}, fmt.Sprintf("topic_prefix = %q\n", prefix))
		home.WriteHubConfig(fmt.Sprintf("topic_prefix = %q\n", prefix) + home.hubConfig("\n[homeassistant]\ndiscovery_prefix = \"find/here\"\n"+
			service("lamp", `priority = "required"`)+service("spare", `priority = "required"`)))
	}
	below("house")
	w.kitchen.InstallShell("lamp")
	w.kitchen.InstallShell("spare")
	agent := w.kitchen.Start()
	w.hub = home.StartHub()
	w.Start()
	w.AddMQTT(home.external.host.Address(), "username", "observer", "password", home.external.password)
	w.DiscoverAt("find/here")
	shown := func(s haStates) bool {
		return s.Is("on", "binary_sensor.dominion", "binary_sensor.dominion_ready", "binary_sensor.dominion_kitchen", "switch.dominion_lamp") &&
			s.Is("running", "sensor.dominion_lamp_state")
	}
	names := []string{"Dominion home", "kitchen", "lamp", "spare"}
	w.Until(wellAgain, "the home is there", shown)
	w.wellAt("find/here", names, wellAgain, "with other prefixes")
	w.quiet("with other prefixes")

	w.Call("switch.turn_off", "switch.dominion_lamp", nil)
	w.Until(wellAgain, "lamp is off and stopped", func(s haStates) bool {
		return s.Is("off", "switch.dominion_lamp") && s.Is("stopped", "sensor.dominion_lamp_state")
	})
	w.Call("switch.turn_on", "switch.dominion_lamp", nil)
	w.Until(wellAgain, "lamp is on", shown)

	t.Log("the hub stops, and a device is deleted")
	w.hub.Stop()
	w.Until(wellAgain, "the hub is away, and all that it tells", func(s haStates) bool {
		return s.Is("off", "binary_sensor.dominion") &&
			s.Is("unavailable", "binary_sensor.dominion_ready", "binary_sensor.dominion_kitchen", "sensor.dominion_kitchen_uptime", "switch.dominion_lamp", "sensor.dominion_lamp_state")
	})
	devices, _ := w.Registered()
	for _, d := range devices {
		if d.Name == "spare" {
			w.Delete(d)
		}
	}
	w.hub = home.StartHub()
	w.Until(wellAgain, "the home is there", shown)
	w.hub.AwaitLog("deleted in Home Assistant while the hub was away", "service_spare")
	names = names[:3]
	w.wellAt("find/here", names, wellAgain, "after a device was deleted while the hub was away")
	w.quiet("after a device was deleted while the hub was away", deletions...)

	t.Log("the broker forgets everything")
	home.external.process.Kill()
	w.Until(wellAgain, "nothing is there", func(s haStates) bool { return s.Is("unavailable", "binary_sensor.dominion", "switch.dominion_lamp") })
	home.external.start()
	w.Until(wellAgain, "the home is there", shown)
	w.wellAt("find/here", names, wellAgain, "after the broker forgot everything")
	w.quiet("after the broker forgot everything", away...)

	t.Log("the topics of the dominion have another prefix")
	agent.Stop()
	w.hub.Stop()
	below("villa")
	w.kitchen.Start()
	w.hub = home.StartHub()
	w.Until(wellAgain, "the home is there", shown)
	w.wellAt("find/here", names, wellAgain, "with another prefix of topics")
	w.Call("switch.turn_off", "switch.dominion_lamp", nil)
	w.Until(wellAgain, "lamp is off and stopped", func(s haStates) bool {
		return s.Is("off", "switch.dominion_lamp") && s.Is("stopped", "sensor.dominion_lamp_state")
	})
	w.quiet("with another prefix of topics")
	eventually(t, "nothing is retained below the former prefix", func() bool {
		o := home.Observe("house/#")
		defer o.Close()
		left := o.Retained()
		for topic := range left {
			if !strings.HasPrefix(topic, "house/") { // the observer's own mark
				delete(left, topic)
			}
		}
		return len(left) == 0
	})
}

// opens gives the broker a listener without TLS: the dialogue of Home Assistant
// wants certificates as files of its own.
func (m *mosquitto) opens() {
	m.host.t.Helper()
	m.process.Kill()
	file := filepath.Join(m.host.Dir, "mosquitto.conf")
	text, err := os.ReadFile(file)
	m.host.must(err)
	m.host.must(os.WriteFile(file, append([]byte("listener 1883\n"), text...), 0o600))
	m.start()
}
