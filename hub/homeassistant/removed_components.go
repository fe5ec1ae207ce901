package homeassistant

import (
	"encoding/json"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// removedComponent is a component that is removed.
func removedComponent(_, platform string) component { return component{Platform: platform} }

// stubComponent returns a function that makes the least of a component that Home
// Assistant discovers. Nobody publishes at its topic.
func (r *Registry) stubComponent(topic string) func(key, platform string) component {
	object, _ := r.options.Ours(topic)
	unused := strings.TrimSuffix(topic, "config") + "removed"
	return func(key, platform string) component {
		c := component{Platform: platform, UniqueID: object + "_" + key, StateTopic: unused}
		switch platform {
		case "button":
			c.StateTopic, c.CommandTopic = "", unused
		case "switch", "number":
			c.CommandTopic = unused
		case "event":
			c.EventTypes = []string{"removed"}
		case deviceAutomation:
			c.StateTopic = ""
			c.AutomationType, c.Type, c.Subtype, c.Topic = "trigger", "removed", key, unused
		}
		return c
	}
}

// emptyDevice is the config of a device without components.
func (r *Registry) emptyDevice(topic string) []byte {
	object, _ := r.options.Ours(topic)
	return topics.Encode(payload{
		Device: device{Identifiers: []string{object}, Name: object, Manufacturer: "Dominion", Model: "Removed"},
		Origin: origin{Name: "Dominion", SWVersion: r.options.Version, SupportURL: supportURL},
	})
}

// withComponents adds components to a config.
func (r *Registry) withComponents(config []byte, more map[string]string, as func(key, platform string) component) []byte {
	var root map[string]json.RawMessage
	var components map[string]json.RawMessage
	if json.Unmarshal(config, &root) != nil || json.Unmarshal(root["components"], &components) != nil {
		return config // never: it is ours
	}
	if components == nil {
		components = make(map[string]json.RawMessage)
	}
	for key, platform := range more {
		components[key] = topics.Encode(as(key, platform))
	}
	root["components"] = topics.Encode(components)
	return topics.Encode(root)
}

// platforms reads the components of a config that an earlier run wrote.
func platforms(config []byte) map[string]string {
	var root struct {
		Components map[string]struct {
			Platform string `json:"platform"`
			UniqueID string `json:"unique_id"`
		} `json:"components"`
	}
	if json.Unmarshal(config, &root) != nil {
		return nil
	}
	all := make(map[string]string)
	for key, c := range root.Components {
		if c.Platform != "" && c.UniqueID != "" && len(all) < maxComponents {
			all[key] = c.Platform
		}
	}
	return all
}

// maxComponents bounds the components that are recorded of one device.
const maxComponents = 100
