package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/devices/devicestest"
	"github.com/jmbarzee/dominion/topics"
)

// A corpus of announcements in the shapes of many projects is published to the
// broker of a home. The real Home Assistant's registry is what it was recorded
// to be, and what dominionctl lists is what the registry has, but for the
// differences that are meant.
func TestHomeAssistantDevices(t *testing.T) {
	home := onEmbedded(t)
	w := &registryWatcher{homeAssistant: newHomeAssistant(t, home.Host("homeassistant")), home: home}
	home.Configure("")
	home.StartHub()
	w.Start()
	w.AddMQTT(home.Hub.Address())
	w.Until(wellAgain, "the hub is there", func(s haStates) bool { return s.Is("on", "binary_sensor.dominion_ready") })

	all := devicestest.Messages()
	w.messages = all
	for _, m := range all {
		home.Publish(m.Topic, m.Payload, "-r")
	}
	recorded := devicestest.Recorded()
	if *update {
		recorded = w.settled()
	}
	w.awaitRegistry("the registry has all the devices", recorded, func(d *devicestest.Device) { d.Availability = "" })
	// It subscribes to topics of availability in the order in which it comes upon
	// them, so it has them all when it has the last one.
	home.Publish("corpus/online", "online", "-r")
	home.Publish("homeassistant/sensor/corpus_marker/config", `{"name":"Corpus marker","unique_id":"corpus_marker","state_topic":"corpus/state","availability_topic":"corpus/online"}`, "-r")
	w.Until(wellAgain, "the topics of availability are subscribed to", func(s haStates) bool { return s.Is("unknown", "sensor.corpus_marker") })
	for _, m := range all { // so that both took the words of availability in the same order
		if !m.Config() {
			home.Publish(m.Topic, m.Payload, "-r")
		}
	}
	if *update {
		recorded = w.settled()
		w.record(recorded)
	}
	w.awaitRegistry("the registry is as it was recorded", recorded, nil)
	var rest []devicestest.Difference
	var unused []devicestest.Deliberate
	looked := time.Now()
	for {
		rest, unused = devicestest.Unexplained(devicestest.Differences(w.listed(), recorded, all))
		if len(rest)+len(unused) == 0 || time.Since(looked) > patience {
			break
		}
		time.Sleep(100 * time.Millisecond) // between two looks
	}
	for _, d := range rest {
		t.Error(d)
	}
	for _, row := range unused {
		t.Errorf("%s: %s is as in Home Assistant, take it out of the table (%s)", row.Device, row.Field, row.Reason)
	}
}

// registryWatcher reads what Home Assistant has of what was announced.
type registryWatcher struct {
	*homeAssistant
	home     *Home
	messages []devicestest.Message // that were published
}

// listed is what dominionctl lists, without the dominion's own devices.
func (w *registryWatcher) listed() topics.Devices {
	w.t.Helper()
	var list topics.Devices
	r := w.home.Ctl("devices", "--json")
	if err := json.Unmarshal([]byte(r.Stdout), &list); r.Code != 0 || err != nil {
		w.t.Fatalf("devices --json: code %d, %v: %s", r.Code, err, r.Stderr)
	}
	return list
}

// awaitRegistry waits until Home Assistant has what was recorded; without may
// take out of a device what does not count.
func (w *registryWatcher) awaitRegistry(what string, recorded devicestest.Registry, without func(*devicestest.Device)) {
	w.t.Helper()
	plain := func(r devicestest.Registry) devicestest.Registry {
		r.Devices = slices.Clone(r.Devices)
		for i := range r.Devices {
			if without != nil {
				without(&r.Devices[i])
			}
		}
		return r
	}
	changes := ""
	defer func() {
		if changes != "" {
			w.t.Logf("Home Assistant differs from registry.json (-update records it anew):\n%s", changes)
		}
	}()
	eventuallyWithin(w.t, time.Minute, what, func() bool {
		changes = registryChanges(plain(recorded), plain(w.registry()))
		return changes == ""
	})
}

// settled waits until the registry is the same for a while. Only a recording
// needs it.
func (w *registryWatcher) settled() devicestest.Registry {
	w.t.Helper()
	last, since := w.registry(), time.Now()
	eventuallyWithin(w.t, 2*time.Minute, "the registry does not change any more", func() bool {
		time.Sleep(time.Second) // between two looks
		now := w.registry()
		if registryChanges(last, now) != "" {
			last, since = now, time.Now()
		}
		return time.Since(since) > 10*time.Second
	})
	return last
}

// record writes what Home Assistant has into the file of package devicestest.
func (w *registryWatcher) record(r devicestest.Registry) {
	w.t.Helper()
	b, err := json.MarshalIndent(r, "", "  ")
	w.must(err)
	w.must(writeFile(filepath.Join("..", "hub", "devices", "devicestest", "registry.json"), string(b)+"\n"))
}

// registryChanges names the rows that are not the same.
func registryChanges(was, is devicestest.Registry) string {
	rows := func(r devicestest.Registry) map[string]string {
		all := make(map[string]string)
		for _, d := range r.Devices {
			all[d.Names[0]] = fmt.Sprintf("%+v", d)
		}
		for topic := range r.Refused {
			all["refused "+topic] = "refused " + topic
		}
		return all
	}
	a, b := rows(was), rows(is)
	if maps.Equal(a, b) {
		return ""
	}
	return difference(strings.Join(slices.Sorted(maps.Values(a)), "\n"), strings.Join(slices.Sorted(maps.Values(b)), "\n"))
}

// registry reads what Home Assistant has of the messages: its device registry, the
// availability of the entities of each, and what it refused.
func (w *registryWatcher) registry() devicestest.Registry {
	w.t.Helper()
	var (
		rows     []registryRow
		entities []haEntity
		now      struct{ Version string }
	)
	w.Ask("get_config", nil, &now)
	w.Ask("config/device_registry/list", nil, &rows)
	w.Ask("config/entity_registry/list", nil, &entities)
	rows = slices.DeleteFunc(rows, func(r registryRow) bool {
		return r.Manufacturer == "Dominion" || len(r.names()) == 0
	})
	r := devicestest.Registry{Version: now.Version, Refused: make(map[string]string)}
	byID := make(map[string]registryRow)
	for _, row := range rows {
		byID[row.ID] = row
	}
	states, taken := w.States(), make(map[string]bool)
	for _, row := range rows {
		d := devicestest.Device{
			Names: row.names(), Name: row.Name, Manufacturer: row.Manufacturer, Model: row.Model, ModelID: row.ModelID,
			Version: row.Version, Hardware: row.Hardware, Serial: row.Serial, URL: row.URL, Availability: devicestest.WithoutAvailability,
		}
		if d.Name == w.home.Hub.Address() {
			d.Name = "" // that of the integration, which is the broker's address
		}
		if via, ok := byID[cmp.Or(row.ViaDevice, row.Parent)]; ok {
			d.Via = via.names()[0]
		}
		var info debugInfo
		w.Ask("mqtt/device/debug_info", map[string]any{"device_id": row.ID}, &info)
		for _, e := range append(info.Entities, info.Triggers...) {
			taken[e.Discovery.Topic] = true
			if e.Discovery.Payload.Availability == nil && e.Discovery.Payload.Topic == "" {
				continue
			}
			if s, there := states[e.ID]; there && s.State != "unavailable" {
				d.Availability = devicestest.Available
			} else if there && d.Availability == devicestest.WithoutAvailability {
				d.Availability = devicestest.Unavailable
			}
		}
		d.Stub = d.Name == "" && len(info.Entities)+len(info.Triggers) == 0
		r.Devices = append(r.Devices, d)
	}
	slices.SortFunc(r.Devices, func(a, b devicestest.Device) int { return cmp.Compare(a.Names[0], b.Names[0]) })
	disabled := make(map[string]bool)
	for _, e := range entities {
		disabled[e.Unique] = e.DisabledBy != ""
	}
	lines, _ := w.process.log.from(0)
	for _, m := range w.messages {
		if why := refusal(m, lines); m.Config() && (why != "" || !taken[m.Topic] && !shownElsewhere(m, disabled)) {
			r.Refused[m.Topic] = cmp.Or(why, "it makes no entity of a device of it")
		}
	}
	return r
}

// registryRow is a row of Home Assistant's device registry.
type registryRow struct {
	haDevice
	ModelID     string `json:"model_id"`
	Version     string `json:"sw_version"`
	Hardware    string `json:"hw_version"`
	Serial      string `json:"serial_number"`
	URL         string `json:"configuration_url"`
	Parent      string `json:"parent_device_id"` // of a child device
	Connections [][]string
}

// names are the identifiers that MQTT gave and the connections, sorted.
func (r registryRow) names() []string {
	var all []string
	for _, id := range r.Identifiers {
		if id[0] == "mqtt" {
			all = append(all, id[1])
		}
	}
	for _, c := range r.Connections {
		all = append(all, strings.ToLower(c[0]+" "+c[1]))
	}
	slices.Sort(all)
	return all
}

// debugInfo is what Home Assistant tells of the entities and triggers of a device.
type debugInfo struct {
	Entities, Triggers []struct {
		ID        string `json:"entity_id"`
		Discovery struct {
			Topic   string
			Payload struct {
				Availability any
				Topic        string `json:"availability_topic"`
			}
		} `json:"discovery_data"`
	}
}

// shownElsewhere reports whether Home Assistant shows what it makes of a config in
// another place than among the entities of a device: it is of no device, a tag,
// or disabled.
func shownElsewhere(m devicestest.Message, disabled map[string]bool) bool {
	var c map[string]any
	if json.Unmarshal([]byte(m.Payload), &c) != nil {
		return true
	}
	device := c["device"] != nil || c["dev"] != nil
	unique, _ := cmp.Or(c["unique_id"], c["uniq_id"]).(string)
	return !device || strings.HasPrefix(m.Topic, "homeassistant/tag/") || disabled[unique]
}

// refusal returns what Home Assistant's log has against a config, "" for nothing.
func refusal(m devicestest.Message, log []string) string {
	levels := strings.Split(m.Topic, "/")
	marks := []string{m.Topic + "'", "Invalid MQTT device discovery payload for " + levels[len(levels)-2] + ","}
	for _, line := range log {
		if complaint.MatchString(line) && containsAny(line, marks...) {
			_, what, _ := strings.Cut(line, "] ")
			return what[:min(len(what), 200)]
		}
	}
	return ""
}
