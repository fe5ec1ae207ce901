package hub_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const webAlone = `
	[services.web]
	replicas = 1
	health = { http = "/health" }
	[services.worker]
	replicas = 1
`

// What a person looks for of a service is in its status: its page, its last error,
// the release notes of its newest version. It is there after a restart of the hub,
// and where the service moves its page moves with it.
func TestDetailsOfAService(t *testing.T) {
	inHome(t, webAlone, func(h *home) {
		a := h.agent("kitchen", nil, "web", "worker")
		a.catalog[0].ReleaseURL, a.catalog[0].Summary = "https://example.com/1.0.0", "The first."
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		v := h.service("web")
		if v.Link != "http://10.0.0.7:20000/" || v.LastError != nil {
			h.Errorf("%+v", v)
		}
		if u := v.Update; u.ReleaseURL != "https://example.com/1.0.0" || u.Summary != "The first." {
			h.Errorf("%+v", u)
		}
		if v := h.service("worker"); v.Link != "" || v.Update.ReleaseURL != "" {
			h.Errorf("nobody says that it has a page: %+v", v)
		}
		if got := h.last("dominion/service/web/endpoint"); got != "10.0.0.7:20000" {
			h.Errorf("the best endpoint is %q", got)
		}
		config := h.last(h.config("service_web"))
		if !strings.Contains(config, `"configuration_url":"http://10.0.0.7:20000/"`) {
			h.Error(config)
		}

		a.say(topics.DomainEvent, `{"type":"service_crashed","service":"web","message":"exit code 3; next try in 1 s"}`)
		time.Sleep(time.Second)
		first := h.service("web").LastError
		if first == nil || first.Domain != "kitchen" || first.Message != "exit code 3" {
			h.Fatalf("%+v", first)
		}
		time.Sleep(topics.RestartReset + time.Second)
		if v := h.service("web"); v.Problem != "" || v.LastError == nil || !v.LastError.At.Equal(first.At.Time) {
			h.Errorf("well again: %+v", v)
		}
		a.say(topics.DomainEvent, `{"type":"service_crashed","service":"web","message":"exit code 3; next try in 1 s"}`)
		time.Sleep(time.Second)
		second := h.service("web").LastError
		if !second.At.After(first.At.Time) {
			h.Errorf("once more: %+v, before %+v", second, first)
		}

		a.leave()
		h.again()
		v = h.service("web")
		if v.Link != "http://10.0.0.7:20000/" || v.LastError == nil || *v.LastError != *second {
			h.Errorf("after a restart of the hub: %+v", v)
		}
		if got := h.last(h.config("service_web")); got != config {
			h.Errorf("its config changed:\n%s\n%s", got, config)
		}
		if got := h.last("dominion/service/web/endpoint"); got != "" {
			h.Errorf("it runs nowhere, and is reached at %q", got)
		}
		b := h.agent("attic", nil, "web")
		if err := b.join(); err != nil {
			h.Fatal(err)
		}
		defer b.leave()
		time.Sleep(15 * time.Second)
		if v := h.service("web"); v.Link != "http://10.0.0.5:20000/" || v.Update.ReleaseURL != "" {
			h.Errorf("elsewhere, from a disk without release notes: %+v", v)
		}
	})
}

// A service's page is one that others reach.
func TestLinksThatOthersReach(t *testing.T) {
	inHome(t, "[services.page]\n[services.other]\nhealth = { tcp = true }\n", func(h *home) {
		for _, tt := range []struct{ service, address, port, want string }{
			{"page", "192.168.1.40", "80", "http://192.168.1.40/"},
			{"page", "shed-lamp.local", "443", "https://shed-lamp.local/"},
			{"page", "2001:db8::20", "80", "http://[2001:db8::20]/"},
			{"page", "192.168.1.40", "8080", ""},
			{"page", "127.0.0.1", "80", ""},
			{"page", "::1", "80", ""},
			{"page", "localhost", "80", ""},
			{"page", "fe80::1%eth0", "80", ""},
			{"other", "192.168.1.40", "8080", ""},
		} {
			h.publish("dominion/domain/esp/availability", "online", true)
			h.publish("dominion/domain/esp/status", `{"name":"esp","micro":true,"address":"`+tt.address+`","services":[{"service":"`+tt.service+`","state":"running","port":`+tt.port+`}]}`, true)
			time.Sleep(12 * time.Second)
			if got := h.service(tt.service).Link; got != tt.want {
				h.Errorf("%s at %s port %s: %q, want %q", tt.service, tt.address, tt.port, got, tt.want)
			}
		}
	})
}

// What a service uses is published at one topic, whatever the number of its instances,
// not more often than its domains tell it, and no longer of a domain that is lost.
func TestUsageOfAService(t *testing.T) {
	inHome(t, "[services.web]\nreplicas = 2\n", func(h *home) {
		const topic = "dominion/service/web/metrics"
		var all []*agent
		for _, name := range []string{"a", "bb"} {
			a := h.agent(name, nil, "web")
			if err := a.join(); err != nil {
				h.Fatal(err)
			}
			all = append(all, a)
		}
		published := func() (n int) {
			synctest.Wait()
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, topic := range h.published {
				if topic == "dominion/service/web/metrics" {
					n++
				}
			}
			h.published = nil
			return n
		}
		used := func(a *agent, cpu float64, memory uint64) {
			a.say(topics.DomainMetrics, string(topics.Encode(topics.Metrics{Services: map[string]topics.Usage{"web": {CPU: cpu, Memory: memory}, "unknown": {CPU: 1}}})))
			synctest.Wait()
		}
		time.Sleep(15 * time.Second)
		used(all[0], 0.1, 1000)
		time.Sleep(topics.MetricsInterval)
		used(all[1], 0.2, 500)
		time.Sleep(time.Second)
		if got, want := get[topics.ServiceUsage](h, topic), (topics.ServiceUsage{CPU: 0.3, Memory: 1500, Instances: 2}); got != want {
			h.Errorf("%+v, want %+v", got, want)
		}
		published()
		for range 20 { // ten minutes
			for i, a := range all {
				used(a, 0.1*float64(i+1), uint64(1000*(i+1)))
			}
			time.Sleep(topics.MetricsInterval)
		}
		if n := published(); n != 1 {
			h.Errorf("figures that changed once were published %d times", n)
		}
		for n := range uint64(20) {
			for _, a := range all {
				used(a, 0.1, n)
			}
			time.Sleep(topics.MetricsInterval)
		}
		if n := published(); n < 15 || n > 21 {
			h.Errorf("in ten minutes figures were published %d times", n)
		}
		all[1].kill()
		time.Sleep(time.Minute)
		if got := get[topics.ServiceUsage](h, topic); got.Instances != 1 {
			h.Errorf("after one was lost: %+v", got)
		}
		h.publish("dominion/service/web/set", "OFF", false)
		time.Sleep(5 * time.Second)
		all[0].say(topics.DomainMetrics, string(topics.Encode(topics.Metrics{Services: map[string]topics.Usage{}})))
		time.Sleep(topics.MetricsInterval)
		if got := get[topics.ServiceUsage](h, topic); got != (topics.ServiceUsage{}) {
			h.Errorf("switched off: %+v", got)
		}
		for _, topic := range []string{"dominion/service/unknown/metrics"} {
			if got := h.last(topic); got != "" {
				h.Errorf("%s is published of a service that is not defined: %s", topic, got)
			}
		}
		all[0].leave()
		h.again()
		time.Sleep(2 * topics.MetricsInterval)
		if got := get[topics.ServiceUsage](h, topic); got != (topics.ServiceUsage{}) {
			h.Errorf("a broker that forgot, and nothing is there: %+v", got)
		}
	})
}

// What a microcontroller's service has no use for is not offered, and taken back
// where it was; what a machine has too is offered again. A restart of the hub
// changes nothing of that.
func TestWhatAMicrocontrollerDoesNotObeyIsNotOffered(t *testing.T) {
	inHome(t, "[services.button]\nreplicas = 1\n", func(h *home) {
		topic := h.config("service_button")
		offered := func(want bool, when string) {
			h.Helper()
			config := h.last(topic)
			for _, key := range []string{`"switch":{"`, `"restart":{"`, `"replicas":{"`, `"update":{"`, `"cpu":{"`, `"memory":{"`, `"trigger_crashed":{"`} {
				if got := strings.Contains(config, key); got != want {
					h.Errorf("%s: %s is offered: %v\n%s", when, key, got, config)
				}
			}
			if !strings.Contains(config, `"state":{"`) || !strings.Contains(config, `"problem":{"`) {
				h.Errorf("%s: %s", when, config)
			}
		}
		h.esp("esp", "button")
		time.Sleep(15 * time.Second)
		offered(false, "a microcontroller has it")
		before := h.last(topic)
		h.unplug("esp")
		time.Sleep(time.Minute)
		offered(false, "it is away")
		h.again()
		if got := h.last(topic); got != before {
			h.Errorf("after a restart of the hub\n%s\nbefore\n%s", got, before)
		}
		a := h.agent("kitchen", nil, "button")
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		defer a.leave()
		time.Sleep(15 * time.Second)
		offered(true, "a machine has it too")
	})
}
