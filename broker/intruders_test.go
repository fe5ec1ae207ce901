package broker_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
)

// Who was let in without a user is nobody once that is not allowed any more:
// it may do nothing, and is out soon. Where anonymous clients still are, they
// stay.
func TestAnonymousClientsAreOut(t *testing.T) {
	b, urls := listen(t, broker.Config{Listen: "0.0.0.0:0", ListenWS: "127.0.0.1:0", AllowAnonymous: true})
	guest, err := client.Connect(t.Context(), client.Options{URL: urls["mqtt"], ClientID: "guest"})
	if err != nil {
		t.Fatal(err)
	}
	at, err := net.Dial("tcp", strings.TrimPrefix(urls["mqtt"], "mqtt://"))
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	raw := &probeClient{t: t, c: at, code: make(map[byte]byte)}
	go raw.read()
	answer := func(pk packets.Packet) byte {
		t.Helper()
		pk.ProtocolVersion = 5
		send(t, at, encode(t, pk))
		for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(time.Millisecond) {
			raw.mu.Lock()
			code, there := raw.code[pk.FixedHeader.Type+1]
			delete(raw.code, pk.FixedHeader.Type+1)
			raw.mu.Unlock()
			if there {
				return code
			}
		}
		t.Fatal("no answer")
		return 0
	}
	if code := answer(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, ClientIdentifier: "raw"}}); code != 0 {
		t.Fatalf("CONNACK %x", code)
	}
	say := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: 7, TopicName: "cmnd/door", Payload: []byte("x")}
	if code := answer(say); code >= 0x80 {
		t.Fatalf("an anonymous client may not publish: %x", code)
	}
	here := pipe(t, b, client.Options{ClientID: "here"})
	defer here.Close()
	if err := b.Reload([]broker.User{{Name: "ada", PasswordHash: hashOf(t, "a"), Role: broker.RoleAdmin}}, false, nil); err != nil {
		t.Fatal(err)
	}
	if code := answer(say); code != 0x87 {
		t.Errorf("once anonymous clients are not allowed, one that is connected publishes: %x", code)
	}
	select {
	case <-guest.Done():
	case <-time.After(20 * time.Second):
		t.Error("it is still connected")
	}
	select {
	case <-here.Done():
		t.Error("one within the program was ended")
	default:
	}
}

// The identifiers of the program's own parts are nobody else's, whoever comes
// first.
func TestOwnIdentifiers(t *testing.T) {
	password := write(t, "p", "p\n")
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{ReservedIDs: []string{"bridge-attic"}, Users: []broker.User{
			{Name: "tv", Role: broker.RoleDevice, PasswordFile: password}, {Name: "root", Role: broker.RoleAdmin, PasswordFile: password},
		}})
		for _, user := range []string{"tv", "root"} {
			c, err := client.Connect(t.Context(), client.Options{URL: "mqtt://pipe", ClientID: "bridge-attic", User: user, Password: "p", Dial: dialOutside(b)})
			if err == nil {
				t.Errorf("%s has the identifier of a bridge", user)
				c.Close()
			}
		}
		bridge := connectProbe(t, b, connectOptions{id: "bridge-attic", user: "tv", vouched: true})
		if bridge.lastReason(packets.Connack) != 0 {
			t.Error("the bridge does not get in")
		}
		bridge.leave()
		stop(t, b)
	})
}

// A client without a user is an admin where it is let in: no user of less
// pushes it out. What it left is free, for the home that gets users later.
func TestAnAnonymousClientIsNotPushedOut(t *testing.T) {
	password := write(t, "p", "p\n")
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{Users: []broker.User{
			{Name: "tv", Role: broker.RoleDevice, PasswordFile: password}, {Name: "root", Role: broker.RoleAdmin, PasswordFile: password},
		}})
		assistant := connectProbe(t, b, connectOptions{id: "homeassistant"})
		if thief := connectProbe(t, b, connectOptions{id: "homeassistant", user: "tv"}); thief.lastReason(packets.Connack) < 0x80 || assistant.ended() {
			t.Error("a device pushed out an anonymous client")
		}
		if again := connectProbe(t, b, connectOptions{id: "homeassistant"}); again.lastReason(packets.Connack) >= 0x80 || !assistant.ended() {
			t.Error("it cannot connect anew")
		} else {
			again.leave()
		}
		if device := connectProbe(t, b, connectOptions{id: "homeassistant", user: "tv"}); device.lastReason(packets.Connack) >= 0x80 {
			t.Error("what it left is not free")
		} else {
			device.leave()
		}
		stop(t, b)
	})
}

// logRecorder counts what is logged, and keeps it.
type logRecorder struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *logRecorder) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *logRecorder) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.all.String(), s)
}

// Pages of other origins and headers of any length fill no log, and a request
// whose body never comes keeps no connection.
func TestWebSocketIsNoWayToStay(t *testing.T) {
	var log logRecorder
	b, err := broker.New(broker.Config{ListenWS: "127.0.0.1:0", Limits: broker.Limits{ConnectTimeout: time.Second}}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, b) })
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	at := b.Listeners()[0].Addr.String()
	for i := range 30 {
		_, response, err := websocket.DefaultDialer.Dial("ws://"+at, http.Header{"Origin": {fmt.Sprintf("http://%s%d.example", strings.Repeat("x", 5000), i)}})
		if err == nil || response.StatusCode != http.StatusForbidden {
			t.Fatalf("%v, %v", response, err)
		}
	}
	if n := log.count("WebSocket refused"); n == 0 || n > 6 {
		t.Errorf("%d refusals are told of, want a few", n)
	}
	if log.count(strings.Repeat("x", 300)) > 0 {
		t.Error("a header of any length is in the log")
	}

	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000\r\n\r\n", at)
	_ = c.SetReadDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("a request without its body keeps its connection: %v", err)
	}
}

// A name of 65,535 bytes is told of by its beginning.
func TestLongNamesInTheLog(t *testing.T) {
	var log logRecorder
	b, err := broker.New(broker.Config{Users: []broker.User{{Name: "ada", PasswordHash: hashOf(t, "a"), Role: broker.RoleDevice}}}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 30_000)
	_ = tryConnect(t, b, long, long, "wrong")
	c, err := client.Connect(t.Context(), client.Options{URL: "mqtt://pipe", ClientID: long, User: "ada", Password: "a", Dial: pipeTo(b)})
	if err != nil {
		t.Fatal(err)
	}
	c.Publish(retained("dominion/"+long, "x"))
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop(t, b)
	if log.count("connection refused") != 1 || log.count("publish refused") != 1 || log.count(strings.Repeat("x", 300)) > 0 {
		t.Errorf("%.2000s", log.all.String())
	}
}

// dialOutside connects by a listener that others reach.
func dialOutside(b *broker.Broker) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		b.ServeOutside(theirs)
		return ours, nil
	}
}
