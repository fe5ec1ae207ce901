package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// MQTT.js and Paho JS in a real browser send and get more at once than a packet may
// have, and large messages. The same page from another port, as a service's own
// page is, is not let in.
func TestBrowser(t *testing.T) {
	home := onEmbedded(t)
	needs(t, "chromium", "npm")
	const mine, other = "127.0.0.1:3000", "127.0.0.1:3001"
	home.WriteHubConfig(fmt.Sprintf(`data_dir = %q

[broker]
listen = ":1883"
allow_anonymous = true

[broker.limits]
max_packet = 100_000

[http]
listen = ":8080"
allowed_origins = ["http://%s"]
`, filepath.Join(home.Hub.Dir, "data"), mine))
	home.Up()
	for i := range 100 {
		home.Publish(fmt.Sprint("kept/", i), strings.Repeat("x", 5000), "-r")
	}
	dir := fetched(t, "browser-mqtt-5.16.0-paho-1.1.0", func(dir string) *exec.Cmd {
		return exec.Command("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "mqtt@5.16.0", "paho-mqtt@1.1.0")
	})
	results := make(chan string, 8)
	mux := http.NewServeMux()
	for path, file := range map[string]string{
		"/":        "testdata/browser/page.html",
		"/page.js": "testdata/browser/page.js",
		"/mqtt.js": filepath.Join(dir, "node_modules/mqtt/dist/mqtt.min.js"),
		"/paho.js": filepath.Join(dir, "node_modules/paho-mqtt/paho-mqtt-min.js"),
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	}
	mux.HandleFunc("POST /result", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		results <- string(body)
	})
	for _, at := range []string{mine, other} {
		var l net.Listener
		home.must(home.observer.in(func() (err error) { l, err = net.Listen("tcp", at); return err }))
		server := &http.Server{Handler: mux}
		go server.Serve(l)
		t.Cleanup(func() { server.Close() })
	}
	for _, tt := range []struct{ at, want string }{
		{mine, "3000 of the burst, 100 retained"},
		{other, "failed: "},
	} {
		browser := home.observer.Start("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
			"--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", "http://"+tt.at+"/?hub="+home.Hub.Address()+":8080")
		for _, name := range []string{"MQTT.js", "Paho JS"} {
			select {
			case got := <-results:
				if !strings.HasPrefix(got, name+": "+tt.want) {
					t.Errorf("the page of %s: %s, want %s: %s", tt.at, got, name, tt.want)
				}
			case <-time.After(patience):
				t.Fatalf("the page of %s says nothing of %s", tt.at, name)
			}
		}
		browser.Kill()
	}
}

// Behind nginx, below a base path as Home Assistant's ingress has one: clients log in,
// nobody is anonymous, the page that nginx serves may connect, and the hub knows
// the client's address.
func TestBehindNginx(t *testing.T) {
	home := onEmbedded(t)
	needs(t, "nginx")
	password := filepath.Join(home.Hub.Dir, "ann")
	home.must(os.WriteFile(password, []byte("secret\n"), 0o600))
	home.WriteHubConfig(fmt.Sprintf(`data_dir = %q

[broker]
listen = ":1883"
allow_anonymous = true

[[broker.users]]
name = "ann"
password_file = %q
role = "reader"

[http]
trusted_proxies = ["127.0.0.1"]
`, filepath.Join(home.Hub.Dir, "data"), password))
	home.Up()
	const base = "/api/hassio_ingress/token"
	config := filepath.Join(home.Hub.Dir, "nginx.conf")
	home.must(os.WriteFile(config, fmt.Appendf(nil, `daemon off;
user root;
pid %[1]s/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
    map $http_upgrade $connection_upgrade { default upgrade; "" close; }
    server {
        listen 8088;
        location %[2]s/ {
            proxy_pass http://127.0.0.1:8080/;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_read_timeout 1h;
        }
    }
}
`, home.Hub.Dir, base), 0o644))
	home.Hub.Start("nginx", "-e", "stderr", "-c", config)
	at := home.Hub.Address() + ":8088"
	eventually(t, "nginx passes health on", func() bool {
		_, err := home.observer.Get("http://" + at + base + "/healthz")
		return err == nil
	})
	if body, err := home.observer.Get("http://" + at + base + "/metrics"); err == nil {
		t.Errorf("the figures are read without a user: %.80s", body)
	}
	if body, err := home.Hub.Get("http://127.0.0.1:8080/metrics"); err != nil || !strings.Contains(body, "dominion_hub_ready") {
		t.Errorf("the figures of the hub's own machine: %v", err)
	}
	connack := func(origin, user string) int {
		dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}, NetDial: home.observer.Dial}
		ws, _, err := dialer.Dial("ws://"+at+base+"/mqtt", http.Header{"Origin": {origin}, "X-Forwarded-For": {"127.0.0.1"}})
		if err != nil {
			return -1
		}
		t.Cleanup(func() { ws.Close() })
		body := append([]byte("\x00\x04MQTT\x04\x02\x00\x3c\x00\x05"), "page"+fmt.Sprint(len(user))...)
		if user != "" {
			body[7] |= 0xc0
			body = append(body, "\x00\x03ann\x00\x06secret"...)
		}
		home.must(ws.WriteMessage(websocket.BinaryMessage, append([]byte{0x10, byte(len(body))}, body...)))
		_, got, err := ws.ReadMessage()
		home.must(err)
		return int(got[3])
	}
	for _, tt := range []struct {
		origin, user string
		want         int
	}{
		{"http://" + at, "ann", 0},
		{"http://" + at, "", 5},
		{"http://" + home.Hub.Address() + ":3000", "ann", -1},
		{"https://" + at, "ann", -1},
	} {
		if got := connack(tt.origin, tt.user); got != tt.want {
			t.Errorf("a page of %s as %q: %d, want %d", tt.origin, tt.user, got, tt.want)
		}
	}
	r := home.Ctl("clients", "--json")
	if !strings.Contains(r.Stdout, `"`+home.observer.Address()+":") {
		t.Errorf("the address of the client is not known: %s%s", r.Stdout, r.Stderr)
	}
}
