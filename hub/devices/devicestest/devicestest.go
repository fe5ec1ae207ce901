// Package devicestest holds a corpus of announcements in the shapes of many
// projects, what the real Home Assistant makes of it, and the comparison of that
// with a list of devices. Tests alone import it.
package devicestest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed corpus.txt
var corpus string

//go:embed registry.json
var registry []byte

// Case is what one project announces of one device, or of a few.
type Case struct {
	Title    string
	Messages []Message
}

// Message is a retained message.
type Message struct{ Topic, Payload string }

// Config reports whether the message announces something to Home Assistant.
func (m Message) Config() bool {
	return strings.HasPrefix(m.Topic, "homeassistant/") && strings.HasSuffix(m.Topic, "/config")
}

// Corpus returns all cases in their order.
func Corpus() []Case {
	var all []Case
	for line := range strings.Lines(corpus) {
		line = strings.TrimSuffix(line, "\n")
		title, begins := strings.CutPrefix(line, "## ")
		topic, payload, message := strings.Cut(line, "\t")
		if begins {
			all = append(all, Case{Title: title})
			continue
		}
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		if !message || len(all) == 0 {
			panic(fmt.Sprintf("corpus.txt: %q is neither a case nor a message", line))
		}
		last := &all[len(all)-1]
		last.Messages = append(last.Messages, Message{topic, payload})
	}
	return all
}

// Messages returns the messages of all cases in their order.
func Messages() []Message {
	var all []Message
	for _, c := range Corpus() {
		all = append(all, c.Messages...)
	}
	return all
}

// Registry is what Home Assistant makes of the corpus.
type Registry struct {
	Version string `json:"homeassistant"`
	// Devices are by the first of their names.
	Devices []Device `json:"devices"`
	// Refused is why a config is refused, by the topic of the config.
	Refused map[string]string `json:"refused"`
}

// Device is a row of Home Assistant's device registry.
type Device struct {
	// Names are identifiers, and connections as "type address", sorted.
	Names []string `json:"names"`
	// Name is empty where nobody gave it one.
	Name         string `json:"name,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
	ModelID      string `json:"model_id,omitempty"`
	Version      string `json:"sw_version,omitempty"`
	Hardware     string `json:"hw_version,omitempty"`
	Serial       string `json:"serial_number,omitempty"`
	URL          string `json:"configuration_url,omitempty"`
	// Via is the first name of the device that it is connected by.
	Via          string `json:"via,omitempty"`
	Availability string `json:"availability"`
	// Stub is set where others name it as their via_device, and nobody announces it.
	Stub bool `json:"stub,omitempty"`
}

// The availability of a device in Home Assistant, of its entities that have one.
const (
	Available           = "available"   // at least one of them is
	Unavailable         = "unavailable" // none is
	WithoutAvailability = "untold"      // there is no such entity
)

// Recorded returns what the real Home Assistant made of the corpus when it was
// asked last.
func Recorded() Registry {
	var r Registry
	if err := json.Unmarshal(registry, &r); err != nil {
		panic(fmt.Sprintf("registry.json: %v", err))
	}
	return r
}
