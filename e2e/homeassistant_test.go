package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what is seen into testdata")

// wellAgain is the promise: so soon after both are there all is as it was.
const wellAgain = 30 * time.Second

// The real Home Assistant shows what a dominion tells it, turns its services
// off and on, and keeps no ghosts, whoever of the two is restarted.
func TestHomeAssistant(t *testing.T) {
	w := newShownHome(t)
	w.firstSight()
	w.switched()
	w.replicas()
	w.updated()
	w.drained()
	w.replanned()
	w.plugPulled()
	w.microdomain()
	w.events()
	w.renamed()
	w.deleted()
	w.restarted()
}

// shownHome is a home of two domains with a Home Assistant on a machine of
// its own.
type shownHome struct {
	*homeAssistant
	home            *Home
	hub             *Process
	kitchen, cellar *Domain
	services        []string // those that have a device
	others          []string // more devices, by their names
	colour          string   // of those services that are for one test
	read            int      // how far the log was judged
}

func newShownHome(t *testing.T) *shownHome {
	t.Helper()
	home := onEmbedded(t)
	w := &shownHome{
		homeAssistant: newHomeAssistant(t, home.Host("homeassistant")), home: home,
		kitchen: home.Domain("kitchen", "compute", "lamp"), cellar: home.Domain("cellar", "compute", "spare"),
		services: []string{"lamp", "spare", "web"},
	}
	for _, d := range []*Domain{w.kitchen, w.cellar} {
		d.Install("web")
		d.InstallShell("lamp")
		d.InstallShell("spare")
		d.InstallShell("later")
		d.InstallShell("last")
	}
	w.version("1.0.0")
	w.configure()
	w.hub, _, _ = home.Up(w.kitchen, w.cellar)
	w.Start()
	w.AddMQTT(home.Hub.Address())
	return w
}

// configure writes the hub's configuration with the services of w.
func (w *shownHome) configure() {
	w.t.Helper()
	all := map[string]string{
		"web":  service("web", `priority = "required"`, `replicas = 1`, `traits = ["compute"]`, healthHTTP),
		"lamp": service("lamp", `priority = "required"`, `traits = ["lamp"]`, `dependencies = ["web"]`),
	}
	var text string
	for _, name := range w.services {
		if all[name] == "" {
			all[name] = service(name, `priority = "required"`, `traits = ["spare"]`, `update = "manual"`, fmt.Sprintf("environment = { COLOUR = %q }", w.colour))
		}
		text += all[name]
	}
	w.home.Configure(text)
}

// version puts a version of spare into the catalog of the cellar.
func (w *shownHome) version(v string) {
	w.cellar.Write("spare", "service.toml", fmt.Sprintf("version = %q\n", v))
}

// reload has the hub take the services of w.
func (w *shownHome) reload(services ...string) {
	w.t.Helper()
	w.services = services
	w.configure()
	w.hub.Signal(syscall.SIGHUP)
}

// well waits until Home Assistant shows all that there is, and nothing else.
func (w *shownHome) well(within time.Duration, when string) {
	w.t.Helper()
	names := append(append([]string{"Dominion home", "kitchen", "cellar"}, w.others...), w.services...)
	w.wellAt("homeassistant", names, within, when)
}

// wellAt waits until Home Assistant shows what is announced below a prefix, which
// has these names, and nothing else.
func (w *shownHome) wellAt(prefix string, names []string, within time.Duration, when string) {
	w.t.Helper()
	began := time.Now()
	names = slices.Sorted(slices.Values(names))
	o := w.home.Observe(prefix + "/#")
	defer o.Close()
	var wrong []string
	defer func() {
		if len(wrong) > 0 {
			w.t.Logf("%s:\n%s", when, strings.Join(wrong, "\n"))
		}
	}()
	eventuallyWithin(w.t, within-time.Since(began), when+" all is well in Home Assistant", func() bool {
		wrong = w.wrong(o.Latest(), names)
		return len(wrong) == 0
	})
	w.t.Logf("%s all is well after %v", when, time.Since(began).Round(100*time.Millisecond))
}

// announced is a device discovery message, as far as Home Assistant's
// registries show it.
type announced struct {
	Device struct {
		Identifiers []string
		Name, Model string
		ViaDevice   string `json:"via_device"`
	}
	Components map[string]struct {
		Platform        string
		Type, Subtype   string // of a device trigger
		UniqueID        string `json:"unique_id"`
		DefaultEntityID string `json:"default_entity_id"`
		Category        string `json:"entity_category"`
		Disabled        *bool  `json:"enabled_by_default"`
	}
}

// wrong compares what is announced at the broker with the registries and the
// states in Home Assistant: devices, what they are joined to, entities, ids,
// categories, and that each is available.
func (a *homeAssistant) wrong(v View, names []string) []string {
	var all []string
	fault := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	devices, entities := a.Registered()
	states := a.States()
	var seen []string
	for topic, m := range v {
		if !strings.Contains(topic, "/device/") || m.Payload == "" {
			continue
		}
		var c announced
		a.must(json.Unmarshal([]byte(m.Payload), &c))
		id := c.Device.Identifiers[0]
		d, ok := devices[id]
		if !ok {
			fault("device %s (%s) is announced and is not there", c.Device.Name, id)
			continue
		}
		delete(devices, id)
		seen = append(seen, d.Name)
		if d.Name != c.Device.Name || d.Manufacturer != "Dominion" || d.Model != c.Device.Model || (d.ViaDevice == "") != (c.Device.ViaDevice == "") {
			fault("device %s: %+v, announced %+v", id, d, c.Device)
		}
		triggers, err := a.Triggers(d)
		if err != nil { // it is gone since
			fault("device %s: %v", d.Name, err)
		}
		for key, part := range c.Components {
			if part.Platform == "device_automation" && part.Type != "" {
				if !slices.ContainsFunc(triggers, func(t map[string]any) bool { return t["type"] == part.Type && t["subtype"] == part.Subtype }) {
					fault("%s: %s is announced and is not offered", d.Name, key)
				}
				continue
			}
			if part.UniqueID == "" {
				continue // the removal of a component
			}
			e, ok := entities[part.UniqueID]
			if !ok {
				fault("%s: %s is announced and is not there", d.Name, key)
				continue
			}
			delete(entities, part.UniqueID)
			if e.Device != d.ID || e.ID != part.DefaultEntityID || e.Category != part.Category {
				fault("%s: %s is %+v, announced %+v", d.Name, key, e, part)
			}
			if part.Disabled != nil && !*part.Disabled {
				continue
			}
			switch s, ok := states[e.ID]; {
			case !ok:
				fault("%s has no state", e.ID)
			case s.State == "unavailable", s.State == "unknown" && !silent(e.ID):
				fault("%s is %s", e.ID, s.State)
			}
		}
	}
	for id, d := range devices {
		fault("a ghost: device %s (%s)", d.Name, id)
	}
	for id, e := range entities {
		fault("a ghost: entity %s (%s)", e.ID, id)
	}
	if slices.Sort(seen); !slices.Equal(seen, names) {
		fault("devices %q, want %q", seen, names)
	}
	slices.Sort(all)
	return all
}

// silent reports whether an entity may have no state yet: a button that nobody
// has pressed, an event or an error that has not happened, a service's figures,
// which come each 30 s.
func silent(entity string) bool {
	platform, name, _ := strings.Cut(entity, ".")
	return platform == "button" || platform == "event" || containsAny(name, "_last_error", "_cpu", "_memory")
}

// quiet fails where Home Assistant's log blames MQTT since it was last asked.
func (w *shownHome) quiet(when string, allowed ...string) {
	w.t.Helper()
	var bad []string
	if bad, w.read = w.Complaints(w.read, allowed...); len(bad) > 0 {
		w.t.Errorf("%s Home Assistant complains:\n%s", when, strings.Join(bad, "\n"))
	}
}

// lampOn waits until lamp and web run and are seen to.
func (w *shownHome) lampOn(when string) {
	w.t.Helper()
	w.Until(wellAgain, when+" web and lamp run", func(s haStates) bool {
		return s.Is("on", "switch.dominion_lamp", "switch.dominion_web") &&
			s.Is("running", "sensor.dominion_lamp_state", "sensor.dominion_web_state") &&
			s.Is("off", "binary_sensor.dominion_lamp_problem", "binary_sensor.dominion_web_problem")
	})
	left := w.home.Journal.Running(w.t)
	for _, name := range []string{"web", "lamp"} {
		if n := len(running(left, name)); n != 1 {
			w.t.Errorf("%s Home Assistant shows that %s runs; there run %q", when, name, left)
		}
	}
}

func (w *shownHome) firstSight() {
	w.t.Helper()
	w.well(wellAgain, "after MQTT was added")
	w.lampOn("at first sight")
	// its version comes a moment after the service, and its entities seconds
	// after the others of the device
	w.Until(wellAgain, "the services have a version", func(s haStates) bool {
		return s.Is("off", "update.dominion_spare_update", "update.dominion_lamp_update", "update.dominion_web_update") && s.Is("1.0.0", "sensor.dominion_spare_version")
	})
	w.Until(2*time.Minute, "the figures of the services are there", func(s haStates) bool {
		for _, name := range w.services {
			if !s.Known("sensor.dominion_"+name+"_cpu") || !s.Known("sensor.dominion_"+name+"_memory") {
				return false
			}
		}
		return true
	})
	w.transcript()
	w.quiet("at first sight")
}

// transcript compares all that a person can see with what was reviewed.
func (w *shownHome) transcript() {
	w.t.Helper()
	devices, entities := w.Registered()
	states := w.States()
	var b strings.Builder
	b.WriteString("# What the real Home Assistant shows of a home: devices, and of each the entities\n# with name, category, device class, unit, icon and state. Written by -update.\n")
	byID := make(map[string]haDevice)
	for _, d := range devices {
		byID[d.ID] = d
	}
	for _, d := range slices.SortedFunc(maps.Values(devices), func(a, b haDevice) int {
		return strings.Compare(a.Model+a.Name, b.Model+b.Name)
	}) {
		via := ""
		if d.ViaDevice != "" {
			via = ", via " + byID[d.ViaDevice].Name
		}
		fmt.Fprintf(&b, "\n%s: %s of %s%s\n", d.Name, d.Model, d.Manufacturer, via)
		for _, e := range slices.SortedFunc(maps.Values(entities), func(a, b haEntity) int { return strings.Compare(a.ID, b.ID) }) {
			if e.Device != d.ID || strings.HasSuffix(e.ID, "_temperature") {
				continue // not every machine has a thermometer
			}
			s := states[e.ID]
			words := []string{"  " + e.ID, fmt.Sprintf("%q", s.Attributes["friendly_name"])}
			for _, w := range []any{e.Category, s.Attributes["device_class"], s.Attributes["state_class"], s.Attributes["unit_of_measurement"], s.Attributes["icon"]} {
				if w != nil && w != "" {
					words = append(words, fmt.Sprint(w))
				}
			}
			fmt.Fprintf(&b, "%s = %s\n", strings.Join(words, " "), steadyState(s))
		}
	}
	file := filepath.Join("testdata", "homeassistant.txt")
	if *update {
		w.must(writeFile(file, b.String()))
	}
	want, err := os.ReadFile(file)
	w.must(err)
	if got := b.String(); got != string(want) {
		w.t.Errorf("%s is otherwise (-update writes it anew):\n%s", file, difference(string(want), got))
	}
}

// steadyState is a state without what differs from machine to machine.
func steadyState(s haState) string {
	_, err := time.Parse(time.RFC3339, s.State)
	switch unit := s.Attributes["unit_of_measurement"]; {
	case s.State == "unavailable", s.State == "unknown":
		return s.State
	case strings.Contains(s.State, "+content."):
		return "(of its content)"
	case err == nil:
		return "(a time)"
	case unit != nil, s.Attributes["icon"] == "mdi:gauge":
		return "(a number)"
	}
	return s.State
}

// difference shows the lines of two texts that the other has not.
func difference(was, is string) string {
	a, b := strings.Split(was, "\n"), strings.Split(is, "\n")
	var all []string
	for _, l := range a {
		if !slices.Contains(b, l) {
			all = append(all, "- "+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			all = append(all, "+ "+l)
		}
	}
	return strings.Join(all, "\n")
}

// switched: a switch turned in Home Assistant stops and starts the process.
func (w *shownHome) switched() {
	w.t.Helper()
	first := w.home.Journal.Of(w.t, "start", "lamp")
	w.Call("switch.turn_off", "switch.dominion_lamp", nil)
	w.Until(wellAgain, "lamp is off and stopped", func(s haStates) bool {
		return s.Is("off", "switch.dominion_lamp", "binary_sensor.dominion_lamp_problem") && s.Is("stopped", "sensor.dominion_lamp_state")
	})
	if alive(first[len(first)-1].PID) {
		w.t.Error("lamp was turned off in Home Assistant, and its process lives")
	}
	w.Call("switch.turn_on", "switch.dominion_lamp", nil)
	w.home.Journal.Await(w.t, len(first)+1, "start", "lamp")
	w.lampOn("after it was turned on")

	w.t.Log("and the button starts another one")
	w.Call("button.press", "button.dominion_lamp_restart", nil)
	w.home.Journal.Await(w.t, len(first)+2, "start", "lamp")
	w.lampOn("after its button was pressed")
	w.quiet("after lamp was switched")
}

// replicas: a number in Home Assistant is so many processes.
func (w *shownHome) replicas() {
	w.t.Helper()
	for _, n := range []int{2, 1} {
		w.Call("number.set_value", "number.dominion_web_replicas", map[string]any{"value": n})
		w.Until(wellAgain, fmt.Sprintf("web runs %d times", n), func(s haStates) bool {
			return s.Is(fmt.Sprint(n), "number.dominion_web_replicas", "sensor.dominion_web_running") && s.Is("off", "binary_sensor.dominion_web_problem")
		})
		// one that ends counts no more before its process is gone
		eventually(w.t, fmt.Sprintf("%d processes of web live", n), func() bool { return len(running(w.home.Journal.Running(w.t), "web")) == n })
	}
	w.quiet("after the number of web was changed")
}

// updated: a version that is newer in the catalog is offered, and rolled out
// when a person says so.
func (w *shownHome) updated() {
	w.t.Helper()
	const entity = "update.dominion_spare_update"
	w.version("1.1.0")
	w.Until(wellAgain, "the new version is offered", func(s haStates) bool {
		return s.Is("on", entity) && s[entity].Attributes["installed_version"] == "1.0.0" && s[entity].Attributes["latest_version"] == "1.1.0"
	})
	n := len(w.home.Journal.Of(w.t, "start", "spare"))
	w.Call("update.install", entity, nil)
	w.home.Journal.Await(w.t, n+1, "start", "spare")
	w.Until(time.Minute, "the new version runs", func(s haStates) bool {
		return s.Is("off", entity, "binary_sensor.dominion_spare_problem") && s[entity].Attributes["installed_version"] == "1.1.0" &&
			s.Is("1.1.0", "sensor.dominion_spare_version")
	})
	w.quiet("after an update")
}

// renamed: a service that has another name leaves nothing of the former.
func (w *shownHome) renamed() {
	w.t.Helper()
	w.reload("lamp", "later", "web")
	w.Until(wellAgain, "later is on", func(s haStates) bool { return s.Is("on", "switch.dominion_later") })
	w.well(wellAgain, "after a service was renamed")
	w.quiet("after a service was renamed")
}

// deletions are what Home Assistant says to itself when a person deletes a
// device: it publishes the empty config once for each entity and hears each.
var deletions = []string{"No device components to cleanup"}

// deleted: what a person deletes stays away, through restarts of both.
func (w *shownHome) deleted() {
	w.t.Helper()
	devices, _ := w.Registered()
	for _, d := range devices {
		if d.Name == "later" {
			w.Delete(d)
		}
	}
	w.services = []string{"lamp", "web"}
	w.well(wellAgain, "after a device was deleted")
	w.hub.Stop()
	w.hub = w.home.StartHub()
	w.Until(wellAgain, "the hub is back", func(s haStates) bool { return s.Is("on", "binary_sensor.dominion_ready") })
	w.well(wellAgain, "after a device was deleted and the hub restarted")
	w.quiet("after a device was deleted", append(deletions, away...)...)
	w.Stop()
	w.Start()
	w.read = 0
	// what comes after all that the hub says at a birth
	w.reload("lamp", "later", "last", "web")
	w.Until(wellAgain, "last is on", func(s haStates) bool { return s.Is("on", "switch.dominion_last") })
	w.services = []string{"lamp", "last", "web"}
	w.well(wellAgain, "after a device was deleted and Home Assistant restarted")
	w.quiet("after a device was deleted")

	w.t.Log("until its definition is another")
	w.colour = "blue"
	w.reload("lamp", "later", "last", "web")
	w.Until(wellAgain, "later is on again", func(s haStates) bool { return s.Is("on", "switch.dominion_later") })
	w.well(wellAgain, "after a device that was deleted was defined anew")
	w.reload("lamp", "last", "web")
	w.well(wellAgain, "without it")
	eventuallyWithin(w.t, wellAgain, "later has ended", func() bool { return len(running(w.home.Journal.Running(w.t), "later")) == 0 })
	w.quiet("after a device was defined anew")
}

// away are the words of what Home Assistant says of a broker that is not
// there.
var away = []string{"Failed to connect to MQTT server", "Error returned from MQTT server", "No ACK from MQTT server", "The client is not currently connected"}

// restarted: both of them, in every order.
func (w *shownHome) restarted() {
	w.t.Helper()
	hubEnds := func() { w.hub.Stop() }
	hubDies := func() { w.hub.Kill() }
	hubBegins := func() { w.hub = w.home.StartHub() }
	haEnds, haBegins := func() { w.Stop() }, func() { w.Launch(); w.read = 0 }
	// what was there when nobody looked is not there afterwards
	with := func(services ...string) func() {
		return func() { w.services = services; w.configure() }
	}
	for _, order := range []struct {
		what  string
		steps []func()
	}{
		{"the hub alone", []func(){hubEnds, hubBegins}},
		{"the hub alone, killed", []func(){hubDies, hubBegins}},
		{"Home Assistant alone", []func(){haEnds, haBegins}},
		{"a service removed without Home Assistant", []func(){haEnds, func() { w.reload("lamp", "web") }, haBegins}},
		{"both, Home Assistant around the hub", []func(){haEnds, hubEnds, with("lamp", "last", "web"), hubBegins, haBegins}},
		{"both, the hub killed around Home Assistant", []func(){hubDies, haEnds, with("lamp", "web"), haBegins, hubBegins}},
		{"both, Home Assistant first", []func(){haEnds, hubEnds, haBegins, hubBegins}},
		{"both, the hub first", []func(){hubEnds, haEnds, hubBegins, haBegins}},
	} {
		w.t.Log("restart of " + order.what)
		before, starts := w.home.Journal.Running(w.t), w.home.Journal.Starts(w.t)
		same := slices.Clone(w.services)
		for _, step := range order.steps {
			step()
		}
		if w.socket.gone() {
			w.AwaitRunning()
		}
		w.well(wellAgain, "after a restart of "+order.what)
		w.lampOn("after a restart of " + order.what)
		if slices.Equal(same, w.services) {
			w.home.Journal.Undisturbed(w.t, "after a restart of "+order.what, before, starts)
		}
		w.quiet("after a restart of "+order.what, away...)
	}
}
