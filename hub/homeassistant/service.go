package homeassistant

import "github.com/jmbarzee/dominion/topics"

// Program is all of a service that its device shows.
type Program struct {
	Name string
	// URL is its own web page; "": it has none.
	URL string
	// MaxReplicas is on how many domains it may be asked to run; 0: nobody may choose.
	MaxReplicas int
	// Versioned is set where there are versions of it.
	Versioned bool
	// Micro is set where microcontrollers alone have it, which take no orders.
	Micro bool
}

// Service returns the device of a service: its state, whether it needs a human and
// why, its last error, how many run, a trigger for each of its events, and where
// that makes sense its version. One that an agent runs has a switch, a button to
// restart it, what it uses, the update to the newest version and how many are
// wanted.
func Service(o Options, s Program) Config {
	status := o.Tree.Service(topics.ServiceStatus, s.Name)
	components := map[string]component{
		"state": {
			Platform: "sensor", Name: named("State"), DeviceClass: "enum", Icon: "mdi:state-machine",
			DefaultEntityID: entityID("sensor", s.Name, "state"),
			StateTopic:      status,
			ValueTemplate:   "{{ value_json.state }}",
			Options:         states(),
			AttributesTopic: status,
			AttributesTmpl:  attributes,
		},
		"problem": {
			Platform: "binary_sensor", DeviceClass: "problem", EntityCategory: diagnostic,
			DefaultEntityID: entityID("binary_sensor", s.Name, "problem"),
			StateTopic:      status,
			ValueTemplate:   problem,
			AttributesTopic: status,
			AttributesTmpl:  "{{ dict(reason=value_json.problem | default('')) | to_json }}",
		},
		"last_error": {
			Platform: "sensor", Name: named("Last error"), EntityCategory: diagnostic, Icon: "mdi:alert-circle-outline",
			DefaultEntityID: entityID("sensor", s.Name, "last_error"),
			StateTopic:      status,
			ValueTemplate:   "{{ value_json.last_error.message[:255] if value_json.last_error is defined else 'none' }}",
			AttributesTopic: status,
			AttributesTmpl: "{{ dict(domain=value_json.last_error.domain, at=value_json.last_error.at) | to_json" +
				" if value_json.last_error is defined else dict() | to_json }}",
		},
		"running": {
			Platform: "sensor", Name: named("Running instances"), EntityCategory: diagnostic, Icon: "mdi:cog-play", StateClass: "measurement",
			DefaultEntityID: entityID("sensor", s.Name, "running"),
			StateTopic:      status,
			ValueTemplate:   "{{ value_json.running }}",
			Precision:       digits(0),
		},
	}
	if s.Versioned {
		components["version"] = component{
			Platform: "sensor", Name: named("Version"), EntityCategory: diagnostic, Icon: "mdi:tag-outline",
			DefaultEntityID: entityID("sensor", s.Name, "version"),
			StateTopic:      status,
			ValueTemplate:   "{{ value_json.version | default(None) }}",
		}
	}
	if !s.Micro {
		o.run(s, status, components)
	}
	return o.config(serviceThing(s.Name), payload{
		Device:       device{Name: s.Name, Model: "Service", ConfigurationURL: s.URL},
		Availability: available(o.Tree.Hub(topics.HubAvailability)),
		Components:   components,
	})
}

// run adds what only a service has that an agent runs: what is ordered, what is
// used, what happened.
func (o Options) run(s Program, status string, components map[string]component) {
	set := o.Tree.Service(topics.ServiceSet, s.Name)
	used := o.Tree.Service(topics.ServiceMetrics, s.Name)
	components["switch"] = component{
		Platform: "switch", Name: mainFeature, Icon: "mdi:cog-outline",
		DefaultEntityID: entityID("switch", s.Name),
		StateTopic:      status,
		ValueTemplate:   "{{ value_json.switch }}",
		CommandTopic:    set,
		PayloadOn:       topics.On,
		PayloadOff:      topics.Off,
	}
	components["restart"] = component{
		Platform: "button", DeviceClass: "restart", EntityCategory: setting,
		DefaultEntityID: entityID("button", s.Name, "restart"),
		CommandTopic:    set,
		PayloadPress:    topics.Restart,
	}
	// Rounded to what a person looks at: what did not change is not written to Home
	// Assistant's database again.
	components["cpu"] = component{
		Platform: "sensor", Name: named("CPU"), EntityCategory: diagnostic, Icon: "mdi:gauge", StateClass: "measurement",
		DefaultEntityID: entityID("sensor", s.Name, "cpu"),
		StateTopic:      used,
		ValueTemplate:   "{{ (100 * value_json.cpu) | round(0) }}",
		Precision:       digits(0), Unit: "%",
	}
	components["memory"] = component{
		Platform: "sensor", Name: named("Memory"), EntityCategory: diagnostic, Icon: "mdi:memory", StateClass: "measurement",
		DeviceClass:     "data_size",
		DefaultEntityID: entityID("sensor", s.Name, "memory"),
		StateTopic:      used,
		ValueTemplate:   "{{ (value_json.memory / 1000000) | round(0) }}",
		Precision:       digits(0), Unit: "MB",
	}
	if s.MaxReplicas > 1 {
		most := itoa(s.MaxReplicas)
		components["replicas"] = component{
			Platform: "number", Name: named("Replicas"), EntityCategory: setting, Icon: "mdi:content-copy",
			DefaultEntityID: entityID("number", s.Name, "replicas"),
			StateTopic:      status,
			// Out of its bounds is an error in Home Assistant's log.
			ValueTemplate:   "{{ [value_json.replicas, " + most + "] | min if value_json.replicas is defined else None }}",
			CommandTopic:    set,
			CommandTemplate: "{{ dict(replicas=value | int) | to_json }}",
			Min:             1, Max: s.MaxReplicas, Step: 1, Mode: "box",
		}
	}
	if s.Versioned {
		components["update"] = component{
			Platform: "update", Name: named("Update"), EntityCategory: setting, Title: s.Name,
			DefaultEntityID: entityID("update", s.Name, "update"),
			StateTopic:      status,
			ValueTemplate:   rollout,
			CommandTopic:    set,
			PayloadInstall:  topics.Update,
		}
	}
	o.triggers(components, "service", s.Name,
		topics.ServiceReady, topics.ServiceUnhealthy, topics.ServiceCrashed, topics.ServiceFailed, topics.ServiceFinished,
		topics.ServiceStopped, topics.ServiceMoved, topics.ServiceUpdated, topics.ServiceReverted)
}

func states() (all []string) {
	for _, state := range topics.States() {
		all = append(all, string(state))
	}
	return all
}

const (
	// attributes are what a person asks next: why, and where.
	attributes = "{{ dict(reason=value_json.reason, version=value_json.version | default(''), wanted=value_json.wanted, running=value_json.running," +
		" domains=(value_json.instances or []) | map(attribute='domain') | list) | to_json }}"

	// problem is the hub's verdict, which does not follow each state that a service
	// passes through.
	problem = "{{ 'ON' if value_json.problem is defined else 'OFF' }}"

	// rollout gives the keys that Home Assistant's update takes and no other:
	// one more, or a URL that is none, and it refuses all. Where nothing runs, nothing
	// is to be updated.
	rollout = "{% set u = value_json['update'] %}" +
		"{% set notes = dict(release_url=u.release_url) if u.release_url is defined else dict() %}" +
		"{{ dict(notes, installed_version=u.installed_version or u.latest_version, latest_version=u.latest_version or u.installed_version," +
		" in_progress=u.in_progress, update_percentage=u.update_percentage | default(None)," +
		" release_summary=(u.problem | default(u.waits | default(u.release_summary | default(''))))[:255]) | to_json }}"
)
