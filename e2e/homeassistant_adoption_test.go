package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// The real Home Assistant, connected by TLS as a user of the role admin, shows a machine that
// waits, adopts it by its code, whichever machine that is, and opens and closes the window. What
// was typed into the field is shown and recorded by nobody.
func TestHomeAssistantAdopts(t *testing.T) {
	home := onEmbedded(t)
	ha := newHomeAssistant(t, home.Host("homeassistant"))
	password := filepath.Join(home.Hub.Dir, "password")
	home.must(os.WriteFile(password, []byte("of Home Assistant\n"), 0o600))
	home.adoptionHub(fmt.Sprintf("[[broker.users]]\nname = \"homeassistant\"\npassword_file = %q\nrole = \"admin\"\n", password))
	hub := home.startAskingHub()
	attic, cellar := home.Domain("attic"), home.Domain("cellar")
	for _, d := range []*Domain{attic, cellar} {
		d.Configure(nil, home.hubAt())
		d.startAsking()
	}
	ha.Start()
	home.awaitState("attic", topics.DomainIsWaiting)
	waiting := home.awaitState("cellar", topics.DomainIsWaiting)
	ca := home.control("ca")
	if ca.Code != 0 {
		t.Fatalf("ca: %+v", ca)
	}
	ha.AddMQTTS(home.Hub.Address(), "homeassistant", "of Home Assistant", []byte(ca.Stdout))

	const (
		count, code, window, event = "sensor.dominion_machines_waiting", "text.dominion_adoption_code", "switch.dominion_permit_join", "event.dominion_event"
		wrong                      = "k7qf-2m9x-4t1r"
	)
	ha.Until(wellAgain, "two machines wait, with name, address and key", func(s haStates) bool {
		all := fmt.Sprint(s[count].Attributes["machines"])
		return s.Is("2", count) && s.Is("", code) && s.Is("off", window) &&
			strings.Contains(all, "cellar") && strings.Contains(all, waiting.Key) && strings.Contains(all, cellar.Address())
	})

	ha.Call("text.set_value", code, map[string]any{"value": wrong})
	ha.Until(wellAgain, "a wrong code is reported", func(s haStates) bool {
		return strings.Contains(fmt.Sprint(s[event].Attributes["message"]), "the code is wrong; the next one is taken in 1s")
	})
	time.Sleep(2 * time.Second) // which is what is promised
	ha.Call("text.set_value", code, map[string]any{"value": strings.ToLower(cellar.code())})
	home.awaitState("cellar", topics.DomainIsOnline)
	ha.Until(wellAgain, "the cellar is adopted, and the attic waits", func(s haStates) bool {
		return s.Is("1", count) && s.Is("on", "binary_sensor.dominion_cellar") && s.Is("", code)
	})
	home.event(topics.DomainAdopted, "cellar")
	if state := home.domains()["attic"].State; state != topics.DomainIsWaiting {
		t.Errorf("the attic is %s", state)
	}

	ha.Call("switch.turn_on", window, nil)
	ha.Until(wellAgain, "the window is open, and says until when", func(s haStates) bool {
		return s.Is("on", window) && s[window].Attributes["until"] != nil && fmt.Sprint(s[window].Attributes["left"]) == "1"
	})
	if r := home.control("status"); !strings.Contains(r.Stdout, "window open until") {
		t.Errorf("status:\n%s", r.Stdout)
	}
	ha.Call("switch.turn_off", window, nil)
	ha.Until(wellAgain, "the window is closed", func(s haStates) bool { return s.Is("off", window) && s[window].Attributes["until"] == nil })

	for name, process := range map[string]*Process{"the hub": hub, "Home Assistant": ha.process} {
		if log := strings.ReplaceAll(strings.ToLower(process.tail(1<<20)), "-", ""); strings.Contains(log, strings.ReplaceAll(wrong, "-", "")) {
			t.Errorf("the code is in the log of %s", name)
		}
	}
}
