package engine_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

func v31(pk *packet) {
	pk.ProtocolVersion, pk.Connect.ProtocolName = wire.V31, []byte("MQIsdp")
}

// An acknowledgement of a kind that its message does not wait for ends the
// connection, and the message is there for the next one.
func TestAcknowledgementsOfTheWrongKind(t *testing.T) {
	const recorded = 9 // QoS 2 after its PUBREC
	for _, version := range []setting{v5, func(*packet) {}} {
		for qos, wrong := range map[byte][]byte{
			1: {wire.Pubrec, wire.Pubcomp}, 2: {wire.Puback, wire.Pubcomp}, recorded: {wire.Puback},
		} {
			for _, kind := range wrong {
				inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
					sub := connect(t, pipe(t, e), "sub", version, persistent, func(pk *packet) {
						pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 60, true
					})
					sub.subscribeAndWait(min(qos, 2), "a")
					connect(t, pipe(t, e), "pub").publish(min(qos, 2), "a", "x")
					message := fmt.Sprintf("a x qos %d id 1", min(qos, 2))
					sub.expect(message)
					if qos == recorded {
						sub.ack(wire.Pubrec, 1)
						sub.expect("PUBREL 1")
					}
					sub.ack(kind, 1)
					if sub.version == 5 {
						sub.expect("DISCONNECT 82")
					}
					sub.expect("closed")
					again := connect(t, pipe(t, e), "sub", version, persistent)
					if qos == recorded {
						again.expect("PUBREL 1")
						again.ack(wire.Pubcomp, 1)
					} else {
						again.expect(message + " dup")
					}
				})
			}
		}
	}
}

// A publish that is not allowed is acknowledged and dropped where the version
// has no way to refuse it, and traced; the client goes on.
func TestADeniedPublishBeforeMQTT5(t *testing.T) {
	var mu sync.Mutex
	var refused []string
	o := engine.Options{
		Allow: func(_ engine.Client, a engine.Action, topic string) bool {
			return a != engine.ActionPublish || !strings.HasPrefix(topic, "secret")
		},
		DeniedAnswer: func(_ engine.Client, topic string, payload []byte) (topics.Message, bool) {
			return topics.Message{Topic: "answer", Payload: append([]byte(topic+" "), payload...), QoS: 1}, true
		},
	}
	for _, version := range []setting{v31, func(*packet) {}} {
		for _, session := range []setting{cleanSession, persistent} {
			inBubble(t, o, func(t *testing.T, e *engine.Engine) {
				e.Trace(func(p engine.TraceEvent) {
					if p.Refused {
						mu.Lock()
						defer mu.Unlock()
						refused = append(refused, p.Topic)
					}
				})
				watch := connect(t, pipe(t, e), "watch")
				watch.subscribeAndWait(1, "secret/#", "answer")
				c := connect(t, pipe(t, e), "c", version, session)
				c.publish(1, "secret/1", "x", true)
				c.expect("PUBACK 1")
				for range 2 { // the second is sent again
					c.id = 1
					c.publish(2, "secret/2", "x")
					c.expect("PUBREC 2")
				}
				c.ack(wire.Pubrel, 2)
				c.expect("PUBCOMP 2")
				c.publish(0, "secret/0", "x")
				c.subscribeAndWait(1, "answer")
				c.publish(1, "secret/3", "asked")
				c.expect("answer secret/3 asked qos 1 id 1", fmt.Sprintf("PUBACK %d", c.id))
				c.publish(1, "open", "x")
				c.expect(fmt.Sprintf("PUBACK %d", c.id))
				watch.expectNothing()
				mu.Lock()
				defer mu.Unlock()
				if len(refused) != 4 { // what is sent again is the same message
					t.Errorf("traced as refused: %q", refused)
				}
				refused = nil
			})
		}
	}
}

// Whose will is not allowed is let in, and it is never published.
func TestADeniedWill(t *testing.T) {
	var said []string
	o := engine.Options{
		Allow:  func(_ engine.Client, _ engine.Action, topic string) bool { return topic != "secret" },
		Notice: func(_ engine.Client, topic, what string) { said = append(said, topic+": "+what) },
	}
	inBubble(t, o, func(t *testing.T, e *engine.Engine) {
		watch := connect(t, pipe(t, e), "watch")
		watch.subscribeAndWait(0, "#")
		for _, version := range []setting{v31, v5, func(*packet) {}} {
			c := connect(t, pipe(t, e), "c", version, will("secret", "gone", 1, true, 0))
			c.publish(0, "open", "x")
			watch.expect("open x")
			_ = c.conn.Close()
			synctest.Wait()
		}
		watch.expectNothing()
	})
	if len(said) != 3 || said[0] != "secret: its will is dropped: it may not publish there" {
		t.Errorf("reported: %q", said)
	}
}

func TestMQTT31(t *testing.T) {
	o := engine.Options{Allow: func(_ engine.Client, _ engine.Action, topic string) bool { return topic != "secret" }}
	inBubble(t, o, func(t *testing.T, e *engine.Engine) {
		watch := connect(t, pipe(t, e), "watch")
		watch.subscribeAndWait(0, "w")
		c := connect(t, pipe(t, e), "an-id-of-more-than-twenty-three-bytes", v31, persistent, will("w", "gone", 0, false, 0))
		if s := e.Sessions(); s[0].Version != 3 {
			t.Errorf("version %d", s[0].Version)
		}
		c.subscribeAndWait(2, "a/#")
		c.send([]byte{wire.Subscribe<<4 | 2 | wire.FlagDup, 6, 0, 9, 0, 1, 'b', 1}) // sent again
		c.expect("SUBACK 01")
		c.subscribe(subscription("secret", 1)) // there is no code for a refusal
		c.expect("SUBACK 01")
		for qos := range byte(3) {
			c.publish(qos, "a/b", "x")
			switch qos {
			case 0:
				c.expect("a/b x")
			case 1:
				c.expect("a/b x qos 1 id 1", fmt.Sprintf("PUBACK %d", c.id))
				c.ack(wire.Puback, 1)
			case 2:
				c.expect("a/b x qos 2 id 2", fmt.Sprintf("PUBREC %d", c.id))
				c.send([]byte{wire.Pubrel<<4 | 2 | wire.FlagDup, 2, 0, byte(c.id)})
				c.expect(fmt.Sprintf("PUBCOMP %d", c.id))
			}
		}
		_ = c.conn.Close()
		watch.expect("w gone")
		again := connect(t, pipe(t, e), "an-id-of-more-than-twenty-three-bytes", v31, persistent)
		again.expect("a/b x qos 2 id 2 dup")
		again.disconnect()
		// 3.1.1 says that there is a session, 3.1 has no place for it
		handshake(t, pipe(t, e), "an-id-of-more-than-twenty-three-bytes", v31, persistent).expect("CONNACK 0 present false")

		handshake(t, pipe(t, e), "", v31).expect("CONNACK 2 present false", "closed")
		handshake(t, pipe(t, e), "x", func(pk *packet) { pk.ProtocolVersion, pk.Connect.ProtocolName = 4, []byte("MQIsdp") }).expect("CONNACK 1 present false", "closed")
		handshake(t, pipe(t, e), "x", func(pk *packet) { pk.ProtocolVersion = 3 }).expect("CONNACK 1 present false", "closed")
	})
}

// What old clients send that 3.1.1 forbids.
func TestCONNECTOfMQTT31(t *testing.T) {
	for name, c := range map[string]struct {
		flags   byte
		payload string
	}{
		"reserved flag":          {0x03, "\x00\x01c"},
		"user name is missing":   {0xc2, "\x00\x01c"},
		"password is missing":    {0xc2, "\x00\x01c\x00\x01u"},
		"with user and password": {0xc2, "\x00\x01c\x00\x01u\x00\x01p"},
	} {
		inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
			body := append([]byte("\x00\x06MQIsdp\x03"), append([]byte{c.flags, 0, 60}, c.payload...)...)
			one := &client{t: t, conn: pipe(t, e), version: 3}
			one.send(append([]byte{wire.Connect << 4, byte(len(body))}, body...))
			if got := one.nextAsText(); got != "CONNACK 0 present false" {
				t.Errorf("%s: %s", name, got)
			}
		})
	}
}

// An invalid filter of a shared subscription is refused by itself before MQTT 5.
func TestInvalidSharedFilters(t *testing.T) {
	for _, filter := range []string{"$share/", "$share/g", "$share//a", "$share/g/", "$share/+/a", "$share/g/a#"} {
		inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
			c := connect(t, pipe(t, e), "c")
			c.subscribe(subscription(filter, 1), subscription("a", 1))
			c.expect("SUBACK 8001")
			if n := e.Stats().Subscriptions; n != 1 {
				t.Errorf("%d subscriptions", n)
			}
			five := connect(t, pipe(t, e), "five", v5)
			five.subscribe(subscription(filter, 1))
			five.expect("DISCONNECT 81")
		})
	}
}

// What MQTT 5 adds to a subscription does not hold in a session that goes on in
// 3.1.1.
func TestOptionsOfASessionThatGoesOnBeforeMQTT5(t *testing.T) {
	inBubble(t, engine.Options{Store: immediateStore{}}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", expiry(60))
		c.subscribe(packets.Subscription{Filter: "a", Qos: 1, RetainAsPublished: true, NoLocal: true})
		c.expect("SUBACK 01")
		pub := connect(t, pipe(t, e), "pub")
		pub.publish(1, "a", "1", true)
		c.expect("a 1 qos 1 id 1 retained")
		c.ack(wire.Puback, 1)
		c.disconnect()
		pub.publish(1, "a", "queued", true)
		c = connect(t, pipe(t, e), "c", persistent)
		c.expect("a queued qos 1 id 2")
		pub.publish(1, "a", "2", true)
		c.expect("a 2 qos 1 id 3")
		c.publish(1, "a", "own")
		c.expect("a own qos 1 id 4", fmt.Sprintf("PUBACK %d", c.id))
		c.disconnect()
		c = connect(t, pipe(t, e), "c", expiry(60), persistent)
		c.expect("a queued qos 1 id 2 dup", "a 2 qos 1 id 3 dup", "a own qos 1 id 4 dup")
		pub.publish(1, "a", "3", true)
		c.expect("a 3 qos 1 id 5")
	})
}

// immediateStore stores at once.
type immediateStore struct{}

func (immediateStore) Append(_ []store.Record, done func(error)) {
	if done != nil {
		go done(nil)
	}
}

// Whoever is refused at CONNECT is reported once, with address and cause.
func TestRefusedConnections(t *testing.T) {
	var mu sync.Mutex
	var said, traced []string
	reported := make(chan struct{}, 100)
	e, addr := serve(t, engine.Options{ConnectRefused: func(c engine.Client, why string) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, why)
		if c.Remote == "" || c.Listener != "mqtt" {
			t.Errorf("reported of %+v", c)
		}
		reported <- struct{}{}
	}})
	e.Trace(func(p engine.TraceEvent) {
		mu.Lock()
		defer mu.Unlock()
		if p.Refused && p.Client.Remote != "" {
			traced = append(traced, p.Detail)
		}
	})
	connectOf := func(body string) string { return "\x10" + string(rune(len(body))) + body }
	for _, c := range []struct{ sent, cause string }{
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS"},
		{"GET / HTTP/1.1\r\n\r\n", "HTTP"},
		{"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY"},
		{"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", "PROXY"},
		{connectOf("\x00\x06MQIsdp\x09\x02\x00\x3c\x00\x01a"), "protocol level 9"},
		{connectOf("\x00\x04MQTT\x06\x02\x00\x3c\x00\x01a"), "protocol level 6"},
		{connectOf("\x00\x04MQTT\x04\x02\x00\x3c\x00\x02a\xff"), "UTF-8"},
		{connectOf("\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a!"), "trailing bytes"},
		{connectOf("\x00\x04MQTT\x04\x00\x00\x3c\x00\x00"), "client id"},
		{connectOf("\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00"), "client id"},
		{connectOf("\x00\x04MQTT\x04\x83\x00\x3c\x00\x01a"), "reserved"},
		{"\x30\x03\x00\x01a", "not CONNECT"},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, c.sent); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q: %v", c.sent, err)
		}
		_ = conn.Close()
		<-reported
		mu.Lock()
		if n := len(said); n != 1 || !strings.Contains(said[0], c.cause) || len(traced) != 1 || !strings.Contains(traced[0], c.cause) {
			t.Errorf("%q: reported %q, traced %q, want one with %q", c.sent, said, traced, c.cause)
		}
		said, traced = nil, nil
		mu.Unlock()
	}
}

// A client that is still sending when the broker ends its connection reads why,
// not a reset.
func TestTheReasonArrivesWhileTheClientSends(t *testing.T) {
	_, addr := serve(t, engine.Options{Authenticate: func(c engine.Client, _ string, _ bool, _ []byte) error {
		if c.ID == "refused" {
			return engine.ErrNotAllowed
		}
		return nil
	}})
	flood := make([]byte, 1<<20)
	for name, begin := range map[string]func(conn net.Conn) (*client, string){
		"DISCONNECT": func(conn net.Conn) (*client, string) {
			c := connect(t, conn, "c", v5)
			c.send([]byte{wire.PublishType<<4 | 6, 5, 0, 1, 'a', 0, 1}) // QoS 3
			return c, "DISCONNECT 81"
		},
		"CONNACK": func(conn net.Conn) (*client, string) {
			return handshake(t, conn, "refused", v5), "CONNACK 87 present false"
		},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, want := begin(conn)
		sent := make(chan error, 1)
		go func() {
			_, err := conn.Write(flood)
			sent <- err
		}()
		if err := <-sent; err != nil {
			t.Errorf("%s: cannot send: %v", name, err)
		}
		c.expect(want)
		if _, _, err := c.frame(20 * time.Second); !errors.Is(err, io.EOF) {
			t.Errorf("%s: it ends with %v", name, err)
		}
		_ = conn.Close()
	}
}
