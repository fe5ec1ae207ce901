package engine_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/store/storetest"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// restartRuns runs several lives of an engine on one store. Each but those that end
// in order breaks off like a process that is killed: what the store has by
// then is what the next one gets.
func restartRuns(t *testing.T, kept *storetest.Memory, o engine.Options, all ...func(t *testing.T, e *engine.Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		for _, life := range all {
			synctest.Wait()
			o.Store, o.State = kept, kept.State()
			e, err := engine.New(o)
			if err != nil {
				t.Fatal(err)
			}
			life(t, e)
			synctest.Wait()
			kept.Hold(true) // nothing of what follows counts
			before := kept.State()
			closeEngine(t, e)
			fresh := &storetest.Memory{}
			replay(fresh, before)
			kept.Hold(false)
			kept = fresh
		}
	})
}

// replay is a new subscription whose retained messages are being sent.
func replay(m *storetest.Memory, state store.State) {
	var all []store.Record
	for _, one := range state.Retained {
		all = append(all, store.Retain{Topic: one.Topic, Message: one})
	}
	for _, s := range state.Sessions {
		all = append(all, s.Session)
		for _, sub := range s.Subscriptions {
			all = append(all, sub)
		}
		for _, q := range s.Queue {
			all = append(all, q.Enqueue)
			if q.Phase != store.Queued {
				all = append(all, store.Sent{Client: s.Client, Seq: q.Seq, PacketID: q.PacketID, Phase: q.Phase})
			}
		}
		for _, id := range s.Received {
			all = append(all, store.Received{Client: s.Client, PacketID: id})
		}
		if s.Will != nil {
			all = append(all, *s.Will)
		}
	}
	m.Append(all, nil)
}

func TestAcknowledgedMessagesSurviveARestart(t *testing.T) {
	restartRuns(t, &storetest.Memory{}, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		sub := connect(t, pipe(t, e), "sub", persistent)
		sub.subscribeAndWait(2, "q/#")
		pub := connect(t, pipe(t, e), "pub", persistent)
		pub.publish(1, "q/1", "one")
		pub.expect("PUBACK 1")
		sub.expect("q/1 one qos 1 id 1")
		pub.publish(2, "q/2", "two")
		pub.expect("PUBREC 2")
		sub.expect("q/2 two qos 2 id 2")
		sub.ack(wire.Pubrec, 2)
		sub.expect("PUBREL 2")
		sub.disconnect()
		pub.publish(1, "q/3", "three", true)
		pub.expect("PUBACK 3")
	}, func(t *testing.T, e *engine.Engine) {
		pub := handshake(t, pipe(t, e), "pub", persistent)
		pub.expect("CONNACK 0 present true")
		pub.send([]byte{wire.PublishType<<4 | 2<<1 | wire.FlagDup, 10, 0, 3, 'q', '/', '2', 0, 2, 't', 'w', 'o'})
		pub.expect("PUBREC 2") // and nobody gets it twice
		pub.ack(wire.Pubrel, 2)
		pub.expect("PUBCOMP 2")
		sub := handshake(t, pipe(t, e), "sub", persistent)
		sub.expect("CONNACK 0 present true", "PUBREL 2", "q/1 one qos 1 id 1 dup", "q/3 three qos 1 id 3")
		sub.ack(wire.Pubcomp, 2)
		sub.ack(wire.Puback, 1)
		late := connect(t, pipe(t, e), "late")
		late.subscribeAndWait(0, "#")
		late.expect("q/3 three retained")
	}, func(t *testing.T, e *engine.Engine) {
		sub := handshake(t, pipe(t, e), "sub", persistent)
		sub.expect("CONNACK 0 present true", "q/3 three qos 1 id 3 dup")
		sub.expectNothing()
		pub := handshake(t, pipe(t, e), "pub", persistent)
		pub.expect("CONNACK 0 present true")
		pub.ack(wire.Pubrel, 2)
		pub.expect("PUBCOMP 2")
		sub.ack(wire.Puback, 3)
		handshake(t, pipe(t, e), "pub", cleanSession).expect("CONNACK 0 present false")
	}, func(t *testing.T, e *engine.Engine) {
		handshake(t, pipe(t, e), "pub", persistent).expect("CONNACK 0 present false")
		sub := handshake(t, pipe(t, e), "sub", persistent)
		sub.expect("CONNACK 0 present true")
		sub.expectNothing()
	})
}

// Nothing is acknowledged, and no QoS 2 sent, before the store has it; and the
// acknowledgements keep their order.
func TestStoreComesFirst(t *testing.T) {
	kept := &storetest.Memory{}
	restartRuns(t, kept, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		sub := connect(t, pipe(t, e), "sub", func(pk *packet) { pk.Connect.Clean = false })
		sub.subscribeAndWait(2, "q")
		fleeting := connect(t, pipe(t, e), "fleeting")
		fleeting.subscribeAndWait(2, "q")
		pub := connect(t, pipe(t, e), "pub")
		synctest.Wait()
		kept.Hold(true)
		pub.publish(1, "q", "1")
		pub.publish(1, "nobody", "2")
		pub.publish(2, "q", "3")
		pub.send([]byte{wire.Pingreq << 4, 0})
		pub.expect("PINGRESP")
		pub.expectNothing()
		sub.expectNothing()
		fleeting.expect("q 1 qos 1 id 1", "q 3 qos 2 id 2") // nothing of it is kept
		kept.Hold(false)
		pub.expect("PUBACK 1", "PUBACK 2", "PUBREC 3")
		sub.expect("q 1 qos 1 id 1", "q 3 qos 2 id 2")
		kept.Hold(true)
		sub.ack(wire.Pubrec, 2)
		sub.expectNothing()
		kept.Hold(false)
		sub.expect("PUBREL 2")
		kept.Hold(true)
		c := handshake(t, pipe(t, e), "sub", func(pk *packet) { pk.Connect.Clean = false })
		c.subscribe(subscription("x", 1))
		c.expect("CONNACK 0 present true", "PUBREL 2", "q 1 qos 1 id 1 dup")
		c.expectNothing()
		kept.Hold(false)
		c.expect("SUBACK 01")
	})
}

func TestFullDisk(t *testing.T) {
	disk := &storetest.Memory{}
	restartRuns(t, disk, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		sub := connect(t, pipe(t, e), "sub", persistent)
		sub.subscribeAndWait(1, "q")
		pub := connect(t, pipe(t, e), "pub", v5)
		old := connect(t, pipe(t, e), "old")
		disk.Fail(store.ErrFull)
		pub.publish(1, "q", "1")
		pub.expect("PUBACK 1 code 97")
		pub.publish(2, "q", "2")
		pub.publish(1, "elsewhere", "3")
		pub.expect("PUBREC 2 code 97", "PUBACK 3 code 10")
		pub.publish(1, "q", "4")
		pub.publish(1, "r", "4", true)
		pub.publish(0, "q", "5")
		pub.expect("PUBACK 4 code 97", "PUBACK 5 code 97")
		sub.expect("q 5")
		pub.subscribe(subscription("p", 1))
		pub.expect("SUBACK 01") // of a session that is not kept
		old.publish(1, "q", "6")
		old.expect("closed") // there is no way to say no
		disk.Fail(nil)
		time.Sleep(2 * time.Second)
		pub.publish(2, "q", "7")
		pub.expect(fmt.Sprintf("PUBREC %d", pub.id))
		sub.expect("q 7 qos 1 id 2") // 1 was of what was refused
		disk.Fail(errors.New("the disk burns"))
		sub.ack(wire.Puback, 2)
		sub.subscribe(subscription("s", 1))
		sub.expect("SUBACK 80")
	})
}

// A client with a kept session subscribes anew each time it connects: that needs
// no room, and what a full disk refuses leaves the subscription there was.
func TestSubscribeAgainOnAFullDisk(t *testing.T) {
	disk := &storetest.Memory{}
	restartRuns(t, disk, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		sub := connect(t, pipe(t, e), "sub", persistent)
		sub.subscribeAndWait(1, "q")
		disk.Fail(store.ErrFull)
		sub = connect(t, pipe(t, e), "sub", persistent)
		sub.subscribe(subscription("q", 1), subscription("new", 1))
		sub.expect("SUBACK 0180")
		sub.subscribe(subscription("q", 2))
		sub.expect("SUBACK 80")
		e.Publish(topics.Message{Topic: "q", Payload: []byte("x")})
		e.Publish(topics.Message{Topic: "new", Payload: []byte("x")})
		sub.expect("q x")
		sub.expectNothing()
	})
}

// A client that is far ahead of the disk is not read until that has caught up,
// whether it is to be answered or not.
func TestSlowDiskHoldsThePublisher(t *testing.T) {
	const n = 1000
	for name, one := range map[string]struct {
		send func(c *client, i int)
		want func(i int) string // the answer; nil: there is none
	}{
		"QoS 1": {
			func(c *client, i int) { c.publish(1, "a", fmt.Sprint(i), true) },
			func(i int) string { return fmt.Sprintf("PUBACK %d", i+1) },
		},
		"QoS 0 retained": {
			func(c *client, i int) { c.publish(0, "a", fmt.Sprint(i), true) }, nil,
		},
		"subscriptions": {
			func(c *client, i int) { c.subscribe(subscription("b", byte(i%2))) },
			func(i int) string { return fmt.Sprintf("SUBACK %02x", i%2) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := &storetest.Memory{}
			restartRuns(t, disk, engine.Options{}, func(t *testing.T, e *engine.Engine) {
				c := connect(t, pipe(t, e), "c", persistent, keepAlive(1))
				synctest.Wait()
				disk.Hold(true)
				sent := make(chan int, n)
				go func() {
					for i := range n {
						one.send(c, i)
						sent <- i
					}
				}()
				time.Sleep(10 * time.Second) // more than its keep alive
				if len(sent) > 100 {
					t.Errorf("%d were read that are not stored", len(sent))
				}
				disk.Hold(false)
				if one.want == nil {
					synctest.Wait()
					if len(sent) != n {
						t.Errorf("%d of %d were taken", len(sent), n)
					}
					return
				}
				for i := range n {
					c.expect(one.want(i))
				}
			})
		})
	}
}
