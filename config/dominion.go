package config

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// The names where nothing else is configured.
const (
	DefaultName            = "home"
	DefaultDiscoveryPrefix = "homeassistant"
)

const labelHint = "use a-z, 0-9 and - only, 63 characters at most, not at the ends a -"

// dominionVariables begins the names of the variables that override a dominion.toml.
const dominionVariables = "DOMINION_CFG"

func loadDominion(file string, environ []string, h host) (Dominion, error) {
	d := defaults()
	d.File, d.DataDir = file, h.dataDir("dominion", DefaultDataDir, file, environ)
	l, root := open(file, dominionVariables, environ)
	l.exists = h.exists
	if root != nil {
		root.dominion(&d)
	}
	if err := l.finish(); err != nil {
		return Dominion{}, err
	}
	return d, nil
}

// defaults returns a dominion that says nothing.
func defaults() (d Dominion) {
	setDefaults(dominionSections(), &d)
	return d
}

func (t *table) dominion(d *Dominion) { readSections(t, dominionSections(), d) }

// ChangedByRestart returns the keys of a dominion.toml that was read anew that a
// reload does not take over.
func (d Dominion) ChangedByRestart(reread Dominion) []string {
	return changedByRestart(dominionSections(), &d, &reread)
}

// TakeOver sets in d what a running hub takes over of a dominion.toml that was read
// anew.
func (d *Dominion) TakeOver(reread Dominion) { takeOver(dominionSections(), d, &reread) }

// dominionSections returns what a dominion.toml may hold, in the order of the document.
func dominionSections() []section[*Dominion] {
	return []section[*Dominion]{
		{settings: []setting[*Dominion]{
			{
				key: "name", of: func(d *Dominion) any { return &d.Name }, def: DefaultName,
				check: textCheck(nameOf("dominion")),
				doc:   "of the dominion",
			},
			{
				key: "data_dir", of: func(d *Dominion) any { return &d.DataDir }, def: DefaultDataDir,
				isPath: true, check: textCheck(notEmpty),
				doc: "ids, epoch, what was switched at run time; retained messages and sessions",
			},
			{
				key: "topic_prefix", of: func(d *Dominion) any { return &d.TopicPrefix }, def: topics.DefaultPrefix,
				check: textCheck(checkTopic),
				doc:   "base of all topics. What is retained below the former one is [removed](../how-to/home-assistant.md#change-a-prefix)",
			},
			{
				key: "metrics", of: func(d *Dominion) any { return &d.Metrics },
				check: optionalText(checkListen),
				doc:   "the old name of `[http] listen`, for one more version: a further address of HTTP",
			},
		}},
		brokerSection(),
		persistenceSection(),
		limitsSection(),
		httpSection(),
		identitySection(),
		registrySection(),
		{
			path: "zeroconf", asWhole: true,
			settings: []setting[*Dominion]{
				{
					key: "enabled", of: func(d *Dominion) any { return &d.Zeroconf.Enabled }, def: true,
					doc: "announce the hub, and look for another one with its id or its name",
				},
				{
					key: "interfaces", of: func(d *Dominion) any { return &d.Zeroconf.Interfaces },
					check: eachText(interfaceName),
					usual: "`[]`: all but `lo`, `docker*`, `br-*`, `veth*`, `virbr*`, `tailscale*`, `wg*`",
					doc:   "those used, by name",
				},
			},
		},
		{
			path: "homeassistant", asWhole: true,
			settings: []setting[*Dominion]{
				{
					key: "enabled", of: func(d *Dominion) any { return &d.HomeAssistant.Enabled }, def: true,
					doc: "announce hub, domains and services to Home Assistant",
				},
				{
					key: "discovery_prefix", of: func(d *Dominion) any { return &d.HomeAssistant.DiscoveryPrefix }, def: DefaultDiscoveryPrefix,
					check: textCheck(checkTopic),
					doc:   "as in Home Assistant; not `topic_prefix`, nor below it or above. What is below the former one is removed",
				},
			},
			judge: func(in tables, d *Dominion) {
				separatePrefixes(in[""], d.TopicPrefix, in["homeassistant"], d.HomeAssistant.DiscoveryPrefix)
			},
		},
		{
			path: "devices", asWhole: true,
			settings: []setting[*Dominion]{{
				key: "enabled", of: func(d *Dominion) any { return &d.Devices.Enabled }, def: true,
				doc: "list what [other devices](../how-to/devices.md) announce",
			}},
		},
		timingSection(),
		{
			path: "services", of: func(d *Dominion) any { return &d.Services }, effect: byReload,
			read:  func(t *table, d *Dominion) { d.Services = t.services(d.TopicPrefix) },
			judge: func(in tables, d *Dominion) { in["timing"].leases(*d) },
		},
	}
}

// nameOf checks a name that must be a DNS label.
func nameOf(what string) func(string) problem {
	return func(s string) problem {
		if topics.ValidName(s) {
			return problem{}
		}
		return problem{quote(s) + " is not a valid " + what + " name", labelHint}
	}
}

func notEmpty(folder string) problem {
	if folder == "" {
		return problem{"is empty", "write the path of a folder, or leave the key out"}
	}
	return problem{}
}

func interfaceName(s string) problem {
	if s == "" || strings.ContainsAny(s, "/ \t\n") {
		return problem{quote(s) + " is not a valid interface name", `write names as "eth0"`}
	}
	return problem{}
}

// separatePrefixes refuses prefixes of which one is below the other: devices may
// announce themselves below Home Assistant's, and would so be let in to ours.
func separatePrefixes(root *table, prefix string, discovery *table, discoveryPrefix string) {
	below := func(a, b string) bool { return strings.HasPrefix(a+"/", b+"/") }
	if !below(prefix, discoveryPrefix) && !below(discoveryPrefix, prefix) {
		return
	}
	const hint = `keep them apart, as "dominion" and "homeassistant"`
	if root.set("topic_prefix") {
		root.fault("topic_prefix", hint, "%s and homeassistant.discovery_prefix, %s, are one, or one is below the other", quote(prefix), quote(discoveryPrefix))
	} else {
		discovery.fault("discovery_prefix", hint, "%s and topic_prefix, %s, are one, or one is below the other", quote(discoveryPrefix), quote(prefix))
	}
}
