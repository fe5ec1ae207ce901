package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The device of a microdomain and that of its firmware are one in Home Assistant,
// whichever of the two is announced first, and after a restart of the hub.
func TestAMicrodomainIsOneDeviceWithItsFirmware(t *testing.T) {
	const (
		firmware = "homeassistant/switch/esp/light/config"
		announce = `{"name":"Light","stat_t":"esp/light","cmd_t":"esp/light/set","avty_t":"dominion/domain/esp/availability","uniq_id":"light",` +
			`"dev":{"ids":"a4cf12ef3b70","name":"Porch","sw":"2026.10.1","mdl":"d1_mini","mf":"Espressif","cns":[["mac","a4:cf:12:ef:3b:70"]]}}`
		one = `"device":{"identifiers":["a4cf12ef3b70"],"connections":[["mac","a4:cf:12:ef:3b:70"]],"name":"Porch","manufacturer":"Espressif","model":"d1_mini","model_id":"Microdomain"`
	)
	for _, tt := range []struct {
		first    string
		awake    bool // Home Assistant is there
		messages int
	}{
		{"microdomain", true, 4}, // its config, its triggers go, it goes, its config
		{"firmware", true, 1},
		{"microdomain", false, 2},
		{"firmware", false, 1},
	} {
		t.Run(fmt.Sprintf("%s first, Home Assistant is there: %v", tt.first, tt.awake), func(t *testing.T) {
			inHome(t, "[services.button]\n", func(h *home) {
				first, topic := tt.first, h.config("domain_esp")
				if tt.awake {
					h.publish("homeassistant/status", "online", false)
				}
				time.Sleep(15 * time.Second)
				if first == "firmware" {
					h.publish(firmware, announce, true)
					time.Sleep(5 * time.Second)
				}
				h.esp("esp", "button")
				time.Sleep(5 * time.Second)
				if first == "microdomain" {
					if got := h.last(topic); !strings.Contains(got, h.hub.ID()[:8]+`_domain_esp"],"name":"esp"`) {
						h.Errorf("without firmware: %s", got)
					}
					h.publish(firmware, announce, true)
				}
				time.Sleep(30 * time.Second)
				got := h.last(topic)
				if !strings.Contains(got, one) {
					h.Errorf("they are two: %s", got)
				}
				removed := 0
				h.mu.Lock()
				for _, published := range h.published {
					if published == topic {
						removed++
					}
				}
				h.mu.Unlock()
				if removed != tt.messages {
					h.Errorf("%d configs and removals, want %d", removed, tt.messages)
				}
				h.publish(firmware, "", true) // as after a restart of a broker that keeps nothing
				time.Sleep(10 * time.Second)
				h.again()
				if again := h.last(topic); again != got {
					h.Errorf("after a restart of the hub\n%s\nbefore\n%s", again, got)
				}
			})
		})
	}
}
