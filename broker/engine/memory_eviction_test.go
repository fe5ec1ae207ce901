package engine_test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/store/storetest"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// floodSubscribe sends SUBSCRIBE packets of many filters each until the connection is
// closed, and reads nothing.
func floodSubscribe(c *client, filter string, filters, packets int) {
	var b bytes.Buffer
	pk := packet{ProtocolVersion: c.version, PacketID: 1}
	pk.FixedHeader.Type, pk.FixedHeader.Qos = wire.Subscribe, 1
	for range filters {
		pk.Filters = append(pk.Filters, subscription(filter, 0))
	}
	if err := pk.SubscribeEncode(&b); err != nil {
		c.t.Fatal(err)
	}
	for range packets {
		_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := c.conn.Write(b.Bytes()); err != nil {
			break
		}
	}
}

// A client that asks and does not read the answers makes memory grow to a bound
// only, and is told so.
func TestAnswersAreBounded(t *testing.T) {
	inBubble(t, engine.Options{Limits: engine.Limits{MaxQueuedBytes: 64 << 10}}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", v5)
		floodSubscribe(c, "a", 4000, 100)
		last, answers := "", 0
		for got := c.nextAsText(); got != "closed"; got = c.nextAsText() {
			if last = got; strings.HasPrefix(got, "SUBACK") {
				answers++
			}
		}
		if last != "DISCONNECT 97" || answers > 20 {
			t.Errorf("%d answers were queued, and the last packet was %.20q", answers, last)
		}
	})
}

// [MQTT-3.1.2-24]: an answer that the client does not take ends the connection.
func TestAnswerLargerThanTaken(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", func(pk *packet) { v5(pk); pk.Properties.MaximumPacketSize = 64 })
		floodSubscribe(c, "a", 20, 1)
		c.expect("SUBACK " + strings.Repeat("00", 20))
		floodSubscribe(c, "a", 100, 1)
		c.expect("DISCONNECT 95", "closed")
	})
}

// A client that subscribes again and again, faster than it reads what is
// retained, gets all of it after the last time, and not for ever once for each.
func TestReplaysDoNotPileUp(t *testing.T) {
	inBubble(t, engine.Options{Limits: engine.Limits{MaxSubscriptions: 4}}, func(t *testing.T, e *engine.Engine) {
		const retained, times = 3000, 200
		for i := range retained {
			e.Publish(topics.Message{Topic: fmt.Sprintf("a/%04d", i), Payload: []byte("x"), Retain: true})
		}
		c := connect(t, pipe(t, e), "c", v5)
		done := make(chan struct{})
		go func() { floodSubscribe(c, "a/#", 1, times); close(done) }()
		<-done
		answers, since, all := 0, 0, 0
		for {
			first, _, err := c.frame(time.Second)
			if err != nil {
				break
			}
			if first>>4 == wire.Suback {
				answers, since = answers+1, 0
				continue
			}
			since++
			all++
		}
		if answers != times || since < retained || all > 20*retained {
			t.Errorf("%d answers, %d messages after the last, %d in all", answers, since, all)
		}
	})
}

// A replay that was begun is not cut by a subscription in its place that asks
// for none.
func TestReplayGoesOnBehindANewSubscription(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		const retained = 3000
		for i := range retained {
			e.Publish(topics.Message{Topic: fmt.Sprintf("a/%04d", i), Payload: []byte("x"), Retain: true})
		}
		c := connect(t, pipe(t, e), "c", v5)
		c.subscribe(subscription("a/#", 0))
		again := subscription("a/#", 0)
		again.RetainHandling = 2
		c.subscribe(again)
		n := 0
		for ; ; n++ {
			first, _, err := c.frame(time.Second)
			if err != nil {
				break
			}
			if first>>4 == wire.Suback {
				n--
			}
		}
		if n != retained {
			t.Errorf("%d of %d came", n, retained)
		}
	})
}

// A client may say that it takes 65,535 aliases: no more topics are remembered
// for it than it may use itself.
func TestAliasesAreBounded(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", func(pk *packet) { v5(pk); pk.Properties.TopicAliasMaximum = 65535 })
		c.subscribeAndWait(0, "#")
		for i := range 200 {
			e.Publish(topics.Message{Topic: fmt.Sprintf("topic/%d", i), Payload: []byte("x")})
			c.expect(fmt.Sprintf("topic/%d x", i))
		}
		if len(c.aliases) > 64 {
			t.Errorf("%d aliases", len(c.aliases))
		}
	})
}

// Many small user properties take more memory than they have bytes: they count
// for what they take.
func TestUserPropertiesCount(t *testing.T) {
	inBubble(t, engine.Options{Limits: engine.Limits{MaxRetainedBytes: 100 << 10}}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", v5)
		o := wire.Outgoing{Flags: 1<<1 | wire.FlagRetain, PacketID: 7, Topic: "a", Payload: 1}
		o.Forward = bytes.Repeat([]byte{38, 0, 0, 0, 0}, 10_000)
		c.send(append(o.Append(nil, wire.V5), 'x'))
		c.expect("PUBACK 7 code 97")
	})
}

// A client that takes a large message slowly, but takes it, gets all of it,
// over a connection that cannot go on after a deadline too (as TLS cannot).
func TestSlowButWilling(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c")
		c.subscribeAndWait(0, "a")
		large := strings.Repeat("x", 200<<10)
		e.Publish(topics.Message{Topic: "a", Payload: []byte(large)})
		var got int
		for got < len(large) {
			time.Sleep(4 * time.Second)
			_ = c.conn.SetReadDeadline(time.Now().Add(time.Second))
			n, err := c.conn.Read(make([]byte, 16<<10))
			if got += n; err != nil {
				t.Fatalf("after %d bytes: %v", got, err)
			}
		}
		_, _ = c.conn.Read(make([]byte, 1<<10)) // the rest of the packet
	})
}

// One whose connection is ended does not hold it for ever by taking a byte now
// and then.
func TestEndedAndSlow(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c")
		c.subscribeAndWait(0, "a")
		e.Publish(topics.Message{Topic: "a", Payload: make([]byte, 1<<20)})
		synctest.Wait()
		connect(t, pipe(t, e), "c")
		began := time.Now()
		for range 100 {
			time.Sleep(5 * time.Second)
			if _, err := c.conn.Read(make([]byte, 20<<10)); err != nil {
				break
			}
		}
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("it was there for %v more", d)
		}
	})
}

// What expires in the queue of one that is away makes room for what is new
// [MQTT-3.3.2-5], in memory and on the disk.
func TestQueuedExpire(t *testing.T) {
	disk := &storetest.Memory{}
	o := engine.Options{Limits: engine.Limits{MaxQueuedMessages: 10}, Store: disk}
	inBubble(t, o, func(t *testing.T, e *engine.Engine) {
		sub := connect(t, pipe(t, e), "sub", expiry(100_000))
		sub.subscribeAndWait(1, "q")
		sub.disconnect()
		pub := connect(t, pipe(t, e), "pub", v5)
		say := func(payload string, seconds uint32) {
			pub.id++
			o := wire.Outgoing{Flags: 1 << 1, PacketID: pub.id, Topic: "q", HasExpiry: seconds > 0, Expiry: seconds, Payload: len(payload)}
			pub.send(append(o.Append(nil, wire.V5), payload...))
			pub.expect(fmt.Sprintf("PUBACK %d", pub.id))
		}
		for i := range 9 {
			say(fmt.Sprint(i), 10)
		}
		say("stays", 0)
		say("dropped", 0) // there is no room
		time.Sleep(11 * time.Second)
		say("new", 0)
		synctest.Wait()
		if q := disk.State().Sessions[0].Queue; len(q) != 2 {
			t.Errorf("%d are queued on the disk", len(q))
		}
		say("short", 5)
		time.Sleep(2 * time.Minute) // nobody needs the room
		synctest.Wait()
		if q := disk.State().Sessions[0].Queue; len(q) != 2 {
			t.Errorf("%d are queued on the disk", len(q))
		}
		sub = handshake(t, pipe(t, e), "sub", persistent, expiry(100_000))
		sub.expect("CONNACK 0 present true", "q stays qos 1 id 1", "q new qos 1 id 2")
		sub.expectNothing()
	})
}

// What was retained and expired while the server was down is not kept for ever.
func TestRetainedExpireWhileDown(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, _ *engine.Engine) {
		disk := &storetest.Memory{}
		disk.Append([]store.Record{
			store.Retain{Topic: "a", Message: &store.Message{Topic: "a", Payload: []byte("x"), Expires: time.Now().Add(-time.Second)}},
			store.Retain{Topic: "b", Message: &store.Message{Topic: "b", Payload: []byte("x"), Expires: time.Now().Add(time.Hour)}},
		}, nil)
		synctest.Wait()
		e, err := engine.New(engine.Options{Store: disk, State: disk.State()})
		if err != nil {
			t.Fatal(err)
		}
		defer closeEngine(t, e)
		synctest.Wait()
		if all := disk.State().Retained; len(all) != 1 || all[0].Topic != "b" {
			t.Errorf("%d are kept", len(all))
		}
	})
}

// [MQTT-3.8.3-3]: what a client published does not come back to it, retained
// neither; a bridge would send it round and round.
func TestNoLocalAndRetained(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", v5)
		c.publish(0, "a/mine", "x", true)
		other := connect(t, pipe(t, e), "other", v5)
		other.publish(0, "a/theirs", "x", true)
		synctest.Wait()
		s := subscription("a/+", 0)
		s.NoLocal = true
		c.subscribe(s)
		c.expect("SUBACK 00", "a/theirs x retained")
		c.expectNothing()
	})
}

// A program that makes up a client id each time and wants its session kept
// loses its own sessions, not those of others, and nobody is kept out.
func TestSessionsAreBounded(t *testing.T) {
	disk := &storetest.Memory{}
	inBubble(t, engine.Options{Limits: engine.Limits{MaxSessions: 20}, Store: disk}, func(t *testing.T, e *engine.Engine) {
		device := connect(t, pipe(t, e), "device", persistent, user("device"))
		device.subscribeAndWait(1, "q")
		device.disconnect()
		e.Publish(topics.Message{Topic: "q", Payload: []byte("kept"), QoS: 1})
		for i := range 100 {
			time.Sleep(time.Second)
			connect(t, pipe(t, e), fmt.Sprint("made-up-", i), persistent, user("script")).disconnect()
			synctest.Wait()
		}
		if n := e.Stats().Sessions; n > 20 {
			t.Errorf("%d sessions", n)
		}
		if n := len(disk.State().Sessions); n > 20 {
			t.Errorf("%d sessions on the disk", n)
		}
		connect(t, pipe(t, e), "new", persistent, user("other"))
		handshake(t, pipe(t, e), "made-up-99", persistent, user("script")).expect("CONNACK 0 present true")
		handshake(t, pipe(t, e), "made-up-1", persistent, user("script")).expect("CONNACK 0 present false")
		device = handshake(t, pipe(t, e), "device", persistent, user("device"))
		device.expect("CONNACK 0 present true", "q kept qos 1 id 1")
	})
}

// [MQTT-3.8.4-4]: nothing is lost while a subscription takes the place of one.
func TestReplacingASubscriptionLosesNothing(t *testing.T) {
	e, addr := serve(t, engine.Options{})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := connect(t, conn, "c", v5)
	c.subscribeAndWait(1, "a")
	var b bytes.Buffer
	again := packet{ProtocolVersion: 5, PacketID: 9, Filters: []packets.Subscription{subscription("a", 1)}}
	again.FixedHeader.Type, again.FixedHeader.Qos = wire.Subscribe, 1
	if err := again.SubscribeEncode(&b); err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	const times = 10_000
	asked, published := make(chan struct{}), make(chan struct{})
	go func() { _, _ = conn.Write(bytes.Repeat(b.Bytes(), times)) }()
	go func() {
		defer close(published)
		for {
			select {
			case <-asked:
				e.Publish(topics.Message{Topic: "a", Payload: []byte("end"), QoS: 1})
				return
			default:
				e.Publish(topics.Message{Topic: "a", Payload: []byte("x")})
				n.Add(1)
			}
		}
	}()
	got, answers := 0, 0
	for {
		first, body, err := c.frame(20 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if first>>4 == wire.Suback {
			if answers++; answers == times {
				close(asked)
			}
		}
		if first>>4 == wire.PublishType {
			if strings.HasSuffix(string(body), "end") {
				break
			}
			got++
		}
	}
	<-published
	if dropped, all := int(e.Stats().Dropped), int(n.Load()); got+dropped != all {
		t.Errorf("%d came and %d were dropped, of %d", got, dropped, all)
	}
}
