package homeassistant

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var options = Options{
	Tree:    topics.NewTree(""),
	HubID:   "3f2a91c4-77aa-4c1e-9a52-0c4f1f3c0d11",
	HubName: "home",
	Version: "1.2.0",
}

func kitchen() Machine {
	return Machine{Name: "pi-kitchen", ID: "7d1c8a52-5f0e-4a7b-8a35-6d2f6c9d3b10", Version: "1.2.0", OS: "linux", Arch: "arm64", Hot: true}
}

func npbar() Program { return Program{Name: "npbar", MaxReplicas: 100, Versioned: true} }

// all are the payloads that the golden files hold.
func all() map[string]Config {
	secure := options
	secure.Certificate = true
	adopting := options
	adopting.Keys = true
	own := adopting
	own.Embedded = true
	return map[string]Config{
		"hub_that_adopts":                 Hub(own),
		"hub_that_adopts_behind_a_broker": Hub(adopting),
		"hub":                             Hub(options),
		"hub_with_tls":                    Hub(secure),
		"domain_pi-kitchen":               Domain(options, kitchen()),
		"domain_without_a_sensor":         Domain(options, Machine{Name: "laptop", ID: "0b9d", OS: "linux", Arch: "amd64"}),
		"domain_desk-lamp_micro":          Domain(options, Machine{Name: "desk-lamp", Micro: true}),
		"service_npbar":                   Service(options, npbar()),
		"service_web-shop-2":              Service(options, Program{Name: "web-shop-2", URL: "http://192.168.1.20:8080/"}),
		"service_bell_micro":              Service(options, Program{Name: "bell", MaxReplicas: 100, Versioned: true, Micro: true}),
	}
}

func TestGolden(t *testing.T) {
	for name, c := range all() {
		var got bytes.Buffer
		if err := json.Indent(&got, c.Payload, "", "  "); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got.WriteByte('\n')
		file := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%v: go test -update writes it", err)
			continue
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s differs from %s; if that is meant, go test -update:\n%s", name, file, got.Bytes())
		}
	}
}

func TestHomeAssistantTakesThem(t *testing.T) {
	ids := make(map[string]string)
	for name, c := range all() {
		if strings.HasPrefix(name, "hub_") {
			continue // the hub again
		}
		for _, f := range faults(c, ids) {
			t.Errorf("%s: %s", name, f)
		}
		if len(c.Payload) > 64<<10 {
			t.Errorf("%s: %d bytes", name, len(c.Payload))
		}
	}
	for name, c := range all() {
		if strings.HasPrefix(name, "hub_") {
			for _, f := range faults(c, make(map[string]string)) {
				t.Errorf("%s: %s", name, f)
			}
		}
	}
	// The same thing in two dominions on one broker must not be one device.
	other := options
	other.HubID = "aaaa0000-77aa-4c1e-9a52-0c4f1f3c0d11"
	for _, c := range []Config{Hub(other), Domain(other, kitchen()), Service(other, npbar())} {
		for _, f := range faults(c, ids) {
			t.Errorf("of a second dominion: %s", f)
		}
	}
	// A domain, a service and a component of one name neither.
	for _, name := range []string{"hub", "state", "connectivity", "npbar-state"} {
		for _, c := range []Config{Domain(options, Machine{Name: name}), Service(options, Program{Name: name, MaxReplicas: 5, Versioned: true})} {
			for _, f := range faults(c, ids) {
				t.Errorf("named %s: %s", name, f)
			}
		}
	}
}

// Home Assistant puts the name of the device before that of each entity: what
// begins with it is there twice.
func TestNoNameIsThereTwice(t *testing.T) {
	configs := all()
	named := options
	named.HubName = "dominion"
	configs["hub named dominion"] = Hub(named)
	for name, c := range configs {
		var p payload
		if err := json.Unmarshal(c.Payload, &p); err != nil {
			t.Fatal(err)
		}
		entities := make(map[string]string)
		for key, e := range p.Components {
			if e.Platform == deviceAutomation {
				continue
			}
			var of string
			if len(e.Name) > 0 && string(e.Name) != "null" {
				if err := json.Unmarshal(e.Name, &of); err != nil {
					t.Fatal(err)
				}
			}
			shown := strings.Fields(strings.ToLower(strings.TrimSpace(p.Device.Name + " " + of)))
			if len(slices.Compact(slices.Clone(shown))) != len(shown) || len(shown) > 1 && of != "" && strings.HasPrefix(strings.ToLower(of), strings.ToLower(p.Device.Name)) {
				t.Errorf("%s: %s is shown as %q", name, key, shown)
			}
			if of = e.Platform + " " + of + e.DeviceClass; entities[of] != "" {
				t.Errorf("%s: %s and %s have one name", name, key, entities[of])
			}
			entities[of] = key
		}
	}
}

// The validator must be able to refuse.
func TestValidatorRefuses(t *testing.T) {
	whole := string(Service(options, npbar()).Payload)
	hub := string(Hub(options).Payload)
	domain := string(Domain(options, kitchen()).Payload)
	for _, tt := range []struct{ payload, old, new, want string }{
		{whole, `"qos":1`, `"qos":1,"schema":2`, `root: unknown key "schema"`},
		{whole, `"manufacturer"`, `"maker"`, `device: unknown key "maker"`},
		{whole, `"support_url"`, `"homepage"`, `origin: unknown key "homepage"`},
		{whole, `"name":"Dominion"`, `"sw":"1"`, `origin: no name`},
		{whole, `"payload_press"`, `"payload_on"`, `component restart: unknown key "payload_on"`},
		{whole, `"platform":"button"`, `"platform":"knob"`, `platform "knob"`},
		{whole, `"unique_id"`, `"uniq"`, `no unique_id`},
		{whole, `_problem","default`, `_state","default`, ``}, // another platform: taken as Home Assistant does
		{whole, `"problem":{`, `"prob lem":{`, `characters that are not cleaned up`},
		{whole, `"identifiers":["`, `"identifiers":[],"x":["`, `no identifiers`},
		{whole, `"identifiers":["`, `"identifiers":[],"connections":["`, `is no type and address`},
		{whole, `"command_topic":"dominion/service/npbar/set"`, `"command_topic":"dominion/+/set"`, `is not a valid topic`},
		{whole, `value_json.switch }}`, `value_json.switch }`, `unbalanced`},
		{whole, `value_json.switch }}`, `value_json.update }}`, `.update is a method`},
		{whole, `"options":[`, `"options":[],"x":[`, `options are for an enum alone`},
		{whole, `"device_class":"enum"`, `"icon":"lamp"`, `options are for an enum alone`},
		{whole, `"entity_category":"diagnostic"`, `"entity_category":"config"`, `entity_category "config"`},
		{whole, `"default_entity_id":"sensor.`, `"default_entity_id":"switch.`, `default_entity_id`},
		{whole, `"topic":"dominion/hub/availability"`, `"topic":""`, `availability: "" is not a valid topic`},
		{domain, `"availability_mode":"all"`, `"icon":"mdi:x"`, `without a mode`},
		{domain, `"°C"`, `"C"`, `no unit of temperature`},
		{domain, `"name":"pi-kitchen"`, `"name":""`, `device: name is no text`},
		{domain, `"via_device":"dominion_3f2a91c4_hub"`, `"via_device":"dominion_3f2a91c4_domain_pi-kitchen"`, `its own via_device`},
		{whole, `"min":1`, `"min":200`, `min 200 is above max`},
		{whole, `"mode":"box"`, `"mode":"wheel"`, `mode "wheel"`},
		{whole, `"payload_install":"UPDATE"`, `"title":"x"`, `a command_topic without payload_install`},
		{whole, `{{ dict(replicas=value`, `{{ dict(replicas=(value`, `unbalanced`},
		{hub, `"event_types":["hub_started"`, `"event_types":[],"x":["hub_started"`, `no event_types`},
		{hub, `"event_types"`, `"types"`, `a event needs event_types`},
		{domain, `"unit_of_measurement":"GB"`, `"unit_of_measurement":"gigs"`, `is no unit of data_size`},
		{domain, `"state_class":"measurement"`, `"state_class":"mean"`, `state_class "mean"`},
		{domain, `"latest_version_topic":"dominion/hub/status"`, `"latest_version_topic":"#"`, `is not a valid topic`},
		{whole, `"automation_type":"trigger"`, `"automation_type":"action"`, `automation_type action`},
		{whole, `"subtype":"npbar"`, `"name":"npbar"`, `a device_automation needs subtype`},
		{whole, `"type":"crashed"`, `"type":"failed"`, `have one type and subtype`},
		{whole, `"payload":"npbar service_crashed"`, `"payload":"{{ x }}"`, `renders its payload`},
		{domain, `{"device"`, `["device"`, `no JSON object`},
	} {
		changed := strings.Replace(tt.payload, tt.old, tt.new, 1)
		if changed == tt.payload {
			t.Errorf("%q is not in the payload", tt.old)
			continue
		}
		c := Config{Topic: "homeassistant/device/x/config", Payload: []byte(changed)}
		got := strings.Join(faults(c, make(map[string]string)), "; ")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s → %s: got %q, want %q", tt.old, tt.new, got, tt.want)
		}
	}
	c := Service(options, npbar())
	c.Topic = "homeassistant/device/np bar/config"
	ids := make(map[string]string)
	if got := faults(c, ids); len(got) != 1 {
		t.Errorf("a bad topic: %q", got)
	}
	if got := faults(c, ids); !strings.Contains(strings.Join(got, "; "), "is taken by") {
		t.Errorf("the same unique ids again: %q", got)
	}
}

// The components are a map: their order must not show.
func TestTheSameBytesEachTime(t *testing.T) {
	for range 50 {
		if a, b := Hub(options), Hub(options); !bytes.Equal(a.Payload, b.Payload) {
			t.Fatalf("two payloads of one hub differ:\n%s\n%s", a.Payload, b.Payload)
		}
	}
}

// A heartbeat a second would be 86,400 rows a day in Home Assistant's database.
func TestNothingListensToTheHeartbeat(t *testing.T) {
	for name, c := range all() {
		if strings.Contains(string(c.Payload), "heartbeat") {
			t.Errorf("%s names a heartbeat: %s", name, c.Payload)
		}
	}
}

// Every topic in a payload is one of the tree and of the right direction: a
// state that is retained, a command that is an order.
func TestTopicsAreOfTheContract(t *testing.T) {
	o := options
	o.Tree = topics.NewTree("house/dominion")
	for _, c := range []Config{Hub(o), Domain(o, kitchen()), Service(o, npbar())} {
		walk(t, c.Payload, func(key, value string) {
			switch {
			case key == "command_topic":
				if a, ok := o.Tree.Parse(value); !ok || !a.Kind.Imperative() {
					t.Errorf("%s: %s is no order", key, value)
				}
			case value == o.Tree.Hub(topics.HubEvent): // an event is never retained
			case key == "topic" || strings.HasSuffix(key, "_topic"):
				if a, ok := o.Tree.Parse(value); !ok || !topics.Lookup(a.Kind).Retain {
					t.Errorf("%s: %s is no retained topic: unknown until it changes", key, value)
				}
			}
		})
	}
}

func walk(t *testing.T, payload []byte, each func(key, value string)) {
	t.Helper()
	var root any
	if err := json.Unmarshal(payload, &root); err != nil {
		t.Fatal(err)
	}
	var visit func(key string, v any)
	visit = func(key string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, inner := range v {
				visit(k, inner)
			}
		case []any:
			for _, inner := range v {
				visit(key, inner)
			}
		case string:
			each(key, v)
		}
	}
	visit("", root)
}

func TestConnectivityOutlivesItsDomain(t *testing.T) {
	var p payload
	if err := json.Unmarshal(Domain(options, kitchen()).Payload, &p); err != nil {
		t.Fatal(err)
	}
	own := options.Tree.Domain(topics.DomainAvailability, "pi-kitchen")
	news := []string{"connectivity", "problem"}
	for key, c := range p.Components {
		needs := c.Availability
		if needs == nil {
			needs = p.Availability
		}
		var ownToo bool
		for _, a := range needs {
			ownToo = ownToo || a.Topic == own
		}
		if want := !slices.Contains(news, key); ownToo != want {
			t.Errorf("%s: depends on the domain's availability: %v, want %v", key, ownToo, want)
		}
	}
}

func TestOurs(t *testing.T) {
	custom := options
	custom.DiscoveryPrefix = "ha/discovery"
	for _, tt := range []struct {
		o             Options
		topic, object string
	}{
		{options, Hub(options).Topic, "dominion_3f2a91c4_hub"},
		{options, Domain(options, kitchen()).Topic, "dominion_3f2a91c4_domain_pi-kitchen"},
		{options, Service(options, Program{Name: "web"}).Topic, "dominion_3f2a91c4_service_web"},
		{custom, Hub(custom).Topic, "dominion_3f2a91c4_hub"},
		{options, "homeassistant/device/dominion_3f2a91c4_later_x/config", "dominion_3f2a91c4_later_x"},
		{options, Hub(custom).Topic, ""},
		{options, "homeassistant/device/dominion_aaaa0000_hub/config", ""},
		{options, "homeassistant/device/dominion_3f2a91c4/config", ""},
		{options, "homeassistant/device/dominion_3f2a91c4_/config", ""},
		{options, "homeassistant/device/dominion_3f2a91c4_hub", ""},
		{options, "homeassistant/device/dominion_3f2a91c4_hub/more/config", ""},
		{options, "homeassistant/device/node/dominion_3f2a91c4_hub/config", ""},
		{options, "homeassistant/sensor/dominion_3f2a91c4_hub/config", ""},
		{options, "homeassistant/device/0x00158d0001/config", ""},
		{options, "homeassistant/device//config", ""},
		{options, "", ""},
	} {
		object, ok := tt.o.Ours(tt.topic)
		if object != tt.object || ok != (tt.object != "") {
			t.Errorf("Ours(%q) = %q, %v; want %q", tt.topic, object, ok, tt.object)
		}
	}
}

func TestMessages(t *testing.T) {
	c := Hub(options)
	if m := c.Message(); m.Topic != c.Topic || !m.Retain || m.QoS != 1 || !bytes.Equal(m.Payload, c.Payload) {
		t.Errorf("%+v", m)
	}
	if m := Removal(c.Topic); m.Topic != c.Topic || !m.Retain || len(m.Payload) != 0 {
		t.Errorf("%+v", m)
	}
	if got := options.Filters(); !slices.Equal(got, []string{"homeassistant/device/+/config"}) {
		t.Error(got)
	}
	if got := options.BirthTopics(); !slices.Equal(got, []string{"homeassistant/status"}) {
		t.Error(got)
	}
	custom := options
	custom.DiscoveryPrefix = "ha"
	for topic, want := range map[string]bool{"homeassistant/status": true, "ha/status": true, "ha/statuses": false, "other/status": false, "ha": false} {
		if custom.IsBirthTopic(topic) != want {
			t.Errorf("IsBirthTopic(%q) is %v", topic, !want)
		}
	}
	if got := custom.BirthTopics(); !slices.Equal(got, []string{"homeassistant/status", "ha/status"}) {
		t.Error(got)
	}
}

// The code and the window are asked for by private requests, which an external broker would
// show to others; who waits is shown there too. The state of the field is never what was typed.
func TestAdoptionEntities(t *testing.T) {
	of := func(name string) map[string]component {
		var p payload
		if err := json.Unmarshal(all()[name].Payload, &p); err != nil {
			t.Fatal(err)
		}
		return p.Components
	}
	for _, tt := range []struct {
		config string
		want   []string
	}{
		{"hub", nil},
		{"hub_that_adopts_behind_a_broker", []string{"waiting"}},
		{"hub_that_adopts", []string{"code", "permit_join", "waiting"}},
	} {
		var got []string
		for _, key := range []string{"code", "permit_join", "waiting"} {
			if _, is := of(tt.config)[key]; is {
				got = append(got, key)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.config, got, tt.want)
		}
	}
	for key, c := range of("hub_that_adopts") {
		if key != "code" && key != "permit_join" {
			continue
		}
		at, ours := options.Tree.Parse(c.CommandTopic)
		if !ours || at.Kind != topics.Request || !topics.IsPrivate(at.Verb) || !topics.ForAdmins(at.Verb) {
			t.Errorf("%s is sent to %s, which others may see", key, c.CommandTopic)
		}
		if c.StateTopic == "" || c.StateTopic == c.CommandTopic {
			t.Errorf("%s shows what was typed", key)
		}
	}
}
