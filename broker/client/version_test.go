package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// oldBroker is a broker of 3.1.1 that handles a CONNECT of 5.0 by refuse.
type oldBroker struct {
	peer
	refuse func(net.Conn)
	dials  int
}

func (o *oldBroker) dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	o.dials++
	if o.dials > 1 {
		go o.serve311(theirs)
		return ours, nil
	}
	go func() {
		defer theirs.Close()
		connect := make([]byte, 9)
		if _, err := io.ReadFull(theirs, connect); err == nil && connect[8] == 5 {
			rest := make([]byte, connect[1]-7)
			_, _ = io.ReadFull(theirs, rest)
			o.refuse(theirs)
		}
	}()
	return ours, nil
}

// A broker that does not support MQTT 5.0 is connected to with 3.1.1, however it
// refuses: with the CONNACK of 3.1.1 or of 5.0, by closing the connection, or by an
// answer that 5.0 does not allow.
func TestFallback(t *testing.T) {
	send := func(b ...byte) func(net.Conn) { return func(c net.Conn) { _, _ = c.Write(b) } }
	for name, refuse := range map[string]func(net.Conn){
		"as mosquitto 1.4":         send(0x20, 2, 0, 1),
		"another code of 3.1.1":    send(0x20, 2, 0, 2),
		"accepted as if 3.1.1":     send(0x20, 2, 0, 0),
		"as 5.0":                   send(0x20, 3, 0, 0x84, 0),
		"closed":                   func(net.Conn) {},
		"closed within the answer": send(0x20, 3, 0),
	} {
		synctest.Test(t, func(t *testing.T) {
			o := &oldBroker{refuse: refuse}
			c, err := Connect(t.Context(), Options{Dial: o.dial, ClientID: "c"})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := c.Subscribe(t.Context(), "a"); err != nil || c.Version() != wire.V311 || o.dials != 2 {
				t.Errorf("%s: %v, version %d, %d connections", name, err, c.Version(), o.dials)
			}
			c.Close()
		})
	}
}

// The error of a broker that does not support 5.0 is its answer in 3.1.1, and without
// one that of the first attempt. A version that is required is the only one tried.
func TestFallbackFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &oldBroker{refuse: func(net.Conn) {}, peer: peer{connack: packets.ErrRefusedNotAuthorised}}
		if _, err := Connect(t.Context(), Options{Dial: o.dial, User: "ann"}); !errors.Is(err, ErrNotAuthorized) {
			t.Errorf("refused in 3.1.1: %v", err)
		}
		dials := 0
		closes := func(context.Context) (net.Conn, error) {
			dials++
			ours, theirs := net.Pipe()
			go func() {
				_, _ = theirs.Read(make([]byte, 100))
				_ = theirs.Close()
			}()
			return ours, nil
		}
		if _, err := Connect(t.Context(), Options{Dial: closes}); !errors.Is(err, ErrNoAnswer) || !errors.Is(err, io.EOF) || dials != 2 {
			t.Errorf("closed both times: %v, %d connections", err, dials)
		}
		o = &oldBroker{refuse: func(c net.Conn) { _, _ = c.Write([]byte{0x20, 2, 0, 1}) }}
		if _, err := Connect(t.Context(), Options{Dial: o.dial, Version: wire.V5}); !errors.Is(err, ErrVersion) || o.dials != 1 {
			t.Errorf("5.0 is required: %v, %d connections", err, o.dials)
		}
	})
}

// The reason of a refused connection is shown by name, with the broker's text.
func TestReasonsOfConnack(t *testing.T) {
	const refused = "cannot connect to mqtt://pi:1883: "
	for _, c := range []struct {
		code byte
		text string
		want string
		is   error
	}{
		{0x87, "", "not authorized (0x87): the broker refused user or password", ErrNotAuthorized},
		{0x86, "no such user", `bad user name or password (0x86): "no such user": the broker refused user or password`, ErrNotAuthorized},
		{0x85, "", "client identifier not valid (0x85): the broker refused the client identifier for this user", ErrClientID},
		{0x89, "", "the broker refused the connection: server busy (0x89)", nil},
		{0x88, "", "the broker refused the connection: server unavailable (0x88)", nil},
		{0x8A, "too many\ntries", `the broker refused the connection: banned (0x8A): "too many\ntries"`, ErrNotAuthorized},
		{0x97, "", "the broker refused the connection: quota exceeded (0x97)", nil},
		{0x9F, "", "the broker refused the connection: connection rate exceeded (0x9F)", nil},
		{0xF0, "", "the broker refused the connection: reason (0xF0)", nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &peer{version: wire.V5, connack: c.code, reason: c.text}
			_, err := Connect(t.Context(), Options{URL: "mqtt://ann@pi", Dial: p.dial})
			if err == nil || err.Error() != refused+c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
			for _, e := range []error{ErrNotAuthorized, ErrClientID, ErrVersion, ErrNoAnswer} {
				if errors.Is(err, e) != (e == c.is) {
					t.Errorf("%v is %v: %v", err, e, errors.Is(err, e))
				}
			}
			if e := new(ConnectError); !errors.As(err, &e) || e.Code != c.code || e.Text != c.text {
				t.Errorf("%+v", e)
			}
			if len(p.received) != 1 {
				t.Errorf("%d attempts", len(p.received))
			}
		})
	}
}

// The reasons of other refusals are shown by name, too.
func TestReasonsOnAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{version: wire.V5, suback: 0x87, puback: 0x97, reason: "later"}
		c := connect(t, p)
		err := c.Subscribe(t.Context(), "secret")
		if want := `cannot subscribe to secret: refused by mqtt://broker:1883; the user's role does not allow it: not authorized (0x87): "later"`; err == nil || err.Error() != want || !errors.Is(err, ErrRefused) {
			t.Errorf("%v, want %s", err, want)
		}
		refused := make(chan *Refusal, 2)
		c.PublishThen(topics.Message{Topic: "a", QoS: 1}, func(r *Refusal) { refused <- r })
		c.PublishThen(topics.Message{Topic: "a"}, func(r *Refusal) { refused <- r })
		if r := <-refused; r == nil || r.Reason != `quota exceeded (0x97): "later"` || r.Code != 0x97 {
			t.Errorf("%+v", r)
		}
		if r := <-refused; r != nil {
			t.Errorf("QoS 0: %+v", r)
		}
		c.Close()
		p = &peer{version: wire.V5, leaves: 0x95, reason: "no"}
		c = connect(t, p)
		c.Publish(topics.Message{Topic: "a", QoS: 1})
		<-c.Done()
		if want := `connection to mqtt://broker:1883 lost: the broker ended the connection: packet too large (0x95): "no"`; c.Err() == nil || c.Err().Error() != want {
			t.Errorf("%v, want %s", c.Err(), want)
		}
		if by, reason := c.EndedByBroker(); !by || reason == nil || reason.Code != 0x95 || !reason.CausedByMessage() {
			t.Errorf("%v %+v", by, reason)
		}
	})
}

// A refused message is passed to OnRefused, or logged once for its topic. One that was
// refused for a reason that may pass ends the connection after a minute, so that the
// caller publishes its state again.
func TestRefusedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var refused []string
		p := &peer{version: wire.V5, puback: 0x87, props: []byte{0x27, 0, 0, 1, 0}}
		c, err := Connect(t.Context(), Options{
			Dial: p.dial, Log: slog.New(slog.NewTextHandler(&log, nil)),
			OnRefused: func(m topics.Message, r Refusal) bool {
				refused = append(refused, m.Topic+" "+string(m.Payload)+" "+r.Reason)
				return m.Topic == "mine"
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			c.Publish(topics.Message{Topic: "mine", Payload: []byte("x"), QoS: 1})
			c.Publish(topics.Message{Topic: "other", QoS: 1})
		}
		c.Publish(topics.Message{Topic: "a/#", QoS: 1})
		c.Publish(topics.Message{Topic: "large", Payload: make([]byte, 300)})
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(refused) != 6 || refused[0] != "mine x not authorized (0x87)" || refused[4] != "a/#  its topic is not a valid topic name" {
			t.Errorf("%q", refused)
		}
		if n := strings.Count(log.String(), "the broker refuses a message"); n != 3 || strings.Contains(log.String(), "topic=mine") {
			t.Errorf("%d entries:\n%s", n, log.String())
		}
		time.Sleep(time.Hour)
		if c.hasFailed() {
			t.Errorf("ended: %v", c.err)
		}
		c.Close()
		p = &peer{version: wire.V5, puback: 0x97}
		c = connect(t, p)
		c.Publish(topics.Message{Topic: "a", QoS: 1})
		if d := ended(t, c); d != renewTime || !strings.Contains(c.Err().Error(), "quota exceeded (0x97)") {
			t.Errorf("after %v: %v", d, c.Err())
		}
		synctest.Wait()
		if n := len(p.received); p.received[n-1] != "DISCONNECT:" {
			t.Errorf("the last packet is %s", p.received[n-1])
		}
	})
}

// What the broker announces in CONNACK holds: its keep alive, its limits and what it
// does not support.
func TestCapabilities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{version: wire.V5, props: []byte{
			0x12, 0, 1, 'x', 0x13, 0, 2, 0x21, 0, 1, 0x24, 0, 0x25, 0, 0x26, 0, 1, 'k', 0, 1, 0xFF, 0x27, 0, 0, 1, 0, 0x28, 1,
		}}
		c := connect(t, p)
		if c.keepAlive != 2*time.Second || c.state.inflight.window != 1 {
			t.Errorf("keep alive %v, window %d", c.keepAlive, c.state.inflight.window)
		}
		c.Publish(topics.Message{Topic: "a", QoS: 1, Retain: true})
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		p.mu.Lock()
		if p.received[1] != "PUBLISH:" || len(p.last) != 4 { // no packet identifier
			t.Errorf("%v % x", p.received, p.last)
		}
		p.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := p.count("PINGREQ:"); n < 29 || n > 30 {
			t.Errorf("%d pings in a minute", n)
		}
		c.Close()
	})
}

// The window limits what is unacknowledged, and EndSequential widens it.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{version: wire.V5, forgets: true}
		c, err := Connect(t.Context(), Options{Dial: p.dial, Window: 10, Sequential: true})
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			c.Publish(topics.Message{Topic: "a", QoS: 1})
		}
		for _, want := range []int{1, 10} {
			synctest.Wait()
			if n := p.count("PUBLISH:"); n != want || c.Unacknowledged() != want {
				t.Errorf("%d were sent, %d are unacknowledged, want %d", n, c.Unacknowledged(), want)
			}
			c.EndSequential()
		}
		c.fail(errors.New("enough"))
		<-c.Done()
	})
}

// Calls of PublishThen come in the order of publishing, although messages of QoS 0 need
// no acknowledgement and some are refused without being sent.
func TestOrderOfCompletion(t *testing.T) {
	inBothVersions(t, func(t *testing.T, version byte) {
		c := connect(t, &peer{version: version})
		var got []int
		for i := range 3000 {
			m := topics.Message{Topic: "a", QoS: byte(i % 2)}
			if i%5 == 0 {
				m.Topic = "#"
			}
			c.PublishThen(m, func(*Refusal) { got = append(got, i) })
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, n := range got {
			if i != n {
				t.Fatalf("call %d is of message %d", i, n)
			}
		}
		if len(got) != 3000 {
			t.Errorf("%d calls", len(got))
		}
		c.Close()
	})
}

// A will is part of CONNECT in both versions.
func TestConnectPacket(t *testing.T) {
	will := topics.Message{Topic: "w", Payload: []byte("gone"), QoS: 1, Retain: true}
	for _, c := range []struct {
		o    Options
		v    byte
		want string
	}{
		{Options{ClientID: "c", Will: &will, User: "u", Password: "p"}, 4, "\x10\x1c\x00\x04MQTT\x04\xee\x00\x05\x00\x01c\x00\x01w\x00\x04gone\x00\x01u\x00\x01p"},
		{Options{ClientID: "c", Will: &will}, 5, "\x10\x18\x00\x04MQTT\x05\x2e\x00\x05\x00\x00\x01c\x00\x00\x01w\x00\x04gone"},
		{Options{ClientID: "c", Persistent: true, Window: 100, Bridge: true, LocalBridge: true}, 5, "\x10\x16\x00\x04MQTT\x85\x00\x00\x05\x08\x11\xff\xff\xff\xff\x21\x00\x64\x00\x01c"},
		{Options{ClientID: "c", Persistent: true, Window: 100, Bridge: true}, 4, "\x10\x0d\x00\x04MQTT\x84\x00\x00\x05\x00\x01c"},
		{Options{ClientID: "c", Password: "p", KeepAlive: 1500 * time.Millisecond}, 4, "\x10\x0d\x00\x04MQTT\x04\x02\x00\x02\x00\x01c"},
	} {
		c.o.setDefaults()
		got, err := c.o.request(c.v).Append(nil)
		if err != nil || string(got) != c.want {
			t.Errorf("% x, %v, want % x", got, err, c.want)
		}
	}
	if _, err := Connect(t.Context(), Options{Dial: (&peer{version: wire.V5}).dial, ClientID: strings.Repeat("c", 65536)}); err == nil || !strings.Contains(err.Error(), "65535 bytes") {
		t.Errorf("a client id of 65536 bytes: %v", err)
	}
}

// The caller reads the certificates of the broker, also of one that it does not verify.
func TestConnectionState(t *testing.T) {
	server := httptest.NewUnstartedServer(nil) // for its certificate
	server.StartTLS()
	certificate := server.TLS.Certificates[0]
	server.Close()
	p := &peer{version: wire.V5}
	dialTLS := func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go p.serve5(tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{certificate}}))
		return ours, nil
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Leaf)
	for name, config := range map[string]*tls.Config{
		"not verified": {InsecureSkipVerify: true},
		"verified":     {RootCAs: roots, ServerName: "example.com"},
	} {
		c, err := Connect(t.Context(), Options{URL: "mqtts://pi", Dial: dialTLS, TLS: config})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		state, ok := c.ConnectionState()
		if !ok || len(state.PeerCertificates) == 0 || !state.PeerCertificates[0].Equal(certificate.Leaf) {
			t.Errorf("%s: %v %v", name, ok, state.PeerCertificates)
		}
		for _, size := range []int{10, 100_000, maxRecord} { // several records
			c.Publish(topics.Message{Topic: "a", Payload: make([]byte, size), QoS: 1})
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
	if _, err := Connect(t.Context(), Options{URL: "mqtts://pi", Dial: dialTLS}); !errors.As(err, new(*tls.CertificateVerificationError)) {
		t.Errorf("not trusted: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, p)
		if _, ok := c.ConnectionState(); ok {
			t.Error("a connection without TLS has a state of TLS")
		}
		c.Close()
	})
}

// A broker that limits the rate of what it reads is not taken for one that does not
// read: the deadline for writes begins again with each byte that it takes.
func TestSlowBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{version: wire.V5}
		slow := func(context.Context) (net.Conn, error) {
			ours, between := net.Pipe()
			to, theirs := net.Pipe()
			go p.serve5(theirs)
			go func() { _, _ = io.Copy(between, to) }()
			go func() {
				defer to.Close()
				b := make([]byte, 100)
				for {
					n, err := between.Read(b)
					if err != nil {
						return
					}
					_, _ = to.Write(b[:n])
					time.Sleep(time.Second)
				}
			}()
			return ours, nil
		}
		c, err := Connect(t.Context(), Options{Dial: slow})
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			c.Publish(topics.Message{Topic: "a", Payload: make([]byte, 30)})
		}
		began := time.Now()
		if err := c.Flush(t.Context()); err != nil || time.Since(began) < 30*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		c.Close()
		time.Sleep(time.Minute) // for the others to end
	})
}
