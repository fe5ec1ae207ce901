package devices

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What Home Assistant refuses by its schemas is named with its field, and what it
// takes is not.
func TestLint(t *testing.T) {
	const (
		dev    = `"dev":{"ids":["x"],"name":"Lamp"}`
		origin = `"o":{"name":"fw"}`
		temp   = `"cmps":{"temp":{"p":"sensor","uniq_id":"x-temp","stat_t":"x/temp"}}`
		sensor = `"uniq_id":"u","stat_t":"s"`
	)
	whole := func(parts ...string) string { return "{" + strings.Join(parts, ",") + "}" }
	component := func(c string) string { return whole(dev, origin, `"cmps":{"temp":`+c+`}`) }
	device := func(d string) string { return whole(`"dev":`+d, sensor) }
	for _, c := range []struct{ topic, payload, want string }{
		// Of a whole device.
		{"device/x", whole(dev, origin, temp), ""},
		{"device/n/x", whole(dev, origin, temp, `"avty_t":"x/a"`, `"qos":1`, `"e":"utf-8"`, `"stat_t":"x/s"`, `"cmd_t":"x/c"`, `"message_expiry_interval":60`), ""},
		{"device/x", whole(`"device":{"identifiers":"x","connections":[["mac","a4:cf:12:ef:3b:70"]],"configuration_url":"homeassistant://config","via_device":"y","hw_version":1,"sw_version":1.5}`,
			`"origin":{"name":"fw","sw_version":"1","support_url":"https://example.org/fw"}`, temp), ""},
		{"device/x", component(`{"p":"sensor"}`), ""},
		{"device/x", component(`{"p":"sensor","uniq_id":"u","~":"x","stat_t":"~/temp","name":null,"dev_cla":null}`), ""},
		{"device/x", whole(dev, origin, `"stat_t":"x/s"`, `"cmps":{"temp":{"p":"sensor","uniq_id":"u"}}`), ""},
		{"device/x", component(`{"p":"device_automation","atype":"trigger","t":"x/b","type":"press","stype":"1"}`), ""},
		{"device/x", `{"migr_discvry":true}`, ""},
		{"device/x", whole(dev, temp), "origin is missing: add"},
		{"device/x", whole(dev, temp, `"o":{}`), "origin.name is missing"},
		{"device/x", whole(dev, temp, `"o":"fw"`), "origin is no object"},
		{"device/x", whole(dev, temp, `"o":{"name":"fw","sw":null}`), "origin.sw_version is null"},
		{"device/x", whole(dev, temp, `"o":{"name":"fw","url":"example.org"}`), `origin.support_url is "example.org"`},
		{"device/x", whole(dev, temp, `"o":{"name":"fw","author":"me"}`), "origin.author is not allowed"},
		{"device/x", whole(dev, origin, temp, `"~":"x"`), `"~" is not allowed at the root of a device`},
		{"device/x", whole(dev, origin, temp, `"name":"x"`), `"name" is not allowed at the root`},
		{"device/x", whole(dev, origin), "components is missing"},
		{"device/x", whole(dev, origin, `"cmps":[]`), "components is missing or no object"},
		{"device/x", component(`{"uniq_id":"u","stat_t":"s"}`), "components.temp.platform is missing"},
		{"device/x", component(`{"p":"mqtt","uniq_id":"u","stat_t":"s"}`), "components.temp.platform is missing or none"},
		{"device/x", component(`{"p":"sensor","stat_t":"s"}`), "components.temp.unique_id is missing"},
		{"device/x", component(`{"p":"sensor","uniq_id":"u"}`), "components.temp.state_topic is missing: a sensor needs it"},
		{"device/x", component(`7`), "components.temp is no object"},
		{"device/x", whole(dev, origin, `"cmps":{"a":{"p":"sensor","uniq_id":"u","stat_t":"a"},"b":{"p":"sensor","uniq_id":"u","stat_t":"b"}}`), `components.b.unique_id "u" is there twice`},
		{"device/x", whole(origin, temp), "it is of a device and has no device"},
		{"device/x", whole(`"dev":{"name":"x"}`, origin, temp), "without identifiers and connections"},
		{"device/x", whole(dev, origin, temp, `"avty_t":"a","avty":[{"t":"b"}]`), "availability and availability_topic are both there"},
		{"device/x", whole(dev, origin, temp, `"avty":[{"pl_avail":"1"}]`), `availability has something without "topic"`},
		{"device/x", whole(dev, origin, temp, `"avty":["x/a"]`), "availability has something that is no object"},
		{"device/x", whole(dev, origin, temp, `"avty_mode":"some"`), `availability_mode is "some"`},
		{"device/x", whole(dev, origin, temp, `"qos":3`), "qos is 3"},
		{"device/x", whole(dev, origin, temp, `"stat_t":null`), "state_topic is null"},
		// Of the device in any config.
		{"sensor/x", whole(dev, sensor), ""},
		{"sensor/n/x", whole(dev, sensor, `"avty":{"t":"a","val_tpl":"{{ value }}"}`, `"unknown":{"a":null}`, `"name":null`, `"unit_of_meas":null`), ""},
		{"sensor/x", device(`{"ids":["x"],"sw":null}`), "device.sw_version is null: leave it out"},
		{"sensor/x", device(`{"ids":["x"],"mdl":["a"]}`), "device.model is no text"},
		{"sensor/x", device(`{"ids":["x",null]}`), "device.identifiers is null"},
		{"sensor/x", device(`{"ids":["x"],"ip":"192.168.1.2"}`), "device.ip is not allowed: leave it out"},
		{"sensor/x", device(`{"ids":["x"],"cns":["mac","a4:cf:12:ef:3b:70"]}`), `device.connections has "mac": write pairs`},
		{"sensor/x", device(`{"ids":["x"],"cns":[["mac"]]}`), `device.connections has ["mac"]`},
		{"sensor/x", device(`{"ids":["x"],"cu":"http://"}`), `device.configuration_url is "http://"`},
		{"sensor/x", device(`{"ids":["x"],"cu":null}`), "device.configuration_url is null"},
		{"sensor/x", device(`{"ids":["x"],"via_device":null}`), "device.via_device is null"},
		// Of an entity.
		{"sensor/x", `{"stat_t":"s"}`, ""},
		{"sensor/x", `{"migrate_discovery":true}`, ""},
		{"sensor/x", `{"migrate_discovery":true,"stat_t":"s"}`, "migrate_discovery stands alone"},
		{"sensor/x", whole(dev, `"stat_t":"s"`), "takes the entity without its device: unique_id is missing"},
		{"tag/x", whole(dev, `"t":"s"`), ""},
		{"sensor/x", whole(dev, `"uniq_id":"u"`), "state_topic is missing: a sensor needs it"},
		{"switch/x", whole(dev, sensor), "command_topic is missing: a switch needs it"},
		{"select/x", whole(dev, sensor, `"cmd_t":"c"`), "options is missing: a select needs it"},
		{"event/x", whole(dev, sensor), "event_types is missing"},
		{"device_automation/x", whole(dev, `"t":"s"`), "automation_type is missing"},
		{"device_automation/x", `{"atype":"trigger","t":"s","type":"press","stype":"1"}`, "device is missing"},
		{"switch/x", whole(dev, sensor, `"cmd_t":"x/+/set"`), "command_topic has a wildcard"},
		{"sensor/x", whole(dev, `"uniq_id":"u","stat_t":"x/a+/s"`), "state_topic has a wildcard that does not stand for a whole level"},
		{"sensor/x", whole(dev, `"uniq_id":"u","stat_t":"x/+/#"`), ""},
		{"sensor/x", whole(dev, `"uniq_id":"u","stat_t":"x/#/s"`), "state_topic has a wildcard"},
		{"sensor/x", whole(dev, `"uniq_id":"u","stat_t":""`), "state_topic is empty"},
		{"sensor/x", whole(dev, `"uniq_id":"u","stat_t":"a\u0007b"`), "state_topic has control characters"},
		{"sensor/x", whole(dev, sensor, `"avty_t":null`), "availability_topic is null"},
		{"sensor/x", whole(dev, sensor, `"ent_cat":"system"`), `entity_category is "system"`},
		{"sensor/x", whole(dev, sensor, `"ent_cat":null`), "entity_category is null"},
		{"sensor/x", whole(dev, sensor, `"ic":"lamp"`), `icon is "lamp"`},
		{"sensor/x", whole(dev, `"uniq_id":null,"stat_t":"s"`), "unique_id is null"},
		{"sensor/x", whole(dev, sensor, `"qos":"high"`), "qos is high"},
		{"sensor/x", whole(dev, sensor, `"o":{"sw":"1"}`), "origin.name is missing"},
		// Of topics.
		{"lightbulb/x", whole(dev, sensor), `"lightbulb" is no component`},
		{"sensor/a b", whole(dev, sensor), `illegal topic: "a b" may have a-z`},
		{"sensor/kitchen.temp/x", whole(dev, sensor), `illegal topic: "kitchen.temp"`},
		{"device/Küche", whole(dev, origin, temp), `illegal topic: "Küche"`},
		{"my-sensor/x", whole(dev, sensor), `"my-sensor" is no component`},
	} {
		s := open()
		topic := "homeassistant/" + c.topic + "/config"
		s.Take(topic, []byte(c.payload), noon)
		problems, more := s.Problems()
		text := ""
		if len(problems) > 0 {
			text = problems[0].Message
		}
		if len(problems) > 1 || more > 0 || (c.want == "") != (text == "") || !strings.Contains(text, c.want) || text != "" && problems[0].Topic != topic {
			t.Errorf("%s %s: %+v, want %q", c.topic, c.payload, problems, c.want)
		}
		s.Take(topic, nil, noon)
		if problems, _ := s.Problems(); len(problems) > 0 {
			t.Errorf("%s was cleared: %+v", c.topic, problems)
		}
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
	later := noon.Add(askedFor)
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
	s.Expire(noon.Add(passingFor - time.Second))
	want("not yet an hour", 0, 1, 0)
	s.Expire(noon.Add(passingFor))
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
