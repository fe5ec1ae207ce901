package topics

import (
	"slices"
	"strings"
	"testing"
)

// matches is MQTT's matching of a topic by a filter (MQTT 5, 4.7.1).
func matches(filter, topic string) bool {
	f, l := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, want := range f {
		if want == "#" {
			return true
		}
		if i >= len(l) || (want != "+" && want != l[i]) {
			return false
		}
	}
	return len(f) == len(l)
}

// addresses returns an address of every kind, with the names filled in that
// its pattern has.
func addresses() []Address {
	var all []Address
	for _, e := range Catalog() {
		a := Address{Kind: e.Kind}
		if strings.Contains(e.Pattern, "<domain>") {
			a.Domain = "pi-kitchen"
		}
		if strings.Contains(e.Pattern, "<service>") {
			a.Service = "npbar"
		}
		if strings.Contains(e.Pattern, "<device>") {
			a.Device = "a4cf12ef3b70"
		}
		if strings.Contains(e.Pattern, "<verb>") {
			a.Verb = "status"
		}
		all = append(all, a)
	}
	return all
}

func TestEveryTopicIsBuiltAndParsed(t *testing.T) {
	for _, prefix := range []string{"", "home", "house/dominion"} {
		tree := NewTree(prefix)
		for _, a := range addresses() {
			topic := tree.Topic(a)
			if strings.ContainsAny(topic, "<>+# ") || !strings.HasPrefix(topic, tree.Prefix()+"/") {
				t.Errorf("%+v is %q", a, topic)
			}
			if got, ok := tree.Parse(topic); !ok || got != a {
				t.Errorf("Parse(%q) = %+v, %v; want %+v", topic, got, ok, a)
			}
			if _, ok := NewTree("other").Parse(topic); ok {
				t.Errorf("another tree takes %q", topic)
			}
			m := tree.Message(a, []byte("x"))
			if e := Lookup(a.Kind); m.Topic != topic || m.QoS != e.QoS || m.Retain != e.Retain || string(m.Payload) != "x" {
				t.Errorf("Message(%+v) = %+v", a, m)
			}
		}
	}
}

func TestBuilders(t *testing.T) {
	tree := NewTree("")
	request, response := tree.Request("why")
	for got, want := range map[string]string{
		tree.Hub(HubStatus):                    "dominion/hub/status",
		tree.Domain(DomainServicesSet, "pi"):   "dominion/domain/pi/services/set",
		tree.Service(ServiceEndpoints, "web"):  "dominion/service/web/endpoints",
		tree.Log("pi", "web"):                  "dominion/domain/pi/service/web/log",
		request:                                "dominion/request/why",
		response:                               "dominion/response/why",
		tree.Filter(DomainServiceLog):          "dominion/domain/+/service/+/log",
		tree.Filter(HubStatus):                 "dominion/hub/status",
		NewTree("a/b").Filter(Request):         "a/b/request/+",
		NewTree("a/b").Hub(HubAvailability):    "a/b/hub/availability",
		NewTree("").Prefix():                   DefaultPrefix,
		tree.Domain(DomainAvailability, "x-1"): "dominion/domain/x-1/availability",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	tree := NewTree("")
	for _, topic := range []string{
		"", "dominion", "dominion/", "/dominion/hub/status", "dominion/hub", "dominion/hub/status/", "dominion/hub/status/x",
		"dominion/Hub/status", "dominion/domain//status", "dominion/domain/Pi/status", "dominion/domain/pi_1/status",
		"dominion/domain/-pi/status", "dominion/domain/pi/status/set", "dominion/domain/+/status", "dominion/domain/#",
		"dominion/domain/" + strings.Repeat("a", 64) + "/status", "dominion/service/web/unknown", "dominion/request/",
		"dominion/request/a/b", "dominionx/hub/status", "$SYS/broker/uptime",
	} {
		if a, ok := tree.Parse(topic); ok || a != (Address{}) {
			t.Errorf("Parse(%q) = %+v, %v", topic, a, ok)
		}
	}
}

// A filter of a kind matches the topics of its kind and of no other.
func TestFiltersMatchTheirKindAlone(t *testing.T) {
	tree := NewTree("")
	for _, e := range Catalog() {
		for _, a := range addresses() {
			if got := matches(tree.Filter(e.Kind), tree.Topic(a)); got != (a.Kind == e.Kind) {
				t.Errorf("%s matches %s: %v", tree.Filter(e.Kind), tree.Topic(a), got)
			}
		}
	}
}

// The table of the contract: a change of a retain flag or a QoS is a change of
// the protocol, and must be made here too.
func TestRetainAndQoS(t *testing.T) {
	type flags struct {
		retain, imperative bool
		qos                byte
	}
	want := map[string]flags{
		"hub/availability":                      {true, false, 1},
		"hub/status":                            {true, false, 1},
		"hub/event":                             {false, false, 1},
		"hub/discovery":                         {true, false, 1},
		"hub/certificate":                       {true, false, 1},
		"device/<device>/status":                {true, false, 1},
		"domain/<domain>/availability":          {true, false, 1},
		"domain/<domain>/heartbeat":             {true, false, 0},
		"domain/<domain>/metrics":               {true, false, 0},
		"hub/keys":                              {true, false, 1},
		"hub/adoption":                          {true, false, 1},
		"domain/<domain>/status":                {true, false, 1},
		"domain/<domain>/condition":             {true, false, 1},
		"domain/<domain>/event":                 {false, false, 1},
		"domain/<domain>/services/set":          {true, false, 1},
		"domain/<domain>/lease":                 {false, false, 0},
		"domain/<domain>/command":               {false, true, 1},
		"domain/<domain>/response":              {false, false, 1},
		"domain/<domain>/drain/set":             {false, true, 1},
		"domain/<domain>/service/<service>/log": {false, false, 0},
		"service/<service>/status":              {true, false, 1},
		"service/<service>/endpoints":           {true, false, 1},
		"service/<service>/endpoint":            {true, false, 1},
		"service/<service>/metrics":             {true, false, 0},
		"service/<service>/set":                 {false, true, 1},
		"request/<verb>":                        {false, true, 1},
		"response/<verb>":                       {false, false, 1},
		"response/<verb>/<domain>":              {false, false, 1},
	}
	for _, e := range Catalog() {
		got := flags{e.Retain, e.Kind.Imperative(), e.QoS}
		if w, ok := want[e.Pattern]; !ok || got != w {
			t.Errorf("%s: %+v, want %+v", e.Pattern, got, w)
		}
		delete(want, e.Pattern)
		if e.Kind.Imperative() && e.Retain {
			t.Errorf("%s: an order is retained", e.Pattern)
		}
		if e.From == "" || e.Doc == "" {
			t.Errorf("%s: not described", e.Pattern)
		}
		if Lookup(e.Kind).Pattern != e.Pattern {
			t.Errorf("%s: Lookup finds %q", e.Pattern, Lookup(e.Kind).Pattern)
		}
	}
	for pattern := range want {
		t.Errorf("%s is not in the catalog", pattern)
	}
}

func TestRolesSubscribeToWhatTheyNeed(t *testing.T) {
	tree := NewTree("")
	covered := func(filters []string, k Kind) bool {
		topic := tree.Topic(addresses()[slices.IndexFunc(addresses(), func(a Address) bool { return a.Kind == k })])
		return slices.ContainsFunc(filters, func(f string) bool { return matches(f, topic) })
	}
	for _, k := range []Kind{
		HubAvailability, HubStatus, HubKeys, HubCertificate, DomainAvailability, DomainHeartbeat, DomainMetrics, DomainStatus, DomainEvent, DomainResponse, DomainDrainSet,
		ServiceStatus, ServiceEndpoints, ServiceSet, Request,
	} {
		if !covered(tree.HubFilters(), k) {
			t.Errorf("the hub does not hear %s", Lookup(k).Pattern)
		}
	}
	// What the hub says itself would come back to it.
	for _, k := range []Kind{HubEvent, DomainCondition, DomainServicesSet, DomainCommand, Response, ResponseTo, DomainServiceLog} {
		if covered(tree.HubFilters(), k) {
			t.Errorf("the hub hears %s", Lookup(k).Pattern)
		}
	}
	agent := tree.AgentFilters("pi-kitchen")
	for _, k := range []Kind{HubAvailability, HubStatus, HubCertificate, DomainAvailability, DomainServicesSet, DomainLease, DomainCommand, DomainDrainSet} {
		if !covered(agent, k) {
			t.Errorf("an agent does not hear %s", Lookup(k).Pattern)
		}
	}
	for _, f := range agent {
		if strings.ContainsAny(f, "+#") {
			t.Errorf("an agent hears of others: %s", f)
		}
	}
}

func TestTopicsToClear(t *testing.T) {
	tree := NewTree("home")
	want := []string{"home/domain/pi/availability", "home/domain/pi/heartbeat", "home/domain/pi/metrics", "home/domain/pi/status", "home/domain/pi/condition", "home/domain/pi/services/set"}
	if got := tree.DomainTopics("pi"); !slices.Equal(got, want) {
		t.Errorf("of a domain: %q", got)
	}
	want = []string{"home/service/web/status", "home/service/web/endpoints", "home/service/web/endpoint", "home/service/web/metrics"}
	if got := tree.ServiceTopics("web"); !slices.Equal(got, want) {
		t.Errorf("of a service: %q", got)
	}
}

func TestValidName(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, want := range map[string]bool{
		"a": true, "0": true, "pi-kitchen": true, "a--b": true, "3d-printer": true, long: true,
		"": false, "-": false, "-a": false, "a-": false, "A": false, "a.b": false, "a_b": false, "a b": false, "ä": false,
		"a/b": false, "+": false, "#": false, "a\x00": false, "a\n": false, long + "a": false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("ValidName(%q) = %v", name, got)
		}
	}
}

func TestNameFromHost(t *testing.T) {
	for host, want := range map[string]string{
		"raspberrypi":                       "raspberrypi",
		"Pi-Kitchen.fritz.box":              "pi-kitchen",
		"MY_LAPTOP":                         "my-laptop",
		"büro":                              "b-ro",
		"-x-":                               "x",
		"":                                  "domain",
		".local":                            "domain",
		"___":                               "domain",
		"12":                                "12",
		strings.Repeat("a", 80):             strings.Repeat("a", 63),
		strings.Repeat("a", 62) + "-b":      strings.Repeat("a", 62),
		"\xff\xfe":                          "domain",
		strings.Repeat("ü", 80) + "x.local": "domain",
	} {
		if got := NameFromHost(host); got != want || !ValidName(got) {
			t.Errorf("NameFromHost(%q) = %q, want %q", host, got, want)
		}
	}
}

func TestSameMajor(t *testing.T) {
	for protocol, want := range map[string]bool{Protocol: true, "1": true, "1.9": true, "2.0": false, "": false, "10.0": false, "v1.0": false} {
		if got := SameMajor(protocol); got != want {
			t.Errorf("SameMajor(%q) = %v", protocol, got)
		}
	}
}

func TestStates(t *testing.T) {
	for _, tt := range []struct {
		state         State
		alive, listed bool
	}{
		{Pending, false, true},
		{Starting, true, true},
		{Running, true, true},
		{Stopping, true, true},
		{Stopped, false, false},
		{Backoff, false, true},
		{Failed, false, true},
		{Finished, false, false},
		{"", false, false},
	} {
		if tt.state.Alive() != tt.alive || tt.state.Listed() != tt.listed {
			t.Errorf("%q: alive %v, listed %v", tt.state, tt.state.Alive(), tt.state.Listed())
		}
		if tt.state != "" && !slices.Contains(States(), tt.state) {
			t.Errorf("%q is not in the closed list", tt.state)
		}
	}
	types := EventTypes()
	slices.Sort(types)
	if len(slices.Compact(types)) != len(EventTypes()) || slices.Contains(types, "") {
		t.Error("the closed list of events has doubles or an empty one")
	}
}

func FuzzParse(f *testing.F) {
	tree := NewTree("")
	for _, a := range addresses() {
		f.Add(tree.Topic(a))
	}
	f.Add("dominion/domain//status")
	f.Add("dominion/request/\xff")
	f.Fuzz(func(t *testing.T, topic string) {
		a, ok := tree.Parse(topic)
		if !ok {
			return
		}
		if again := tree.Topic(a); again != topic {
			t.Errorf("%q is read as %+v, which is %q", topic, a, again)
		}
		if strings.ContainsAny(topic, "+#\x00") {
			t.Errorf("%q was taken", topic)
		}
	})
}

// The broker asks of every message what its topic is.
func TestParseAllocatesNothing(t *testing.T) {
	tree := NewTree("")
	for _, topic := range []string{"dominion/domain/pi-kitchen/heartbeat", "dominion/domain/pi-kitchen/service/web/log", "zigbee2mqtt/lamp", "dominion/" + strings.Repeat("a/", 100)} {
		if n := testing.AllocsPerRun(100, func() { tree.Parse(topic) }); n != 0 {
			t.Errorf("%.60s: %v allocations", topic, n)
		}
	}
}
