package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// announcements are what devices publish when they connect, as mosquitto_sub -v
// prints it: the transcripts of hub/devices, taken as data.
func announcements(t *testing.T, names ...string) [][2]string {
	t.Helper()
	var all [][2]string
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join("..", "hub", "devices", "testdata", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimRight(line, "\n"); !strings.HasPrefix(line, "#") {
				topic, payload, _ := strings.Cut(line, " ")
				all = append(all, [2]string{topic, payload})
			}
		}
	}
	return all
}

// devices are the entries that are retained.
func (v View) devices() map[string]topics.Device {
	all := make(map[string]topics.Device)
	for topic, m := range v {
		below, ours := strings.CutPrefix(topic, "dominion/device/")
		id, status := strings.CutSuffix(below, "/status")
		if !ours || !status || m.Payload == "" {
			continue
		}
		var d topics.Device
		if json.Unmarshal([]byte(m.Payload), &d) == nil {
			all[id] = d
		}
	}
	return all
}

func (v View) availability(id string) string { return v.devices()[id].Availability }

// Devices that announce themselves as ESPHome, Tasmota, Zigbee2MQTT, Homie and Shelly
// do are known, followed, listed, and gone when they are.
func TestDevices(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		const lamp, washer, bulb, weather, shelly = "a4cf12ef3b70", "84cca8a1b2c3", "0x90fd9ffffe6494fc", "deadbeeffeed", "ec6260981234"
		want := []string{
			"0x00124b00120144ae", "0x00158d00018255df", "0x00169a00022256da", "0x00178801067a5b1c", bulb,
			"2cf432112233", washer, lamp, "c8c9a3d10f28", "dc4f2235ebf6",
			weather, "button-a8f3f5f97c03", "gateway-fda935719fb3", "heater-d87f26bcf061", "silent-045a119a58a7", "valve-7b86368e7170", // Homie
			"441793d69718", "543204539b34", "807d3a02086e", "b4e62db929cc", shelly,
		}
		slices.Sort(want)
		all := announcements(t, "esphome", "tasmota", "zigbee2mqtt", "homie", "shelly")
		home.Configure("")
		hub := home.StartHub()
		o := home.Observe()
		o.Until("the hub is ready", View.Ready)
		for _, m := range all {
			home.Publish(m[0], m[1], "-r")
		}
		known := func(v View) bool { return slices.Equal(slices.Sorted(maps.Keys(v.devices())), want) }
		asSaid := func(v View) bool {
			return known(v) && v.availability(lamp) == "online" && v.availability(washer) == "online" && v.availability(bulb) == "offline" &&
				v.availability(weather) == "online" && v.availability(shelly) == "online"
		}
		o.Until("every device is known", asSaid)

		t.Log("a device that dies is offline: its will says so")
		esp := home.observer.Start("mosquitto_sub", append(home.clientArgs(), "-i", "desk-lamp", "-V", "311", "-k", "15", "-t", "desk-lamp/light/lamp/command",
			"--will-topic", "desk-lamp/status", "--will-payload", "offline", "--will-retain", "--will-qos", "1")...)
		home.Publish("desk-lamp/light/lamp/command", "ON", "-r")
		esp.AwaitLog("ON") // it is connected
		esp.Kill()
		o.Until("the lamp is offline", func(v View) bool { return v.availability(lamp) == "offline" })
		home.Publish("desk-lamp/status", "online", "-r")
		o.Until("the lamp is back", asSaid)

		t.Log("what is broken or hostile is named, and nothing else comes of it")
		for _, m := range announcements(t, "hostile") {
			if m[0] != "zigbee2mqtt/bridge/devices" && m[0] != "homeassistant/switch/fine/config" {
				home.Publish(m[0], m[1])
			}
		}
		big := filepath.Join(home.observer.Dir, "big")
		home.must(os.WriteFile(big, []byte(`{"dev":{"ids":["big"],"name":"`+strings.Repeat("x", 1500<<10)+`"}}`), 0o644))
		if r := home.observer.Exec(nil, "mosquitto_pub", append(home.clientArgs(), "-q", "1", "-t", "homeassistant/switch/big/config", "-f", big)...); r.Code != 0 {
			t.Errorf("cannot publish megabytes: %s", r.Stderr)
		}
		var doc topics.Devices
		eventually(t, "the megabytes are named", func() bool {
			r := home.Ctl("devices", "--json")
			if err := json.Unmarshal([]byte(r.Stdout), &doc); r.Code != 0 || err != nil {
				t.Fatalf("devices --json: code %d, %v: %s", r.Code, err, r.Stderr)
			}
			return slices.ContainsFunc(doc.Problems, func(p topics.DeviceProblem) bool {
				return p.Topic == "homeassistant/switch/big/config" && strings.Contains(p.Message, "bytes are more")
			})
		})
		// Three of them only have a part that is too long, too much or not to be listened
		// to: they are devices.
		const partly = 3
		if len(doc.Problems) < 20 || len(doc.Devices) != len(want)+partly {
			t.Errorf("%d problems, %d devices", len(doc.Problems), len(doc.Devices))
		}
		o.Until("each is retained", func(v View) bool { return len(v.devices()) == len(doc.Devices) })
		for _, d := range doc.Devices {
			var retained topics.Device
			home.must(json.Unmarshal([]byte(o.Latest()["dominion/device/"+d.ID+"/status"].Payload), &retained))
			if string(topics.Encode(d)) != string(topics.Encode(retained)) {
				t.Errorf("dominionctl shows\n%s, retained is\n%s", topics.Encode(d), topics.Encode(retained))
			}
		}
		if r := home.Ctl("devices"); r.Code != 0 || !strings.Contains(r.Stdout, "Desk lamp") || !strings.Contains(r.Stdout, "homeassistant, zigbee2mqtt") || !strings.Contains(r.Stderr, "--problems") {
			t.Errorf("devices: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		if r := home.Ctl("devices", "--problems"); r.Code != 0 || !strings.Contains(r.Stdout, "homeassistant/switch/deep/config") {
			t.Errorf("devices --problems: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}

		t.Log("what the broker retains stands until it is corrected, the rest passes")
		home.Publish("homeassistant/sensor/kept/config", `{"stat_t":"x","uniq_id":"x","dev":{"ids":["kept"],"sw":null}}`, "-r")
		problems := func() (standing, passed []string) {
			r := home.Ctl("devices", "--problems", "--json")
			var doc topics.Devices
			if err := json.Unmarshal([]byte(r.Stdout), &doc); r.Code != 0 || err != nil {
				t.Fatalf("devices --problems --json: code %d, %v: %s", r.Code, err, r.Stderr)
			}
			for _, p := range doc.Problems {
				if p.Passing {
					passed = append(passed, p.Topic)
				} else {
					standing = append(standing, p.Topic)
				}
			}
			return standing, passed
		}
		eventually(t, "one problem stands", func() bool {
			standing, passed := problems()
			return slices.Equal(standing, []string{"homeassistant/sensor/kept/config"}) && len(passed) >= 20
		})
		home.Publish("homeassistant/sensor/kept/config", "", "-r")
		eventually(t, "none stands", func() bool { standing, _ := problems(); return len(standing) == 0 })

		t.Log("another run of the hub tells the same, and nothing again")
		hub.Kill()
		o.Close()
		if home.external != nil {
			home.Publish("tasmota/discovery/84CCA8A1B2C3/config", "", "-r")
			home.Publish("tasmota/discovery/84CCA8A1B2C3/sensors", "", "-r")
			want = slices.DeleteFunc(want, func(id string) bool { return id == washer })
		}
		home.StartHub()
		o = home.Observe()
		o.Until("the hub is ready, and the washing machine is gone where nothing announces it", func(v View) bool { return v.Ready() && known(v) })
		mark := o.Now()
		home.Publish("desk-lamp/status", "offline", "-r") // the first that changes
		o.Until("the lamp is offline", func(v View) bool { return v.availability(lamp) == "offline" })
		for _, m := range o.Since(mark) {
			if strings.HasPrefix(m.Topic, "dominion/device/") && !strings.Contains(m.Topic, lamp) {
				t.Errorf("told again: %v", m)
			}
		}

		t.Log("what nothing announces any more is gone")
		for _, m := range all {
			home.Publish(m[0], "", "-r")
		}
		o.Until("no device", func(v View) bool { return len(v.devices()) == 0 })
		for topic, m := range home.Observe("dominion/device/#").Latest() {
			if strings.HasPrefix(topic, "dominion/device/") {
				t.Errorf("is retained: %v", m)
			}
		}
	})
}

// A broker that forgot everything has no devices, until they announce
// themselves again.
func TestDevicesOfABrokerThatForgot(t *testing.T) {
	needs(t)
	t.Parallel()
	home := newHome(t, External)
	home.Configure("")
	home.StartHub()
	o := home.Observe()
	o.Until("the hub is ready", View.Ready)
	all := announcements(t, "tasmota")
	for _, m := range all {
		home.Publish(m[0], m[1], "-r")
	}
	o.Until("three devices", func(v View) bool { return len(v.devices()) == 3 })
	home.external.process.Kill()
	home.external.start()
	o = home.Observe()
	o.Until("the hub is back", View.Ready)
	for _, m := range all[:3] {
		home.Publish(m[0], m[1], "-r")
	}
	o.Until("one device", func(v View) bool { return v.availability("84cca8a1b2c3") == "online" })
	if r := home.Ctl("devices", "--json"); strings.Count(r.Stdout, `"announced_by"`) != 1 {
		t.Errorf("code %d\n%s", r.Code, r.Stdout)
	}
}
