package homeassistant

import (
	"encoding/json"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// marker is a component that goes.
func marker(_, platform string) component { return component{Platform: platform} }

// stub is the least that makes Home Assistant know a component. It listens
// where nobody speaks.
func (b *Book) stub(topic string) func(key, platform string) component {
	object, _ := b.options.Ours(topic)
	nowhere := strings.TrimSuffix(topic, "config") + "removed"
	return func(key, platform string) component {
		c := component{Platform: platform, UniqueID: object + "_" + key, StateTopic: nowhere}
		switch platform {
		case "button":
			c.StateTopic, c.CommandTopic = "", nowhere
		case "switch", "number":
			c.CommandTopic = nowhere
		case "event":
			c.EventTypes = []string{"removed"}
		case deviceAutomation:
			c.StateTopic = ""
			c.AutomationType, c.Type, c.Subtype, c.Topic = "trigger", "removed", key, nowhere
		}
		return c
	}
}

// bare is a device without components.
func (b *Book) bare(topic string) []byte {
	object, _ := b.options.Ours(topic)
	return topics.Encode(payload{
		Device: device{Identifiers: []string{object}, Name: object, Manufacturer: "Dominion", Model: "Removed"},
		Origin: origin{Name: "Dominion", SWVersion: b.options.Version, SupportURL: supportURL},
	})
}

// with puts components into a config.
func (b *Book) with(config []byte, more map[string]string, as func(key, platform string) component) []byte {
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

// maxComponents bounds what one device is remembered to have.
const maxComponents = 100
