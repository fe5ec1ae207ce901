package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// The home's mosquitto restarts and, without persistence, has forgotten
// everything: hub and agents tell it all again, and nothing is disturbed.
func TestExternalBrokerRestarts(t *testing.T) {
	needs(t)
	t.Parallel()
	home := newHome(t, External)
	_, _, _, _, o := upWithServices(t, home)
	before, starts := home.Lives(o)
	retained := home.Observe().Retained()

	home.external.process.Kill()
	home.external.start()
	o = home.Observe()
	o.Until("hub and domains are back, all is healthy", func(v View) bool {
		return v.Ready() && v.Online("kitchen") && v.Online("cellar") && v.Healthy("web", 1) && v.Healthy("lamp", 1) &&
			v["dominion/domain/kitchen/services/set"].Payload != "" && v["dominion/domain/cellar/services/set"].Payload != ""
	})
	o.Until("all that was retained is retained again", func(v View) bool {
		for topic := range retained {
			if v[topic].Payload == "" {
				return false
			}
		}
		return true
	})
	again := home.Observe().Retained()
	for topic := range retained {
		if _, there := again[topic]; !there {
			t.Errorf("is not retained again: %s", topic)
		}
	}
	home.Journal.Undisturbed(t, "after the broker restarted", before, starts)
}

// Agents and hub that are there before the broker wait for it.
func TestExternalBrokerComesLast(t *testing.T) {
	needs(t)
	t.Parallel()
	home := newHome(t, External)
	home.external.process.Kill()
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	home.Configure(service("web", `priority = "required"`))
	hub := home.StartHub()
	agent := kitchen.Start()
	hub.AwaitLog("cannot connect", home.external.host.Address())
	home.external.start()
	o := home.Observe()
	o.Until("web is healthy", func(v View) bool { return v.Ready() && v.Healthy("web", 1) })
	if hub.Ended() || agent.Ended() {
		t.Error("hub or agent gave up")
	}
}

// A microcontroller that speaks the topics is a domain that runs its own one
// service, and is never given a start command.
func TestMicrodomain(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		home.Configure("")
		_, _, o := home.Up()
		mark := o.Now()
		home.Publish("dominion/domain/bell/availability", "online", "-r")
		home.Publish("dominion/domain/bell/status", `{"name": "bell", "micro": true, "services": [{"service": "bell", "state": "running", "port": 80}]}`, "-r")
		listed := func(online bool) {
			t.Helper()
			eventually(t, fmt.Sprintf("dominionctl lists the microdomain, online %v", online), func() bool {
				var domains []topics.DomainView
				err := oneDocument(home.Ctl("domains", "--json").Stdout, &domains)
				return err == nil && len(domains) == 1 && domains[0].Name == "bell" && domains[0].Micro &&
					online == (domains[0].State == topics.DomainIsOnline)
			})
		}
		listed(true)
		// it does not beat: its availability is all there is
		home.Publish("dominion/domain/bell/availability", "offline", "-r")
		listed(false)
		for _, m := range o.Since(mark) {
			if m.Topic == "dominion/domain/bell/services/set" {
				t.Errorf("a microdomain is given a start command: %v", m)
			}
		}
	})
}

// A second hub, of another dominion, that is pointed at the same broker and
// topics by mistake waits and says whose they are; the first never notices.
func TestSecondHubAtTheSameBroker(t *testing.T) {
	needs(t)
	t.Parallel()
	home := newHome(t, External)
	_, _, _, _, o := upWithServices(t, home)
	before, starts := home.Lives(o)
	id, mark := o.Latest().Command("kitchen").Dominion, o.Now()
	other := home.Host("other")
	file := filepath.Join(other.Dir, "dominion.toml")
	other.must(writeFile(file, strings.Replace(home.hubConfig(""), home.Hub.Dir, other.Dir, 1)))
	second := other.Start(programs.dominion, "-config", file)
	second.AwaitLog("home", "dominion/")
	for range 5 {
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
	}
	const aliveEvery = 5 * time.Second // the first hub's sign of life on an external broker
	alive := 1 + int(time.Since(mark.at)/aliveEvery)
	for _, m := range o.Since(mark) {
		foreign := false
		switch {
		case m.Topic == "dominion/hub/availability" && m.Payload == "online":
			alive--
		case m.Topic == "dominion/hub/availability":
			foreign = true
		case m.Topic == "dominion/hub/status", strings.HasSuffix(m.Topic, "/services/set"):
			foreign = !strings.Contains(m.Payload, id)
		}
		if foreign || alive < 0 {
			t.Errorf("the second hub said something: %v", m)
		}
	}
	home.Journal.Undisturbed(t, "beside a second hub", before, starts)
	if second.Ended() {
		t.Error("the second hub gave up")
	}
}
