package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// A start command that is older than the last one, or out of this world, is
// refused whoever sends it; the agent says so.
func TestStaleStartCommandIsRefused(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		kitchen.Install("web", "lamp")
		// two restarts of the hub for an older epoch, two services for an
		// older generation
		home.Configure(service("web", `priority = "required"`) + service("lamp", `priority = "required"`))
		hub, agents, _ := home.Up(kitchen)
		hub.Stop()
		home.StartHub()
		o := home.Observe()
		o.Until("hub, kitchen and services are back", func(v View) bool {
			return v.Ready() && v.Online("kitchen") && v.Healthy("web", 1) && v.Healthy("lamp", 1)
		})
		home.Publish("dominion/service/lamp/set", "OFF")
		o.Until("lamp is off", func(v View) bool { return v.Service("lamp").State == topics.Stopped })
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		before, starts := home.Journal.AwaitRunning(t, "web@kitchen"), home.Journal.Starts(t)
		last := o.Latest().Command("kitchen")
		if last.Epoch < 2 || last.Generation < 2 {
			t.Fatalf("the last command is %d.%d, this test wants older ones", last.Epoch, last.Generation)
		}

		for _, attempt := range []struct {
			name    string
			change  func(*topics.StartCommand)
			refused bool
		}{
			{"an older epoch", func(c *topics.StartCommand) { c.Epoch--; c.Generation += 100 }, true},
			{"an older generation", func(c *topics.StartCommand) { c.Generation-- }, true},
			{"an epoch out of this world", func(c *topics.StartCommand) { c.Epoch += 2_000_000 }, true},
			{"a generation out of this world", func(c *topics.StartCommand) { c.Generation += 2_000_000 }, true},
			{"another domain's", func(c *topics.StartCommand) {
				c.Domain = "00000000-0000-4000-8000-000000000000"
				c.Generation++
			}, true},
			{"another dominion's", func(c *topics.StartCommand) {
				c.Dominion = "00000000-0000-4000-8000-000000000000"
				c.Generation++
			}, true},
		} {
			c := last
			attempt.change(&c)
			c.Services = map[string]topics.Spec{"lamp": c.Services["web"]} // stops web, starts lamp
			mark := o.Now()
			home.Publish("dominion/domain/kitchen/services/set", home.signedStart(c))
			t.Log(attempt.name)
			o.AwaitEvent(mark, "dominion/domain/kitchen/event", topics.CommandRefused, "", "")
			o.AwaitEvent(mark, "dominion/hub/event", topics.CommandRefused, "kitchen", "")
		}
		agents[0].AwaitLog("refused", "epoch")
		b := decode[topics.Heartbeat](t, awaitLiveHeartbeat(o, o.Now(), "kitchen"))
		if b.Epoch != last.Epoch || b.Generation < last.Generation || b.Generation > last.Generation+1000 {
			t.Errorf("after the refused ones the heartbeat tells %d.%d, the last command was %d.%d", b.Epoch, b.Generation, last.Epoch, last.Generation)
		}
		home.Journal.Undisturbed(t, "after the refused commands", before, starts)

		t.Log("an equal one changes nothing")
		if c := o.Latest().Command("kitchen"); c.Epoch == last.Epoch {
			home.Publish("dominion/domain/kitchen/services/set", home.signedStart(c))
		}
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		home.Journal.Undisturbed(t, "after an equal command", before, starts)
	})
}

// A start command of a hub that was restored from a backup, or of a stranger,
// may be taken; the dominion's hub raises its own above it and has the last word.
func TestHubRaisesItsOwnAboveAForeignCommand(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		kitchen.Install("web", "lamp")
		home.Configure(service("web", `priority = "required"`) + service("lamp", `priority = "required"`))
		_, _, o := home.Up(kitchen)
		o.Until("both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
		for _, foreign := range []struct {
			name   string
			change func(*topics.StartCommand)
		}{
			{"a higher generation", func(c *topics.StartCommand) { c.Generation += 50 }},
			{"a higher epoch", func(c *topics.StartCommand) { c.Epoch += 5 }},
		} {
			t.Log(foreign.name)
			c := o.Latest().Command("kitchen")
			foreign.change(&c)
			c.Services = map[string]topics.Spec{"web": c.Services["web"]} // stops lamp
			home.Publish("dominion/domain/kitchen/services/set", home.signedStart(c), "-r")
			o.Until("the hub's command is above it and all is healthy", func(v View) bool {
				now := v.Command("kitchen")
				above := now.Epoch > c.Epoch || now.Epoch == c.Epoch && now.Generation > c.Generation
				return above && v.Healthy("web", 1) && v.Healthy("lamp", 1) && v.Heartbeat("kitchen").Epoch == now.Epoch
			})
		}
		if n := len(home.Journal.Of(t, "start", "web")); n != 1 {
			t.Errorf("web was started %d times, it was wanted all the time", n)
		}
	})
}

// A hub whose disk was restored from a backup of before: it finds a domain that has had
// newer words since, under commands of an epoch that it has not reached. It takes the
// domain for the one that it adopted, raises its own epoch and leaves what runs as it is.
func TestRestoredHubDisturbsNothing(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		data, backup := filepath.Join(home.Hub.Dir, "data"), filepath.Join(home.Hub.Dir, "backup")
		home.Configure(service("web", `priority = "required"`, healthHTTP) + service("lamp", `priority = "required"`))
		kitchen := home.Domain("kitchen")
		kitchen.Install("web", "lamp")
		hub, _, _ := home.Up(kitchen)
		hub.Stop()
		home.must(command("cp", "-a", data, backup))

		for range 2 { // the epoch goes on
			hub = home.StartHub()
			home.Observe().Until("the hub is ready", View.Ready)
			hub.Kill()
		}
		hub = home.StartHub()
		o := home.Observe()
		o.Until("both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
		before, starts := home.Lives(o)
		epoch := o.Latest().Command("kitchen").Epoch

		hub.Kill()
		home.must(command("rm", "-r", data))
		home.must(command("mv", backup, data))
		home.StartHub()
		o = home.Observe()
		o.Until("the hub's epoch is above, and obeyed; both are healthy", func(v View) bool {
			c := v.Command("kitchen")
			return v.Ready() && v.Online("kitchen") && c.Epoch > epoch && v.Heartbeat("kitchen").Epoch == c.Epoch &&
				v.Healthy("web", 1) && v.Healthy("lamp", 1)
		})
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		home.Journal.Undisturbed(t, "after the hub was restored", before, starts)
	})
}

// A domain that was adopted after the backup, which its hub was restored from, goes on running what
// it runs, waits with the reason, and is taken back without a code. Where no newer key list is
// found, status says that what was revoked after the backup must be revoked again.
func TestRestoredHubTakesBackWhomItAdoptedLater(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		data, backup := filepath.Join(home.Hub.Dir, "data"), filepath.Join(home.Hub.Dir, "backup")
		home.adoptionHub(service("web", `priority = "required"`) + service("lamp", `priority = "required"`))
		machine := func(name, service string) *Domain {
			d := home.Domain(name)
			d.Configure(nil, home.hubAt())
			d.Install(service)
			return d
		}
		adopt := func(d *Domain) *Process {
			agent := d.startAsking()
			home.awaitState(d.Name, topics.DomainIsWaiting)
			if r := home.control("adopt", d.Name, d.code()); r.Code != 0 {
				t.Fatalf("adopt: %+v", r)
			}
			return agent
		}
		hub := home.startAskingHub()
		tv := machine("tv", "lamp")
		adopt(tv)
		home.Journal.AwaitRunning(t, "lamp@tv")
		hub.Stop()
		home.must(command("cp", "-a", data, backup))

		hub = home.startAskingHub()
		home.awaitHub()
		kitchen := machine("kitchen", "web")
		adopt(kitchen)
		running := home.Journal.AwaitRunning(t, "lamp@tv", "web@kitchen")
		starts := home.Journal.Starts(t)

		hub.Stop()
		home.must(command("rm", "-r", data))
		home.must(command("mv", backup, data))
		home.startAskingHub()
		home.awaitState("tv", topics.DomainIsOnline)
		waiting := home.awaitState("kitchen", topics.DomainIsWaiting)
		const reason = "certificate of ours, not in the list"
		if waiting.Reason != reason {
			t.Errorf("it waits as %+v", waiting)
		}
		home.event(topics.DomainWaiting, reason)
		status := home.control("status").Stdout
		for _, text := range []string{reason, "dominionctl adopt kitchen", "must be revoked again"} {
			if !strings.Contains(status, text) {
				t.Errorf("status does not say %q:\n%s", text, status)
			}
		}
		if r := home.control("adopt", "kitchen"); r.Code != 0 {
			t.Fatalf("adopt without a code: %+v", r)
		}
		home.awaitState("kitchen", topics.DomainIsOnline)
		home.event(topics.DomainAdopted, "by certificate")
		home.Journal.Undisturbed(t, "after the hub was restored", running, starts)
	})
}

// Orders that were retained by mistake are not obeyed, each time a client
// comes.
func TestRetainedOrdersAreIgnored(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		kitchen.Install("web")
		home.Configure(service("web", `priority = "required"`))
		hub, agents, o := home.Up(kitchen)
		o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
		before, starts := home.Lives(o)

		hub.Stop()
		agents[0].Stop()
		if home.Broker == Embedded {
			// with the embedded broker nobody can publish without the hub:
			// they come while it runs, and are stored
			hub = home.StartHub()
		}
		early := home.Observe()
		for topic, payload := range map[string]string{
			"dominion/service/web/set":            "OFF",
			"dominion/request/stop":               `{"transaction": "old", "service": "web"}`,
			"dominion/domain/kitchen/command":     `{"transaction": "old", "action": "restart", "service": "web"}`,
			"dominion/domain/kitchen/drain/set":   "ON",
			"dominion/request/drain":              `{"transaction": "old2", "domain": "kitchen"}`,
			"dominion/service/nosuch/set":         "ON",
			"dominion/domain/kitchen/nosuchtopic": "1",
		} {
			home.Publish(topic, payload, "-r")
		}
		if home.Broker == Embedded {
			hub.Stop()
		}
		hub = home.StartHub()
		kitchen.Start()
		o = home.Observe()
		o.Until("hub and kitchen are back", func(v View) bool { return v.Ready() && v.Online("kitchen") && v.Healthy("web", 1) })
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		home.Journal.Undisturbed(t, "with retained orders", before, starts)
		if v := o.Latest(); v.Service("web").Switch != "ON" || v.Domain("kitchen").Draining {
			t.Errorf("retained orders were obeyed: web %+v, draining %v", v.Service("web"), v.Domain("kitchen").Draining)
		}
		for _, m := range slices.Concat(early.Since(Mark{}), o.Since(Mark{})) {
			if (m.Topic == "dominion/response/stop" || m.Topic == "dominion/response/drain") && !m.Retain {
				t.Errorf("a retained request was answered: %v", m)
			}
		}
		if home.Broker == External {
			hub.AwaitLog("retained", "dominion/service/web/set")
		}
	})
}
