package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The automations and the blueprint of the documents do in the real Home
// Assistant what is said of them, as does an automation on a device trigger.
func TestHomeAssistantAutomations(t *testing.T) {
	home := onEmbedded(t)
	w := &automated{homeAssistant: newHomeAssistant(t, home.Host("homeassistant")), home: home, kitchen: home.Domain("kitchen", "compute")}
	w.kitchen.Install("web")
	w.version("1.0.0")
	w.kitchen.Write("broken", "Makefile", "run:\n\t@echo no; exit 1\n")
	w.configure("")
	w.hub, _, _ = home.Up(w.kitchen)
	w.copy("problem.yaml", "blueprints/automation/dominion/problem.yaml", "")
	w.Start()
	w.AddMQTT(home.Hub.Address())
	w.Until(wellAgain, "web is well", webIsWell)

	w.load()
	w.crashed()
	w.failed()
	w.atNight()
	w.updated()
	w.away()
	lines, _ := w.process.log.from(0)
	for _, line := range lines {
		if strings.Contains(line, "homeassistant.components.automation") && containsAny(line, " WARNING ", " ERROR ") {
			t.Errorf("Home Assistant complains: %s", line)
		}
	}
}

func webIsWell(s haStates) bool {
	return s.Is("on", "switch.dominion_web") && s.Is("running", "sensor.dominion_web_state") && s.Is("off", "binary_sensor.dominion_web_problem")
}

// automated is a home of one domain with a Home Assistant that has the automations
// of the documents.
type automated struct {
	*homeAssistant
	home    *Home
	hub     *Process
	kitchen *Domain
}

func (w *automated) configure(more string) {
	w.t.Helper()
	w.home.Configure(service("web", `priority = "required"`, `update = "manual"`, healthHTTP, `restart = { delay = "100ms", max_delay = "500ms" }`) + more)
}

// version puts a version of web into the catalog of the kitchen.
func (w *automated) version(v string) {
	w.kitchen.Write("web", "service.toml", fmt.Sprintf("version = %q\n", v))
}

// copy puts an example of the documents into Home Assistant's configuration, and
// more behind it; replaced are pairs of texts.
func (w *automated) copy(example, to, more string, replaced ...string) {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", "homeassistant", example))
	w.must(err)
	text := string(b)
	for i := 0; i+1 < len(replaced); i += 2 {
		if !strings.Contains(text, replaced[i]) {
			w.t.Fatalf("%s has no %q", example, replaced[i])
		}
		text = strings.ReplaceAll(text, replaced[i], replaced[i+1])
	}
	file := filepath.Join(w.host.Dir, "conf", to)
	w.must(os.MkdirAll(filepath.Dir(file), 0o755))
	w.must(writeFile(file, text+more))
}

// load gives Home Assistant the automations: those of the documents, of which one
// waits a second instead of five minutes, one of the blueprint, and one on the
// device trigger that its editor offers.
func (w *automated) load() {
	w.t.Helper()
	w.copy("automations.yaml", "automations.yaml", `
- id: dominion_problems
  alias: "Dominion: problems"
  use_blueprint:
    path: dominion/problem.yaml
    input:
      problems: [binary_sensor.dominion_web_problem, binary_sensor.dominion_kitchen_domain_problem]
`, "minutes: 5", "seconds: 1")
	w.must(w.request(http.MethodPost, "/api/services/automation/reload", map[string]any{}, nil))

	devices, _ := w.Registered()
	var offered []map[string]any
	for _, d := range devices {
		if d.Name == "web" {
			var err error
			offered, err = w.Triggers(d)
			w.must(err)
		}
	}
	i := slices.IndexFunc(offered, func(o map[string]any) bool { return o["subtype"] == "web" && o["type"] == "crashed" })
	if i < 0 {
		w.t.Fatalf("the device web offers no trigger that it crashed: %v", offered)
	}
	delete(offered[i], "metadata")
	w.must(w.request(http.MethodPost, "/api/config/automation/config/dominion_by_device", map[string]any{
		"alias": "Dominion: by device", "triggers": offered[i : i+1],
		"actions": []any{map[string]any{"action": "persistent_notification.create", "data": map[string]any{
			"title": "by device", "message": "{{ trigger.payload_json.message }}", "notification_id": "dominion_by_device",
		}}},
	}, nil))
	ids := []string{
		"dominion_web_crashed", "dominion_any_failed", "dominion_kitchen_away", "dominion_web_at_night", "dominion_web_update",
		"dominion_problems", "dominion_by_device",
	}
	w.Until(wellAgain, "all automations are on", func(s haStates) bool {
		for _, id := range ids {
			if w.automation(s, id) == "" {
				return false
			}
		}
		return true
	})
}

// automation returns the entity of an automation that is on.
func (w *automated) automation(s haStates, id string) string {
	for entity, state := range s {
		if strings.HasPrefix(entity, "automation.") && state.Attributes["id"] == id && state.State == "on" {
			return entity
		}
	}
	return ""
}

// notification is what Home Assistant shows its people.
type notification struct {
	ID      string `json:"notification_id"`
	Title   string
	Message string
}

// notified waits until there is a notification with a title, and a message that
// has all the words.
func (w *automated) notified(within time.Duration, id, title string, words ...string) {
	w.t.Helper()
	var all []notification
	defer func() {
		if w.t.Failed() {
			w.t.Logf("the notifications are %+v", all)
		}
	}()
	eventuallyWithin(w.t, within, "the notification "+id, func() bool {
		all = nil
		w.Ask("persistent_notification/get", nil, &all)
		return slices.ContainsFunc(all, func(n notification) bool {
			return n.ID == id && n.Title == title && containsAll(n.Message, words)
		})
	})
}

// dismissed waits until a notification is not there.
func (w *automated) dismissed(within time.Duration, id string) {
	w.t.Helper()
	eventuallyWithin(w.t, within, "the notification "+id+" is gone", func() bool {
		var all []notification
		w.Ask("persistent_notification/get", nil, &all)
		return !slices.ContainsFunc(all, func(n notification) bool { return n.ID == id })
	})
}

// crashed: web dies, and Home Assistant tells it by the event, by the device
// trigger, and by the blueprint.
func (w *automated) crashed() {
	w.t.Helper()
	starts := w.home.Journal.Of(w.t, "start", "web")
	kill(w.t, starts[len(starts)-1].PID)
	w.notified(wellAgain, "dominion_web_crashed", "web crashed", "ended by a signal")
	w.notified(wellAgain, "dominion_by_device", "by device", "ended by a signal")
	w.notified(wellAgain, "dominion_binary_sensor.dominion_web_problem", "web has a problem", "kitchen", "ended by a signal")
	w.home.Journal.Await(w.t, len(starts)+1, "start", "web")
}

// failed: a service that cannot run is told of by the hub's event.
func (w *automated) failed() {
	w.t.Helper()
	w.configure(service("broken", `priority = "required"`, `restart = { delay = "100ms", max_delay = "100ms" }`))
	w.hub.Signal(syscall.SIGHUP)
	w.notified(time.Minute, "dominion_broken_failed", "broken failed", "exited with code 1")
	w.configure("")
	w.hub.Signal(syscall.SIGHUP)
}

// atNight: what the automation does at both times, done now. A service that is
// off has no problem, so the blueprint takes back that it had one.
func (w *automated) atNight() {
	w.t.Helper()
	var config struct{ Actions []any }
	w.must(w.request(http.MethodGet, "/api/config/automation/config/dominion_web_at_night", nil, &config))
	at := func(id string) {
		w.Ask("execute_script", map[string]any{"sequence": config.Actions, "variables": map[string]any{"trigger": map[string]any{"id": id}}}, nil)
	}
	at("off")
	w.Until(wellAgain, "web is off", func(s haStates) bool {
		return s.Is("off", "switch.dominion_web") && s.Is("stopped", "sensor.dominion_web_state")
	})
	w.dismissed(wellAgain, "dominion_binary_sensor.dominion_web_problem")
	at("on")
	w.Until(wellAgain, "web is on", webIsWell)
}

// updated: the automation rolls a new version out, and does nothing without one.
func (w *automated) updated() {
	w.t.Helper()
	run := func() {
		w.Call("automation.trigger", w.automation(w.States(), "dominion_web_update"), map[string]any{"skip_condition": false})
	}
	// Home Assistant has no entity to ask about before.
	w.Until(wellAgain, "no new version is offered", func(s haStates) bool { return s.Is("off", "update.dominion_web_update") })
	before := w.home.Journal.Starts(w.t)
	run()
	if n := w.home.Journal.Starts(w.t); n != before {
		w.t.Errorf("without a new version %d processes were started", n-before)
	}
	w.version("1.1.0")
	w.Until(wellAgain, "the new version is offered", func(s haStates) bool { return s.Is("on", "update.dominion_web_update") })
	run()
	w.Until(time.Minute, "the new version runs", func(s haStates) bool {
		return webIsWell(s) && s.Is("1.1.0", "sensor.dominion_web_version")
	})
}

// away: a machine without current is told of, with the reason.
func (w *automated) away() {
	w.t.Helper()
	w.kitchen.PowerCut()
	w.notified(time.Minute, "dominion_kitchen_away", "kitchen is away", "lost")
	w.notified(wellAgain, "dominion_binary_sensor.dominion_kitchen_domain_problem", "kitchen has a problem")
	w.kitchen.LinkUp()
	w.kitchen.Start()
	w.dismissed(time.Minute, "dominion_binary_sensor.dominion_kitchen_domain_problem")
}
