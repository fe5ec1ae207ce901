package topics

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"
)

// docs/protocol.md is written from the Catalog, the verbs, the closed lists,
// the struct tags and the samples by this test, so nothing of it is in the
// programs. The prose is in testdata/protocol.md.tmpl.

var update = flag.Bool("update", false, "rewrite docs/protocol.md")

const protocolFile = "../docs/protocol.md"

func TestProtocolDocument(t *testing.T) {
	got := protocolDocument(t)
	if *update {
		if err := os.WriteFile(protocolFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(protocolFile)
	if err != nil {
		t.Fatalf("%v: go test ./topics -update writes it", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is stale: go test ./topics -update rewrites it. First difference:\n%s", protocolFile, firstDifference(got, want))
	}
}

func firstDifference(got, want []byte) string {
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\nfile %s\ncode %s", i+1, w[i], g[i])
		}
	}
	return "one is longer"
}

// TestEveryKeyIsDescribed looks through all types of the contract.
func TestEveryKeyIsDescribed(t *testing.T) {
	d := newDocument()
	for _, e := range Catalog() {
		if e.Payload != nil {
			d.need(reflect.TypeOf(e.Payload))
		}
	}
	for _, v := range Verbs() {
		if v.Data != nil {
			d.need(reflect.TypeOf(v.Data))
		}
	}
	for _, typ := range d.order {
		for i := range typ.NumField() {
			f := typ.Field(i)
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if key == "" || key != strings.ToLower(key) || strings.ContainsAny(key, "- ") {
				t.Errorf("%s.%s: the key %q is not snake_case", typ.Name(), f.Name, key)
			}
			if f.Tag.Get("doc") == "" {
				t.Errorf("%s.%s: no doc", typ.Name(), f.Name)
			}
		}
	}
	if len(d.order) < 20 {
		t.Errorf("only %d types found", len(d.order))
	}
}

// TestEveryVerbHasItsAnswer keeps the samples complete.
func TestEveryVerbHasItsAnswer(t *testing.T) {
	for _, v := range Verbs() {
		if !ValidName(strings.ReplaceAll(v.Name, "_", "-")) || v.Doc == "" {
			t.Errorf("%q: no name, or not described", v.Name)
		}
		if got, want := reflect.TypeOf(answers()[v.Name]), reflect.TypeOf(v.Data); got != want {
			t.Errorf("%s: the sample is %v, the answer %v", v.Name, got, want)
		}
	}
}

type topicSection struct {
	Entry
	Group, Title, Anchor, PayloadName, Command, Words, Table, Example string
}

type section struct{ Title, Table string }

type verbRow struct{ Name, Needs, Data, Doc string }

type wordRow struct{ Word, Means string }

type wordList struct {
	Title string
	Rows  []wordRow
}

func protocolDocument(t *testing.T) []byte {
	t.Helper()
	d := newDocument()
	for _, e := range Catalog() { // first: a type is described where its topic is
		if typ := structOf(e.Payload); typ != nil && d.anchors[typ] == "" {
			d.anchors[typ] = anchor(titles[e.Kind])
		}
	}
	var all []topicSection
	described := make(map[reflect.Type]bool)
	for _, e := range Catalog() {
		s := topicSection{Entry: e, Group: groups[e.Kind], Title: titles[e.Kind], Anchor: anchor(titles[e.Kind])}
		s.Command, s.Words, s.PayloadName = command(e), words[e.Kind], "a word"
		if typ := structOf(e.Payload); typ != nil {
			s.PayloadName = d.typeName(reflect.TypeOf(e.Payload))
			if described[typ] {
				s.Words = "Its keys are those of [" + typ.Name() + "](#" + d.anchors[typ] + ")."
			} else {
				s.Table = d.table(typ)
			}
			described[typ] = true
			s.Example = example(t, samples()[e.Kind])
		}
		all = append(all, s)
	}
	// Nested types of topics first, in the order of their appearance, then
	// those that only answers have.
	parts := d.sections(described)
	var verbs []verbRow
	for _, v := range Verbs() {
		row := verbRow{Name: v.Name, Needs: v.Needs, Data: "—", Doc: v.Doc}
		if row.Needs == "" {
			row.Needs = "—"
		}
		if v.Data != nil {
			row.Data = d.typeName(reflect.TypeOf(v.Data))
		}
		verbs = append(verbs, row)
	}
	var orders []string
	for _, e := range Catalog() {
		if e.Kind.Imperative() {
			orders = append(orders, DefaultPrefix+"/"+e.Pattern)
		}
	}
	micro := strings.ReplaceAll(string(microSample), `"`, `\"`)
	cut := strings.Index(micro, `\"traits`)

	source, err := os.ReadFile("testdata/protocol.md.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := template.New("protocol").Option("missingkey=error").Funcs(template.FuncMap{"plain": plainText}).Parse(string(source))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = tmpl.Execute(&out, map[string]any{
		"Protocol":   Protocol,
		"MaxMiB":     MaxPayload >> 20,
		"Prefix":     DefaultPrefix + "/",
		"Orders":     orders,
		"MicroC":     "        \"" + micro[:cut] + "\"\n        \"" + micro[cut:] + `"`,
		"Topics":     all,
		"Parts":      parts,
		"Verbs":      verbs,
		"WhyExample": example(t, Encode(answers()[VerbWhy])),
		"Answers":    d.sections(described),
		"Lists":      closedLists(t),
		"TextTypes":  TextTypes(),

		"LongestPrefix":  pubSubClient - packetSize("", longestName, longestIP),
		"RoomForAddress": pubSubClient - packetSize(DefaultPrefix, longestName, ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.TrimRight(out.Bytes(), "\n"), '\n')
}

// titles name the sections; they are links, so they stay.
var titles = map[Kind]string{
	HubAvailability: "Hub availability", HubStatus: "Hub status", HubEvent: "Event", HubDiscovery: "Discovery for Home Assistant", HubCertificate: "Hub certificate", HubKeys: "Key list", HubAdoption: "Adoption",
	DomainAvailability: "Domain availability", DomainHeartbeat: "Heartbeat", DomainMetrics: "Metrics", DomainStatus: "Domain status", DomainCondition: "Condition",
	DomainEvent: "Event of a domain", DomainServicesSet: "Start command", DomainLease: "Lease", DomainCommand: "Command",
	DomainResponse: "Response of a domain", DomainDrainSet: "Drain", DomainServiceLog: "Log",
	ServiceStatus: "Service status", ServiceEndpoints: "Endpoints", ServiceEndpoint: "Best endpoint", ServiceMetrics: "Metrics of a service", ServiceSet: "Switch and scale", Request: "Request", Response: "Response",
	ResponseTo: "Response to one", DeviceStatus: "Device",
}

var groups = map[Kind]string{HubAvailability: "Hub", DomainAvailability: "Domains", ServiceStatus: "Services", DeviceStatus: "Other devices", Request: "Questions and orders"}

// words say what a payload is where a table does not.
var words = map[Kind]string{
	HubAvailability:    "`online` or `offline`.",
	DomainAvailability: "`online` or `offline`.",
	DomainDrainSet:     "`ON` or `OFF`.",
	ServiceEndpoint:    "An [endpoint](#types-of-text), as `192.168.1.20:8080`.",
	ServiceSet:         "One of the words above, or the object:",
	DomainStatus: "A microdomain sends `name`, `micro`, `traits` and `services` alone, and of a service " +
		"`service` and `state`. With `address`, and the service's `port`, it is listed in the endpoints.",
}

// command is what to type to see or to send a message of a kind.
func command(e Entry) string {
	topic := DefaultPrefix + "/" + e.Pattern
	if !e.Kind.Imperative() {
		quote := ""
		topic = NewTree("").Filter(e.Kind)
		if strings.Contains(topic, "+") {
			quote = "'"
		}
		return "mosquitto_sub -v -t " + quote + topic + quote
	}
	topic = strings.NewReplacer("<domain>", "pi-kitchen", "<service>", "web", "<verb>", "restart").Replace(topic)
	payload := map[Kind]string{
		DomainCommand:  `'{"transaction":"t1","action":"restart","service":"web"}'`,
		DomainDrainSet: "ON",
		ServiceSet:     "OFF",
		Request:        `'{"transaction":"t2","service":"web"}'`,
	}[e.Kind]
	return "mosquitto_pub -q 1 -t " + topic + " -m " + payload
}

// example shows a payload: on one line where that is short.
func example(t *testing.T, payload []byte) string {
	t.Helper()
	shown := payload
	if len(payload) > 100 {
		var b bytes.Buffer
		if err := json.Indent(&b, payload, "", "  "); err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		shown = b.Bytes()
	}
	return "```json\n" + string(shown) + "\n```"
}

func anchor(title string) string { return strings.ReplaceAll(strings.ToLower(title), " ", "-") }

// plainText keeps Markdown from taking "<name>" for a tag and "|" for the end
// of a cell; what stands between backquotes is safe from the first.
func plainText(s string) string {
	pieces := strings.Split(s, "`")
	for i := range pieces {
		pieces[i] = strings.ReplaceAll(pieces[i], "|", `\|`)
		if i%2 == 0 {
			pieces[i] = strings.ReplaceAll(pieces[i], "<", `\<`)
		}
	}
	return strings.Join(pieces, "`")
}

// structOf returns the struct that a payload is, or is a list of.
func structOf(payload any) reflect.Type {
	typ := reflect.TypeOf(payload)
	for typ != nil && (typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Map) {
		typ = typ.Elem()
	}
	if typ == nil || typ.Kind() != reflect.Struct || typ == reflect.TypeFor[Time]() {
		return nil
	}
	return typ
}

// document remembers which types a reader was sent to.
type document struct {
	anchors map[reflect.Type]string
	order   []reflect.Type
}

func newDocument() *document { return &document{anchors: make(map[reflect.Type]string)} }

// need notes a type and what is in it.
func (d *document) need(typ reflect.Type) {
	typ = structOf(reflect.Zero(typ).Interface())
	if typ == nil || slices.Contains(d.order, typ) {
		return
	}
	d.order = append(d.order, typ)
	for i := range typ.NumField() {
		d.need(typ.Field(i).Type)
	}
}

// sections describes what was needed and is not described yet.
func (d *document) sections(described map[reflect.Type]bool) []section {
	var all []section
	for i := 0; i < len(d.order); i++ { // it grows
		if typ := d.order[i]; !described[typ] {
			described[typ] = true
			all = append(all, section{typ.Name(), d.table(typ)})
		}
	}
	return all
}

func (d *document) table(typ reflect.Type) string {
	var b strings.Builder
	b.WriteString("| key | type | meaning |\n|---|---|---|\n")
	for i := range typ.NumField() {
		f := typ.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		optional := ""
		if strings.Contains(options, "omit") {
			optional = ", optional"
		}
		fmt.Fprintf(&b, "| `%s` | %s%s | %s |\n", key, d.fieldType(f), optional, plainText(f.Tag.Get("doc")))
	}
	return b.String()
}

// fieldType names the type of a field, with that of its text.
func (d *document) fieldType(f reflect.StructField) string {
	name := d.typeName(f.Type)
	if text := f.Tag.Get("type"); f.Type.Name() == "" || f.Type.Name() == "string" {
		name = strings.Replace(name, "text", "["+text+"](#types-of-text)", 1)
	}
	return strings.Replace(name, "name →", cmp.Or(f.Tag.Get("key"), "name")+" →", 1)
}

func (d *document) typeName(typ reflect.Type) string {
	switch typ {
	case reflect.TypeFor[Time]():
		return "time"
	case reflect.TypeFor[Seconds]():
		return "seconds"
	case reflect.TypeFor[[]byte]():
		return "base64"
	case reflect.TypeFor[json.RawMessage]():
		return "any JSON"
	case reflect.TypeFor[State]():
		return "[state](#state)"
	case reflect.TypeFor[Health]():
		return "[health](#health)"
	case reflect.TypeFor[EventType]():
		return "[event type](#event-type)"
	case reflect.TypeFor[DomainState]():
		return "[domain state](#domain-state)"
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return d.typeName(typ.Elem())
	case reflect.Slice:
		return "list of " + d.typeName(typ.Elem())
	case reflect.Map:
		return "object: name → " + d.typeName(typ.Elem())
	case reflect.Struct:
		if d.anchors[typ] == "" {
			d.anchors[typ] = anchor(typ.Name())
		}
		d.need(typ)
		return "[" + typ.Name() + "](#" + d.anchors[typ] + ")"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "number"
	}
	return "whole number"
}

// closedLists reads words and meanings from the constants and the comments
// beside them; the functions that list them give the order.
func closedLists(t *testing.T) []wordList {
	t.Helper()
	meanings := constants(t)
	list := func(title, of string, order []string) wordList {
		l := wordList{Title: title}
		for _, w := range order {
			if meanings[of][w] == "" {
				t.Errorf("the %s %q has no comment that says what it means", of, w)
			}
			l.Rows = append(l.Rows, wordRow{w, meanings[of][w]})
			delete(meanings[of], w)
		}
		for _, w := range slices.Sorted(maps.Keys(meanings[of])) {
			t.Errorf("the %s %q is not in the closed list", of, w)
		}
		return l
	}
	return []wordList{
		list("State", "State", texts(States())),
		list("Health", "Health", texts([]Health{UnknownHealth, Healthy, Unhealthy})),
		list("Domain state", "DomainState", texts([]DomainState{DomainIsOnline, DomainIsOffline, DomainIsLost, DomainIsLonely, DomainIsWaiting, DomainIsRefused})),
		list("Event type", "EventType", texts(EventTypes())),
	}
}

func texts[T ~string](words []T) []string {
	var all []string
	for _, w := range words {
		all = append(all, string(w))
	}
	return all
}

// constants maps the typed string constants of this package to the comments
// beside them: type → value → comment.
func constants(t *testing.T) map[string]map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]map[string]string)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			typ, named := spec.Type.(*ast.Ident)
			value, literal := spec.Values[0].(*ast.BasicLit)
			if !named || !literal || value.Kind != token.STRING {
				return true
			}
			word, err := strconv.Unquote(value.Value)
			if err != nil {
				t.Fatal(err)
			}
			if all[typ.Name] == nil {
				all[typ.Name] = make(map[string]string)
			}
			all[typ.Name][word] = strings.TrimSpace(spec.Comment.Text())
			return true
		})
	}
	return all
}
