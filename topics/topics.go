// Package topics is the contract of a dominion: the name, direction, retain
// flag and QoS of every MQTT topic, and the shape of every payload.
//
// It owns names and shapes only. It opens no connection, reads no clock and
// imports nothing but the standard library, so that every other package (hub,
// agent, command line) may import it and meets the others here and nowhere
// else. docs/protocol.md is generated from the Catalog below.
//
// # Files
//
//	bundles.go        bundles of deployed services, and definitions at run time
//	check.go          checking a payload by the tags of its type
//	decode.go         reading a payload, times and seconds
//	devices.go        payloads about other devices
//	encode.go         writing a payload
//	event_message.go  cutting messages that are published again
//	filters.go        who subscribes to what
//	id.go             ids
//	limits.go         how large payloads and their lists may be
//	payloads.go       the payloads
//	secrets.go        references to secrets
//	shared_times.go   times that hub and agent share: metrics, when a crash is forgiven
//	states.go         states, kinds of events
//	text.go           kinds of text and what is valid
//	topics.go         the topics and their parsing
//	verbs.go          requests to the hub and the data of their answers
package topics

import "strings"

// Protocol is the version of this contract, "major.minor". Another major is
// not obeyed and is shown as a problem; another minor works.
const Protocol = "1.1"

// DefaultPrefix is the base of all topics unless topic_prefix says otherwise.
const DefaultPrefix = "dominion"

// HubServerName is the server name (SNI) by which a domain asks for the hub's own certificate,
// where the TLS listener has another one (cert_file).
const HubServerName = "hub.dominion.internal"

// SameMajor reports whether a peer that speaks protocol may be obeyed.
func SameMajor(protocol string) bool {
	mine, _, _ := strings.Cut(Protocol, ".")
	theirs, _, _ := strings.Cut(protocol, ".")
	return mine == theirs
}

// HasKeys reports whether a program that speaks a version of the contract has a key: 1.0 is of
// before there were keys.
func HasKeys(protocol string) bool {
	_, minor, _ := strings.Cut(protocol, ".")
	return SameMajor(protocol) && minor != "" && minor != "0"
}

// Kind names one row of the Catalog.
type Kind uint8

// The kinds of topics, in the order of docs/protocol.md.
const (
	Unknown Kind = iota
	HubAvailability
	HubStatus
	HubEvent
	HubDiscovery
	HubCertificate
	HubKeys
	HubAdoption
	DomainAvailability
	DomainHeartbeat
	DomainMetrics
	DomainStatus
	DomainCondition
	DomainEvent
	DomainServicesSet
	DomainLease
	DomainCommand
	DomainResponse
	DomainDrainSet
	DomainServiceLog
	ServiceStatus
	ServiceEndpoints
	ServiceEndpoint
	ServiceMetrics
	ServiceSet
	Request
	Response
	ResponseTo
	DeviceStatus
)

// Entry is one row of the Catalog.
type Entry struct {
	Kind    Kind
	Pattern string // below the prefix; "<domain>", "<service>", "<device>" and "<verb>" stand for one level
	Retain  bool
	QoS     byte
	From    string // who publishes it
	Payload any    // a zero value of the payload's type; nil where it is a bare word
	Doc     string
}

// Catalog lists every topic of a dominion.
//
// Imperative entries (service set, command, drain/set, request) are never
// retained: one that arrives retained is ignored with a warning.
func Catalog() []Entry {
	return []Entry{
		{HubAvailability, "hub/availability", true, 1, "hub, its will", nil, "`online` while the hub answers, `offline` after it stopped or was lost. Where the broker is not the hub's own, `online` is also published every 5 s, not retained: no will tells of a hub whose broker died with it."},
		{HubStatus, "hub/status", true, 1, "hub", Hub{}, "Who the hub is and what it counts. Published on change. A hub that has keys signs it, for no domain in particular, and domains of its dominion believe no other one; when `run` is another than that of its grant, a domain joins again over the connection that it has."},
		{HubEvent, "hub/event", false, 1, "hub", Event{}, "One thing that happened, in words and as a type of the closed list below."},
		{HubDiscovery, "hub/discovery", true, 1, "hub", Discovery{}, "How far the hub is with what it tells Home Assistant. What the broker still has of this says what else it must still have: a device config that is missing beside it was deleted in Home Assistant while the hub was away, and one that is missing without it was lost by the broker."},
		{HubCertificate, "hub/certificate", true, 1, "hub", HubCertificateView{}, "The hub's certificate, and that of the dominion's authority, which `/ca.pem` and `dominionctl ca` give as PEM. Who has pinned the authority verifies the hub by it."},
		{HubKeys, "hub/keys", true, 1, "hub", KeyList{}, "The key list: which hub keys count, and which keys are revoked. The authority signs it: it ends in `,\"signature\":\"` + 86 characters of base64url + `\"}`. A list of a greater `number` replaces one of a lower, and domains store the newest."},
		{HubAdoption, "hub/adoption", true, 1, "hub, on change", Adoption{}, "Which machines wait for adoption, and whether the window is open. The embedded broker does not write it to disk."},
		{DomainAvailability, "domain/<domain>/availability", true, 1, "agent, its will; the hub on loss", nil, "`online` while the agent is connected, `offline` after it left, its connection broke or the hub lost it."},
		{DomainHeartbeat, "domain/<domain>/heartbeat", true, 0, "agent, each `timing.heartbeat`", Heartbeat{}, "The sign of life. Only its silence makes a domain lost. That of a domain that has a key ends in `,\"mac\":\"` + 43 characters of base64url + `\"}`: HMAC-SHA-256 by a key of its last join over what a signature is over. Another one, one of a former run of hub or agent, and one whose `seq` is not greater, is no sign of life."},
		{DomainMetrics, "domain/<domain>/metrics", true, 0, "agent, each 30 s", Metrics{}, "Load, memory, disk and temperature of the machine and of each service. Those of a domain that has a key end in a MAC, as its heartbeats do."},
		{DomainStatus, "domain/<domain>/status", true, 1, "agent, on change", Domain{}, "What the domain offers and what runs on it. A domain that has a key signs it."},
		{DomainCondition, "domain/<domain>/condition", true, 1, "hub, on change", Condition{}, "How the hub sees the domain, also when the domain can say nothing any more."},
		{DomainEvent, "domain/<domain>/event", false, 1, "agent", Event{}, "As `hub/event`; the hub passes it on there. A domain that has a key signs it, with its session and a number."},
		{DomainServicesSet, "domain/<domain>/services/set", true, 1, "hub", StartCommand{}, "The start command: the whole desired set of the domain. What is absent is stopped; only a changed `revision` restarts a running instance. For a domain that has a key it is signed, and an unsigned one is not obeyed."},
		{DomainLease, "domain/<domain>/lease", false, 0, "hub", Lease{}, "Answers a heartbeat of a domain that has exclusive services; counts from the sending of that heartbeat. That for a domain that has a key ends in a MAC, as its heartbeats do, by another key of the same join."},
		{DomainCommand, "domain/<domain>/command", false, 1, "hub", Command{}, "A one-shot order to the agent. For a domain that has a key it is signed, and an unsigned one is not obeyed: ask the hub by `request/logs`, `request/restart`, `request/drain`. A domain without a key obeys whoever may publish here."},
		{DomainResponse, "domain/<domain>/response", false, 1, "agent", Reply{}, "The answer to a command, by its transaction. A domain that has a key signs it."},
		{DomainDrainSet, "domain/<domain>/drain/set", false, 1, "dominionctl, Home Assistant", nil, "`ON` or `OFF`. The agent owns the flag and keeps it on disk. A domain that has a key does not read this: the hub orders by the command drain or undrain."},
		{DomainServiceLog, "domain/<domain>/service/<service>/log", false, 0, "agent, while someone follows", LogLine{}, "One line of a service's output."},
		{ServiceStatus, "service/<service>/status", true, 1, "hub", Service{}, "What is wanted of a service, what runs, and why."},
		{ServiceEndpoints, "service/<service>/endpoints", true, 1, "hub", []Endpoint{}, "Discovery: the usable instances, best first; `[]` when none."},
		{ServiceEndpoint, "service/<service>/endpoint", true, 1, "hub", nil, "The best of the endpoints alone, as `address:port`, for clients that take no long message; cleared when there is none."},
		{ServiceMetrics, "service/<service>/metrics", true, 0, "hub, each 30 s while they change", ServiceUsage{}, "What all instances of a service use, from the metrics of the domains that are online."},
		{ServiceSet, "service/<service>/set", false, 1, "Home Assistant, anyone allowed", Scale{}, "`ON`, `OFF`, `RESTART`, `UPDATE` (roll the newest version of the catalog out), `RESET` (end what was switched or scaled by hand), or `{\"replicas\": N}`."},
		{DeviceStatus, "device/<device>/status", true, 1, "hub", Device{}, "Something else on the broker that announces itself: by Home Assistant's discovery, or as ESPHome, Tasmota, Zigbee2MQTT, Homie and Shelly do. Cleared when nothing announces it any more."},
		{Request, "request/<verb>", false, 1, "dominionctl, services, agents", HubRequest{}, "A question or an order to the hub. The response topic and correlation data of MQTT 5 are honoured. The request `join` of a domain that has a key is signed by it."},
		{Response, "response/<verb>", false, 1, "hub", Reply{}, "The answer to a request, by its transaction."},
		{ResponseTo, "response/<verb>/<domain>", false, 1, "hub", Reply{}, "The answer to a request that named this topic as its `response_topic`: a thousand agents that join at once hear their own answers alone. The hub signs the grant of a domain that has a key."},
	}
}

var byKind = func() map[Kind]Entry {
	m := make(map[Kind]Entry)
	for _, e := range Catalog() {
		m[e.Kind] = e
	}
	return m
}()

// Lookup returns the Catalog's row of a kind.
func Lookup(k Kind) Entry { return byKind[k] }

// SignedKind returns what a message of this kind is signed as, besides dominion, domain
// and payload: its pattern.
func (k Kind) SignedKind() string { return byKind[k].Pattern }

// Imperative reports whether a message of this kind is an order, to be obeyed
// once and never when it was retained.
func (k Kind) Imperative() bool {
	switch k {
	case DomainCommand, DomainDrainSet, ServiceSet, Request:
		return true
	}
	return false
}

// RetainBit returns Retain of an incoming message of this kind, which is stored if the
// broker had it when the subscription began. An order that is published with the retain
// flag counts as retained although it is new: it would be carried out again by everyone
// who subscribes later.
func (k Kind) RetainBit(published, stored bool) bool {
	return stored || published && k.Imperative()
}

// Words of the bare payloads.
const (
	Online  = "online"
	Offline = "offline"
	On      = "ON"
	Off     = "OFF"
	Restart = "RESTART"
	Update  = "UPDATE"
	Reset   = "RESET"
)

// Message is an MQTT message as hub, agent and command line exchange it with
// whatever carries it: the embedded broker or a client's connection.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	// Retain of an outgoing message asks the broker to keep it. Of an incoming
	// one it says that the message was stored before we subscribed (the MQTT
	// retain bit), so it may be old.
	Retain bool
	// ResponseTopic and Correlation are the properties of MQTT 5 of these
	// names; empty over MQTT 3.1.1.
	ResponseTopic string
	Correlation   []byte
	// User and Client are who published an incoming message, where our own
	// broker hands it over. User "" is nobody's, or the hub itself.
	User, Client string
}

// messageOverhead is the memory of a Message beside its text: the struct in a
// queue, and what allocations are rounded up by.
const messageOverhead = 192

// Memory returns about how many bytes of memory a message takes up while it
// waits.
func (m Message) Memory() int {
	return messageOverhead + len(m.Topic) + len(m.Payload) + len(m.ResponseTopic) + len(m.Correlation)
}

// Address is a parsed topic.
type Address struct {
	Kind    Kind
	Domain  string // where the pattern has <domain>
	Service string // where the pattern has <service>
	Device  string // where the pattern has <device>
	Verb    string // where the pattern has <verb>
}

// Tree builds and parses the topics below one prefix.
type Tree struct{ prefix string }

// NewTree returns the topics below prefix, DefaultPrefix if that is empty.
func NewTree(prefix string) Tree {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	return Tree{prefix}
}

// Prefix returns the base of the tree, without a slash at the end.
func (t Tree) Prefix() string { return t.prefix }

// Topic returns the topic of an address. The names in it must be valid
// (ValidName); it does not check them.
func (t Tree) Topic(a Address) string {
	topic := t.prefix + "/" + byKind[a.Kind].Pattern
	if a.Domain != "" {
		topic = strings.Replace(topic, "<domain>", a.Domain, 1)
	}
	if a.Service != "" {
		topic = strings.Replace(topic, "<service>", a.Service, 1)
	}
	if a.Device != "" {
		topic = strings.Replace(topic, "<device>", a.Device, 1)
	}
	if a.Verb != "" {
		topic = strings.Replace(topic, "<verb>", a.Verb, 1)
	}
	return topic
}

// Hub returns a topic of the hub.
func (t Tree) Hub(k Kind) string { return t.Topic(Address{Kind: k}) }

// Domain returns a topic of a domain.
func (t Tree) Domain(k Kind, domain string) string {
	return t.Topic(Address{Kind: k, Domain: domain})
}

// Service returns a topic of a service.
func (t Tree) Service(k Kind, service string) string {
	return t.Topic(Address{Kind: k, Service: service})
}

// Device returns the topic of a device's status.
func (t Tree) Device(device string) string {
	return t.Topic(Address{Kind: DeviceStatus, Device: device})
}

// Log returns the topic of the log lines of a service on a domain.
func (t Tree) Log(domain, service string) string {
	return t.Topic(Address{Kind: DomainServiceLog, Domain: domain, Service: service})
}

// Request returns the topic to ask verb at, and the one the answer comes on.
func (t Tree) Request(verb string) (request, response string) {
	return t.Topic(Address{Kind: Request, Verb: verb}), t.Topic(Address{Kind: Response, Verb: verb})
}

// Filter returns the subscription filter that matches every topic of a kind.
func (t Tree) Filter(k Kind) string {
	levels := strings.Split(byKind[k].Pattern, "/")
	for i, l := range levels {
		if strings.HasPrefix(l, "<") {
			levels[i] = "+"
		}
	}
	return t.prefix + "/" + strings.Join(levels, "/")
}

// Message returns a message to publish at an address, with the QoS and the
// retain flag of its kind.
func (t Tree) Message(a Address, payload []byte) Message {
	e := byKind[a.Kind]
	return Message{Topic: t.Topic(a), Payload: payload, QoS: e.QoS, Retain: e.Retain}
}

// IsTrace reports whether a topic is one that lines of a trace come at.
func (t Tree) IsTrace(topic string) bool {
	rest, ours := strings.CutPrefix(topic, t.prefix)
	return ours && strings.HasPrefix(rest, "/response/"+VerbTrace+"/")
}

// Parse tells what a topic is. ok is false for a topic that is not one of
// this tree, or whose names are not valid.
func (t Tree) Parse(topic string) (a Address, ok bool) {
	rest, ok := strings.CutPrefix(topic, t.prefix+"/")
	if !ok {
		return Address{}, false
	}
	// Every message of the broker comes through here: it allocates nothing.
	var room [deepest]string
	levels := room[:0]
	for level := range strings.SplitSeq(rest, "/") {
		if len(levels) == deepest {
			return Address{}, false
		}
		levels = append(levels, level)
	}
	for _, e := range patterns {
		if a, ok := e.match(levels); ok {
			return a, true
		}
	}
	return Address{}, false
}

// deepest is how many levels a pattern may have.
const deepest = 8

type pattern struct {
	kind   Kind
	levels []string
}

var patterns = func() []pattern {
	var ps []pattern
	for _, e := range Catalog() {
		ps = append(ps, pattern{e.Kind, strings.Split(e.Pattern, "/")})
	}
	return ps
}()

// match returns the address of a topic by its levels, where it is of the pattern.
func (p pattern) match(levels []string) (Address, bool) {
	if len(levels) != len(p.levels) {
		return Address{}, false
	}
	a := Address{Kind: p.kind}
	for i, want := range p.levels {
		var name *string
		switch want {
		case "<domain>":
			name = &a.Domain
		case "<service>":
			name = &a.Service
		case "<device>":
			name = &a.Device
		case "<verb>":
			name = &a.Verb
		default:
			if levels[i] != want {
				return Address{}, false
			}
			continue
		}
		level := levels[i]
		if want == "<verb>" {
			level = strings.ReplaceAll(level, "_", "-") // permit_join
		}
		if !ValidName(level) {
			return Address{}, false
		}
		*name = levels[i]
	}
	return a, true
}

// ValidName reports whether s may name a dominion, domain, service, trait or
// verb: a DNS label, [a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// NameFromHost makes a domain's name of a machine's host name: lower-cased,
// cut at the first dot, anything else a '-'. It is "domain" where nothing is
// left.
func NameFromHost(host string) string {
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	name := strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			return r
		}
		return '-'
	}, host)
	if len(name) > 63 {
		name = name[:63]
	}
	if name = strings.Trim(name, "-"); name == "" {
		return "domain"
	}
	return name
}
