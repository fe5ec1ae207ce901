package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A service that publishes its health by MQTT, over the life of a hub.
func TestHealthByMQTT(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "dominion-1", 1)
		const topic = "zigbee2mqtt/pi/state"
		u.send(topic, "online", true) // of a life before
		a := h.agent(t.TempDir())
		time.Sleep(3 * time.Second)
		c := a.command("dominion-1", 1, 1, "web")
		spec := c.Services["web"]
		spec.Health = &topics.HealthCheck{MQTT: "zigbee2mqtt/<domain>/state", Payload: "online"}
		spec.StartTimeout = topics.Seconds(time.Minute)
		c.Services["web"] = spec
		u.domain(topics.DomainServicesSet, c)
		expect := func(what string, state topics.State, health topics.Health) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			s := last[topics.Domain](u, topics.DomainStatus)
			if len(s.Services) != 1 || s.Services[0].State != state || s.Services[0].Health != health {
				t.Errorf("%s: %+v, want %s %s", what, s.Services, state, health)
			}
		}
		expect("what was said before its start", topics.Starting, topics.UnknownHealth)
		u.send(topic, "online", true)
		expect("said after its start", topics.Running, topics.Healthy)
		u.send(topic, "offline", true)
		expect("it says another word", topics.Running, topics.Unhealthy)
		u.send(topic, "online", true)
		expect("and the right one", topics.Running, topics.Healthy)

		h.cut()
		time.Sleep(5 * time.Second)
		expect("after a cut, by what is retained", topics.Running, topics.Healthy)
		u.gone() // the hub, for longer than its start_timeout
		time.Sleep(2 * time.Minute)
		if n := a.runner.living(); n != 1 {
			t.Fatalf("%d services live without a hub", n)
		}
		u = h.hub(hubAddr, "dominion-1", 2) // which forgot all
		time.Sleep(10 * time.Second)
		expect("the hub is back, and nothing was said", topics.Running, topics.Healthy)
		u.send(topic, "offline", true)
		expect("heard again", topics.Running, topics.Unhealthy)

		// No longer needed: unsubscribed from, and subscribed to again when it is.
		c.Epoch, c.Generation = 2, 1
		spec.Health = nil
		c.Services["web"] = spec
		u.domain(topics.DomainServicesSet, c)
		expect("without a check", topics.Running, topics.Healthy)
		c.Generation = 2
		spec.Health = &topics.HealthCheck{MQTT: topic, Payload: "online"}
		c.Services["web"] = spec
		u.domain(topics.DomainServicesSet, c)
		expect("with it again, by what is retained", topics.Running, topics.Unhealthy)
		a.stop()
	})
}

// A home without its hub: a service whose health was never received is not ended for that.
func TestHealthByMQTTWithoutAHub(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		dir := t.TempDir()
		u := h.hub(hubAddr, "dominion-1", 1)
		a := h.agent(dir)
		time.Sleep(3 * time.Second)
		c := a.command("dominion-1", 1, 1, "web")
		spec := c.Services["web"]
		spec.Health = &topics.HealthCheck{MQTT: "home/web", Payload: "online"}
		spec.StartTimeout = topics.Seconds(10 * time.Second)
		c.Services["web"] = spec
		u.domain(topics.DomainServicesSet, c)
		time.Sleep(time.Second)
		u.gone()
		a.stop()

		a = h.agent(dir) // after a power cut: the fake runner adopts nothing
		time.Sleep(10 * time.Minute)
		if got := a.runner.starts(); got != "web" {
			t.Errorf("started %q, want once", got)
		}
		u = h.hub(hubAddr, "dominion-1", 2)
		u.send("home/web", "online", true) // the service was quicker than the agent
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := last[topics.Domain](u, topics.DomainStatus); len(s.Services) != 1 || s.Services[0].Health != topics.Healthy {
			t.Errorf("%+v, want it healthy by the word that was missed", s.Services)
		}
		a.stop()
	})
}
