package access

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// The roles of a user.
const (
	// RoleAdmin may do everything; anonymous clients have it where they are admitted.
	RoleAdmin = "admin"
	// RoleReader may read everything but secrets, and send requests that change
	// nothing.
	RoleReader = "reader"
	// RoleDevice is for devices of the home: topics outside the dominion, and the
	// status of the hub and its services.
	RoleDevice = "device"
	// RoleDomain is for the agent of the domain with the user's name, and its
	// services.
	RoleDomain = "domain"
)

// RoleApplicant is of clients without user and certificate on a listener for TLS: machines
// that ask to be adopted. No user has it.
const RoleApplicant = "applicant"

// RoleService is of clients with the certificate of a service of a domain: that of a device, and
// the requests that change nothing. No user has it. Rules for the role device are for it too.
const RoleService = "service"

// Roles returns all roles that a user may have, in order.
func Roles() []string { return []string{RoleAdmin, RoleReader, RoleDevice, RoleDomain} }

// What each role may do below the prefix.
var (
	readerPublishes = readerRequests()
	deviceReads     = []string{
		pattern(topics.HubAvailability),
		pattern(topics.HubStatus),
		pattern(topics.HubCertificate),
		pattern(topics.HubKeys),
		pattern(topics.ServiceStatus),
		pattern(topics.ServiceEndpoints),
		pattern(topics.ServiceEndpoint),
	}
	serviceReads    = readerAnswers()
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

// readerRequests returns the topics of the requests that change nothing.
func readerRequests() (all []string) {
	for _, v := range topics.Verbs() {
		if v.By == topics.ByReaders {
			all = append(all, "request/"+v.Name)
		}
	}
	return all
}

// readerAnswers returns the topics of the answers to these requests.
func readerAnswers() (all []string) {
	for _, r := range readerRequests() {
		answer := "response" + strings.TrimPrefix(r, "request")
		all = append(all, answer, answer+"/+")
	}
	return all
}

// hubPublishes are the topics below the prefix that the hub publishes, for any domain;
// admins may publish commands, too.
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

// pattern returns the pattern of a topic kind, with the user's name in place of the
// domain and + in place of other parameters.
func pattern(k topics.Kind) string {
	levels := strings.Split(topics.Lookup(k).Pattern, "/")
	for i, l := range levels {
		if l == "<domain>" {
			levels[i] = "%u"
		} else if strings.HasPrefix(l, "<") {
			levels[i] = "+"
		}
	}
	return strings.Join(levels, "/")
}

// coveredByAny reports whether one of the patterns covers a topic.
func coveredByAny(patterns []string, topic string, c Client) bool {
	for _, p := range patterns {
		if covers(p, topic, c) {
			return true
		}
	}
	return false
}

// decideByRole decides by the client's role. The decision of each role is an ordered
// table: the first row that matches decides. What no row allows is denied.
func (p *Policy) decideByRole(c Client, a Action, topic string) Decision {
	rest, ours := p.underPrefix(topic)
	switch c.Role {
	case RoleReader:
		return decideReader(c, a, rest, ours)
	case RoleDevice:
		return p.decideDevice(c, a, topic, rest, ours)
	case RoleService:
		return p.decideService(c, a, topic, rest, ours)
	case RoleDomain:
		return p.decideDomain(c, a, topic, rest, ours)
	}
	return Decision{false, "no role: nothing is allowed"}
}

// decideReader decides for the role reader. rest is the topic without the prefix, ours
// whether it has that.
func decideReader(c Client, a Action, rest string, ours bool) Decision {
	if a != Publish {
		return Decision{true, "role reader: may read everything but start commands"}
	}
	if ours && coveredByAny(readerPublishes, rest, c) {
		return Decision{true, "role reader: may send requests that change nothing"}
	}
	return Decision{false, "role reader: may not publish"}
}

// decideDevice decides for the role device.
func (p *Policy) decideDevice(c Client, a Action, topic, rest string, ours bool) Decision {
	switch {
	case ours && a != Publish && coveredByAny(deviceReads, rest, c):
		return Decision{true, "role device: may read the hub's status and the endpoints of services"}
	case ours:
		return Decision{false, "role device: may not use the topics of the dominion"}
	case a != Publish:
		return Decision{true, "role device: may read topics outside the dominion"}
	case strings.HasPrefix(topic, "$"):
		return Decision{false, "role device: may not publish the broker's own topics"}
	case p.reservedDiscovery(topic):
		return Decision{false, "role device: may publish only its own discovery, not the dominion's nor Home Assistant's birth"}
	}
	return Decision{true, "role device: may publish the topics of devices"}
}

// decideService decides for the services of domains, which have the role device and may ask.
func (p *Policy) decideService(c Client, a Action, topic, rest string, ours bool) Decision {
	switch {
	case ours && a == Publish && coveredByAny(readerPublishes, rest, c):
		return Decision{true, "role service: may send requests that change nothing"}
	case ours && a != Publish && coveredByAny(serviceReads, rest, c):
		return Decision{true, "role service: may read the answers to requests that change nothing"}
	}
	return p.decideDevice(c, a, topic, rest, ours)
}

// joinAnswers are the topics at which machines that ask to be adopted are answered.
var joinAnswers, _ = strings.CutSuffix(strings.Replace(topics.Lookup(topics.ResponseTo).Pattern, "<verb>", topics.VerbJoin, 1), "<domain>")

// isJoinAnswer reports whether a topic is that of one such machine.
func isJoinAnswer(rest string) bool {
	hash, is := strings.CutPrefix(rest, joinAnswers)
	if !is || len(hash) != 64 {
		return false
	}
	for i := range len(hash) {
		if c := hash[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// decideApplicant decides for machines that ask to be adopted.
func decideApplicant(a Action, rest string, ours bool) Decision {
	switch {
	case ours && a == Publish && rest == "request/"+topics.VerbJoin:
		return Decision{true, "role applicant: may ask to be adopted"}
	case ours && a != Publish && isJoinAnswer(rest):
		return Decision{true, "role applicant: may read the answer to its key"}
	}
	return Decision{false, "role applicant: may ask to be adopted, and nothing else; it needs a user or a certificate"}
}

// decideDomain decides for the role domain.
func (p *Policy) decideDomain(c Client, a Action, topic, rest string, ours bool) Decision {
	switch {
	case a == Publish && ours && coveredByAny(domainPublishes, rest, c):
		return Decision{true, "role domain: may publish the topics of its own domain, and requests"}
	case a == Publish && ours:
		return Decision{false, "role domain: may publish only the topics of its own domain, and requests"}
	case ours && a != Publish && isJoinAnswer(rest):
		return Decision{true, "role domain: may ask to be adopted"}
	case ours && coveredByAny(domainReads, rest, c):
		return Decision{true, "role domain: may read its own domain, the hub and the endpoints of services"}
	case ours || strings.HasPrefix(topic, "$"):
		return Decision{false, "role domain: may not use the topics of other domains"}
	case a == Publish:
		return Decision{false, "role domain: may not publish outside the dominion; give a service a user of its own"}
	case a == Subscribe && p.matchesBelowPrefix(topic):
		return Decision{false, "role domain: may not subscribe to a filter that matches topics of other domains"}
	}
	return Decision{true, "role domain: may read the topics of devices"}
}

// reservedDiscovery reports whether a topic below Home Assistant's discovery prefix is
// one that no device may publish: the dominion's own devices, and the birth message of
// Home Assistant.
func (p *Policy) reservedDiscovery(topic string) bool {
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

// matchesBelowPrefix reports whether a filter that does not begin with the prefix
// matches topics below it all the same.
func (p *Policy) matchesBelowPrefix(filter string) bool {
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
