package homeassistant

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// deviceAutomation is the platform of triggers. They are no entities: they have no
// state, and Home Assistant subscribes to their topic only where an automation uses
// them. Their unique_id is for the Registry alone; Home Assistant ignores it.
const deviceAutomation = "device_automation"

// triggers adds a device trigger for each of these types of event of a domain or a
// service. Home Assistant's editor of automations lists them as "web" crashed: the
// subtype is the name of the thing, the type what happened to it.
func (o Options) triggers(components map[string]component, kind, name string, types ...topics.EventType) {
	for _, t := range types {
		happened := strings.TrimPrefix(string(t), kind+"_")
		components["trigger_"+happened] = component{
			Platform: deviceAutomation, AutomationType: "trigger",
			Type: happened, Subtype: name,
			Topic:         o.Tree.Hub(topics.HubEvent),
			ValueTemplate: "{{ value_json." + kind + " | default('') }} {{ value_json.type }}",
			Payload:       name + " " + string(t),
		}
	}
}
