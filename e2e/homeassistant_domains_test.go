package e2e

import (
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// drained: a machine that is drained in Home Assistant is left by what may run
// elsewhere, and taken again.
func (w *shownHome) drained() {
	w.t.Helper()
	w.Call("switch.turn_on", "switch.dominion_kitchen_drain", nil)
	w.Until(wellAgain, "the kitchen is drained and web runs in the cellar", func(s haStates) bool {
		domains, _ := s["sensor.dominion_web_state"].Attributes["domains"].([]any)
		return s.Is("on", "switch.dominion_kitchen_drain") && s.Is("running", "sensor.dominion_web_state") && slices.Equal(domains, []any{"cellar"})
	})
	w.Call("switch.turn_off", "switch.dominion_kitchen_drain", nil)
	w.Until(wellAgain, "the kitchen is not drained", func(s haStates) bool { return s.Is("off", "switch.dominion_kitchen_drain") })
	w.lampOn("after a drain")
	w.quiet("after a drain")
}

// replanned: the button has the hub look at everything, and as nothing is wrong
// nothing is touched.
func (w *shownHome) replanned() {
	w.t.Helper()
	tree := topics.NewTree("")
	request, response := tree.Request(topics.VerbReplan)
	o := w.home.Observe(request, response)
	defer o.Close()
	before, starts := w.home.Journal.Running(w.t), w.home.Journal.Starts(w.t)
	mark := o.Now()
	w.Call("button.press", "button.dominion_replan", nil)
	o.AwaitTopic(mark, request, "{}")
	answer := o.Await("the hub answers the button", mark, func(m Message) bool { return m.Topic == response })
	if r := decode[topics.Reply](w.t, answer); r.Status != topics.StatusOK {
		w.t.Errorf("the button is answered by %+v", r)
	}
	w.hub.AwaitLog("planning anew")
	w.lampOn("after the home was planned anew")
	w.home.Journal.Undisturbed(w.t, "after the home was planned anew", before, starts)
	w.quiet("after the home was planned anew")
}

// plugPulled: a machine without current is unavailable, what it alone can run
// is a problem, and both end with it.
func (w *shownHome) plugPulled() {
	w.t.Helper()
	w.kitchen.PowerCut()
	w.Until(wellAgain, "the kitchen is gone and lamp has a problem", func(s haStates) bool {
		return s.Is("off", "binary_sensor.dominion_kitchen") &&
			s.Is("unavailable", "sensor.dominion_kitchen_load", "sensor.dominion_kitchen_uptime") &&
			s.Is("on", "binary_sensor.dominion_lamp_problem", "switch.dominion_lamp") &&
			s.Is("running", "sensor.dominion_web_state") && s.Is("off", "binary_sensor.dominion_web_problem")
	})
	if reason := w.States()["sensor.dominion_lamp_state"].Attributes["reason"]; reason == nil || reason == "" {
		w.t.Error("Home Assistant does not show why lamp is pending")
	}
	w.kitchen.LinkUp()
	w.kitchen.Start()
	w.lampOn("with current again")
	w.well(wellAgain, "with current again")
	w.quiet("after a plug was pulled")
}

// microdomain: a microcontroller is shown with the state of its one service,
// which others see as a service; its loss is a problem of both; and it leaves
// with all its entities when it is forgotten.
func (w *shownHome) microdomain() {
	w.t.Helper()
	tree := topics.NewTree("")
	say := func(word string) { w.home.Publish(tree.Domain(topics.DomainAvailability, "desk-lamp"), word, "-r") }
	w.reload("lamp", "light", "spare", "web")
	say(topics.Online)
	w.home.Publish(tree.Domain(topics.DomainStatus, "desk-lamp"), `{"name": "desk-lamp", "micro": true, "services": [{"service": "light", "state": "running"}]}`, "-r")
	shown := func(s haStates) bool {
		_, switched := s["switch.dominion_light"] // it would do nothing
		return !switched && s.Is("on", "binary_sensor.dominion_desk_lamp") &&
			s.Is("running", "sensor.dominion_desk_lamp_domain_state", "sensor.dominion_light_state") &&
			s.Is("off", "binary_sensor.dominion_desk_lamp_domain_problem", "binary_sensor.dominion_light_problem") &&
			s["sensor.dominion_desk_lamp_domain_state"].Attributes["service"] == "light"
	}
	w.Until(wellAgain, "the microdomain and its light are there", shown)
	w.others = []string{"desk-lamp"}
	w.well(wellAgain, "with a microdomain")

	say(topics.Offline) // its will
	w.Until(wellAgain, "the microdomain is away, and its light with it", func(s haStates) bool {
		return s.Is("off", "binary_sensor.dominion_desk_lamp") &&
			s.Is("unavailable", "sensor.dominion_desk_lamp_domain_state") &&
			s.Is("on", "binary_sensor.dominion_desk_lamp_domain_problem", "binary_sensor.dominion_light_problem") &&
			s.Is("pending", "sensor.dominion_light_state")
	})
	for _, entity := range []string{"binary_sensor.dominion_desk_lamp_domain_problem", "sensor.dominion_light_state"} {
		if reason, _ := w.States()[entity].Attributes["reason"].(string); !strings.Contains(reason, "offline") {
			w.t.Errorf("%s does not say why: %q", entity, reason)
		}
	}
	say(topics.Online)
	w.Until(wellAgain, "the microdomain is back", shown)
	w.well(wellAgain, "with a microdomain that is back")
	w.firmware()

	say(topics.Offline)
	w.Until(wellAgain, "the microdomain is away", func(s haStates) bool { return s.Is("off", "binary_sensor.dominion_desk_lamp") })
	if r := w.home.Ctl("forget", "desk-lamp"); r.Code != 0 {
		w.t.Errorf("forget: %+v", r)
	}
	w.Until(wellAgain, "its last event is told", func(s haStates) bool {
		e := s["event.dominion_event"].Attributes
		return e["event_type"] == string(topics.DomainForgotten) && e["domain"] == "desk-lamp" && e["service"] == "" && e["message"] == "desk-lamp is forgotten"
	})
	w.others = nil
	w.reload("lamp", "spare", "web")
	w.well(wellAgain, "without it")
	w.quiet("after a microdomain")
}

// firmware: what the firmware of a microcontroller announces itself and the
// microdomain are one device, which is shown as the firmware announces it; and the
// microdomain goes without it.
func (w *shownHome) firmware() {
	w.t.Helper()
	const config = "homeassistant/switch/desk-lamp/light/config"
	devices, entities := w.Registered()
	before := len(devices)
	own := ""
	for _, e := range entities {
		if e.ID == "binary_sensor.dominion_desk_lamp" {
			own = e.Device
		}
	}
	w.home.Publish(config, `{"name":"Light","stat_t":"desk-lamp/light","cmd_t":"desk-lamp/light/set","avty_t":"dominion/domain/desk-lamp/availability","uniq_id":"ESPswitchlight",`+
		`"dev":{"ids":"a4cf12ef3b70","name":"Desk lamp","sw":"2026.10.1","mdl":"d1_mini","mf":"Espressif","cns":[["mac","a4:cf:12:ef:3b:70"]]}}`, "-r")
	eventuallyWithin(w.t, wellAgain, "the microdomain and its firmware are one device", func() bool {
		devices, entities = w.Registered()
		d := devices["a4cf12ef3b70"]
		if d.ID == "" || d.ID == own || len(devices) != before || d.Name != "Desk lamp" || d.Model != "d1_mini" || d.Manufacturer != "Espressif" || entities["ESPswitchlight"].Device != d.ID {
			return false
		}
		n := 0
		for unique, e := range entities {
			if strings.Contains(unique, "_domain_desk-lamp_") {
				if n++; e.Device != d.ID {
					return false
				}
			}
		}
		return n == 3 && w.States().Is("on", "binary_sensor.dominion_desk_lamp")
	})
	w.quiet("with the firmware of a microdomain")
	w.home.Publish(config, "", "-r")
	eventuallyWithin(w.t, wellAgain, "the entity of the firmware is gone", func() bool {
		_, entities = w.Registered()
		_, there := entities["ESPswitchlight"]
		return !there
	})
}

// events are all that the event entity told in this run of Home Assistant: each
// has a type of the closed list, and says in words what happened.
func (w *shownHome) events() {
	w.t.Helper()
	types := make(map[string]bool)
	for _, t := range topics.EventTypes() {
		types[string(t)] = true
	}
	all := w.socket.happened()
	for _, e := range all {
		kind, _ := e.Attributes["event_type"].(string)
		message, _ := e.Attributes["message"].(string)
		_, domain := e.Attributes["domain"].(string)
		_, service := e.Attributes["service"].(string)
		if _, err := time.Parse(time.RFC3339, e.State); !types[kind] || message == "" || !domain || !service || err != nil {
			w.t.Errorf("Home Assistant was told of %+v", e)
		}
	}
	if len(all) == 0 {
		w.t.Error("Home Assistant was told of no event")
	}
}
