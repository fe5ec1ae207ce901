package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// Whoever controls the broker forges joins, statuses, events and answers of a domain, and sends
// those of its former session again, live and retained: the hub believes what the domain has
// signed in this session, also after a restart among what was forged.
func TestOnlyTheDomainReports(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen, attic := home.Domain("kitchen"), home.Domain("attic")
		kitchen.Install("web", "lamp")
		home.Configure(service("web", `priority = "required"`) + service("lamp"))
		hub, agents, o := home.Up(kitchen, attic)
		o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })

		t.Log("a session is recorded, and ends")
		at := "dominion/domain/kitchen/"
		const joins = "dominion/request/join"
		isJoin := func(m Message) bool {
			return m.Topic == joins && strings.Contains(m.Payload, `"name":"kitchen"`) && strings.Contains(m.Payload, `"word":`)
		}
		if r := home.Ctl("start", "lamp", "--wait"); r.Code != 0 {
			t.Fatalf("start: %+v", r)
		}
		event := o.Await("an event of kitchen", Mark{}, func(m Message) bool {
			return m.Topic == at+"event" && strings.Contains(m.Payload, `"lamp"`)
		}).Payload
		status := o.Latest()[at+"status"].Payload
		mark := o.Now()
		agents[0].Stop()
		kitchen.Start()
		join := o.Await("kitchen joins again", mark, isJoin).Payload
		o.Until("kitchen is back", func(v View) bool {
			return v.Online("kitchen") && v.Domain("kitchen").Session != decode[topics.Domain](t, Message{Payload: status}).Session
		})
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		for what, m := range map[string]string{"join": join, "status": status, "event": event} {
			if !signed.IsSigned([]byte(m)) {
				t.Fatalf("the %s is not signed: %s", what, m)
			}
		}

		before, starts := home.Lives(o)
		epoch := o.Latest().Command("kitchen").Epoch
		c, s := o.Latest().Command("kitchen"), o.Latest().Domain("kitchen")
		mallory := home.openIdentity(t.TempDir(), c.Dominion)
		byMallory := func(k topics.Kind, v any) string {
			return home.signedWith(mallory, k, c.Dominion, c.Domain, topics.Encode(v))
		}
		drained := s
		drained.Seq, drained.Draining, drained.Services = 1<<40, true, []topics.Instance{}
		crash := topics.Event{At: topics.At(time.Now()), Type: topics.ServiceFailed, Service: "web", Message: "forged", Session: s.Session, Seq: 1 << 40}
		ahead := c
		ahead.Epoch = 1 << 40
		ask := topics.HubRequest{Transaction: "forged", ID: c.Domain, Name: "kitchen", Session: "forged", Number: 1, Protocol: topics.Protocol, Last: byMallory(topics.DomainServicesSet, ahead)}
		renamed := ask
		renamed.Name = "mallory"
		forged := []struct{ topic, payload string }{
			{at + "status", string(topics.Encode(drained))},
			{at + "status", byMallory(topics.DomainStatus, drained)},
			{at + "status", status},
			{at + "status", strings.Replace(o.Latest()[at+"status"].Payload, `"draining":false`, `"draining":true`, 1)},
			{at + "status", strings.Replace(o.Latest()[at+"status"].Payload, `,"signature"`, `,"Draining":true,"signature"`, 1)},
			{at + "status", `{"name":"kitchen","micro":true,"services":[{"service":"radio","state":"running"}]}`},
			{at + "status", ""},
			{"dominion/domain/mallory/status", string(topics.Encode(drained))},
			{at + "event", string(topics.Encode(crash))},
			{at + "event", byMallory(topics.DomainEvent, crash)},
			{at + "event", event},
			{at + "response", byMallory(topics.DomainResponse, topics.Reply{Transaction: "forged", Status: topics.StatusError, Error: "forged"})},
			{joins, string(topics.Encode(ask))},
			{joins, string(topics.Encode(renamed))},
			{joins, byMallory(topics.Request, ask)},
			{joins, strings.Replace(join, `"number":`, `"number":9`, 1)},
			{joins, join},
		}
		// hubBelieves checks what the hub says of kitchen.
		hubBelieves := func(when string) {
			t.Helper()
			var v topics.DomainView
			eventually(t, when+": kitchen is online and well", func() bool {
				v = home.awaitState("kitchen", topics.DomainIsOnline)
				return v.Problem == "" // it may have been asked for its status a moment ago
			})
			if v.Draining || v.Micro || len(v.Services) == 0 {
				t.Errorf("%s: %+v", when, v)
			}
			if v := home.domains()["mallory"]; v.State != "" && v.State != topics.DomainIsRefused {
				t.Errorf("%s: mallory is %+v", when, v)
			}
		}
		publish := func() {
			for _, f := range forged {
				home.Publish(f.topic, f.payload)
				home.Publish(f.topic, f.payload, "-r")
			}
		}
		mark = o.Now()
		publish()
		o.AwaitEvent(mark, "dominion/hub/event", topics.MessageRefused, "kitchen", "")
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		hubBelieves("after the forged messages")
		repeated := 0
		for _, e := range o.Events(mark) {
			if e.Type == topics.ServiceStarted && e.Service == "lamp" {
				repeated++
			}
			if strings.HasPrefix(e.Message, "forged") || e.Type == topics.EpochRaised || e.Type == topics.DomainRenamed || e.Type == topics.DomainDraining {
				t.Errorf("an event that was forged, or follows from it: %+v", e)
			}
		}
		if repeated > 0 {
			t.Errorf("an event of the former session was passed on %d times", repeated)
		}
		home.Journal.Undisturbed(t, "after the forged messages", before, starts)
		o.Until("kitchen has published its status again", func(v View) bool {
			s := v.Domain("kitchen")
			return s.ID == c.Domain && !s.Draining && s.Session != "" && s.Seq < 1<<40
		})

		t.Log("the hub restarts among them")
		publish()
		hub.Stop()
		if home.external != nil {
			publish()
		}
		home.StartHub()
		hubBelieves("after a restart of the hub")
		o = home.Observe()
		o.Until("the hub is ready", func(v View) bool { return v.Ready() && v.Healthy("web", 1) })
		hubBelieves("once it is ready")
		if got := o.Latest().Command("kitchen").Epoch; got != epoch+1 {
			t.Errorf("epoch %d after a restart, it was %d", got, epoch)
		}
		home.Journal.Undisturbed(t, "after the restart", before, starts)

		t.Log("what kitchen says itself is believed")
		if r := home.Ctl("drain", "kitchen"); r.Code != 0 {
			t.Errorf("drain: %+v", r)
		}
		eventually(t, "the hub has it that kitchen drains", func() bool { return home.domains()["kitchen"].Draining })
		if r := home.Ctl("logs", "web"); r.Code != 0 {
			t.Errorf("logs: %+v", r)
		}
	})
}
