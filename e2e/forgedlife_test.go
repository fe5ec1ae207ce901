package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// recordLife returns the last messages by which a domain shows that it lives and is allowed to run
// exclusive services, and the hub that it is there, with the join of the domain.
func recordLife(o *Observer, domain string) []Message {
	o.t.Helper()
	mark := o.Now()
	at := "dominion/domain/" + domain + "/"
	all := []Message{
		awaitLiveHeartbeat(o, mark, domain),
		o.Await("a lease of "+domain, mark, func(m Message) bool { return m.Topic == at+"lease" }),
	}
	v := o.Latest()
	for _, topic := range []string{at + "metrics", at + "status", at + "availability", "dominion/hub/status"} {
		all = append(all, v[topic])
	}
	for _, m := range o.Since(Mark{}) {
		if m.Topic == "dominion/request/join" && strings.Contains(m.Payload, `"name":"`+domain+`"`) {
			all = append(all, m)
		}
	}
	return all
}

// repeat publishes a message again and again until the test ends, five times a second.
func (h *Home) repeat(topic, payload string) {
	h.t.Helper()
	h.observer.Start("mosquitto_pub", append(h.clientArgs(), "-q", "1", "-t", topic, "-m", payload, "--repeat", "1000", "--repeat-delay", "0.2")...)
}

// Whoever controls the broker records and forges what shows that a domain lives. A restart of
// the hub loses nobody by it; a domain whose power was cut is lost all the same, its service
// goes elsewhere, and a lease ends where the hub does not renew it.
func TestForgedSignsOfLife(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		x := newExclusiveHome(t, home, exclusiveTiming, `stop_timeout = "1s"`)
		from, _, pid := x.begins(1)
		x.healthy(from.Name)
		at := "dominion/domain/" + from.Name + "/"
		former := recordLife(x.o, from.Name)
		for _, m := range former[:3] {
			if !signed.HasMAC([]byte(m.Payload)) || !json.Valid([]byte(m.Payload)) {
				t.Errorf("it has no MAC: %v", m)
			}
		}

		t.Log("the hub is killed and comes back: everybody joins it again, and nobody is lost")
		x.hub.Kill()
		x.hub = home.StartHub()
		x.healthy(from.Name)
		for _, d := range x.domains {
			awaitLiveHeartbeat(x.o, x.o.Now(), d.Name)
		}
		recorded := append(former, recordLife(x.o, from.Name)...)
		for _, e := range x.o.Events(Mark{}) {
			if e.Type == topics.DomainLost {
				t.Errorf("the restart of the hub lost a domain: %+v", e)
			}
		}
		x.never()
		if n := len(x.beginnings()); n != 1 || !alive(pid) {
			t.Errorf("boiler began %d times: %v", n, x.beginnings())
		}

		t.Log("forged while it lives")
		b := decode[topics.Heartbeat](t, former[0])
		status := topics.Hub{ID: "x", Name: "home", Protocol: "9.0", Epoch: 1 << 40, Run: "forged"}
		home.Publish("dominion/hub/status", string(topics.Encode(status)))
		home.Publish(at+"lease", string(topics.Encode(topics.Lease{Epoch: 1 << 40, Session: b.Session, Seq: b.Seq, Seconds: 3600})))
		home.Publish(at+"lease", former[1].Payload)
		x.agents[from.Name].AwaitLog("cannot take dominion/hub/status: it is not signed")
		x.agents[from.Name].AwaitLog("it does not have the MAC of the hub")
		b.Seq = 1 << 50
		home.Publish(at+"heartbeat", string(topics.Encode(b)))
		x.o.Await("the forged heartbeat is reported", Mark{}, func(m Message) bool {
			return m.Topic == "dominion/hub/event" && strings.Contains(m.Payload, "cannot take "+at+"heartbeat: it is not signed")
		})
		awaitLiveHeartbeat(x.o, x.o.Now(), from.Name)

		t.Log("its power is cut, and its life is forged")
		mark := x.o.Now()
		from.PowerCut()
		forged := append(recorded, Message{Topic: at + "heartbeat", Payload: string(topics.Encode(b))})
		for _, m := range forged {
			home.repeat(m.Topic, m.Payload)
		}
		x.o.AwaitEvent(mark, "dominion/hub/event", topics.DomainLost, from.Name, "")
		was := from
		from, to, pid := x.begins(2)
		if from.Name == was.Name {
			t.Errorf("it began on %s, whose power is cut", was.Name)
		}
		x.o.Await("a recorded heartbeat, after all that", x.o.Now(), func(m Message) bool {
			return m.Topic == at+"heartbeat" && m.Payload == recorded[0].Payload
		})
		if x.o.Latest().Healthy("boiler", 1) && x.o.Latest().Service("boiler").Instances[0].Domain == was.Name {
			t.Errorf("boiler is offered on %s, whose power is cut", was.Name)
		}

		if home.external != nil {
			t.Log("the hub is gone, and leases are forged and recorded ones repeated: what runs by them ends")
			at := "dominion/domain/" + from.Name + "/"
			lease := recordLife(x.o, from.Name)[1]
			x.hub.Kill()
			home.repeat(at+"lease", lease.Payload)
			eventually(t, "it ends without the hub", func() bool {
				b := decode[topics.Heartbeat](t, awaitLiveHeartbeat(x.o, x.o.Now(), from.Name))
				home.Publish(at+"lease", string(topics.Encode(topics.Lease{Epoch: b.Epoch, Session: b.Session, Seq: b.Seq, Seconds: 3600})))
				return !alive(pid)
			})
			return
		}

		t.Log("it comes back, and counts by its own heartbeats")
		to.LinkUp()
		x.agents[to.Name] = to.Start()
		x.o.AwaitEvent(mark, "dominion/hub/event", topics.DomainReturned, to.Name, "")
		x.never()
	})
}
