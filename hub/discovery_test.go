package hub_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A hub that starts again tells Home Assistant nothing that it was told before,
// although it has not heard of a temperature yet: Home Assistant would take
// entities away and set them up anew.
func TestDiscoveryIsToldOnce(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		warm := 41.5
		kitchen.say(topics.DomainMetrics, string(topics.Encode(topics.Metrics{Temperature: &warm})))
		time.Sleep(4 * time.Second)
		status := h.last("dominion/domain/kitchen/status")
		kitchen.leave()
		h.stop()

		h.before = []topics.Message{{Topic: "dominion/domain/kitchen/status", Payload: []byte(status), Retain: true}}
		hot := false
		for topic, payload := range h.retained {
			if strings.HasPrefix(topic, "homeassistant/") {
				hot = hot || strings.Contains(payload, "value_json.temperature")
				h.before = append(h.before, topics.Message{Topic: topic, Payload: []byte(payload), Retain: true})
			}
		}
		if len(h.before) != 6 || !hot { // the status; hub, domain, three services
			h.Fatalf("%d messages, with a temperature %v", len(h.before), hot)
		}
		h.mu.Lock()
		h.said = nil
		h.mu.Unlock()
		h.start()
		time.Sleep(15 * time.Second)
		again := 0
		for _, topic := range h.said {
			if strings.HasPrefix(topic, "homeassistant/") {
				again++
			}
		}
		if told := again - (len(h.before) - 1); told != 0 { // those of before were seen too
			h.Errorf("%d devices were told of again", told)
		}
	})
}
