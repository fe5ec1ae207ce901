package engine_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/store/storetest"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// countingStore is a store that counts how often it is asked for anything.
type countingStore struct {
	*storetest.Memory
	times atomic.Int64
}

func (s *countingStore) Append(records []store.Record, done func(error)) {
	s.times.Add(1)
	s.Memory.Append(records, done)
}

func isVolatile(topic string) bool { return !strings.HasPrefix(topic, "live/") }

// What is never written asks the store nothing, on every way of a message: from
// a client and from the program, retained and not, of each QoS, to a session
// that is kept, there or away, to a shared subscription, as a replay, and when
// it is acknowledged.
func TestPassingTopicsDoNotReachTheStore(t *testing.T) {
	kept1 := &countingStore{Memory: &storetest.Memory{}}
	inBubble(t, engine.Options{Store: kept1, Persists: isVolatile}, func(t *testing.T, e *engine.Engine) {
		sub := connect(t, pipe(t, e), "sub", v5, expiry(1000))
		sub.subscribeAndWait(2, "live/#", "$share/g/live/#")
		away := connect(t, pipe(t, e), "away", v5, expiry(1000))
		away.subscribeAndWait(1, "live/#")
		away.disconnect()
		pub := connect(t, pipe(t, e), "pub", v5)
		synctest.Wait()
		kept1.times.Store(0)
		id := 0
		for _, retain := range []bool{false, true} {
			for qos := byte(0); qos <= 2; qos++ {
				topic := fmt.Sprintf("live/%d", qos)
				n := pub.publish(qos, topic, "x", retain)
				switch qos {
				case 1:
					pub.expect(fmt.Sprintf("PUBACK %d", n))
				case 2:
					pub.expect(fmt.Sprintf("PUBREC %d", n))
					pub.ack(wire.Pubrel, n)
					pub.expect(fmt.Sprintf("PUBCOMP %d", n))
				}
				if qos == 0 {
					sub.expect(topic+" x", topic+" x") // by its own subscription, and by the shared one
					continue
				}
				one, two := id+1, id+2
				id = two
				sub.expect(fmt.Sprintf("%s x qos %d id %d", topic, qos, one), fmt.Sprintf("%s x qos %d id %d", topic, qos, two))
				for _, n := range []int{one, two} {
					if qos == 1 {
						sub.ack(wire.Puback, uint16(n))
						continue
					}
					sub.ack(wire.Pubrec, uint16(n))
					sub.expect(fmt.Sprintf("PUBREL %d", n))
					sub.ack(wire.Pubcomp, uint16(n))
				}
			}
		}
		for range 1000 { // heartbeats of the program's own
			e.Publish(topics.Message{Topic: "live/0", Payload: []byte("own"), QoS: 1, Retain: true})
		}
		synctest.Wait()
		if n := kept1.times.Load(); n != 0 {
			t.Errorf("the store was asked %d times for what it does not keep", n)
		}
	})
	if state := kept1.State(); len(state.Retained) > 0 {
		t.Errorf("%d retained messages were written", len(state.Retained))
	}
}

// On a full disk only what would be written is refused, and small messages are
// not refused because a large one was.
func TestFullStoreRefusesWhatItWouldKeep(t *testing.T) {
	full := &storetest.Memory{}
	inBubble(t, engine.Options{Store: full, Persists: isVolatile}, func(t *testing.T, e *engine.Engine) {
		pub := connect(t, pipe(t, e), "pub", v5)
		full.Fail(store.ErrFull)
		for range 3 {
			pub.publish(1, "written/a", strings.Repeat("x", 1000), true)
			pub.expect(fmt.Sprintf("PUBACK %d code 97", pub.id))
			pub.publish(1, "live/camera", "hi", true)
			pub.expect(fmt.Sprintf("PUBACK %d", pub.id))
			n := pub.publish(2, "live/camera", "hi", true)
			pub.expect(fmt.Sprintf("PUBREC %d", n))
			pub.ack(wire.Pubrel, n)
			pub.expect(fmt.Sprintf("PUBCOMP %d", n))
		}
		if !e.StoreFull() {
			t.Error("the store is not reported as full")
		}
		full.Fail(nil) // for what is small
		pub.publish(1, "written/a", "small", true)
		pub.expect(fmt.Sprintf("PUBACK %d", pub.id))
	})
}
