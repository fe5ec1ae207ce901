package broker_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

func TestSessionsAndKick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{})
		lamp := pipe(t, b, client.Options{ClientID: "lamp"})
		defer lamp.Close()
		if err := lamp.Subscribe(t.Context(), "a/#", "b/#"); err != nil {
			t.Fatal(err)
		}
		all := b.Sessions()
		if len(all) != 1 || all[0].ID != "lamp" || !all[0].Connected || all[0].Subscriptions != 2 || all[0].Listener != "local" || all[0].Since.IsZero() {
			t.Fatalf("%+v", all)
		}
		if b.Kick("tv") {
			t.Error("one that is not there was kicked")
		}
		if !b.Kick("lamp") {
			t.Error("it was not kicked")
		}
		synctest.Wait()
		select {
		case <-lamp.Done():
		default:
			t.Error("its connection goes on")
		}
		if n := b.Stats().Ended[0x98]; n != 1 {
			t.Errorf("%d were ended by an administrator", n)
		}
		stop(t, b)
	})
}

// Who is removed, or gets another role or password, is out; who has come since is not, nor
// is anybody else.
func TestChangedUsersAreOut(t *testing.T) {
	hash := hashOf(t, "x")
	for name, change := range map[string]func(b *broker.Broker) error{
		"removed":  func(b *broker.Broker) error { return b.RemoveUser("tv") },
		"role":     func(b *broker.Broker) error { return b.ChangeUser("tv", broker.RoleReader, "") },
		"password": func(b *broker.Broker) error { return b.ChangeUser("tv", "", hashOf(t, "y")) },
		"reload":   func(b *broker.Broker) error { return b.Reload(nil, false, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := broker.Config{Users: []broker.User{{Name: "radio", PasswordHash: hash, Role: broker.RoleDevice}}}
				if name == "reload" {
					cfg.Users = append(cfg.Users, broker.User{Name: "tv", PasswordHash: hash, Role: broker.RoleDevice})
				}
				b := start(t, cfg)
				if name != "reload" {
					if err := b.AddUser(broker.User{Name: "tv", PasswordHash: hash, Role: broker.RoleDevice}); err != nil {
						t.Fatal(err)
					}
				}
				tv := pipe(t, b, client.Options{ClientID: "tv", User: "tv", Password: "x"})
				other := pipe(t, b, client.Options{ClientID: "other"})
				time.Sleep(time.Second)
				if err := change(b); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
				var again *client.Conn
				if name == "role" || name == "password" {
					password := map[string]string{"role": "x", "password": "y"}[name]
					again = pipe(t, b, client.Options{ClientID: "tv-again", User: "tv", Password: password})
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				ended := func(c *client.Conn) bool {
					select {
					case <-c.Done():
						return true
					default:
						return false
					}
				}
				if !ended(tv) {
					t.Error("the user's connection goes on")
				}
				if ended(other) || again != nil && ended(again) {
					t.Error("another connection was ended")
				}
				other.Close()
				if again != nil {
					again.Close()
				}
				stop(t, b)
			})
		})
	}
}

// traceLines collects the lines of a trace.
type traceLines struct {
	mu    sync.Mutex
	lines []topics.TraceLine
	raw   strings.Builder
}

func (o *traceLines) put(m topics.Message) {
	l, err := topics.Decode[topics.TraceLine](m.Topic, m.Payload)
	if err != nil {
		panic(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, l)
	o.raw.Write(m.Payload)
}

// counts returns how many lines came, and how many were left out.
func (o *traceLines) counts() (lines, left int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.lines {
		left += l.LeftOut
	}
	return len(o.lines), left
}

func (o *traceLines) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.raw.String()
}

// some returns the lines that a test is about, each as one text.
func (o *traceLines) some(which func(topics.TraceLine) bool) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []string
	for _, l := range o.lines {
		if which(l) {
			all = append(all, strings.Join(strings.Fields(strings.Join([]string{l.Client, l.Direction, l.Packet, l.Topic, l.Payload, l.Result, l.By, l.Note}, " ")), " "))
		}
	}
	return all
}

func TestTrace(t *testing.T) {
	hash := hashOf(t, "secret-word")
	const at = "dominion/response/trace/x"
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{
			Users: []broker.User{{Name: "tv", PasswordHash: hash, Role: broker.RoleDevice}, {Name: "eve", PasswordHash: hash, Role: broker.RoleReader}},
			Rules: []access.Rule{{Name: "quiet", Users: []string{"eve"}, Actions: []access.Action{access.Subscribe}, Deny: true, Topics: []string{"tele/secret"}}},
		})
		var seen, other traceLines
		if err := b.Subscribe(at, seen.put); err != nil {
			t.Fatal(err)
		}
		eve := pipe(t, b, client.Options{ClientID: "eve", User: "eve", Password: "secret-word", OnMessage: func(m topics.Message) {
			if strings.HasPrefix(m.Topic, "dominion/response/trace") {
				t.Error("somebody else reads the trace")
			}
		}})
		if err := eve.Subscribe(t.Context(), "#"); err != nil {
			t.Fatal(err)
		}
		for what, where := range map[string]string{"tv": at, "tele/#": "dominion/response/trace/y"} {
			if where != at {
				if err := b.Subscribe(where, other.put); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Trace(what, where); err != nil {
				t.Fatal(err)
			}
		}
		tv := pipe(t, b, client.Options{ClientID: "tv", User: "tv", Password: "secret-word"})
		tv.Publish(topics.Message{Topic: "tele/secret", Payload: []byte("a\x1b[31m\"b\" " + strings.Repeat("x", 200)), QoS: 1})
		tv.Publish(topics.Message{Topic: "dominion/hub/status", Payload: []byte("forged")})
		if err := tv.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		got := seen.some(func(l topics.TraceLine) bool { return l.Packet != "PINGREQ" && l.Packet != "PINGRESP" })
		for _, want := range []string{
			`tv in CONNECT`,
			`tv out CONNACK`,
			`tv in PUBLISH tele/secret a\x1b[31m"b" x`,
			`tv out PUBACK`,
			`tv in PUBLISH dominion/hub/status forged`,
			`tv in PUBLISH dominion/hub/status refused role device`,
		} {
			found := false
			for _, l := range got {
				found = found || strings.HasPrefix(l, want)
			}
			if !found {
				t.Errorf("no line %q in\n%s", want, strings.Join(got, "\n"))
			}
		}
		denied := other.some(func(l topics.TraceLine) bool { return l.Client == "eve" && l.Result == "refused" })
		if len(denied) == 0 || !strings.Contains(denied[0], "rule quiet") {
			t.Errorf("who may not get it is not told: %q", denied)
		}
		synctest.Wait()
		if strings.Contains(seen.text(), "secret-word") {
			t.Error("a password is in the trace")
		}
		// More than anybody can read is counted.
		for range 500 {
			tv.Publish(topics.Message{Topic: "tele/x"})
		}
		if err := tv.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		lines, left := seen.counts()
		if left < 400 || lines > 250 {
			t.Errorf("%d lines, %d left out", lines, left)
		}
		// It ends by itself.
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		n, _ := seen.counts()
		tv.Publish(topics.Message{Topic: "tele/x"})
		_ = tv.Flush(t.Context())
		synctest.Wait()
		if lines, _ := seen.counts(); lines != n {
			t.Error("the trace goes on")
		}
		tv.Close()
		eve.Close()
		stop(t, b)
	})
}

// What mosquitto tells is told at once to who asks, is true, and is gone when
// nobody hears it.
func TestFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{Version: "1.2.3", Limits: broker.Limits{MaxQueuedMessages: 1000}})
		lamp := pipe(t, b, client.Options{ClientID: "lamp"})
		for range 60 {
			lamp.Publish(topics.Message{Topic: "a", Payload: []byte("12345")})
		}
		lamp.Publish(retained("r", "x"))
		if err := lamp.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Second)
		var got sysFigures
		c := pipe(t, b, client.Options{ClientID: "asks", OnMessage: got.put})
		if err := c.Subscribe(t.Context(), "$SYS/#"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for name, want := range map[string]string{
			"version": "dominion 1.2.3", "uptime": "31 seconds", "clients/connected": "2", "clients/total": "2", "clients/maximum": "2",
			"clients/disconnected": "0", "clients/expired": "0", "publish/messages/received": "61", "publish/bytes/received": "301",
			"publish/messages/dropped": "0", "publish/messages/sent": "0", "retained messages/count": "1", "subscriptions/count": "1",
			"shared_subscriptions/count": "0", "store/messages/count": "1", "messages/stored": "1",
		} {
			if got.at(name) != want {
				t.Errorf("%s: %q, want %q", name, got.at(name), want)
			}
		}
		for _, name := range []string{
			"messages/received", "messages/sent", "bytes/received", "bytes/sent", "publish/bytes/sent", "store/messages/bytes",
			"heap/current", "heap/maximum", "load/messages/received/1min", "load/publish/dropped/15min", "load/connections/5min", "load/sockets/1min", "load/bytes/sent/1min",
		} {
			if _, err := strconv.ParseFloat(got.at(name), 64); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if load, _ := strconv.ParseFloat(got.at("load/publish/received/1min"), 64); load < 20 || load > 61 {
			t.Errorf("61 messages half a minute ago are a load of %v a minute", load)
		}
		before := got.count()
		time.Sleep(11 * time.Second)
		if got.at("uptime") != "40 seconds" || got.count() == before {
			t.Errorf("after 10 s: uptime %q", got.at("uptime"))
		}
		c.Close()
		time.Sleep(11 * time.Second)
		if n := b.Stats().Retained; n != 1 {
			t.Errorf("%d messages are retained where nobody hears", n)
		}
		lamp.Close()
		stop(t, b)
	})
}

type sysFigures struct {
	mu   sync.Mutex
	all  map[string]string
	seen int
}

func (f *sysFigures) put(m topics.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = make(map[string]string)
	}
	f.all[strings.TrimPrefix(m.Topic, "$SYS/broker/")] = string(m.Payload)
	f.seen++
}

func (f *sysFigures) at(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[name]
}

func (f *sysFigures) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

// TestNoTopic: what no packet can have is refused, and not waited for.
func TestNoTopic(t *testing.T) {
	b := start(t, broker.Config{Users: []broker.User{{Name: "ada", PasswordHash: hashOf(t, "x"), Role: broker.RoleAdmin}}})
	for _, what := range []string{"#/a", "a/b#", "a+/b"} {
		if err := b.Trace(what, "dominion/response/trace/me"); err == nil {
			t.Errorf("%q is traced", what)
		}
	}
	for _, c := range []struct {
		action access.Action
		topic  string
		fault  bool
	}{
		{access.Publish, "a/b", false},
		{access.Publish, "a/#", true},
		{access.Deliver, "+", true},
		{access.Subscribe, "a/#", false},
		{access.Subscribe, "a/#/b", true},
	} {
		if _, _, err := b.Decide("ada", "", c.action, c.topic); (err != nil) != c.fault {
			t.Errorf("%v %s: %v", c.action, c.topic, err)
		}
	}
}
