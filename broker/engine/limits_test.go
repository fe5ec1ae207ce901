package engine_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store/storetest"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

func TestLimits(t *testing.T) {
	limits := engine.Limits{
		MaxConnections: 3, MaxPacket: 1000, MaxSubscriptions: 2, MaxTopicLevels: 3, MaxTopicLength: 10,
		MaxRetained: 1, MaxKeepAlive: 10 * time.Second, MaxSessionExpiry: time.Hour,
	}
	inBubble(t, engine.Options{Limits: limits}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", v5)
		c.subscribeAndWait(1, "a", "b")
		c.subscribe(subscription("c", 1))
		c.expect("SUBACK 97")
		c.subscribeAndWait(0, "a") // in place of the one there is
		c.subscribe(subscription("a/b/c/d", 1))
		c.expect("SUBACK 8f")
		c.subscribe(subscription("a2345678901", 1))
		c.expect("SUBACK 8f")
		c.publish(1, "1/2/3/4", "x")
		c.expect(fmt.Sprintf("PUBACK %d code 90", c.id))
		c.publish(1, "one", "x", true)
		c.expect(fmt.Sprintf("PUBACK %d", c.id))
		c.publish(1, "two", "x", true)
		c.expect(fmt.Sprintf("PUBACK %d code 97", c.id))
		connect(t, pipe(t, e), "d")
		connect(t, pipe(t, e), "e")
		if _, err := pipe(t, e).Read(make([]byte, 1)); err == nil {
			t.Error("a fourth connection was taken")
		}
		conn := c.conn
		go func() { // which is not read to its end
			_, _ = conn.Write((&wire.Outgoing{Topic: "a", Payload: 1000}).Append(nil, 5))
			_, _ = conn.Write(make([]byte, 1000))
		}()
		c.expect("DISCONNECT 95", "closed")
		synctest.Wait() // its place is free
		// a silent one is ended by the keep alive of the server
		c = connect(t, pipe(t, e), "k", v5)
		began := time.Now()
		c.expect("DISCONNECT 8d", "closed")
		if d := time.Since(began); d != 15*time.Second {
			t.Errorf("ended after %v", d)
		}
	})
}

func TestPace(t *testing.T) {
	inBubble(t, engine.Options{Limits: engine.Limits{MessagesPerSecond: 100}}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", keepAlive(2))
		began := time.Now()
		for i := range 1000 {
			c.publish(1, "a", "x")
			c.expect(fmt.Sprintf("PUBACK %d", i+1))
		}
		if d := time.Since(began); d < 9*time.Second || d > 11*time.Second {
			t.Errorf("1000 messages took %v at 100 a second", d)
		}
	})
}

func TestAuthentication(t *testing.T) {
	o := engine.Options{Authenticate: func(c engine.Client, user string, hasUser bool, password []byte) error {
		switch user {
		case "bad":
			return engine.ErrBadCredentials
		case "busy":
			return engine.ErrBusy
		case "broken":
			return errors.New("the disk is gone")
		}
		return nil
	}}
	inBubble(t, o, func(t *testing.T, e *engine.Engine) {
		for name, codes := range map[string][2]string{"bad": {"86", "4"}, "busy": {"89", "3"}, "broken": {"87", "5"}} {
			handshake(t, pipe(t, e), "c", user(name), v5).expect("CONNACK "+codes[0]+" present false", "closed")
			handshake(t, pipe(t, e), "c", user(name)).expect("CONNACK "+codes[1]+" present false", "closed")
		}
		connect(t, pipe(t, e), "c", user("good"))
	})
}

// An expired message is not delivered, and not kept for ever.
func TestRetainedExpire(t *testing.T) {
	inBubble(t, engine.Options{Store: &storetest.Memory{}}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", v5)
		o := wire.Outgoing{Flags: wire.FlagRetain, Topic: "a", HasExpiry: true, Expiry: 10, Payload: 1}
		c.send(append(o.Append(nil, 5), 'x'))
		e.Publish(topics.Message{Topic: "b", Payload: []byte("y"), Retain: true})
		time.Sleep(9 * time.Second)
		c.subscribe(subscription("#", 0))
		c.expect("SUBACK 00", "a x retained", "b y retained")
		time.Sleep(2 * time.Second)
		c.subscribe(subscription("#", 0))
		c.expect("SUBACK 00", "b y retained")
		time.Sleep(2 * time.Minute)
		if s := e.Stats(); s.Retained != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Replay is paced by the client and complete, of any size and QoS, also to one
// that is slow.
func TestReplayIsComplete(t *testing.T) {
	e, addr := serve(t, engine.Options{Limits: engine.Limits{MaxQueuedMessages: 100}})
	const n = 20_000
	for i := range n {
		e.Publish(topics.Message{Topic: fmt.Sprintf("r/%05d", i), Payload: []byte("0123456789"), QoS: 1, Retain: true})
	}
	for qos := range byte(3) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := connect(t, conn, fmt.Sprint("c", qos))
		c.subscribe(subscription("r/#", qos))
		c.expect(fmt.Sprintf("SUBACK %02x", qos))
		for i := range n {
			got := c.nextAsText()
			if want := fmt.Sprintf("r/%05d 0123456789", i); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " retained") {
				t.Fatalf("got %q, want %q", got, want)
			}
			if qos > 0 {
				c.ack(wire.Puback, uint16(i%65535+1))
			}
		}
	}
}

// Each publisher's messages of a topic and QoS come in its order, to each
// subscriber, whatever else goes on; and the last heard of a retained topic is
// what is retained.
func TestOrder(t *testing.T) {
	e, addr := serve(t, engine.Options{Store: &storetest.Memory{}})
	dial := func(id string, s ...setting) *client {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return connect(t, conn, id, s...)
	}
	const publishers, each = 4, 500
	var all sync.WaitGroup
	for i, s := range [][]setting{{}, {persistent}, {v5, window(7)}, {persistent, expiry(100), window(3)}} {
		c := dial(fmt.Sprint("sub", i), s...)
		c.subscribeAndWait(2, "t/#")
		all.Go(func() {
			last := map[string]int{}
			for range publishers * each {
				first, body, err := c.frame(20 * time.Second)
				if err != nil {
					t.Errorf("subscriber %d: %v after %d", i, err, len(last))
					return
				}
				var p wire.Publish
				switch first >> 4 {
				case wire.PublishType:
				case wire.Pubrel:
					c.ack(wire.Pubcomp, uint16(body[0])<<8|uint16(body[1]))
					continue
				}
				if err := p.Decode(first, body, c.version); err != nil {
					t.Error(err)
					return
				}
				var from, n int
				_, _ = fmt.Sscan(string(p.Payload), &from, &n)
				key := fmt.Sprint(from, p.QoS)
				if before, ok := last[key]; ok && n <= before {
					t.Errorf("subscriber %d: %d of publisher %d after %d", i, n, from, before)
				}
				last[key] = n
				c.ack(wire.Puback, p.PacketID)
			}
		})
	}
	for i := range publishers {
		c := dial(fmt.Sprint("pub", i))
		all.Go(func() {
			for n := range each {
				c.publish(1, "t/x", fmt.Sprint(i, " ", n), n%7 == 0)
				if n%16 == 15 {
					for range 16 {
						c.nextAsText()
					}
				}
			}
		})
	}
	all.Wait()
	if s := e.Stats(); s.Dropped > 0 {
		t.Errorf("%+v", s)
	}
}

// errorFailer fails a test over an error in the log.
type errorFailer struct{ t testing.TB }

func (a errorFailer) Write(b []byte) (int, error) { a.t.Errorf("%s", b); return len(b), nil }

// Whatever a client sends ends its own connection at the most.
func FuzzConnection(f *testing.F) {
	f.Add([]byte("\x30\x03\x00\x01a\x82\x06\x00\x01\x00\x01a\x02\x34\x06\x00\x01a\x00\x01x"), uint64(1))
	f.Add([]byte("\x82\x09\x00\x01\x00\x00\x03a/#\x2e\x32\x08\x00\x01a\x00\x01\x00xy\x40\x02\x00\x01\xc0\x00"), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		e, err := engine.New(engine.Options{Store: &storetest.Memory{}, Log: slog.New(slog.NewTextHandler(errorFailer{t}, &slog.HandlerOptions{Level: slog.LevelError}))})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close(t.Context())
		r := rand.New(rand.NewPCG(seed, 0))
		version := []setting{persistent}
		if seed&1 == 0 {
			version = append(version, v5)
		}
		c := connect(t, pipe(t, e), "fuzz", version...)
		go func() { // whatever the answers are
			for buffer := make([]byte, 1024); ; {
				if _, err := c.conn.Read(buffer); err != nil {
					return
				}
			}
		}()
		_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
		for len(b) > 0 {
			n := 1 + r.IntN(len(b))
			if _, err := c.conn.Write(b[:n]); err != nil {
				break
			}
			b = b[n:]
		}
		_ = c.conn.Close()
		well := connect(t, pipe(t, e), "well")
		well.subscribeAndWait(1, "well")
		well.publish(1, "well", "x")
		well.nextAsText()
		well.nextAsText()
		_ = well.conn.Close()
	})
}
