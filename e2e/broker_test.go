package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/topics"
)

// What others have retained survives a clean restart of the hub.
func TestRetainedMessagesSurviveARestart(t *testing.T) {
	home := onEmbedded(t)
	home.Configure("")
	hub, _, _ := home.Up()
	for i := range 20 {
		home.Publish(fmt.Sprintf("house/room%d/temperature", i), fmt.Sprint(20+i), "-r")
	}
	home.Publish("house/room3/temperature", "", "-r")   // cleared
	home.Publish("house/room4/temperature", "99", "-r") // replaced
	home.Publish("house/live", "1")
	hub.Stop()
	home.StartHub()
	o := home.Observe("house/#")
	for i := range 20 {
		topic, want := fmt.Sprintf("house/room%d/temperature", i), fmt.Sprint(20+i)
		switch i {
		case 3:
			want = ""
		case 4:
			want = "99"
		}
		if m := o.Latest()[topic]; m.Payload != want || want != "" && (!m.Retain || m.QoS != 1) {
			t.Errorf("%s is %v, want %q retained", topic, m, want)
		}
	}
	if m, there := o.Latest()["house/live"]; there {
		t.Errorf("a message that was not retained came back: %v", m)
	}
}

// guarded is a home whose broker has every listener and a user of each role;
// the one of the role domain bears the name of its domain, kitchen.
func guarded(t *testing.T) (home *Home, caFile string) {
	t.Helper()
	home = onEmbedded(t)
	caFile, cert, key := certificates(t, home.Hub.Dir, home.Hub.Address())
	var users strings.Builder
	for _, u := range []struct{ name, role string }{{"admin", "admin"}, {"reader", "reader"}, {"device", "device"}, {"kitchen", "domain"}} {
		secret := "secret of " + u.name
		fmt.Fprintf(&users, "[[broker.users]]\nname = %q\nrole = %q\n", u.name, u.role)
		if u.name == "admin" { // by file, the others by hash
			file := filepath.Join(home.Hub.Dir, "admin.password")
			home.must(writeFile(file, secret+"\n"))
			fmt.Fprintf(&users, "password_file = %q\n", file)
			continue
		}
		hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
		home.must(err)
		fmt.Fprintf(&users, "password_hash = %q\n", hash)
	}
	home.WriteHubConfig(fmt.Sprintf(`name = "home"
data_dir = %q

[broker]
listen = ":1883"
listen_tls = ":8883"
listen_ws = ":8083"
cert_file = %q
key_file = %q

%s
%s%s`, filepath.Join(home.Hub.Dir, "data"), cert, key, users.String(),
		service("lamp", `priority = "required"`), service("bell", `priority = "required"`)))
	return home, caFile
}

// as are the arguments of a mosquitto client of one user, by TLS or without.
func (h *Home) as(user, caFile string) []string {
	args := []string{"-h", h.Hub.Address(), "-p", "1883"}
	if caFile != "" {
		args = []string{"-h", h.Hub.Address(), "-p", "8883", "--cafile", caFile}
	}
	if user != "" {
		args = append(args, "-u", user, "-P", "secret of "+user)
	}
	return args
}

// Users, roles and listeners, with the clients of Debian.
func TestUsersRolesAndListeners(t *testing.T) {
	home, caFile := guarded(t)
	hub := home.StartHub()
	sub := func(args []string, topic string) Result {
		t.Helper()
		return home.observer.Exec(nil, "mosquitto_sub", append(args, "-t", topic, "-C", "1", "-W", "60")...)
	}
	const status = "dominion/hub/availability"
	hub.AwaitLog("the hub is ready")

	t.Log("who may connect")
	for _, c := range []struct {
		who     string
		args    []string
		allowed bool
	}{
		{"admin", home.as("admin", ""), true},
		{"admin by TLS", home.as("admin", caFile), true},
		{"admin by TLS, MQTT 5", append(home.as("admin", caFile), "-V", "5"), true},
		{"reader by TLS", home.as("reader", caFile), true},
		{"nobody", home.as("", ""), false},
		{"nobody by TLS", home.as("", caFile), false},
		{"a stranger", home.as("stranger", ""), false},
		{"admin with a wrong password", append(home.as("", ""), "-u", "admin", "-P", "wrong"), false},
		{"admin without a password", append(home.as("", ""), "-u", "admin"), false},
	} {
		r := sub(c.args, status)
		if allowed := r.Code == 0 && strings.TrimSpace(r.Stdout) == "online"; allowed != c.allowed {
			t.Errorf("%s: allowed is %v: code %d, %s%s", c.who, allowed, r.Code, r.Stdout, r.Stderr)
		}
		// CONNACK 4 (bad user name or password) or 5 (not authorised); by TLS a stranger is an
		// applicant, who may subscribe to nothing else.
		refusals := []string{"authori", "bad user name"}
		if c.who == "nobody by TLS" {
			refusals = []string{"all subscription requests were denied"}
		}
		if said := strings.ToLower(r.Stderr); !c.allowed && !containsAny(said, refusals...) {
			t.Errorf("%s: the refusal is not the one of CONNACK: code %d, %s", c.who, r.Code, r.Stderr)
		}
	}
	if r := home.Hub.Exec(nil, "mosquitto_sub", "-h", "127.0.0.1", "-p", "1883", "-t", status, "-C", "1", "-W", "60"); r.Code == 0 {
		t.Errorf("anonymous is allowed by loopback on a listener that all can reach: %+v", r)
	}
	r := sub([]string{"-h", home.Hub.Address(), "-p", "8883", "-u", "admin", "-P", "secret of admin"}, status)
	if r.Code == 0 {
		t.Errorf("the TLS listener speaks without TLS: %+v", r)
	}

	t.Log("who may do what")
	kitchen := home.Domain("kitchen")
	kitchen.Install("lamp", "bell")
	password := filepath.Join(kitchen.Dir, "password")
	kitchen.must(writeFile(password, "secret of kitchen\n"))
	kitchen.Configure(nil, fmt.Sprintf("hub = \"mqtts://%s:8883\"\nuser = \"kitchen\"\npassword_file = %q\ncafile = %q\n", home.Hub.Address(), password, caFile))
	kitchen.Start()
	o := &Observer{t: t, messages: newFeed[Message]()}
	o.start(home, append(home.as("admin", caFile), "-q", "2", "-F", observerFormat, "-t", "#"))
	o.Until("kitchen joined by TLS as a user, lamp and bell run", func(v View) bool {
		return v.Healthy("lamp", 1) && v.Healthy("bell", 1)
	})
	publish := func(user, topic, payload string, more ...string) Result {
		t.Helper()
		return home.observer.Exec(nil, "mosquitto_pub", append(append(home.as(user, caFile), "-V", "5", "-q", "1", "-t", topic, "-m", payload), more...)...)
	}
	_, starts := home.Lives(o)
	mark := o.Now()
	for _, forbidden := range []struct{ user, topic, payload string }{
		{"reader", "dominion/service/lamp/set", "OFF"},
		{"reader", "dominion/request/stop", `{"transaction": "r", "service": "lamp"}`},
		{"reader", "house/anything", "1"},
		{"device", "dominion/service/lamp/set", "OFF"},
		{"device", "dominion/domain/kitchen/services/set", "{}"},
		{"kitchen", "dominion/domain/kitchen/services/set", "{}"},
		{"kitchen", "dominion/domain/attic/availability", "online"},
		{"kitchen", "dominion/hub/availability", "offline"},
		{"kitchen", "dominion/service/lamp/endpoints", "[]"},
	} {
		publish(forbidden.user, forbidden.topic, forbidden.payload)
	}
	// what comes after them, from one who may, was obeyed: so they were seen
	if r := publish("admin", "dominion/service/bell/set", "OFF"); r.Code != 0 {
		t.Errorf("admin may not switch: %+v", r)
	}
	o.Until("bell is off", func(v View) bool { return v.Service("bell").State == topics.Stopped })
	if s := o.Latest().Service("lamp"); s.Switch != "ON" || s.Running != 1 {
		t.Errorf("somebody switched lamp who may not: %+v", s)
	}
	for _, m := range o.Since(mark) {
		switch {
		case m.Topic == "house/anything", m.Topic == "dominion/service/lamp/set", m.Topic == "dominion/request/stop",
			m.Topic == "dominion/hub/availability" && m.Payload == "offline", m.Topic == "dominion/domain/attic/availability",
			m.Topic == "dominion/domain/kitchen/services/set" && m.Payload == "{}",
			m.Topic == "dominion/service/lamp/endpoints" && m.Payload == "[]":
			t.Errorf("was passed on and is forbidden: %v", m)
		}
	}
	if r := sub(home.as("reader", caFile), "dominion/service/lamp/status"); r.Code != 0 {
		t.Errorf("reader may not read: %+v", r)
	}
	if publish("device", "house/sensor", "21"); !await(o, "house/sensor", "21") {
		t.Error("device may not publish its own topics")
	}
	if home.Journal.Starts(t) != starts {
		t.Error("something was started")
	}

	t.Log("dominionctl with a password and TLS, and with a wrong one")
	env := []string{"DOMINION_URL=mqtts://admin@" + home.Hub.Address() + ":8883"}
	good := filepath.Join(home.Hub.Dir, "admin.password")
	if r := home.observer.Exec(env, programs.dominionctl, "status", "--password-file", good, "--cafile", caFile); r.Code != 0 {
		t.Errorf("as admin: %+v", r)
	}
	if r := home.observer.Exec(env, programs.dominionctl, "status", "--password-file", password, "--cafile", caFile); r.Code != 1 && r.Code != 3 || !containsAny(r.Stderr, "password", "authori") {
		t.Errorf("with a wrong password: %+v", r)
	}
	if r := home.observer.Exec(env, programs.dominionctl, "status", "--password-file", good); r.Code == 0 || !strings.Contains(r.Stderr, "certificate") {
		t.Errorf("without the authority: %+v", r)
	}

	t.Log("what is for admins alone, and what cannot be traced")
	reader := filepath.Join(home.Hub.Dir, "reader.password")
	home.must(writeFile(reader, "secret of reader\n"))
	for _, args := range [][]string{{"trace", "lamp"}, {"clients"}, {"clients", "kick", "lamp"}, {"user", "list"}} {
		as := append(args, "--user", "reader", "--password-file", reader, "--cafile", caFile)
		if r := home.observer.Exec(env, programs.dominionctl, as...); r.Code != 1 || !strings.Contains(r.Stderr, "role does not allow") {
			t.Errorf("%v as reader: %+v", args, r)
		}
	}
	if r := home.observer.Exec(env, programs.dominionctl, "trace", "a/#/b", "--password-file", good, "--cafile", caFile); r.Code != 1 || !strings.Contains(r.Stderr, "is not a valid topic filter") {
		t.Errorf("trace of what is neither client nor filter: %+v", r)
	}

	t.Log("a user less after SIGHUP; nobody else is disturbed")
	before := home.Journal.Running(t)
	text := home.Hub.Exec(nil, "cat", home.hubFile()).Stdout
	i, j := strings.Index(text, "[[broker.users]]\nname = \"reader\""), strings.Index(text, "[[broker.users]]\nname = \"device\"")
	home.WriteHubConfig(text[:i] + text[j:])
	mark = o.Now()
	hub.Signal(syscall.SIGHUP)
	o.AwaitEvent(mark, "dominion/hub/event", topics.ConfigReloaded, "", "")
	if r := sub(home.as("reader", caFile), status); r.Code == 0 {
		t.Error("a removed user may connect")
	}
	awaitLiveHeartbeat(o, o.Now(), "kitchen")
	for _, m := range o.Since(mark) {
		if strings.HasSuffix(m.Topic, "/availability") {
			t.Errorf("a connection was dropped by the reload: %v", m)
		}
	}
	home.Journal.Undisturbed(t, "after the reload", before, starts)
}

func await(o *Observer, topic, payload string) bool {
	_, ok := o.messages.await(patience, 0, func(m Message) bool { return m.Topic == topic && m.Payload == payload })
	return ok
}

// A dashboard in a browser reads by WebSocket; a page of elsewhere does not.
func TestWebSocket(t *testing.T) {
	home, _ := guarded(t)
	home.StartHub()
	url := "ws://" + home.Hub.Address() + ":8083/mqtt"
	dialer := websocket.Dialer{
		NetDial:      func(network, address string) (net.Conn, error) { return home.observer.Dial(network, address) },
		Subprotocols: []string{"mqtt"},
	}
	var ws *websocket.Conn
	eventually(t, "the WebSocket listener answers", func() bool {
		c, answer, err := dialer.Dial(url, http.Header{"Origin": {"http://" + home.Hub.Address() + ":8083"}})
		if err != nil && answer != nil {
			t.Fatalf("%v: %s", err, answer.Status)
		}
		ws = c
		return err == nil
	})
	defer ws.Close()
	if got := ws.Subprotocol(); got != "mqtt" {
		t.Errorf("the subprotocol is %q, want mqtt", got)
	}
	// CONNECT of MQTT 3.1.1 with user and password, then SUBSCRIBE
	const user, secret, filter = "reader", "secret of reader", "dominion/hub/availability"
	body := append(text("MQTT"), 4, 0xC2, 0, 60)
	body = append(append(append(body, text("browser")...), text(user)...), text(secret)...)
	send := func(packet []byte) {
		t.Helper()
		home.must(ws.WriteMessage(websocket.BinaryMessage, packet))
	}
	var received []byte
	awaitBytes := func(what string, want []byte) {
		t.Helper()
		ws.SetReadDeadline(time.Now().Add(patience))
		for !strings.Contains(string(received), string(want)) {
			_, b, err := ws.ReadMessage()
			if err != nil {
				t.Fatalf("%s: %v; received %q", what, err, received)
			}
			received = append(received, b...)
		}
	}
	send(append([]byte{0x10, byte(len(body))}, body...))
	awaitBytes("CONNACK", []byte{0x20, 2, 0, 0})
	body = append(append([]byte{0, 1}, text(filter)...), 0)
	send(append([]byte{0x82, byte(len(body))}, body...))
	awaitBytes("SUBACK", []byte{0x90, 3, 0, 1})
	awaitBytes("the retained availability", []byte(filter+"online"))

	if c, answer, err := dialer.Dial(url, http.Header{"Origin": {"http://evil.example"}}); err == nil {
		c.Close()
		t.Error("a page of another origin may connect")
	} else if answer == nil || answer.StatusCode != http.StatusForbidden {
		t.Errorf("a page of another origin: %v, %v, want 403", err, answer)
	}
}

// text is a string as MQTT writes it.
func text(s string) []byte { return append([]byte{0, byte(len(s))}, s...) }

// With the defaults the broker is for the machine itself.
func TestDefaultsAreLoopbackOnly(t *testing.T) {
	home := onEmbedded(t)
	home.WriteHubConfig(fmt.Sprintf("data_dir = %q\n", filepath.Join(home.Hub.Dir, "data")))
	hub := home.StartHub()
	hub.AwaitLog("127.0.0.1:1883")
	if r := home.Hub.Exec(nil, "mosquitto_sub", "-h", "127.0.0.1", "-t", "dominion/hub/availability", "-C", "1", "-W", "60"); r.Code != 0 || strings.TrimSpace(r.Stdout) != "online" {
		t.Errorf("anonymous by loopback: %+v", r)
	}
	if c, err := home.observer.Dial("tcp", home.Hub.Address()+":1883"); err == nil {
		c.Close()
		t.Error("the default listener can be reached by others")
	}
	kitchen := home.Domain("kitchen")
	kitchen.Start().AwaitLog("joined", "mqtts://") // by TLS with the hub's own certificate
}

// Home Assistant's discovery: retained, valid, obeyed, and cleared.
func TestHomeAssistantDiscovery(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		kitchen.Install("web", "lamp")
		home.Configure(service("web", `priority = "required"`) + service("lamp", `priority = "required"`))
		hub, _, live := home.Up(kitchen)
		live.Until("both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })

		configs := func() View {
			return home.Observe("homeassistant/#").Retained()
		}
		var all View
		eventually(t, "the hub, one domain and two services, whose versions are read, are devices", func() bool {
			all = configs()
			for topic, m := range all {
				if strings.Contains(topic, "_service_") && !strings.Contains(m.Payload, `"update":`) {
					return false
				}
			}
			return len(all) == 4
		})
		ids := make(map[string]string) // unique_id → topic
		var lampSwitch map[string]any
		var lampTopic string
		for topic, m := range all {
			if !m.Retain || m.QoS != 1 {
				t.Errorf("%s is not retained with QoS 1", topic)
			}
			part := strings.Split(topic, "/")
			if part[1] != "device" || part[len(part)-1] != "config" {
				t.Errorf("%s is no topic of device discovery", topic)
			}
			var config map[string]any
			if err := json.Unmarshal([]byte(m.Payload), &config); err != nil {
				t.Errorf("%s: %v", topic, err)
				continue
			}
			for key := range config {
				switch key { // a closed list: any other drops the whole message
				case "device", "dev", "origin", "o", "components", "cmps", "availability", "availability_topic", "avty", "avty_t",
					"availability_mode", "avty_mode", "availability_template", "payload_available", "payload_not_available",
					"state_topic", "command_topic", "qos", "encoding", "message_expiry_interval":
				default:
					t.Errorf("%s: the key %q is unknown to Home Assistant", topic, key)
				}
			}
			components, _ := first(config, "components", "cmps").(map[string]any)
			if first(config, "device", "dev") == nil || first(config, "origin", "o") == nil || len(components) == 0 {
				t.Errorf("%s: device, origin or components are missing: %s", topic, m.Payload)
			}
			for name, c := range components {
				component, _ := c.(map[string]any)
				id, _ := first(component, "unique_id", "uniq_id").(string)
				platform, _ := first(component, "platform", "p").(string)
				if id == "" || platform == "" || ids[id] != "" {
					t.Errorf("%s: component %s has platform %q and unique_id %q (also of %q)", topic, name, platform, id, ids[id])
				}
				ids[id] = topic
				if command, _ := first(component, "command_topic", "cmd_t").(string); platform == "switch" && strings.HasSuffix(command, "/service/lamp/set") {
					lampSwitch, lampTopic = component, topic
				}
			}
		}
		if lampSwitch == nil {
			t.Fatalf("lamp has no switch: %v", all)
		}

		t.Log("its switch switches")
		off, _ := first(lampSwitch, "payload_off", "pl_off").(string)
		if off == "" {
			off = "OFF"
		}
		home.Publish(first(lampSwitch, "command_topic", "cmd_t").(string), off)
		live.Until("lamp is off", func(v View) bool { return v.Service("lamp").State == topics.Stopped })

		t.Log("a person deletes a device: it stays away, also when Home Assistant is born again and when the hub restarts")
		var hubTopic, webTopic string
		for topic := range all {
			switch {
			case strings.HasSuffix(topic, "_hub/config"):
				hubTopic = topic
			case strings.HasSuffix(topic, "_service_web/config"):
				webTopic = topic
			}
		}
		home.Publish(webTopic, "", "-r")
		mark := live.Now()
		home.Publish("homeassistant/status", "online")
		for _, topic := range []string{hubTopic, lampTopic} {
			live.AwaitTopic(mark, topic, all[topic].Payload)
		}
		live.Await("the domain says its status again", mark, func(m Message) bool {
			return m.Topic == "dominion/domain/kitchen/status"
		})
		hub.Stop()
		hub = home.StartHub()
		live.Until("the hub is back", func(v View) bool { return v.Ready() && v.Online("kitchen") })
		mark = live.Now()
		home.Publish("homeassistant/status", "online")
		answered := false
		live.Await("the birth is answered, and after the configs the states come", mark, func(m Message) bool {
			answered = answered || m.Topic == hubTopic && !m.Retain
			return answered && m.Topic == "dominion/service/lamp/status" && !m.Retain
		})
		if _, there := configs()[webTopic]; there {
			t.Error("a device that was deleted is back")
		}

		t.Log("gone from the config, gone from Home Assistant")
		home.Configure(service("web", `priority = "required"`))
		mark = live.Now()
		hub.Signal(syscall.SIGHUP)
		live.AwaitTopic(mark, lampTopic, "")
		left := configs()
		if _, there := left[lampTopic]; there || len(left) != 2 {
			t.Errorf("after lamp was removed there are %d devices, lamp's: %v", len(left), there)
		}
	})
}

// first returns the value of the first of these keys that is there.
func first(m map[string]any, keys ...string) any {
	for _, k := range keys {
		if v, ok := m[k]; ok {
			return v
		}
	}
	return nil
}
