package devices

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// config is a row of testdata/lint.jsonl: a config of discovery and what the real
// Home Assistant says against it. The end-to-end test TestHomeAssistantConfigs
// compares the table with it, and writes it with -update.
type config struct {
	Topic     string `json:"topic"`
	Payload   string `json:"payload"`
	Named     string `json:"named"`     // a part of our problem; empty: there is none
	Elsewhere bool   `json:"elsewhere"` // what is named is no matter of its schemas
	Refused   string `json:"refused"`   // by its schemas; empty: it takes the config
}

// What Home Assistant refuses is named, with its field, and what it takes is not.
func TestLint(t *testing.T) {
	f, err := os.Open("testdata/lint.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	count := 0
	for lines := bufio.NewScanner(f); lines.Scan(); count++ {
		var c config
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		if !c.Elsewhere && (c.Named == "") != (c.Refused == "") {
			t.Errorf("the table has a difference: %s", lines.Text())
		}
		s := open()
		s.Take(c.Topic, []byte(c.Payload), noon)
		problems, more := s.Problems()
		text := ""
		if len(problems) > 0 {
			text = problems[0].Message
		}
		if len(problems) > 1 || more > 0 || (c.Named == "") != (text == "") || !strings.Contains(text, c.Named) || text != "" && problems[0].Topic != c.Topic {
			t.Errorf("%s %s: %+v, want %q", c.Topic, c.Payload, problems, c.Named)
		}
		s.Take(c.Topic, nil, noon)
		if problems, _ := s.Problems(); len(problems) > 0 {
			t.Errorf("%s was cleared: %+v", c.Topic, problems)
		}
	}
	if count < 200 {
		t.Errorf("%d rows", count)
	}
}

// Several faults of one config are one problem, which says how many more there
// are, and a corrected config has none.
func TestManyFaults(t *testing.T) {
	s := open()
	s.Take("homeassistant/device/x/config", []byte(`{"dev":{"ids":["x"],"sw":null,"hw":null,"sn":null},"~":"x","name":"n","cmps":{"a":{"p":"sensor","stat_t":""}}}`), noon)
	problems, _ := s.Problems()
	if len(problems) != 1 || strings.Count(problems[0].Message, ";") != maxFaults || !strings.HasSuffix(problems[0].Message, "and 4 more") || problems[0].Device != s.IDs()[0] {
		t.Errorf("%+v", problems)
	}
	s.Take("homeassistant/device/x/config", []byte(`{"dev":{"ids":["x"]},"o":{"name":"n"},"cmps":{"a":{"p":"sensor","stat_t":"s","uniq_id":"u"}}}`), noon)
	if problems, more := s.Problems(); len(problems) > 0 || more > 0 {
		t.Errorf("corrected: %+v", problems)
	}
}

// Boards whose firmware has a constant where each should have a text of its own
// are named, whatever of theirs differs; a device that announces itself in several
// messages is not.
func TestBoardsWithOneIdentifier(t *testing.T) {
	whole := func(board, ids, more, id string) message {
		return message{"homeassistant/device/" + board + "/config", fmt.Sprintf(`{"dev":{"ids":[%q]%s,"name":"Board"},"o":{"name":"fw"},"cmps":{"temp":{"p":"sensor","uniq_id":%q,"stat_t":"%s/temp"}}}`, ids, more, id, board)}
	}
	single := func(node, object, ids, more, id string) message {
		return message{"homeassistant/sensor/" + node + object + "/config", fmt.Sprintf(`{"dev":{"ids":[%q]%s},"uniq_id":%q,"stat_t":"%s%s"}`, ids, more, id, node, object)}
	}
	named := func(object, name, topic, will string) message {
		if will != "" {
			will = fmt.Sprintf(`,"avty_t":%q`, will)
		}
		return message{"homeassistant/sensor/" + object + "/config", fmt.Sprintf(`{"dev":{"ids":["esp"]},"uniq_id":%q,"name":%q,"stat_t":%q%s}`, object, name, topic, will)}
	}
	mac := func(s string) string { return `,"cns":[["mac","aa:bb:cc:dd:ee:` + s + `"]]` }
	for what, c := range map[string]struct {
		all  []message
		want string
	}{
		"addresses differ":                    {[]message{whole("a", "esp", mac("01"), "a-t"), whole("b", "esp", mac("02"), "b-t")}, `by the identifier "esp": aabbccddee01, aabbccddee02`},
		"addresses of single components":      {[]message{single("", "a", "esp", mac("01"), "a"), single("", "b", "esp", mac("02"), "b")}, `by the identifier "esp"`},
		"topics differ":                       {[]message{whole("a", "esp", "", "a-t"), whole("b", "esp", "", "b-t")}, "two devices announce themselves as one, or one is left over, as at homeassistant/device/a/config and homeassistant/device/b/config"},
		"nodes differ":                        {[]message{single("a/", "temp", "esp", "", "a-t"), single("b/", "temp", "esp", "", "b-t")}, "two devices announce themselves as one"},
		"unique_id too":                       {[]message{whole("a", "esp", "", "t"), whole("b", "esp", "", "t")}, "announced twice with one unique_id"},
		"only the unique_id":                  {[]message{single("a/", "temp", "a", "", "ESPsensortemp"), single("b/", "temp", "b", "", "ESPsensortemp")}, "has the unique_id of one of"},
		"several of them":                     {[]message{single("a/", "t", "a", "", "1"), single("a/", "h", "a", "", "2"), single("b/", "t", "b", "", "1"), single("b/", "h", "b", "", "2")}, "2 entities of it have the unique_id"},
		"left over after a renaming":          {[]message{single("old/", "temp", "x", mac("01"), "t"), single("new/", "temp", "x", mac("01"), "t")}, "if one is left over clear it"},
		"renamed, with another unique_id":     {[]message{single("old/", "temp", "x", mac("01"), "old"), single("new/", "temp", "x", mac("01"), "new")}, ""},
		"boards with one entity of a name":    {[]message{named("a", "Temp", "a", "a/status"), named("b", "Temp", "b", "b/status")}, "two devices announce themselves as one"},
		"boards without availability":         {[]message{named("a", "Temp", "a/x", ""), named("b", "Temp", "b/x", "")}, "two devices announce themselves as one"},
		"boards below one root":               {[]message{named("a", "Temp", "home/a", "home/a/status"), named("b", "Temp", "home/b", "home/b/status")}, "two devices announce themselves as one"},
		"two relays of a name":                {[]message{named("a", "Relay", "x/1", "x/status"), named("b", "Relay", "x/2", "x/status")}, ""},
		"two sensors with names":              {[]message{named("a", "Temp", "a", "a/status"), named("b", "Hum", "b", "b/status")}, ""},
		"a device in two messages":            {[]message{single("a/", "temp", "x", "", "1"), single("a/", "hum", "x", "", "2")}, ""},
		"two network cards":                   {[]message{single("a/", "temp", "x", mac("01"), "1"), single("a/", "hum", "x", `,"cns":[["mac","aa:bb:cc:dd:ee:01"],["mac","aa:bb:cc:dd:ee:02"]]`, "2"), single("a/", "p", "x", mac("02"), "3")}, ""},
		"one unique_id of different platform": {[]message{single("a/", "temp", "a", "", "1"), {"homeassistant/switch/a/temp/config", `{"dev":{"ids":["a"]},"uniq_id":"1","cmd_t":"c"}`}}, ""},
	} {
		for range 2 {
			slices.Reverse(c.all)
			s := open()
			s.takeAll(c.all)
			problems, _ := s.Problems()
			if (c.want == "") != (len(problems) == 0) || c.want != "" && (!strings.Contains(problems[0].Message, c.want) || problems[0].Device == "") {
				t.Errorf("%s: %+v, want %q", what, problems, c.want)
			}
			s.Take(c.all[0].topic, nil, noon)
			if problems, _ := s.Problems(); len(problems) > 0 && len(c.all) == 2 {
				t.Errorf("%s, one was cleared: %+v", what, problems)
			}
		}
	}
}

// A problem with a retained message stands until the topic has another one. One
// with a message that is not retained has passed: it makes room for others and is
// forgotten after a while.
func TestStandingAndPassingProblems(t *testing.T) {
	s := open()
	const topic, broken, right = "homeassistant/sensor/x/config", `{"dev"`, `{"uniq_id":"u","stat_t":"s","dev":{"ids":["x"]}}`
	want := func(what string, standing, passing, more int) {
		t.Helper()
		problems, m := s.Problems()
		p := 0
		for _, one := range problems {
			if one.Passing {
				p++
			}
		}
		if len(problems)-p != standing || p != passing || m != more {
			t.Fatalf("%s: %d standing and %d passing problems and %d more, want %d, %d, %d", what, len(problems)-p, p, m, standing, passing, more)
		}
	}
	later := noon.Add(confirmTime)
	s.TakeLive(topic, []byte(broken), noon)
	want("as it was published", 1, 0, 0)
	if got := s.Watched(); !slices.Equal(got, []string{topic}) || !s.Pending() {
		t.Errorf("the broker is asked for %v", got)
	}
	if s.Changed(); s.Pending() {
		t.Error("it is asked once more")
	}
	s.Take(topic, []byte(broken), noon)
	s.Expire(later)
	want("the broker retains it", 1, 0, 0)
	if got := s.Watched(); len(got) > 0 {
		t.Errorf("the broker is asked again for %v", got)
	}
	s.TakeLive(topic, []byte(right), noon)
	want("corrected", 0, 0, 0)
	s.TakeLive(topic, []byte(`{"stat_t":"s","dev":{"ids":["x"]}}`), noon) // half right: there is a device
	s.Expire(later)
	want("half right", 0, 1, 0)
	s.Take(topic, []byte(`{"stat_t":"s","dev":{"ids":["x"]}}`), noon)
	want("half right and retained", 1, 0, 0)
	s.TakeLive(topic, nil, noon)
	want("cleared", 0, 0, 0)

	s.TakeLive(topic, []byte(broken), noon)
	s.Expire(later)
	want("the broker does not retain it", 0, 1, 0)
	s.Expire(noon.Add(passedTime - time.Second))
	want("not yet an hour", 0, 1, 0)
	s.Expire(noon.Add(passedTime))
	want("after an hour", 0, 0, 0)

	most := s.limits.Problems
	for n := range most {
		s.TakeLive(fmt.Sprintf("homeassistant/sensor/passing%d/config", n), []byte(broken), noon)
	}
	s.Expire(later)
	want("full of what has passed", 0, most, 0)
	for n := range most + 5 {
		s.Take(fmt.Sprintf("homeassistant/sensor/standing%d/config", n), []byte(broken), noon)
	}
	want("what stands takes its place", most, 0, 5)
	s.TakeLive(topic, []byte(broken), noon)
	want("and what passes is left out", most, 0, 5)
	s.Take(fmt.Sprintf("homeassistant/sensor/standing%d/config", most+4), []byte(right), noon)
	want("one that is not listed was corrected", most, 0, 4)
	for n := range most + 5 {
		s.Take(fmt.Sprintf("homeassistant/sensor/standing%d/config", n), nil, noon)
	}
	want("all are cleared", 0, 0, 0)
}
