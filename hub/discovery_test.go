package hub_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// configs counts what was published for Home Assistant since the last call, and
// forgets all that was published.
func (h *home) configs() (n int) {
	h.last("")
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, topic := range h.published {
		if strings.HasPrefix(topic, "homeassistant/device/") {
			n++
		}
	}
	h.published = nil
	return n
}

// config is the topic of a device's config: "hub", "service_lamp".
func (h *home) config(thing string) string {
	return "homeassistant/device/dominion_" + h.hub.ID()[:8] + "_" + thing + "/config"
}

// again starts the hub again with all that the broker has retained.
func (h *home) again() {
	h.stop()
	h.before = nil
	for topic, payload := range h.retained {
		retained := strings.HasPrefix(topic, "homeassistant/device/") || strings.HasSuffix(topic, "/status") || strings.HasSuffix(topic, "/condition") || topic == h.tree.Hub(topics.HubDiscovery)
		if retained && payload != "" {
			h.before = append(h.before, topics.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true})
		}
	}
	h.start()
	time.Sleep(15 * time.Second)
}

// A hub that starts again announces nothing to Home Assistant that was announced before,
// although no temperature was reported yet: Home Assistant would take
// entities away and set them up again.
func TestDiscoveryIsPublishedOnce(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		warm := 41.5
		kitchen.say(topics.DomainMetrics, string(topics.Encode(topics.Metrics{Temperature: &warm})))
		time.Sleep(15 * time.Second)
		if n := h.configs(); n < 5 || n > 6 { // hub, domain (perhaps before its temperature), three services
			h.Errorf("%d configs at first", n)
		}
		if got := h.last(h.config("domain_kitchen")); !strings.Contains(got, "value_json.temperature") {
			h.Errorf("no temperature: %s", got)
		}
		time.Sleep(time.Hour)
		if n := h.configs(); n != 0 {
			h.Errorf("%d configs without need", n)
		}
		kitchen.leave()
		h.again()
		h.mu.Lock()
		before := 0
		for _, m := range h.before {
			if strings.HasPrefix(m.Topic, "homeassistant/") {
				before++
			}
		}
		h.mu.Unlock()
		if n := h.configs() - before; before != 5 || n != 0 { // those of before were received too
			h.Errorf("%d of %d devices were told of again", n, before)
		}
	})
}

// Restarting is what happens most: a hundred services that all restart are no
// reason to tell Home Assistant of devices, and a bounded number of states.
func TestAHundredServicesRestartWithoutAFlood(t *testing.T) {
	const many = 100
	var toml strings.Builder
	var names []string
	for i := range many {
		name := fmt.Sprintf("s%02d", i)
		names = append(names, name)
		fmt.Fprintf(&toml, "[services.%s]\npriority = \"required\"\n", name)
	}
	inHome(t, toml.String(), func(h *home) {
		kitchen := h.agent("kitchen", nil, names...)
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		var stamps []time.Time
		var statuses int
		h.mu.Lock()
		h.answered = func(m topics.Message) {
			if strings.HasPrefix(m.Topic, "homeassistant/device/") {
				stamps = append(stamps, time.Now())
			}
			if strings.HasPrefix(m.Topic, "dominion/service/") && strings.HasSuffix(m.Topic, "/status") {
				statuses++
			}
		}
		h.mu.Unlock()
		time.Sleep(10 * time.Second)
		peak := func() (most int) {
			for i := range stamps {
				n := 0
				for _, s := range stamps[i:] {
					if s.Sub(stamps[i]) < time.Second {
						n++
					}
				}
				most = max(most, n)
			}
			return most
		}
		h.mu.Lock()
		if len(stamps) < many+1 || len(stamps) > many+3 || peak() > 210 {
			h.Errorf("%d configs at first, %d in a second at most", len(stamps), peak())
		}
		stamps, statuses = nil, 0
		h.mu.Unlock()

		kitchen.mu.Lock()
		for name, i := range kitchen.running { // they all crash, and are started again
			i.State, i.Health, i.Restarts = topics.Backoff, topics.UnknownHealth, i.Restarts+1
			kitchen.running[name] = i
		}
		kitchen.mu.Unlock()
		kitchen.report()
		time.Sleep(2 * time.Second)
		kitchen.mu.Lock()
		for name, i := range kitchen.running {
			i.State, i.Health = topics.Running, topics.Healthy
			kitchen.running[name] = i
		}
		kitchen.mu.Unlock()
		kitchen.report()
		time.Sleep(time.Minute)
		h.mu.Lock()
		if len(stamps) != 0 || statuses != 2*many {
			h.Errorf("%d configs and %d statuses for %d restarts", len(stamps), statuses, many)
		}
		stamps, statuses = nil, 0
		h.mu.Unlock()

		h.publish("homeassistant/status", "online", false)
		time.Sleep(time.Minute)
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(stamps) != many+2 || statuses != many || peak() > 210 {
			h.Errorf("at a birth %d configs, %d in a second at most, and %d statuses", len(stamps), peak(), statuses)
		}
	})
}

// At the birth of Home Assistant configs, availability and states are published
// again, after a moment; domains are asked to do the same.
func TestBirthIsAnswered(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(20 * time.Second)
		h.configs()
		h.publish("homeassistant/status", "online", true) // the broker does not tell that it is old: it is not
		h.hub.Deliver(topics.Message{Topic: "homeassistant/status", Payload: []byte("online"), Retain: true})
		time.Sleep(900 * time.Millisecond)
		if n := h.configs(); n != 0 {
			h.Errorf("%d configs at once", n)
		}
		time.Sleep(10 * time.Second)
		h.last("")
		h.mu.Lock()
		all := slices.Clone(h.published)
		h.mu.Unlock()
		for _, topic := range []string{
			h.config("hub"), h.config("domain_kitchen"), h.config("service_lamp"), h.config("service_web"), h.config("service_orchestrator"),
			"dominion/hub/availability", "dominion/hub/status", "dominion/domain/kitchen/condition", "dominion/domain/kitchen/command",
			"dominion/service/lamp/status", "dominion/service/web/status", "dominion/service/orchestrator/status",
		} {
			n := 0
			for _, s := range all {
				if s == topic {
					n++
				}
			}
			if n != 1 {
				h.Errorf("%s was said %d times", topic, n)
			}
		}
		if config, state := slices.Index(all, h.config("service_web")), slices.Index(all, "dominion/service/web/status"); config > state {
			h.Error("the state before the config")
		}
		h.configs()
		time.Sleep(time.Hour)
		if n := h.configs(); n != 0 {
			h.Errorf("%d configs without need", n)
		}
	})
}

// A person deletes a device in Home Assistant, which publishes empty configs
// for that: it stays deleted over restarts of both, until it is defined again.
func TestADeletedDeviceStaysDeleted(t *testing.T) {
	inHome(t, chain, func(h *home) {
		time.Sleep(15 * time.Second)
		topic := h.config("service_lamp")
		for range 3 { // one for each entity
			h.publish(topic, "", true)
		}
		away := func(when string) {
			h.Helper()
			time.Sleep(time.Minute)
			if got := h.last(topic); got != "" {
				h.Errorf("%s: it is back", when)
			}
		}
		away("deleted")
		h.publish("dominion/service/lamp/set", "OFF", false)
		away("its state changes")
		h.publish("homeassistant/status", "online", false)
		away("at a birth")
		h.again()
		away("after a restart of the hub")
		h.hub.Reload(load(h.T, chain), nil)
		away("the same configuration")
		if h.last(h.config("service_web")) == "" {
			h.Error("the others went, too")
		}
		h.hub.Reload(load(h.T, strings.Replace(chain, "[services.lamp]", "[services.lamp]\nstop_timeout = \"3s\"", 1)), nil)
		time.Sleep(10 * time.Second)
		if h.last(topic) == "" {
			h.Error("it has another definition and stays away")
		}
	})
}

// The same while the hub is away, by a broker that goes on: the config is
// missing when it is back. What a broker lost is published again.
func TestADeviceThatWasDeletedWhileTheHubWasAway(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		kitchen.leave()
		lamp, web, domain := h.config("service_lamp"), h.config("service_web"), h.config("domain_kitchen")
		h.mu.Lock()
		delete(h.retained, lamp)
		delete(h.retained, domain) // of which the hub receives nothing for a while
		h.mu.Unlock()
		for _, again := range []string{"after the deletion", "after one more start"} {
			h.again()
			if h.last(lamp) != "" || h.last(web) == "" {
				h.Errorf("%s: lamp %.20q, web %.20q", again, h.last(lamp), h.last(web))
			}
		}
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		kitchen.leave()
		if h.last(domain) != "" || h.last("dominion/domain/kitchen/condition") == "" {
			h.Errorf("the domain: %.20q", h.last(domain))
		}
		h.mu.Lock()
		delete(h.retained, web)
		delete(h.retained, h.tree.Hub(topics.HubDiscovery))
		h.mu.Unlock()
		h.again()
		if h.last(web) == "" || h.last(lamp) != "" {
			h.Errorf("a broker that lost it: lamp %.20q, web %.20q", h.last(lamp), h.last(web))
		}
	})
}

// A service that is gone from the configuration while Home Assistant is away is
// made known to it at its birth, to be removed: it removes what it knows alone.
func TestRemovalReachesHomeAssistantThatWasAway(t *testing.T) {
	inHome(t, chain+"[services.extra]\n", func(h *home) {
		time.Sleep(15 * time.Second)
		topic := h.config("service_extra")
		if h.last(topic) == "" {
			h.Fatal("not announced")
		}
		h.cfg = load(h.T, chain)
		h.cfg.DataDir = h.dataDir
		h.again()
		if got := h.last(topic); got != "" {
			h.Errorf("still %s", got)
		}
		h.again() // once more: it is on disk
		var sent []string
		h.mu.Lock()
		h.answered = func(m topics.Message) {
			if m.Topic == topic {
				sent = append(sent, fmt.Sprintf("%d", min(len(m.Payload), 1)))
			}
		}
		h.mu.Unlock()
		for range 2 { // the second time there is nothing left to be published
			h.publish("homeassistant/status", "online", false)
			time.Sleep(time.Minute)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if !slices.Equal(sent, []string{"1", "0"}) {
			h.Errorf("published %q, want it announced and removed", sent)
		}
	})
}

// A version before this one had an entity under another name.
func TestAnUpgradeThatRenamesAnEntity(t *testing.T) {
	inHome(t, chain, func(h *home) {
		time.Sleep(15 * time.Second)
		now := h.last(h.config("service_lamp"))
		old := strings.Replace(now, `"components":{`, `"components":{"mode":{"platform":"sensor","unique_id":"old_mode","state_topic":"x"},`, 1)
		h.stop()
		if err := os.Remove(filepath.Join(h.dataDir, "homeassistant.json")); err != nil { // that version had none
			h.Fatal(err)
		}
		h.before = []topics.Message{{Topic: h.config("service_lamp"), Payload: []byte(old), QoS: 1, Retain: true}}
		h.start()
		time.Sleep(15 * time.Second)
		if got := h.last(h.config("service_lamp")); !strings.Contains(got, `"mode":{"platform":"sensor"}`) {
			h.Errorf("it does not go: %s", got)
		}
		h.publish("homeassistant/status", "online", false)
		time.Sleep(time.Minute)
		if got := h.last(h.config("service_lamp")); got != now {
			h.Errorf("it is not left out: %s", got)
		}
	})
}

// A domain that is away is a problem, and the hub publishes that: the domain
// cannot, and its other entities are not available.
func TestConditionOfADomain(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		see := func() topics.Condition { return get[topics.Condition](h, "dominion/domain/kitchen/condition") }
		if c := see(); c.Problem || c.Reason != "" || c.State != topics.DomainIsOnline || c.Domain != "kitchen" {
			h.Errorf("%+v", c)
		}
		kitchen.kill()
		time.Sleep(5 * time.Second)
		if c := see(); !c.Problem || !strings.Contains(c.Reason, "lost") || c.State != topics.DomainIsLost {
			h.Errorf("%+v", c)
		}
		h.publish("dominion/domain/esp/status", `{"name":"esp","micro":true,"services":[]}`, true)
		h.publish("dominion/domain/esp/availability", "online", true)
		h.publish("dominion/domain/esp/availability", "offline", true)
		if c := get[topics.Condition](h, "dominion/domain/esp/condition"); !c.Problem || !strings.Contains(c.Reason, "offline") {
			h.Errorf("%+v", c)
		}
		time.Sleep(10 * time.Second)
		if got := h.last(h.config("domain_esp")); !strings.Contains(got, "Microdomain") {
			h.Errorf("the microdomain is not shown: %s", got)
		}
	})
}

// A certificate is reported before it ends, again and again, and no more once it
// was renewed.
func TestCertificateExpires(t *testing.T) {
	inHome(t, chain, func(h *home) {
		h.stop()
		until := time.Now().Add(40 * 24 * time.Hour)
		var shown atomic.Pointer[time.Time] // the hub's loop reads it
		shown.Store(&until)
		h.until = func() time.Time { return *shown.Load() }
		h.start()
		time.Sleep(time.Minute)
		if s := h.status(); !s.CertificateExpires.Equal(until) || s.Problem != "" {
			h.Errorf("%+v", s)
		}
		if got := h.last(h.config("hub")); !strings.Contains(got, "certificate_expires") {
			h.Errorf("not shown: %s", got)
		}
		for _, step := range []struct {
			days, events int
			problem      string
		}{
			{9, 0, ""}, {2, 1, "expires on 2000-02-10"}, {10, 1, "expires"}, {13, 2, "expires"}, {5, 3, "expires"}, {2, 4, "expired on"}, {10, 4, "expired on"},
		} {
			time.Sleep(time.Duration(step.days) * 24 * time.Hour)
			if got := h.status().Problem; h.count(topics.CertificateExpires) != step.events || !strings.Contains(got, step.problem) || step.events > 0 && got == "" {
				h.Errorf("%s: %d events, problem %q; want %d and %q", time.Until(until), h.count(topics.CertificateExpires), got, step.events, step.problem)
			}
		}
		renewed := time.Now().Add(365 * 24 * time.Hour)
		shown.Store(&renewed)
		time.Sleep(2 * time.Hour)
		if s := h.status(); s.Problem != "" || !s.CertificateExpires.Equal(renewed) || h.count(topics.CertificateExpires) != 4 {
			h.Errorf("renewed: %+v", s)
		}
	})
}

// Two certificates are each reported, and the earlier end is shown.
func TestTwoCertificatesExpire(t *testing.T) {
	inHome(t, chain, func(h *home) {
		h.stop()
		brokers, https := time.Now().Add(20*24*time.Hour), time.Now().Add(10*24*time.Hour)
		h.until, h.untilWeb = func() time.Time { return brokers }, func() time.Time { return https }
		h.start()
		time.Sleep(time.Minute)
		s := h.status()
		if !s.CertificateExpires.Equal(https) || h.count(topics.CertificateExpires) != 2 {
			h.Errorf("%d events, %+v", h.count(topics.CertificateExpires), s)
		}
		for _, want := range []string{"the broker's certificate expires on 2000-01-21", "the certificate of HTTPS expires on 2000-01-11", "http.cert_file"} {
			if !strings.Contains(s.Problem, want) {
				h.Errorf("%q is not in %q", want, s.Problem)
			}
		}
	})
}

// An address of HTTP that is taken is a problem until it is free.
func TestTakenAddressOfHTTP(t *testing.T) {
	inHome(t, chain, func(h *home) {
		h.hub.HTTPProblems([]string{"nothing is served at 127.0.0.1:8080"})
		time.Sleep(time.Second)
		if s := h.status(); !strings.Contains(s.Problem, "127.0.0.1:8080") {
			h.Errorf("problem %q", s.Problem)
		}
		h.hub.HTTPProblems(nil)
		time.Sleep(time.Second)
		if s := h.status(); s.Problem != "" {
			h.Errorf("problem %q once it is free", s.Problem)
		}
	})
}

// The button in Home Assistant publishes {} and nothing else.
func TestReplan(t *testing.T) {
	inHome(t, chain, func(h *home) {
		if r := h.ask(topics.VerbReplan, `{}`); r.Status != topics.StatusOK {
			h.Errorf("%+v", r)
		}
	})
}

// The number in Home Assistant lives from what is asked for, on or off.
func TestReplicasArePublished(t *testing.T) {
	inHome(t, `
		[services.a]
		[services.b]
		priority = "required"
		[services.c]
		replicas = 3
		[services.d]
		exclusive = true
		[services.e]
		scale = { min = 2, max = 4, metric = "cpu", target = 0.5 }
	`, func(h *home) {
		time.Sleep(15 * time.Second)
		for name, want := range map[string]int{"a": 1, "b": 0, "c": 3, "d": 1, "e": 2} {
			if got := h.service(name).Replicas; got != want {
				h.Errorf("%s: %d, want %d", name, got, want)
			}
			config := h.last(h.config("service_" + name))
			if varies := strings.Contains(config, `"platform":"number"`); varies != (name != "b" && name != "d") {
				h.Errorf("%s: a number for people to choose: %v", name, varies)
			}
		}
		h.publish("dominion/service/a/set", `{"replicas": 2}`, false)
		h.publish("dominion/service/a/set", "OFF", false)
		if got := h.service("a").Replicas; got != 2 {
			h.Errorf("%d", got)
		}
	})
}
