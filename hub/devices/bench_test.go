package devices

import (
	"fmt"
	"strings"
	"testing"
)

// What a home of three hundred devices with fifteen entities each costs when a
// broker replays it.
func BenchmarkHome(b *testing.B) {
	var all []message
	for n := range 300 {
		for e := range 15 {
			all = append(all, message{fmt.Sprintf("homeassistant/sensor/0x%016x/e%d/config", n+1, e), fmt.Sprintf(
				`{"availability":[{"topic":"zigbee2mqtt/bridge/state","value_template":"{{ value_json.state }}"},{"topic":"zigbee2mqtt/n%d/availability","value_template":"{{ value_json.state }}"}],"availability_mode":"all","device":{"identifiers":["zigbee2mqtt_0x%016x"],"manufacturer":"IKEA","model":"TRADFRI LED bulb","name":"n%d","via_device":"zigbee2mqtt_bridge_0x00124b00120144ae"},"name":"Power","state_topic":"zigbee2mqtt/n%d","unique_id":"u%d-%d"}`,
				n, n+1, n, n, n, e)})
		}
	}
	for b.Loop() {
		s := open()
		s.takeAll(all)
	}
}

// A list of Zigbee2MQTT is long, and next to nothing of it is stored.
func BenchmarkList(b *testing.B) {
	exposes := strings.Repeat(`{"access":7,"description":"On/off state","features":[{"name":"state","values":[1,2,3]}]},`, 100)
	var list []string
	for n := range 100 {
		list = append(list, fmt.Sprintf(`{"ieee_address":"0x%016x","friendly_name":"n%d","definition":{"model":"m","exposes":[%s1]}}`, n+1, n, exposes))
	}
	payload := []byte("[" + strings.Join(list, ",") + "]")
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		open().Take("zigbee2mqtt/bridge/devices", payload, noon)
	}
}
