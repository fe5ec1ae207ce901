package hub_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// move starts the hub again with other prefixes, at a broker that retained all.
func (h *home) move(prefix, discovery string, change func(retained map[string]string)) {
	h.stop()
	h.mu.Lock()
	retained := maps.Clone(h.retained)
	h.mu.Unlock()
	for topic, payload := range retained {
		if payload != "" && strings.HasSuffix(topic, "/availability") {
			retained[topic] = topics.Offline // its will
		}
	}
	if change != nil {
		change(retained)
	}
	h.before = nil
	for topic, payload := range retained {
		if strings.HasPrefix(topic, prefix+"/") && strings.HasSuffix(topic, "/services/set") {
			continue // the scripted agent takes none while it connects
		}
		if payload != "" && !strings.HasPrefix(topic, "$") && !strings.HasSuffix(topic, "/event") && !strings.Contains(topic, "/request/") && !strings.Contains(topic, "/response/") {
			h.before = append(h.before, topics.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true})
		}
	}
	h.cfg.TopicPrefix, h.cfg.HomeAssistant.DiscoveryPrefix = prefix, discovery
	h.tree = topics.NewTree(prefix)
	h.start()
}

// below lists what is retained below a prefix.
func (h *home) below(prefix string) (all []string) {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for topic, payload := range h.retained {
		if strings.HasPrefix(topic, prefix) && payload != "" {
			all = append(all, topic)
		}
	}
	slices.Sort(all)
	return all
}

// Another topic_prefix or discovery_prefix: what was published below the former one
// is taken back, all of it, and nothing of it is done to another dominion.
func TestAnotherPrefixTakesBackWhatWasPublished(t *testing.T) {
	inHome(t, "[services.lamp]\nreplicas = 1\n", func(h *home) {
		joined := func(name string) *agent {
			a := h.agent(name, nil, "lamp")
			if err := a.join(); err != nil {
				h.Fatal(err)
			}
			a.say(topics.DomainMetrics, string(topics.Encode(topics.Metrics{Services: map[string]topics.Usage{"lamp": {CPU: 1}}})))
			time.Sleep(20 * time.Second)
			return a
		}
		file := func() string {
			b, err := os.ReadFile(filepath.Join(h.cfg.DataDir, "hub.json"))
			if err != nil {
				h.Fatal(err)
			}
			return string(b)
		}
		const plug = "homeassistant/switch/plug/config"
		h.publish(plug, `{"device":{"identifiers":["plug"],"name":"Plug"},"unique_id":"plug","command_topic":"plug/set"}`, true)
		kitchen := joined("kitchen")
		attic := joined("attic")
		before := h.below("dominion/")
		for _, one := range []string{
			"hub/availability", "hub/status", "hub/discovery", "service/lamp/status", "service/lamp/endpoints", "service/lamp/endpoint", "service/lamp/metrics",
			"domain/kitchen/condition", "domain/kitchen/services/set", "domain/kitchen/status", "domain/kitchen/availability", "device/plug-e9b1fd4259ae/status",
		} {
			if !slices.Contains(before, "dominion/"+one) {
				h.Fatalf("%s is not there: %q", one, before)
			}
		}

		// An empty state makes templates complain where Home Assistant still reads it.
		h.answered = func(m topics.Message) {
			if len(m.Payload) > 0 || !strings.HasPrefix(m.Topic, "dominion/") {
				return
			}
			for topic, payload := range h.retained {
				if strings.HasSuffix(topic, "/config") && strings.Contains(payload, `"`+m.Topic+`"`) {
					h.Errorf("%s is cleared while Home Assistant reads it, by %s", m.Topic, topic)
				}
			}
		}

		h.Log("another topic_prefix; attic has the former one in its configuration yet")
		kitchen.leave()
		attic.leave()
		h.move("house", "homeassistant", nil)
		kitchen = joined("kitchen")
		want := []string{"dominion/domain/attic/availability", "dominion/domain/attic/condition", "dominion/domain/attic/heartbeat", "dominion/domain/attic/metrics", "dominion/domain/attic/status", "dominion/hub/availability", "dominion/hub/status"}
		if got := h.below("dominion/"); !slices.Equal(got, want) {
			h.Errorf("below the former prefix: %q", got)
		}
		if got := h.last(h.config("service_lamp")); strings.Contains(got, "dominion/service") || !strings.Contains(got, "house/service/lamp/status") {
			h.Error(got)
		}
		if !strings.Contains(file(), `"former_prefixes"`) {
			h.Errorf("the former prefix is forgotten: %s", file())
		}

		h.Log("the hub is started again before attic comes")
		kitchen.leave()
		h.move("house", "homeassistant", nil)
		kitchen = joined("kitchen")
		if got := h.below("dominion/"); !slices.Equal(got, want) {
			h.Errorf("below the former prefix after another start: %q", got)
		}
		attic = joined("attic")
		if got := h.below("dominion/"); len(got) > 0 {
			h.Errorf("once attic has come: %q", got)
		}
		if strings.Contains(file(), `"former_prefixes"`) {
			h.Errorf("nothing is left, and it is remembered: %s", file())
		}

		h.Log("another discovery_prefix")
		kitchen.leave()
		attic.leave()
		h.move("house", "ha", nil)
		kitchen, attic = joined("kitchen"), joined("attic")
		if got := h.below("homeassistant/"); !slices.Equal(got, []string{plug}) {
			h.Errorf("below the former discovery_prefix: %q", got)
		}
		if got := h.below("ha/"); len(got) != 4 {
			h.Errorf("below the new one: %q", got)
		}
		if got := h.below("dominion/"); len(got) > 0 {
			h.Errorf("below the first prefix: %q", got)
		}

		h.Log("another dominion has the former prefix now")
		kitchen.leave()
		attic.leave()
		h.move("third", "ha", func(retained map[string]string) {
			retained["house/hub/status"] = strings.ReplaceAll(retained["house/hub/status"], h.hub.ID(), "6d2f6c9d-77aa-4c1e-9a52-0c4f1f3c0d11")
		})
		retained := h.below("house/")
		kitchen = joined("kitchen")
		time.Sleep(time.Minute)
		if got := h.below("house/"); !slices.Equal(got, retained) || len(got) < 10 {
			h.Errorf("of another dominion there is left %q", got)
		}
		if strings.Contains(file(), `"former_prefixes"`) {
			h.Errorf("it is another's, and it is remembered: %s", file())
		}
		kitchen.leave()
	})
}
