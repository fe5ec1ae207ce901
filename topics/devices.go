package topics

// DeviceUnknown is the availability of a device that nobody can tell.
const DeviceUnknown = "unknown"

// Who announces devices. A closed list, in the order in which an entry lists
// them.
const (
	ByHomeAssistant = "homeassistant"
	ByESPHome       = "esphome"
	ByTasmota       = "tasmota"
	ByZigbee2MQTT   = "zigbee2mqtt"
	ByHomie         = "homie"
	ByShelly        = "shelly"
)

// Announcers lists the closed list in its order.
func Announcers() []string {
	return []string{ByHomeAssistant, ByESPHome, ByTasmota, ByZigbee2MQTT, ByHomie, ByShelly}
}

// Device is the payload of device/<device>/status: something else on the broker
// that announces itself.
type Device struct {
	ID           string             `json:"id" type:"name" doc:"as in the topic. Of its strongest address: that of its network card, of its Zigbee radio, of another connection, or the first of its identifiers"`
	Name         string             `json:"name" type:"text" doc:"what it calls itself"`
	Manufacturer string             `json:"manufacturer,omitempty" type:"text" doc:"who made it"`
	Model        string             `json:"model,omitempty" type:"text" doc:"what it is"`
	ModelID      string             `json:"model_id,omitempty" type:"text" doc:"its maker's number for that"`
	Version      string             `json:"version,omitempty" type:"text" doc:"of its software"`
	Hardware     string             `json:"hardware_version,omitempty" type:"text" doc:"of its hardware"`
	Serial       string             `json:"serial_number,omitempty" type:"text" doc:"its serial number"`
	URL          string             `json:"configuration_url,omitempty" type:"text" doc:"the page where it is configured: http, https or homeassistant"`
	Availability string             `json:"availability" type:"word" doc:"online, offline or unknown, by its own topics"`
	Area         string             `json:"area,omitempty" type:"text" doc:"the room that it suggests"`
	Via          string             `json:"via,omitempty" type:"text" doc:"id of the device through which it is reached; the identifier of that one, while nobody announces it"`
	Domain       string             `json:"domain,omitempty" type:"name" doc:"the domain that it is too: its availability is published at that domain's topic"`
	AnnouncedBy  []string           `json:"announced_by" type:"word" doc:"by whose conventions: homeassistant, esphome, tasmota, zigbee2mqtt, homie, shelly"`
	Topics       DeviceTopics       `json:"topics" doc:"where it speaks and listens"`
	Identifiers  []string           `json:"identifiers" type:"text" doc:"as announced"`
	Connections  []DeviceConnection `json:"connections" doc:"as announced"`
}

// DeviceTopics are the topics of a device, at most 64 of each kind.
type DeviceTopics struct {
	Availability []string `json:"availability" type:"text" doc:"topics of its availability"`
	State        []string `json:"state" type:"text" doc:"topics that it publishes to"`
	Command      []string `json:"command" type:"text" doc:"topics that it subscribes to"`
	More         int      `json:"more,omitempty" doc:"how many were left out"`
}

// DeviceConnection is one connection of a device.
type DeviceConnection struct {
	Type    string `json:"type" type:"text" doc:"mac, zigbee, or what else it announces"`
	Address string `json:"address" type:"text" doc:"as announced; that of a network card in lower case, with colons"`
}

// Devices is the answer to devices.
type Devices struct {
	Devices  []Device        `json:"devices" doc:"as device/<device>/status, by id"`
	Next     string          `json:"next,omitempty" type:"text" doc:"there are more: ask again with this as after"`
	Problems []DeviceProblem `json:"problems" doc:"what is wrong with announcements; the first answer alone has them"`
	More     int             `json:"more,omitempty" doc:"how many standing problems there are besides, for which the list has no room"`
}

// DeviceProblem is one thing that is wrong with what is announced.
type DeviceProblem struct {
	At      Time   `json:"at,omitzero" doc:"since when; of one that follows from several messages absent"`
	Topic   string `json:"topic,omitempty" type:"text" doc:"the topic of the message that was not taken, or that cannot be subscribed to"`
	Device  string `json:"device,omitempty" type:"text" doc:"id of the device that is meant, where it is one that is listed"`
	Message string `json:"message" type:"text" doc:"what is wrong: which field, and what to do"`
	Passing bool   `json:"passing,omitempty" doc:"the message was not retained: the problem has passed, and is listed for an hour. All others stand until they are repaired"`
}
