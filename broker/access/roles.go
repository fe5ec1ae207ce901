package access

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// The roles of a user.
const (
	RoleAdmin  = "admin"  // everything; so are anonymous clients where they are let in
	RoleReader = "reader" // sees everything but secrets, asks but orders nothing
	RoleDevice = "device" // a device of the home: what is not ours, and a look at the hub and its services
	RoleDomain = "domain" // the agent of the domain that has the user's name, and its services
)

// Roles lists the closed list in its order.
func Roles() []string { return []string{RoleAdmin, RoleReader, RoleDevice, RoleDomain} }

// What each role may do below the prefix.
var (
	readerPublishes = []string{
		"request/" + topics.VerbStatus,
		"request/" + topics.VerbDomains,
		"request/" + topics.VerbServices,
		"request/" + topics.VerbDevices,
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
		pattern(topics.ServiceEndpoint),
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
		"domain/%u/#",
		pattern(topics.ServiceEndpoints),
		pattern(topics.ServiceEndpoint),
		pattern(topics.ServiceStatus),
		pattern(topics.DeviceStatus),
		pattern(topics.Response),
		pattern(topics.ResponseTo),
	}
)

// hubPublishes are the topics below the prefix that the hub publishes, for any
// domain; a command comes from admins too.
var hubPublishes = []string{
	"hub/#",
	"domain/+/services/set",
	"domain/+/command",
	"domain/+/lease",
	"domain/+/condition",
	"service/+/status",
	"service/+/endpoints",
	"service/+/endpoint",
	"service/+/metrics",
	"device/#",
	"response/#",
}

// pattern returns the contract's pattern of a kind of topic: the user's name at
// the place of the domain, any at the others.
func pattern(k topics.Kind) string {
	levels := strings.Split(topics.Lookup(k).Pattern, "/")
	for i, l := range levels {
		switch {
		case l == "<domain>":
			levels[i] = "%u"
		case strings.HasPrefix(l, "<"):
			levels[i] = "+"
		}
	}
	return strings.Join(levels, "/")
}

func coveredBy(patterns []string, topic string, c Client) bool {
	for _, p := range patterns {
		if covers(p, topic, c) {
			return true
		}
	}
	return false
}

// byRole is an ordered table: the first row that fits decides. What none
// allows is denied.
func (p *Policy) byRole(c Client, a Action, topic string) Decision {
	rest, ours := p.below(topic)
	broker := strings.HasPrefix(topic, "$")
	switch c.Role {
	case RoleReader:
		switch {
		case a != Publish:
			return Decision{true, "role reader: reads everything but start commands"}
		case ours && coveredBy(readerPublishes, rest, c):
			return Decision{true, "role reader: may ask the hub"}
		}
		return Decision{false, "role reader: orders nothing and says nothing"}
	case RoleDevice:
		switch {
		case ours && a != Publish && coveredBy(deviceReads, rest, c):
			return Decision{true, "role device: reads of the hub and where services are"}
		case ours:
			return Decision{false, "role device: not the topics of the dominion"}
		case a != Publish:
			return Decision{true, "role device: reads what is not the dominion's"}
		case broker:
			return Decision{false, "role device: not the broker's own topics"}
		case p.ofOthers(topic):
			return Decision{false, "role device: only its own discovery, not the dominion's nor Home Assistant's birth"}
		}
		return Decision{true, "role device: the topics of devices"}
	case RoleDomain:
		switch {
		case a == Publish && ours && coveredBy(domainPublishes, rest, c):
			return Decision{true, "role domain: the topics of its own domain, and requests"}
		case a == Publish && ours:
			return Decision{false, "role domain: only the topics of its own domain, and requests"}
		case ours && coveredBy(domainReads, rest, c):
			return Decision{true, "role domain: its own orders, the hub and where services are"}
		case ours || broker:
			return Decision{false, "role domain: not the topics of other domains"}
		case a == Publish:
			return Decision{false, "role domain: says nothing outside the dominion; a service has a user of its own"}
		case a == Subscribe && p.reaches(topic):
			return Decision{false, "role domain: not a filter that reaches the topics of other domains"}
		}
		return Decision{true, "role domain: reads what devices say"}
	}
	return Decision{false, "no role: nothing"}
}

// ofOthers tells whether a topic of Home Assistant's discovery is one that no
// device publishes: the dominion's own devices, and the birth of Home Assistant.
func (p *Policy) ofOthers(topic string) bool {
	rest, ok := strings.CutPrefix(topic, p.discovery+"/")
	if !ok {
		return false
	}
	if rest == "status" {
		return true
	}
	for level := range strings.SplitSeq(rest, "/") {
		if strings.HasPrefix(level, "dominion_") {
			return true
		}
	}
	return false
}

// reaches tells whether a filter that does not begin with our prefix matches
// topics below it all the same.
func (p *Policy) reaches(filter string) bool {
	prefix := p.prefix
	for {
		level, rest, more := strings.Cut(filter, "/")
		want, prefixRest, prefixMore := strings.Cut(prefix, "/")
		switch {
		case level == "#":
			return true
		case level != "+" && level != want:
			return false
		case !prefixMore:
			return true
		case !more:
			return false
		}
		filter, prefix = rest, prefixRest
	}
}
