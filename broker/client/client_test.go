package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/jmbarzee/dominion/topics"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]string{
		"mqtt://pi":                 "mqtt://pi:1883",
		"mqtt://pi:1884":            "mqtt://pi:1884",
		"mqtt://pi:1884/":           "mqtt://pi:1884",
		"mqtts://ann@pi":            "mqtts://pi:8883",
		"mqtt://[::1]":              "mqtt://[::1]:1883",
		"mqtt://[fe80::1%25eth0]:1": "mqtt://[fe80::1%eth0]:1",
	} {
		s, err := parseURL(in)
		if err != nil || s.String() != want {
			t.Errorf("%s is %s, %v; want %s", in, s, err, want)
		}
	}
	if s, _ := parseURL("mqtts://ann@pi"); s.user != "ann" || !s.tls {
		t.Errorf("user %q, tls %v", s.user, s.tls)
	}
	for in, want := range map[string]string{
		"":                        "it is not a URL",
		"pi:1883":                 "it is not a URL",
		"pi":                      "it is not a URL",
		"http://pi":               `"http" is not a valid scheme`,
		"mqtt://:1883":            "it has no host",
		"mqtt://pi/topic":         "nothing may follow",
		"mqtt://pi?x=1":           "nothing may follow",
		"mqtt://ann:s3cret@pi":    "use a password file",
		"mqtt://ann:s3cret@pi:xx": "it is not a URL",
	} {
		_, err := parseURL(in)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "write mqtt://host:port") {
			t.Errorf("%s: %v, want an error with %q", in, err, want)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error tells the password: %v", in, err)
		}
	}
}

func TestBackoff(t *testing.T) {
	for attempt, most := range map[int]time.Duration{
		-1: 100 * time.Millisecond, 0: 100 * time.Millisecond, 1: 200 * time.Millisecond, 3: 800 * time.Millisecond,
		4: 1600 * time.Millisecond, 5: 2 * time.Second, 1000: 2 * time.Second,
	} {
		for range 100 {
			if d := Backoff(attempt, rand.N[time.Duration]); d > most || d < most/2 {
				t.Fatalf("attempt %d waits %v, want %v to %v", attempt, d, most/2, most)
			}
		}
	}
}

// ended waits for the end of a connection and returns how long it took.
func ended(t *testing.T, c *Conn) time.Duration {
	t.Helper()
	began := time.Now()
	<-c.Done()
	if c.Err() == nil {
		t.Error("it ended without a reason")
	}
	return time.Since(began)
}

func TestRefusedIsNotUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		Connect := func(ctx context.Context, o Options) (*Conn, error) { o.Version = 4; return Connect(ctx, o) }
		for code, refused := range map[byte]bool{
			packets.ErrRefusedBadUsernameOrPassword: true,
			packets.ErrRefusedNotAuthorised:         true,
			packets.ErrRefusedServerUnavailable:     false,
			packets.ErrRefusedIDRejected:            false,
		} {
			_, err := Connect(t.Context(), Options{URL: "mqtt://ann@pi", Dial: (&peer{connack: code}).dial})
			if err == nil || errors.Is(err, ErrNotAuthorized) != refused || !strings.HasPrefix(err.Error(), "cannot connect to mqtt://pi:1883: ") {
				t.Errorf("code %d: %v", code, err)
			}
			_, err = Connect(t.Context(), Options{URL: "mqtt://pi", Dial: (&peer{connack: code}).dial})
			if err == nil || errors.Is(err, ErrNotAuthorized) != refused || strings.HasSuffix(err.Error(), ": the broker requires user and password") != refused {
				t.Errorf("code %d, no user: %v", code, err)
			}
		}
		_, err := Connect(t.Context(), Options{URL: "mqtt://pi", Dial: func(context.Context) (net.Conn, error) { return nil, io.ErrUnexpectedEOF }})
		if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrNotAuthorized) {
			t.Errorf("a dial that fails: %v", err)
		}
	})
}

func TestConnectIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mute := func(context.Context) (net.Conn, error) { // takes CONNECT and answers nothing
			ours, theirs := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			return ours, nil
		}
		began := time.Now()
		if _, err := Connect(t.Context(), Options{Dial: mute}); err == nil || time.Since(began) != DefaultTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		began = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Connect(ctx, Options{Dial: mute}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// A line that dies without a word is noticed by the missing answer to a ping.
func TestSilentPeer(t *testing.T) {
	inBothVersions(t, func(t *testing.T, version byte) {
		c := connect(t, &peer{version: version, silent: true})
		if d := ended(t, c); d < DefaultKeepAlive || d > DefaultKeepAlive+2*DefaultTimeout {
			t.Errorf("noticed after %v", d)
		}
	})
}

// A peer that stops reading is noticed at the next write.
func TestPeerThatDoesNotRead(t *testing.T) {
	inBothVersions(t, func(t *testing.T, version byte) {
		c := connect(t, &peer{version: version, notReading: true})
		c.Publish(topics.Message{Topic: "a", Payload: []byte("1"), QoS: 1})
		if d := ended(t, c); d > 2*DefaultTimeout {
			t.Errorf("noticed after %v", d)
		}
		time.Sleep(2 * time.Hour) // for the peer to go
	})
}

// A message that is never acknowledged ends the connection, although the peer
// is there.
func TestMissingAcknowledgement(t *testing.T) {
	inBothVersions(t, func(t *testing.T, version byte) {
		c := connect(t, &peer{version: version, forgets: true})
		c.Publish(topics.Message{Topic: "a", QoS: 1})
		if d := ended(t, c); d != 3*DefaultTimeout {
			t.Errorf("noticed after %v", d)
		}
	})
}

func TestOverflowEndsTheConnection(t *testing.T) {
	inBothVersions(t, func(t *testing.T, version byte) {
		c := connect(t, &peer{version: version, notReading: true})
		began := time.Now()
		for range 2*maxQueued + maxInflight + 10 { // the sender holds as much again
			c.Publish(topics.Message{Topic: "a", Payload: []byte("1")})
		}
		if time.Since(began) > 0 {
			t.Error("Publish waited")
		}
		ended(t, c)
		if !strings.Contains(c.Err().Error(), "as fast as they are published") {
			t.Error(c.Err())
		}
		c.Publish(topics.Message{Topic: "a"}) // harmless afterwards
		if err := c.Flush(t.Context()); err == nil {
			t.Error("Flush of a connection that is over is nil")
		}
		time.Sleep(2 * time.Hour)
	})
}

func TestSubscribe(t *testing.T) {
	inBothVersions(t, func(t *testing.T, version byte) {
		c := connect(t, &peer{version: version})
		if err := c.Subscribe(t.Context(), "a", "b/#"); err != nil {
			t.Error(err)
		}
		if err := c.Subscribe(t.Context(), "a/#/b"); err == nil || !strings.Contains(err.Error(), "a/#/b") {
			t.Errorf("a filter that is none: %v", err)
		}
		c.Close()
		if err := c.Subscribe(t.Context(), "a"); err == nil {
			t.Error("a closed connection subscribed")
		}
		c = connect(t, &peer{version: version, suback: 0x80})
		if err := c.Subscribe(t.Context(), "secret"); err == nil || !strings.Contains(err.Error(), "cannot subscribe to secret: refused") {
			t.Errorf("refused: %v", err)
		}
		c.Close()
		c = connect(t, &peer{version: version, silent: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Subscribe(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer: %v", err)
		}
		c.Close()
	})
}

// Close sends what is queued, in order, and says DISCONNECT last.
func TestCloseSendsFirst(t *testing.T) {
	inBothVersions(t, func(t *testing.T, version byte) {
		p := &peer{version: version}
		c := connect(t, p)
		for i := range 100 {
			c.Publish(topics.Message{Topic: "a", QoS: byte(i % 2)})
		}
		c.Close()
		c.Close() // a second time is harmless
		synctest.Wait()
		if n := len(p.received); n != 102 || p.received[0] != "CONNECT:" || p.received[101] != "DISCONNECT:" {
			t.Errorf("received %d packets: %v", n, p.received)
		}
		if c.Err() != nil {
			t.Error(c.Err())
		}
	})
}

func TestCloseOfADeadLineIsBounded(t *testing.T) {
	inBothVersions(t, func(t *testing.T, version byte) {
		c := connect(t, &peer{version: version, notReading: true})
		c.Publish(topics.Message{Topic: "a", QoS: 1})
		began := time.Now()
		c.Close()
		if d := time.Since(began); d > 3*DefaultTimeout {
			t.Errorf("Close took %v", d)
		}
		time.Sleep(2 * time.Hour)
	})
}
