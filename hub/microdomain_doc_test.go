package hub_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/topics"
)

// microdomainDoc returns a block of docs/microdomain.md.
func microdomainDoc(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile("../docs/microdomain.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```"+language+"\n")
	block, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatalf("docs/microdomain.md has no block of %s", language)
	}
	return block
}

// message is one `{topic: …, payload: …, qos: …, retain: …}` of ESPHome.
var message = regexp.MustCompile(`(birth|will|shutdown)_message: \{topic: (\S+), payload: (\S+), qos: (\d), retain: (\w+)\}`)

// assignment is one line of the lambda that makes the status.
var assignment = regexp.MustCompile(`(?m)^ *root((?:\[[^\]]+\])+) = (.+);$`)

// espStatus does what ESPHome's publish_json does with the lambda's lines.
func espStatus(t *testing.T, yaml string) string {
	t.Helper()
	root, service := map[string]any{}, map[string]any{}
	for _, a := range assignment.FindAllStringSubmatch(yaml, -1) {
		var value any = "192.168.1.40"
		if a[2] != "id(ip).state" {
			if err := json.Unmarshal([]byte(a[2]), &value); err != nil {
				t.Fatalf("%s: %v", a[0], err)
			}
		}
		path := strings.Split(strings.Trim(a[1], "[]"), "][")
		key := strings.Trim(path[len(path)-1], `"`)
		switch {
		case len(path) == 1:
			root[key] = value
		case len(path) == 3 && path[0] == `"services"` && path[1] == "0":
			service[key] = value
		default:
			t.Fatalf("this test does not know %s", a[0])
		}
	}
	root["services"] = []any{service}
	b, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What docs/microdomain.md tells to write into an ESP and into dominion.toml
// works: topics, payloads, the user's rule, and what comes of them.
func TestMicrodomainPage(t *testing.T) {
	yaml, toml := microdomainDoc(t, "yaml"), microdomainDoc(t, "toml")
	if lines := strings.Count(yaml, "\n"); lines > 35 {
		t.Errorf("%d lines of YAML", lines)
	}
	availability := ""
	words := map[string]string{"birth": topics.Online, "will": topics.Offline, "shutdown": topics.Offline}
	for _, m := range message.FindAllStringSubmatch(yaml, -1) {
		if m[3] != words[m[1]] || m[4] != "1" || m[5] != "true" || availability != "" && m[2] != availability {
			t.Errorf("%s", m[0])
		}
		availability = m[2]
		delete(words, m[1])
	}
	if len(words) > 0 {
		t.Errorf("there is no message for %v", words)
	}
	for _, needed := range []string{"wait_until: mqtt.connected", "on_connect: [script.execute: tell]", "qos: 1\n          retain: true"} {
		if !strings.Contains(yaml, needed) {
			t.Errorf("the YAML lacks %q", needed)
		}
	}
	if strings.Contains(yaml, "clean_session") || strings.Contains(yaml, "\napi:") {
		t.Error("the YAML has what it must not")
	}
	status := regexp.MustCompile(`(?m)^ +topic: (\S+)$`).FindStringSubmatch(yaml)
	if status == nil {
		t.Fatal("the YAML publishes no status")
	}

	cfg := load(t, toml)
	policy, err := access.New("dominion", "homeassistant", cfg.Broker.Rules)
	if err != nil {
		t.Fatal(err)
	}
	user := regexp.MustCompile(`(?m)^  username: (\S+)$`).FindStringSubmatch(yaml)[1]
	node := access.Client{User: user, Role: access.RoleDevice, ID: user + "-a4cf12ef3b70"}
	for topic, may := range map[string]bool{
		availability: true, status[1]: true,
		user + "/switch/light/state": true, "homeassistant/switch/" + user + "/light/config": true, "esphome/discover/" + user: true,
		"dominion/domain/other/availability":            false,
		"dominion/domain/" + user + "/services/set":     false,
		"dominion/service/shed-light/set":               false,
		"dominion/domain/" + user + "/heartbeat":        false,
		"homeassistant/device/dominion_0123_hub/config": false,
	} {
		if d := policy.Decide(node, access.Publish, topic); d.Allowed != may {
			t.Errorf("publish to %s: %+v", topic, d)
		}
	}

	inHome(t, toml, func(h *home) {
		a := h.agent("kitchen", nil, "evening")
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		defer a.leave()
		h.publish(availability, topics.Online, true)
		h.publish(status[1], espStatus(h.T, yaml), true)
		time.Sleep(15 * time.Second)
		if got := h.last("dominion/service/shed-light/endpoints"); got != `[{"domain":"shed-lamp","address":"192.168.1.40","port":80,"version":"","healthy":true}]` {
			h.Errorf("endpoints %s", got)
		}
		if got := h.where("evening"); got != "[kitchen:running]" {
			h.Errorf("evening %s: %s", got, h.service("evening").Reason)
		}
		h.publish(availability, topics.Offline, true)
		time.Sleep(time.Second)
		page, _ := os.ReadFile("../docs/microdomain.md")
		if reason := h.service("shed-light").Reason; !strings.Contains(strings.Join(strings.Fields(string(page)), " "), "*pending: "+reason+"*") {
			h.Errorf("the page does not tell the reason %q", reason)
		}
	})

	shell := microdomainDoc(t, "sh")
	published := regexp.MustCompile(`-m '(\{.*\})'`).FindStringSubmatch(shell)
	if published == nil {
		t.Fatal("the shell says no status")
	}
	if d, err := topics.Decode[topics.Domain](status[1], []byte(published[1])); err != nil || !d.Micro || d.Name != user || d.Services[0].State != topics.Running {
		t.Errorf("%+v, %v", d, err)
	}
}
