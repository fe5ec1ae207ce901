package engine_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store/storetest"
	"github.com/jmbarzee/dominion/topics"
)

// willSubscriber subscribes somebody who is told wills.
func willSubscriber(t *testing.T, e *engine.Engine) *client {
	watch := connect(t, pipe(t, e), "watch", v5)
	watch.subscribeAndWait(0, "w/#")
	return watch
}

// expectWithin expects a message within some time.
func (c *client) expectWithin(patience time.Duration, want string) {
	c.t.Helper()
	first, body, err := c.frame(patience)
	if err != nil {
		c.t.Fatal(err)
	}
	if got := c.message(first, body); got != want {
		c.t.Fatalf("got %q, want %q", got, want)
	}
}

// retained holds the retained messages by topic, and ordered by topic, so that a
// replay can continue after any topic without a copy. It is a skip list with an index.
func retained(e *engine.Engine) (all []string) {
	e.Retained(func(m topics.Message) bool { all = append(all, m.Topic); return true })
	return all
}

// Wills survive, those of sessions that end with their connection too; their
// clients have time to come back first.
func TestWillOverRestart(t *testing.T) {
	begin := func(t *testing.T, e *engine.Engine) {
		connect(t, pipe(t, e), "a", persistent, expiry(1000), will("w/a", "gone", 1, true, 0))
		connect(t, pipe(t, e), "b", persistent, expiry(1000), will("w/b", "gone", 1, true, 0))
		connect(t, pipe(t, e), "c", will("w/c", "gone", 1, true, 0))
		connect(t, pipe(t, e), "d", persistent, expiry(1000), will("w/d", "gone", 1, true, 0)).disconnect()
		connect(t, pipe(t, e), "e", will("w/e", "gone", 1, true, 0))
		connect(t, pipe(t, e), "f", will("w/f", "gone", 1, true, 0)).disconnect()
		connect(t, pipe(t, e), "g", expiry(1000), will("w/g", "gone", 1, true, 0))
		connect(t, pipe(t, e), "h", expiry(1000), will("w/h", "gone", 1, true, 60))
	}
	after := func(t *testing.T, e *engine.Engine) {
		watch := willSubscriber(t, e)
		time.Sleep(25 * time.Second)
		handshake(t, pipe(t, e), "a", persistent, expiry(1000)).expect("CONNACK 0 present true")
		handshake(t, pipe(t, e), "e").expect("CONNACK 0 present false")
		handshake(t, pipe(t, e), "g", expiry(1000)).expect("CONNACK 0 present false")
		watch.expectNothing()
		time.Sleep(6 * time.Second)
		got := map[string]bool{watch.nextAsText(): true, watch.nextAsText(): true}
		if !got["w/b gone"] || !got["w/c gone"] {
			t.Errorf("got %v", got)
		}
		watch.expectNothing()
		watch.expectWithin(time.Minute, "w/h gone")
		time.Sleep(time.Hour)
		watch.expectNothing()
		if all := retained(e); fmt.Sprint(all) != "[w/b w/c w/h]" {
			t.Errorf("retained are %q", all)
		}
	}
	quiet := func(t *testing.T, e *engine.Engine) { // each was sent once
		watch := willSubscriber(t, e)
		watch.expect("w/b gone retained", "w/c gone retained", "w/h gone retained")
		time.Sleep(time.Hour)
		watch.expectNothing()
		for _, s := range e.Sessions() {
			if s.ID == "c" {
				t.Error("the session that only had a will is still there")
			}
		}
	}
	t.Run("killed", func(t *testing.T) {
		restartRuns(t, &storetest.Memory{}, engine.Options{}, begin, after, quiet)
	})
	t.Run("stopped", func(t *testing.T) {
		restartRuns(t, &storetest.Memory{}, engine.Options{}, func(t *testing.T, e *engine.Engine) {
			begin(t, e)
			if err := e.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
		}, after, quiet)
	})
	t.Run("killed twice", func(t *testing.T) {
		restartRuns(t, &storetest.Memory{}, engine.Options{}, begin, func(t *testing.T, e *engine.Engine) {
			time.Sleep(20 * time.Second)
		}, after, quiet)
	})
}

// A will that waits for its delay when the server is killed is sent when that
// is over, with all of its message expiry interval: that runs from then on.
func TestWillDelayAndExpiryOverRestart(t *testing.T) {
	restartRuns(t, &storetest.Memory{}, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		lost := func(id string, delay uint32) {
			c := connect(t, pipe(t, e), id, persistent, expiry(1000), will("w/"+id, "gone", 1, true, delay), func(pk *packet) {
				pk.Connect.WillProperties.MessageExpiryInterval = 100
			})
			_ = c.conn.Close()
		}
		lost("soon", 10)
		lost("late", 300)
		synctest.Wait()
		time.Sleep(5 * time.Second)
	}, func(t *testing.T, e *engine.Engine) {
		watch := willSubscriber(t, e)
		time.Sleep(31 * time.Second)
		watch.expect("w/soon gone")
		time.Sleep(250 * time.Second)
		watch.expectNothing()
		if all := retained(e); len(all) != 0 {
			t.Errorf("retained after the expiry: %q", all)
		}
		time.Sleep(20 * time.Second) // 300 after the connection was lost
		watch.expect("w/late gone")
		time.Sleep(90 * time.Second)
		if all := retained(e); fmt.Sprint(all) != "[w/late]" {
			t.Errorf("retained before the expiry: %q", all)
		}
		time.Sleep(20 * time.Second)
		if all := retained(e); len(all) != 0 {
			t.Errorf("retained after the expiry: %q", all)
		}
	})
}

// A session whose time was over while the server was down does not come back
// [MQTT-4.1.0-2], and its client's return sends the will that waited for its
// delay; one that was connected till then has its time from the start on.
func TestSessionExpiryOverRestart(t *testing.T) {
	disk := &storetest.Memory{}
	restartRuns(t, disk, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		left := connect(t, pipe(t, e), "left", expiry(60), will("w/left", "gone", 0, false, 1000))
		_ = left.conn.Close()
		connect(t, pipe(t, e), "there", expiry(60))
		synctest.Wait()
		time.Sleep(50 * time.Second)
	}, func(t *testing.T, e *engine.Engine) {
		watch := willSubscriber(t, e)
		time.Sleep(15 * time.Second)
		watch.expectNothing()
		handshake(t, pipe(t, e), "left", persistent, expiry(60)).expect("CONNACK 0 present false")
		watch.expect("w/left gone")
		time.Sleep(30 * time.Second)
	}, func(t *testing.T, e *engine.Engine) { // killed anew: its time goes on
		time.Sleep(20 * time.Second)
		handshake(t, pipe(t, e), "there", persistent, expiry(60)).expect("CONNACK 0 present false")
		handshake(t, pipe(t, e), "left", persistent, expiry(60)).expect("CONNACK 0 present true")
	})
}
