package web_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/web"
	"github.com/jmbarzee/dominion/topics"
)

// far is a connection to a broker that others reach too.
type far struct{ net.Conn }

func (far) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1883} }

// relaying serves /mqtt beside a broker that has the user tv (admin) and returns
// both, and the address of HTTP.
func relaying(t *testing.T, h config.HTTP, wrap func(net.Conn) net.Conn) (b *broker.Broker, y *broker.Relay, at string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	file := filepath.Join(t.TempDir(), "tv")
	if err := os.WriteFile(file, []byte("tv\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Listen: "127.0.0.1:0", Users: []broker.User{{Name: "tv", PasswordFile: file, Role: broker.RoleAdmin}}}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Stop(context.Background()) })
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	y = &broker.Relay{Log: log, Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", b.Listeners()[0].Addr.String())
		if err != nil {
			return nil, err
		}
		return wrap(c), nil
	}}
	s, err := web.Listen(config.Dominion{HTTP: h}, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	served := s.Serve(t.Context(), web.Handlers{MQTT: y.WebSocket})
	t.Cleanup(func() { served(); y.Close() })
	return b, y, s.Addresses()[0].String()
}

func near(c net.Conn) net.Conn { return c }

// The user is the broker's own, and so is the answer to a wrong one. Who is not on
// this machine does not become a program of it.
func TestRelayAddsNoRights(t *testing.T) {
	for _, tt := range []struct {
		name   string
		wrap   func(net.Conn) net.Conn
		header http.Header
		user   string
		want   int
	}{
		{"a program of this machine", near, nil, "tv", 0},
		{"without a user: this broker lets programs of its machine in", near, nil, "", 0},
		{"an unknown user", near, nil, "nobody", 4},
		{"own page", near, http.Header{"Origin": {"own"}}, "tv", 0},
		{"page of another port", near, http.Header{"Origin": {"http://127.0.0.1:1"}}, "tv", -1},
		{"DNS rebinding", near, http.Header{"Host": {"evil.example"}, "Origin": {"http://evil.example"}}, "tv", -1},
		{"forwarded", near, http.Header{"X-Forwarded-For": {"192.0.2.1"}}, "tv", -1},
		{"forwarded to a broker elsewhere", func(c net.Conn) net.Conn { return far{c} }, http.Header{"X-Forwarded-For": {"192.0.2.1"}}, "tv", 0},
		{"a name of the Internet", func(c net.Conn) net.Conn { return far{c} }, http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Host": {"home.example"}, "Origin": {"http://home.example"}}, "tv", -1},
		{"that is allowed", func(c net.Conn) net.Conn { return far{c} }, http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Host": {"home.example"}, "Origin": {"http://page.example"}}, "tv", 0},
	} {
		_, _, at := relaying(t, config.HTTP{Listen: "127.0.0.1:0", AllowedOrigins: []string{"http://page.example:80"}}, tt.wrap)
		if tt.header.Get("Origin") == "own" {
			tt.header.Set("Origin", "http://"+at)
		}
		if got := connack(t, "ws://"+at+"/mqtt", "c", tt.user, tt.header); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// Packets of any size pass both ways, those to the client one to a message.
func TestRelayPassesPackets(t *testing.T) {
	b, _, at := relaying(t, config.HTTP{Listen: "127.0.0.1:0"}, near)
	ws, _, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}}).Dial("ws://"+at+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	send := func(p []byte) {
		t.Helper()
		if err := ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
			t.Fatal(err)
		}
	}
	receive := func() []byte {
		t.Helper()
		_, got, err := ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	send([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c"))
	if got := receive(); !bytes.Equal(got, []byte{0x20, 2, 0, 0}) {
		t.Fatalf("CONNACK is %x", got)
	}
	send([]byte("\x82\x06\x00\x01\x00\x01#\x00"))
	if got := receive(); got[0] != 0x90 {
		t.Fatalf("SUBACK is %x", got)
	}
	for _, size := range []int{0, 1, 5_000, 200_000} {
		packet := append([]byte{0x30}, remaining(size+3)...)
		packet = append(append(packet, 0, 1, 't'), bytes.Repeat([]byte{7}, size)...)
		send(packet)
		for {
			got := receive()
			if bytes.Equal(got, packet) {
				break
			}
			if got[0]&0xf0 == 0x30 && bytes.HasPrefix(got[len(got)-min(len(got), size):], []byte{7}) {
				t.Fatalf("a publish of %d bytes comes as a message of %d", len(packet), len(got))
			}
		}
	}
	b.Publish(topics.Message{Topic: "last", Payload: []byte("x")})
	for !bytes.HasSuffix(receive(), []byte("lastx")) {
	}
}

// remaining encodes a length (MQTT 3.1.1, 2.2.3).
func remaining(n int) (all []byte) {
	for ; n > 127; n >>= 7 {
		all = append(all, byte(n)|0x80)
	}
	return append(all, byte(n))
}

// Connections of an address are limited, an end of either side is the end of the
// other, and Close leaves nothing.
func TestRelayEnds(t *testing.T) {
	b, y, at := relaying(t, config.HTTP{Listen: "127.0.0.1:0"}, near)
	var all []*websocket.Conn
	for i := range 64 {
		ws, _, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}}).Dial("ws://"+at+"/mqtt", nil)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer ws.Close()
		all = append(all, ws)
	}
	_, response, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}}).Dial("ws://"+at+"/mqtt", nil)
	if err == nil || response == nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more: %v, %v", response, err)
	}
	if err := all[0].WriteMessage(websocket.BinaryMessage, []byte("this is no MQTT")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := all[0].ReadMessage(); err == nil {
		t.Error("the broker's end is not the client's")
	}
	y.Close()
	for i, ws := range all[1:] {
		if _, _, err := ws.ReadMessage(); err == nil {
			t.Errorf("connection %d goes on", i+1)
		}
	}
	if got := connack(t, "ws://"+at+"/mqtt", "c", "tv", nil); got != -1 {
		t.Errorf("after the end: %d", got)
	}
	if n := len(b.Sessions()); n > 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestRelayWithoutBroker(t *testing.T) {
	y := &broker.Relay{Log: slog.New(slog.DiscardHandler), Dial: func(context.Context) (net.Conn, error) {
		return nil, errors.New("cannot connect to mqtt://192.0.2.1:1883: connection refused")
	}}
	s, err := web.Listen(config.Dominion{HTTP: config.HTTP{Listen: "127.0.0.1:0"}}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Serve(t.Context(), web.Handlers{MQTT: y.WebSocket})()
	for path, want := range map[string]int{"/mqtt": http.StatusBadGateway, "/any": http.StatusBadGateway} {
		_, response, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}}).Dial("ws://"+s.Addresses()[0].String()+path, nil)
		if err == nil || response == nil || response.StatusCode != want {
			t.Errorf("%s: %v, %v", path, response, err)
		}
	}
	response, err := http.Get(fmt.Sprintf("http://%s/mqtt", s.Addresses()[0]))
	if err != nil || response.StatusCode != http.StatusBadRequest {
		t.Errorf("a GET: %v, %v", response, err)
	}
}
