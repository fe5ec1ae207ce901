package devices

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
)

// What Home Assistant refuses of its discovery, by its schemas
// (homeassistant/components/mqtt/schemas.py, discovery.py and those of each
// platform). Only what is refused for sure is named: lists that grow with each
// release, such as those of device classes, are not checked.

// abbreviated gives the long form of the keys that are checked here alone.
var abbreviated = map[string]string{
	"atype": "automation_type", "cmd_t": "command_topic", "def_ent_id": "default_entity_id", "e": "encoding", "en": "enabled_by_default",
	"ent_cat": "entity_category", "ent_pic": "entity_picture", "evt_typ": "event_types", "hum_cmd_t": "target_humidity_command_topic", "ic": "icon",
	"json_attr_t": "json_attributes_topic", "json_attr_tpl": "json_attributes_template", "ops": "options",
	"stat_t": "state_topic", "stype": "subtype", "uniq_id": "unique_id",
}

// The keys that the root, the device and the origin may have: the lists are
// closed. inherited are those of the root that its components take over.
var (
	inherited = []string{
		"availability", "availability_mode", "availability_template", "availability_topic", "command_topic", "encoding",
		"message_expiry_interval", "payload_available", "payload_not_available", "qos", "state_topic",
	}
	ofDevice = []string{
		"configuration_url", "connections", "hw_version", "identifiers", "manufacturer", "model", "model_id", "name",
		"serial_number", "suggested_area", "sw_version", "via_device", "via_hub",
	}
	ofOrigin       = []string{"name", "support_url", "sw_version"}
	ofAvailability = []string{"payload_available", "payload_not_available", "topic", "value_template"}
	// texts are the keys of any entity that are a text and never null.
	texts = []string{
		"availability_mode", "availability_template", "default_entity_id", "entity_category", "icon",
		"json_attributes_template", "payload_available", "payload_not_available", "unique_id",
	}
)

// linter gathers what Home Assistant refuses of a config.
type linter struct {
	seed   maphash.Seed
	faults []string
	more   int
	// alone is set where it is an entity that belongs to no device.
	alone bool
	// unique and places are those of the entities that it announces.
	unique, places []uint64
	// title is that of the entity that it is, by platform and name; zero: it has none.
	title uint64
}

// maxFaults is how many faults of one config are named.
const maxFaults = 4

func (l *linter) fault(format string, a ...any) {
	text := cut(fmt.Sprintf(format, a...), maxTopic)
	if slices.Contains(l.faults, text) {
		return
	}
	if len(l.faults) >= maxFaults {
		l.more++
		return
	}
	l.faults = append(l.faults, text)
}

// err returns what is refused as one detail, nil where it is nothing.
func (l *linter) err() error {
	if len(l.faults) == 0 {
		if l.alone {
			return refusal("Home Assistant takes the entity without its device: unique_id is missing")
		}
		return nil
	}
	if l.alone {
		l.fault("unique_id is missing")
	}
	text := refuses + strings.Join(l.faults, "; ")
	if l.more > 0 {
		text += fmt.Sprintf("; and %d more", l.more)
	}
	return refusal(text)
}

// refusal is what Home Assistant refuses of a config.
type refusal string

func (r refusal) Error() string { return string(r) }

// checked is hass together with what Home Assistant refuses of the config.
func (s *State) checked(topic string, payload []byte, device bool) ([]*announcement, error) {
	all, err := s.hass(topic, payload, device)
	root := objectOf(payload, nil)
	if root == nil {
		return all, err
	}
	l := linter{seed: s.seed}
	l.lint(strings.TrimPrefix(topic, s.discovery), root)
	if len(all) > 0 {
		all[0].unique, all[0].places, all[0].title = l.unique, l.places, l.title
	}
	refused := l.err()
	switch part, partly := err.(*partialError); { //nolint:errorlint // it is never wrapped
	case refused == nil:
		return all, err
	case partly:
		part.add(refused)
		return all, part
	case err != nil:
		return all, fmt.Errorf("%w; %w", err, refused)
	}
	var d partialError
	d.add(refused)
	return all, &d
}

// refuses begins the problem of a config that Home Assistant refuses.
const refuses = "Home Assistant refuses it: "

// lint checks a config. below is its topic below the discovery prefix,
// "<component>/[<node>/]<object>/config".
func (l *linter) lint(below string, root object) {
	levels := strings.Split(below, "/")
	if levels[0] == "device" {
		l.device(root)
		return
	}
	if _, ok := platforms[levels[0]]; !ok {
		l.fault("%q is not one of its components: write another one into the topic", levels[0])
		return
	}
	if _, migrates := root["migrate_discovery"]; migrates {
		if len(root) > 1 || string(root["migrate_discovery"]) != "true" {
			l.fault(`migrate_discovery stands alone and is true`)
		}
		return
	}
	if len(levels) == 4 {
		l.place(levels[0], levels[2])
	}
	if name, ok := textOfRaw(root["name"]); ok && name != "" {
		l.title = maphash.String(l.seed, levels[0]+"\x00"+name)
	}
	l.origin(root, false)
	l.childOf(root)
	_, named := root["device"]
	if named {
		l.deviceInfo(root["device"])
	}
	if !named && levels[0] == "device_automation" {
		l.fault("device is missing: a device_automation needs it")
	}
	l.entity("", levels[0], root)
	_, unique := root["unique_id"]
	l.alone = named && !unique && isEntity(levels[0])
}

// device checks the config of a whole device.
func (l *linter) device(root object) {
	if string(root["migrate_discovery"]) == "true" && len(root) == 1 {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(root)) {
		if k == "~" {
			l.fault(`"~" is not allowed at the root of a device: write it into each component`)
		} else if k != "device" && k != "origin" && k != "components" && k != "child_devices" && !slices.Contains(inherited, k) {
			l.fault("%q is not allowed at the root of a device: write it into each component", cut(k, maxText/2))
		}
	}
	if root["device"] != nil {
		l.deviceInfo(root["device"])
	}
	l.origin(root, true)
	l.delivery("", root)
	for _, k := range inherited {
		if slices.Contains(texts, k) {
			l.text(k, root[k])
		}
	}
	l.topic("state_topic", root["state_topic"], false)
	l.topic("command_topic", root["command_topic"], true)
	l.availability("", root)
	for _, raw := range listOf(root["availability"]) {
		l.closed("availability", objectOf(raw, nil), ofAvailability)
	}
	components := objectOf(root["components"], nil)
	l.children(root)
	if components == nil && (root["components"] != nil || root["child_devices"] == nil) {
		l.fault(`components is missing or no object: add "components": {"<id>": {"platform": "sensor", …}}`)
	}
	for n, id := range slices.Sorted(maps.Keys(components)) {
		if n >= maxComponents {
			break
		}
		l.component(root, cut(id, maxText/2), components[id])
	}
}

// component checks a component of a device.
func (l *linter) component(root object, id string, raw json.RawMessage) {
	at := "components." + id
	c := objectOf(raw, nil)
	platform := ""
	if c == nil {
		l.fault("%s is not an object", at)
		return
	}
	if json.Unmarshal(c["platform"], &platform) != nil || !knownPlatform(platform) {
		l.fault("%s.platform is missing or none of Home Assistant's: write one such as sensor", at)
		return
	}
	if len(c) == 1 { // it removes the component
		return
	}
	if c["unique_id"] == nil && isEntity(platform) {
		l.fault("%s.unique_id is missing: write one that no other entity has", at)
	}
	l.place("device", id)
	for _, k := range inherited {
		if v, there := root[k]; there && c[k] == nil {
			c[k] = v
		}
	}
	l.entity(at+".", platform, c)
}

// entity checks what any entity has, and what its platform requires.
func (l *linter) entity(at, platform string, e object) {
	for _, k := range platforms[platform].requires {
		if e[k] == nil {
			l.fault("%s%s is missing: a %s needs it", at, k, platform)
		} else if platform == "device_automation" {
			l.text(at+k, e[k])
		}
	}
	l.delivery(at, e)
	own := platforms[platform].topics
	if schema, ok := textOfRaw(e["schema"]); ok && platform == "light" && schema != "basic" {
		own = []string{"command_topic", "state_topic"}
	}
	for _, k := range own {
		l.topic(at+k, e[k], strings.HasSuffix(k, "command_topic"))
	}
	if !isEntity(platform) {
		return
	}
	for _, k := range texts {
		l.text(at+k, e[k])
	}
	if name := e["name"]; len(name) > 0 && name[0] != 'n' { // null: the device's own
		l.text(at+"name", name)
	}
	for _, k := range []string{"enabled_by_default", "visible_by_default"} {
		l.truth(at+k, e[k])
	}
	if url, ok := textOfRaw(e["entity_picture"]); ok {
		l.url(at+"entity_picture", url)
	} else {
		l.text(at+"entity_picture", e["entity_picture"])
	}
	l.topic(at+"json_attributes_topic", e["json_attributes_topic"], false)
	l.availability(at, e)
	if category, ok := textOfRaw(e["entity_category"]); ok && category != "config" && category != "diagnostic" {
		l.fault("%sentity_category is %q: it can be config or diagnostic, or be left out", at, cut(category, maxText/4))
	}
	if icon, ok := textOfRaw(e["icon"]); ok && !strings.Contains(icon, ":") {
		l.fault("%sicon is %q: write it as mdi:name", at, cut(icon, maxText/4))
	}
	if id, ok := textOfRaw(e["unique_id"]); ok {
		sum := maphash.String(l.seed, platform+"\x00"+id)
		if slices.Contains(l.unique, sum) {
			l.fault("%sunique_id %q is there twice: write one that no other entity has", at, cut(id, maxText/2))
		} else if len(l.unique) < maxComponents {
			l.unique = append(l.unique, sum)
		}
	}
}

// delivery checks how messages are subscribed to and read.
func (l *linter) delivery(at string, e object) {
	l.text(at+"encoding", e["encoding"])
	switch qos := strings.Trim(string(e["qos"]), `"`); qos {
	case "", "0", "1", "2", "0.0", "1.0", "2.0", "true", "false":
	default:
		l.fault("%sqos is %s: it can be 0, 1 or 2", at, cut(qos, maxText/4))
	}
}

// availability checks the availability of an entity or of the root of a device.
func (l *linter) availability(at string, e object) {
	l.topic(at+"availability_topic", e["availability_topic"], false)
	if mode, ok := textOfRaw(e["availability_mode"]); ok && mode != modeAll && mode != modeAny && mode != modeLatest {
		l.fault("%savailability_mode is %q: it can be all, any or latest", at, cut(mode, maxText/4))
	}
	if e["availability"] == nil {
		return
	}
	if e["availability_topic"] != nil {
		l.fault("%savailability and availability_topic are both there: leave one out", at)
	}
	for _, raw := range listOf(e["availability"]) {
		i := objectOf(raw, nil)
		switch {
		case i == nil:
			l.fault("%savailability has something that is not an object", at)
		case i["topic"] == nil:
			l.fault(`%savailability has something without "topic": add it`, at)
		default:
			l.topic(at+"availability.topic", i["topic"], false)
			for _, k := range []string{"payload_available", "payload_not_available", "value_template"} {
				l.text(at+"availability."+k, i[k])
			}
		}
	}
}

// deviceInfo checks the description of the device.
func (l *linter) deviceInfo(raw json.RawMessage) {
	d := objectOf(raw, nil)
	if d == nil {
		l.fault("device is not an object")
		return
	}
	l.closed("device", d, ofDevice)
	for _, k := range ofDevice {
		switch k {
		case "identifiers":
			for _, one := range listOf(d[k]) {
				l.text("device.identifiers", one)
			}
		case "connections":
			for _, pair := range listOf(d[k]) {
				two := listOf(pair)
				if len(two) < 2 || pair[0] != '[' {
					l.fault(`device.connections has %s: write pairs such as ["mac", "a4:cf:12:ef:3b:70"]`, cut(string(pair), maxText/4))
					continue
				}
				l.text("device.connections", two[0])
				l.text("device.connections", two[1])
			}
		case "via_hub": // which is ignored
		default:
			l.text("device."+k, d[k])
		}
	}
	if via, ok := textOfRaw(d["via_device"]); ok && slices.ContainsFunc(listOf(d["identifiers"]), func(raw json.RawMessage) bool {
		id, is := textOfRaw(raw)
		return is && id == via
	}) {
		l.fault("device.via_device is the device itself: leave it out")
	}
	if url, ok := textOfRaw(d["configuration_url"]); ok {
		l.url("device.configuration_url", url)
	}
}

// origin checks who sends a config, which that of a device has to contain.
func (l *linter) origin(root object, required bool) {
	raw, there := root["origin"]
	if !there {
		if required {
			l.fault(`origin is missing: add "origin": {"name": "<your firmware>"}`)
		}
		return
	}
	o := objectOf(raw, originKeys)
	if o == nil {
		l.fault("origin is not an object")
		return
	}
	l.closed("origin", o, ofOrigin)
	if o["name"] == nil {
		l.fault("origin.name is missing: write the name of your firmware")
	}
	for _, k := range ofOrigin {
		l.text("origin."+k, o[k])
	}
	if url, ok := textOfRaw(o["support_url"]); ok {
		l.url("origin.support_url", url)
	}
}

// originKeys are the abbreviations that the origin has for itself.
var originKeys = map[string]string{"url": "support_url"}

// truthWords are the texts that Home Assistant takes for a truth value.
var truthWords = []string{"true", "false", "yes", "no", "on", "off", "enable", "disable", "1", "0"}

// place notes where an entity has its place in a device.
func (l *linter) place(component, object string) {
	if len(l.places) < maxComponents {
		l.places = append(l.places, maphash.String(l.seed, component+"\x00"+object))
	}
}

// knownPlatform reports whether Home Assistant has a platform.
func knownPlatform(platform string) bool {
	_, ok := platforms[platform]
	return ok
}

// isEntity reports whether a platform makes entities, which have a unique_id.
func isEntity(platform string) bool { return platform != "device_automation" && platform != "tag" }
