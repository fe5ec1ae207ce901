package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// signedStart returns a start command as the hub of the home would send it: signed with the
// hub's own key, if the domain has a key.
func (h *Home) signedStart(c topics.StartCommand) string {
	h.t.Helper()
	payload, err := json.Marshal(c)
	h.must(err)
	if c.Key == "" {
		return string(payload)
	}
	return h.signedWith(h.openIdentity(filepath.Join(h.Hub.Dir, "data"), c.Dominion), topics.DomainServicesSet, c.Dominion, c.Domain, payload)
}

// openIdentity opens the keys of a hub, or makes some.
func (h *Home) openIdentity(dir, dominion string) *identity.Hub {
	h.t.Helper()
	hub, err := identity.OpenHub(dir, identity.HubOptions{Dominion: dominion, Name: "home", Names: identity.MakeNames("hub", nil), Now: time.Now()})
	h.must(err)
	return hub
}

// signedWith returns an order as a signed message.
func (h *Home) signedWith(hub *identity.Hub, k topics.Kind, dominion, domain string, payload []byte) string {
	h.t.Helper()
	m, err := signed.Sign(hub.Key, signed.Context{Kind: k.SignedKind(), Dominion: dominion, Domain: domain}, payload)
	h.must(err)
	return string(m)
}

// Whoever controls the broker forges start commands, commands, certificates and the hub's own
// status, and starts nothing: a domain obeys what its hub has signed, and what is for it
// and new. People ask the hub, and get what they asked for.
func TestOnlyTheHubOrders(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen, attic := home.Domain("kitchen"), home.Domain("attic")
		if m := home.external; m != nil {
			for _, d := range []*Domain{kitchen, attic} {
				d.Configure(nil, fmt.Sprintf("hub = %q\n", "mqtts://"+m.host.Address()+":8883"))
			}
		} else { // no handshake shows the hub's key
			kitchen.Configure(nil, fmt.Sprintf("hub = %q\n", home.Hub.Address()+":1883"))
		}
		kitchen.Install("web", "lamp")
		attic.Install("radio")
		home.Configure(service("web", `priority = "required"`) + service("lamp") + service("radio", `priority = "required"`))
		_, agents, o := home.Up(kitchen, attic)
		o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("radio", 1) })

		t.Log("lamp was on for a while: its start command is recorded")
		set, command := "dominion/domain/kitchen/services/set", "dominion/domain/kitchen/command"
		mark := o.Now()
		if r := home.Ctl("start", "lamp", "--wait"); r.Code != 0 {
			t.Fatalf("start: %+v", r)
		}
		recorded := o.Await("lamp is ordered", mark, func(m Message) bool { return m.Topic == set && strings.Contains(m.Payload, `"lamp"`) }).Payload
		if r := home.Ctl("restart", "lamp", "--wait"); r.Code != 0 {
			t.Errorf("restart: %+v", r)
		}
		restart := o.Await("the command restart", mark, func(m Message) bool { return m.Topic == command && strings.Contains(m.Payload, `"restart"`) }).Payload
		if r := home.Ctl("stop", "lamp", "--wait"); r.Code != 0 {
			t.Fatalf("stop: %+v", r)
		}
		for what, m := range map[string]string{"start command": recorded, "command": restart} {
			if !signed.IsSigned([]byte(m)) || !json.Valid([]byte(m)) {
				t.Fatalf("the %s is not signed: %s", what, m)
			}
		}
		before, starts := home.Lives(o)
		c := o.Latest().Command("kitchen")
		mallory := home.openIdentity(t.TempDir(), c.Dominion)
		next := func(change func(*topics.StartCommand)) []byte {
			c := o.Latest().Command("kitchen")
			c.Generation++
			c.Services = map[string]topics.Spec{"web": c.Services["web"], "lamp": c.Services["web"]}
			if change != nil {
				change(&c)
			}
			b, err := json.Marshal(c)
			home.must(err)
			return b
		}
		session := o.Latest().Domain("kitchen").Session
		forged := []struct {
			name, topic, payload string
		}{
			{"replayed", set, recorded},
			{"not signed", set, string(next(nil))},
			{"altered", set, strings.Replace(o.Latest()[set].Payload, `"web":{`, `"lamp":{`, 1)},
			{"with a greater generation", set, strings.Replace(recorded, `"generation":`, `"generation":99`, 1)},
			{"by another key", set, home.signedWith(mallory, topics.DomainServicesSet, c.Dominion, c.Domain, next(func(c *topics.StartCommand) { c.Key = mallory.KeyHash() }))},
			{"by another key in the hub's name", set, home.signedWith(mallory, topics.DomainServicesSet, c.Dominion, c.Domain, next(nil))},
			{"with a name that is there twice", set, string(bytes.Replace([]byte(recorded), []byte(`,"signature"`), []byte(`,"SERVICES":{},"signature"`), 1))},
			{"another domain's", set, o.Latest()["dominion/domain/attic/services/set"].Payload},
			{"another domain's in its name", set, strings.Replace(o.Latest()["dominion/domain/attic/services/set"].Payload, o.Latest().Command("attic").Domain, c.Domain, 1)},
			{"a command that was obeyed", command, restart},
			{"a command that is not signed", command, string(topics.Encode(topics.Command{Transaction: "m", Action: topics.ActionRestart, Service: "web", Session: session, Number: 1 << 60}))},
			{"a command by another key", command, home.signedWith(mallory, topics.DomainCommand, c.Dominion, c.Domain, topics.Encode(topics.Command{Action: topics.ActionRestart, Service: "web", Session: session, Number: 1 << 60, Key: c.Key}))},
			{"a command as start command", set, restart},
			{"another hub's certificate", "dominion/hub/certificate", string(topics.Encode(mallory.Published()))},
			{"by that hub", set, home.signedWith(mallory, topics.DomainServicesSet, c.Dominion, c.Domain, next(func(c *topics.StartCommand) { c.Key = mallory.KeyHash() }))},
			{"nothing", set, ""},
		}
		mark = o.Now()
		for _, f := range forged {
			t.Log(f.name)
			home.Publish(f.topic, f.payload)
			home.Publish(f.topic, f.payload, "-r")
		}
		o.AwaitEvent(mark, "dominion/hub/event", topics.CommandRefused, "kitchen", "")
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		home.Journal.Undisturbed(t, "after the forged orders", before, starts)
		for _, text := range []string{"it is not signed by the hub", "its signature is not valid", "not a hub's of this dominion"} {
			agents[0].AwaitLog(text)
		}

		t.Log("the agent restarts, and finds them retained")
		agents[0].Stop()
		for _, f := range forged {
			if f.payload == "" {
				continue
			}
			home.Publish(f.topic, f.payload, "-r")
			agent := kitchen.Start()
			o.Until("kitchen is back, with "+f.name, func(v View) bool { return v.Online("kitchen") })
			awaitLiveHeartbeat(o, o.Now(), "kitchen")
			agent.Stop()
		}
		home.Journal.Undisturbed(t, "after restarts with forged orders", before, starts)

		t.Log("the hub has the last word")
		kitchen.Start()
		o = home.Observe()
		o.Until("hub and kitchen are back", func(v View) bool { return v.Ready() && v.Online("kitchen") && v.Healthy("web", 1) })
		if r := home.Ctl("start", "lamp", "--wait"); r.Code != 0 {
			t.Errorf("start: %+v", r)
		}
		if n := len(home.Journal.Of(t, "start", "web")); n != 1 {
			t.Errorf("web was started %d times", n)
		}
		if r := home.Ctl("logs", "web"); r.Code != 0 {
			t.Errorf("logs: %+v", r)
		}
		if r := home.Ctl("drain", "kitchen"); r.Code != 0 {
			t.Errorf("drain: %+v", r)
		}
		o.Until("kitchen drains", func(v View) bool { return v.Domain("kitchen").Draining })
		home.Publish("dominion/domain/kitchen/drain/set", "OFF")
		o.Until("kitchen does not drain any more", func(v View) bool { return !v.Domain("kitchen").Draining })
		if r := home.Ctl("resync", "kitchen"); r.Code != 0 {
			t.Errorf("resync: %+v", r)
		}
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
	})
}
