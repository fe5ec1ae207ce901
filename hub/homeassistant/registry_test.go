package homeassistant

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// fixture is the registry of a hub, a broker that retains, and a Home
// Assistant that does what components/mqtt/discovery.py does with a config.
type fixture struct {
	t             *testing.T
	now           time.Time
	announcements *Registry
	snapshot      Snapshot // what the hub has on disk
	retains       func(topic string) bool

	foreign bool // the broker is not the hub's own: the registry asks it again
	blind   bool // it does not replay what is retained to wildcards
	mute    bool // nor to a topic that is asked for

	broker map[string][]byte // retained
	log    []topics.Message  // all that the hub published, with its time below
	times  []time.Time
	states int // how often they were asked for

	awake       bool
	discovered  map[string]string    // platform and key by unique id, in this run of Home Assistant
	devices     map[string]string    // what identifies the device of each of these
	registry    map[string]bool      // unique ids, over its restarts
	lastAt      map[string]time.Time // of the last config of a topic
	lastPayload map[string]string
	replayed    time.Time // when the broker gave it what is retained
	complaints  []string
}

func newFixture(t *testing.T) *fixture {
	h := &fixture{t: t, now: time.Unix(1_800_000_000, 0), broker: map[string][]byte{}, registry: map[string]bool{}}
	h.startHub()
	return h
}

// startHub starts the hub again, with what is on disk and in the broker.
func (h *fixture) startHub() {
	h.now = h.now.Add(time.Second)
	b, err := json.Marshal(h.snapshot) // as it is read from disk
	if err != nil {
		h.t.Fatal(err)
	}
	h.snapshot = Snapshot{}
	if err := json.Unmarshal(b, &h.snapshot); err != nil {
		h.t.Fatal(err)
	}
	h.announcements = NewRegistry(options, h.retains, h.snapshot)
	if h.foreign {
		h.announcements.Verify()
	}
	h.connect()
}

// connect has the broker replay what it retains.
func (h *fixture) connect() {
	for topic, payload := range h.broker {
		if topic == marks {
			h.announcements.RetainedCount(h.mark(), h.now)
		} else if !h.blind {
			h.announcements.Retained(topic, payload, h.now)
		}
	}
	h.announcements.Connected(h.now)
}

var marks = options.Tree.Hub(topics.HubDiscovery)

// mark is the count that the broker has.
func (h *fixture) mark() uint64 {
	var v topics.Discovery
	if err := json.Unmarshal(h.broker[marks], &v); err != nil {
		h.t.Error(err)
	}
	return v.Changes
}

func (h *fixture) startHomeAssistant() {
	h.stopHomeAssistant() // its will
	h.awake, h.discovered, h.devices = true, map[string]string{}, map[string]string{}
	h.lastAt, h.lastPayload, h.replayed = map[string]time.Time{}, map[string]string{}, h.now
	for topic, payload := range h.broker {
		if topic != marks {
			h.receive(topic, payload)
		}
	}
	h.pass(time.Second)
	h.announcements.Birth(h.now, 2*time.Second)
}

func (h *fixture) stopHomeAssistant() {
	h.awake = false
	h.announcements.Offline()
}

// pass lets time pass.
func (h *fixture) pass(d time.Duration) {
	end := h.now.Add(d)
	for {
		wake := h.announcements.Wake()
		if wake.IsZero() || wake.After(end) {
			break
		}
		if wake.After(h.now) {
			h.now = wake
		}
		h.step()
	}
	h.now = end
	h.step()
}

func (h *fixture) step() {
	out, states := h.announcements.Step(h.now)
	if doubts := h.announcements.Unverified(); len(doubts) > 0 && !h.mute {
		for _, topic := range doubts {
			if payload, is := h.broker[topic]; is {
				h.announcements.Retained(topic, payload, h.now)
			}
		}
		h.announcements.RetainedCount(h.mark(), h.now)
	}
	if states {
		h.states++
	}
	for _, m := range out {
		if m.Topic == marks {
			if h.broker[marks] = m.Payload; len(m.Payload) == 0 {
				delete(h.broker, marks)
			}
			continue
		}
		h.log, h.times = append(h.log, m), append(h.times, h.now)
		if m.Retain && len(m.Payload) == 0 {
			delete(h.broker, m.Topic)
		} else if m.Retain {
			h.broker[m.Topic] = m.Payload
		}
		if h.awake {
			h.receive(m.Topic, m.Payload)
		}
		if len(m.Payload) > 0 {
			h.announcements.Filled(m.Topic, h.now)
		} else if h.announcements.Emptied(m.Topic) {
			h.complain("our own removal of %s was taken for a person's", m.Topic)
		}
	}
	if h.announcements.Changed() {
		h.snapshot = h.announcements.Snapshot()
	}
}

func (h *fixture) complain(format string, args ...any) {
	h.complaints = append(h.complaints, fmt.Sprintf(format, args...))
}

// receive is what Home Assistant does with a config.
func (h *fixture) receive(topic string, payload []byte) {
	if last, before := h.lastAt[topic]; before && h.now.Sub(last) < 2*time.Second && h.lastPayload[topic] != string(payload) {
		if !h.replayed.Equal(last) {
			h.complain("two configs of %s within %v", topic, h.now.Sub(last))
		}
		return // it works on the earlier one, which it had from the broker
	}
	h.lastAt[topic], h.lastPayload[topic] = h.now, string(payload)
	if len(payload) == 0 {
		known := false
		for id := range h.discovered {
			if of(id) == topic {
				if strings.HasSuffix(id, deviceAutomation) && h.announcements.haOnline {
					h.complain("%s goes with its device", id)
				}
				known = true
				delete(h.discovered, id)
				delete(h.registry, id)
			}
		}
		if !known {
			h.complain("No device components to cleanup for %s", topic)
		}
		return
	}
	if found := faults(Config{Topic: topic, Payload: complete(payload)}, map[string]string{}); len(found) > 0 {
		h.complain("%s", strings.Join(found, "; "))
	}
	var root struct {
		Device     device                    `json:"device"`
		Components map[string]map[string]any `json:"components"`
	}
	if err := json.Unmarshal(payload, &root); err != nil {
		h.complain("%v", err)
	}
	for key, c := range root.Components {
		id := topic + " " + key + " " + fmt.Sprint(c["platform"])
		_, known := h.discovered[id]
		switch {
		case len(c) > 1:
			identity := fmt.Sprint(root.Device.Identifiers, root.Device.Connections)
			if known && h.devices[id] != identity {
				h.complain("%s moves from device %s to %s", id, h.devices[id], identity)
			}
			h.devices[id] = identity
			h.discovered[id] = key
			if c["platform"] != deviceAutomation { // which is in no registry
				h.registry[id] = true
			}
		case known:
			delete(h.discovered, id)
			delete(h.registry, id)
		}
	}
}

// complete takes markers out of a config and gives stubs what only ours have,
// for the validator.
func complete(config []byte) []byte {
	var root map[string]any
	if json.Unmarshal(config, &root) != nil {
		return config
	}
	components, _ := root["components"].(map[string]any)
	for key, c := range components {
		m, _ := c.(map[string]any)
		if len(m) == 1 {
			delete(components, key)
		} else if m["default_entity_id"] == nil && m["platform"] != deviceAutomation {
			m["default_entity_id"], m["name"] = fmt.Sprint(m["platform"])+".stub", key
		}
	}
	if len(components) == 0 {
		return topics.Encode(map[string]any{"device": root["device"], "origin": root["origin"], "components": map[string]any{
			"x": map[string]any{"platform": "button", "unique_id": "x", "name": "x", "default_entity_id": "button.x", "command_topic": "x"},
		}})
	}
	return topics.Encode(root)
}

func of(id string) string { topic, _, _ := strings.Cut(id, " "); return topic }

// entities are what Home Assistant's registry holds, without the topic.
func (h *fixture) entities() string {
	var all []string
	for id := range h.registry {
		object, _ := options.Ours(of(id))
		all = append(all, strings.TrimPrefix(object, "dominion_3f2a91c4_")+strings.TrimPrefix(id, of(id)))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func (h *fixture) expect(want string) {
	h.t.Helper()
	if got := h.entities(); got != strings.Join(strings.Fields(strings.ReplaceAll(want, " ", "_")), "\n") && strings.ReplaceAll(got, " ", "_") != strings.Join(strings.Fields(want), "\n") {
		h.t.Errorf("Home Assistant has\n%s\nwant\n%s", got, want)
	}
	for _, c := range h.complaints {
		h.t.Errorf("Home Assistant complains: %s", c)
	}
	h.complaints = nil
}

// want wants a service with some of its components.
func (h *fixture) want(name, definition string, keys ...string) {
	h.announcements.Announce(options.ServiceTopic(name), definition, func() Config { return some(name, keys...) }, h.now)
}

// some is a config of these components: "state" or "state:button", with a platform.
func some(name string, keys ...string) Config {
	p := payload{Device: device{Name: name, Model: "Service"}, Components: map[string]component{}}
	for _, k := range keys {
		key, platform, _ := strings.Cut(k, ":")
		if platform == "" {
			platform = "sensor"
		}
		c := component{Platform: platform, Name: named(key), DefaultEntityID: platform + ".x", StateTopic: "x"}
		if platform == "button" {
			c.StateTopic, c.CommandTopic = "", "x"
		}
		if platform == deviceAutomation {
			c = component{Platform: platform, AutomationType: "trigger", Type: key, Subtype: name, Topic: "x"}
		}
		p.Components[key] = c
	}
	return options.config(serviceThing(name), p)
}

// all is what was published at one topic, in short.
func (h *fixture) published(name string) (all []string) {
	for _, m := range h.log {
		if m.Topic == options.ServiceTopic(name) {
			keys := slices.Sorted(maps.Keys(platforms(m.Payload)))
			all = append(all, fmt.Sprintf("%v retain=%v %d", keys, m.Retain, min(len(m.Payload), 1)))
		}
	}
	return all
}

func TestAComponentThatGoes(t *testing.T) {
	for _, when := range []string{"while Home Assistant listens", "while it is away", "while both are away"} {
		t.Run(when, func(t *testing.T) {
			h := newFixture(t)
			h.want("web", "1", "old", "state")
			h.startHomeAssistant()
			h.pass(time.Minute)
			h.expect("service_web_old_sensor service_web_state_sensor")
			if when != "while Home Assistant listens" {
				h.stopHomeAssistant()
			}
			if when == "while both are away" {
				h.startHub()
			}
			h.want("web", "1", "new", "state")
			h.pass(time.Minute)
			if when != "while Home Assistant listens" {
				h.startHomeAssistant()
				h.pass(time.Minute)
			}
			h.expect("service_web_new_sensor service_web_state_sensor")
			last := string(h.broker[options.ServiceTopic("web")])
			if strings.Contains(last, `"old"`) || last != string(some("web", "new", "state").Payload) {
				t.Errorf("what goes is left out in the end: %s", last)
			}
			n := len(h.log)
			h.startHub()
			h.want("web", "1", "new", "state")
			h.pass(time.Hour)
			if len(h.log) != n {
				t.Errorf("said without need: %q", h.published("web"))
			}
		})
	}
}

// Another platform under the same key is another entity.
func TestAComponentThatChangesItsPlatform(t *testing.T) {
	h := newFixture(t)
	h.want("web", "1", "thing", "state")
	h.startHomeAssistant()
	h.pass(time.Minute)
	h.want("web", "1", "thing:button", "state")
	h.pass(time.Minute)
	h.expect("service_web_state_sensor service_web_thing_button")
}

func TestADeviceThatGoes(t *testing.T) {
	for _, when := range []string{"while Home Assistant listens", "while it is away", "while the hub is away", "while both are away"} {
		t.Run(when, func(t *testing.T) {
			h := newFixture(t)
			h.want("web", "1", "state")
			h.want("lamp", "1", "state", "restart:button", "crashed:device_automation")
			h.startHomeAssistant()
			h.pass(time.Minute)
			if strings.Contains(when, "it is") || strings.Contains(when, "both") {
				h.stopHomeAssistant()
			}
			if strings.Contains(when, "hub") || strings.Contains(when, "both") {
				h.startHub()
				h.want("web", "1", "state")
				h.announcements.Complete(nil, h.now)
			} else {
				h.announcements.Remove(options.ServiceTopic("lamp"), h.now)
			}
			h.pass(time.Minute)
			if h.broker[options.ServiceTopic("lamp")] != nil {
				t.Error("it is still retained")
			}
			h.startHomeAssistant()
			h.pass(time.Minute)
			h.expect("service_web_state_sensor")
			if len(h.snapshot.Devices) != 1 {
				t.Errorf("remembered: %v", h.snapshot)
			}
		})
	}
}

// Home Assistant has no ghost although something interrupts a removal: the will of its
// former connection, which the broker publishes late and no birth follows, or a cut of
// the hub's own connection, which Home Assistant does not notice.
func TestAnInterruptedRemoval(t *testing.T) {
	interruptions := map[string]func(h *fixture){
		"a late will": func(h *fixture) { h.announcements.Offline() },
		"a cut": func(h *fixture) {
			h.announcements.Disconnected()
			h.pass(20 * time.Second)
			h.connect()
		},
	}
	removals := map[string]func(h *fixture){
		"a device": func(h *fixture) { h.announcements.Remove(options.ServiceTopic("lamp"), h.now) },
		"a component": func(h *fixture) {
			h.want("lamp", "1", "switch:button")
			h.want("web", "1", "state")
		},
	}
	for interruption, interrupt := range interruptions {
		for removal, remove := range removals {
			for _, restarted := range []bool{true, false} { // Home Assistant, since what is removed was announced
				for after := time.Duration(0); after < 15*time.Second; after += time.Second / 2 {
					t.Run(fmt.Sprintf("%s, %s, restarted %v, after %v", interruption, removal, restarted, after), func(t *testing.T) {
						h := newFixture(t)
						h.want("web", "1", "state")
						h.want("lamp", "1", "state", "switch:button", "crashed:device_automation")
						h.startHomeAssistant()
						h.pass(time.Minute)
						if restarted {
							h.stopHomeAssistant()
						}
						remove(h)
						if restarted {
							h.pass(time.Minute)
							h.startHomeAssistant()
						}
						h.pass(after)
						interrupt(h)
						h.pass(time.Minute)
						expect, devices := "service_web_state_sensor", 1
						if removal == "a component" {
							expect, devices = "service_lamp_switch_button service_web_state_sensor", 2
						}
						h.expect(expect)
						h.startHomeAssistant()
						h.pass(time.Minute)
						h.expect(expect)
						if len(h.snapshot.Devices) != devices {
							t.Errorf("remembered: %v", h.snapshot)
						}
						if wake := h.announcements.Wake(); !wake.IsZero() {
							t.Errorf("still something to do in %v", wake.Sub(h.now))
						}
					})
				}
			}
		}
	}
}

func TestADeviceThatAPersonDeleted(t *testing.T) {
	h := newFixture(t)
	topic := options.ServiceTopic("web")
	h.want("web", "1", "state", "problem")
	h.startHomeAssistant()
	h.pass(time.Minute)
	// Home Assistant publishes an empty config for each of its entities.
	delete(h.broker, topic)
	h.registry, h.discovered = map[string]bool{}, map[string]string{}
	if !h.announcements.Emptied(topic) || h.announcements.Emptied(topic) {
		t.Error("not taken for a deletion, or twice")
	}
	h.step()
	n := len(h.log)
	away := func(what string) {
		t.Helper()
		h.pass(time.Hour)
		h.expect("")
		if len(h.log) != n {
			t.Errorf("%s: %q", what, h.published("web"))
		}
	}
	away("deleted")
	h.want("web", "1", "state", "problem", "more")
	away("a version that shows more of it")
	h.startHomeAssistant()
	away("Home Assistant was restarted")
	h.startHub()
	h.want("web", "1", "state")
	h.announcements.Complete(nil, h.now)
	away("the hub was restarted")
	h.want("web", "2", "state")
	h.pass(time.Minute)
	h.expect("service_web_state_sensor")
}

// What comes back of our own removals is no deletion, also where the service is
// there again before that.
func TestOwnRemovalIsNoDeletion(t *testing.T) {
	h := newFixture(t)
	h.want("web", "1", "state")
	h.startHomeAssistant()
	h.pass(time.Minute)
	h.announcements.Remove(options.ServiceTopic("web"), h.now)
	out, _ := h.announcements.Step(h.now)
	if len(out) == 0 || len(out[0].Payload) != 0 {
		t.Fatalf("%+v", out)
	}
	h.receive(out[0].Topic, nil)
	h.want("web", "1", "state")
	if h.announcements.Emptied(out[0].Topic) {
		t.Error("taken for a deletion")
	}
	h.pass(time.Minute)
	h.expect("service_web_state_sensor")
}

// A birth is answered with all configs, then with the states, a few at a time.
func TestABirthIsAnswered(t *testing.T) {
	h := newFixture(t)
	for i := range 121 {
		h.want(fmt.Sprintf("s%03d", i), "1", "state")
	}
	h.pass(time.Minute)
	if len(h.log) != 121 {
		t.Fatalf("%d configs", len(h.log))
	}
	h.startHomeAssistant()
	born := h.now
	h.pass(1900 * time.Millisecond)
	if len(h.log) != 121 {
		t.Error("answered before the delay is over")
	}
	h.pass(2 * time.Second)
	if len(h.log) != 2*121 || h.states != 0 {
		t.Errorf("%d configs and %d times the states", len(h.log), h.states)
	}
	h.pass(2 * time.Second)
	if h.states != 1 {
		t.Error("no states")
	}
	h.pass(time.Hour)
	if len(h.log) != 2*121 || h.states != 1 {
		t.Error("answered more than once")
	}
	if last := h.times[len(h.times)-1].Sub(born); last > 3*time.Second {
		t.Errorf("the last config after %v", last)
	}
	for i := range h.times {
		if i >= Burst && h.times[i].Sub(h.times[i-Burst]) < Beat {
			t.Fatalf("more than %d in %v", Burst, Beat)
		}
	}
	h.complaints = nil
}

// A birth just after a start of the hub: the configs wait for Home Assistant,
// which may have them from the broker only now, and the states for the configs.
func TestStatesComeAfterConfigs(t *testing.T) {
	h := newFixture(t)
	h.want("web", "1", "state")
	h.pass(time.Minute)
	h.startHub()
	h.want("web", "1", "state")
	h.startHomeAssistant()
	for range 200 {
		h.pass(100 * time.Millisecond)
		if h.states > 0 && len(h.log) < 2 {
			t.Fatal("states before the config")
		}
	}
	if h.states != 1 || len(h.log) != 2 {
		t.Errorf("%d times the states, %d configs", h.states, len(h.log)-1)
	}
}

// A broker that lost everything is sent everything; one that has it, nothing.
func TestABrokerThatForgot(t *testing.T) {
	h := newFixture(t)
	h.want("web", "1", "state")
	h.pass(time.Minute)
	h.announcements.Disconnected()
	h.want("lamp", "1", "state")
	h.pass(time.Minute)
	if len(h.log) != 1 {
		t.Errorf("%d said to nobody", len(h.log)-1)
	}
	h.announcements.Retained(options.ServiceTopic("web"), h.broker[options.ServiceTopic("web")], h.now)
	h.announcements.Connected(h.now)
	h.pass(time.Minute)
	if got := len(h.log); got != 2 {
		t.Errorf("%d configs", got)
	}
	h.announcements.Disconnected()
	h.announcements.Connected(h.now)
	h.pass(time.Minute)
	if got := len(h.log); got != 4 {
		t.Errorf("%d configs", got)
	}
}

// Whatever happens in whatever order: once both are there for a while, Home
// Assistant has what is wanted, no ghost, and nothing to complain about.
func TestNoGhostsWhateverHappens(t *testing.T) {
	keys := []string{"state", "problem", "restart:button", "thing", "thing:button"}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		h := newFixture(t)
		wanted := map[string][]string{}
		wantAll := func() {
			for name, k := range wanted {
				h.want(name, "1", k...)
			}
			h.announcements.Complete(nil, h.now)
		}
		var story []string
		for range 12 {
			name := []string{"a", "b", "c"}[r.IntN(3)]
			switch what := r.IntN(9); what {
			case 0, 1, 2:
				some := []string{"switch"} // every device of ours has one that stays
				for _, k := range keys[:3+r.IntN(2)] {
					if r.IntN(3) > 0 {
						some = append(some, k)
					}
				}
				if len(some) < 3 {
					some = append(some, keys[4])
				}
				wanted[name] = some
				h.want(name, "1", some...)
				story = append(story, fmt.Sprint("want ", name, some))
			case 3:
				delete(wanted, name)
				h.announcements.Remove(options.ServiceTopic(name), h.now)
				h.step()
				story = append(story, "leave "+name)
			case 4:
				h.startHub()
				wantAll()
				story = append(story, "hub")
			case 5:
				h.stopHomeAssistant()
				story = append(story, "away")
			case 6:
				h.startHomeAssistant()
				story = append(story, "born")
			case 7:
				h.announcements.Offline()
				story = append(story, "a late will")
			case 8:
				h.announcements.Disconnected()
				h.connect()
				story = append(story, "a cut")
			}
			d := []time.Duration{0, 2 * time.Second, 20 * time.Second}[r.IntN(3)]
			h.pass(d)
			story = append(story, d.String())
		}
		h.startHomeAssistant()
		h.pass(time.Minute)
		h.startHub()
		wantAll()
		h.pass(time.Minute)
		h.startHomeAssistant()
		h.pass(time.Minute)
		want := map[string]bool{}
		for name, k := range wanted {
			for key, platform := range some(name, k...).Components {
				want[options.ServiceTopic(name)+" "+key+" "+platform] = true
			}
		}
		if !maps.Equal(want, h.registry) {
			t.Fatalf("seed %d: Home Assistant has\n%s\nwant %v\n%s", seed, h.entities(), wanted, strings.Join(story, "; "))
		}
		for _, c := range h.complaints {
			t.Fatalf("seed %d: Home Assistant complains: %s\n%s", seed, c, strings.Join(story, "; "))
		}
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	h := newFixture(t)
	for i := range 2 * maxDevices {
		h.announcements.Retained(options.ServiceTopic(fmt.Sprint("x", i)), []byte(`{"components":{}}`), h.now)
	}
	many := map[string]component{}
	for i := range 1000 {
		many[fmt.Sprint("k", i)] = component{Platform: "sensor", UniqueID: "x"}
	}
	if n := len(platforms(topics.Encode(payload{Components: many}))); n != maxComponents || len(h.announcements.entries) != maxDevices {
		t.Errorf("%d components, %d devices", n, len(h.announcements.entries))
	}
	for _, broken := range []string{"", "{", "[]", `{"components":[]}`, `{"components":{"a":1}}`, `{"components":{"a":{"platform":2}}}`} {
		if got := platforms([]byte(broken)); len(got) != 0 {
			t.Errorf("%s: %v", broken, got)
		}
	}
}
