package conformance

import (
	"bytes"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/conformance.md anew")

const document = "../../docs/conformance.md"

//go:embed testdata/statements-3.1.1.txt
var statements311 string

//go:embed testdata/statements-5.0.txt
var statements50 string

// statement is one normative statement, in short.
type statement struct {
	number string
	who    string // S the server, C clients alone, - neither here
	says   string
	why    string // no test shows it
}

func read(table string) (all []statement) {
	for line := range strings.Lines(table) {
		fields := strings.Split(strings.TrimSpace(line), " | ")
		if strings.HasPrefix(line, "#") || len(fields) < 3 {
			continue
		}
		s := statement{number: fields[0], who: fields[1], says: fields[2]}
		if len(fields) > 3 {
			s.why = fields[3]
		}
		all = append(all, s)
	}
	return all
}

// TestEveryStatement holds statements and tests together: what concerns a
// server has a test, what does not says why, and no test names what is not there.
func TestEveryStatement(t *testing.T) {
	for version, table := range map[byte]string{4: statements311, 5: statements50} {
		shown := byStatement(version)
		counts := map[string]int{}
		for _, s := range read(table) {
			counts[s.who]++
			switch {
			case s.who == "S" && len(shown[s.number]) == 0:
				t.Errorf("%s: no test shows it", key(version, s.number))
			case s.who == "-" && s.why == "":
				t.Errorf("%s: it does not say why no test shows it", key(version, s.number))
			case !strings.Contains("SC-", s.who):
				t.Errorf("%s: obliges %q", key(version, s.number), s.who)
			}
			delete(shown, s.number)
		}
		for number, tests := range shown {
			t.Errorf("%s: there is no such statement, named by %q", key(version, number), tests)
		}
		t.Logf("%s %d of the server, all shown; %d of clients; %d that cannot be shown here",
			key(version, ""), counts["S"], counts["C"], counts["-"])
	}
	seen := map[string]bool{}
	for _, show := range tests() {
		if seen[show.name] {
			t.Errorf("two tests are named %q", show.name)
		}
		seen[show.name] = true
	}
}

func byStatement(version byte) map[string][]string {
	shown := map[string][]string{}
	for _, show := range tests() {
		for _, number := range show.statements(version) {
			shown[number] = append(shown[number], show.name)
		}
	}
	return shown
}

// TestDocument keeps docs/conformance.md what the tests say.
func TestDocument(t *testing.T) {
	want := render()
	if *update {
		if err := os.WriteFile(document, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(document)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/conformance.md is not what the tests say: go test ./broker/conformance -run TestDocument -update (%v)", err)
	}
}

func render() []byte {
	var b bytes.Buffer
	b.WriteString(`# Conformance

<!-- Generated from the tests. Do not edit. -->

Written from the tests in broker/conformance; do not edit it, change the tests
and run

    go test ./broker/conformance -run TestDocument -update

Every normative statement of MQTT 3.1.1 and MQTT 5.0 (OASIS standards) is
listed with what it says in short, and the tests that show it. The words are
ours; the standard's own are what counts. The tests speak to a server over TCP
with packets written byte by byte, and hold for any server: our engine without
a store, with one, and as the hub embeds it; and mosquitto 2.0.11, on which the
tests themselves are tried. What it does otherwise is at the end.

MQTT 3.1 (protocol name MQIsdp, level 3; WebSocket subprotocol mqttv3.1) is spoken
as mosquitto speaks it: DUP is taken in SUBSCRIBE, UNSUBSCRIBE and PUBREL, the client
identifier is not empty and may have more than 23 bytes, CONNACK has no session present,
and SUBACK has no code for a refusal. That document has no numbered statements;
the tests are in broker/engine (TestMQTT31, TestCONNECTOfMQTT31).

`)
	for version, table := range []string{statements311, statements50} {
		v := byte(4 + version)
		shown, counts, all := byStatement(v), map[string]int{}, read(table)
		for _, s := range all {
			counts[s.who]++
		}
		fmt.Fprintf(&b, "## MQTT %s\n%d statements: %d concern a server and have a test, %d oblige clients alone, %d have nothing to be shown on here.\n\n",
			key(v, ""), len(all), counts["S"], counts["C"], counts["-"])
		b.WriteString("| Statement | What it says | Shown by |\n|---|---|---|\n")
		for _, s := range all {
			by := strings.Join(shown[s.number], "; ")
			switch {
			case s.who == "C" && by == "":
				by = "— obliges clients"
			case s.who == "-":
				by = "— " + s.why
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", s.number, s.says, by)
		}
		b.WriteString("\n")
	}
	deviations(&b, "mosquitto 2.0.11", mosquittoDeviations)
	if len(engineDeviations) > 0 {
		deviations(&b, "our engine", engineDeviations)
	}
	b.WriteString(`## What scripts leave uncompared

TestScripts plays the same random scripts of packets to mosquitto and to our
engine and compares what all clients see. What is not compared, by clause:

| Clause | What is left open |
|---|---|
`)
	for _, k := range kept {
		fmt.Fprintf(&b, "| %s | %s |\n", k[0], k[1])
	}
	return b.Bytes()
}

func deviations(b *bytes.Buffer, server string, known map[string]string) {
	fmt.Fprintf(b, "## What %s does otherwise\n\n| Test | Statement and what it does |\n|---|---|\n", server)
	var keys []string
	for k := range known {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(b, "| %s | %s |\n", k, known[k])
	}
	b.WriteString("\n")
}
