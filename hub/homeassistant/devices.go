package homeassistant

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Hub returns the device of the hub: whether it is there, whether it is ready,
// and its counts.
func Hub(o Options) Config {
	status := o.Tree.Hub(topics.HubStatus)
	online := available(o.Tree.Hub(topics.HubAvailability))
	count := func(key, name, icon, category string) component {
		return component{
			Platform: "sensor", Name: named(name), Icon: icon, EntityCategory: category,
			DefaultEntityID: entityID("sensor", "hub", key),
			StateTopic:      status,
			StateClass:      "measurement",
			Precision:       digits(0),
			Availability:    online,
		}
	}
	from := func(c component, template string) component {
		c.ValueTemplate = template
		return c
	}
	return o.config(hubThing, payload{
		Device: device{Name: strings.TrimSpace("Dominion " + o.HubName), Model: "Hub", SWVersion: o.Version, SerialNumber: o.HubID},
		Components: map[string]component{
			// Says "disconnected" while the hub is away, so it has no availability.
			"connectivity": connectivity(o.Tree.Hub(topics.HubAvailability), "hub"),
			"ready": {
				Platform: "binary_sensor", Name: named("Ready"), EntityCategory: diagnostic, Icon: "mdi:check-network",
				DefaultEntityID: entityID("binary_sensor", "hub_ready"),
				StateTopic:      status,
				ValueTemplate:   "{{ 'ON' if value_json.ready else 'OFF' }}",
				Availability:    online,
			},
			"started": started(status, online, "hub"),
			"domains_online": from(count("domains_online", "Domains online", "mdi:lan-connect", ""),
				"{{ value_json.domains.online }}"),
			"domains_offline": from(count("domains_offline", "Domains offline", "mdi:lan-disconnect", diagnostic),
				"{{ value_json.domains.offline }}"),
			"domains_lonely": from(count("domains_lonely", "Domains lonely", "mdi:lan-pending", diagnostic),
				"{{ value_json.domains.lonely }}"),
			"services_wanted": from(count("services_wanted", "Services wanted", "mdi:clipboard-list-outline", diagnostic),
				"{{ value_json.services.wanted }}"),
			"services_running": from(count("services_running", "Services running", "mdi:cog-play", ""),
				"{{ value_json.services.running }}"),
		},
	})
}

// Sensor is a sensor of a domain that not every machine has.
type Sensor uint8

// The sensors that a machine may have.
const (
	// Temperature: the domain's metrics carry a temperature.
	Temperature Sensor = iota + 1
)

// Domain returns the device of a domain that has joined: whether it is
// connected, and, unless it is a microcontroller, since when it runs and what
// its metrics say. Nothing listens to the heartbeat: each one would become a
// row of Home Assistant's database, on an SD card as often as not.
func Domain(o Options, d topics.DomainView, has ...Sensor) Config {
	var (
		hub       = o.Tree.Hub(topics.HubAvailability)
		own       = o.Tree.Domain(topics.DomainAvailability, d.Name)
		metrics   = o.Tree.Domain(topics.DomainMetrics, d.Name)
		both      = available(hub, own)
		p         = payload{Device: device{Name: d.Name, Model: "Domain", SWVersion: d.Version, SerialNumber: d.ID}}
		measuring = func(key string) component {
			return component{
				Platform: "sensor", EntityCategory: diagnostic, StateClass: "measurement",
				DefaultEntityID:  entityID("sensor", d.Name, key),
				StateTopic:       metrics,
				Availability:     both,
				AvailabilityMode: modeAll,
			}
		}
	)
	// It says "disconnected" while the domain is away, so it must not itself
	// become unavailable then: it depends on the hub alone.
	p.Availability = available(hub)
	p.Components = map[string]component{"connectivity": connectivity(own, d.Name)}
	if d.Micro {
		p.Device.Model = "Microdomain"
		return o.config(domainThing(d.Name), p)
	}
	if d.OS != "" && d.Arch != "" {
		p.Device.HWVersion = d.OS + "/" + d.Arch
	}
	p.Components["started"] = started(o.Tree.Domain(topics.DomainStatus, d.Name), both, d.Name)

	// Rounded here and not only for display: a value that did not change is
	// not written to Home Assistant's database again.
	load := measuring("load")
	load.Name, load.Icon, load.Precision = named("Load"), "mdi:gauge", digits(1)
	load.ValueTemplate = "{{ value_json.load1 | round(1) }}"
	p.Components["load"] = load

	memory := measuring("memory")
	memory.Name, memory.Icon, memory.Precision, memory.Unit = named("Memory"), "mdi:memory", digits(0), "%"
	memory.ValueTemplate = "{{ (100 * value_json.memory_used / value_json.memory_total) | round(0) if value_json.memory_total else None }}"
	p.Components["memory"] = memory

	for _, s := range has {
		if s == Temperature {
			t := measuring("temperature")
			t.DeviceClass, t.Precision, t.Unit = "temperature", digits(0), "°C"
			t.ValueTemplate = "{{ value_json.temperature | round(0) if value_json.temperature is defined else None }}"
			p.Components["temperature"] = t
		}
	}
	return o.config(domainThing(d.Name), p)
}

// Service returns the device of a service: its switch, its state with the
// reason as an attribute, whether it needs a human, and a button to restart it.
func Service(o Options, s topics.Service) Config {
	status := o.Tree.Service(topics.ServiceStatus, s.Service)
	set := o.Tree.Service(topics.ServiceSet, s.Service)
	var states []string
	for _, state := range topics.States() {
		states = append(states, string(state))
	}
	return o.config(serviceThing(s.Service), payload{
		Device:       device{Name: s.Service, Model: "Service"},
		Availability: available(o.Tree.Hub(topics.HubAvailability)),
		Components: map[string]component{
			"switch": {
				Platform: "switch", Name: mainFeature, Icon: "mdi:cog-outline",
				DefaultEntityID: entityID("switch", s.Service),
				StateTopic:      status,
				ValueTemplate:   "{{ value_json.switch }}",
				CommandTopic:    set,
				PayloadOn:       topics.On,
				PayloadOff:      topics.Off,
			},
			"state": {
				Platform: "sensor", Name: named("State"), DeviceClass: "enum", Icon: "mdi:state-machine",
				DefaultEntityID: entityID("sensor", s.Service, "state"),
				StateTopic:      status,
				ValueTemplate:   "{{ value_json.state }}",
				Options:         states,
				AttributesTopic: status,
				AttributesTmpl:  attributes,
			},
			"problem": {
				Platform: "binary_sensor", DeviceClass: "problem", EntityCategory: diagnostic,
				DefaultEntityID: entityID("binary_sensor", s.Service, "problem"),
				StateTopic:      status,
				ValueTemplate:   problem,
			},
			"restart": {
				Platform: "button", DeviceClass: "restart", EntityCategory: setting,
				DefaultEntityID: entityID("button", s.Service, "restart"),
				CommandTopic:    set,
				PayloadPress:    topics.Restart,
			},
		},
	})
}

const (
	// attributes are what a person asks next: why, and where.
	attributes = "{{ dict(reason=value_json.reason, version=value_json.version | default(''), wanted=value_json.wanted, running=value_json.running," +
		" domains=(value_json.instances or []) | map(attribute='domain') | list) | to_json }}"

	// problem is ON where a wanted service is not well: as a whole (one that is
	// not wanted is stopped, not pending), or one of its instances while others
	// run.
	problem = "{% set bad = ['failed', 'backoff'] %}{% set all = value_json.instances or [] %}" +
		"{{ 'ON' if value_json.state in bad + ['pending']" +
		" or all | selectattr('state', 'in', bad) | list or all | selectattr('health', 'eq', 'unhealthy') | list else 'OFF' }}"
)

// connectivity is the entity that stands for a machine: connected or not.
func connectivity(availabilityTopic, name string) component {
	return component{
		Platform: "binary_sensor", Name: mainFeature, DeviceClass: "connectivity",
		DefaultEntityID: entityID("binary_sensor", name),
		StateTopic:      availabilityTopic,
		PayloadOn:       topics.Online,
		PayloadOff:      topics.Offline,
	}
}

// started is a timestamp: it changes once a run, where an uptime would fill
// the database.
func started(statusTopic string, needs []availability, name string) component {
	return component{
		Platform: "sensor", Name: named("Started"), DeviceClass: "timestamp", EntityCategory: diagnostic,
		DefaultEntityID:  entityID("sensor", name, "started"),
		StateTopic:       statusTopic,
		ValueTemplate:    "{{ value_json.started_at }}",
		Availability:     needs,
		AvailabilityMode: modeAll,
	}
}
