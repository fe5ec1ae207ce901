package broker

import (
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// The roles of a user.
const (
	RoleAdmin  = "admin"  // everything; so are anonymous clients where they are let in
	RoleReader = "reader" // sees everything, asks but orders nothing
	RoleDevice = "device" // a device of the home: its own topics, and a look at the hub and its services
	RoleDomain = "domain" // the agent of the domain that has the user's name
)

// Roles lists the closed list in its order.
func Roles() []string { return []string{RoleAdmin, RoleReader, RoleDevice, RoleDomain} }

type action uint8

const (
	publish   action = iota
	subscribe        // to a filter
	deliver          // of one message to a subscriber
)

// What each role may do below the prefix. "<domain>" is the user's name, the
// other names in angle brackets are any.
var (
	readerPublishes = []string{
		"request/" + topics.VerbStatus,
		"request/" + topics.VerbDomains,
		"request/" + topics.VerbServices,
		"request/" + topics.VerbPlan,
		"request/" + topics.VerbWhy,
		"request/" + topics.VerbEvents,
		"request/" + topics.VerbVersion,
	}
	deviceReads = []string{
		pattern(topics.HubAvailability),
		pattern(topics.HubStatus),
		pattern(topics.ServiceStatus),
		pattern(topics.ServiceEndpoints),
	}
	domainPublishes = []string{
		pattern(topics.DomainAvailability),
		pattern(topics.DomainHeartbeat),
		pattern(topics.DomainMetrics),
		pattern(topics.DomainStatus),
		pattern(topics.DomainEvent),
		pattern(topics.DomainResponse),
		pattern(topics.DomainServiceLog),
		pattern(topics.Request),
	}
	domainReads = []string{
		"hub/#",
		"domain/<domain>/#",
		pattern(topics.ServiceEndpoints),
		pattern(topics.ServiceStatus),
		pattern(topics.Response),
		pattern(topics.ResponseTo),
	}
)

func pattern(k topics.Kind) string { return topics.Lookup(k).Pattern }

// allow is the one decision about access. topic is a filter where the action is
// subscribe: allowed where every topic it matches may be read. Only a device
// may subscribe to more than it may read, because devices of all makers
// subscribe to "#" and the like; what it may not read is held back at delivery.
// What no rule allows is denied.
func allow(user, role string, a action, topic string, tree topics.Tree) bool {
	if a == subscribe {
		topic = unshared(topic)
	}
	rest, ours := strings.CutPrefix(topic, tree.Prefix()+"/")
	ours = ours || topic == tree.Prefix()
	system := strings.HasPrefix(topic, "$")
	switch role {
	case RoleAdmin:
		return true
	case RoleReader:
		return a != publish || ours && matches(readerPublishes, rest, user)
	case RoleDevice:
		if ours {
			return a != publish && matches(deviceReads, rest, user)
		}
		return a != publish || !system
	case RoleDomain:
		if a == publish {
			return ours && matches(domainPublishes, rest, user)
		}
		return ours && matches(domainReads, rest, user)
	}
	return false
}

// unshared returns the filter of a shared subscription, $share/group/filter.
func unshared(filter string) string {
	if len(filter) > 7 && strings.EqualFold(filter[:7], "$share/") {
		if _, rest, ok := strings.Cut(filter[7:], "/"); ok {
			return rest
		}
	}
	return filter
}

func matches(patterns []string, topic, user string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return covers(p, topic, user) })
}

// covers tells whether a pattern matches a topic, or each topic that a filter
// matches.
func covers(pattern, filter, user string) bool {
	for {
		if pattern == "#" {
			return true
		}
		want, patternRest, patternMore := strings.Cut(pattern, "/")
		level, rest, more := strings.Cut(filter, "/")
		switch {
		case level == "#":
			return false
		case want == "<domain>":
			if level != user {
				return false
			}
		case strings.HasPrefix(want, "<"):
		case want != level:
			return false
		}
		if !more || !patternMore {
			// "a/#" matches "a" too (MQTT 3.1.1, 4.7.1.2)
			return more == patternMore || !more && patternRest == "#"
		}
		pattern, filter = patternRest, rest
	}
}
