package devices

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

var update = flag.Bool("update", false, "write the golden files again")

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func open() *State { return New(Options{"dominion", "homeassistant", DefaultLimits()}) }

// message is a line of a transcript, which is what mosquitto_sub -v prints.
type message struct{ topic, payload string }

func transcript(t testing.TB, name string) []message {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var all []message
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimRight(line, "\n"); !strings.HasPrefix(line, "#") {
			topic, payload, _ := strings.Cut(line, " ")
			all = append(all, message{topic, payload})
		}
	}
	return all
}

func (s *State) takeAll(all []message) {
	for _, m := range all {
		s.Take(m.topic, []byte(m.payload), noon)
	}
}

// picture is all that a state shows.
func picture(s *State) []byte {
	problems, more := s.Problems()
	var b bytes.Buffer
	if err := json.Indent(&b, topics.Encode(topics.Devices{Devices: everyDevice(s), Problems: problems, More: more}), "", "  "); err != nil {
		panic(err)
	}
	return append(b.Bytes(), '\n')
}

// TestTranscripts pins the entries that come of what devices publish.
func TestTranscripts(t *testing.T) {
	for _, name := range []string{"esphome", "tasmota", "zigbee2mqtt", "homie", "shelly", "homeassistant", "hostile"} {
		t.Run(name, func(t *testing.T) {
			s := open()
			s.takeAll(transcript(t, name))
			got, file := picture(s), filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs (go test ./hub/devices -update writes it anew):\n%s", file, got)
			}
		})
	}
}

func everything(t testing.TB) []message {
	var all []message
	for _, name := range []string{"esphome", "tasmota", "zigbee2mqtt", "homie", "shelly", "homeassistant", "hostile"} {
		if name == "hostile" {
			for _, m := range transcript(t, name) {
				if m.topic != "zigbee2mqtt/bridge/devices" { // the other one is right
					all = append(all, m)
				}
			}
			continue
		}
		all = append(all, transcript(t, name)...)
	}
	return all
}

// TestOrderDoesNotMatter holds for every order in which a broker may replay,
// also where some of it was taken back and published again in between.
func TestOrderDoesNotMatter(t *testing.T) {
	all := everything(t)
	// Words of availability count from when somebody listens to them.
	s := open()
	s.takeAll(all)
	s.takeAll(all)
	want := picture(s)
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := open()
		shuffled := append([]message(nil), all...)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for _, m := range shuffled {
			s.Take(m.topic, []byte(m.payload), noon)
			if random.IntN(4) == 0 {
				back := shuffled[random.IntN(len(shuffled))]
				s.Take(back.topic, nil, noon)
				check(t, s)
			}
		}
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		s.takeAll(shuffled)
		s.takeAll(words(all)) // the last one in the order in which it was published
		if got := picture(s); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: other entries:\n%s\nwant:\n%s", seed, got, want)
		}
		for _, m := range shuffled {
			s.Take(m.topic, nil, noon)
		}
		check(t, s)
		s.Prune()
		if len(s.IDs()) > 0 || s.count != 0 || s.cost != 0 || len(s.keys)+len(s.vias)+len(s.availabilityTopics)+len(s.sources)+len(s.parts)+s.partCount+s.partCost > 0 {
			t.Fatalf("seed %d: something is left: %v, %d announcements of %d bytes", seed, s.IDs(), s.count, s.cost)
		}
	}
}

func words(all []message) []message {
	var selected []message
	for _, m := range all {
		if s := open(); func() bool { read, _ := s.reader(m.topic); return read == nil }() && !isPart(m) {
			selected = append(selected, m)
		}
	}
	return selected
}

func isPart(m message) bool {
	c, _, _ := partOf(m.topic, []byte(m.payload))
	return c != nil
}

// check holds for every state: announcements that share a key are of one
// device, and others are not.
func check(t testing.TB, s *State) {
	t.Helper()
	count, cost := 0, 0
	for id, device := range s.devices {
		if got := len(s.connected(device[0])); got != len(device) {
			t.Errorf("%s has %d announcements, %d belong together", id, len(device), got)
		}
		if want := strongest(device).id(); want != id || !topics.ValidName(id) {
			t.Errorf("%q should be %q, a name", id, want)
		}
		for _, a := range device {
			count, cost = count+1, cost+a.cost
			if a.id != id {
				t.Errorf("%s says it is of %s and is of %s", a.source, a.id, id)
			}
		}
	}
	parts, partCost := 0, 0
	for base, d := range s.parts {
		if len(d.parts) == 0 {
			t.Errorf("nothing is left of %s", base)
		}
		for name, p := range d.parts {
			parts, partCost = parts+1, partCost+p.cost(name)
		}
	}
	if parts != s.partCount || partCost != s.partCost {
		t.Errorf("%d parts of %d bytes, counted are %d of %d", parts, partCost, s.partCount, s.partCost)
	}
	sources := 0
	for _, one := range s.sources {
		sources += len(one.all)
	}
	if count != s.count || cost != s.cost || sources != count {
		t.Errorf("%d announcements of %d bytes at %d topics, counted are %d of %d", count, cost, sources, s.count, s.cost)
	}
}

// A second announcement neither makes a second device of it nor gives it
// another id, and what it held together falls apart without it.
func TestJoinAndSplit(t *testing.T) {
	s := open()
	take := func(topic, payload string) { s.Take(topic, []byte(payload), noon) }
	want := func(ids ...string) {
		t.Helper()
		if got := s.IDs(); fmt.Sprint(got) != fmt.Sprint(ids) {
			t.Errorf("devices %v, want %v", got, ids)
		}
		check(t, s)
	}
	take("tasmota/discovery/AABBCCDDEE01/sensors", "{}")
	want("aabbccddee01")
	take("homeassistant/switch/a/config", `{"uniq_id":"a","cmd_t":"c","dev":{"ids":["x"],"cns":[["mac","AA:BB:CC:DD:EE:01"]]}}`)
	want("aabbccddee01")
	take("homeassistant/switch/b/config", `{"uniq_id":"b","cmd_t":"c","dev":{"ids":["y"]}}`)
	y := keyOfIdentifier("y").id()
	want("aabbccddee01", y)
	take("homeassistant/switch/c/config", `{"uniq_id":"c","cmd_t":"c","dev":{"ids":["x","y"],"via_device":"z"}}`)
	want("aabbccddee01")
	if d, _ := s.Device("aabbccddee01"); d.Via != "z" {
		t.Errorf("via %q", d.Via)
	}
	s.Changed()
	take("homeassistant/switch/z/config", `{"uniq_id":"z","cmd_t":"c","dev":{"ids":["z"]}}`)
	z := keyOfIdentifier("z").id()
	if d, _ := s.Device("aabbccddee01"); d.Via != z {
		t.Errorf("via %q, want %q", d.Via, z)
	}
	if got := s.Changed(); len(got) != 2 {
		t.Errorf("changed are %v: whoever is reached through the new one, too", got)
	}
	take("homeassistant/switch/c/config", "")
	want("aabbccddee01", y, z)
	take("homeassistant/switch/a/config", "{")
	want("aabbccddee01", y, z)
	take("tasmota/discovery/AABBCCDDEE01/sensors", "")
	want(y, z)
	if problems, _ := s.Problems(); len(problems) != 1 || problems[0].Topic != "homeassistant/switch/a/config" {
		t.Errorf("problems %+v", problems)
	}
}

// Whoever announces the same again is not read again.
func TestSameAgainIsNothing(t *testing.T) {
	s := open()
	all := transcript(t, "esphome")
	s.takeAll(all)
	s.Changed()
	for _, m := range all {
		if read, _ := s.reader(m.topic); read != nil {
			s.Take(m.topic, []byte(m.payload), noon)
		}
	}
	if got := s.Changed(); len(got) > 0 {
		t.Errorf("changed: %v", got)
	}
}

// A list that comes again does not forget what was published of availability:
// nobody would say it again.
func TestAvailabilitySurvivesANewList(t *testing.T) {
	s := open()
	s.takeAll(transcript(t, "zigbee2mqtt"))
	was := s.Watched()
	s.Take("zigbee2mqtt/bridge/devices", []byte(`[]`), noon)
	s.takeAll(transcript(t, "zigbee2mqtt")[:2])
	if d, _ := s.Device("0x90fd9ffffe6494fc"); d.Availability != topics.Offline || fmt.Sprint(was) != fmt.Sprint(s.Watched()) {
		t.Errorf("the bulb is %s; watched are %v, were %v", d.Availability, s.Watched(), was)
	}
}

// A base of two levels is as good as one of one, and one of three is not listened
// to.
func TestBaseOfZigbee2MQTT(t *testing.T) {
	for base, want := range map[string]int{"z": 1, "home/zigbee2mqtt": 1, "house/floor/zigbee2mqtt": 0} {
		s := open()
		s.Take(base+"/bridge/devices", []byte(`[{"ieee_address":"0x0000000000000001","type":"Router","friendly_name":"hall/lamp"}]`), noon)
		s.Take(base+"/bridge/state", []byte(`{"state":"online"}`), noon)
		all := everyDevice(s)
		if len(all) != want || want == 1 && (all[0].Availability != topics.Online || all[0].Topics.Command[0] != base+"/hall/lamp/set") {
			t.Errorf("%s: %+v", base, all)
		}
	}
}

func TestAvailability(t *testing.T) {
	zwave := `"avty_t":"a","avty_tpl":"{{'true' if value_json.value else 'false'}}","pl_avail":"true","pl_not_avail":"false"`
	two := `"avty":[{"t":"a"},{"t":"b"}]`
	for _, c := range []struct{ config, published, want string }{
		{`"avty_t":"a"`, "", "unknown"},
		{`"avty_t":"a"`, "a=online", "online"},
		{`"avty_t":"a"`, "a=online a=offline", "offline"},
		{`"avty_t":"a"`, "a=online a=maybe", "online"},
		{`"avty_t":"a"`, "a=maybe", "unknown"},
		{`"avty_t":"a","pl_avail":"1","pl_not_avail":"0"`, "a=1", "online"},
		{`"avty_t":"a","pl_avail":"1","pl_not_avail":"0"`, "a=online", "unknown"},
		{`"avty_t":"a","avty_tpl":"{{ value_json.state }}"`, `a={"x":[1,{}],"state":"offline"}`, "offline"},
		{`"avty_t":"a","avty_tpl":"{{value_json['state']}}"`, `a={"state":"online"}`, "online"},
		{`"avty_t":"a","avty_tpl":"{{ value_json.state }}"`, `a=online`, "online"}, // what is undefined leaves the payload
		{`"avty_t":"a","avty_tpl":"{{ value_json.state.x }}"`, `a={"state":"online"}`, "unknown"},
		{`"avty_t":"a","avty_tpl":"{{ \"offline\" }}"`, ``, "offline"},
		{`"avty_t":"a","avty_tpl":"{{ value }}"`, `a=online`, "online"},
		{`"avty_t":"a","avty_tpl":"{% if 1 %}online{% endif %}"`, `a=x`, "online"},
		{`"avty_t":"a","avty_tpl":"{% for x in value %}online{% endfor %}"`, `a=online`, "unknown"},
		{zwave, `a={"value":true}`, "online"},
		{`"avty_t":"a","avty_tpl":"{{ value_json.a }}","pl_avail":"True","pl_not_avail":"False"`, `a={"a":true}`, "online"},
		{`"avty_t":"a","avty_tpl":"{{ value_json.a }}","pl_avail":"true","pl_not_avail":"false"`, `a={"a":true}`, "unknown"},
		{zwave, `a={"value":false}`, "offline"},
		{zwave, `a={}`, "offline"},
		{zwave, ``, "unknown"},
		{zwave, `a=nonsense`, "unknown"},
		{`"avty_t":"a","avty_tpl":"{{ value_json.a.b == 'up' }}","pl_avail":"True","pl_not_avail":"False"`, `a={"a":{"b":"up"}}`, "online"},
		{`"avty_t":"a","avty_tpl":"{{ value_json.get('a','x') | lower }}"`, `a={"a":"ONLINE"}`, "online"},
		{`"avty_t":"a","avty_tpl":"{{ value_json.a | default('offline') }}"`, `a={}`, "offline"},
		{`"avty_t":"a","avty_tpl":"{{ iif(value_json.n|int > 2, 'online', 'offline') }}"`, `a={"n":"3"}`, "online"},
		{`"avty_t":"a","avty_tpl":"{{ 'online' if value_json.a is defined and not value_json.b else 'offline' }}"`, `a={"a":1}`, "online"},
		{`"avty_t":"a","avty_tpl":"{{ (value_json.a is defined) | iif('online','offline') }}"`, `a={}`, "offline"},
		{`"avty_t":"a","avty_tpl":"{{ states('x') }}"`, `a={}`, "unknown"},
		{two + `,"avty_mode":"all"`, "a=online", "unknown"},
		{two + `,"avty_mode":"all"`, "a=online b=online", "online"},
		{two + `,"avty_mode":"all"`, "b=offline", "offline"},
		{two + `,"avty_mode":"any"`, "b=online", "online"},
		{two + `,"avty_mode":"any"`, "b=offline", "unknown"},
		{two + `,"avty_mode":"any"`, "b=offline a=offline", "offline"},
		{two, "a=online b=offline", "offline"},
		{two, "b=offline a=online", "online"},
		{two, "b=offline a=nonsense", "offline"},
		{`"stat_t":"a"`, "a=online", "unknown"},
		{`"avty_t":"a"`, "a=online a=" + strings.Repeat("x", 10_000), "online"},
		{`"avty_t":"a","avty_tpl":"{{ value_json.a }}"`, `a={"a":"online"} a={"a":"offline","b":"` + strings.Repeat("x", 10_000) + `"}`, "unknown"}, // not read, and no longer online
		{`"avty_t":"a"`, "a=online a=", "unknown"},                                                                                                  // taken back
	} {
		s := open()
		s.Take("homeassistant/switch/x/config", []byte(`{"dev":{"ids":"x"},`+c.config+`}`), noon)
		for _, w := range strings.Fields(c.published) {
			topic, payload, _ := strings.Cut(w, "=")
			s.TakeLive(topic, []byte(payload), noon)
		}
		if got := everyDevice(s); len(got) != 1 || got[0].Availability != c.want {
			t.Errorf("%s, %s: %+v, want %s", c.config, c.published, got, c.want)
		}
	}
}

// Where announcements of a device differ neither their order nor their topics
// decide: the device itself is believed first, then the majority of the configs,
// and of as many the newer ones.
func TestWhoIsBelieved(t *testing.T) {
	config := func(topic, name, version string) message {
		return message{"homeassistant/sensor/" + topic + "/config", fmt.Sprintf(`{"dev":{"cns":[["mac","A4:CF:12:EF:3B:70"]],"name":%q,"sw":%q,"mdl":"m"}}`, name, version)}
	}
	for what, c := range map[string]struct {
		all           []message
		name, version string
	}{
		"the majority":                        {[]message{config("a", "Old", "2026.9.0"), config("b", "New", "2026.10.0"), config("c", "New", "2026.10.0")}, "New", "2026.10.0"},
		"the majority, older by its spelling": {[]message{config("a", "Zed", "9"), config("b", "Abc", "10"), config("c", "Abc", "10")}, "Abc", "10"},
		"as many, the newer":                  {[]message{config("a", "Old", "2026.9.3"), config("b", "New", "2026.10.0")}, "New", "2026.10.0"},
		"as many, the newer first":            {[]message{config("b", "Old", "v9.5.0"), config("a", "New", "v15.1.0")}, "New", "v15.1.0"},
		"ESPHome itself": {[]message{
			config("a", "Old", "2026.9.0"), config("b", "Old", "2026.9.0"),
			{"esphome/discover/lamp", `{"mac":"a4cf12ef3b70","name":"lamp","friendly_name":"New","version":"2026.10.0"}`},
		}, "New", "2026.10.0"},
		"Tasmota itself": {[]message{
			config("a", "Old", "14.0"), config("b", "Old", "14.0"),
			{"tasmota/discovery/A4CF12EF3B70/config", `{"mac":"A4CF12EF3B70","dn":"New","sw":"15.1.0","t":"x","ft":"%prefix%/%topic%/","tp":["cmnd","stat","tele"]}`},
			{"tasmota/discovery/A4CF12EF3B70/sensors", `{}`},
		}, "New", "15.1.0"},
		"what the device leaves open": {[]message{config("a", "Lamp", "1"), {"tasmota/discovery/A4CF12EF3B70/sensors", `{}`}}, "Lamp", "1"},
	} {
		for seed := range uint64(20) {
			random := rand.New(rand.NewPCG(seed, 1))
			random.Shuffle(len(c.all), func(i, j int) { c.all[i], c.all[j] = c.all[j], c.all[i] })
			s := open()
			s.takeAll(c.all)
			if d, _ := s.Device("a4cf12ef3b70"); d.Name != c.name || d.Version != c.version {
				t.Errorf("%s: %s %s, want %s %s", what, d.Name, d.Version, c.name, c.version)
				break
			}
		}
	}
}

// A device that is a domain of ours is as available in every order of the same
// messages: nobody sends the word of the domain again when it is announced.
func TestDomainBeforeOrAfterItsAnnouncement(t *testing.T) {
	birth := message{"dominion/domain/shed-lamp/availability", "online"}
	light := message{"homeassistant/light/shed/config", `{"dev":{"ids":["shed"]},"avty_t":"dominion/domain/shed-lamp/availability"}`}
	native := message{"esphome/discover/shed", `{"mac":"a4cf12ef3b70","name":"shed"}`}
	other := message{"homeassistant/sensor/shed/config", `{"dev":{"ids":["shed","a4cf12ef3b70"]},"avty_t":"dominion/domain/shed-lamp/availability"}`}
	all := []message{birth, light, native, other}
	var permute func(n int, then func())
	permute = func(n int, then func()) {
		if n == len(all) {
			then()
			return
		}
		for i := n; i < len(all); i++ {
			all[n], all[i] = all[i], all[n]
			permute(n+1, then)
			all[n], all[i] = all[i], all[n]
		}
	}
	var want string
	permute(0, func() {
		s := open()
		s.takeAll(all)
		got := string(picture(s))
		if want == "" {
			want = got
		}
		d, _ := s.Device("a4cf12ef3b70")
		if got != want || d.Availability != topics.Online || d.Domain != "shed-lamp" {
			t.Fatalf("%v: %s", all, got)
		}
		s.Forget() // the connection is lost, and the announcements come first
		s.Prune()
		s.takeAll([]message{native, light, other})
		if d, _ := s.Device("a4cf12ef3b70"); d.Availability != topics.Online {
			t.Fatalf("after another connection: %+v", d)
		}
		s.Take(birth.topic, nil, noon)
		if d, _ := s.Device("a4cf12ef3b70"); d.Availability != topics.DeviceUnknown || len(s.domainPayloads) != 0 {
			t.Fatalf("of a domain that was forgotten: %+v", d)
		}
	})
}

func TestKeys(t *testing.T) {
	same := [][]string{
		{"a4cf12ef3b70", "A4:CF:12:EF:3B:70", "a4-cf-12-ef-3b-70", "A4CF.12EF.3B70"},
		{"0x00158d00018255df", "zigbee2mqtt_0x00158D00018255DF", "zigbee2mqtt_bridge_0x00158d00018255df"},
		{"shellyplus1-a4cf12ef3b70"},
		{"x"},
		{"X"},
		{"000000000000"},
		{"zigbee2mqtt_1221051_1"},
	}
	groups := make(map[string]string)
	for _, group := range same {
		id := keyOfIdentifier(group[0]).id()
		if groups[id] != "" || !topics.ValidName(id) {
			t.Errorf("%s has the id %s of %s", group[0], id, groups[id])
		}
		groups[id] = group[0]
		for _, other := range group {
			if keyOfIdentifier(other).id() != id {
				t.Errorf("%s and %s are two devices", group[0], other)
			}
		}
	}
	if keyOfConnection("mac", "A4:CF:12:EF:3B:70") != keyOfIdentifier("a4cf12ef3b70") ||
		keyOfConnection("zigbee", "00:15:8d:00:01:82:55:df") != keyOfIdentifier("0x00158d00018255df") ||
		keyOfConnection("bluetooth", "A4:CF:12:EF:3B:70") == keyOfIdentifier("a4cf12ef3b70") {
		t.Error("connections and identifiers")
	}
}

// everyDevice returns every entry, by id.
func everyDevice(s *State) []topics.Device {
	all := []topics.Device{}
	for _, id := range s.IDs() {
		all = append(all, s.entry(id))
	}
	return all
}
