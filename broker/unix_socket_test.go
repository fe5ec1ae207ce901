package broker_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// dialUnix makes a client speak through a socket.
func dialUnix(path string) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// The mode of a Unix socket guards it, so nobody needs a user there, and a
// password is checked all the same. The socket goes with the broker.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mqtt")
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	b := start(t, broker.Config{Listen: "0.0.0.0:0", ListenUnix: path})
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Fatalf("the socket is %v, %v", info.Mode(), err)
	}
	if l := b.Listeners()[1]; l.Scheme != "unix" || l.Addr.String() != path {
		t.Errorf("listener %+v", l)
	}
	got := make(chan topics.Message, 1)
	c, err := client.Connect(t.Context(), client.Options{ClientID: "c", Dial: dialUnix(path), OnMessage: func(m topics.Message) { got <- m }})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	c.Publish(topics.Message{Topic: "a", Payload: make([]byte, 1<<20), QoS: 1})
	if m := <-got; len(m.Payload) != 1<<20 {
		t.Errorf("%d bytes came back", len(m.Payload))
	}
	c.Close()
	if err := b.AddUser(broker.User{Name: "tv", Role: broker.RoleDevice, PasswordHash: hashOf(t, "x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Connect(t.Context(), client.Options{ClientID: "c", User: "x", Password: "y", Dial: dialUnix(path)}); !errors.Is(err, client.ErrNotAuthorized) {
		t.Errorf("an unknown user: %v", err)
	}
	stop(t, b)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is there after the stop: %v", err)
	}
}

// What a killed broker left is taken away; what is somebody else's is not.
func TestUnixSocketThatIsThere(t *testing.T) {
	dir := t.TempDir()
	stale, taken, file := filepath.Join(dir, "stale"), filepath.Join(dir, "taken"), filepath.Join(dir, "file")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()
	_, _ = listen(t, broker.Config{ListenUnix: stale})

	other, err := net.Listen("unix", taken)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		taken:                            "cannot listen on broker.listen_unix " + taken + ": it is in use",
		file:                             "there is a file that is not a socket",
		filepath.Join(dir, "no", "mqtt"): "its folder must exist",
		file + "/mqtt":                   "cannot listen on broker.listen_unix",
	} {
		b, err := broker.New(broker.Config{ListenUnix: path}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Listen(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", path, err, want)
		}
		stop(t, b)
	}
	if c, err := net.Dial("unix", taken); err != nil {
		t.Errorf("the other's socket: %v", err)
	} else {
		_ = c.Close()
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "mine" {
		t.Errorf("the other's file: %q, %v", content, err)
	}
}

// MQTT over WebSocket over TLS: the same certificate, the same look at Origin.
func TestSecureWebSocket(t *testing.T) {
	cert, key := certificate(t)
	_, urls := listen(t, broker.Config{ListenWSS: "127.0.0.1:0", CertFile: cert, KeyFile: key})
	authority, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	d := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: &tls.Config{RootCAs: roots}}
	ws, _, err := d.Dial(urls["wss"]+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteMessage(websocket.BinaryMessage, encode(t, packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, ClientIdentifier: "browser"},
	})); err != nil {
		t.Fatal(err)
	}
	if _, answer, err := ws.ReadMessage(); err != nil || string(answer) != "\x20\x02\x00\x00" {
		t.Errorf("CONNACK is %x, %v", answer, err)
	}
	if _, _, err := d.Dial(urls["wss"]+"/mqtt", map[string][]string{"Origin": {"https://evil.example"}}); err == nil {
		t.Error("a page from elsewhere was let in")
	}
	d.TLSClientConfig = nil
	if _, _, err := d.Dial(urls["wss"]+"/mqtt", nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
	if _, _, err := websocket.DefaultDialer.Dial(strings.Replace(urls["wss"], "wss", "ws", 1)+"/mqtt", nil); err == nil {
		t.Error("without TLS it was let in")
	}
}

// A socket knows no addresses: all who come by it are one.
func TestUnixSocketIsOneAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mqtt")
	_, urls := listen(t, broker.Config{Listen: "127.0.0.1:0", ListenUnix: path, Limits: broker.Limits{ConnectionsPerAddress: 1}})
	first, err := client.Connect(t.Context(), client.Options{ClientID: "first", Dial: dialUnix(path)})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := client.Connect(t.Context(), client.Options{ClientID: "second", Dial: dialUnix(path)}); err == nil {
		t.Error("a second connection by the socket was taken")
		c.Close()
	}
	other, err := client.Connect(t.Context(), client.Options{ClientID: "other", URL: urls["mqtt"]})
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	first.Close()
}
