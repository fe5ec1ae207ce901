package access

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

var update = flag.Bool("update", false, "rewrite docs/access.md and the transcripts in testdata")

// The table says what each role may do: p publish, s subscribe, d have
// delivered, - nothing. The user is pi-kitchen, the prefix dominion.
const table = `
topic                                               admin reader device domain
dominion/hub/availability                           psd   sd     sd     sd
dominion/hub/status                                 psd   sd     sd     sd
dominion/hub/certificate                            psd   sd     sd     sd
dominion/hub/keys                                   psd   sd     sd     sd
dominion/hub/adoption                               psd   sd     -      sd
dominion/hub/event                                  psd   sd     -      sd
dominion/hub/discovery                              psd   sd     -      sd
dominion/domain/pi-kitchen/availability             psd   sd     -      psd
dominion/domain/pi-kitchen/heartbeat                psd   sd     -      psd
dominion/domain/pi-kitchen/metrics                  psd   sd     -      psd
dominion/domain/pi-kitchen/status                   psd   sd     -      psd
dominion/domain/pi-kitchen/event                    psd   sd     -      psd
dominion/domain/pi-kitchen/response                 psd   sd     -      psd
dominion/domain/pi-kitchen/service/web/log          psd   sd     -      psd
dominion/domain/pi-kitchen/services/set             psd   -      -      sd
dominion/domain/pi-kitchen/command                  psd   sd     -      sd
dominion/domain/pi-kitchen/drain/set                psd   sd     -      sd
dominion/domain/pi-kitchen/lease                    psd   sd     -      sd
dominion/domain/pi-kitchen/condition                psd   sd     -      sd
dominion/domain/other/condition                     psd   sd     -      -
dominion/domain/pi-kitchen/service/web/log/x        psd   sd     -      sd
dominion/domain/pi-kitchen                          psd   sd     -      sd
dominion/domain/other/availability                  psd   sd     -      -
dominion/domain/other/heartbeat                     psd   sd     -      -
dominion/domain/other/status                        psd   sd     -      -
dominion/domain/other/response                      psd   sd     -      -
dominion/domain/other/services/set                  psd   -      -      -
dominion/domain/other/command                       psd   sd     -      -
dominion/service/web/status                         psd   sd     sd     sd
dominion/service/web/endpoints                      psd   sd     sd     sd
dominion/service/web/endpoint                       psd   sd     sd     sd
dominion/service/web/metrics                        psd   sd     -      -
dominion/service/web/set                            psd   sd     -      -
dominion/device/lamp/status                         psd   sd     -      sd
dominion/request/status                             psd   psd    -      p
dominion/request/domains                            psd   psd    -      p
dominion/request/services                           psd   psd    -      p
dominion/request/devices                            psd   psd    -      p
dominion/request/plan                               psd   psd    -      p
dominion/request/why                                psd   psd    -      p
dominion/request/versions                           psd   psd    -      p
dominion/request/events                             psd   psd    -      p
dominion/request/version                            psd   psd    -      p
dominion/request/access                             psd   sd     -      p
dominion/request/join                               psd   sd     -      p
dominion/request/start                              psd   sd     -      p
dominion/request/stop                               psd   sd     -      p
dominion/request/scale                              psd   sd     -      p
dominion/request/restart                            psd   sd     -      p
dominion/request/update                             psd   sd     -      p
dominion/request/rebalance                          psd   sd     -      p
dominion/request/reset                              psd   sd     -      p
dominion/request/replan                             psd   sd     -      p
dominion/request/drain                              psd   sd     -      p
dominion/request/undrain                            psd   sd     -      p
dominion/request/forget                             psd   -      -      -
dominion/request/adopt                              psd   -      -      -
dominion/request/permit_join                        psd   -      -      -
dominion/request/token                              psd   -      -      -
dominion/request/resync                             psd   -      -      -
dominion/request/logs                               psd   -      -      -
dominion/request/user                               psd   -      -      -
dominion/request/authority                          psd   -      -      -
dominion/request/certificates                       psd   -      -      -
dominion/request/secret                             psd   -      -      -
dominion/request/apply                              psd   -      -      -
dominion/request/definition                         psd   -      -      -
dominion/request/rollback                           psd   -      -      -
dominion/request/identity                           psd   -      -      -
dominion/response/user                              psd   -      -      -
dominion/request/clients                            psd   -      -      -
dominion/request/trace                              psd   -      -      -
dominion/response/trace/ctl-1                       psd   -      -      -
dominion/request/status/x                           psd   sd     -      -
dominion/response/status                            psd   sd     -      sd
dominion/response/join/pi-kitchen                   psd   sd     -      sd
dominion/response/join/other                        psd   sd     -      -
dominion/unknown                                    psd   sd     -      -
dominion                                            psd   sd     -      -
dominions/hub/status                                psd   sd     psd    sd
zigbee2mqtt/lamp                                    psd   sd     psd    sd
tele/plug/LWT                                       psd   sd     psd    sd
kitchen-lamp/light/lamp/state                       psd   sd     psd    sd
homeassistant/status                                psd   sd     sd     sd
homeassistant/light/kitchen-lamp/lamp/config        psd   sd     psd    sd
homeassistant/device/lamp/config                    psd   sd     psd    sd
homeassistant/device/dominion_0123abcd_hub/config   psd   sd     sd     sd
homeassistant/sensor/dominion_0123abcd_hub/x/config psd   sd     sd     sd
$SYS/broker/uptime                                  sd    sd     sd     -
$SYS/broker/connection/attic/state                  psd   sd     sd     -

filter                                              admin reader device domain
#                                                   s     s      s      -
+/+/+                                               s     s      s      -
+/hub/status                                        s     s      s      -
zigbee2mqtt/#                                       s     s      s      s
dominion/#                                          s     s      -      -
dominion/+/status                                   s     s      -      -
dominion/hub/#                                      s     s      -      s
dominion/hub/+                                      s     s      -      s
dominion/domain/#                                   s     s      -      -
dominion/domain/+/services/set                      s     -      -      -
dominion/domain/pi-kitchen/#                        s     s      -      s
dominion/domain/pi-kitchen/+                        s     s      -      s
dominion/domain/pi-kitchen/services/set             s     -      -      s
dominion/domain/pi-kitchen/service/+/log            s     s      -      s
dominion/service/+/status                           s     s      s      s
dominion/service/+/endpoints                        s     s      s      s
dominion/service/#                                  s     s      -      -
dominion/service/+/set                              s     s      -      -
dominion/response/+                                 s     s      -      s
dominion/response/#                                 s     s      -      -
$share/g/dominion/service/+/status                  s     s      s      s
$share/g/dominion/#                                 s     s      -      -
$share/g/dominion/domain/other/services/set         s     -      -      -
dominion/request/+                                  s     s      -      -
dominion/request/user                               s     -      -      -
$SYS/#                                              s     s      s      -
`

// What a service may do that a device may not.
var ofServices = []struct{ topic, may string }{
	{"dominion/request/status", "p"},
	{"dominion/request/domains", "p"},
	{"dominion/request/services", "p"},
	{"dominion/request/devices", "p"},
	{"dominion/request/plan", "p"},
	{"dominion/request/why", "p"},
	{"dominion/request/versions", "p"},
	{"dominion/request/events", "p"},
	{"dominion/request/version", "p"},
	{"dominion/response/status", "sd"},
	{"dominion/response/status/x", "sd"},
	{"dominion/response/status/+", "s"},
}

func plain(t testing.TB, prefix string, rules ...Rule) *Policy {
	t.Helper()
	p, err := New(prefix, "homeassistant", rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rows calls each for every cell of the table.
func rows(each func(topic, role string, isFilter bool, may string)) {
	var head []string
	for line := range strings.Lines(strings.TrimSpace(table)) {
		cells := strings.Fields(line)
		switch {
		case len(cells) == 0:
			continue
		case cells[0] == "topic" || cells[0] == "filter":
			head = cells
			continue
		}
		for i, role := range head[1:] {
			each(cells[0], role, head[0] == "filter", cells[i+1])
		}
	}
}

func TestRoles(t *testing.T) {
	p := plain(t, "dominion")
	letters := map[string]Action{"p": Publish, "s": Subscribe, "d": Deliver}
	rows(func(topic, role string, isFilter bool, may string) {
		for letter, a := range letters {
			if isFilter && a != Subscribe {
				continue
			}
			got := p.Decide(Client{User: "pi-kitchen", ID: "c1", Role: role}, a, topic)
			if want := strings.Contains(may, letter); got.Allowed != want || got.By == "" {
				t.Errorf("%s %v %s: %+v", role, a, topic, got)
			}
		}
	})
}

// Each kind of topic and each verb is in the table: who adds one says who may.
func TestTableIsComplete(t *testing.T) {
	tree := topics.NewTree("dominion")
	kinds, verbs := make(map[topics.Kind]bool), make(map[string]bool)
	rows(func(topic, _ string, isFilter bool, _ string) {
		if at, ok := tree.Parse(topic); ok && !isFilter {
			kinds[at.Kind] = true
			if at.Kind == topics.Request {
				verbs[at.Verb] = true
			}
		}
	})
	for _, e := range topics.Catalog() {
		if !kinds[e.Kind] {
			t.Errorf("the table has no topic like %s", e.Pattern)
		}
	}
	for _, v := range topics.Verbs() {
		if !verbs[v.Name] {
			t.Errorf("the table does not say who may ask %s", v.Name)
		}
	}
}

// docs/access.md is the same table, for people.
func TestDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString(head)
	titles := map[bool]string{
		false: "\n## Topics\n\nFor the user `pi-kitchen` and the prefix `dominion`.\n\n",
		true:  "\n## Filters of subscriptions\n\nA device may subscribe to more than it may read: what it may not read is held back.\n\n",
	}
	words := strings.NewReplacer("p", "publish, ", "s", "subscribe, ", "d", "read, ")
	var was *bool
	var at string
	rows(func(topic, role string, isFilter bool, may string) {
		if was == nil || *was != isFilter {
			was = &isFilter
			b.WriteString(titles[isFilter] + "| | " + strings.Join(Roles(), " | ") + " |\n|---|---|---|---|---|")
		}
		if topic != at {
			at = topic
			fmt.Fprintf(&b, "\n| `%s` |", topic)
		}
		cell := "–"
		if may != "-" {
			cell = strings.TrimSuffix(words.Replace(may), ", ")
		}
		fmt.Fprintf(&b, " %s |", cell)
		if role == RoleDomain && strings.HasPrefix(topic, "$SYS/broker/") || topic == "$SYS/#" && role == RoleDomain {
			b.WriteString("\n")
		}
	})
	b.WriteString(servicesHead)
	for _, row := range ofServices {
		fmt.Fprintf(&b, "| `%s` | %s |\n", row.topic, strings.TrimSuffix(words.Replace(row.may), ", "))
	}
	const file = "../../docs/access.md"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != b.String() {
		t.Errorf("%s is stale (%v): go test ./broker/access -update rewrites it", file, err)
	}
}

const head = `# Who may do what

Generated from the test that proves it: ` + "`go test ./broker/access -update`" + `.

Each user has a role. The owner's rules (` + "`[[broker.rules]]`" + `, docs/how-to/access-rules.md) come first, in their order: the
first that applies decides; if none applies, the role does. A rule cannot restrict the role admin. No rule can allow
anyone to read or publish the start commands of a domain, to use a request that gives its sender the rights of an admin
(` + "`user`, `clients`, `trace`, `forget`" + `) or read its answers, or to publish what only the hub and the broker publish: ` + "`dominion/hub/…`,\n`dominion/domain/<domain>/command`, `…/lease` and `…/condition`, `dominion/service/<service>/status` and `…/endpoints`,\n`dominion/device/…`, `dominion/response/…`" + ` and ` + "`$SYS/…`" + ` but ` + "`$SYS/broker/connection/+/state`" + `. A rule
that allows more has no effect on these. ` + "`dominionctl access USER publish|subscribe TOPIC`" + ` prints what the broker
would decide, and which rule decides.

The requests ` + "`adopt`, `authority`, `certificates`, `forget`, `identity`, `permit_join`, `secret`, `token` and `user`" + ` are private: request and answer
are between the asking connection and the hub alone. They need the control socket of the hub's machine, or an encrypted connection with a user; on any other one
the broker refuses them whatever the table says. No subscriber, retained message, will, bridge or trace has them.
`

const servicesHead = `
## Services

A service of an adopted domain has [a certificate](reference/service.md#the-certificate-of-a-service), by which it is
the user ` + "`SERVICE.DOMAIN`" + ` with the rights of the role device. Rules for that role are for it too. Besides, it may send
the requests that change nothing, and read their answers:

| | service |
|---|---|
`

// A service may do what a device may, and what is listed.
func TestServices(t *testing.T) {
	p := plain(t, "dominion")
	letters := map[string]Action{"p": Publish, "s": Subscribe, "d": Deliver}
	more := make(map[string]string)
	for _, row := range ofServices {
		more[row.topic] = row.may
	}
	check := func(topic, may string, isFilter bool) {
		for letter, a := range letters {
			if isFilter && a != Subscribe {
				continue
			}
			got := p.Decide(Client{User: "web.pi-kitchen", ID: "c1", Role: RoleService}, a, topic)
			if want := strings.Contains(may, letter); got.Allowed != want || got.By == "" {
				t.Errorf("%v %s: %+v", a, topic, got)
			}
		}
	}
	rows(func(topic, role string, isFilter bool, may string) {
		if role == RoleDevice && more[topic] == "" {
			check(topic, may, isFilter)
		}
	})
	for _, row := range ofServices {
		check(row.topic, row.may, strings.Contains(row.topic, "+"))
	}
	for _, v := range topics.Verbs() {
		if _, listed := more["dominion/request/"+v.Name]; listed != (v.By == topics.ByReaders) {
			t.Errorf("the request %s is listed: %v", v.Name, listed)
		}
	}
}

// A rule for devices is for services too, and none can name their role.
func TestRulesForDevicesAreForServices(t *testing.T) {
	p := plain(t, "dominion", Rule{Roles: []string{RoleDevice}, Actions: []Action{Publish}, Deny: true, Topics: []string{"zigbee2mqtt/#"}})
	c := Client{User: "web.kitchen", ID: "x", Role: RoleService}
	if d := p.Decide(c, Publish, "zigbee2mqtt/lamp/set"); d.Allowed || !strings.Contains(d.By, "rule 1") {
		t.Errorf("%+v", d)
	}
	if d := p.Decide(c, Publish, "tele/plug/LWT"); !d.Allowed {
		t.Errorf("%+v", d)
	}
	if _, err := New("dominion", "homeassistant", []Rule{{Roles: []string{RoleService}, Actions: []Action{Publish}, Topics: []string{"#"}}}); err == nil {
		t.Error("a rule names the role service")
	}
}

func TestDeniesByDefault(t *testing.T) {
	p := plain(t, "dominion")
	for _, role := range []string{"", "Admin", "root"} {
		for _, a := range []Action{Publish, Subscribe, Deliver} {
			if d := p.Decide(Client{User: "x", Role: role}, a, "lamp"); d.Allowed {
				t.Errorf("role %q: %+v", role, d)
			}
		}
	}
}

func TestLongPrefix(t *testing.T) {
	p := plain(t, "house/dominion")
	for _, tt := range []struct {
		role, filter string
		want         bool
	}{
		{RoleDevice, "house/dominion/service/web/set", false},
		{RoleDevice, "house/dominion/#", false},
		{RoleDevice, "house/dominion/hub/status", true},
		{RoleDevice, "house/+/service/web/set", true}, // and held back at delivery
		{RoleDevice, "house/lamp", true},
		{RoleDomain, "house/+", false}, // "house/dominion" itself
		{RoleDomain, "house/+/hub", false},
		{RoleDomain, "+/+/hub", false},
		{RoleDomain, "house/#", false},
		{RoleDomain, "house/lamp/#", true},
	} {
		if got := p.Decide(Client{User: "x", Role: tt.role}, Subscribe, tt.filter); got.Allowed != tt.want {
			t.Errorf("%s subscribes to %s: %+v", tt.role, tt.filter, got)
		}
	}
}

func TestRules(t *testing.T) {
	p := plain(t, "dominion",
		Rule{Name: "no-tv", Users: []string{"tv"}, Actions: []Action{Publish, Subscribe}, Deny: true, Topics: []string{"cmnd/#", "zigbee2mqtt/+/set"}},
		Rule{Roles: []string{RoleReader}, Actions: []Action{Publish}, Topics: []string{"dominion/service/+/set", "notes/%u/#"}},
		Rule{Roles: []string{RoleDevice}, Actions: []Action{Publish}, Topics: []string{"clients/%c/state", "d/%u-%c"}},
		Rule{Roles: []string{RoleDevice}, Actions: []Action{Publish}, Deny: true, Topics: []string{"clients/#", "d/#"}},
		Rule{Actions: []Action{Publish}, Topics: []string{"#"}},
		Rule{Actions: []Action{Subscribe}, Topics: []string{"dominion/#", "+/domain/#"}},
	)
	for _, tt := range []struct {
		user, id, role string
		a              Action
		topic          string
		allowed        bool
		by             string
	}{
		{"tv", "x", RoleDevice, Publish, "cmnd/door/POWER", false, "rule no-tv: deny tv publish and subscribe to cmnd/#, zigbee2mqtt/+/set"},
		{"tv", "x", RoleDevice, Deliver, "cmnd/door/POWER", false, "rule no-tv"},
		{"tv", "x", RoleDevice, Subscribe, "cmnd/+/POWER", false, "rule no-tv"},
		{"tv", "x", RoleDevice, Subscribe, "#", true, "role device"}, // and held back at delivery
		{"door", "x", RoleDevice, Publish, "cmnd/door/POWER", true, "rule 5: allow everybody publish to #"},
		{"ada", "x", RoleReader, Publish, "dominion/service/web/set", true, "rule 2"},
		{"ada", "x", RoleReader, Publish, "notes/ada/today", true, "rule 2"},
		{"ada", "x", RoleReader, Publish, "dominion/hub/status", false, "role reader"}, // "#" does not reach ours
		{"ada", "x", RoleReader, Publish, "$SYS/x", false, "role reader"},
		{"lamp", "esp1", RoleDevice, Publish, "clients/esp1/state", true, "rule 3"},
		{"lamp", "esp2", RoleDevice, Publish, "clients/esp1/state", false, "rule 4"},
		{"lamp", "+", RoleDevice, Publish, "clients/+/state", false, "rule 4"},
		{"lamp", "", RoleDevice, Publish, "clients//state", false, "rule 4"},
		{"lamp", "esp1", RoleDevice, Publish, "d/lamp-esp1", true, "rule 3"},
		{"lamp", "esp1", RoleDevice, Publish, "d/lamp-esp2", false, "rule 4"},
		{"lamp", "x", RoleDevice, Deliver, "dominion/hub/event", true, "rule 6"},
		{"lamp", "x", RoleDevice, Deliver, "dominion/domain/pi/services/set", false, "start commands"},
		{"lamp", "x", RoleDevice, Subscribe, "dominion/domain/+/services/set", false, "start commands"},
		{"pi", "x", RoleDomain, Deliver, "dominion/domain/pi/services/set", true, "rule 6"},
		{"root", "x", RoleAdmin, Publish, "cmnd/door/POWER", true, "role admin"},
		{"gone", "x", "", Publish, "cmnd/door/POWER", false, "no role"},
	} {
		got := p.Decide(Client{User: tt.user, ID: tt.id, Role: tt.role}, tt.a, tt.topic)
		if got.Allowed != tt.allowed || !strings.HasPrefix(got.By, tt.by) {
			t.Errorf("%s (%s, %s) %v %s: %+v, want %v by %s", tt.user, tt.id, tt.role, tt.a, tt.topic, got, tt.allowed, tt.by)
		}
	}
}

// What the hub alone publishes, and the broker, no rule opens, whoever it is for
// and however it names it. What the catalog says of who publishes is the list: a
// new kind of topic that comes from the hub is closed.
func TestNoRuleOpensWhatTheHubPublishes(t *testing.T) {
	const prefix = "house/dominion"
	tree := topics.NewTree(prefix)
	at := topics.Address{Domain: "pi", Service: "web", Device: "lamp", Verb: "status"}
	closed := []string{"$SYS/broker/uptime", "$SYS/x", "$other/x", prefix + "/hub/new", prefix + "/response/join/pi"}
	for _, e := range topics.Catalog() {
		at.Kind = e.Kind
		topic := tree.Topic(at)
		if strings.HasPrefix(e.From, "hub") {
			closed = append(closed, topic)
		}
	}
	open := []string{tree.Service(topics.ServiceSet, "web"), tree.Domain(topics.DomainDrainSet, "pi"), tree.Topic(topics.Address{Kind: topics.Request, Verb: "start"}), "$SYS/broker/connection/attic/state"}
	all := []string{"#", prefix + "/#", "$SYS/#", "$other/#", "+/+/domain/+/services/set", prefix + "/domain/%u/#", "$SYS/broker/connection/+/state"}
	for _, role := range []string{RoleReader, RoleDevice, RoleDomain, RoleService} {
		for _, topic := range closed {
			p := plain(t, prefix, Rule{Actions: []Action{Publish}, Topics: append(all, topic)})
			if d := p.Decide(Client{User: "pi", ID: "x", Role: role}, Publish, topic); d.Allowed || !strings.Contains(d.By, "has no effect: rule 1") {
				t.Errorf("%s publishes to %s: %+v", role, topic, d)
			}
			if d := p.Decide(Client{User: "root", ID: "x", Role: RoleAdmin}, Publish, topic); d.Allowed == strings.HasPrefix(topic, "$SYS/") {
				t.Errorf("an admin publishes to %s: %+v", topic, d)
			}
		}
		for _, topic := range open {
			p := plain(t, prefix, Rule{Actions: []Action{Publish}, Topics: append(all, topic)})
			if d := p.Decide(Client{User: "pi", ID: "x", Role: role}, Publish, topic); !d.Allowed {
				t.Errorf("%s publishes to %s: %+v", role, topic, d)
			}
		}
	}
}

func TestFaultyRules(t *testing.T) {
	good := Rule{Actions: []Action{Publish}, Topics: []string{"a/%u/#"}}
	for _, tt := range []struct {
		change func(*Rule)
		want   string
	}{
		{func(r *Rule) { r.Actions = nil }, `needs "allow" or "deny"`},
		{func(r *Rule) { r.Topics = nil }, "has no topics"},
		{func(r *Rule) { r.Topics = []string{""} }, "a filter is empty"},
		{func(r *Rule) { r.Topics = []string{"a/#/b"} }, `"a/#/b" is not a valid filter`},
		{func(r *Rule) { r.Topics = []string{"a+"} }, `"a+" is not a valid filter`},
		{func(r *Rule) { r.Topics = []string{"a/%"} }, `use %u for the user`},
		{func(r *Rule) { r.Topics = []string{"a/%d"} }, `use %u for the user`},
		{func(r *Rule) { r.Roles = []string{"boss"} }, `"boss" is not a valid role`},
		{func(r *Rule) { r.Roles = []string{RoleAdmin} }, "a rule cannot restrict the role admin"},
	} {
		bad := good
		tt.change(&bad)
		if _, err := New("dominion", "homeassistant", []Rule{good, bad}); err == nil || !strings.Contains(err.Error(), "rule 2") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %s", bad, err, tt.want)
		}
	}
}

// It is asked about each topic that a client publishes to for the first time,
// and about each route: no garbage for it.
func TestDecideAllocatesNothing(t *testing.T) {
	var rules []Rule
	for i := range 100 {
		rules = append(rules, Rule{Users: []string{"tv"}, Actions: []Action{Publish}, Topics: []string{fmt.Sprintf("a/%d/%%u/#", i)}})
	}
	p := plain(t, "dominion", rules...)
	c := Client{User: "tv", ID: "x", Role: RoleDevice}
	if n := testing.AllocsPerRun(100, func() { p.Decide(c, Publish, "zigbee2mqtt/lamp/set") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecideByTheHundredthRule(b *testing.B) {
	var rules []Rule
	for i := range 100 {
		rules = append(rules, Rule{Users: []string{"tv"}, Actions: []Action{Publish}, Topics: []string{fmt.Sprintf("a/%d/%%u/#", i)}})
	}
	p := plain(b, "dominion", rules...)
	c := Client{User: "tv", ID: "x", Role: RoleDevice}
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(c, Publish, "zigbee2mqtt/lamp/set")
	}
}
