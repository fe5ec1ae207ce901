package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
