package devices

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// held returns how many bytes live on in what make returns.
func held(make func() *State) (bytes int64, s *State) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s = make()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc), s
}

// Whatever is announced, what is stored of it is bounded, and what was left out
// has its name among the problems.
func TestMemoryIsBounded(t *testing.T) {
	const bound = 32 << 20 // of 16 MiB of texts, with all that holds them
	list := func(n int, of func(n int) string) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(of(i))
		}
		return b.String()
	}
	long := strings.Repeat("x", 200)
	for name, c := range map[string]struct {
		announce func(take func(topic, payload string))
		problem  string
	}{
		"megabytes": {func(take func(topic, payload string)) {
			for i := range 20 {
				take(fmt.Sprintf("homeassistant/switch/m%d/config", i), `{"dev":{"ids":["x"],"name":"`+strings.Repeat("y", 3<<20)+`"}}`)
			}
		}, "3145759 bytes are more"},
		"a text of almost a megabyte": {func(take func(topic, payload string)) {
			for i := range 60 {
				take(fmt.Sprintf("homeassistant/switch/m%d/config", i), fmt.Sprintf(`{"dev":{"ids":["x%d"],"name":"%s"}}`, i, strings.Repeat("y", 900_000)))
			}
		}, ""},
		"deep": {func(take func(topic, payload string)) {
			take("homeassistant/switch/x/config", strings.Repeat("[", 1<<19)+strings.Repeat("]", 1<<19))
			take("z/bridge/devices", strings.Repeat(`{"a":`, 1<<20))
		}, "nests deeper"},
		"ten thousand topics of one device": {func(take func(topic, payload string)) {
			for i := range 10_000 {
				take(fmt.Sprintf("homeassistant/switch/one/s%d/config", i), fmt.Sprintf(`{"dev":{"ids":["one"]},"uniq_id":"%d","cmd_t":"c","stat_t":"%s/%d"}`, i, long, i))
			}
		}, "announcements of one device is reached"},
		"twenty thousand devices": {func(take func(topic, payload string)) {
			for i := range 20_000 {
				take(fmt.Sprintf("homeassistant/switch/d%d/config", i), fmt.Sprintf(`{"dev":{"ids":["d%d"],"name":"%s"},"uniq_id":"%d","cmd_t":"c","stat_t":"%s/%d","avty_t":"a/%d"}`, i, long, i, long, i, i))
			}
		}, "is reached: it is not listed"},
		"as many topics as an announcement may have": {func(take func(topic, payload string)) {
			for i := range 2000 {
				take(fmt.Sprintf("homeassistant/device/d%d/config", i), fmt.Sprintf(`{"dev":{"ids":["d%d"]},"o":{"name":"t"},"cmps":{%s}}`, i, list(64, func(n int) string {
					return fmt.Sprintf(`"c%d":{"p":"sensor","uniq_id":"%d-%d","stat_t":"%s/%d/%d"}`, n, i, n, long, i, n)
				})))
			}
		}, "the limit of all announcements is reached"},
		"ten thousand components": {func(take func(topic, payload string)) {
			take("homeassistant/device/d/config", `{"dev":{"ids":["d"]},"o":{"name":"t"},"cmps":{`+list(10_000, func(n int) string {
				return fmt.Sprintf(`"c%d":{"p":"sensor","uniq_id":"%d","stat_t":"t/%d"}`, n, n, n)
			})+`}}`)
		}, "more than 1000 components"},
		"availabilities without end": {func(take func(topic, payload string)) {
			for i := range 300 {
				take(fmt.Sprintf("homeassistant/device/d%d/config", i), fmt.Sprintf(`{"o":{"name":"n"},"dev":{"ids":["d%d"]},"cmps":{%s}}`, i, list(32, func(n int) string {
					return fmt.Sprintf(`"c%d":{"p":"sensor","uniq_id":"u%d-%d","stat_t":"s","avty":[%s]}`, n, i, n, list(8, func(k int) string {
						return fmt.Sprintf(`{"t":"t/%d/%d","val_tpl":"{{ value ~ %d }}"}`, i, k, n)
					}))
				})))
			}
		}, "the limit of all announcements is reached"},
		"availabilities at one topic": {func(take func(topic, payload string)) {
			for i := range 300 {
				take(fmt.Sprintf("homeassistant/sensor/d%d/config", i), fmt.Sprintf(`{"dev":{"ids":["d%d"]},"uniq_id":"u%d","stat_t":"s","avty_t":"t","avty_tpl":"{{ value ~ %d }}"}`, i, i, i))
			}
			take("t", "x")
		}, `the availability at "t" is read in more than 256 different ways`},
		"a list without end": {func(take func(topic, payload string)) {
			take("z/bridge/devices", "["+list(100_000, func(n int) string { return fmt.Sprintf(`{"ieee_address":"0x%016x","friendly_name":"n%d"}`, n+1, n) })+"]")
		}, "lists more than"},
		"lists of many bridges": {func(take func(topic, payload string)) {
			for b := range 50 {
				take(fmt.Sprintf("z%d/bridge/devices", b), "["+list(900, func(n int) string {
					return fmt.Sprintf(`{"ieee_address":"0x%016x","friendly_name":"n%d"}`, b*1000+n+1, n)
				})+"]")
			}
		}, "the limit of all announcements is reached"},
		"words of nobody": {func(take func(topic, payload string)) {
			for i := range 50_000 {
				take(fmt.Sprintf("%s%d/online", long, i), "true")
			}
		}, "the limit of all announcements is reached"},
		"attributes without end": {func(take func(topic, payload string)) {
			take("homie/one/$homie", "4.0.0")
			for i := range 10_000 {
				take(fmt.Sprintf("homie/one/n%d/$properties", i), strings.Repeat("p,", 1000)+long)
			}
		}, "topics of one device is reached"},
		"devices of Homie without end": {func(take func(topic, payload string)) {
			for i := range 20_000 {
				take(fmt.Sprintf("homie/d%d/$homie", i), "4.0.0")
				take(fmt.Sprintf("homie/d%d/$name", i), long)
			}
		}, ""},
		"a description without end": {func(take func(topic, payload string)) {
			take("homie/5/one/$state", "ready")
			take("homie/5/one/$description", `{"nodes":{`+list(10_000, func(n int) string {
				return fmt.Sprintf(`"n%d":{"properties":{"%s":{"settable":true}}}`, n, long[:50])
			})+`}}`)
		}, ""},
		"topics that are long": {func(take func(topic, payload string)) {
			for i := range 1000 {
				take(fmt.Sprintf("homeassistant/switch/%s%d/config", strings.Repeat("x", 60_000), i), `{`)
			}
		}, ""},
		"problems without end": {func(take func(topic, payload string)) {
			for i := range 10_000 {
				take(fmt.Sprintf("homeassistant/switch/%s%d/config", long, i), `{`)
			}
		}, "ends too early"},
		"chains": {func(take func(topic, payload string)) {
			for i := range 20_000 {
				take(fmt.Sprintf("homeassistant/switch/c%d/config", i), fmt.Sprintf(`{"dev":{"ids":["k%d","k%d"]},"uniq_id":"%d","cmd_t":"c"}`, i, i+1, i))
			}
		}, "announcements of one device is reached"},
	} {
		t.Run(name, func(t *testing.T) {
			bytes, s := held(func() *State {
				s := open()
				c.announce(func(topic, payload string) { s.Take(topic, []byte(payload), noon) })
				return s
			})
			check(t, s)
			problems, more := s.Problems()
			t.Logf("%.1f MiB for %d announcements of %d devices, counted as %.1f MiB; %d problems and %d more",
				float64(bytes)/(1<<20), s.count, len(s.devices), float64(s.cost)/(1<<20), len(problems), more)
			if bytes > bound {
				t.Errorf("%d bytes live on", bytes)
			}
			if len(problems) > 2*s.limits.Problems || s.count > s.limits.Announcements || s.partCount > s.limits.Announcements || len(s.devices) > s.limits.Devices || len(s.availabilityTopics) > s.limits.Watched {
				t.Error("beyond the limits")
			}
			if c.problem != "" && (len(problems) == 0 || !strings.Contains(problems[0].Message, c.problem)) {
				t.Errorf("problems %+v, want %q", problems[:min(len(problems), 3)], c.problem)
			}
			for _, d := range everyDevice(s) {
				if n := len(topics.Encode(d)); n > 64<<10 {
					t.Errorf("the entry of %s has %d bytes", d.ID, n)
				}
			}
		})
	}
}

// A part of an announcement that is too long or too much is left out and named.
// The device is known all the same.
func TestOnePartIsNotTheDevice(t *testing.T) {
	long := strings.Repeat("x", 2000)
	many := func(n int, of string) string {
		return strings.TrimSuffix(strings.Repeat(of+",", n), ",")
	}
	for what, c := range map[string]struct{ topic, payload, problem string }{
		"a template":             {"homeassistant/sensor/a/config", `{"uniq_id":"u","stat_t":"s","dev":{"ids":["x"],"name":"Lamp"},"avty_t":"a","avty_tpl":"` + long + `"}`, "its availability_template is longer than 1024 bytes"},
		"a template of a list":   {"homeassistant/sensor/a/config", `{"uniq_id":"u","stat_t":"s","dev":{"ids":["x"],"name":"Lamp"},"avty":[{"t":"a","val_tpl":"` + long + `"}]}`, "the value_template of its availability is longer than 1024 bytes"},
		"a word":                 {"homeassistant/sensor/a/config", `{"uniq_id":"u","stat_t":"s","dev":{"ids":["x"],"name":"Lamp"},"avty_t":"a","pl_avail":"` + long + `"}`, "its payload_available is longer than 256 bytes"},
		"a topic":                {"homeassistant/sensor/a/config", `{"uniq_id":"u","dev":{"ids":["x"],"name":"Lamp"},"stat_t":"` + long + `"}`, "its stat_t is longer than 256 bytes"},
		"a topic of the list":    {"homeassistant/sensor/a/config", `{"uniq_id":"u","stat_t":"s","dev":{"ids":["x"],"name":"Lamp"},"avty":[{"t":"` + long + `"}]}`, "the topic of its availability is longer than 256 bytes"},
		"a base":                 {"homeassistant/sensor/a/config", `{"uniq_id":"u","dev":{"ids":["x"],"name":"Lamp"},"~":"` + long + `","stat_t":"~/s","avty_t":"~/a"}`, "its ~ is longer than 256 bytes"},
		"a topic with its base":  {"homeassistant/sensor/a/config", `{"uniq_id":"u","stat_t":"s","dev":{"ids":["x"],"name":"Lamp"},"~":"` + long[:200] + `","avty_t":"~/` + long[:100] + `"}`, "a topic is longer than 256 bytes"},
		"an identifier":          {"homeassistant/sensor/a/config", `{"uniq_id":"u","stat_t":"s","dev":{"ids":["x","` + long + `"],"name":"Lamp"}}`, "an identifier is longer than 128 bytes"},
		"its only identifier":    {"homeassistant/sensor/a/config", `{"uniq_id":"u","stat_t":"s","dev":{"ids":["` + long + `"],"name":"Lamp"}}`, "an identifier is longer than 128 bytes"},
		"a connection":           {"homeassistant/sensor/a/config", `{"uniq_id":"u","stat_t":"s","dev":{"cns":[["ip","` + long + `"]],"name":"Lamp"}}`, "a connection is longer than 128 bytes"},
		"many identifiers":       {"homeassistant/sensor/a/config", `{"uniq_id":"u","stat_t":"s","dev":{"ids":["x",` + many(40, `"y"`) + `,"z"],"name":"Lamp"}}`, ""},
		"a component":            {"homeassistant/device/a/config", `{"o":{"name":"t"},"dev":{"ids":["x"],"name":"Lamp"},"cmps":{"a":{"p":"sensor","uniq_id":"a","stat_t":"a","avty_t":"a","avty_tpl":"` + long + `"},"b":{"p":"sensor","uniq_id":"b","stat_t":"b"}}}`, "its availability_template is longer than 1024 bytes"},
		"a device of a list":     {"z/bridge/devices", `[{"friendly_name":"nobody"},{"ieee_address":"0x0000000000000001","friendly_name":"Lamp"}]`, "it lists something without an ieee_address"},
		"a bad name in the list": {"z/bridge/devices", `[{"ieee_address":"0x0000000000000001","friendly_name":"Lamp"},{"ieee_address":"0x0000000000000002","friendly_name":"a+b"}]`, "which is not a topic of a device"},
	} {
		s := open()
		s.Take(c.topic, []byte(c.payload), noon)
		check(t, s)
		named := false
		for _, d := range everyDevice(s) {
			named = named || d.Name == "Lamp"
		}
		problems, _ := s.Problems()
		if !named || (c.problem == "") != (len(problems) == 0) || c.problem != "" && !strings.Contains(problems[0].Message, c.problem) {
			t.Errorf("%s: %+v, problems %+v", what, everyDevice(s), problems)
		}
	}
	// Two long identifiers that begin alike are of two devices, each of which is
	// one with what else has its identifier.
	s := open()
	for i, end := range []string{"1", "2", "1"} {
		s.Take(fmt.Sprintf("homeassistant/sensor/a%d/config", i), []byte(`{"dev":{"ids":["`+long+end+`"]}}`), noon)
	}
	if got := s.IDs(); len(got) != 2 {
		t.Errorf("devices %v", got)
	}
}

// What several machines share by mistake makes them one device, as it does in
// Home Assistant, and it is reported.
func TestSharedIdentifier(t *testing.T) {
	s := open()
	for _, mac := range []string{"AABBCCDDEE01", "AABBCCDDEE02"} {
		s.Take("tasmota/discovery/"+mac+"/sensors", []byte(`{}`), noon)
		s.Take("homeassistant/switch/"+mac+"/config", []byte(`{"dev":{"ids":["esp"],"cns":[["mac","`+mac+`"]]},"uniq_id":"`+mac+`","cmd_t":"c"}`), noon)
	}
	problems, _ := s.Problems()
	if len(s.IDs()) != 1 || len(problems) != 1 || !strings.Contains(problems[0].Message, "aabbccddee01, aabbccddee02") || problems[0].Device != "aabbccddee01" {
		t.Errorf("%v, %+v", s.IDs(), problems)
	}
}

// FuzzTake holds for whatever comes: nothing panics, what is stored is counted,
// and what is shown can be shown.
func FuzzTake(f *testing.F) {
	for _, m := range everything(f) {
		f.Add(m.topic, []byte(m.payload), "tele/washer/LWT", []byte("Online"))
	}
	f.Fuzz(func(t *testing.T, topic string, payload []byte, second string, word []byte) {
		began := time.Now()
		s := open()
		defer func() {
			if took := time.Since(began); took > 3*time.Second { // it takes microseconds
				t.Errorf("%d bytes at %.100q took %v", len(payload), topic, took)
			}
		}()
		s.Take("homeassistant/switch/first/config", []byte(`{"dev":{"ids":["x","a4cf12ef3b70"],"via_device":"y"},"avty_t":"a"}`), noon)
		s.Take(topic, payload, noon)
		s.Take(second, word, noon)
		check(t, s)
		first := picture(s)
		for _, topic := range s.Watched() {
			if topic == "" || strings.ContainsAny(topic, "+#\x00") || topic[0] == '$' {
				t.Errorf("it would subscribe to %q", topic)
			}
		}
		s.Take(second, nil, noon)
		s.Take(topic, nil, noon)
		s.Take(topic, payload, noon)
		s.Take(second, word, noon)
		check(t, s)
		if again := picture(s); string(again) != string(first) {
			t.Errorf("said again it is another entry:\n%s\nbefore:\n%s", again, first)
		}
	})
}

// Child devices are bounded as all that is announced is, and one without
// identifiers is named.
func TestChildDevicesAreBounded(t *testing.T) {
	var children []string
	for n := range maxChildren + 5 {
		children = append(children, fmt.Sprintf(`{"ids":["c%d"],"cmps":{"a":{"p":"switch","uniq_id":"u%d","cmd_t":"c/%d"}}}`, n, n, n))
	}
	for name, c := range map[string]struct {
		children, problem string
		devices           int
	}{
		"too many":            {strings.Join(children, ","), "more than 100 child devices", maxChildren + 1},
		"without identifiers": {`{"name":"nobody","cmps":{}}`, "without identifiers", 1},
		"no object":           {`7`, "without identifiers", 1},
	} {
		s := open()
		s.Take("homeassistant/device/p/config", []byte(`{"dev":{"ids":["p"]},"o":{"name":"x"},"child_devices":[`+c.children+`]}`), noon)
		problems, _ := s.Problems()
		if len(s.IDs()) != c.devices || len(problems) != 1 || !strings.Contains(problems[0].Message, c.problem) {
			t.Errorf("%s: %d devices, problems %v", name, len(s.IDs()), problems)
		}
		s.Take("homeassistant/device/p/config", nil, noon)
		if check(t, s); len(s.IDs()) > 0 || s.count != 0 || s.cost != 0 {
			t.Errorf("%s: %v is left", name, s.IDs())
		}
	}
}
