package web_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/origin"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/web"
)

// serve serves a broker with the users ann (reader), tv (device) and root (admin),
// whose passwords are their names, and returns the addresses.
func serve(t *testing.T, h config.HTTP, anonymous bool) (b *broker.Broker, addresses []string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	var users []broker.User
	for name, role := range map[string]string{"ann": broker.RoleReader, "tv": broker.RoleDevice, "root": broker.RoleAdmin} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		users = append(users, broker.User{Name: name, PasswordFile: file, Role: role})
	}
	b, err := broker.New(broker.Config{Users: users, AllowAnonymous: anonymous}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Stop(context.Background()) })
	s, err := web.Listen(config.Dominion{HTTP: h}, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	wait := s.Serve(ctx, web.Handlers{
		MQTT: b.WebSocket, Login: b.Login, MetricsType: "text/plain",
		Metrics: func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, "figures\n"); return err },
		Ready:   func(context.Context) error { return nil },
	})
	t.Cleanup(func() { end(); wait() })
	for _, a := range s.Addresses() {
		_, port, _ := net.SplitHostPort(a.String())
		addresses = append(addresses, "127.0.0.1:"+port)
	}
	return b, addresses
}

func prefixes(t *testing.T, all ...string) (list []config.HTTP) {
	t.Helper()
	h := config.HTTP{Listen: "127.0.0.1:0"}
	for _, s := range all {
		p, err := origin.ParseProxy(s)
		if err != nil {
			t.Fatal(err)
		}
		h.TrustedProxies = append(h.TrustedProxies, p)
	}
	return []config.HTTP{h}
}

// connack is the return code to a CONNECT of MQTT 3.1.1 over WebSocket, or -1
// where the upgrade is refused.
func connack(t *testing.T, url, id, user string, header http.Header) int {
	t.Helper()
	ws, _, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}}).Dial(url, header)
	if err != nil {
		return -1
	}
	t.Cleanup(func() { _ = ws.Close() })
	text := func(b []byte, s string) []byte { return append(append(b, 0, byte(len(s))), s...) }
	flags := byte(2)
	if user != "" {
		flags |= 0xc0
	}
	body := text(append(text(nil, "MQTT"), 4, flags, 0, 60), id)
	if user != "" {
		body = text(text(body, user), user)
	}
	if err := ws.WriteMessage(websocket.BinaryMessage, append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		t.Fatal(err)
	}
	_, got, err := ws.ReadMessage()
	if err != nil || len(got) != 4 || got[0] != 0x20 {
		t.Fatalf("CONNACK %x, %v", got, err)
	}
	return int(got[3])
}

// Who reads the figures, and whether health needs a login.
func TestWhoReadsFigures(t *testing.T) {
	_, local := serve(t, config.HTTP{Listen: "127.0.0.1:0"}, true)
	_, open := serve(t, config.HTTP{Listen: "0.0.0.0:0"}, true)
	for _, tt := range []struct {
		name, address, host, user, header string
		code                              int
	}{
		{"a program of this machine", local[0], "", "", "", 200},
		{"by name", local[0], "localhost", "", "", 200},
		{"DNS rebinding", local[0], "evil.example", "", "", 401},
		{"forwarded", local[0], "", "", "X-Forwarded-For", 401},
		{"forwarded", local[0], "", "", "X-Forwarded-Prefix", 401},
		{"forwarded", local[0], "", "", "Forwarded", 401},
		{"forwarded", local[0], "", "", "Via", 401},
		{"forwarded", local[0], "", "", "X-Real-Ip", 401},
		{"forwarded with a password", local[0], "home.example", "ann", "Via", 200},
		{"from elsewhere", open[0], "", "", "", 401},
		{"a reader", open[0], "", "ann", "", 200},
		{"an admin", open[0], "", "root", "", 200},
		{"a device", open[0], "", "tv", "", 403},
		{"a wrong password", open[0], "", "nobody", "", 401},
		{"a wrong password here", local[0], "", "nobody", "", 401},
	} {
		get := func(path string) int {
			r, _ := http.NewRequest(http.MethodGet, "http://"+tt.address+path, nil)
			if tt.host != "" {
				r.Host = tt.host
			}
			if tt.user != "" {
				r.SetBasicAuth(tt.user, tt.user)
			}
			if tt.header != "" {
				r.Header.Set(tt.header, "for=192.0.2.1")
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != 200 && strings.Contains(string(body), "figures") {
				t.Errorf("%s: the figures are there all the same", tt.name)
			}
			return response.StatusCode
		}
		if code := get("/metrics"); code != tt.code {
			t.Errorf("%s (%s): %d, want %d", tt.name, tt.header, code, tt.code)
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			if code := get(path); code != 200 {
				t.Errorf("%s: %s: %d", tt.name, path, code)
			}
		}
	}
}

// Wrong passwords are slowed down as those of MQTT.
func TestGuessingByHTTPIsSlow(t *testing.T) {
	_, at := serve(t, config.HTTP{Listen: "127.0.0.1:0"}, false)
	for i := range 50 {
		r, _ := http.NewRequest(http.MethodGet, "http://"+at[0]+"/metrics", nil)
		r.SetBasicAuth("ann", fmt.Sprint("guess", i))
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode == http.StatusTooManyRequests {
			return
		}
	}
	t.Error("50 guesses were checked")
}

// Who has no user is let in from this machine alone, whatever path and origin:
// never forwarded, never by another name, never from a page of another port.
func TestWhoNeedsNoUser(t *testing.T) {
	for _, anonymous := range []bool{false, true} {
		_, at := serve(t, config.HTTP{Listen: "127.0.0.1:0", AllowedOrigins: []string{"https://home.example:443"}}, anonymous)
		own := "http://" + at[0]
		for i, tt := range []struct {
			path   string
			header http.Header
			user   string
			want   int
		}{
			{"/mqtt", nil, "", 0},
			{"/any/path", nil, "", 0},
			{"/mqtt", http.Header{"Origin": {own}}, "", 0},
			{"/mqtt", http.Header{"Origin": {"http://127.0.0.1:3000"}}, "", -1},
			{"/mqtt", http.Header{"Origin": {"https://" + at[0]}}, "", -1},
			{"/mqtt", http.Header{"Origin": {"null"}}, "", -1},
			{"/mqtt", http.Header{"Origin": {"https://home.example"}}, "tv", 0},
			{"/mqtt", http.Header{"Host": {"evil.example"}, "Origin": {"http://evil.example"}}, "", -1},
			{"/mqtt", http.Header{"Host": {"evil.example"}}, "tv", -1},
			{"/mqtt", http.Header{"X-Forwarded-For": {"192.0.2.1"}}, "", 5},
			{"/mqtt", http.Header{"Forwarded": {"for=192.0.2.1"}}, "", 5},
			{"/mqtt", http.Header{"Via": {"1.1 proxy"}}, "", 5},
			{"/mqtt", http.Header{"X-Forwarded-Proto": {"https"}}, "", 5},
			{"/mqtt", http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Host": {"home.example"}}, "tv", 0},
			{"/mqtt", http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Host": {"home.example"}, "Origin": {"https://home.example"}}, "tv", 0},
			{"/mqtt", http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Host": {"home.example"}, "Origin": {"https://other.example"}}, "tv", -1},
		} {
			if got := connack(t, "ws://"+at[0]+tt.path, fmt.Sprint("c", i), tt.user, tt.header); got != tt.want {
				t.Errorf("allow_anonymous %v, %s %v as %q: %d, want %d", anonymous, tt.path, tt.header, tt.user, got, tt.want)
			}
		}
	}
	_, at := serve(t, config.HTTP{Listen: "0.0.0.0:0"}, false)
	if got := connack(t, "ws://"+at[0]+"/mqtt", "c", "", nil); got != 5 {
		t.Errorf("from elsewhere without a user: %d", got)
	}
}

// A trusted proxy says where a client is and which origin it asked, others are not
// believed.
func TestTrustedProxies(t *testing.T) {
	header := http.Header{"X-Forwarded-For": {"6.6.6.6, 192.0.2.1, 10.0.0.7"}, "X-Forwarded-Proto": {"https"}, "Host": {"home.example"}, "Origin": {"https://home.example"}}
	for _, tt := range []struct {
		proxies []string
		want    int
		address string
	}{
		{[]string{"127.0.0.1", "10.0.0.0/8"}, 0, "192.0.2.1"},
		{[]string{"127.0.0.1"}, 0, "10.0.0.7"},
		{[]string{"10.0.0.0/8"}, -1, ""}, // the proxy itself is not trusted: nor is the scheme it names
	} {
		b, at := serve(t, prefixes(t, tt.proxies...)[0], false)
		if got := connack(t, "ws://"+at[0]+"/mqtt", "c", "tv", header); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.proxies, got, tt.want)
		}
		for _, s := range b.Sessions() {
			if host, _, _ := net.SplitHostPort(s.Remote); host != tt.address {
				t.Errorf("%v: the client is at %s, want %s", tt.proxies, s.Remote, tt.address)
			}
		}
	}
}

// Idle connections are few, however many somebody opens, and others are still
// served.
func TestIdleConnectionsAreBounded(t *testing.T) {
	_, at := serve(t, config.HTTP{Listen: "127.0.0.1:0"}, false)
	var open []net.Conn
	for range 400 {
		c, err := net.Dial("tcp", at[0])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", at[0])
		open = append(open, c)
	}
	if got := connack(t, "ws://"+at[0]+"/mqtt", "c", "", nil); got != 0 {
		t.Errorf("MQTT beside them: %d", got)
	}
	ended := 0
	for _, c := range open[:144] { // the oldest: their end is waited for
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, c); err == nil || !os.IsTimeout(err) {
			ended++
		}
	}
	if ended < 140 {
		t.Errorf("%d of the oldest 144 connections were ended", ended)
	}
}

// A default port that is taken is a problem; one that is written down is an
// error that names the key.
func TestTakenPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var log bytes.Buffer
	to := slog.New(slog.NewTextHandler(&log, nil))
	s, err := web.Listen(config.Dominion{HTTP: config.HTTP{Listen: taken.Addr().String(), ListenIsDefault: true}}, nil, to)
	if err != nil {
		t.Fatal(err)
	}
	if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0], "http.listen") || !strings.Contains(p[0], "address already in use") {
		t.Errorf("problems: %q", p)
	}
	// once it is free it is served, and the problem is over
	changed := make(chan []string, 1)
	s.RetryEvery(time.Millisecond)
	wait := s.Serve(t.Context(), web.Handlers{Problems: func(all []string) { changed <- all }})
	defer wait()
	_ = taken.Close()
	if p := <-changed; len(p) != 0 || len(s.Problems()) != 0 {
		t.Errorf("problems once it is free: %q", p)
	}
	response, err := http.Get("http://" + taken.Addr().String() + "/healthz")
	if err != nil || response.StatusCode != 200 {
		t.Errorf("%v, %v", response, err)
	}
	if taken, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for key, cfg := range map[string]config.Dominion{
		"http.listen ":     {HTTP: config.HTTP{Listen: taken.Addr().String()}},
		"metrics ":         {Metrics: taken.Addr().String()},
		"http.listen_tls:": {HTTP: config.HTTP{ListenTLS: "127.0.0.1:0", ListenTLSIsDefault: true, CertFile: "none.pem", KeyFile: "none.pem"}},
	} {
		if _, err := web.Listen(cfg, nil, to); err == nil || !strings.Contains(err.Error(), "cannot listen on "+key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
