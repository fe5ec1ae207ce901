package hub_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// repeat publishes messages each half second for a while.
func (h *home) repeat(long time.Duration, all ...topics.Message) {
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		for _, m := range all {
			h.publish(m.Topic, string(m.Payload), m.Retain)
		}
	}
}

// live returns messages of kitchen that somebody has recorded or forged.
func (o *orderedHome) live(k topics.Kind, payload string) topics.Message {
	return topics.Message{Topic: o.tree.Domain(k, "kitchen"), Payload: []byte(payload)}
}

// A domain that has a key lives by heartbeats with the MAC of its join alone: recorded and
// forged ones, its availability, its status, its metrics and its join keep a dead one from being
// lost no longer.
func TestForgedHeartbeats(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		request, _ := o.tree.Request(topics.VerbJoin)
		recorded := o.last(o.tree.Domain(topics.DomainHeartbeat, "kitchen"))
		b, err := topics.Decode[topics.Heartbeat]("", []byte(recorded))
		if err != nil || !signed.HasMAC([]byte(recorded)) {
			t.Fatalf("a heartbeat without a MAC: %s, %v", recorded, err)
		}
		b.Seq += 1000
		forged := []topics.Message{
			o.live(topics.DomainHeartbeat, recorded),
			o.live(topics.DomainHeartbeat, string(topics.Encode(b))),
			o.live(topics.DomainHeartbeat, strings.Replace(recorded, `"seq":`, `"seq":9`, 1)),
			o.live(topics.DomainMetrics, string(topics.Encode(topics.Metrics{Seq: 1000}))),
			o.live(topics.DomainStatus, o.last(o.tree.Domain(topics.DomainStatus, "kitchen"))),
			o.live(topics.DomainAvailability, topics.Online),
			{Topic: request, Payload: []byte(o.kitchen.question)},
		}
		o.repeat(5*time.Second, forged...)
		if o.saw(topics.DomainLost) || o.status().Domains.Online != 2 {
			t.Fatalf("forgery ended a domain that lives: %s", o.story())
		}
		if !o.refused("/heartbeat", "its number does not grow") || !o.refused("/metrics", "it is not signed") {
			t.Errorf("not reported: %s", o.story())
		}
		o.repeat(5*time.Second, o.live(topics.DomainAvailability, topics.Offline))
		if o.saw(topics.DomainLost) {
			t.Errorf("the word offline lost a domain that sends heartbeats: %s", o.story())
		}
		o.kitchen.cut()
		cut := time.Now()
		o.repeat(4*time.Second, forged...)
		if !o.saw(topics.DomainLost) || o.status().Domains.Online != 1 {
			t.Errorf("kitchen is not lost %v after its cable was cut: %s", time.Since(cut), o.story())
		}
		if lost := o.event(topics.DomainLost); lost.Domain != "kitchen" {
			t.Errorf("lost is %+v", lost)
		}
	})
}

// Heartbeats of a former run of the hub, with a MAC that was valid then, make nobody online.
func TestHeartbeatsOfAFormerRun(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		recorded := o.last(o.tree.Domain(topics.DomainHeartbeat, "kitchen"))
		status := o.last(o.tree.Domain(topics.DomainStatus, "kitchen"))
		o.kitchen.quit()
		o.attic.quit()
		o.stop()
		<-o.kitchen.connection().Done()
		<-o.attic.connection().Done()
		stored := o.live(topics.DomainStatus, status)
		stored.Retain = true
		o.before = []topics.Message{stored}
		o.start()
		if err := o.attic.join(); err != nil {
			t.Fatal(err)
		}
		defer o.attic.leave()
		o.repeat(20*time.Second, o.live(topics.DomainHeartbeat, recorded), o.live(topics.DomainAvailability, topics.Online))
		if s := o.status(); !s.Ready || s.Domains.Online != 1 || !o.saw(topics.DomainLost) {
			t.Errorf("%+v: %s", s, o.story())
		}
		if err := o.kitchen.join(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if s := o.status(); s.Domains.Online != 2 {
			t.Errorf("kitchen has joined, and is not online: %s", o.story())
		}
	})
}

// The hub signs its status, which names its run: that of the grant.
func TestHubStatusIsSigned(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		message := o.last(o.tree.Hub(topics.HubStatus))
		c := signed.Context{Kind: topics.HubStatus.SignedKind(), Dominion: o.home.hub.ID()}
		if _, err := signed.Verify(o.hub.Key, c, []byte(message)); err != nil {
			t.Errorf("%v: %s", err, message)
		}
		if s := o.status(); s.Run == "" || s.Run != o.kitchen.key.run || s.Key != o.hub.KeyHash {
			t.Errorf("run %q of %q, key %q", s.Run, o.kitchen.key.run, s.Key)
		}
	})
}

// No microdomain has the name of a domain that has a key, also while that one is away.
func TestMicrodomainInTheNameOfADomain(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		o.kitchen.cut()
		time.Sleep(10 * time.Second)
		o.publish(o.tree.Domain(topics.DomainStatus, "kitchen"), `{"name":"kitchen","micro":true,"traits":[],"services":[{"service":"web","state":"running","health":"healthy","version":"1.0.0","revision":"x","restarts":0}]}`, true)
		o.publish(o.tree.Domain(topics.DomainAvailability, "kitchen"), topics.Online, true)
		if o.status().Domains.Online != 1 {
			t.Errorf("a microdomain is kitchen: %s", o.story())
		}
		if e := o.event(topics.MessageRefused); !strings.Contains(e.Message, "kitchen") {
			t.Errorf("reported %+v", e)
		}
	})
}

// A domain that has a key makes heartbeats for itself alone: with the id of another one, which is
// away, it does not take over what that one was.
func TestDomainThatNamesAnother(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		o.kitchen.quit()
		o.attic.leave()
		time.Sleep(time.Hour)
		b := topics.Heartbeat{ID: o.attic.id, Session: "s", Seq: 1 << 20}
		forged := o.kitchen.key.withMAC(topics.DomainHeartbeat, topics.Encode(b))
		o.publish(o.tree.Domain(topics.DomainHeartbeat, "kitchen"), string(forged), false)
		if o.saw(topics.DomainRenamed) || o.domain("attic").ID != o.attic.id || o.domain("kitchen").ID != o.kitchen.id {
			t.Errorf("attic is %+v, kitchen %+v; events %s", o.domain("attic"), o.domain("kitchen"), o.story())
		}
		if !o.refused("/heartbeat", "another domain") {
			t.Errorf("not reported: %s", o.story())
		}
	})
}

// The name of a domain that has a key is its own before it has joined: the heartbeats of another
// machine, which has none, do not keep it from joining.
func TestNameOfADomainThatHasNotJoined(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		o.kitchen.quit()
		o.attic.leave()
		o.stop()
		<-o.kitchen.connection().Done()
		setup := o.setup
		o.setup = func(state *store.Store, options *hub.Options) {
			state.Change(func(s *store.State) { delete(s.Domains, "kitchen"); delete(s.Domains, "attic") })
			setup(state, options)
		}
		o.start()
		b := topics.Heartbeat{ID: o.attic.id, Session: "mine", Seq: 1}
		for range 5 {
			o.publish(o.tree.Domain(topics.DomainHeartbeat, "kitchen"), string(topics.Encode(b)), false)
			b.Seq++
			time.Sleep(time.Second)
		}
		if err := o.kitchen.join(); err != nil {
			t.Errorf("kitchen cannot join: %v; events %s", err, o.story())
		}
		if d := o.domain("kitchen"); d.ID != o.kitchen.id {
			t.Errorf("kitchen is %+v", d)
		}
	})
}
