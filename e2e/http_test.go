package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pahoC builds the program of testdata/pahoc.
func pahoC(t *testing.T) string {
	t.Helper()
	needs(t, "cc")
	source, err := filepath.Abs("testdata/pahoc/retained.c")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "retained")
	if err := command("cc", "-o", program, source, "-lpaho-mqtt3c"); err != nil {
		t.Skipf("needs libpaho-mqtt-dev: %v", err)
	}
	return program
}

// Eclipse Paho C gets large retained messages over TCP and WebSocket, each packet
// being one WebSocket message.
func TestPahoC(t *testing.T) {
	home := onEmbedded(t)
	program := pahoC(t)
	home.Configure("[http]\nlisten = \":8080\"\n")
	home.Up()
	retainLarge(home)
	for _, uri := range []string{"tcp://" + home.Hub.Address() + ":1883", "ws://" + home.Hub.Address() + ":8080/mqtt"} {
		if r := home.observer.Exec(nil, program, uri, "100"); r.Stdout != "100 received, connected 1\n" {
			t.Errorf("%s: %+v", uri, r)
		}
	}
}

func retainLarge(home *Home) {
	home.t.Helper()
	for i := range 100 {
		home.Publish(fmt.Sprint("kept/", i), strings.Repeat("x", 5000), "-r")
	}
}

// Beside an external broker /mqtt relays to it: its users log in with their
// passwords, others not, and pages of other origins do not connect. HTTP at the port of
// HTTPS is redirected. A default port that is taken is a problem until it is free.
func TestHTTPBesideAnExternalBroker(t *testing.T) {
	needs(t)
	t.Parallel()
	home := newHome(t, External)
	program := pahoC(t)
	ca, cert, key := certificates(t, home.Hub.Dir, home.Hub.Address())
	var taken net.Listener
	home.must(home.Hub.in(func() (err error) { taken, err = net.Listen("tcp", ":8443"); return err }))
	defer taken.Close()
	home.Configure(fmt.Sprintf("[http]\nlisten = \":8080\"\ncert_file = %q\nkey_file = %q\n", cert, key))
	hub, _, _ := home.Up()
	retainLarge(home)
	uri := "ws://" + home.Hub.Address() + ":8080/mqtt"
	for _, tt := range []struct {
		login []string
		want  string
	}{
		{[]string{"observer", home.external.password}, "100 received, connected 1\n"},
		{[]string{"observer", "wrong"}, "refused "},
		{nil, "refused "},
	} {
		if r := home.observer.Exec(nil, program, append([]string{uri, "100"}, tt.login...)...); !strings.HasPrefix(r.Stdout, tt.want) {
			t.Errorf("as %q: %+v, want %q", tt.login, r, tt.want)
		}
	}
	ask := func(port int, path string, header http.Header) *http.Response {
		t.Helper()
		at := fmt.Sprintf("%s:%d", home.Hub.Address(), port)
		c, err := home.observer.Dial("tcp", at)
		home.must(err)
		defer c.Close()
		r, err := http.NewRequest(http.MethodGet, "http://"+at+path, nil)
		home.must(err)
		r.Header = header
		home.must(r.Write(c))
		answer, err := http.ReadResponse(bufio.NewReader(c), r)
		home.must(err)
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer
	}
	upgrade := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-WebSocket-Version": {"13"},
		"Sec-WebSocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-WebSocket-Protocol": {"mqtt"}, "Origin": {"http://" + home.Hub.Address() + ":3000"},
	}
	if answer := ask(8080, "/mqtt", upgrade); answer.StatusCode != http.StatusForbidden {
		t.Errorf("a page of another port: %s", answer.Status)
	}

	if r := home.Ctl("status"); !strings.Contains(r.Stdout, "nothing is served at :8443, the default of http.listen_tls: address already in use") {
		t.Errorf("the taken port is not named: %+v", r)
	}
	home.must(taken.Close())
	hub.AwaitLog("listening", "https")
	eventually(t, "the problem is over", func() bool { return !strings.Contains(home.Ctl("status").Stdout, "nothing is served") })
	answer := ask(8443, "/a/b?c=d", nil)
	if want := "https://" + home.Hub.Address() + ":8443/a/b?c=d"; answer.StatusCode != http.StatusPermanentRedirect || answer.Header.Get("Location") != want {
		t.Errorf("HTTP at the port of HTTPS: %s %q, want %q", answer.Status, answer.Header.Get("Location"), want)
	}
	// what speaks TLS is served as ever
	r := home.observer.Exec(nil, "python3", "-c", `import ssl, sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], context=ssl.create_default_context(cafile=sys.argv[2])).read().decode())`,
		"https://"+home.Hub.Address()+":8443/healthz", ca)
	if strings.TrimSpace(r.Stdout) != "ok" {
		t.Errorf("HTTPS beside it: %+v", r)
	}
}

// 2,500 connections of HTTP that ask once and stay take no file descriptors from
// MQTT clients, of which the hub may open 1,024.
func TestIdleHTTP(t *testing.T) {
	home := onEmbedded(t)
	needs(t, "prlimit")
	var limit unix.Rlimit
	home.must(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if limit.Cur < 4000 {
		t.Skipf("needs 4000 file descriptors, has %d", limit.Cur)
	}
	home.Configure("[http]\nlisten = \":8080\"\n")
	home.Hub.Start("prlimit", "--nofile=1024:1024", programs.dominion, "-config", home.hubFile())
	o := home.Observe()
	o.Until("the hub is ready", View.Ready)
	at := home.Hub.Address() + ":8080"
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	home.must(home.observer.in(func() error {
		for range 2500 {
			c, err := net.Dial("tcp", at)
			if err != nil {
				return err
			}
			idle = append(idle, c)
			fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", at) // the hub may have closed it
		}
		return nil
	}))
	for i := range 50 {
		home.Publish(fmt.Sprint("beside/", i), "x", "-r")
	}
	if body, err := home.Hub.Get("http://" + at + "/healthz"); err != nil || body != "ok\n" {
		t.Errorf("from another address: %q, %v", body, err)
	}
}
