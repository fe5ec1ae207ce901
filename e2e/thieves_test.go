package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Whoever has taken the hub's keys orders nothing once they are replaced: neither by what he
// recorded nor by what he signs, and neither the certificate nor the key list of before brings
// the key back.
func TestOrdersOfARevokedHub(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		if home.external != nil {
			kitchen.Configure(nil, home.hubAt())
		}
		kitchen.Install("web", "lamp")
		home.Configure(service("web", `priority = "required"`) + service("lamp"))
		_, agents, o := home.Up(kitchen)
		o.Until("web runs", func(v View) bool { return v.Healthy("web", 1) })
		set, order := "dominion/domain/kitchen/services/set", "dominion/domain/kitchen/command"
		before, starts := home.Lives(o)

		stolen := t.TempDir()
		home.must(command("cp", "-a", filepath.Join(home.Hub.Dir, "data", "identity"), stolen))
		former := home.openIdentity(stolen, home.dominionID())
		if o.Latest().Command("kitchen").Key != former.KeyHash() {
			t.Fatal("the keys that were taken are not the hub's")
		}
		recorded := map[string]string{"dominion/hub/keys": o.Latest()["dominion/hub/keys"].Payload, "dominion/hub/certificate": o.Latest()["dominion/hub/certificate"].Payload}
		if r := home.control("authority", "rotate", "--compromised"); r.Code != 0 {
			t.Fatalf("authority rotate: %+v", r)
		}
		home.event(topics.KeyRotated, "")
		o.Until("the hub signs by another key", func(v View) bool {
			c := v.Command("kitchen")
			return v.Online("kitchen") && c.Key != "" && c.Key != former.KeyHash() && v.Heartbeat("kitchen").Generation == c.Generation
		})

		c := o.Latest().Command("kitchen")
		forged := c
		forged.Key, forged.Generation = former.KeyHash(), c.Generation+5
		forged.Services = map[string]topics.Spec{"web": c.Services["web"], "lamp": c.Services["web"]}
		later := forged
		later.Epoch++
		session := o.Latest().Domain("kitchen").Session
		for _, retain := range []string{"", "-r"} {
			publish := func(topic, payload string) {
				if retain == "" {
					home.Publish(topic, payload)
				} else {
					home.Publish(topic, payload, retain)
				}
			}
			for topic, payload := range recorded {
				publish(topic, payload)
			}
			for _, c := range []topics.StartCommand{forged, later} {
				publish(set, home.signedWith(former, topics.DomainServicesSet, c.Dominion, c.Domain, topics.Encode(c)))
			}
			publish(order, home.signedWith(former, topics.DomainCommand, c.Dominion, c.Domain, topics.Encode(topics.Command{Action: topics.ActionRestart, Service: "web", Session: session, Number: 1 << 60, Key: former.KeyHash()})))
		}
		agents[0].AwaitLog("which is not a hub's of this dominion or is revoked")
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		home.Journal.Undisturbed(t, "after orders by a revoked key", before, starts)
		agents[0].Kill()
		kitchen.Start()
		home.awaitState("kitchen", topics.DomainIsOnline)
		if r := home.Ctl("start", "lamp", "--wait"); r.Code != 0 {
			t.Errorf("the hub is not obeyed: %+v", r)
		}
		home.Journal.Await(t, 1, "start", "lamp")
		if n := len(home.Journal.Of(t, "start", "web")); n != 1 {
			t.Errorf("web was started %d times", n)
		}
	})
}

// A card is copied while its machine runs. The copy is refused as long as the original is
// there, and for good once the original was booted since. Where the original was not, whoever
// joins first is the machine, and the other one is refused; never are both.
func TestCopiedCardAndReboots(t *testing.T) {
	for _, rebooted := range []bool{true, false} {
		name := map[bool]string{true: "after a reboot", false: "before a reboot"}[rebooted]
		t.Run(name, func(t *testing.T) {
			onEachBroker(t, func(t *testing.T, home *Home) { copiedCard(t, home, rebooted) })
		})
	}
}

func copiedCard(t *testing.T, home *Home, rebooted bool) {
	home.adoptionHub(service("web", `priority = "required"`))
	home.startAskingHub()
	home.awaitHub()
	pi, agent := home.adoptedByCode("pi", "", "web")
	home.awaitState("pi", topics.DomainIsOnline)
	home.Journal.AwaitRunning(t, "web@pi")
	clone := home.Domain("pi")
	clone.Configure(nil, home.hubAt())
	clone.Install("web")
	home.must(command("cp", "-a", pi.DataDir(), filepath.Dir(clone.DataDir())+"/"))
	home.must(os.RemoveAll(filepath.Join(clone.DataDir(), "instances"))) // of another boot, on another machine
	joined := func(p *Process) bool {
		lines, _ := p.log.from(0)
		return slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "msg=joined") })
	}

	// the copy is listed too, as one that waits
	online := func() {
		t.Helper()
		eventually(t, "pi is online", func() bool {
			var all []topics.DomainView
			home.must(json.Unmarshal([]byte(home.control("domains", "--json").Stdout), &all))
			return slices.ContainsFunc(all, func(d topics.DomainView) bool { return d.Name == "pi" && d.State == topics.DomainIsOnline })
		})
	}

	t.Log("the original is there")
	other := clone.startAlone()
	other.AwaitLog("the hub refuses this domain", "domain reset")
	online()
	if rebooted {
		agent.Stop()
		agent = pi.startAsking()
		agent.AwaitLog("msg=joined")
		online()
	}
	if joined(other) {
		t.Fatal("the copy joined while the original was there")
	}

	t.Log("the original is switched off")
	pi.PowerCut()
	if rebooted {
		time.Sleep(15 * time.Second) // longer than a lost domain is waited for
		if joined(other) {
			t.Error("a copy with an older word joined")
		}
		pi.LinkUp()
		agent = pi.startAsking()
		agent.AwaitLog("msg=joined")
	} else {
		other.AwaitLog("msg=joined")
		pi.LinkUp()
		agent = pi.startAsking()
		agent.AwaitLog("older word", "domain reset")
		home.event(topics.DomainCopied, "domain reset")
		if joined(agent) {
			t.Error("both joined")
		}
	}
	online()
}
