package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A microcontroller with ESPHome is a domain, an endpoint and what others wait
// for; Home Assistant is told of it; its plug is pulled and put back, and the
// hub is killed and comes back, and what depends on it runs on.
func TestMicrodomainOfESPHome(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		kitchen.Install("evening")
		home.Configure(service("evening", `priority = "required"`, `dependencies = ["shed-light"]`, healthHTTP) + service("shed-light"))
		hub, _, o := home.Up(kitchen)
		o.Until("evening waits for the light", func(v View) bool {
			s := v.Service("evening")
			return s.State == topics.Pending && strings.Contains(s.Reason, "waits for shed-light")
		})

		lamp := home.ESPHome("shed-lamp", "shed-light", 80)
		lamp.Plug()
		there := func(v View) bool {
			e := v.Endpoints("shed-light")
			return v.Online("shed-lamp") && v.Healthy("shed-light", 1) && v.Healthy("evening", 1) &&
				e[0].Domain == "shed-lamp" && e[0].Address == lamp.host.Address() && e[0].Port == 80
		}
		o.Until("the light is an endpoint, and evening runs", there)
		before, starts := home.Journal.AwaitRunning(t, "evening@kitchen"), home.Journal.Starts(t)
		o.Await("Home Assistant is told of the microdomain", Mark{}, func(m Message) bool {
			return strings.HasPrefix(m.Topic, "homeassistant/device/") && strings.Contains(m.Payload, `"Microdomain"`) && strings.Contains(m.Payload, "dominion/domain/shed-lamp/availability")
		})
		if r := home.Ctl("domains"); !containsAll(r.Stdout, []string{"shed-lamp", "online", "micro"}) {
			t.Errorf("dominionctl domains: %+v", r)
		}
		if r := home.Ctl("why", "shed-light"); !containsAll(r.Stdout, []string{"needed by evening", "built into shed-lamp"}) {
			t.Errorf("dominionctl why: %+v", r)
		}
		home.Publish("esphome/discover", "", "-q", "2") // as ESPHome's dashboard asks
		if _, ok := lamp.asked.await(patience, 0, func(topic string) bool { return topic == "esphome/discover" }); !ok {
			t.Error("it was not asked at QoS 2")
		}

		t.Log("the plug is pulled")
		mark := o.Now()
		lamp.Unplug()
		o.AwaitTopic(mark, "dominion/domain/shed-lamp/availability", "offline")
		o.Until("the light is gone, evening is not", func(v View) bool {
			s := v.Service("shed-light")
			return len(v.Endpoints("shed-light")) == 0 && s.State == topics.Pending && s.Reason == "it is built into shed-lamp, which is offline" && v.Healthy("evening", 1)
		})
		o.AwaitEvent(mark, "dominion/hub/event", topics.DomainOffline, "shed-lamp", "")
		if r := home.Ctl("status"); !strings.Contains(r.Stdout+r.Stderr, "shed-lamp is offline") {
			t.Errorf("dominionctl status tells no problem: %+v", r)
		}

		t.Log("it is put back")
		lamp.host.LinkUp()
		lamp.Plug()
		o.Until("all is as before", there)
		if kept, _ := lamp.sessions.from(0); len(kept) < 2 || !kept[len(kept)-1] {
			t.Errorf("the broker did not keep its session: %v", kept)
		}

		t.Log("the hub is killed and comes back")
		hub.Kill()
		home.StartHub()
		o = home.Observe()
		o.Until("all is as before", func(v View) bool { return v.Ready() && there(v) })
		settled := o.Now()
		time.Sleep(12 * time.Second) // longer than settle: whoever does not come back is offline then
		for _, m := range o.Since(settled) {
			if m.Topic == "dominion/domain/shed-lamp/availability" && m.Payload == "offline" {
				t.Errorf("it is there, and is told as offline: %v", m)
			}
			if m.Topic == "dominion/domain/shed-lamp/services/set" {
				t.Errorf("a microdomain is given a start command: %v", m)
			}
		}
		if v := home.Observe().Latest(); !there(v) {
			t.Errorf("after the hub's settling:\n%v", v)
		}
		home.Journal.Undisturbed(t, "with a microcontroller that came and went", before, starts)
	})
}
