package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/store/storetest"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// limited are the options of an engine whose users may have little written: a
// burst of 100 kB and 10 bytes a second.
func limited(s engine.Store) engine.Options {
	return engine.Options{Store: s, Unlimited: isAdmin, UserLimits: engine.UserLimits{Clients: 1000, WrittenBytes: 1_000_000}}
}

// exhaustBudget uses up what a user may have written at once.
func exhaustBudget(t *testing.T, e *engine.Engine, name string) {
	t.Helper()
	c := connect(t, pipe(t, e), "overspends-"+name, v5, user(name))
	for i := range 2 {
		c.publish(1, "spent", strings.Repeat(fmt.Sprint(i), 150_000), true)
		if i == 0 {
			c.expect(fmt.Sprintf("PUBACK %d", c.id))
		}
	}
	synctest.Wait()
	_ = c.conn.Close()
}

// expectWithinDays expects a packet within days.
func expectWithinDays(c *client, want string) {
	c.t.Helper()
	began := time.Now()
	for got := c.nextAsText(); got != want; got = c.nextAsText() {
		if !strings.Contains(got, "timeout") || time.Since(began) > 100*time.Hour {
			c.t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func payloads(state store.State) map[string]string {
	all := make(map[string]string)
	for _, m := range state.Retained {
		all[m.Topic] = string(m.Payload)
	}
	return all
}

// A user beyond his budget: the newest value of each topic is published at once,
// persisted when there is budget, acknowledged then and in order, and what is
// not acknowledged by then is all that a kill can take. Others are not affected.
func TestPacedValues(t *testing.T) {
	kept := &storetest.Memory{}
	inBubble(t, limited(kept), func(t *testing.T, e *engine.Engine) {
		exhaustBudget(t, e, "lamp")
		watch := connect(t, pipe(t, e), "watch", v5, user("admin"))
		watch.subscribeAndWait(0, "lamp/#")
		c := connect(t, pipe(t, e), "c", v5, user("lamp"))
		for i := range 10 {
			c.publish(0, "lamp/1", fmt.Sprint("one ", i), true)
			watch.expect(fmt.Sprint("lamp/1 one ", i))
		}
		first := c.publish(1, "lamp/2", "two", true)
		second := c.publish(1, "lamp/2", "newer", true)
		third := c.publish(1, "lamp/3", "not retained") // behind the others
		watch.expect("lamp/2 two", "lamp/2 newer", "lamp/3 not retained")
		c.expectNothing()
		other := connect(t, pipe(t, e), "other", v5, user("other"))
		other.publish(1, "other/1", "x", true)
		other.expect(fmt.Sprintf("PUBACK %d", other.id))
		synctest.Wait()
		if got := payloads(kept.State()); got["lamp/1"] != "" || got["lamp/2"] != "" {
			t.Errorf("persisted without a budget: %v", got)
		}
		expectWithinDays(c, fmt.Sprintf("PUBACK %d", first))
		c.expect(fmt.Sprintf("PUBACK %d", second), fmt.Sprintf("PUBACK %d", third))
		time.Sleep(24 * time.Hour)
		if got := payloads(kept.State()); got["lamp/1"] != "one 9" || got["lamp/2"] != "newer" {
			t.Errorf("not persisted a day later: %v", got)
		}
	})
}

// What waits is persisted when the engine ends, in the newest value, and what was
// cleared stays cleared.
func TestPacedValuesSurviveTheEnd(t *testing.T) {
	kept := &storetest.Memory{}
	inBubble(t, limited(kept), func(t *testing.T, e *engine.Engine) {
		before := connect(t, pipe(t, e), "before", v5, user("admin"))
		before.publish(1, "lamp/cleared", "x", true)
		before.expect("PUBACK 1")
		exhaustBudget(t, e, "lamp")
		c := connect(t, pipe(t, e), "c", v5, user("lamp"))
		for i := range 100 {
			c.publish(0, fmt.Sprint("lamp/", i%10), fmt.Sprint(i), true)
		}
		c.publish(0, "lamp/cleared", "", true)
		c.publish(0, "lamp/3", "", true)
		synctest.Wait()
		before.publish(1, "lamp/4", "of the admin", true) // who does not wait
		before.expect("PUBACK 2")
		if got := payloads(kept.State())["lamp/4"]; got != "of the admin" {
			t.Errorf("lamp/4 is %q once it is acknowledged", got)
		}
	})
	got := payloads(kept.State())
	for i := range 10 {
		want := fmt.Sprint(90 + i)
		switch i {
		case 3:
			want = ""
		case 4:
			want = "of the admin"
		}
		if got[fmt.Sprint("lamp/", i)] != want {
			t.Errorf("lamp/%d is %q, want %q", i, got[fmt.Sprint("lamp/", i)], want)
		}
	}
	if _, there := got["lamp/cleared"]; there {
		t.Error("what was cleared is there")
	}
}

// A publisher beyond his budget is slowed down where a session keeps what he
// publishes: nothing is lost, reordered, or acknowledged before it is kept.
func TestQueuedMessagesBeyondTheBudget(t *testing.T) {
	kept1 := &storetest.Memory{}
	inBubble(t, limited(kept1), func(t *testing.T, e *engine.Engine) {
		sub := connect(t, pipe(t, e), "sub", persistent, user("admin"))
		sub.subscribeAndWait(1, "q/#")
		sub.disconnect()
		exhaustBudget(t, e, "lamp")
		c := connect(t, pipe(t, e), "c", user("lamp"))
		for i := range 3 {
			n := c.publish(1, "q/1", strings.Repeat(fmt.Sprint(i), 100))
			if i == 0 {
				c.expectNothing()
			}
			expectWithinDays(c, fmt.Sprintf("PUBACK %d", n))
			queue := kept1.State().Sessions[0].Queue
			if len(queue) != i+1 || queue[i].Message.Payload[0] != byte('0'+i) {
				t.Errorf("%d messages are kept when number %d is acknowledged", len(queue), i)
			}
		}
	})
}

// A session whose user is beyond his budget gets everything, in order, and its
// publishers do not wait for that.
func TestSessionBeyondTheBudget(t *testing.T) {
	kept1 := &meteringStore{}
	inBubble(t, limited(kept1), func(t *testing.T, e *engine.Engine) {
		sub := connect(t, pipe(t, e), "own", v5, user("reader"), expiry(1_000_000))
		sub.subscribeAndWait(2, "q/#")
		exhaustSessionBudget(t, e, sub)
		kept1.take()
		pub := connect(t, pipe(t, e), "pub", v5, user("admin"))
		for i := range 100 {
			qos := byte(1 + i%2)
			id := int(pub.publish(qos, "q/1", fmt.Sprint(i)))
			if qos == 1 {
				pub.expect(fmt.Sprintf("PUBACK %d", id))
			} else {
				pub.expect(fmt.Sprintf("PUBREC %d", id))
				pub.ack(wire.Pubrel, uint16(id))
				pub.expect(fmt.Sprintf("PUBCOMP %d", id))
			}
			line := sub.nextAsText()
			if !strings.HasPrefix(line, fmt.Sprintf("q/1 %d qos %d id ", i, qos)) {
				t.Fatalf("got %q as message %d", line, i)
			}
			var n uint16
			if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &n); err != nil {
				t.Fatal(err)
			}
			if qos == 1 {
				sub.ack(wire.Puback, n)
				continue
			}
			sub.ack(wire.Pubrec, n)
			sub.expect(fmt.Sprintf("PUBREL %d", n))
			sub.ack(wire.Pubcomp, n)
		}
		synctest.Wait()
		if n := kept1.take(); n > 20_000 {
			t.Errorf("%d bytes were written for a session beyond its budget", n)
		}
	})
}

// exhaustSessionBudget uses up what the user of a session may have written, with
// messages for it.
func exhaustSessionBudget(t *testing.T, e *engine.Engine, sub *client) {
	t.Helper()
	for range 2 {
		e.Publish(topics.Message{Topic: "q/spent", Payload: make([]byte, 150_000), QoS: 1})
		line := sub.nextAsText()
		var n uint16
		if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &n); err != nil {
			t.Fatal(line, err)
		}
		sub.ack(wire.Puback, n)
	}
	synctest.Wait()
}
