package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// Somebody looks why a message does not arrive: who is there, what the broker
// does with it, and the figures of it. Nothing listens for HTTP unless told.
func TestSeeing(t *testing.T) {
	home := onEmbedded(t)
	broker := "data_dir = \"" + filepath.Join(home.Hub.Dir, "data") + "\"\nmetrics = \"127.0.0.1:9090\"\n\n[broker]\nlisten = \":1883\"\nallow_anonymous = true\n"
	home.WriteHubConfig(broker)
	hub, _, _ := home.Up()
	address := home.Hub.Address()
	lamp := home.observer.Start("mosquitto_sub", "-h", address, "-i", "lamp", "-V", "5", "-q", "1", "-t", "house/#", "-v")
	clients := func() map[string]topics.ClientView {
		var list []topics.ClientView
		r := home.Ctl("clients", "--json")
		if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil {
			t.Fatalf("%v: %s%s", err, r.Stdout, r.Stderr)
		}
		all := make(map[string]topics.ClientView)
		for _, c := range list {
			all[c.Client] = c
		}
		return all
	}
	eventually(t, "the lamp is listed", func() bool { return clients()["lamp"].Subscriptions > 0 })
	if c := clients()["lamp"]; !c.Connected || c.Protocol != "5.0" || c.Listener != "mqtt" || c.Subscriptions != 1 || c.Since.IsZero() {
		t.Errorf("%+v", c)
	}

	trace := home.observer.Start(programs.dominionctl, "trace", "house/#", "--hub", "mqtt://"+address+":1883")
	trace.AwaitLog("tracing")
	home.Publish("house/door", "open")
	trace.AwaitLog("PUBLISH", "house/door", "→ broker", "open")
	trace.AwaitLog("PUBLISH", "house/door", "← broker", "lamp")
	lamp.AwaitLog("house/door open")
	trace.Signal(2)
	if code := trace.Wait(); code != 0 {
		t.Errorf("trace ended with %d", code)
	}

	if r := home.Ctl("clients", "kick", "nobody"); r.Code != 1 {
		t.Errorf("kick of nobody: %+v", r)
	}
	if r := home.Ctl("clients", "forget", "nobody"); r.Code != 1 {
		t.Errorf("forget of nobody: %+v", r)
	}
	if r := home.Ctl("clients", "kick", "lamp"); r.Code != 0 {
		t.Errorf("kick: %+v", r)
	}
	hub.AwaitLog("an administrator disconnected it", "client=lamp") // mosquitto_sub says nothing of it and comes again

	get := func(path string) (body string) {
		body, err := home.Hub.Get("http://127.0.0.1:9090" + path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return body
	}
	get("/healthz")
	get("/readyz")
	if body := get("/metrics"); !strings.Contains(body, "dominion_hub_ready 1\n") || !strings.Contains(body, `dominion_broker_connections_ended_total{code="0x98"} 1`) {
		t.Error(body)
	}
	hub.Stop()
	home.WriteHubConfig(strings.Replace(broker, "metrics", "# metrics", 1))
	home.StartHub().AwaitLog("listening")
	if _, err := home.Hub.Get("http://127.0.0.1:9090/healthz"); err == nil {
		t.Error("it listens although nobody wants it")
	}
}
