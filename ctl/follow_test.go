package ctl

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/topics"
)

// following is a run of the program that goes on until it is told to end.
type following struct {
	t      *testing.T
	hub    *fake
	lines  chan string
	end    context.CancelFunc
	code   chan int
	stderr *bytes.Buffer // to be read after the end
}

// newHome starts a fake hub whose files are those of testdata/hub and these.
func newHome(t *testing.T, files map[string]string) *fake {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, dir, name, text)
	}
	hub, err := startFake(dir, "", broker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return hub
}

// write writes a file of a fake hub.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func follow(t *testing.T, hub *fake, renew time.Duration, args ...string) *following {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	f := &following{t: t, hub: hub, lines: make(chan string), end: end, code: make(chan int, 1), stderr: new(bytes.Buffer)}
	out, in := io.Pipe()
	go func() {
		f.code <- Main(ctx, Env{
			Args: append([]string{"--hub", hub.address()}, args...), Stdout: in, Stderr: f.stderr,
			Getenv: func(string) string { return "" }, now: func() time.Time { return noon }, renew: renew,
		})
		_ = in.Close()
	}()
	go func() {
		defer close(f.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			f.lines <- s.Text()
		}
	}()
	return f
}

func (f *following) expect(want ...string) {
	f.t.Helper()
	for _, w := range want {
		select {
		case got := <-f.lines:
			if got != w {
				f.t.Fatalf("printed %q, want %q: %s", got, w, f.stderr)
			}
		case <-time.After(time.Minute):
			f.t.Fatalf("%q was not printed", w)
		}
	}
}

func (f *following) ends(want int) string {
	f.t.Helper()
	for line := range f.lines {
		f.t.Errorf("printed %q at the end", line)
	}
	if code := <-f.code; code != want {
		f.t.Errorf("exit code %d, want %d: %s", code, want, f.stderr)
	}
	return f.stderr.String()
}

func (f *following) publish(a topics.Address, payload any) {
	f.hub.broker.Publish(f.hub.tree.Message(a, topics.Encode(payload)))
}

func closing(t *testing.T, hub *fake) {
	t.Helper()
	if err := hub.close(); err != nil {
		t.Error(err)
	}
}

func TestFollowEvents(t *testing.T) {
	hub := newHome(t, nil)
	defer closing(t, hub)
	f := follow(t, hub, 0, "events", "-f", "-n", "2")
	f.expect("11:59:30  domain_joined        laptop: joined from 192.168.1.20",
		"11:59:31  service_started      web@laptop: started, pid 101")
	event := topics.Address{Kind: topics.HubEvent}
	// one that was in the answer is not shown again
	f.publish(event, topics.Event{At: topics.At(noon.Add(-29 * time.Second)), Type: topics.ServiceStarted, Service: "web", Domain: "laptop", Message: "started, pid 101"})
	hub.broker.Publish(topics.Message{Topic: hub.tree.Hub(topics.HubEvent), QoS: 1, Payload: []byte("no JSON")})
	f.publish(event, topics.Event{At: topics.At(noon), Type: topics.ServiceReady, Service: "web", Domain: "laptop", Message: "ready"})
	f.expect("12:00:00  service_ready        web@laptop: ready")
	f.end()
	if said := f.ends(ExitOK); said != "" {
		t.Errorf("said %q", said)
	}
}

func TestFollowEventsFromNow(t *testing.T) {
	hub := newHome(t, nil)
	defer closing(t, hub)
	f := follow(t, hub, 0, "events", "-f", "-n", "0")
	if _, err := hub.saw("events", 1); err != nil {
		t.Fatal(err)
	}
	f.publish(topics.Address{Kind: topics.HubEvent}, topics.Event{At: topics.At(noon), Type: topics.HubReady, Message: "ready"})
	f.expect("12:00:00  hub_ready            ready")
	f.end()
	f.ends(ExitOK)
}

func TestFollowLogs(t *testing.T) {
	hub := newHome(t, map[string]string{
		"agent/laptop/web.log": `[{"at":"2026-03-04T11:00:00.000Z","stream":"stdout","line":"past"}]`,
		"agent/pi/web.log":     `[]`,
	})
	defer closing(t, hub)
	f := follow(t, hub, time.Millisecond, "logs", "-f", "web")
	f.expect("past")
	log := func(domain, line string) {
		f.publish(topics.Address{Kind: topics.DomainServiceLog, Domain: domain, Service: "web"}, topics.LogLine{At: topics.At(noon), Stream: "stdout", Line: line})
	}
	log("laptop", "one")
	log("laptop", "two \x1b[31mred")
	f.expect("one", "two red")

	// the agent is asked to go on, again and again
	payload, err := hub.saw("laptop/logs", 3)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := topics.Decode[topics.HubRequest]("", []byte(payload)); err != nil || c.Follow.Duration() != time.Minute || c.Lines != 1 {
		t.Errorf("asked to go on with %s", payload)
	}

	// the service is started elsewhere too
	f.publish(topics.Address{Kind: topics.ServiceStatus, Service: "web"}, topics.Service{Service: "web", Instances: []topics.ServiceInstance{
		{Domain: "laptop", State: topics.Running}, {Domain: "pi", State: topics.Starting},
	}})
	if payload, err := hub.saw("pi/logs", 2); err != nil {
		t.Fatal(err, payload)
	}
	log("pi", "moved")
	f.expect("pi      moved")
	log("laptop", "stays")
	f.expect("laptop  stays")
	f.end()
	f.ends(ExitOK)
}

// A line that was streamed while the answer was under way, and is its end,
// is printed once.
func TestOverlap(t *testing.T) {
	lines := func(texts ...string) (all []topics.LogLine) {
		for _, s := range texts {
			all = append(all, topics.LogLine{Line: s})
		}
		return all
	}
	for _, c := range []struct {
		old, streamed []topics.LogLine
		want          int
	}{
		{nil, nil, 0},
		{lines("a", "b"), nil, 0},
		{lines("a", "b"), lines("c"), 0},
		{lines("a", "b"), lines("b", "c"), 1},
		{lines("a", "b"), lines("a", "b", "c"), 2},
		{lines("b"), lines("a", "b"), 0},
		{[]topics.LogLine{{At: topics.At(noon), Line: "a"}}, []topics.LogLine{{At: topics.At(noon.Add(time.Second)), Line: "a"}}, 0},
		{[]topics.LogLine{{Line: "a"}}, []topics.LogLine{{At: topics.At(noon), Line: "a"}}, 1},
	} {
		if got := overlap(c.old, c.streamed); got != c.want {
			t.Errorf("overlap(%v, %v) = %d, want %d", c.old, c.streamed, got, c.want)
		}
	}
}

// restart stops a fake hub and starts one with the same files at the same
// address.
func (f *following) restart() {
	f.t.Helper()
	address := f.hub.address()
	closing(f.t, f.hub)
	hub, err := startFake(f.hub.dir, "", broker.Config{Listen: address})
	if err != nil {
		f.t.Fatal(err)
	}
	f.hub = hub
}

// Following goes on over a restart of the hub: what happened meanwhile is
// shown, nothing twice, and nothing that was before the first one shown.
func TestFollowEventsOverRestart(t *testing.T) {
	f := follow(t, newHome(t, nil), 0, "events", "-f", "-n", "1")
	defer func() { closing(t, f.hub) }()
	f.expect("11:59:30  domain_joined        laptop: joined from 192.168.1.20",
		"11:59:31  service_started      web@laptop: started, pid 101")
	write(t, f.hub.dir, "hub/events.json", `[
		{"at": "2026-03-04T11:00:00.000Z", "type": "hub_stopping", "message": "older than what -n 1 asked for"},
		{"at": "2026-03-04T11:59:31.000Z", "type": "service_started", "service": "web", "domain": "laptop", "message": "started, pid 101"},
		{"at": "2026-03-04T11:59:40.000Z", "type": "hub_started", "message": "epoch 18"}]`)
	f.restart()
	f.expect("11:59:40  hub_started          epoch 18")
	f.publish(topics.Address{Kind: topics.HubEvent}, topics.Event{At: topics.At(noon), Type: topics.HubReady, Message: "ready"})
	f.expect("12:00:00  hub_ready            ready")
	f.end()
	if text := f.ends(ExitOK); !strings.Contains(text, "connecting again") {
		t.Errorf("the lost connection was not reported: %q", text)
	}
}

func TestFollowLogsOverRestart(t *testing.T) {
	const first = `{"at":"2026-03-04T11:00:00.000Z","stream":"stdout","line":"first"}`
	f := follow(t, newHome(t, map[string]string{"agent/laptop/web.log": "[" + first + "]"}), 0, "logs", "-f", "web")
	defer func() { closing(t, f.hub) }()
	f.expect("first")
	f.publish(topics.Address{Kind: topics.DomainServiceLog, Domain: "laptop", Service: "web"},
		topics.LogLine{At: topics.At(noon), Stream: "stdout", Line: "second"})
	f.expect("second")
	write(t, f.hub.dir, "agent/laptop/web.log", "["+first+`,
		{"at":"2026-03-04T12:00:00.000Z","stream":"stdout","line":"second"},
		{"at":"2026-03-04T12:00:01.000Z","stream":"stdout","line":"meanwhile"}]`)
	f.restart()
	f.expect("meanwhile")
	f.publish(topics.Address{Kind: topics.DomainServiceLog, Domain: "laptop", Service: "web"},
		topics.LogLine{At: topics.At(noon.Add(2 * time.Second)), Stream: "stdout", Line: "third"})
	f.expect("third")
	f.end()
	f.ends(ExitOK)
}

// The picture is drawn again when something changes, and after a restart.
func TestWatchStatus(t *testing.T) {
	f := follow(t, newHome(t, nil), 0, "status", "--watch")
	defer func() { closing(t, f.hub) }()
	until := func(part string) {
		t.Helper()
		late := time.After(time.Minute)
		for {
			select {
			case line := <-f.lines:
				if strings.Contains(line, part) {
					return
				}
			case <-late:
				t.Fatalf("%q was not printed", part)
			}
		}
	}
	until("domain_joined")
	write(t, f.hub.dir, "hub/events.json", `[{"at": "2026-03-04T11:59:40.000Z", "type": "hub_started", "message": "epoch 18"}]`)
	f.restart()
	until("hub_started")
	f.end()
	go func() {
		for range f.lines {
		}
	}()
	if code := <-f.code; code != ExitOK {
		t.Errorf("exit code %d", code)
	}
}

// A stdout that takes nothing is a failure, not a loop.
func TestCannotWrite(t *testing.T) {
	hub := newHome(t, nil)
	defer closing(t, hub)
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"events", "-f"}, {"version"}, {"plan"}} {
		var stderr bytes.Buffer
		code := Main(t.Context(), Env{
			Args: append([]string{"--hub", hub.address()}, args...), Stdout: full{}, Stderr: &stderr,
			Getenv: func(string) string { return "" },
		})
		if code != ExitFailed {
			t.Errorf("%v: exit code %d: %s", args, code, &stderr)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
