package homeassistant

import "github.com/jmbarzee/dominion/topics"

// maxCode is the length of a code with what people type between its groups.
const maxCode = 32

// adopt adds what the hub's device shows of machines that wait for adoption. Where the broker
// is the hub's own, there is a field that takes the code of one of them, and a switch for the
// window. Both publish private requests, which the broker hands to the hub alone, and only
// from an admin over an encrypted connection.
//
// The state of the field is always empty: without a state topic Home Assistant would show and
// record what was typed.
func (o Options) adopt(components map[string]component) {
	adoption := o.Tree.Hub(topics.HubAdoption)
	components["waiting"] = component{
		Platform: "sensor", Name: named("Machines waiting"), Icon: "mdi:server-plus", StateClass: "measurement",
		DefaultEntityID: entityID("sensor", "machines_waiting"),
		StateTopic:      adoption,
		ValueTemplate:   "{{ value_json.waiting | length }}",
		Precision:       digits(0),
		AttributesTopic: adoption,
		// Home Assistant's database takes 16 kB of attributes.
		AttributesTmpl: "{{ dict(machines=value_json.waiting[:32]) | to_json }}",
	}
	if !o.Embedded {
		return
	}
	adopt, _ := o.Tree.Request(topics.VerbAdopt)
	permitJoin, _ := o.Tree.Request(topics.VerbPermitJoin)
	components["code"] = component{
		Platform: "text", Name: named("Adoption code"), EntityCategory: setting, Icon: "mdi:form-textbox-password",
		DefaultEntityID: entityID("text", "adoption_code"),
		StateTopic:      adoption,
		ValueTemplate:   "{{ '' }}",
		CommandTopic:    adopt,
		CommandTemplate: "{{ dict(code=value) | to_json }}",
		Max:             maxCode, Mode: "text",
	}
	components["permit_join"] = component{
		Platform: "switch", Name: named("Permit join"), EntityCategory: setting, Icon: "mdi:door-open",
		DefaultEntityID: entityID("switch", "permit_join"),
		StateTopic:      adoption,
		ValueTemplate:   "{{ 'ON' if value_json.window.open else 'OFF' }}",
		StateOn:         topics.On, StateOff: topics.Off,
		CommandTopic:    permitJoin,
		PayloadOn:       `{"action":"open"}`,
		PayloadOff:      `{"action":"close"}`,
		AttributesTopic: adoption,
		AttributesTmpl:  "{{ dict(until=value_json.window.until | default(None), left=value_json.window.left | default(None)) | to_json }}",
	}
}
