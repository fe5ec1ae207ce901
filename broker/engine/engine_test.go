package engine_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store/storetest"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// inBubble runs a test with an engine in virtual time.
func inBubble(t *testing.T, o engine.Options, f func(t *testing.T, e *engine.Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e, err := engine.New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer closeEngine(t, e)
		f(t, e)
	})
}

func closeEngine(t *testing.T, e *engine.Engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := e.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestKeepAlive(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		watch := connect(t, pipe(t, e), "watch")
		watch.subscribeAndWait(0, "w")
		c := connect(t, pipe(t, e), "c", v5, keepAlive(10), will("w", "gone", 0, false, 0))
		began := time.Now()
		for range 5 {
			time.Sleep(14 * time.Second)
			c.send([]byte{wire.Pingreq << 4, 0})
			c.expect("PINGRESP")
		}
		c.expect("DISCONNECT 8d", "closed")
		if d := time.Since(began); d != 85*time.Second {
			t.Errorf("closed after %v, want 5 times 14 s and 15 s", d)
		}
		watch.expect("w gone")
	})
}

func TestSilentConnectionIsClosed(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		conn := pipe(t, e)
		began := time.Now()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a packet came")
		}
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("closed after %v, want 10 s", d)
		}
	})
}

// The will of a connection that is taken over is out before the new one says
// anything; that of a session that is kept waits for its delay.
func TestWills(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		watch := connect(t, pipe(t, e), "watch")
		watch.subscribeAndWait(0, "w")
		one := connect(t, pipe(t, e), "c", v5, will("w", "one", 0, false, 0))
		two := connect(t, pipe(t, e), "c", v5, will("w", "two", 0, false, 0))
		two.publish(0, "w", "online")
		watch.expect("w one", "w online")
		one.expect("DISCONNECT 8e", "closed")
		two.disconnect() // and no will
		watch.expectNothing()

		delayed := connect(t, pipe(t, e), "d", persistent, expiry(100), will("w", "late", 0, false, 30))
		delayed.conn.Close()
		time.Sleep(29 * time.Second)
		watch.expectNothing()
		back := connect(t, pipe(t, e), "d", persistent, expiry(100), will("w", "later", 0, false, 30))
		back.conn.Close()
		time.Sleep(29 * time.Second)
		watch.expectNothing()
		began := time.Now()
		watch.expect("w later")
		if d := time.Since(began).Round(time.Millisecond); d > 2*time.Second {
			t.Errorf("the will came %v late", d)
		}

		// the end of the session comes before the delay
		short := connect(t, pipe(t, e), "s", persistent, expiry(5), will("w", "short", 0, false, 30))
		short.conn.Close()
		began = time.Now()
		watch.expect("w short")
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("the will came after %v, want 5 s", d)
		}
	})
}

// A client that has seen the end of its connection after DISCONNECT may come
// again at once, before the goroutine that read for it has finished with it.
func TestNoWillOfWhoComesAgainAtOnce(t *testing.T) {
	e, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeEngine(t, e)
	watch := connect(t, pipe(t, e), "watch")
	watch.subscribeAndWait(0, "w")
	var all sync.WaitGroup
	for n := range 32 {
		all.Go(func() {
			for range 100 {
				connect(t, pipe(t, e), fmt.Sprint("c", n), will("w", "a will", 0, false, 0)).disconnect()
			}
		})
	}
	all.Wait()
	e.Publish(topics.Message{Topic: "w", Payload: []byte("the end")})
	watch.expect("w the end")
}

func TestSessionExpiry(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", persistent, expiry(60))
		c.subscribeAndWait(1, "a")
		c.disconnect()
		e.Publish(topics.Message{Topic: "a", Payload: []byte("1"), QoS: 1})
		time.Sleep(59 * time.Second)
		c = handshake(t, pipe(t, e), "c", persistent, expiry(60))
		c.expect("CONNACK 0 present true", "a 1 qos 1 id 1")
		c.disconnect()
		time.Sleep(61 * time.Second)
		handshake(t, pipe(t, e), "c", persistent, expiry(60)).expect("CONNACK 0 present false")
	})
}

// What the hub says last is heard, by one that acknowledges as well.
func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := engine.New(engine.Options{})
		c := connect(t, pipe(t, e), "c", v5, window(10), will("x", "x", 0, true, 0))
		c.subscribeAndWait(1, "a")
		const n = 2000
		for i := range n {
			e.Publish(topics.Message{Topic: "a", Payload: fmt.Append(nil, i), QoS: 1})
		}
		ended := make(chan struct{})
		go func() { closeEngine(t, e); close(ended) }()
		for i := range n {
			id := uint16(i%65535 + 1)
			c.expect(fmt.Sprintf("a %d qos 1 id %d", i, id))
			c.ack(wire.Puback, id)
		}
		c.expect("DISCONNECT 8b", "closed")
		<-ended
		e.Retained(func(m topics.Message) bool { t.Errorf("a will was sent: %v", m); return true })
		if _, err := pipe(t, e).Read(make([]byte, 1)); err == nil {
			t.Error("a connection was taken after Close")
		}
	})
}

// One that stands still stops nobody, and not the clock; it is dropped what is
// beyond its limit and then closed.
func TestStalledClient(t *testing.T) {
	inBubble(t, engine.Options{Limits: engine.Limits{MaxQueuedMessages: 100}}, func(t *testing.T, e *engine.Engine) {
		stalled := connect(t, pipe(t, e), "stalled", persistent, expiry(1000))
		stalled.subscribeAndWait(1, "a")
		well := connect(t, pipe(t, e), "well")
		well.subscribeAndWait(0, "a")
		pub := connect(t, pipe(t, e), "pub")
		for i := range 50 {
			pub.publish(0, "a", fmt.Sprint(i))
			well.expect(fmt.Sprintf("a %d", i))
		}
		began := time.Now()
		for i := range 2000 {
			pub.publish(1, "a", fmt.Sprint(i))
			pub.expect(fmt.Sprintf("PUBACK %d", i+1))
			well.expect(fmt.Sprintf("a %d", i))
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("the others waited for %v", d)
		}
		time.Sleep(time.Minute)
		if s := e.Stats(); s.Connections != 2 || s.Dropped == 0 {
			t.Errorf("%+v", s)
		}
		// its session is kept, with what fits
		back := handshake(t, pipe(t, e), "stalled", persistent, expiry(1000))
		back.expect("CONNACK 0 present true")
		if first, _, err := back.frame(time.Second); err != nil || first>>4 != wire.PublishType {
			t.Errorf("got type %d, %v", first>>4, err)
		}
	})
}

func TestSubscribeInside(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		say := func(topic, payload string, retain bool) {
			e.Publish(topics.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: retain, ResponseTopic: "r", Correlation: []byte("c")})
		}
		for i := range 1000 {
			say(fmt.Sprintf("a/%03d", i), "old", true)
		}
		var got []string
		stop, err := e.Subscribe("a/#", func(m topics.Message, stored bool) {
			got = append(got, fmt.Sprintf("%s %s %v %v %s%s", m.Topic, m.Payload, m.Retain, stored, m.ResponseTopic, m.Correlation))
		})
		if err != nil || len(got) != 1000 || got[0] != "a/000 old true true rc" || !slices.IsSorted(got) {
			t.Errorf("got %d, %v", len(got), err)
		}
		got = nil
		say("a/1", "x", true)
		say("a/1", "y", false)
		say("b", "z", false)
		synctest.Wait()
		if want := []string{"a/1 x true false rc", "a/1 y false false rc"}; !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
		for _, f := range []string{"a/#/b", "", "$share/g/a"} {
			if _, err := e.Subscribe(f, nil); err == nil {
				t.Errorf("filter %q was taken", f)
			}
		}
		got = nil
		stop()
		stop()
		say("a/1", "x", true)
		synctest.Wait()
		if len(got) != 0 {
			t.Errorf("after the end of the subscription: %q", got)
		}
	})
}

// Overlapping subscriptions deliver once, with all identifiers and the highest
// QoS; those with "no local" only what others say.
func TestOverlap(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", v5)
		c.subscribe(packets.Subscription{Filter: "a/#", Qos: 0, Identifier: 1})
		c.expect("SUBACK 00")
		c.subscribe(packets.Subscription{Filter: "a/+", Qos: 1, Identifier: 2, NoLocal: true})
		c.expect("SUBACK 01")
		c.publish(1, "a/b", "mine")
		c.expect("a/b mine ids [1]", "PUBACK 3")
		e.Publish(topics.Message{Topic: "a/b", Payload: []byte("theirs"), QoS: 2})
		c.expect("a/b theirs qos 1 id 1 ids [1 2]")
	})
}

func TestSharedSubscription(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		one := connect(t, pipe(t, e), "one", persistent, expiry(100))
		two := connect(t, pipe(t, e), "two", persistent, expiry(100))
		off := connect(t, pipe(t, e), "off", persistent, expiry(100))
		for _, c := range []*client{one, two, off} {
			c.subscribeAndWait(1, "$share/g/a")
		}
		off.disconnect()
		synctest.Wait() // until its session has no connection any more
		say := func(i int) { e.Publish(topics.Message{Topic: "a", Payload: fmt.Append(nil, i), QoS: 1}) }
		for i := range 4 {
			say(i)
		}
		one.expect("a 0 qos 1 id 1", "a 2 qos 1 id 2")
		two.expect("a 1 qos 1 id 1", "a 3 qos 1 id 2")
		// what one has not acknowledged when its session ends goes to another
		one.conn.Close()
		time.Sleep(time.Second)
		handshake(t, pipe(t, e), "one", v5, cleanSession).expect("CONNACK 0 present false")
		two.expect("a 0 qos 1 id 3", "a 2 qos 1 id 4")
	})
}

// What a member of a shared subscription had when its session ends goes to
// another, also after a restart in between: but not QoS 2 that it was sent
// [MQTT-4.8.2-5].
func TestSharedSubscriptionMovesOverRestart(t *testing.T) {
	const share = "$share/g/q/+"
	restartRuns(t, &storetest.Memory{}, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		one := connect(t, pipe(t, e), "one", expiry(60))
		one.subscribeAndWait(2, share)
		pub := connect(t, pipe(t, e), "pub")
		pub.publish(1, "q/1", "sent")
		pub.publish(2, "q/2", "sent")
		one.expect("q/1 sent qos 1 id 1", "q/2 sent qos 2 id 2")
		one.disconnect()
		pub.publish(1, "q/3", "queued")
		pub.publish(2, "q/4", "queued")
		brief := connect(t, pipe(t, e), "brief", v5)
		o := wire.Outgoing{Flags: 1 << 1, PacketID: 1, Topic: "q/5", HasExpiry: true, Expiry: 10, Payload: 1}
		brief.send(append(o.Append(nil, wire.V5), 'x'))
		brief.expect("PUBACK 1")
		pub.expect("PUBACK 1", "PUBREC 2", "PUBACK 3", "PUBREC 4")
	}, func(t *testing.T, e *engine.Engine) {
		two := connect(t, pipe(t, e), "two")
		two.subscribeAndWait(2, share)
		other := connect(t, pipe(t, e), "other")
		other.subscribeAndWait(2, "$share/other/q/+")
		time.Sleep(50 * time.Second)
		two.expectNothing()
		two.expectWithin(20*time.Second, "q/1 sent qos 1 id 1")
		two.expect("q/3 queued qos 1 id 2", "q/4 queued qos 2 id 3")
		two.expectNothing()
		other.expectNothing()
	})
}

// What may be seen is asked for each delivery, and anew when the rules change.
func TestAccess(t *testing.T) {
	secret := "s"
	allow := func(c engine.Client, a engine.Action, topic string) bool {
		return c.User == "root" || topic != secret && topic != "never"
	}
	inBubble(t, engine.Options{Allow: allow}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", v5)
		c.subscribeAndWait(0, "#")
		c.subscribe(packets.Subscription{Filter: "never", Qos: 1})
		c.expect("SUBACK 87")
		say := func(topic string) {
			e.Publish(topics.Message{Topic: topic, Payload: []byte("x"), QoS: 1, Retain: true})
		}
		say("s")
		say("t")
		c.expect("t x")
		c.publish(1, "never", "x")
		c.expect("PUBACK 3 code 87")
		secret = "t"
		e.AccessChanged()
		say("t")
		say("s")
		c.expect("s x")
		late := connect(t, pipe(t, e), "late", user("root"))
		late.subscribeAndWait(0, "#")
		late.expect("s x retained", "t x retained")
		w := connect(t, pipe(t, e), "w", v5, will("never", "x", 0, true, 0))
		_ = w.conn.Close()
		synctest.Wait()
		if n := e.Stats().Retained; n != 2 {
			t.Errorf("%d messages are retained, want 2", n)
		}
	})
}
