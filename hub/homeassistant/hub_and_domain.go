package homeassistant

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Hub returns the device of the hub: whether it is there and ready, what it
// counts, what happens in the home, and a button that plans again.
func Hub(o Options) Config {
	status := o.Tree.Hub(topics.HubStatus)
	replan, _ := o.Tree.Request(topics.VerbReplan)
	count := func(key, name, icon, category, template string) component {
		return component{
			Platform: "sensor", Name: named(name), Icon: icon, EntityCategory: category,
			DefaultEntityID: entityID("sensor", key),
			StateTopic:      status,
			ValueTemplate:   template,
			StateClass:      "measurement",
			Precision:       digits(0),
		}
	}
	started := uptime(status)
	started.DefaultEntityID = entityID("sensor", "uptime")
	components := map[string]component{
		"ready": {
			Platform: "binary_sensor", Name: named("Ready"), EntityCategory: diagnostic, Icon: "mdi:check-network",
			DefaultEntityID: entityID("binary_sensor", "ready"),
			StateTopic:      status,
			ValueTemplate:   "{{ 'ON' if value_json.ready else 'OFF' }}",
		},
		"problem": {
			Platform: "binary_sensor", DeviceClass: "problem", EntityCategory: diagnostic,
			DefaultEntityID: entityID("binary_sensor", "problem"),
			StateTopic:      status,
			ValueTemplate:   "{{ 'ON' if value_json.problem is defined else 'OFF' }}",
			AttributesTopic: status,
			AttributesTmpl:  "{{ dict(reason=value_json.problem | default('')) | to_json }}",
		},
		"started": started,
		"version": {
			Platform: "sensor", Name: named("Version"), EntityCategory: diagnostic, Icon: "mdi:tag-outline",
			DefaultEntityID: entityID("sensor", "version"),
			StateTopic:      status,
			ValueTemplate:   "{{ value_json.version }}",
		},
		"domains_online":   count("domains_online", "Domains online", "mdi:lan-connect", "", "{{ value_json.domains.online }}"),
		"domains_offline":  count("domains_offline", "Domains offline", "mdi:lan-disconnect", diagnostic, "{{ value_json.domains.offline }}"),
		"domains_lonely":   count("domains_lonely", "Domains lonely", "mdi:lan-pending", diagnostic, "{{ value_json.domains.lonely }}"),
		"services_wanted":  count("services_wanted", "Services wanted", "mdi:clipboard-list-outline", diagnostic, "{{ value_json.services.wanted }}"),
		"services_running": count("services_running", "Services running", "mdi:cog-play", "", "{{ value_json.services.running }}"),
		"event":            event(o.Tree.Hub(topics.HubEvent)),
		"replan": {
			Platform: "button", Name: named("Plan anew"), EntityCategory: setting, Icon: "mdi:refresh",
			DefaultEntityID: entityID("button", "replan"),
			CommandTopic:    replan,
			PayloadPress:    "{}",
		},
	}
	if o.Certificate {
		components["certificate"] = component{
			Platform: "sensor", Name: named("Certificate expires"), DeviceClass: "timestamp", EntityCategory: diagnostic, Icon: "mdi:certificate",
			DefaultEntityID: entityID("sensor", "certificate_expires"),
			StateTopic:      status,
			ValueTemplate:   "{{ value_json.certificate_expires | default(None) }}",
		}
	}
	if o.Keys {
		o.adopt(components)
	}
	online := available(o.Tree.Hub(topics.HubAvailability))
	for key, c := range components {
		c.Availability = online
		components[key] = c
	}
	// Says "disconnected" while the hub is away, so it has no availability.
	there := connectivity(o.Tree.Hub(topics.HubAvailability))
	there.DefaultEntityID = "binary_sensor.dominion"
	components["connectivity"] = there
	return o.config(hubThing, payload{
		Device: device{
			Name: hubName(o.HubName), Model: "Hub", SWVersion: o.Version, SerialNumber: o.HubID,
		},
		Components: components,
	})
}

// hubName is how the hub is called. A dominion may be named dominion.
func hubName(dominion string) string {
	if dominion == "dominion" {
		return "Dominion"
	}
	return strings.TrimSpace("Dominion " + dominion)
}

// event is what happened, with the message as an attribute. Its topic is never
// retained: what happened before Home Assistant was there is history.
func event(topic string) component {
	var types []string
	for _, t := range topics.EventTypes() {
		types = append(types, string(t))
	}
	return component{
		Platform: "event", Name: named("Event"), Icon: "mdi:bell-outline",
		DefaultEntityID: entityID("event", "event"),
		StateTopic:      topic,
		ValueTemplate: "{{ dict(event_type=value_json.type, message=value_json.message," +
			" domain=value_json.domain | default(''), service=value_json.service | default('')) | to_json }}",
		EventTypes: types,
	}
}

// Machine is all of a domain that its device shows.
type Machine struct {
	Name, ID, Version, OS, Arch string
	// Micro is set for a microcontroller.
	Micro bool
	// Hot is set where its metrics have a temperature.
	Hot bool
	// Firmware is how a microcontroller announces itself, nil where it does not: Home
	// Assistant has one device of both.
	Firmware *Firmware `json:",omitempty"` // without it the definition is as it was before there was one
}

// Domain returns the device of a domain that has joined: whether it is
// connected and well, and of a microcontroller the state of its one service, of
// any other since when it runs, its metrics, whether it is drained, and
// its agent's version.
// Nothing listens to the heartbeat: each one would become a row of Home
// Assistant's database, on an SD card as often as not.
func Domain(o Options, m Machine) Config {
	var (
		hub       = o.Tree.Hub(topics.HubAvailability)
		own       = o.Tree.Domain(topics.DomainAvailability, m.Name)
		status    = o.Tree.Domain(topics.DomainStatus, m.Name)
		condition = o.Tree.Domain(topics.DomainCondition, m.Name)
		p         = payload{
			Device:       device{Name: m.Name, Model: "Domain", SWVersion: m.Version, SerialNumber: m.ID},
			Availability: available(hub, own), AvailabilityMode: modeAll,
		}
	)
	// These two show that the domain is away and what is wrong with it, so they
	// must not themselves become unavailable then: they need the hub alone.
	there := connectivity(own)
	there.DefaultEntityID = entityID("binary_sensor", m.Name)
	there.Availability = available(hub)
	p.Components = map[string]component{
		"connectivity": there,
		"problem": {
			Platform: "binary_sensor", DeviceClass: "problem", EntityCategory: diagnostic,
			// A service of the same name has a problem, too.
			DefaultEntityID: entityID("binary_sensor", m.Name, "domain_problem"),
			StateTopic:      condition,
			ValueTemplate:   "{{ 'ON' if value_json.problem else 'OFF' }}",
			AttributesTopic: condition,
			AttributesTmpl:  "{{ dict(reason=value_json.reason, state=value_json.state) | to_json }}",
			Availability:    available(hub),
		},
	}
	if m.Micro {
		p.Device.Model, p.firmware = "Microdomain", m.Firmware
		p.Components["state"] = component{
			Platform: "sensor", Name: named("State"), DeviceClass: "enum", EntityCategory: diagnostic, Icon: "mdi:state-machine",
			// A service of the same name has a state, too.
			DefaultEntityID: entityID("sensor", m.Name, "domain_state"),
			StateTopic:      status,
			ValueTemplate:   ofMicro + "{% set state = all[0].state if all else None %}{{ state if state in ['" + strings.Join(states(), "', '") + "'] else None }}",
			Options:         states(),
			AttributesTopic: status,
			AttributesTmpl:  ofMicro + "{{ dict(service=all[0].service | default('') if all else '') | to_json }}",
		}
		o.triggers(p.Components, "domain", m.Name, topics.DomainOffline, topics.DomainReturned)
		return o.config(domainThing(m.Name), p)
	}
	if m.OS != "" && m.Arch != "" {
		p.Device.HWVersion = m.OS + "/" + m.Arch
	}
	started := uptime(status)
	started.DefaultEntityID = entityID("sensor", m.Name, "uptime")
	p.Components["started"] = started
	p.Components["drain"] = component{
		Platform: "switch", Name: named("Drain"), EntityCategory: setting, Icon: "mdi:tray-arrow-up",
		DefaultEntityID: entityID("switch", m.Name, "drain"),
		StateTopic:      status,
		ValueTemplate:   "{{ 'ON' if value_json.draining else 'OFF' }}",
		CommandTopic:    o.Tree.Domain(topics.DomainDrainSet, m.Name),
		PayloadOn:       topics.On,
		PayloadOff:      topics.Off,
	}
	p.Components["agent"] = component{
		Platform: "update", Name: named("Agent"), EntityCategory: diagnostic, Title: "Dominion agent",
		DefaultEntityID: entityID("update", m.Name, "agent"),
		StateTopic:      status,
		ValueTemplate:   "{{ value_json.version }}",
		LatestTopic:     o.Tree.Hub(topics.HubStatus),
		LatestTemplate:  "{{ value_json.version }}",
	}
	for key, c := range measurements(m) {
		c.Platform, c.EntityCategory, c.StateClass = "sensor", diagnostic, "measurement"
		c.DefaultEntityID = entityID("sensor", m.Name, key)
		c.StateTopic = o.Tree.Domain(topics.DomainMetrics, m.Name)
		p.Components[key] = c
	}
	o.triggers(p.Components, "domain", m.Name, topics.DomainOffline, topics.DomainLost, topics.DomainReturned, topics.DomainProblem)
	return o.config(domainThing(m.Name), p)
}

// measurements are the sensors of a domain's metrics. They are rounded in the
// template and not only for display: a value that did not change is not written
// to Home Assistant's database again.
func measurements(m Machine) map[string]component {
	all := map[string]component{
		"load": {
			Name: named("Load"), Icon: "mdi:gauge", Precision: digits(1),
			ValueTemplate: "{{ value_json.load1 | round(1) }}",
		},
		"memory": {
			Name: named("Memory"), Icon: "mdi:memory", Precision: digits(0), Unit: "%",
			ValueTemplate: "{{ (100 * value_json.memory_used / value_json.memory_total) | round(0) if value_json.memory_total else None }}",
		},
		"disk_free": {
			Name: named("Disk free"), Icon: "mdi:harddisk", DeviceClass: "data_size", Precision: digits(1), Unit: "GB",
			ValueTemplate: "{{ (value_json.disk_free / 1000000000) | round(1) }}",
		},
	}
	if m.Hot {
		all["temperature"] = component{
			DeviceClass: "temperature", Precision: digits(0), Unit: "°C",
			ValueTemplate: "{{ value_json.temperature | round(0) if value_json.temperature is defined else None }}",
		}
	}
	return all
}

// ofMicro begins what is read of a microdomain, which may report less than an
// agent: what it leaves out is not complained about.
const ofMicro = "{% set all = value_json.services | default([]) %}"

// connectivity is the entity that stands for a machine: connected or not.
func connectivity(availabilityTopic string) component {
	return component{
		Platform: "binary_sensor", Name: mainFeature, DeviceClass: "connectivity",
		StateTopic: availabilityTopic,
		PayloadOn:  topics.Online,
		PayloadOff: topics.Offline,
	}
}

// uptime is a timestamp: it changes once a run, where a number of seconds would
// fill the database.
func uptime(statusTopic string) component {
	return component{
		Platform: "sensor", Name: named("Uptime"), DeviceClass: "timestamp", EntityCategory: diagnostic,
		StateTopic:    statusTopic,
		ValueTemplate: "{{ value_json.started_at }}",
	}
}
