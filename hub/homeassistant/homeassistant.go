// Package homeassistant decides what is announced to Home Assistant: one
// device discovery payload for the hub, for each domain and for each service
// (Hub, Domain, Service), and in which order and when (Registry).
//
// It is pure: names and the time in, messages out, the same bytes for the same
// names. Nothing that changes all the time while a home runs (heartbeats, states,
// versions of services) is part of a payload, so a config is published once and again
// only when the thing itself has changed, or where its web page is, or what the
// firmware of a microcontroller announces. Publishing and writing to disk belong
// to the hub, which alone imports this package.
//
// When something is gone, its config goes before its state topics: an empty
// state makes the templates of entities that still exist complain.
//
// # Files
//
//	adoption.go            entities by which machines are adopted
//	deleted.go             what a person deleted in Home Assistant
//	firmware.go            firmware and domain as one device
//	homeassistant.go       topics and payloads of discovery
//	hub_and_domain.go      entities of hub and domains
//	pacing.go              how fast configs and states are published; their order
//	registry.go            what is announced, what is to be, and what is persisted of it
//	removal.go             removing a device
//	removed_components.go  removing single entities
//	service.go             entities of services
//	triggers.go            device triggers
package homeassistant

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// DefaultDiscoveryPrefix is Home Assistant's own default.
const DefaultDiscoveryPrefix = "homeassistant"

// Options are the same for every payload of one dominion.
type Options struct {
	Tree topics.Tree
	// DiscoveryPrefix may be empty: DefaultDiscoveryPrefix.
	DiscoveryPrefix string
	// HubID is the UUID of the dominion.
	HubID   string
	HubName string
	// Version is that of the hub's program.
	Version string
	// Certificate is set where the broker has one, that expires.
	Certificate bool
	// Keys is set where the hub adopts machines, and Embedded where the broker is its own: what
	// others must not see is not sent by another one.
	Keys, Embedded bool

	// FormerPrefixes are discovery prefixes of former configurations below which
	// something may still be, as Former returns them.
	FormerPrefixes []string
}

// Config is one device's discovery message. It is to be retained, at QoS 1.
type Config struct {
	Topic   string
	Payload []byte
	// Components are the platforms of its components, by key.
	Components map[string]string
	// Firmware is what it is one device with; nil: it is a device of its own.
	Firmware *Firmware
}

// Message returns c as it is published.
func (c Config) Message() topics.Message {
	return topics.Message{Topic: c.Topic, Payload: c.Payload, QoS: 1, Retain: true}
}

// Removal returns the message that takes the device of a config topic out of
// Home Assistant and out of the broker: an empty retained payload.
func Removal(topic string) topics.Message {
	return topics.Message{Topic: topic, QoS: 1, Retain: true}
}

// BirthTopics are where Home Assistant publishes "online" once it is ready: by its
// default, and where people who changed the prefix change that too.
func (o Options) BirthTopics() []string {
	birth := []string{DefaultDiscoveryPrefix + "/status"}
	for _, prefix := range append([]string{o.prefix()}, o.FormerPrefixes...) {
		if prefix != DefaultDiscoveryPrefix {
			birth = append(birth, prefix+"/status")
		}
	}
	return birth
}

// IsBirthTopic reports whether a topic is one of the BirthTopics. It allocates nothing:
// every message that reaches the hub is checked.
func (o Options) IsBirthTopic(topic string) bool {
	prefix, ok := strings.CutSuffix(topic, "/status")
	return ok && (prefix == DefaultDiscoveryPrefix || prefix == o.prefix() || slices.Contains(o.FormerPrefixes, prefix))
}

// Filters match every device config topic, of this dominion and of others, below
// the prefix and the former ones: Ours distinguishes them.
func (o Options) Filters() []string {
	filters := []string{o.prefix() + "/device/+/config"}
	for _, prefix := range o.FormerPrefixes {
		filters = append(filters, prefix+"/device/+/config")
	}
	return filters
}

// Former returns the discovery prefixes of former configurations below which there
// is something of a snapshot, sorted.
func (o Options) Former(snapshot Snapshot) []string {
	all := make(map[string]bool)
	for topic := range snapshot.Devices {
		prefix, _, is := strings.Cut(topic, "/device/"+o.object(""))
		if is && prefix != "" && prefix != o.prefix() {
			all[prefix] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Ours reports whether topic is a device config topic that this dominion
// published, now or with a former configuration, and the object id in it. It
// takes every object id of this dominion's namespace, also of a kind that this
// version does not know: a newer one may have left it.
func (o Options) Ours(topic string) (object string, ok bool) {
	if object, ok = o.below(o.prefix(), topic); ok {
		return object, true
	}
	for _, prefix := range o.FormerPrefixes {
		if object, ok = o.below(prefix, topic); ok {
			return object, true
		}
	}
	return "", false
}

// atCurrentPrefix reports whether a topic is one of ours below the prefix of now.
func (o Options) atCurrentPrefix(topic string) bool {
	_, ours := o.below(o.prefix(), topic)
	return ours
}

// below is Ours for one discovery prefix.
func (o Options) below(prefix, topic string) (object string, ok bool) {
	object, ok = strings.CutPrefix(topic, prefix+"/device/")
	if !ok {
		return "", false
	}
	object, ok = strings.CutSuffix(object, "/config")
	if !ok || strings.Contains(object, "/") {
		return "", false
	}
	rest, ok := strings.CutPrefix(object, o.object(""))
	if !ok || rest == "" {
		return "", false
	}
	return object, true
}

func (o Options) prefix() string {
	if o.DiscoveryPrefix == "" {
		return DefaultDiscoveryPrefix
	}
	return o.DiscoveryPrefix
}

// object returns the object id of a thing of this dominion. The start of the
// hub's id keeps two dominions on one broker apart: an id that is the same
// everywhere would merge their devices.
func (o Options) object(thing string) string {
	digits := strings.Map(func(r rune) rune {
		if strings.ContainsRune("0123456789abcdef", r) {
			return r
		}
		return -1
	}, strings.ToLower(o.HubID))
	return "dominion_" + digits[:min(8, len(digits))] + "_" + thing
}

const hubThing = "hub"

func domainThing(name string) string  { return "domain_" + name }
func serviceThing(name string) string { return "service_" + name }

// config finishes a payload: what all have in common, and its bytes.
func (o Options) config(thing string, p payload) Config {
	object := o.object(thing)
	p.Device.Identifiers = []string{object}
	p.Device.Manufacturer = "Dominion"
	if p.firmware != nil {
		p.Device = p.firmware.device(p.Device)
	}
	if thing != hubThing {
		p.Device.ViaDevice = o.object(hubThing)
	}
	p.Origin = origin{Name: "Dominion", SWVersion: o.Version, SupportURL: supportURL}
	p.QoS = 1
	platforms := make(map[string]string, len(p.Components))
	for key, c := range p.Components {
		c.UniqueID = object + "_" + key
		p.Components[key] = c
		platforms[key] = c.Platform
	}
	// topics.Encode orders the keys of a map, so the bytes are the same each time.
	return Config{Topic: o.topic(object), Payload: topics.Encode(p), Components: platforms, Firmware: p.firmware}
}

func (o Options) topic(object string) string { return o.prefix() + "/device/" + object + "/config" }

// HubTopic returns the topic of the hub's config.
func (o Options) HubTopic() string { return o.topic(o.object(hubThing)) }

// DomainTopic returns the topic of a domain's config.
func (o Options) DomainTopic(name string) string { return o.topic(o.object(domainThing(name))) }

// ServiceTopic returns the topic of a service's config.
func (o Options) ServiceTopic(name string) string {
	return o.topic(o.object(serviceThing(name)))
}

// entityID proposes the entity id that automations use. All start with
// "dominion_", so that one glob leaves them out of the recorder.
func entityID(platform string, words ...string) string {
	slug := strings.ReplaceAll(strings.Join(words, "_"), "-", "_")
	return platform + ".dominion_" + slug
}

// available lists the topics at which online must be published, at all of them.
func available(topic ...string) []availability {
	var all []availability
	for _, t := range topic {
		all = append(all, availability{Topic: t})
	}
	return all
}

const supportURL = "https://github.com/jmbarzee/dominion"

// The payload's keys are a closed list of Home Assistant's: one that it does
// not know at the root, in device or in origin drops the whole message.

type payload struct {
	Device           device               `json:"device"`
	Origin           origin               `json:"origin"`
	Availability     []availability       `json:"availability,omitempty"`
	AvailabilityMode string               `json:"availability_mode,omitempty"`
	QoS              int                  `json:"qos"`
	Components       map[string]component `json:"components"`

	// firmware is what it is one device with.
	firmware *Firmware
}

type device struct {
	Identifiers  []string    `json:"identifiers,omitempty"`
	Connections  [][2]string `json:"connections,omitempty"`
	Name         string      `json:"name"`
	Manufacturer string      `json:"manufacturer,omitempty"`
	Model        string      `json:"model"`
	ModelID      string      `json:"model_id,omitempty"`
	HWVersion    string      `json:"hw_version,omitempty"`
	SWVersion    string      `json:"sw_version,omitempty"`
	SerialNumber string      `json:"serial_number,omitempty"`
	ViaDevice    string      `json:"via_device,omitempty"`

	ConfigurationURL string `json:"configuration_url,omitempty"`
}

type origin struct {
	Name       string `json:"name"`
	SWVersion  string `json:"sw_version,omitempty"`
	SupportURL string `json:"support_url"`
}

type availability struct {
	Topic string `json:"topic"`
}

// component is one entity. The payloads online and offline are Home
// Assistant's defaults for availability, ON and OFF those for a switch.
type component struct {
	Platform         string          `json:"platform"`
	UniqueID         string          `json:"unique_id,omitempty"`
	DefaultEntityID  string          `json:"default_entity_id,omitempty"`
	Name             json.RawMessage `json:"name,omitempty"`
	DeviceClass      string          `json:"device_class,omitempty"`
	EntityCategory   string          `json:"entity_category,omitempty"`
	Icon             string          `json:"icon,omitempty"`
	StateTopic       string          `json:"state_topic,omitempty"`
	ValueTemplate    string          `json:"value_template,omitempty"`
	PayloadOn        string          `json:"payload_on,omitempty"`
	PayloadOff       string          `json:"payload_off,omitempty"`
	StateOn          string          `json:"state_on,omitempty"`
	StateOff         string          `json:"state_off,omitempty"`
	CommandTopic     string          `json:"command_topic,omitempty"`
	CommandTemplate  string          `json:"command_template,omitempty"`
	PayloadPress     string          `json:"payload_press,omitempty"`
	PayloadInstall   string          `json:"payload_install,omitempty"`
	LatestTopic      string          `json:"latest_version_topic,omitempty"`
	LatestTemplate   string          `json:"latest_version_template,omitempty"`
	Title            string          `json:"title,omitempty"`
	EventTypes       []string        `json:"event_types,omitempty"`
	Min              int             `json:"min,omitempty"`
	Max              int             `json:"max,omitempty"`
	Step             int             `json:"step,omitempty"`
	Mode             string          `json:"mode,omitempty"`
	StateClass       string          `json:"state_class,omitempty"`
	Unit             string          `json:"unit_of_measurement,omitempty"`
	Precision        *int            `json:"suggested_display_precision,omitempty"`
	Options          []string        `json:"options,omitempty"`
	AttributesTopic  string          `json:"json_attributes_topic,omitempty"`
	AttributesTmpl   string          `json:"json_attributes_template,omitempty"`
	Availability     []availability  `json:"availability,omitempty"`
	AvailabilityMode string          `json:"availability_mode,omitempty"`

	// Of triggers alone.
	AutomationType string `json:"automation_type,omitempty"`
	Type           string `json:"type,omitempty"`
	Subtype        string `json:"subtype,omitempty"`
	Topic          string `json:"topic,omitempty"`
	Payload        string `json:"payload,omitempty"`
}

// Names of entities. Home Assistant puts the device's name before them. Where
// the device class is enough (connectivity, problem, temperature, restart)
// there is none: Home Assistant then writes it in the user's language.

// mainFeature is the name of the entity that stands for its device.
var mainFeature = json.RawMessage("null")

func named(s string) json.RawMessage { return topics.Encode(s) }

// Categories and classes.
const (
	diagnostic = "diagnostic"
	setting    = "config"
	modeAll    = "all"
)

func digits(n int) *int { return &n }

func itoa(n int) string { return strconv.Itoa(n) }
