package hub_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/hub/homeassistant"
	"github.com/jmbarzee/dominion/topics"
)

// The user that docs/how-to/home-assistant.md describes for Home Assistant may do what the
// discovery payloads ask of it, and no more.
func TestHomeAssistantsUserMayDoWhatItNeeds(t *testing.T) {
	doc, err := os.ReadFile("../docs/how-to/home-assistant.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## Give it a user\n")
	section, _, _ = strings.Cut(section, "\n## ")
	at := strings.Index(section, "    [[broker.users]]")
	if at < 0 {
		t.Fatal("no user in docs/how-to/home-assistant.md")
	}
	var toml strings.Builder
	for line := range strings.Lines(section[at:]) {
		if code, ok := strings.CutPrefix(line, "    "); ok || strings.TrimSpace(line) == "" {
			toml.WriteString(code)
		} else {
			break
		}
	}
	cfg := load(t, toml.String())
	if len(cfg.Broker.Users) != 1 || len(cfg.Broker.Rules) != 2 {
		t.Fatalf("%+v", cfg.Broker)
	}
	policy, err := access.New("dominion", "homeassistant", cfg.Broker.Rules)
	if err != nil {
		t.Fatal(err)
	}
	user := access.Client{User: cfg.Broker.Users[0].Name, ID: "ha", Role: cfg.Broker.Users[0].Role}
	may := func(a access.Action, topic string, want bool) {
		t.Helper()
		if d := policy.Decide(user, a, topic); d.Allowed != want {
			t.Errorf("%s %s: %v by %s", a, topic, d.Allowed, d.By)
		}
	}
	o := homeassistant.Options{Tree: topics.NewTree(""), HubID: "3f2a91c4-77aa", HubName: "home", Version: "1", Certificate: true, Keys: true, Embedded: true}
	for _, c := range []homeassistant.Config{
		homeassistant.Hub(o),
		homeassistant.Domain(o, homeassistant.Machine{Name: "pi", Hot: true, OS: "linux", Arch: "arm"}),
		homeassistant.Domain(o, homeassistant.Machine{Name: "esp", Micro: true}),
		homeassistant.Service(o, homeassistant.Program{Name: "web", MaxReplicas: 9, Versioned: true}),
	} {
		may(access.Deliver, c.Topic, true)
		may(access.Publish, c.Topic, true) // a person deletes the device
		var root any
		if err := json.Unmarshal(c.Payload, &root); err != nil {
			t.Fatal(err)
		}
		named := 0
		var visit func(key string, v any)
		visit = func(key string, v any) {
			switch v := v.(type) {
			case map[string]any:
				for k, inner := range v {
					visit(k, inner)
				}
			case []any:
				for _, inner := range v {
					visit(key, inner)
				}
			case string:
				switch {
				case key == "command_topic":
					named++
					at, _ := o.Tree.Parse(v)
					may(access.Publish, v, !topics.ForAdmins(at.Verb) || at.Verb == "") // codes are for admins
					may(access.Deliver, v, false)
				case key == "topic" || strings.HasSuffix(key, "_topic"):
					named++
					may(access.Subscribe, v, true)
					may(access.Deliver, v, true)
					may(access.Publish, v, false)
				}
			}
		}
		visit("", root)
		if named < 2 {
			t.Errorf("%s names %d topics", c.Topic, named)
		}
	}
	may(access.Publish, "homeassistant/status", true)
	for _, filter := range []string{"homeassistant/device/+/config", "homeassistant/sensor/+/+/config", "homeassistant/status", "zigbee2mqtt/#", "homeassistant/device/x/removed"} {
		may(access.Subscribe, filter, true)
	}
	for _, topic := range []string{"dominion/domain/pi/services/set", "dominion/domain/pi/command", "dominion/request/forget", "dominion/request/user", "dominion/hub/status"} {
		may(access.Publish, topic, false)
	}
	may(access.Deliver, "dominion/domain/pi/services/set", false)
}
