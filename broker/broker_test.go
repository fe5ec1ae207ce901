package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// start starts a broker; it is stopped with the test.
func start(t *testing.T, cfg broker.Config) *broker.Broker {
	t.Helper()
	b, err := broker.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, b) })
	return b
}

func stop(t *testing.T, b *broker.Broker) {
	t.Helper()
	if err := b.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// inbox keeps messages as "topic payload", with "retained" where they are.
type inbox struct {
	mu  sync.Mutex
	all []string
}

func (i *inbox) put(m topics.Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	line := m.Topic + " " + string(m.Payload)
	if m.Retain {
		line += " retained"
	}
	i.all = append(i.all, line)
}

func (i *inbox) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	i.mu.Lock()
	defer i.mu.Unlock()
	if !slices.Equal(i.all, want) {
		t.Errorf("got %q, want %q", i.all, want)
	}
	i.all = nil
}

func retained(topic, payload string) topics.Message {
	return topics.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true}
}

// pipe connects a client to a broker without a socket.
func pipe(t *testing.T, b *broker.Broker, o client.Options) *client.Conn {
	t.Helper()
	o.Dial = func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		b.Serve(theirs)
		return ours, nil
	}
	c, err := client.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Broker and client run whole in a bubble: an hour of keep alives takes no
// time, and nothing is left when both are stopped, or the bubble would not end.
func TestAnHourInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{})
		var got inbox
		if err := b.Subscribe("dominion/#", got.put); err != nil {
			t.Fatal(err)
		}
		will := retained("dominion/domain/pi/availability", "offline")
		c := pipe(t, b, client.Options{ClientID: "domain-1", Will: &will})
		c.Publish(retained(will.Topic, "online"))
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		select {
		case <-c.Done():
			t.Fatalf("the connection ended: %v", c.Err())
		default:
		}
		c.Close()
		if err := c.Err(); err != nil {
			t.Errorf("Err after Close is %v", err)
		}
		got.expect(t, will.Topic+" online") // and no will
	})
}

// What was stored before is told from what happens now; of the latter only an
// order that carries the flag keeps it.
func TestRetainDistinguishesOldFromNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{})
		b.Publish(retained("dominion/domain/pi/status", "1"))
		b.Publish(retained("dominion/service/web/set", "ON"))
		synctest.Wait()
		var got inbox
		for _, f := range []string{"dominion/domain/#", "dominion/service/#"} {
			if err := b.Subscribe(f, got.put); err != nil {
				t.Fatal(err)
			}
		}
		got.expect(t, "dominion/domain/pi/status 1 retained", "dominion/service/web/set ON retained")
		b.Publish(retained("dominion/domain/pi/status", "2"))
		b.Publish(retained("dominion/service/web/set", "OFF"))
		b.Publish(topics.Message{Topic: "dominion/service/web/set", Payload: []byte("ON"), QoS: 1})
		got.expect(t, "dominion/domain/pi/status 2", "dominion/service/web/set OFF retained", "dominion/service/web/set ON")
		if err := b.Subscribe("dominion/#/x", got.put); err == nil {
			t.Error("a filter that is none was taken")
		}
	})
}

// A subscriber that stops reading costs the hub nothing, and is closed: then
// the others get theirs. (No bubble: the engine waits on a mutex here, and a
// bubble's clock does not go on over that.)
func TestStalledClient(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Config{Listen: "127.0.0.1:0"})
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	url := "mqtt://" + b.Listeners()[0].Addr.String()
	leave, heard := make(chan struct{}), make(chan string, 2)
	will := topics.Message{Topic: "b", Payload: []byte("closed"), QoS: 1}
	stalled, err := client.Connect(t.Context(), client.Options{URL: url, ClientID: "stalled", Will: &will, OnMessage: func(topics.Message) { <-leave }})
	if err != nil {
		t.Fatal(err)
	}
	well, err := client.Connect(t.Context(), client.Options{URL: url, ClientID: "well", OnMessage: func(m topics.Message) { heard <- string(m.Payload) }})
	if err != nil {
		t.Fatal(err)
	}
	for c, filter := range map[*client.Conn]string{stalled: "a", well: "b"} {
		if err := c.Subscribe(t.Context(), filter); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now()
	for range 100 {
		b.Publish(topics.Message{Topic: "a", Payload: make([]byte, 1<<18), QoS: 1})
	}
	b.Publish(topics.Message{Topic: "b", Payload: []byte("2"), QoS: 1})
	if d := time.Since(before); d > 5*time.Second {
		t.Errorf("Publish waited for %v", d)
	}
	var got []string // the order depends on how much the kernel takes
	for range 2 {
		select {
		case m := <-heard:
			got = append(got, m)
		case <-time.After(2 * time.Minute):
			t.Fatalf("the other client got %q in two minutes, want 2 and the will", got)
		}
	}
	if slices.Sort(got); !slices.Equal(got, []string{"2", "closed"}) {
		t.Errorf("the other client got %q", got)
	}
	close(leave)
	<-stalled.Done()
	if stalled.Err() == nil {
		t.Error("the stalled client was not closed")
	}
	well.Close()
}

// What the hub says last is heard, and what it said is there for the next run.
func TestRetainedMessagesSurviveStop(t *testing.T) {
	dir := t.TempDir()
	cfg := broker.Config{DataDir: dir}
	binary := string([]byte{0xff, 0x00, 0x80})
	synctest.Test(t, func(t *testing.T) {
		b := start(t, cfg)
		var heard inbox
		c := pipe(t, b, client.Options{ClientID: "c", OnMessage: heard.put})
		if err := c.Subscribe(t.Context(), "dominion/hub/+"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the engine looks for retained messages after its SUBACK
		will := retained("dominion/domain/pi/availability", "offline")
		pi := pipe(t, b, client.Options{ClientID: "pi", Will: &will})
		pi.Publish(retained(will.Topic, "online"))
		for _, m := range []topics.Message{
			retained("dominion/hub/availability", "online"),
			retained("dominion/domain/pi/heartbeat", "{}"),
			retained("dominion/domain/pi/metrics", "{}"),
			retained("camera/picture", binary),
			retained("lamp/state", "<ON>"),
			retained("gone", "x"),
			retained("gone", ""),
		} {
			b.Publish(m)
		}
		if err := pi.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{"dominion/hub/availability online"}
		for i := range 2000 {
			b.Publish(topics.Message{Topic: "dominion/hub/event", Payload: fmt.Append(nil, i), QoS: 1})
			want = append(want, fmt.Sprint("dominion/hub/event ", i))
		}
		stop(t, b)
		<-c.Done()
		<-pi.Done()
		heard.expect(t, want...)
		stop(t, b) // a second time: the same, at once
	})
	synctest.Test(t, func(t *testing.T) {
		b := start(t, cfg)
		var got inbox
		if err := b.Subscribe("+/#", got.put); err != nil {
			t.Fatal(err)
		}
		got.mu.Lock()
		got.all = slices.DeleteFunc(got.all, func(l string) bool { return strings.HasPrefix(l, "$SYS") })
		slices.Sort(got.all)
		got.mu.Unlock()
		got.expect(t,
			"camera/picture "+binary+" retained",
			"dominion/domain/pi/availability online retained", // as it was at the stop
			"dominion/hub/availability offline retained",
			"lamp/state <ON> retained",
		)
	})
}

// A client that connects and says nothing does not hold up the stop.
func TestStopWithSilentConnections(t *testing.T) {
	b := start(t, broker.Config{Listen: "127.0.0.1:0", ListenWS: "127.0.0.1:0"})
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	for _, l := range b.Listeners() {
		c, err := net.Dial("tcp", l.Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	began := time.Now()
	stop(t, b)
	if d := time.Since(began); d > 8*time.Second { // they have 10 s to say CONNECT
		t.Errorf("Stop took %v", d)
	}
}

// Whoever connects must say CONNECT in time.
func TestSilentConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{})
		ours, theirs := net.Pipe()
		b.Serve(theirs)
		began := time.Now()
		if _, err := ours.Read(make([]byte, 1)); err == nil {
			t.Error("a packet came")
		}
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("closed after %v, want 10 s", d)
		}
	})
}

// Over MQTT 3.1.1 a client cannot be told that its publish is refused: it is
// acknowledged and dropped, and the log names user, role and topic, once. To a
// request there is an answer, for whoever asked alone.
func TestRefusedPublishIsLogged(t *testing.T) {
	var log bytes.Buffer // written by clients' goroutines, which end with the broker
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{
		Users: []broker.User{{Name: "dash", PasswordFile: password, Role: broker.RoleReader}},
	}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Subscribe("dominion/#", func(m topics.Message) { t.Errorf("published: %s %s", m.Topic, m.Payload) }); err != nil {
		t.Fatal(err)
	}
	other := pipe(t, b, client.Options{ClientID: "other", User: "dash", Password: "secret", OnMessage: func(m topics.Message) {
		t.Errorf("another client got %s %s", m.Topic, m.Payload)
	}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := other.Subscribe(ctx, "dominion/response/#"); err != nil {
		t.Fatal(err)
	}
	answers := make(chan topics.Message, 10)
	answered := func(m topics.Message) { answers <- m }
	for _, version := range []byte{4, 5, 4} { // in 5 the client makes the answer of the reason code
		c := pipe(t, b, client.Options{
			ClientID: "panel", User: "dash", Password: "secret", Version: version, OnMessage: answered,
			OnRefused: client.AnswerRefused(topics.NewTree(""), "dash", false, answered),
		})
		if err := c.Subscribe(ctx, "dominion/response/+", "dominion/response/join/me", "dominion/domain/+/response"); err != nil {
			t.Fatal(err)
		}
		for _, p := range []struct{ topic, payload, answer string }{
			{"dominion/service/lamp/set", "OFF", ""},
			{"dominion/request/start", `{"transaction":"t1","service":"lamp"}`, "dominion/response/start"},
			{"dominion/request/join", `{"transaction":"t1","response_topic":"dominion/response/join/me"}`, "dominion/response/join/me"},
			{"dominion/domain/pi/command", `{"transaction":"t1"}`, "dominion/domain/pi/response"},
		} {
			c.Publish(topics.Message{Topic: p.topic, Payload: []byte(p.payload), QoS: 1})
			if err := c.Flush(ctx); err != nil {
				t.Fatalf("%s: %v", p.topic, err)
			}
			if p.answer == "" {
				continue
			}
			m := <-answers
			want := `{"transaction":"t1","status":"error","error":"the broker refused ` + p.topic + ` of user dash"}`
			if m.Topic != p.answer || strings.Join(strings.Fields(string(m.Payload)), "") != strings.Join(strings.Fields(want), "") {
				t.Errorf("%s is answered at %s: %s", p.topic, m.Topic, m.Payload)
			}
		}
	}
	stop(t, b)
	const want = `level=WARN msg="publish refused" user=dash by="role reader: may not publish" topic=dominion/service/lamp/set client=panel`
	if n := strings.Count(log.String(), want); n != 1 {
		t.Errorf("told %d times, want once:\n%s", n, log.String())
	}
	if strings.Contains(log.String(), "not authorized") {
		t.Errorf("the engine says it too, each time:\n%s", log.String())
	}
}
