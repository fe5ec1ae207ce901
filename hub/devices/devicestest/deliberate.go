package devicestest

// Deliberate is a difference between our list and Home Assistant's registry that
// is meant.
type Deliberate struct {
	// Device is as in Difference.
	Device string
	Field  string
	Reason string
}

// deliberate lists the differences that are meant.
var deliberate = []Deliberate{
	{"zigbee2mqtt_bridge_0x00124b0022334401", "availability", "Zigbee2MQTT's own bridge/state tells it; its one entity in Home Assistant has no availability"},
	{"0x00158d0001a1b209", "listed", "Zigbee2MQTT lists it in bridge/devices and does not announce it to Home Assistant"},
	{"84cca80a0b02", "listed", "Tasmota's own discovery is read by another integration of Home Assistant than MQTT"},
	{"a4cf120a0b01", "sw_version", "what an ESPHome node says of itself is believed first (decision 82)"},
	{"porch-87d685e17758", "listed", "Home Assistant does not read the Homie convention"},
	{"shed-62d7e3cb244b", "listed", "Home Assistant does not read the Homie convention"},
	{"e8db840a0b03", "listed", "what a Shelly says of itself is read by another integration of Home Assistant than MQTT"},
	{"12345", "sw_version", "a version that is a number is shown as it is written, not as Python prints it"},
	{"lora_node7", "availability", "what it says is neither of its words (true is not True): unknown, where Home Assistant begins with unavailable"},
	{"bad_wild", "availability", "nobody makes the hub subscribe to a wildcard: it is unknown"},
	{"homeassistant/sensor/bad_wild/config", "refused", "the topic that is left out is named"},
	{"bad-class-411dc915c0d9", "listed", "lists that grow with each release of Home Assistant, as that of device classes, are not checked"},
	{"homeassistant/sensor/bad_class/config", "refused", "lists that grow with each release of Home Assistant, as that of device classes, are not checked"},
	{"selfish-1", "name", "Home Assistant refuses the entity, and makes a device without a name of its own via_device"},
}

// Unexplained returns the differences that no row of the table explains, and the
// rows that explain none of them.
func Unexplained(all []Difference) (rest []Difference, unused []Deliberate) {
	used := make(map[Deliberate]bool)
	for _, d := range all {
		explained := false
		for _, row := range deliberate {
			if row.Device == d.Device && row.Field == d.Field {
				explained, used[row] = true, true
			}
		}
		if !explained {
			rest = append(rest, d)
		}
	}
	for _, row := range deliberate {
		if !used[row] {
			unused = append(unused, row)
		}
	}
	return rest, unused
}
