package homeassistant

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

var moment = topics.At(time.Date(2026, time.January, 2, 15, 4, 5, 250e6, time.UTC))

func ptr[T any](v T) *T { return &v }

// messages are what the templates are given, as it travels: the shortest and the
// longest of each kind.
func messages() map[topics.Kind][]any {
	instance := topics.ServiceInstance{Domain: "pi-kitchen", State: topics.Running, Health: topics.Healthy}
	return map[topics.Kind][]any{
		topics.HubStatus: {
			topics.Hub{Version: "1.2.0", StartedAt: moment},
			topics.Hub{Version: "1.2.0", StartedAt: moment, Ready: true, Problem: "the disk is full", CertificateExpires: moment, Domains: topics.DomainCount{Online: 2}},
		},
		topics.HubAdoption: {
			topics.Adoption{Waiting: []topics.WaitingMachine{}},
			topics.Adoption{Window: topics.JoinWindow{Open: true, Until: moment, Left: 1}, Waiting: []topics.WaitingMachine{{Name: "pi", Address: "192.168.1.20", Model: "Pi 4", Key: "9f3a 11c0 77d2 5e0b", Since: moment}}},
		},
		topics.HubEvent: {
			topics.Event{At: moment, Type: topics.HubReady, Message: "ready"},
			topics.Event{At: moment, Type: topics.ServiceReady, Domain: "pi", Service: "web", Message: "ready"},
		},
		topics.DomainStatus:    {topics.Domain{Version: "1.2.0", StartedAt: moment}, topics.Domain{Version: "1.2.0", StartedAt: moment, Draining: true}, topics.Domain{Micro: true, StartedAt: moment, Services: []topics.Instance{{Service: "ring", State: topics.Running}}}},
		topics.DomainCondition: {topics.Condition{Domain: "pi", State: topics.DomainIsLost, Problem: true, Reason: "is lost"}},
		topics.DomainMetrics:   {topics.Metrics{}, topics.Metrics{Load1: 0.44, MemoryUsed: 400, MemoryTotal: 1000, DiskFree: 20_440_000_000, Temperature: ptr(48.4)}},
		topics.ServiceStatus: {
			topics.Service{State: topics.Stopped, Switch: topics.Off},
			topics.Service{
				State: topics.Running, Switch: topics.On, Wanted: 2, Replicas: 200, Running: 1, Reason: "required", Problem: "crashed", Version: "1.4.0", Instances: []topics.ServiceInstance{instance, {State: topics.Failed}},
				Update: topics.ServiceUpdate{Installed: "1.4.0", Latest: "1.5.0", InProgress: true, Percentage: ptr(50), Waits: "pi: gets healthy", Problem: "1.5.0 did not"},
			},
			topics.Service{
				State: topics.Running, Switch: topics.On, Link: "http://192.168.1.20:8080/",
				LastError: &topics.ServiceError{At: moment, Domain: "pi-kitchen", Message: "exit code 1: " + strings.Repeat("x", 300)},
				Update:    topics.ServiceUpdate{Installed: "1.4.0", Latest: "1.5.0", ReleaseURL: "https://example.com/1.5.0", Summary: "Faster."},
			},
		},
		topics.ServiceMetrics: {topics.ServiceUsage{}, topics.ServiceUsage{CPU: 0.256, Memory: 11_534_336, Instances: 2}},
	}
}

func rendered(t *testing.T, template string, payload any) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(topics.Encode(payload), &v); err != nil {
		t.Fatal(err)
	}
	got, err := render(template, map[string]any{"value_json": v, "value": "3.0"})
	if err != nil {
		t.Errorf("%v\nof %s", err, topics.Encode(payload))
	}
	return got
}

// Every template of every device, with what its topic says: a key that is
// renamed in the contract is undefined here.
func TestTemplatesReadThePayloads(t *testing.T) {
	looked := 0
	for name, c := range all() {
		var p payload
		if err := json.Unmarshal(c.Payload, &p); err != nil {
			t.Fatal(err)
		}
		for key, comp := range p.Components {
			look := func(topic, template string) (all []string) {
				a, ok := options.Tree.Parse(topic)
				if !ok || template == "" {
					return nil
				}
				samples := messages()[a.Kind]
				if len(samples) == 0 {
					t.Errorf("%s %s: no sample of %s", name, key, topic)
				}
				for _, sample := range samples {
					looked++
					all = append(all, rendered(t, template, sample))
				}
				return all
			}
			look(comp.Topic, comp.ValueTemplate)
			states := look(comp.StateTopic, comp.ValueTemplate)
			for _, state := range states {
				switch {
				case len(state) > 255 && !strings.HasPrefix(state, "{"):
					t.Errorf("%s %s: a state of %d bytes, Home Assistant takes 255", name, key, len(state))
				case comp.Options != nil && !slices.Contains(comp.Options, state) && (state != "None" || slices.Equal(states, []string{"None", "None", "None"})):
					t.Errorf("%s %s: %q is none of the options", name, key, state)
				case comp.Platform == "binary_sensor" && state != "ON" && state != "OFF", comp.Platform == "switch" && state != cmp.Or(comp.StateOn, comp.PayloadOn) && state != cmp.Or(comp.StateOff, comp.PayloadOff):
					t.Errorf("%s %s: %q is neither ON nor OFF", name, key, state)
				case comp.Platform == "text" && state != "":
					t.Errorf("%s %s: shows %q", name, key, state)
				case comp.DeviceClass == "timestamp" && state != "None":
					if _, err := time.Parse(time.RFC3339, state); err != nil {
						t.Errorf("%s %s: %v", name, key, err)
					}
				case comp.Platform == "update" && strings.HasPrefix(state, "{"):
					takesUpdate(t, state)
				}
			}
			if comp.Platform == "binary_sensor" && comp.ValueTemplate != "" && len(states) > 1 && states[0] == states[1] {
				t.Errorf("%s %s: %q for both of its samples", name, key, states)
			}
			look(comp.LatestTopic, comp.LatestTemplate)
			for _, attributes := range look(comp.AttributesTopic, comp.AttributesTmpl) {
				if !json.Valid([]byte(attributes)) || attributes[0] != '{' {
					t.Errorf("%s %s: attributes %s", name, key, attributes)
				}
			}
		}
	}
	if looked < 60 {
		t.Errorf("only %d templates with their payloads", looked)
	}
}

// takesUpdate is MQTT_JSON_UPDATE_SCHEMA.
func takesUpdate(t *testing.T, state string) {
	t.Helper()
	var u map[string]any
	if err := json.Unmarshal([]byte(state), &u); err != nil {
		t.Error(err)
	}
	for key, v := range u {
		ok := false
		switch key {
		case "installed_version", "latest_version", "title", "release_summary":
			_, ok = v.(string)
		case "in_progress":
			_, ok = v.(bool)
		case "release_url":
			s, _ := v.(string)
			_, err := url.ParseRequestURI(s)
			ok = err == nil
		case "update_percentage":
			n, is := v.(float64)
			ok = v == nil || is && n >= 0 && n <= 100
		}
		if !ok {
			t.Errorf("an update with %s: %v", key, v)
		}
	}
}

func TestWhatTemplatesSay(t *testing.T) {
	of := func(c Config, key string) component {
		var p payload
		if err := json.Unmarshal(c.Payload, &p); err != nil {
			t.Fatal(err)
		}
		return p.Components[key]
	}
	service := func(key string) string { return of(Service(options, npbar()), key).ValueTemplate }
	domain := func(key string) string { return of(Domain(options, kitchen()), key).ValueTemplate }
	adopting := func(key string) component { return of(all()["hub_that_adopts"], key) }
	micro := of(Domain(options, Machine{Name: "bell", Micro: true}), "state")
	says := func(payload string) json.RawMessage { return json.RawMessage(payload) }
	running := topics.Service{State: topics.Running, Switch: topics.On, Instances: []topics.ServiceInstance{{State: topics.Running, Health: topics.Healthy}}}
	with := func(change func(*topics.Service)) topics.Service {
		s := running
		s.Instances = slices.Clone(s.Instances)
		change(&s)
		return s
	}
	for _, tt := range []struct {
		template string
		payload  any
		want     string
	}{
		{service("problem"), running, "OFF"},
		{service("problem"), topics.Service{State: topics.Stopped}, "OFF"},
		{service("problem"), with(func(s *topics.Service) { s.State = topics.Backoff }), "OFF"}, // the hub's verdict counts
		{service("problem"), with(func(s *topics.Service) { s.Problem = "crashed on pi: exit code 1" }), "ON"},
		{of(Service(options, npbar()), "problem").AttributesTmpl, with(func(s *topics.Service) { s.Problem = "crashed" }), `{"reason":"crashed"}`},
		{of(Service(options, npbar()), "problem").AttributesTmpl, running, `{"reason":""}`},
		{service("replicas"), with(func(s *topics.Service) { s.Replicas = 3 }), "3"},
		{service("replicas"), with(func(s *topics.Service) { s.Replicas = 500 }), "100"},
		{service("replicas"), running, "None"},
		{service("version"), running, "None"},
		{service("update"), running, `{"in_progress":false,"installed_version":"","latest_version":"","release_summary":"","update_percentage":null}`},
		{service("update"), with(func(s *topics.Service) { s.Update.Latest = "1.5" }), `{"in_progress":false,"installed_version":"1.5","latest_version":"1.5","release_summary":"","update_percentage":null}`},
		{service("update"), with(func(s *topics.Service) {
			s.Update = topics.ServiceUpdate{Installed: "1.4", Latest: "1.5", InProgress: true, Percentage: ptr(50), Waits: "waits"}
		}), `{"in_progress":true,"installed_version":"1.4","latest_version":"1.5","release_summary":"waits","update_percentage":50}`},
		{service("update"), with(func(s *topics.Service) {
			s.Update = topics.ServiceUpdate{Installed: "1.4", Latest: "1.5", ReleaseURL: "https://example.com/1.5", Summary: "Faster."}
		}), `{"in_progress":false,"installed_version":"1.4","latest_version":"1.5","release_summary":"Faster.","release_url":"https://example.com/1.5","update_percentage":null}`},
		{service("last_error"), running, "none"},
		{service("last_error"), with(func(s *topics.Service) { s.LastError = &topics.ServiceError{Message: "exit code 1"} }), "exit code 1"},
		{of(Service(options, npbar()), "last_error").AttributesTmpl, running, "{}"},
		{of(Service(options, npbar()), "last_error").AttributesTmpl, with(func(s *topics.Service) {
			s.LastError = &topics.ServiceError{At: moment, Domain: "pi", Message: "exit code 1"}
		}), `{"at":"` + moment.UTC().Format("2006-01-02T15:04:05.000Z") + `","domain":"pi"}`},
		{service("cpu"), topics.ServiceUsage{CPU: 1.256}, "126"},
		{service("memory"), topics.ServiceUsage{Memory: 11_534_336}, "12"},
		{of(Service(options, npbar()), "replicas").CommandTemplate, running, `{"replicas":3}`},
		{micro.ValueTemplate, says(`{"name":"bell","micro":true,"services":[{"service":"ring","state":"running"}]}`), "running"},
		{micro.ValueTemplate, says(`{"name":"bell","micro":true,"services":[{"service":"ring","state":"fine"}]}`), "None"},
		{micro.ValueTemplate, says(`{"name":"bell","micro":true,"services":[{"service":"ring"}]}`), "None"},
		{micro.ValueTemplate, says(`{"name":"bell","micro":true,"services":[]}`), "None"},
		{micro.ValueTemplate, says(`{"name":"bell","micro":true,"services":null}`), "None"},
		{micro.ValueTemplate, says(`{"name":"bell","micro":true}`), "None"},
		{micro.AttributesTmpl, says(`{"name":"bell","micro":true,"services":[{"service":"ring","state":"running"}]}`), `{"service":"ring"}`},
		{micro.AttributesTmpl, says(`{"name":"bell","micro":true,"services":[{}]}`), `{"service":""}`},
		{micro.AttributesTmpl, says(`{"name":"bell","micro":true}`), `{"service":""}`},
		{domain("memory"), topics.Metrics{MemoryUsed: 400, MemoryTotal: 1000}, "40"},
		{domain("memory"), topics.Metrics{}, "None"},
		{domain("temperature"), topics.Metrics{}, "None"},
		{domain("temperature"), topics.Metrics{Temperature: ptr(48.6)}, "49"},
		{domain("disk_free"), topics.Metrics{DiskFree: 20_440_000_000}, "20.4"},
		{domain("drain"), topics.Domain{Draining: true}, "ON"},
		{domain("problem"), topics.Condition{Problem: true}, "ON"},
		{adopting("waiting").ValueTemplate, topics.Adoption{Waiting: []topics.WaitingMachine{{Name: "a"}, {Name: "b"}}}, "2"},
		{adopting("waiting").AttributesTmpl, topics.Adoption{Waiting: []topics.WaitingMachine{{Name: "pi", Address: "192.168.1.20", Model: "Pi 4", Key: "9f3a 11c0", Since: moment}}}, `{"machines":[{"address":"192.168.1.20","key":"9f3a 11c0","model":"Pi 4","name":"pi","since":"` + moment.UTC().Format("2006-01-02T15:04:05.000Z") + `"}]}`},
		{adopting("code").ValueTemplate, topics.Adoption{Waiting: []topics.WaitingMachine{{Name: "a"}}}, ""},
		{adopting("code").CommandTemplate, topics.Adoption{}, `{"code":"3.0"}`},
		{adopting("permit_join").ValueTemplate, topics.Adoption{Window: topics.JoinWindow{Open: true}}, "ON"},
		{adopting("permit_join").ValueTemplate, topics.Adoption{}, "OFF"},
		{adopting("permit_join").AttributesTmpl, topics.Adoption{}, `{"left":null,"until":null}`},
		{of(Hub(options), "event").ValueTemplate, topics.Event{Type: topics.DomainLost, Domain: "pi", Message: "pi is lost"}, `{"domain":"pi","event_type":"domain_lost","message":"pi is lost","service":""}`},
	} {
		if got := rendered(t, tt.template, tt.payload); got != tt.want {
			t.Errorf("%s\nof %s\ngives %s, want %s", tt.template, topics.Encode(tt.payload), got, tt.want)
		}
	}
}

// The evaluator must be able to refuse.
func TestTemplatesThatFail(t *testing.T) {
	v := map[string]any{"value_json": map[string]any{"a": map[string]any{}, "list": []any{map[string]any{}}}}
	for _, template := range []string{
		"{{ value_json.nothing }}", "{{ value_json.a.b.c }}", "{{ nothing }}", "{{ value_json.b | round(1) }}", "{{ dict(x=value_json.b) | to_json }}",
		"{{ value_json.list | selectattr('state', 'eq', 'x') | list | to_json }}", "{{ value_json.a | shout }}", "{{ value_json.a", "{{ value_json.b if value_json.a is defined else 1 }}",
	} {
		if got, err := render(template, v); err == nil {
			t.Errorf("%s gives %q", template, got)
		}
	}
	for template, want := range map[string]string{
		"{{ value_json.b.c if value_json.b is defined else None }}": "None",
		"{{ 1 if value_json.a is defined else value_json.b.c }}":    "1",
		"x {{ 2 * 3 }} y": "x 6 y",
	} {
		if got, err := render(template, v); err != nil || got != want {
			t.Errorf("%s gives %q, %v", template, got, err)
		}
	}
}

// A trigger matches the events of its thing and of its type, and no other.
func TestTriggersMatchTheirEvents(t *testing.T) {
	matched := 0
	for name, c := range all() {
		var p payload
		if err := json.Unmarshal(c.Payload, &p); err != nil {
			t.Fatal(err)
		}
		for key, comp := range p.Components {
			if comp.Platform != deviceAutomation {
				continue
			}
			for _, e := range topics.EventTypes() {
				for _, event := range []topics.Event{
					{Type: e},
					{Type: e, Domain: p.Device.Name},
					{Type: e, Service: p.Device.Name},
					{Type: e, Domain: "other", Service: "other"},
					{Type: e, Domain: p.Device.Name, Service: "other"},
					{Type: e, Domain: "other", Service: p.Device.Name},
				} {
					of := event.Domain
					if p.Device.Model == "Service" {
						of = event.Service
					}
					want := of == comp.Subtype && strings.HasSuffix(string(e), "_"+comp.Type) && strings.HasPrefix(string(e), strings.ToLower(strings.TrimPrefix(p.Device.Model, "Micro")))
					if got := rendered(t, comp.ValueTemplate, event) == comp.Payload; got != want {
						t.Errorf("%s %s: %+v matches: %v", name, key, event, got)
					} else if got {
						matched++
					}
				}
			}
		}
	}
	if matched < 20 {
		t.Errorf("only %d events matched", matched)
	}
}
