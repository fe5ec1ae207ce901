package homeassistant

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The closed lists below are those of Home Assistant 2026.11 (components/mqtt:
// schemas.py, discovery.py, config.py, binary_sensor.py, sensor.py, switch.py,
// button.py, number.py, event.py, text.py, update.py), without the keys that came after 2024.11 but default_entity_id,
// and without the abbreviations, which nothing here uses.

var (
	rootKeys = set("device origin components availability availability_mode availability_topic availability_template " +
		"payload_available payload_not_available state_topic command_topic qos encoding")
	deviceKeys = set("identifiers connections name manufacturer model model_id hw_version sw_version serial_number " +
		"suggested_area configuration_url via_device")
	originKeys       = set("name sw_version support_url")
	availabilityKeys = set("topic payload_available payload_not_available value_template")

	commonKeys = set("platform unique_id name default_entity_id entity_category enabled_by_default icon entity_picture " +
		"json_attributes_topic json_attributes_template qos encoding availability availability_mode availability_topic " +
		"availability_template payload_available payload_not_available")
	platformKeys = map[string]map[string]bool{
		"binary_sensor": set("state_topic value_template device_class expire_after force_update off_delay payload_on payload_off"),
		"sensor": set("state_topic value_template device_class expire_after force_update last_reset_value_template options " +
			"suggested_display_precision state_class unit_of_measurement"),
		"switch": set("command_topic command_template state_topic value_template device_class optimistic retain " +
			"payload_on payload_off state_on state_off"),
		"button": set("command_topic command_template device_class payload_press retain"),
		"number": set("command_topic command_template state_topic value_template device_class unit_of_measurement min max mode step " +
			"optimistic payload_reset retain"),
		"event": set("state_topic value_template device_class event_types"),
		"text":  set("command_topic command_template state_topic value_template min max mode pattern retain"),
		"update": set("command_topic device_class display_precision latest_version_template latest_version_topic payload_install " +
			"release_summary release_url retain state_topic title value_template"),
		deviceAutomation: set("automation_type payload subtype topic type value_template"),
	}
	platformNeeds = map[string][]string{
		"binary_sensor": {"state_topic"},
		"sensor":        {"state_topic"},
		"switch":        {"command_topic"},
		"button":        {"command_topic"},
		"number":        {"command_topic"},
		"event":         {"state_topic", "event_types"},
		"text":          {"command_topic"},
		"update":        {"state_topic"},

		deviceAutomation: {"automation_type", "subtype", "topic", "type"},
	}
	// deviceClasses holds those in use here; Home Assistant knows more.
	deviceClasses = map[string]map[string]bool{
		"binary_sensor": set("connectivity problem running"),
		"sensor":        set("enum timestamp temperature data_size"),
		"switch":        set("switch outlet"),
		"button":        set("restart update identify"),
		"event":         set("button doorbell motion"),
		"update":        set("firmware"),
	}
	// classUnits are those of Home Assistant's DEVICE_CLASS_UNITS.
	classUnits = map[string][]string{
		"temperature": {"°C", "°F", "K"},
		"data_size":   {"bit", "kbit", "Mbit", "Gbit", "B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"},
	}
	// A sensor that only reports cannot be a setting.
	categories = map[string]map[string]bool{
		"binary_sensor": set("diagnostic"),
		"sensor":        set("diagnostic"),
		"switch":        set("config diagnostic"),
		"button":        set("config diagnostic"),
		"number":        set("config diagnostic"),
		"event":         set("diagnostic"),
		"text":          set("config diagnostic"),
		"update":        set("config diagnostic"),
	}

	configTopic  = regexp.MustCompile(`^[^+#]+/device/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config$`)
	componentKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	entityIDForm = regexp.MustCompile(`^[a-z_]+\.[a-z0-9]+(_[a-z0-9]+)*$`)
	// methodName finds value.update: Jinja prefers the attribute of an object to
	// the key of a dict.
	methodName = regexp.MustCompile(`\.(clear|copy|count|get|index|items|keys|pop|popitem|setdefault|update|values|title|format)\b`)
	iconForm   = regexp.MustCompile(`^mdi:[a-z0-9-]+$`)
)

func set(words string) map[string]bool {
	m := make(map[string]bool)
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// faults returns all that Home Assistant would refuse or complain of in one
// device discovery message. uniqueIDs holds the unique ids of messages before it.
func faults(c Config, uniqueIDs map[string]string) []string {
	var all []string
	fault := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }

	if !configTopic.MatchString(c.Topic) {
		fault("topic %q is no device config topic", c.Topic)
	}
	var root map[string]any
	if err := json.Unmarshal(c.Payload, &root); err != nil {
		return append(all, "no JSON object: "+err.Error())
	}
	closed := func(what string, m map[string]any, lists ...map[string]bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !slices.ContainsFunc(lists, func(l map[string]bool) bool { return l[k] }) {
				fault("%s: unknown key %q", what, k)
			}
		}
	}
	object := func(what string, v any) map[string]any {
		m, ok := v.(map[string]any)
		if !ok {
			fault("%s is missing or no object", what)
		}
		return m
	}

	closed("root", root, rootKeys)
	dev := object("device", root["device"])
	closed("device", dev, deviceKeys)
	ids, _ := dev["identifiers"].([]any)
	connections, _ := dev["connections"].([]any)
	if len(ids) == 0 && len(connections) == 0 {
		fault("device: no identifiers")
	}
	for _, c := range connections {
		if pair, _ := c.([]any); len(pair) != 2 {
			fault("device: connection %v is no type and address", c)
		}
	}
	if len(ids) > 0 && dev["via_device"] == ids[0] {
		fault("device: is its own via_device")
	}
	for k, v := range dev {
		if s, ok := v.(string); k != "identifiers" && k != "connections" && (!ok || strings.TrimSpace(s) == "" || s != strings.TrimSpace(s)) {
			fault("device: %s is no text: %v", k, v)
		}
	}
	if _, ok := dev["name"]; !ok {
		fault("device: no name")
	}
	from := object("origin", root["origin"])
	closed("origin", from, originKeys)
	if from["name"] == nil {
		fault("origin: no name")
	}
	checkAvailability("root", root, fault)

	components := object("components", root["components"])
	if len(components) == 0 {
		fault("no components")
	}
	names := make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(components)) {
		if !componentKey.MatchString(key) {
			fault("component %q: its key has characters that are not cleaned up", key)
		}
		comp := object("component "+key, components[key])
		platform, _ := comp["platform"].(string)
		if platformKeys[platform] == nil {
			fault("component %s: platform %q is not one of those used here", key, platform)
			continue
		}
		lists := []map[string]bool{commonKeys, platformKeys[platform]}
		if platform == deviceAutomation {
			lists[0] = set("platform qos unique_id") // what it does not know it removes without a word
		}
		closed("component "+key, comp, lists...)
		for _, need := range platformNeeds[platform] {
			if comp[need] == nil && root[need] == nil {
				fault("component %s: a %s needs %s", key, platform, need)
			}
		}
		if platform == deviceAutomation {
			checkTrigger(key, comp, fault)
			name := fmt.Sprint(platform, comp["type"], comp["subtype"])
			if other, taken := names[name]; taken {
				fault("triggers %s and %s have one type and subtype", other, key)
			}
			names[name] = key
			continue
		}
		unique, _ := comp["unique_id"].(string)
		if unique == "" {
			fault("component %s: no unique_id", key)
		} else if other, taken := uniqueIDs[platform+" "+unique]; taken {
			fault("component %s: unique_id %s is taken by %s", key, unique, other)
		}
		uniqueIDs[platform+" "+unique] = c.Topic + " " + key
		checkEntity(key, platform, comp, fault)
		checkSettings(key, platform, comp, fault)
		checkAvailability("component "+key, comp, fault)

		name := fmt.Sprint(platform, comp["name"], comp["device_class"])
		if other, taken := names[name]; taken {
			fault("components %s and %s have one name", other, key)
		}
		names[name] = key
	}
	return all
}

func checkEntity(key, platform string, comp map[string]any, fault func(string, ...any)) {
	if id, _ := comp["default_entity_id"].(string); !entityIDForm.MatchString(id) || !strings.HasPrefix(id, platform+".") {
		fault("component %s: default_entity_id %q is none of platform %s", key, id, platform)
	}
	class, _ := comp["device_class"].(string)
	if class != "" && !deviceClasses[platform][class] {
		fault("component %s: device_class %q", key, class)
	}
	if _, has := comp["name"]; !has && class == "" {
		fault("component %s: neither name nor device_class: Home Assistant would call it \"MQTT %s\"", key, platform)
	}
	if cat, has := comp["entity_category"].(string); has && !categories[platform][cat] {
		fault("component %s: entity_category %q", key, cat)
	}
	if icon, has := comp["icon"].(string); has && !iconForm.MatchString(icon) {
		fault("component %s: icon %q", key, icon)
	}
	for k, v := range comp {
		s, _ := v.(string)
		switch {
		case strings.HasSuffix(k, "_topic"):
			checkTopic("component "+key+": "+k, s, fault)
		case strings.HasSuffix(k, "_template"):
			if problem := badTemplate(s); problem != "" {
				fault("component %s: %s: %s", key, k, problem)
			}
		}
	}
	options, hasOptions := comp["options"].([]any)
	unit, hasUnit := comp["unit_of_measurement"].(string)
	stateClass, hasStateClass := comp["state_class"].(string)
	switch {
	case hasOptions && (class != "enum" || len(options) == 0 || hasUnit || hasStateClass):
		fault("component %s: options are for an enum alone, and not empty", key)
	case class == "enum" && !hasOptions:
		fault("component %s: an enum without options", key)
	case class == "timestamp" && (hasUnit || hasStateClass):
		fault("component %s: a timestamp has neither unit nor state_class", key)
	case classUnits[class] != nil && !slices.Contains(classUnits[class], unit):
		fault("component %s: %q is no unit of %s", key, unit, class)
	case hasStateClass && !slices.Contains([]string{"measurement", "total", "total_increasing"}, stateClass):
		fault("component %s: state_class %q", key, stateClass)
	}
}

func checkTrigger(key string, comp map[string]any, fault func(string, ...any)) {
	if comp["automation_type"] != "trigger" {
		fault("component %s: automation_type %v", key, comp["automation_type"])
	}
	topic, _ := comp["topic"].(string)
	checkTopic("component "+key+": topic", topic, fault)
	template, has := comp["value_template"].(string)
	if problem := badTemplate(template); has && problem != "" {
		fault("component %s: value_template: %s", key, problem)
	}
	if payload, _ := comp["payload"].(string); strings.ContainsAny(payload, "{}") {
		fault("component %s: Home Assistant renders its payload %q as a template", key, payload)
	}
}

// checkSettings is what the platforms beyond sensors refuse.
func checkSettings(key, platform string, comp map[string]any, fault func(string, ...any)) {
	number := func(k string, otherwise float64) float64 {
		if v, has := comp[k].(float64); has {
			return v
		}
		return otherwise
	}
	switch platform {
	case "number":
		if least, most := number("min", 1), number("max", 100); least > most {
			fault("component %s: min %v is above max %v", key, least, most)
		}
		if mode, has := comp["mode"].(string); has && !slices.Contains([]string{"auto", "box", "slider"}, mode) {
			fault("component %s: mode %q", key, mode)
		}
		if step := number("step", 1); step < 0.001 {
			fault("component %s: step %v", key, step)
		}
	case "text":
		if least, most := number("min", 0), number("max", 255); least > most || most > 255 {
			fault("component %s: min %v, max %v", key, least, most)
		}
		if mode, has := comp["mode"].(string); has && mode != "text" && mode != "password" {
			fault("component %s: mode %q", key, mode)
		}
		if comp["state_topic"] == nil {
			fault("component %s: without a state_topic Home Assistant shows what was typed", key)
		}
	case "event":
		types, _ := comp["event_types"].([]any)
		if len(types) == 0 {
			fault("component %s: no event_types", key)
		}
		for i, one := range types {
			if s, ok := one.(string); !ok || s == "" || slices.Contains(types[:i], one) {
				fault("component %s: event type %v is empty or there twice", key, one)
			}
		}
	case "update":
		if comp["command_topic"] != nil && comp["payload_install"] == nil {
			fault("component %s: a command_topic without payload_install", key)
		}
	}
}

func checkAvailability(what string, m map[string]any, fault func(string, ...any)) {
	list, has := m["availability"].([]any)
	if has && m["availability_topic"] != nil {
		fault("%s: availability and availability_topic exclude each other", what)
	}
	if mode, ok := m["availability_mode"].(string); ok && !slices.Contains([]string{"all", "any", "latest"}, mode) {
		fault("%s: availability_mode %q", what, mode)
	}
	if has && len(list) > 1 && m["availability_mode"] == nil {
		fault("%s: several availability topics without a mode: the latest would win", what)
	}
	for _, v := range list {
		item, _ := v.(map[string]any)
		for k := range item {
			if !availabilityKeys[k] {
				fault("%s: availability: unknown key %q", what, k)
			}
		}
		topic, _ := item["topic"].(string)
		checkTopic(what+": availability", topic, fault)
	}
}

func checkTopic(what, topic string, fault func(string, ...any)) {
	bad := func(r rune) bool { return r < ' ' || r == '+' || r == '#' || (r >= 0x7f && r <= 0x9f) }
	if topic == "" || len(topic) > 65535 || strings.ContainsFunc(topic, bad) {
		fault("%s: %q is not a valid topic", what, topic)
	}
}

// badTemplate says what is wrong with the brackets and quotes of a template.
func badTemplate(s string) string {
	if name := methodName.FindString(s); name != "" {
		return name + " is a method in Python, and the sandbox refuses it: write ['" + name[1:] + "']"
	}
	closing := map[string]string{"{{": "}}", "{%": "%}", "(": ")", "[": "]", "{": "}"}
	var open []string
	var quote byte
	outputs := 0
	for i := 0; i < len(s); i++ {
		if quote != 0 {
			if s[i] == quote {
				quote = 0
			}
			continue
		}
		two := s[i:min(i+2, len(s))]
		switch {
		case len(open) > 0 && strings.HasPrefix(s[i:], closing[open[len(open)-1]]):
			i += len(closing[open[len(open)-1]]) - 1
			open = open[:len(open)-1]
		case two == "{{" || two == "{%":
			if len(open) > 0 {
				return "a block within a block at " + s[i:]
			}
			if two == "{{" {
				outputs++
			}
			open = append(open, two)
			i++
		case len(open) == 0:
			if strings.ContainsAny(s[i:i+1], "{}") {
				return "a single bracket at " + s[i:]
			}
		case s[i] == '\'' || s[i] == '"':
			quote = s[i]
		case closing[s[i:i+1]] != "":
			open = append(open, s[i:i+1])
		case strings.ContainsAny(s[i:i+1], ")]}"):
			return "unbalanced at " + s[i:]
		}
	}
	switch {
	case quote != 0:
		return "a quote is not closed"
	case len(open) > 0:
		return open[len(open)-1] + " is not closed"
	case outputs == 0:
		return "it gives nothing"
	}
	return ""
}
