package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// basePath is one as Home Assistant's ingress has it.
const basePath = "/api/hassio_ingress/token"

func TestBehindNginx(t *testing.T) {
	behindProxy(t, "nginx", func(home *Home) []string {
		file := filepath.Join(home.Hub.Dir, "nginx.conf")
		home.must(writeFile(file, fmt.Sprintf(`daemon off;
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
`, home.Hub.Dir, basePath)))
		return []string{"-e", "stderr", "-c", file}
	})
}

func TestBehindCaddy(t *testing.T) {
	behindProxy(t, "caddy", func(home *Home) []string {
		file := filepath.Join(home.Hub.Dir, "Caddyfile")
		home.must(writeFile(file, fmt.Sprintf(`{
	admin off
	auto_https off
}
:8088 {
	handle_path %s/* {
		reverse_proxy 127.0.0.1:8080
	}
}
`, basePath)))
		return []string{"run", "--adapter", "caddyfile", "--config", file}
	})
}

// behindProxy tries a proxy in front of the hub, below a base path: clients log
// in, nobody is anonymous, the page that the proxy serves may connect, and the hub knows
// the client's address. configured writes the proxy's configuration and
// returns its arguments.
func behindProxy(t *testing.T, proxy string, configured func(*Home) []string) {
	home := onEmbedded(t)
	needs(t, proxy)
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
	home.Hub.Start(proxy, configured(home)...)
	at := home.Hub.Address() + ":8088"
	eventually(t, proxy+" passes health on", func() bool {
		_, err := home.observer.Get("http://" + at + basePath + "/healthz")
		return err == nil
	})
	if body, err := home.observer.Get("http://" + at + basePath + "/metrics"); err == nil {
		t.Errorf("the figures are read without a user: %.80s", body)
	}
	if body, err := home.Hub.Get("http://127.0.0.1:8080/metrics"); err != nil || !strings.Contains(body, "dominion_hub_ready") {
		t.Errorf("the figures of the hub's own machine: %v", err)
	}
	connack := func(origin, user string) int {
		dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}, NetDial: home.observer.Dial}
		ws, _, err := dialer.Dial("ws://"+at+basePath+"/mqtt", http.Header{"Origin": {origin}, "X-Forwarded-For": {"127.0.0.1"}})
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
