package devices

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// availabilityOf returns that of the one device that messages tell of.
func availabilityOf(t *testing.T, s *State) string {
	t.Helper()
	check(t, s)
	all := everyDevice(s)
	if len(all) != 1 {
		t.Fatalf("%d devices: %+v", len(all), all)
	}
	return all[0].Availability
}

// takeWords takes words as "topic=payload", with a space between them.
func takeWords(s *State, words string, take func(topic string, payload []byte)) {
	for _, w := range strings.Fields(words) {
		topic, payload, _ := strings.Cut(w, "=")
		take(topic, []byte(payload))
	}
}

// Every component has an availability of its own, by the rules of Home
// Assistant, and one that is available is enough for the device to be there.
func TestEveryComponentCounts(t *testing.T) {
	const two = `"cmps":{"a":{"p":"sensor","avty_t":"a"},"b":{"p":"sensor","avty_t":"b"}}`
	device := func(rest string) []message {
		return []message{{"homeassistant/device/x/config", `{"dev":{"ids":"x"},"o":{"name":"n"},` + rest + `}`}}
	}
	entities := func(all ...string) (messages []message) {
		for i, rest := range all {
			messages = append(messages, message{fmt.Sprintf("homeassistant/sensor/x/e%d/config", i), `{"dev":{"ids":"x"},` + rest + `}`})
		}
		return messages
	}
	for _, c := range []struct {
		announced   []message
		words, want string
	}{
		{device(two), "", "unknown"},
		{device(two), "b=online", "online"},
		{device(two), "b=offline", "offline"},
		{device(two), "a=offline b=online", "online"},
		{device(two), "b=online a=offline", "online"},
		{device(two), "a=offline b=offline", "offline"},
		{entities(`"avty_t":"a"`, `"avty_t":"b"`), "a=offline b=online", "online"},
		{entities(`"avty_t":"a"`, `"avty_t":"b"`), "a=offline b=offline", "offline"},
		{entities(`"avty_t":"a"`, `"stat_t":"b"`), "a=offline b=online", "offline"}, // the other one has none
		// Each has its own words and template, also at one topic.
		{device(`"avty_t":"a","cmps":{"a":{"p":"sensor","pl_avail":"1","pl_not_avail":"0"},"b":{"p":"sensor","pl_avail":"yes","pl_not_avail":"no"}}`), "a=0", "offline"},
		{device(`"avty_t":"a","cmps":{"a":{"p":"sensor","pl_avail":"1","pl_not_avail":"0"},"b":{"p":"sensor","pl_avail":"yes","pl_not_avail":"no"}}`), "a=0 a=yes", "online"},
		{device(`"avty_t":"a","cmps":{"a":{"p":"sensor","pl_avail":"1","pl_not_avail":"0"},"b":{"p":"sensor","pl_avail":"yes","pl_not_avail":"no"}}`), "a=0 a=yes a=no", "offline"},
		{device(`"avty_t":"a","cmps":{"a":{"p":"sensor","pl_avail":"1","pl_not_avail":"0"},"b":{"p":"sensor","pl_avail":"yes","pl_not_avail":"no"}}`), "a=1 a=no", "online"},
		{device(`"cmps":{"a":{"p":"sensor","avty":{"t":"s","val_tpl":"{{ 'online' if value_json.a is defined else 'offline' }}"}},"b":{"p":"sensor","avty":{"t":"s","val_tpl":"{{ 'online' if value_json.b is defined else 'offline' }}"}}}`), `s={"b":1}`, "online"},
		{device(`"cmps":{"a":{"p":"sensor","avty":{"t":"s","val_tpl":"{{ 'online' if value_json.a is defined else 'offline' }}"}},"b":{"p":"sensor","avty":{"t":"s","val_tpl":"{{ 'online' if value_json.b is defined else 'offline' }}"}}}`), `s={"c":1}`, "offline"},
		// What a component does not say it inherits, option by option.
		{device(`"avty_t":"a","pl_avail":"1","pl_not_avail":"0","cmps":{"a":{"p":"sensor","unique_id":"u"}}`), "a=1", "online"},
		{device(`"pl_avail":"1","pl_not_avail":"0","cmps":{"a":{"p":"sensor","avty_t":"a"}}`), "a=0", "offline"},
		{device(`"avty_mode":"all","cmps":{"a":{"p":"sensor","avty":[{"t":"a"},{"t":"b"}]}}`), "a=online", "unknown"},
		{device(`"avty_mode":"all","cmps":{"a":{"p":"sensor","avty":[{"t":"a"},{"t":"b"}],"avty_mode":"any"}}`), "a=online", "online"},
		{device(`"avty_tpl":"{{ value_json.s }}","avty_t":"a","cmps":{"a":{"p":"sensor","avty_t":"b"}}`), `b={"s":"online"}`, "online"},
		{device(`"avty_t":"a","cmps":{"a":{"p":"sensor","avty_t":"b"}}`), "a=offline", "unknown"}, // nobody asks for it
		{device(`"avty_t":"a","cmps":{"a":{"p":"sensor"}}`), "a=online", "unknown"},               // which was removed
		{device(`"avty_t":"a","cmps":{"a":{"p":"sensor"},"b":{"p":"sensor","unique_id":"u"}}`), "a=online", "online"},
		{device(`"cmps":{"a":{"p":"sensor","~":"r","avty_t":"~/a"}}`), "r/a=online", "online"},
		// The last one of a topic counts.
		{entities(`"avty":[{"t":"a","pl_avail":"1"},{"t":"a","pl_avail":"2"}],"avty_mode":"all"`), "a=2", "online"},
		// Words that are no texts.
		{entities(`"avty_t":"a","avty_tpl":"{{ value_json }}","pl_avail":true,"pl_not_avail":false`), "a=true", "online"},
		{entities(`"avty_t":"a","avty_tpl":"{{ value_json }}","pl_avail":true,"pl_not_avail":false`), "a=true a=false", "offline"},
		{entities(`"avty_t":"a","pl_avail":1,"pl_not_avail":0`), "a=1 a=0", "offline"},
		// Zigbee2MQTT's of a device that was switched off.
		{entities(`"avty":[{"t":"a","val_tpl":"{{ \"offline\" }}"}]`), "a=online", "offline"},
		{entities(`"avty":[{"t":"a","val_tpl":"{{ \"online\" }}"}]`), "", "unknown"},
		{entities(`"avty":[{"t":"a","val_tpl":"{{ \"online\" }}"}]`), "a=x", "online"},
	} {
		for _, when := range []string{"words last", "words first"} {
			s := open()
			all := c.announced
			take := func(topic string, payload []byte) { s.TakeLive(topic, payload, noon) }
			if when == "words first" { // and the announcement once more: all others must not matter
				s.takeAll(append(entities(`"avty_t":"a"`, `"avty_t":"b"`, `"avty_t":"s"`), all...))
				takeWords(s, c.words, take)
				s.takeAll([]message{{"homeassistant/sensor/x/e0/config", ""}, {"homeassistant/sensor/x/e1/config", ""}, {"homeassistant/sensor/x/e2/config", ""}})
				s.takeAll(all)
			} else {
				s.takeAll(all)
				takeWords(s, c.words, take)
			}
			if got := availabilityOf(t, s); got != c.want {
				t.Errorf("%v, %s, %s: %s, want %s", c.announced, c.words, when, got, c.want)
			}
		}
	}
}

// A payload that says nothing to a component leaves its last word in force, also
// while its config is replaced by another one.
func TestLastWordStays(t *testing.T) {
	s := open()
	config := func(name string) {
		s.Take("homeassistant/sensor/x/config", []byte(`{"dev":{"ids":"x","name":"`+name+`"},"avty_t":"a"}`), noon)
	}
	config("one")
	for _, payload := range []string{"offline", "maybe", "\xff\xfe", "ONLINE", " online"} {
		s.Take("a", []byte(payload), noon)
	}
	config("two")
	if got := availabilityOf(t, s); got != topics.Offline {
		t.Errorf("it is %s", got)
	}
	s.Take("homeassistant/sensor/x/config", nil, noon)
	for _, at := range s.availabilityTopics {
		if len(at.states) > 0 {
			t.Errorf("%d words of nobody", len(at.states))
		}
	}
}

// In the mode latest the last word of any topic counts, as in Home Assistant.
// Words that a broker had retained come in any order, which therefore means
// nothing, and they are older than what is published now.
func TestLatest(t *testing.T) {
	const config = `{"dev":{"ids":"x"},"avty":[{"t":"a"},{"t":"b"},{"t":"c"}]}`
	for _, c := range []struct{ retained, now, want string }{
		{"", "a=online b=offline", "offline"},
		{"", "b=offline a=online", "online"},
		{"", "b=offline a=online a=maybe", "online"},
		{"", "a=online b=offline a=online", "online"},
		{"a=online b=online", "", "online"},
		{"a=online b=offline c=online", "", "offline"},
		{"a=online b=offline", "c=online", "online"},
		{"a=online b=offline", "a=online", "online"},
		{"a=online b=online", "c=offline", "offline"},
		{"a=online", "", "online"},
	} {
		retained := strings.Fields(c.retained)
		for seed := range uint64(10) {
			random := rand.New(rand.NewPCG(seed, 1))
			random.Shuffle(len(retained), func(i, j int) { retained[i], retained[j] = retained[j], retained[i] })
			s := open()
			replay := func() {
				takeWords(s, strings.Join(retained, " "), func(topic string, payload []byte) { s.Take(topic, payload, noon) })
			}
			s.Take("homeassistant/sensor/x/config", []byte(config), noon)
			replay()
			takeWords(s, c.now, func(topic string, payload []byte) { s.TakeLive(topic, payload, noon) })
			replayed := availabilityOf(t, s)
			if replayed != c.want {
				t.Errorf("%v retained, then %s: %s, want %s", retained, c.now, replayed, c.want)
			}
			if c.now != "" {
				continue
			}
			s.Forget() // another connection
			s.Take("homeassistant/sensor/x/config", []byte(config), noon)
			replay()
			if got := availabilityOf(t, s); got != c.want {
				t.Errorf("%v after another connection: %s, want %s", retained, got, c.want)
			}
		}
	}
	// What was published before the connection was lost is no later than what is
	// retained now.
	s := open()
	s.Take("homeassistant/sensor/x/config", []byte(config), noon)
	s.TakeLive("a", []byte("online"), noon)
	s.Forget()
	s.Take("b", []byte("offline"), noon)
	s.Take("homeassistant/sensor/x/config", []byte(config), noon)
	s.Take("a", []byte("online"), noon)
	s.Take("b", []byte("offline"), noon)
	if got := availabilityOf(t, s); got != topics.Offline {
		t.Errorf("after another connection: %s", got)
	}
}

// Whatever is retained, in every order of its messages the availability is the
// same one.
func TestAvailabilityInEveryOrder(t *testing.T) {
	all := []message{
		{"homeassistant/device/x/config", `{"dev":{"cns":[["mac","a4:cf:12:ef:3b:70"]]},"avty":[{"t":"p"},{"t":"q"}],"cmps":{"a":{"p":"sensor","unique_id":"u"},"b":{"p":"sensor","avty_t":"r","avty_tpl":"{{ value_json.s }}"}}}`},
		{"homeassistant/sensor/old/config", `{"dev":{"cns":[["mac","a4:cf:12:ef:3b:70"]]},"avty_t":"dominion/domain/lamp/availability"}`},
		{"dominion/domain/lamp/availability", "offline"},
		{"p", "online"},
		{"q", "offline"},
		{"r", `{"s":"offline"}`},
	}
	var want string
	permutations(all, func() {
		s := open()
		for _, m := range all {
			s.Take(m.topic, []byte(m.payload), noon)
		}
		for _, m := range all { // a topic is asked for when its announcement is known
			if slices.Contains(s.Watched(), m.topic) {
				s.Take(m.topic, []byte(m.payload), noon)
			}
		}
		got := string(picture(s))
		if want == "" {
			want = got
		}
		if got != want || availabilityOf(t, s) != topics.Offline {
			t.Fatalf("%v: %s\nwant %s", all, got, want)
		}
	})
}

// permutations calls a function for every order of messages.
func permutations(all []message, then func()) {
	var permute func(n int)
	permute = func(n int) {
		if n == len(all) {
			then()
			return
		}
		for i := n; i < len(all); i++ {
			all[n], all[i] = all[i], all[n]
			permute(n + 1)
			all[n], all[i] = all[i], all[n]
		}
	}
	permute(0)
}

// A device that says of itself whether it is there is believed, whatever a config
// says that was left behind.
func TestDeviceItselfIsAvailable(t *testing.T) {
	left := message{"homeassistant/switch/x/config", `{"dev":{"cns":[["mac","a4:cf:12:ef:3b:70"]]},"avty_t":"tele/old/LWT","pl_avail":"Online","pl_not_avail":"Offline"}`}
	tasmota := message{"tasmota/discovery/A4CF12EF3B70/config", `{"ip":"192.168.1.7","mac":"A4CF12EF3B70","t":"new","ft":"%prefix%/%topic%/","tp":["cmnd","stat","tele"],"onln":"Online","ofln":"Offline"}`}
	esphome := message{"esphome/discover/lamp", `{"mac":"a4cf12ef3b70","name":"lamp"}`}
	lamp := message{"homeassistant/light/lamp/config", `{"dev":{"ids":"a4cf12ef3b70"},"avty_t":"lamp/status"}`}
	moved := message{"homeassistant/light/lamp/config", `{"dev":{"ids":"a4cf12ef3b70"},"avty_t":"other/status"}`}
	zigbee := message{"zigbee2mqtt/bridge/devices", `[{"ieee_address":"0x00158d00018255df","type":"Router","friendly_name":"Plug"}]`}
	former := message{"homeassistant/switch/plug/config", `{"dev":{"ids":"zigbee2mqtt_0x00158d00018255df"},"avty":[{"t":"former/bridge/state"}]}`}
	for what, c := range map[string]struct {
		announced   []message
		words, want string
	}{
		"Tasmota":                           {[]message{left, tasmota}, "tele/old/LWT=Online tele/new/LWT=Offline", "offline"},
		"Tasmota, available":                {[]message{left, tasmota}, "tele/old/LWT=Offline tele/new/LWT=Online", "online"},
		"Tasmota, silent":                   {[]message{left, tasmota}, "tele/old/LWT=Online", "online"},
		"ESPHome":                           {[]message{left, esphome, lamp}, "tele/old/LWT=Online lamp/status=offline", "offline"},
		"ESPHome without configs":           {[]message{esphome}, "lamp/status=offline", "offline"},
		"ESPHome with topics of its own":    {[]message{esphome, moved}, "lamp/status=offline other/status=online", "online"},
		"ESPHome with them, and without":    {[]message{esphome, moved}, "lamp/status=online other/status=offline", "online"},
		"ESPHome with them, silent":         {[]message{esphome, moved}, "other/status=offline", "offline"},
		"both configs, with one that moved": {[]message{left, lamp}, "tele/old/LWT=Offline lamp/status=online", "online"},
		"Zigbee2MQTT":                       {[]message{zigbee, former}, "zigbee2mqtt/bridge/state=online former/bridge/state=offline", "online"},
		"Zigbee2MQTT, offline":              {[]message{zigbee, former}, "zigbee2mqtt/bridge/state=online zigbee2mqtt/Plug/availability=offline former/bridge/state=online", "offline"},
		"Zigbee2MQTT, silent":               {[]message{zigbee, former}, "former/bridge/state=online", "online"},
	} {
		permutations(c.announced, func() {
			s := open()
			s.takeAll(c.announced)
			takeWords(s, c.words, func(topic string, payload []byte) { s.Take(topic, payload, noon) })
			if got := availabilityOf(t, s); got != c.want {
				t.Errorf("%s: %s, want %s", what, got, c.want)
			}
		})
	}
}

// A template that is not understood is named, and the device is unknown.
func TestTemplateIsNamed(t *testing.T) {
	for template, problem := range map[string]string{
		"{{ states('sensor.x') }}": `its availability_template cannot be evaluated: "states" is not supported`,
		"{{ value | nofilter }}":   `its availability_template cannot be evaluated: the filter "nofilter" is not supported`,
		"{{ value":                 `its availability_template cannot be evaluated: "}}" has no end`,
	} {
		s := open()
		s.Take("homeassistant/sensor/x/config", []byte(fmt.Sprintf(`{"dev":{"ids":"x"},"avty_t":"a","avty_tpl":%q}`, template)), noon)
		s.Take("a", []byte("online"), noon)
		problems, _ := s.Problems()
		if got := availabilityOf(t, s); got != topics.DeviceUnknown || len(problems) != 1 || !strings.HasPrefix(problems[0].Message, problem) {
			t.Errorf("%s: %s, %+v", template, got, problems)
		}
	}
}

// What a payload needs that is not supported is named at its topic, until another
// one is understood.
func TestPayloadIsNamed(t *testing.T) {
	s := open()
	s.Take("homeassistant/sensor/x/config", []byte(`{"dev":{"ids":"x"},"stat_t":"s","uniq_id":"u","avty_t":"a","avty_tpl":"{{ value_json.a[1:] }}","pl_avail":"n","pl_not_avail":"ff"}`), noon)
	for _, c := range []struct{ payload, want, problem string }{
		{`{"a":"on"}`, topics.Online, ""},
		{`{"a":5}`, topics.DeviceUnknown, "a template of availability cannot be evaluated: a slice of neither text nor list is not supported"},
		{`{"a":"off"}`, topics.Offline, ""},
		{`{"a":"on","b":"` + strings.Repeat("x", maxAvailability) + `"}`, topics.DeviceUnknown, "a payload of availability with a template is longer than 4096 bytes"},
		{`{"a":"on"}`, topics.Online, ""},
	} {
		s.Take("a", []byte(c.payload), noon)
		problems, _ := s.Problems()
		named := ""
		if len(problems) > 0 {
			named = problems[0].Topic + ": " + problems[0].Message
		}
		if got := availabilityOf(t, s); got != c.want || c.problem == "" && named != "" || c.problem != "" && named != "a: "+c.problem {
			t.Errorf("%.100s: %s, %q", c.payload, got, named)
		}
	}
}

// Payloads of availability are bounded, however many come.
func TestWordsAreBounded(t *testing.T) {
	s := open()
	for i := range 4000 {
		s.Take(fmt.Sprintf("homeassistant/sensor/x%d/config", i), []byte(fmt.Sprintf(`{"dev":{"ids":"x%d"},"avty_t":"a/%d"}`, i, i)), noon)
		s.Take(fmt.Sprintf("a/%d", i), []byte(strings.Repeat("x", maxAvailability)), noon)
	}
	sum := 0
	for _, at := range s.availabilityTopics {
		sum += len(at.payload)
	}
	if sum != s.storedBytes || sum > maxStored || sum < maxStored/2 {
		t.Errorf("%d bytes, counted as %d", sum, s.storedBytes)
	}
	// Components without end are bounded, too, and the device is there.
	var components []string
	for i := range 100 {
		components = append(components, fmt.Sprintf(`"c%d":{"p":"sensor","avty_t":"b/%d"}`, i, i))
	}
	s = open()
	s.Take("homeassistant/device/x/config", []byte(`{"dev":{"ids":"x"},"cmps":{`+strings.Join(components, ",")+`}}`), noon)
	s.Take("b/3", []byte("online"), noon)
	problems, _ := s.Problems()
	if got := availabilityOf(t, s); got != topics.Online || len(problems) != 1 || !strings.HasPrefix(problems[0].Message, "its components have more than 32 different availabilities") {
		t.Errorf("%s, %+v", got, problems)
	}
}

// recorded is a row of testdata/availability.jsonl: a config, messages, and which
// of its components are available in the real Home Assistant after them. The
// end-to-end test TestHomeAssistantAvailability compares the table with it, and
// writes it with -update.
type recorded struct {
	Device    bool                       `json:"device"`
	Config    map[string]json.RawMessage `json:"config"`
	Messages  [][2]string                `json:"messages"`
	Available map[string]bool            `json:"available"`
	Refused   bool                       `json:"refused"`
}

// A device is online where Home Assistant has an available component of it, and
// else offline or unknown. Only a retained message that is removed is no word here,
// which Home Assistant notices after its next start.
func TestAvailabilityOfHomeAssistant(t *testing.T) {
	file, err := os.ReadFile("testdata/availability.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(file)) {
		var r recorded
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		rows++
		r.Config["device"], r.Config["origin"] = json.RawMessage(`{"identifiers":["x"]}`), json.RawMessage(`{"name":"test"}`)
		config, err := json.Marshal(r.Config)
		if err != nil {
			t.Fatal(err)
		}
		topic := "homeassistant/sensor/x/config"
		if r.Device {
			topic = "homeassistant/device/x/config"
		}
		s := open()
		s.Take(topic, config, noon)
		for _, m := range r.Messages {
			s.TakeLive(m[0], []byte(m[1]), noon)
		}
		available := slices.Contains(slices.Collect(maps.Values(r.Available)), true)
		problems, _ := s.Problems()
		removed := len(r.Messages) > 0 && r.Messages[len(r.Messages)-1][1] == ""
		switch got := availabilityOf(t, s); {
		case r.Refused && len(problems) == 0:
			t.Errorf("%s is refused by Home Assistant and not named", line)
		case !r.Refused && available != (got == topics.Online) && !(removed && got == topics.DeviceUnknown):
			t.Errorf("%s: %s", line, got)
		}
	}
	if rows < 100 {
		t.Errorf("%d rows", rows)
	}
}
