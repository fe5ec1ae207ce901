package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/topics"
)

const (
	// smallMemory is broker.limits.memory, of which one user may have half.
	smallMemory = 128 << 20
	// mostOfTheHub is VmHWM in kB: the account, as much again for what the garbage
	// collector has not freed, and the hub itself. Each attack takes far more than
	// this where nothing bounds it.
	mostOfTheHub = 400 << 10
	// slowestTrip bounds a round trip of a user who has no part in an attack.
	slowestTrip = 5 * time.Second
)

// attacked is a home with a small account of memory, an agent, and two users of the
// role device: "device", who attacks, and "lamp", who has no part in it.
type attacked struct {
	*Home
	t       *testing.T
	hub     *Process
	o       *Observer
	address string
}

func newAttacked(t *testing.T) *attacked {
	home, caFile := guarded(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret of lamp"), bcrypt.MinCost)
	home.must(err)
	config, err := os.ReadFile(home.hubFile())
	home.must(err)
	home.WriteHubConfig(string(config) + fmt.Sprintf("\n[[broker.users]]\nname = \"lamp\"\nrole = \"device\"\npassword_hash = %q\n[broker.limits]\nmemory = %d\n", hash, smallMemory))
	x := &attacked{Home: home, t: t, address: home.Hub.Address() + ":1883"}
	x.hub = home.StartHub()
	x.hub.AwaitLog("the hub is ready")
	kitchen := home.Domain("kitchen")
	kitchen.Install("lamp", "bell")
	password := filepath.Join(kitchen.Dir, "password")
	home.must(writeFile(password, "secret of kitchen\n"))
	kitchen.Configure(nil, fmt.Sprintf("hub = \"mqtts://%s:8883\"\nuser = \"kitchen\"\npassword_file = %q\ncafile = %q\n", home.Hub.Address(), password, caFile))
	kitchen.Start()
	x.o = &Observer{t: t, messages: newFeed[Message]()}
	x.o.start(home, append(home.as("admin", ""), "-q", "2", "-F", observerFormat, "-t", "dominion/#"))
	x.o.Until("lamp and bell run", func(v View) bool { return v.Healthy("lamp", 1) && v.Healthy("bell", 1) })
	return x
}

// client connects as a user.
func (x *attacked) client(user, id string) *line {
	x.t.Helper()
	l, err := x.observer.connect(x.address, 4, id, true, user, "secret of "+user)
	x.must(err)
	x.t.Cleanup(func() { l.conn.Close() })
	return l
}

// handled returns when the broker has handled all that was sent to it, by the order
// of packets.
func (x *attacked) handled(l *line) {
	x.t.Helper()
	l.send(0xC0, nil)
	if p, err := l.read(patience); err != nil || p.kind != kindPingresp {
		x.t.Fatalf("PINGREQ is answered by %+v, %v", p, err)
	}
}

// subscribeAll asks for filters in one packet, and reports whether the last of them
// is granted.
func (x *attacked) subscribeAll(l *line, filters []string) bool {
	x.t.Helper()
	body := []byte{0, 1}
	for _, f := range filters {
		body = append(append(body, text(f)...), 0)
	}
	l.send(0x82, body)
	p, err := l.read(patience)
	if err != nil || p.kind != kindSuback {
		x.t.Fatalf("SUBSCRIBE is answered by %+v, %v", p, err)
	}
	return p.code == 0
}

// trips makes round trips of the user lamp until it is stopped, at least so many, and
// returns the longest.
func (x *attacked) trips(atLeast int, stop <-chan struct{}) (longest time.Duration, err error) {
	l, err := x.observer.connect(x.address, 4, "bystander", true, "lamp", "secret of lamp")
	if err != nil {
		return 0, err
	}
	defer l.leave()
	if err := l.subscribe("house/trip", 0); err != nil {
		return 0, err
	}
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for n := 0; ; n++ {
		began := time.Now()
		l.publish(0, 0, "house/trip", strconv.Itoa(n))
		if p, err := l.read(patience); err != nil || p.kind != kindPublish || p.payload != strconv.Itoa(n) {
			return longest, fmt.Errorf("round trip %d ended with %+v, %v", n, p, err)
		}
		longest = max(longest, time.Since(began))
		<-every.C
		select {
		case <-stop:
			if n >= atLeast {
				return longest, nil
			}
		default:
		}
	}
}

// disturbs attacks while another user makes round trips, at least so many, and
// asserts that the hub, the agent and that user do not suffer.
func (x *attacked) disturbs(atLeast int, attack func()) {
	x.t.Helper()
	mark := x.o.Now()
	stop := make(chan struct{})
	var longest time.Duration
	var err error
	var trips sync.WaitGroup
	trips.Go(func() { longest, err = x.trips(atLeast, stop) })
	func() {
		defer trips.Wait()
		defer close(stop)
		attack()
	}()
	peak := field(x.t, x.hub.PID(), "status", "VmHWM:")
	x.t.Logf("the hub took %d kB, the longest round trip %v", peak, longest)
	if err != nil || longest > slowestTrip {
		x.t.Errorf("another user's round trip took %v, %v", longest, err)
	}
	if peak > mostOfTheHub {
		x.t.Errorf("the hub took %d kB of memory, more than %d", peak, mostOfTheHub)
	}
	awaitLiveHeartbeat(x.o, x.o.Now(), "kitchen")
	for _, m := range x.o.Since(mark) {
		if strings.HasSuffix(m.Topic, "/availability") {
			x.t.Errorf("the attack disturbed the dominion: %v", m)
		}
	}
}

// processorTime is what a process has used.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	var ticks int
	for _, s := range f[11:13] { // utime, stime
		n, err := strconv.Atoi(string(s))
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// One user attacks the memory and the processor time of the broker in each way that
// took gigabytes or seconds once. It gets no more than its share, and neither an
// agent nor another user suffers.
func TestOneUserCannotTakeTheBrokersMemory(t *testing.T) {
	x := newAttacked(t)

	t.Log("10 clients with 256 filters that are compared with each of 30,000 retained topics")
	retain := x.client("lamp", "retains")
	for i := range 30_000 {
		retain.publish(1, 0, fmt.Sprintf("%05d/b/c/d", i), "x")
	}
	x.handled(retain)
	retain.leave()
	began, before := time.Now(), processorTime(t, x.hub.PID())
	x.disturbs(250, func() { // of 20 ms: 5 s of searching, or more
		for i := range 10 {
			var filters []string
			for j := range 256 {
				filters = append(filters, fmt.Sprintf("+/+/+/nothing-%d", j))
			}
			if !x.subscribeAll(x.client("device", fmt.Sprint("searches-", i)), filters) {
				t.Error("256 filters with wildcards are refused")
			}
		}
	})
	took, used := time.Since(began), processorTime(t, x.hub.PID())-before
	t.Logf("the hub used %v in %v", used, took)
	// The first million comparisons of a user are free, then they are paced.
	if used > 1500*time.Millisecond+took/4 {
		t.Errorf("the hub used %v of processor time in %v", used, took)
	}

	t.Log("12 clients with 16,384 filters of 8 levels")
	refused := 0
	x.disturbs(50, func() {
		for i := range 12 {
			l := x.client("device", fmt.Sprint("filters-", i))
			for first := 0; first < 16_384; first += 1024 {
				var filters []string
				for j := range 1024 {
					filters = append(filters, fmt.Sprintf("%d-%d/a/b/c/d/e/f/g", i, first+j))
				}
				if !x.subscribeAll(l, filters) {
					refused++
				}
			}
		}
	})
	if refused == 0 {
		t.Error("all filters are granted")
	}

	t.Log("50 clients that do not read 20 messages of 1 MB each")
	x.disturbs(50, func() {
		for i := range 50 {
			l := x.client("device", fmt.Sprint("slow-", i))
			x.must(l.conn.(*net.TCPConn).SetReadBuffer(4 << 10))
			x.must(l.subscribe(fmt.Sprint("flood/", i), 0))
		}
		publisher := x.client("device", "floods")
		payload := strings.Repeat("x", 1_000_000)
		for range 20 {
			for i := range 50 {
				publisher.publish(0, 0, fmt.Sprint("flood/", i), payload)
			}
		}
		x.handled(publisher)
	})
}

// Zigbee2MQTT's list of 135 devices, 2.3 MB in one retained message, passes with the
// defaults; the hub reads it, and agents stay online.
func TestLargeDeviceListPasses(t *testing.T) {
	home := onEmbedded(t)
	home.Configure(service("lamp", `priority = "required"`))
	kitchen := home.Domain("kitchen")
	kitchen.Install("lamp")
	_, _, o := home.Up(kitchen)
	o.Until("lamp runs", func(v View) bool { return v.Healthy("lamp", 1) })
	mark := o.Now()

	const devices = 135
	var list []map[string]any
	for i := range devices {
		var exposes []map[string]any
		for j := range 100 {
			exposes = append(exposes, map[string]any{"type": "numeric", "name": fmt.Sprint("value_", j), "property": fmt.Sprint("value_", j), "access": 7, "description": strings.Repeat("text ", 17)})
		}
		list = append(list, map[string]any{
			"ieee_address": fmt.Sprintf("0x%016x", i+1), "friendly_name": fmt.Sprint("device ", i), "type": "Router", "supported": true,
			"definition": map[string]any{"model": "M", "vendor": "V", "description": "a device", "exposes": exposes},
		})
	}
	payload, err := json.Marshal(list)
	home.must(err)
	if len(payload) < 2_300_000 || len(payload) > 3_000_000 {
		t.Fatalf("the list has %d bytes", len(payload))
	}
	file := filepath.Join(home.observer.Dir, "list")
	home.must(os.WriteFile(file, payload, 0o644))
	const topic = "zigbee2mqtt/bridge/devices"
	if r := home.observer.Exec(nil, "mosquitto_pub", append(home.clientArgs(), "-q", "1", "-r", "-t", topic, "-f", file)...); r.Code != 0 {
		t.Fatalf("cannot publish it: %s", r.Stderr)
	}

	for _, version := range []byte{4, 5} {
		l, err := home.observer.connect(home.Hub.Address()+":1883", version, fmt.Sprint("reads-", version), true)
		home.must(err)
		home.must(l.subscribe(topic, 1))
		p, err := l.read(patience)
		if err != nil || p.kind != kindPublish || !p.retain() || p.payload != string(payload) {
			t.Errorf("MQTT %d: the retained list arrives as kind %d with %d of %d bytes: %v", version, p.kind, len(p.payload), len(payload), err)
		}
		if p.qos() > 0 {
			l.answer(kindPuback, p.id)
		}
		l.leave()
	}
	eventually(t, "the hub lists the devices", func() bool {
		r := home.Ctl("devices", "--json")
		var doc topics.Devices
		if err := json.Unmarshal([]byte(r.Stdout), &doc); r.Code != 0 || err != nil {
			t.Fatalf("devices --json: code %d, %v: %s", r.Code, err, r.Stderr)
		}
		return len(doc.Devices) == devices && len(doc.Problems) == 0
	})

	// Home Assistant's side: its discovery is there, and its birth is answered.
	config := func(m Message) bool {
		return strings.HasPrefix(m.Topic, "homeassistant/") && strings.HasSuffix(m.Topic, "/config") && strings.Contains(m.Payload, "lamp")
	}
	again := o.Now()
	home.Publish("homeassistant/status", "online")
	o.Await("the discovery of lamp is published again", again, config)
	awaitLiveHeartbeat(o, o.Now(), "kitchen")
	for _, m := range o.Since(mark) {
		if strings.HasPrefix(m.Topic, "dominion/") && strings.HasSuffix(m.Topic, "/availability") {
			t.Errorf("the list disturbed the dominion: %v", m)
		}
	}
}
