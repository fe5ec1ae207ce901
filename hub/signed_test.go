package hub_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// forgeries returns a payload of kitchen as whoever controls the broker can alter it. right is
// as the domain signs it.
func (o *orderedHome) forgeries(k topics.Kind, payload []byte) map[string][]byte {
	right := o.kitchen.key.sign(k, payload)
	other := newSigningDomain(o.T, o.kitchen.id)
	other.dominion = o.kitchen.key.dominion
	neighbour, attic := *o.kitchen.key, *o.kitchen.key
	neighbour.dominion, attic.id = "another", o.attic.id
	another := topics.DomainEvent
	if k == another {
		another = topics.DomainResponse
	}
	twice := append(payload[:len(payload)-1:len(payload)-1], `,"Message":"x","MESSAGE":"y"}`...)
	return map[string][]byte{
		"unsigned":            payload,
		"by another key":      other.sign(k, payload),
		"by the hub's key":    (&signingDomain{t: o.T, key: o.hubKey, id: o.kitchen.id, dominion: o.kitchen.key.dominion}).sign(k, payload),
		"of another dominion": neighbour.sign(k, payload),
		"of another domain":   attic.sign(k, payload),
		"of another kind":     o.kitchen.key.sign(another, payload),
		"altered":             bytes.Replace(right, []byte(`"e"`), []byte(`"f"`), 1),
		"a name twice":        o.kitchen.key.sign(k, twice),
		"bytes after it":      append(right[:len(right):len(right)], ' '),
		"an empty object":     []byte("{}"),
	}
}

// What a domain that has a key publishes of itself is believed only if it has signed it, live
// or retained, and once.
func TestForgedStatus(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		k, topic := o.kitchen, o.tree.Domain(topics.DomainStatus, "kitchen")
		unchanged := func(what string) {
			t.Helper()
			time.Sleep(5 * time.Second)
			v := o.domain("kitchen")
			if v.State != topics.DomainIsOnline || v.Draining || v.Micro || v.Address == "192.0.2.66" || len(v.Services) != 1 || v.Problem != "" {
				t.Errorf("%s: %+v", what, v)
			}
		}
		unchanged("before")
		forged := topics.Domain{ID: k.id, Name: "kitchen", Session: "s", Seq: 1000, Draining: true, Address: "192.0.2.66", Version: "e", Protocol: topics.Protocol}
		for name, payload := range o.forgeries(topics.DomainStatus, topics.Encode(forged)) {
			for _, retained := range []bool{false, true} {
				time.Sleep(2 * time.Minute) // reports are rate limited
				before := o.count(topics.MessageRefused)
				o.publish(topic, string(payload), retained)
				unchanged(name)
				if o.count(topics.MessageRefused) == before {
					t.Errorf("%s: nothing is reported", name)
				}
			}
		}
		former, old, micro := forged, forged, forged
		former.Session, old.Seq, micro.Micro = "former", 1, true
		for name, s := range map[string]topics.Domain{"a former session": former, "an older one": old, "a microdomain, signed": micro} {
			o.publish(topic, string(k.key.sign(topics.DomainStatus, topics.Encode(s))), false)
			unchanged(name)
		}
		o.publish(topic, `{"name":"kitchen","micro":true,"services":[{"service":"web","state":"running"}]}`, true)
		unchanged("a microdomain of its name")
		o.publish(o.tree.Domain(topics.DomainAvailability, "mallory"), topics.Online, false)
		forged.Name = "mallory"
		o.publish(o.tree.Domain(topics.DomainStatus, "mallory"), string(topics.Encode(forged)), false)
		unchanged("its id at another name")

		// What it has signed itself is believed, and what was overwritten is published again.
		time.Sleep(time.Minute)
		before := len(o.orders(topics.DomainCommand, "kitchen"))
		for range 20 { // the last one is overwritten too
			o.publish(topic, "{}", true)
			time.Sleep(time.Second)
		}
		time.Sleep(15 * time.Second)
		commands := o.orders(topics.DomainCommand, "kitchen")
		if n := len(commands) - before; n < 2 || n > 4 {
			t.Fatalf("it was asked for its status %d times", n)
		}
		if c := verified[topics.Command](o, topics.DomainCommand, commands[len(commands)-1]); c.Action != topics.ActionReport {
			t.Errorf("the last command is %+v", c)
		}
		o.publish(o.tree.Domain(topics.DomainDrainSet, "attic"), topics.Off, false)
		k.mu.Lock()
		k.draining = true
		k.mu.Unlock()
		k.report()
		time.Sleep(5 * time.Second)
		if v := o.domain("kitchen"); !v.Draining {
			t.Errorf("its own status: %+v", v)
		}
	})
}

// While a domain that has a key is away, nobody gives it another name.
func TestNobodyRenamesADomainWithAKey(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		request, _ := o.tree.Request(topics.VerbJoin)
		o.kitchen.leave()
		time.Sleep(time.Hour)
		o.publish(o.tree.Domain(topics.DomainAvailability, "mallory"), topics.Online, false)
		b := topics.Heartbeat{ID: o.kitchen.id, Session: "mine", Seq: 1}
		s := topics.Domain{ID: o.kitchen.id, Name: "mallory", Session: "mine", Seq: 1, Protocol: topics.Protocol}
		for range 10 {
			o.publish(o.tree.Domain(topics.DomainHeartbeat, "mallory"), string(topics.Encode(b)), false)
			o.publish(o.tree.Domain(topics.DomainStatus, "mallory"), string(topics.Encode(s)), false)
			o.publish(request, string(topics.Encode(topics.HubRequest{Transaction: "t", ID: o.kitchen.id, Name: "mallory", Session: "mine"})), false)
			b.Seq++
			s.Seq++
			time.Sleep(time.Second)
		}
		if o.saw(topics.DomainRenamed) || o.domain("kitchen").ID != o.kitchen.id {
			t.Errorf("kitchen is %+v; events %s", o.domain("kitchen"), o.story())
		}
		if !o.saw(topics.MessageRefused) {
			t.Error("nothing is reported")
		}
	})
}

// Events and answers of a domain that has a key are passed on if it has signed them, each once.
func TestForgedEvents(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		topic := o.tree.Domain(topics.DomainEvent, "kitchen")
		event := func(session string, seq uint64) []byte {
			return topics.Encode(topics.Event{At: topics.At(time.Now()), Type: topics.ServiceCrashed, Service: "web", Message: "e", Session: session, Seq: seq})
		}
		passedOn := func(what string, payload []byte, retained bool, want int) {
			t.Helper()
			time.Sleep(2 * time.Minute)
			before := o.count(topics.ServiceCrashed)
			o.publish(topic, string(payload), retained)
			if got := o.count(topics.ServiceCrashed) - before; got != want {
				t.Errorf("%s: %d events, want %d", what, got, want)
			}
		}
		for name, payload := range o.forgeries(topics.DomainEvent, event("s", 1)) {
			passedOn(name, payload, false, 0)
			passedOn(name, payload, true, 0)
		}
		sign := func(payload []byte) []byte { return o.kitchen.key.sign(topics.DomainEvent, payload) }
		passedOn("of a former session", sign(event("former", 1)), false, 0)
		passedOn("without a session", sign(event("", 1)), false, 0)
		passedOn("its own", sign(event("s", 1)), false, 1)
		if e := o.event(topics.ServiceCrashed); e.Domain != "kitchen" || e.Session != "" || e.Seq != 0 || e.Message != "e" {
			t.Errorf("passed on as %+v", e)
		}
		passedOn("replayed", sign(event("s", 1)), false, 0)
		passedOn("the next", sign(event("s", 2)), false, 1)
		passedOn("an older one", sign(event("s", 1)), false, 0)
		unsigned := topics.Encode(topics.Event{At: topics.At(time.Now()), Type: topics.ServiceCrashed, Service: "web", Message: "x"})
		before := o.count(topics.ServiceCrashed)
		o.publish(o.tree.Domain(topics.DomainEvent, "attic"), string(unsigned), false)
		if o.count(topics.ServiceCrashed) != before+1 {
			t.Error("a domain without a key: its event is not passed on")
		}
	})
}

// Who floods the hub with forged messages of a domain neither delays others nor is reported
// more often than is bounded; the domain's own are taken after them.
func TestFloodOfForgedMessages(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		other := newSigningDomain(t, o.kitchen.id)
		other.dominion = o.kitchen.key.dominion
		topic := o.tree.Domain(topics.DomainEvent, "kitchen")
		time.Sleep(2 * time.Minute)
		before := o.count(topics.MessageRefused)
		for n := range 500 {
			e := topics.Event{Type: topics.ServiceCrashed, Message: fmt.Sprint(n), Session: "s", Seq: uint64(n + 1)}
			o.publish(topic, string(other.sign(topics.DomainEvent, topics.Encode(e))), false)
		}
		if n := o.count(topics.MessageRefused) - before; n == 0 || n > 20 {
			t.Errorf("%d reports of 500 forged messages", n)
		}
		crashed := o.count(topics.ServiceCrashed)
		time.Sleep(2 * time.Minute)
		e := topics.Event{At: topics.At(time.Now()), Type: topics.ServiceCrashed, Service: "web", Message: "e", Session: "s", Seq: 1}
		message := o.kitchen.key.sign(topics.DomainEvent, topics.Encode(e))
		if !signed.IsSigned(message) {
			t.Fatal("not signed")
		}
		o.publish(topic, string(message), false)
		if crashed != 0 || o.count(topics.ServiceCrashed) != 1 {
			t.Errorf("%d events of forged messages; %d with the one of the domain", crashed, o.count(topics.ServiceCrashed))
		}
	})
}

// A user of the broker who sends wrong signatures by any number of client identifiers is rate
// limited as one, and nobody else is.
func TestFloodByManyClientsOfAUser(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		other := newSigningDomain(t, o.kitchen.id)
		other.dominion = o.kitchen.key.dominion
		request, _ := o.tree.Request(topics.VerbJoin)
		clients := 0
		flood := func() {
			const fewerThanWait = 50
			for range fewerThanWait {
				clients++
				ask := topics.HubRequest{Transaction: fmt.Sprint(clients), ID: o.kitchen.id, Name: "kitchen", Session: "forged"}
				o.home.hub.Deliver(topics.Message{Topic: request, Payload: other.join(ask), QoS: 1, User: "mallory", Client: fmt.Sprint(clients)})
			}
		}
		for range 25 {
			flood()
			o.last("") // waits
			time.Sleep(time.Second)
		}
		flood()
		e := topics.Event{At: topics.At(time.Now()), Type: topics.ServiceCrashed, Service: "web", Message: "e", Session: "s", Seq: 1}
		o.publish(o.tree.Domain(topics.DomainEvent, "kitchen"), string(o.kitchen.key.sign(topics.DomainEvent, topics.Encode(e))), false)
		if o.count(topics.ServiceCrashed) != 1 {
			t.Errorf("the event of kitchen is not taken: %s", o.story())
		}
	})
}
