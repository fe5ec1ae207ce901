package devices

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// Each state of Homie says whether the device is there; another word is named and
// leaves the device without one.
func TestHomieStates(t *testing.T) {
	for state, want := range map[string]string{
		"init": "online", "ready": "online", "sleeping": "online", "alert": "online", "disconnected": "offline", "lost": "offline",
		"Ready": "unknown", "busy": "unknown",
	} {
		for _, base := range []string{"homie/lamp", "homie/5/lamp"} {
			s := open()
			s.takeAll([]message{{base + "/$homie", "4.0.0"}, {base + "/$state", state}})
			all := everyDevice(s)
			problems, _ := s.Problems()
			switch {
			case want == "unknown" && (len(problems) != 1 || problems[0].Topic != base+"/$state" || !strings.Contains(problems[0].Message, "it can be init, ready")):
				t.Errorf("%s %s: %+v", base, state, problems)
			case want == "unknown":
				s.Take(base+"/$state", []byte("ready"), noon)
				if problems, _ := s.Problems(); len(problems) > 0 {
					t.Errorf("%s, corrected: %+v", base, problems)
				}
			case len(all) != 1 || all[0].Availability != want || len(problems) > 0 || !slices.Equal(all[0].AnnouncedBy, []string{topics.ByHomie}):
				t.Errorf("%s %s: %+v, %+v", base, state, all, problems)
			}
		}
	}
}

// A child of Homie 5 goes with its root, which alone has a will.
func TestHomieChildGoesWithItsRoot(t *testing.T) {
	s := open()
	s.takeAll(transcript(t, "homie"))
	child := func() string {
		d, _ := s.Device(keyOfIdentifier("valve").id())
		return d.Availability
	}
	for _, step := range []struct{ topic, state, want string }{
		{"homie/5/gateway/$state", "lost", topics.Offline},
		{"homie/5/gateway/$state", "ready", topics.Online},
		{"homie/5/valve/$state", "disconnected", topics.Offline},
		{"homie/5/valve/$state", "ready", topics.Online},
		{"homie/5/gateway/$state", "", topics.Online}, // it is gone, and says nothing of its child
	} {
		s.TakeLive(step.topic, []byte(step.state), noon)
		if got := child(); got != step.want {
			t.Errorf("%s %s: the child is %s, want %s", step.topic, step.state, got, step.want)
		}
		check(t, s)
	}
}

// A device is gone when it clears what makes it one, and what it leaves behind is
// none.
func TestDescribedDeviceGoes(t *testing.T) {
	for _, topic := range []string{"homie/weather/$homie", "homie/5/silent/$state", "shellyhtg3-543204539b34/online"} {
		s := open()
		s.takeAll(transcript(t, "homie"))
		s.takeAll(transcript(t, "shelly"))
		count := len(s.IDs())
		s.Take("homeassistant/sensor/weather/temperature/config", nil, noon)
		s.TakeLive(topic, nil, noon)
		if got := len(s.IDs()); got != count-1 {
			t.Errorf("%s: %d devices, there were %d", topic, got, count)
		}
		check(t, s)
	}
}

// What a Shelly measures changes nothing of its entry.
func TestShellyThatMeasures(t *testing.T) {
	s := open()
	s.takeAll(transcript(t, "shelly"))
	before := picture(s)
	s.Changed()
	for n := range 10 {
		s.TakeLive("shellyplus1pm-441793d69718/events/rpc", fmt.Appendf(nil, `{"src":"shellyplus1pm-441793d69718","dst":"x","method":"NotifyStatus","params":{"ts":1,"switch:0":{"apower":%d}}}`, n), noon)
		s.TakeLive("shellies/shellyplug-s-02086E/info", fmt.Appendf(nil, `{"wifi_sta":{"ip":"192.168.1.70"},"mac":"807D3A02086E","meters":[{"power":%d}]}`, n), noon)
	}
	if changed := s.Changed(); len(changed) > 0 || string(picture(s)) != string(before) {
		t.Errorf("changed: %v", changed)
	}
	s.TakeLive("shellyplus1pm-441793d69718/events/rpc", []byte(`{"src":"shellyplus1pm-441793d69718","method":"NotifyFullStatus","params":{"wifi":{"sta_ip":"192.168.1.99"}}}`), noon)
	if d, _ := s.Device("441793d69718"); d.URL != "http://192.168.1.99/" {
		t.Errorf("with another address: %+v", d)
	}
}

// What is broken is named where it can only be meant for us, and its repair takes
// the name away.
func TestBrokenParts(t *testing.T) {
	for _, c := range []struct{ topic, broken, right, want string }{
		{"homie/lamp/$mac", "none", "aa:bb:cc:dd:ee:01", `its $mac is "none"`},
		{"homie/5/lamp/$description", "{", `{"name":"Lamp"}`, "its JSON ends too early"},
		{"shellies/shelly1-B929CC/announce", "[]", `{"id":"shelly1-B929CC"}`, "it is not an object"},
		{"shellies/announce", `{"id":"a/b"}`, `{"id":"shelly1-B929CC"}`, `its id is "a/b"`},
		{"shellies/announce", `{}`, `{"id":"shelly1-B929CC"}`, `its id is ""`},
		{"printer/announce", `{`, `{}`, ""},
		{"printer/online", `yes`, `no`, ""},
		{"printer/events/rpc", `{"src":"printer"}`, `{}`, ""},
	} {
		s := open()
		s.TakeLive(c.topic, []byte(c.broken), noon)
		problems, _ := s.Problems()
		if (c.want == "") != (len(problems) == 0) || c.want != "" && (problems[0].Topic != c.topic || !strings.Contains(problems[0].Message, c.want)) {
			t.Errorf("%s %s: %+v, want %q", c.topic, c.broken, problems, c.want)
		}
		s.TakeLive(c.topic, []byte(c.right), noon)
		if problems, _ := s.Problems(); len(problems) > 0 {
			t.Errorf("%s %s: %+v", c.topic, c.right, problems)
		}
		check(t, s)
	}
}
