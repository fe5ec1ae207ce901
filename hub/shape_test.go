package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Whoever sees the hub online must not see the epoch of an earlier run beside it.
func TestStatusIsThereBeforeOnline(t *testing.T) {
	inHome(t, chain, func(h *home) {
		if !h.inOrder("dominion/hub/status", "dominion/hub/availability") {
			h.Error("online before the status")
		}
	})
}

// What an earlier configuration left is cleared, Home Assistant's part first:
// its templates complain about a status that is empty.
func TestLeftoversAreClearedInOrder(t *testing.T) {
	inHome(t, chain, func(h *home) {
		config := "homeassistant/device/dominion_" + h.hub.ID()[:8] + "_service_old/config"
		h.hub.Deliver(topics.Message{Topic: config, Payload: []byte(`{"components":{"state":{"platform":"sensor","unique_id":"x"}}}`), Retain: true})
		h.hub.Deliver(topics.Message{Topic: "dominion/service/old/status", Payload: []byte(`{}`), Retain: true})
		time.Sleep(10 * time.Second)
		if !h.inOrder(config, "dominion/service/old/status") {
			h.Error("the status was cleared before the config")
		}
		if got := h.last("dominion/service/old/endpoints"); got != "" {
			h.Errorf("endpoints %q", got)
		}
	})
}

// Copies of equal rank are distinguished by the order in which the hub saw them
// run: the clocks of two machines are never compared.
func TestClocksOfMachinesDecideNothing(t *testing.T) {
	inHome(t, "[services.web]\npriority = \"required\"\n", func(h *home) {
		run := func(name, since string) {
			h.publish("dominion/domain/"+name+"/availability", "online", false)
			h.publish("dominion/domain/"+name+"/heartbeat", fmt.Sprintf(`{"id":%q,"session":"s"}`, name), false)
			h.publish("dominion/domain/"+name+"/status", fmt.Sprintf(`{"id":%q,"protocol":"1.0","address":"10.0.0.1","catalog":[{"service":"web"}],
				"services":[{"service":"web","state":"running","health":"healthy","port":80,"since":%q}]}`, name, since), false)
		}
		order := func() (names string) {
			for _, e := range get[[]topics.Endpoint](h, "dominion/service/web/endpoints") {
				names += e.Domain + " "
			}
			return names
		}
		run("c", "2030-01-01T00:00:00Z")
		run("b", "1970-01-01T00:00:00Z")
		run("a", "2000-01-01T00:00:00Z")
		if got := order(); got != "c b a " {
			h.Errorf("in the order of %s", got)
		}
		// b is lost and comes back: its copy is the youngest now
		for range 8 {
			time.Sleep(500 * time.Millisecond)
			for _, name := range []string{"a", "c"} {
				h.publish("dominion/domain/"+name+"/heartbeat", fmt.Sprintf(`{"id":%q,"session":"s"}`, name), false)
			}
		}
		if got := order(); got != "c a " {
			h.Errorf("with b lost %s", got)
		}
		run("b", "1970-01-01T00:00:00Z")
		if got := order(); got != "c a b " {
			h.Errorf("with b back %s", got)
		}
	})
}

// A microcontroller has its availability alone. While it is away it is
// offline, and what it ran is nowhere.
func TestMicrodomainGoesOffline(t *testing.T) {
	inHome(t, "[services.button]\n", func(h *home) {
		status := `{"name":"esp","micro":true,"address":"10.0.0.9","services":[{"service":"button","state":"running","port":80}]}`
		h.publish("dominion/domain/esp/status", status, true)
		h.publish("dominion/domain/esp/availability", "online", true)
		if got := h.last("dominion/service/button/endpoints"); got != `[{"domain":"esp","address":"10.0.0.9","port":80,"version":"","healthy":true}]` {
			h.Errorf("endpoints %s", got)
		}
		h.publish("dominion/domain/esp/availability", "offline", true)
		time.Sleep(time.Minute)
		var domains []topics.DomainView
		r := h.ask(topics.VerbDomains, `{}`)
		domains, err := topics.Decode[[]topics.DomainView]("", r.Data)
		if err != nil || len(domains) != 1 || domains[0].State != topics.DomainIsOffline {
			h.Errorf("%+v %v", domains, err)
		}
		if h.saw(topics.DomainLost) || h.count(topics.DomainOffline) != 1 || strings.Contains(h.event(topics.DomainOffline).Message, "stay") {
			h.Errorf("events: %s", h.story())
		}
		if got := h.last("dominion/service/button/endpoints") + h.where("button"); got != "[][]" {
			h.Errorf("its service is still told of: %s", got)
		}
		h.publish("dominion/domain/esp/availability", "online", true)
		if got := h.where("button"); got != "[esp:running]" {
			h.Errorf("back: %s", got)
		}
		if got := h.last("dominion/domain/esp/availability"); got != topics.Online {
			h.Errorf("the hub spoke for it: %s", got)
		}
	})
}

// Timing that is changed at run time is passed to the domains and obeyed.
func TestTimingIsReloaded(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen, attic := both(h)
		defer kitchen.leave()
		time.Sleep(5 * time.Second)
		was := get[topics.StartCommand](h, "dominion/domain/kitchen/services/set")
		h.hub.Reload(load(h.T, chain+"[timing]\nlost_after = \"20s\"\nheartbeat = \"2s\"\n"), nil)
		synctest.Wait()
		is := get[topics.StartCommand](h, "dominion/domain/kitchen/services/set")
		if is.Generation != was.Generation+1 || is.Timing.LostAfter.Duration() != 20*time.Second || is.Timing.Heartbeat.Duration() != 2*time.Second {
			h.Errorf("%+v", is)
		}
		attic.kill()
		time.Sleep(18 * time.Second)
		if h.saw(topics.DomainLost) {
			h.Error("lost after the old time")
		}
		time.Sleep(4 * time.Second)
		if !h.saw(topics.DomainLost) {
			h.Error("not lost after the new time")
		}
		if kitchen.started("lamp") != 1 {
			h.Error("a change of timing restarted a service")
		}
	})
}

// Askers of MQTT 3.1.1 name a topic in the payload: one of those for answers,
// and of the verb that they ask.
func TestResponseTopicInThePayload(t *testing.T) {
	inHome(t, chain, func(h *home) {
		for topic, want := range map[string]string{
			"dominion/response/version/me":   "dominion/response/version/me",
			"dominion/response/join/me":      "dominion/response/version",
			"dominion/response/version/a/b":  "dominion/response/version",
			"dominion/response/version/":     "dominion/response/version",
			"dominion/response/version/+":    "dominion/response/version",
			"clients/me/answers":             "dominion/response/version",
			"dominion/domain/d/services/set": "dominion/response/version",
			"":                               "dominion/response/version",
		} {
			got := ""
			h.mu.Lock()
			h.answered = func(m topics.Message) {
				if strings.Contains(string(m.Payload), `"transaction":"r"`) && !strings.Contains(m.Topic, "/request/") {
					got = m.Topic
				}
			}
			h.mu.Unlock()
			h.broker.Publish(topics.Message{Topic: "dominion/request/version", Payload: topics.Encode(topics.HubRequest{Transaction: "r", Response: topic}), QoS: 1})
			synctest.Wait()
			if got != want {
				h.Errorf("asked for %q, answered at %q", topic, got)
			}
		}
	})
}

// MQTT 5 askers name a topic and mark their answer. The hub speaks there, but
// not at topics where it has a voice of its own.
func TestResponseTopic(t *testing.T) {
	inHome(t, chain, func(h *home) {
		for topic, want := range map[string]string{
			"clients/me/answers":             "clients/me/answers",
			"dominion/response/mine":         "dominion/response/mine",
			"dominion/service/web/set":       "dominion/response/version",
			"homeassistant/device/x/config":  "dominion/response/version",
			"dominion":                       "dominion/response/version",
			"a/+/b":                          "dominion/response/version",
			"dominion/domain/d/services/set": "dominion/response/version",
			"":                               "dominion/response/version",
		} {
			var got topics.Message
			h.mu.Lock()
			h.answered = func(m topics.Message) {
				if strings.Contains(string(m.Payload), `"transaction":"r"`) && !strings.Contains(m.Topic, "/request/") {
					got = m
				}
			}
			h.mu.Unlock()
			h.broker.Publish(topics.Message{Topic: "dominion/request/version", Payload: []byte(`{"transaction":"r"}`), QoS: 1, ResponseTopic: topic, Correlation: []byte("c-1")})
			synctest.Wait()
			if got.Topic != want || got.Retain || got.QoS != 1 {
				h.Errorf("asked for %q, answered at %+v", topic, got)
			}
			if mark := string(got.Correlation); (mark == "c-1") != (topic == want) {
				h.Errorf("asked for %q, correlation %q", topic, mark)
			}
		}
	})
}

// A microcontroller that the embedded broker has retained as online since an
// earlier run is offline unless it says so again.
func TestPersistedMicrodomainsMustReport(t *testing.T) {
	inHome(t, "[services.button]\n", func(h *home) {
		for _, name := range []string{"dead", "alive"} {
			h.hub.Deliver(topics.Message{Topic: "dominion/domain/" + name + "/availability", Payload: []byte("online"), Retain: true})
			h.hub.Deliver(topics.Message{Topic: "dominion/domain/" + name + "/status", Payload: []byte(`{"micro":true,"services":[{"service":"button","state":"running"}]}`), Retain: true})
		}
		h.publish("dominion/domain/alive/availability", "online", true)
		if got := h.status().Domains.Online; got != 2 {
			h.Errorf("%d online at first", got)
		}
		time.Sleep(11 * time.Second)
		if got := h.where("button"); got != "[alive:running]" {
			h.Errorf("button %s", got)
		}
		if got := h.last("dominion/domain/dead/availability"); got != topics.Offline {
			h.Errorf("nobody is told: %q", got)
		}
	})
}

// A microcontroller's service is reached by endpoints where it says address
// and port, and the configuration knows the service.
func TestEndpointsOfAMicrocontroller(t *testing.T) {
	inHome(t, `
		[services.button]
		[services.bell]
	`, func(h *home) {
		for name, status := range map[string]string{
			"esp":  `{"name":"esp","micro":true,"address":"10.0.0.9","services":[{"service":"button","state":"running","port":80}]}`,
			"bell": `{"name":"bell","micro":true,"services":[{"service":"bell","state":"running","port":80}]}`,
			"fan":  `{"name":"fan","micro":true,"address":"10.0.0.10","services":[{"service":"fan","state":"running","port":80}]}`,
		} {
			h.publish("dominion/domain/"+name+"/availability", "online", true)
			h.publish("dominion/domain/"+name+"/status", status, true)
		}
		time.Sleep(15 * time.Second)
		for service, want := range map[string]string{
			"button": `[{"domain":"esp","address":"10.0.0.9","port":80,"version":"","healthy":true}]`,
			"bell":   "[]", // it does not say where
			"fan":    "",   // nobody knows it
		} {
			if got := h.last("dominion/service/" + service + "/endpoints"); got != want {
				t.Errorf("endpoints of %s: %s, want %s", service, got, want)
			}
		}
	})
}
