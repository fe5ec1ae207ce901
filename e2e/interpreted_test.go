package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
	"github.com/jmbarzee/dominion/topics/topicstest"
)

// reads is a Makefile that reads what is typed as $(X), and free text as "$$X".
// It writes down what it was given, before the program takes its place.
const reads = `A := $(TRAIT_MODE) $(DEPENDENCY_BELL) $(SERVICE_PORT) $(SERVICE_VERSION) $(DOMAIN_NAME) $(DOMINION_URL)
run:
	@: $(A) $(TRAIT_MODE) $(DEPENDENCY_BELL)
	@printf %%s "$$PASSWORD" > $$SERVICE_DATA_DIR/password
	@exec %s %s
`

// What devices, domains and readers say is never interpreted, whichever field of
// whichever payload holds it, and free text arrives byte for byte.
func TestNothingForeignIsInterpreted(t *testing.T) {
	const password = `pa$$w0rd$HOME#1`
	home, _ := guarded(t)
	config, err := os.ReadFile(home.hubFile())
	home.must(err)
	home.WriteHubConfig(string(config) + service("web", `priority = "required"`, `dependencies = ["bell"]`, `traits = ["mode"]`,
		fmt.Sprintf("environment = { PASSWORD = %q }", password)) +
		service("expands", `priority = "required"`, fmt.Sprintf("environment = { PASSWORD = %q }", password)))
	hub := home.StartHub()
	hub.AwaitLog("the hub is ready")

	kitchen := home.Domain("kitchen")
	kitchen.Install("bell", "lamp")
	kitchen.Write("web", "Makefile", fmt.Sprintf(reads, programs.answer, home.Journal.file))
	kitchen.Write("expands", "Makefile", "run:\n\t@echo $(PASSWORD)\n")
	secret := filepath.Join(kitchen.Dir, "password")
	kitchen.must(writeFile(secret, "secret of kitchen\n"))
	kitchen.Configure(nil, fmt.Sprintf("hub = \"mqtt://%s:1883\"\nuser = \"kitchen\"\npassword_file = %q\n[traits_from]\nmode = { mqtt = \"home/mode\" }\n", home.Hub.Address(), secret))
	agent := kitchen.Start()
	// Statuses of domains are left out: those that follow cannot be read.
	o := &Observer{t: t, messages: newFeed[Message]()}
	o.start(home, append(home.as("admin", ""), "-q", "2", "-F", observerFormat, "-t", "dominion/hub/#", "-t", "dominion/service/#"))
	o.Until("bell runs", func(v View) bool { return v.Healthy("bell", 1) })
	o.Until("what make would expand is not started", func(v View) bool {
		return strings.Contains(v.Service("expands").Reason, `"$$PASSWORD"`)
	})

	file := filepath.Join(kitchen.Dir, "F")
	publish := func(user, topic string, payload []byte, more ...string) {
		t.Helper()
		message := filepath.Join(kitchen.Dir, "message")
		kitchen.must(os.WriteFile(message, payload, 0o644))
		r := home.observer.Exec(nil, "mosquitto_pub", append(append(home.as(user, ""), "-V", "5", "-q", "1", "-t", topic, "-f", message), more...)...)
		if r.Code != 0 {
			t.Errorf("%s at %s: %s", user, topic, r.Stderr)
		}
	}
	refused := func(mark Mark, words ...string) {
		t.Helper()
		o.Await(fmt.Sprint(words, " is refused"), mark, func(m Message) bool {
			return m.Topic == "dominion/hub/event" && strings.Contains(m.Payload, string(topics.MessageRefused)) && containsAll(m.Payload, words)
		})
	}

	t.Log("a device")
	for _, attack := range topicstest.Attacks(file) {
		mark := o.Now()
		publish("device", "home/mode", []byte(attack), "-r")
		refused(mark, "home/mode", "trait mode")
	}
	publish("device", "home/mode", []byte("day"), "-r")
	o.Until("web runs by day", func(v View) bool { return v.Healthy("web", 1) })
	got, err := os.ReadFile(filepath.Join(kitchen.DataDir(), "data", "web", "password"))
	if kitchen.must(err); string(got) != password {
		t.Errorf("the password arrived as %q, want %q", got, password)
	}

	t.Log("a domain and a reader")
	id, err := os.ReadFile(filepath.Join(kitchen.DataDir(), "id"))
	kitchen.must(err)
	// It is kitchen itself that is hostile: what it signs comes through to the types.
	beats := &Observer{t: t, messages: newFeed[Message]()}
	beats.start(home, append(home.as("admin", ""), "-q", "0", "-F", observerFormat, "-t", "dominion/domain/kitchen/heartbeat"))
	session := decode[topics.Heartbeat](t, awaitLiveHeartbeat(beats, Mark{}, "kitchen")).Session
	own, err := identity.OpenDomain(kitchen.DataDir(), true)
	kitchen.must(err)
	dominion := decode[topics.Hub](t, o.Latest()["dominion/hub/status"]).ID
	mark, n := o.Now(), 0
	sign := func(k topics.Kind, payload []byte) []byte {
		if k == topics.Request {
			return payload
		}
		m, err := signed.Sign(own.Key, signed.Context{Kind: k.SignedKind(), Dominion: dominion, Domain: strings.TrimSpace(string(id))}, payload)
		kitchen.must(err)
		return m
	}
	for _, attack := range topicstest.Attacks(file) {
		for kind, user := range map[topics.Kind]string{
			topics.DomainStatus: "kitchen", topics.DomainHeartbeat: "kitchen", topics.DomainMetrics: "kitchen",
			topics.DomainEvent: "kitchen", topics.DomainResponse: "kitchen", topics.Request: "reader",
		} {
			for _, v := range topicstest.Variants(topics.Lookup(kind).Payload, attack) {
				address := topics.Address{Kind: kind, Domain: "kitchen"}
				if kind == topics.Request {
					address = topics.Address{Kind: kind, Verb: topics.VerbWhy}
				}
				publish(user, topics.NewTree("").Topic(address), sign(kind, asKitchen(t, v, strings.TrimSpace(string(id)), session, 1_000_000+n)))
				n++
			}
		}
	}
	refused(mark, "dominion/domain/kitchen/status", "field address")
	refused(mark, "dominion/domain/kitchen/status", "field services.address")
	t.Logf("%d payloads", n)

	t.Log("all is started anew, by what is held now")
	agent.Stop()
	kitchen.Start()
	mark = o.Now()
	publish("admin", "dominion/service/web/set", []byte("RESTART"))
	o.Await("web runs again", mark, func(m Message) bool {
		return m.Topic == "dominion/service/web/status" && strings.Contains(m.Payload, `"state":"running"`)
	})
	if _, err := os.Stat(file); err == nil {
		t.Errorf("what somebody said was run: %s is there", file)
	}
}

// asKitchen makes a payload one that the hub takes for kitchen's, but for the
// text that was replaced.
func asKitchen(t *testing.T, v topicstest.Variant, id, session string, seq int) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(v.Payload, &m); err != nil {
		t.Fatal(err)
	}
	set := func(m map[string]any, field, key string, value any) {
		if _, has := m[key]; has && v.Field != field+key {
			m[key] = value
		}
	}
	set(m, "", "id", id)
	set(m, "", "name", "kitchen")
	set(m, "", "session", session)
	set(m, "", "seq", seq)
	set(m, "", "micro", false)
	set(m, "", "draining", false)
	if list, ok := m["services"].([]any); ok {
		if i, ok := list[0].(map[string]any); ok {
			set(i, "services.", "service", "bell")
			set(i, "services.", "health", "healthy")
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
