package broker_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// logLines is a log whose logLines can be waited for.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// next returns the next line that contains a text.
func (l logLines) next(t *testing.T, text string) string {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case line := <-l:
			if strings.Contains(line, text) {
				return line
			}
		case <-deadline:
			t.Fatalf("the log has no line with %q", text)
		}
	}
}

// Whoever is refused before its CONNECT is understood leaves one line in the log
// and one in each trace, with address and cause.
func TestRefusedBeforeCONNECT(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := certificate(t)
	log := make(logLines, 1000)
	b, err := broker.New(broker.Config{
		Listen: "127.0.0.1:0", ListenTLS: "127.0.0.1:0", ListenWS: "127.0.0.1:0",
		CertFile: certFile, KeyFile: keyFile, ClientCAFile: ca.file,
	}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, b)
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	at := make(map[string]string)
	for _, l := range b.Listeners() {
		at[l.Scheme] = l.Addr.String()
	}
	traced := make(logLines, 1000)
	const trace = "dominion/response/trace/x"
	if err := b.Subscribe(trace, func(m topics.Message) { traced <- string(m.Payload) }); err != nil {
		t.Fatal(err)
	}
	if err := b.Trace("a/#", trace); err != nil {
		t.Fatal(err)
	}
	stranger := newAuthority(t)
	strangeCert, strangeKey := stranger.sign(t, "tv", time.Now().Add(time.Hour))
	pair, err := tls.LoadX509KeyPair(strangeCert, strangeKey)
	if err != nil {
		t.Fatal(err)
	}
	plainly := func(scheme, what string) func() {
		return func() {
			conn, err := net.Dial("tcp", at[scheme])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, what)
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	secretly := func(c *tls.Config) func() {
		return func() {
			conn, err := tls.Dial("tcp", at["mqtts"], c)
			if err != nil {
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	for name, c := range map[string]struct {
		connect func()
		cause   string
	}{
		"TLS at the plain port":   {plainly("mqtt", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "TLS"},
		"MQTT at the TLS port":    {plainly("mqtts", "\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"), "does not look like a TLS handshake"},
		"HTTP at the plain port":  {plainly("mqtt", "GET / HTTP/1.1\r\n\r\n"), "HTTP"},
		"a PROXY header":          {plainly("mqtt", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), "PROXY"},
		"an untrusted authority":  {secretly(&tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}), "certificate"},
		"a client that distrusts": {secretly(&tls.Config{ServerName: "other"}), "tls"},
		"text over WebSocket": {func() {
			ws, _, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}}).Dial("ws://"+at["ws"]+"/mqtt", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			_ = ws.WriteMessage(websocket.TextMessage, []byte("x"))
			_, _, _ = ws.ReadMessage()
		}, "binary"},
	} {
		c.connect()
		line := log.next(t, "connection refused")
		if !strings.Contains(line, c.cause) || !strings.Contains(line, "remote=127.0.0.1:") {
			t.Errorf("%s: the log says %s", name, line)
		}
		line = traced.next(t, `"refused"`)
		if !strings.Contains(line, c.cause) || !strings.Contains(line, `"127.0.0.1:`) {
			t.Errorf("%s: the trace says %s", name, line)
		}
	}
	for range 20 { // and what is repeated does not fill the log
		plainly("mqtt", "GET / HTTP/1.1\r\n\r\n")()
		traced.next(t, `"refused"`)
	}
	n := 0
	for len(log) > 0 {
		if strings.Contains(<-log, "connection refused") {
			n++
		}
	}
	if n > 5 {
		t.Errorf("20 refusals for one cause are %d lines", n)
	}
}

// A user name is ignored where everybody is let in without one and nobody has
// one, and only there.
func TestUserNameWhereThereAreNoUsers(t *testing.T) {
	log := make(logLines, 1000)
	for _, c := range []struct {
		name string
		cfg  broker.Config
		in   bool
	}{
		{"loopback", broker.Config{Listen: "127.0.0.1:0"}, true},
		{"open to others", broker.Config{Listen: ":0"}, false},
		{"open to everybody", broker.Config{Listen: ":0", AllowAnonymous: true}, true},
		{"a user is configured", broker.Config{Listen: "127.0.0.1:0", AllowAnonymous: true, Users: []broker.User{{Name: "tv", Role: broker.RoleDevice, PasswordHash: hashOf(t, "x")}}}, false},
	} {
		b, err := broker.New(c.cfg, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Listen(); err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(b.Listeners()[0].Addr.String())
		connect := func(id string) error {
			conn, err := client.Connect(t.Context(), client.Options{URL: "mqtt://127.0.0.1:" + port, ClientID: id, User: "zigbee2mqtt", Password: "mqtt"})
			if err != nil {
				return err
			}
			defer conn.Close()
			conn.Publish(topics.Message{Topic: "dominion/domain/pi/drain/set", Payload: []byte("ON"), QoS: 1, Retain: true})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return conn.Flush(ctx)
		}
		for _, id := range []string{"one", "two"} {
			if err := connect(id); (err == nil) != c.in {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if c.in {
			if s := b.Stats(); s.Retained != 1 {
				t.Errorf("%s: %d messages are retained: it is not treated as anonymous", c.name, s.Retained)
			}
			if err := b.AddUser(broker.User{Name: "tv", Role: broker.RoleDevice, PasswordHash: hashOf(t, "x")}); err != nil {
				t.Fatal(err)
			}
			if err := connect("three"); err == nil {
				t.Errorf("%s: let in though there is a user", c.name)
			}
		}
		stop(t, b)
		n := 0
		for len(log) > 0 {
			if strings.Contains(<-log, "a user name is ignored") {
				n++
			}
		}
		if want := map[bool]int{true: 1}[c.in]; n != want {
			t.Errorf("%s: logged %d times", c.name, n)
		}
	}
}

// A WebSocket whose connection the broker ends gets the reason and a Close frame.
func TestWebSocketReadsTheReason(t *testing.T) {
	_, at := listen(t, broker.Config{ListenWS: "127.0.0.1:0"})
	ws, _, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}}).Dial(at["ws"]+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	send := func(b []byte) {
		if err := ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
			t.Fatal(err)
		}
	}
	read := func() string {
		_ = ws.SetReadDeadline(time.Now().Add(time.Minute))
		_, b, err := ws.ReadMessage()
		if err != nil {
			return err.Error()
		}
		return string(b[:min(3, len(b))])
	}
	send([]byte("\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a"))
	if got := read(); got[0] != 0x20 || got[2] != 0 {
		t.Fatalf("got %q", got)
	}
	send([]byte("\x36\x05\x00\x01a\x00\x01")) // QoS 3
	for range 16 {
		send(make([]byte, 64<<10))
	}
	if got := read(); got[0] != 0xe0 || got[2] != 0x81 {
		t.Errorf("got %q, want DISCONNECT", got)
	}
	if got := read(); !strings.Contains(got, "close 1000") {
		t.Errorf("it ends with %s", got)
	}
}

// The address of a link-local listener is of use with its zone alone.
func TestLinkLocalListenerRetainsItsZone(t *testing.T) {
	for configured, c := range map[string]struct {
		bound net.TCPAddr
		want  string
	}{
		"[fe80::99%eth0]:1883": {net.TCPAddr{IP: net.ParseIP("fe80::99"), Port: 1883}, "[fe80::99%eth0]:1883"},
		"[fd00::99]:0":         {net.TCPAddr{IP: net.ParseIP("fd00::99"), Port: 1883}, "[fd00::99]:1883"},
		":1883":                {net.TCPAddr{IP: net.IPv6zero, Port: 1883}, "[::]:1883"},
	} {
		if got := broker.WithZone(&c.bound, configured).String(); got != c.want {
			t.Errorf("%s: %s, want %s", configured, got, c.want)
		}
	}
}
