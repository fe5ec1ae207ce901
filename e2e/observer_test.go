package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Message is a line of mosquitto_sub.
type Message struct {
	At      time.Time // when the observer printed it
	Topic   string
	Payload string
	QoS     int
	Retain  bool // the broker stored it before this observer subscribed
}

func (m Message) String() string {
	flag := ""
	if m.Retain {
		flag = " retained"
	}
	return fmt.Sprintf("%s q%d%s %s %s", m.At.Format("15:04:05.000"), m.QoS, flag, m.Topic, m.Payload)
}

// Observer is a mosquitto_sub that prints all there is.
type Observer struct {
	t        testing.TB
	process  *os.Process
	done     chan struct{} // closed when it has ended
	messages *feed[Message]
}

// observerFormat is QoS, retain flag, topic and payload.
const observerFormat = "%q\t%r\t%t\t%p"

// Observe starts a mosquitto_sub on the home's observer host and returns when
// it has subscribed and received what is retained.
func (h *Home) Observe(filters ...string) *Observer {
	h.t.Helper()
	if len(filters) == 0 {
		filters = []string{"#"}
	}
	marker := h.marker()
	args := append(h.clientArgs(), "-q", "2", "-F", observerFormat)
	for _, f := range append(filters, marker) {
		args = append(args, "-t", f)
	}
	o := &Observer{t: h.t, messages: newFeed[Message]()}
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.t.Logf("observed of %q at the end:\n%s\nthe last messages:\n%s", filters, o.Latest(), o.tail())
		}
	})
	arrived := func(m Message) bool { return m.Topic == marker }
	eventually(h.t, 15*time.Second, "mosquitto_sub subscribes", func() bool {
		// it gives up when the first connection fails; once connected it
		// connects again by itself
		if o.ended() {
			o.start(h, args)
		}
		if h.tryPublish(marker, "subscribed") != nil {
			return false
		}
		_, ok := o.messages.await(100*time.Millisecond, 0, arrived)
		return ok
	})
	// this one comes after whatever is replayed
	h.Publish(marker, "replayed")
	o.await(5*time.Second, "the second marker", 0, func(m Message) bool { return arrived(m) && m.Payload == "replayed" })
	return o
}

func (o *Observer) start(h *Home, args []string) {
	h.t.Helper()
	process := exec.Command("mosquitto_sub", args...)
	output, err := process.StdoutPipe()
	h.must(err)
	h.must(h.observer.in(process.Start))
	done := make(chan struct{})
	o.process, o.done = process.Process, done
	h.t.Cleanup(o.Close)
	go func() {
		defer close(done)
		readLines(output, func(line string) {
			part := strings.SplitN(line, "\t", 4)
			if len(part) != 4 {
				return
			}
			o.messages.add(Message{At: time.Now(), QoS: int(part[0][0] - '0'), Retain: part[1] == "1", Topic: part[2], Payload: part[3]})
		})
		process.Wait()
	}()
}

func (o *Observer) ended() bool {
	if o.process == nil {
		return true
	}
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// Close ends the observer.
func (o *Observer) Close() {
	o.process.Kill()
	<-o.done
}

var markers atomic.Int64

func (h *Home) marker() string { return fmt.Sprintf("e2e/marker/%d", markers.Add(1)) }

// Now is a position among the messages: what follows is newer.
func (o *Observer) Now() int { return o.messages.len() }

// Since returns the messages since a position.
func (o *Observer) Since(position int) []Message {
	all, _ := o.messages.from(position)
	return all
}

// Await waits for a message since a position.
func (o *Observer) Await(within time.Duration, what string, since int, match func(Message) bool) Message {
	o.t.Helper()
	return o.await(within, what, since, match)
}

func (o *Observer) await(within time.Duration, what string, since int, match func(Message) bool) Message {
	o.t.Helper()
	m, ok := o.messages.await(within, since, match)
	if !ok {
		o.t.Fatalf("not observed within %v: %s", within, what)
	}
	return m
}

// AwaitTopic waits for a message on a topic since a position.
func (o *Observer) AwaitTopic(within time.Duration, since int, topic, payload string) Message {
	o.t.Helper()
	return o.await(within, fmt.Sprintf("%s %q", topic, payload), since, func(m Message) bool {
		return m.Topic == topic && m.Payload == payload
	})
}

// AwaitEvent waits for an event of the hub or of a domain since a position.
// An empty domain or service stands for any.
func (o *Observer) AwaitEvent(within time.Duration, since int, topic string, kind topics.EventType, domain, service string) topics.Event {
	o.t.Helper()
	var found topics.Event
	o.await(within, fmt.Sprintf("event %s of domain %q, service %q on %s", kind, domain, service, topic), since, func(m Message) bool {
		if m.Topic != topic {
			return false
		}
		e, err := topics.Decode[topics.Event](m.Topic, []byte(m.Payload))
		if err != nil || e.Type != kind || domain != "" && e.Domain != domain || service != "" && e.Service != service {
			return false
		}
		found = e
		return true
	})
	return found
}

// Events returns the hub's events since a position.
func (o *Observer) Events(since int) []topics.Event {
	o.t.Helper()
	var all []topics.Event
	for _, m := range o.Since(since) {
		if m.Topic == "dominion/hub/event" {
			all = append(all, decode[topics.Event](o.t, m))
		}
	}
	return all
}

// Until waits until the latest messages of all topics make something true,
// and returns the message that did; the last one if it was true already.
func (o *Observer) Until(within time.Duration, what string, so func(View) bool) Message {
	o.t.Helper()
	latest, seen := make(View), o.Since(0)
	for _, m := range seen {
		latest[m.Topic] = m
	}
	if so(latest) {
		return seen[len(seen)-1]
	}
	m, ok := o.messages.await(within, len(seen), func(m Message) bool {
		latest[m.Topic] = m
		return so(latest)
	})
	if !ok {
		o.t.Fatalf("not observed within %v: %s", within, what)
	}
	return m
}

// Latest returns the last message of each topic.
func (o *Observer) Latest() View {
	latest := make(View)
	for _, m := range o.Since(0) {
		latest[m.Topic] = m
	}
	return latest
}

func (o *Observer) tail() string {
	var lines []string
	for _, m := range slices.Backward(o.Since(0)) {
		if strings.HasSuffix(m.Topic, "/heartbeat") || strings.HasSuffix(m.Topic, "/metrics") || strings.HasPrefix(m.Topic, "homeassistant/") || strings.HasPrefix(m.Topic, "e2e/") {
			continue
		}
		line := m.String()
		if len(line) > 700 {
			line = line[:600] + "…"
		}
		if lines = append(lines, line); len(lines) == 40 {
			break
		}
	}
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}

// View is the latest message of each topic: what is so, as far as it was told.
type View map[string]Message

// String shows the services and domains in short.
func (v View) String() string {
	var lines []string
	for topic, m := range v {
		if strings.HasPrefix(topic, "dominion/service/") || strings.HasSuffix(topic, "/availability") {
			lines = append(lines, "  now "+topic+" "+m.Payload)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Online tells whether a domain is available.
func (v View) Online(domain string) bool {
	return v["dominion/domain/"+domain+"/availability"].Payload == topics.Online
}

// Ready tells whether the hub is online and has settled.
func (v View) Ready() bool {
	hub, ok := look[topics.Hub](v, "dominion/hub/status")
	return ok && hub.Ready && v["dominion/hub/availability"].Payload == topics.Online
}

// Service returns the hub's status of a service.
func (v View) Service(name string) topics.Service {
	s, _ := look[topics.Service](v, "dominion/service/"+name+"/status")
	return s
}

// Healthy tells whether a service has n instances, all wanted, healthy and
// offered.
func (v View) Healthy(name string, n int) bool {
	s := v.Service(name)
	return s.State == topics.Running && s.Wanted == n && s.Healthy == n && len(s.Instances) == n && len(v.Endpoints(name)) == n
}

// Endpoints returns where a service is reached.
func (v View) Endpoints(name string) []topics.Endpoint {
	e, _ := look[[]topics.Endpoint](v, "dominion/service/"+name+"/endpoints")
	return e
}

// Domain returns the status of a domain.
func (v View) Domain(name string) topics.Domain {
	d, _ := look[topics.Domain](v, "dominion/domain/"+name+"/status")
	return d
}

// Instance returns a service as the agent of a domain tells it.
func (v View) Instance(domain, service string) topics.Instance {
	for _, i := range v.Domain(domain).Services {
		if i.Service == service {
			return i
		}
	}
	return topics.Instance{}
}

// Heartbeat returns the last heartbeat of a domain.
func (v View) Heartbeat(domain string) topics.Heartbeat {
	b, _ := look[topics.Heartbeat](v, "dominion/domain/"+domain+"/heartbeat")
	return b
}

// Command returns the start command of a domain.
func (v View) Command(domain string) topics.StartCommand {
	c, _ := look[topics.StartCommand](v, "dominion/domain/"+domain+"/services/set")
	return c
}

func look[T any](v View, topic string) (T, bool) {
	var value T
	m, ok := v[topic]
	if !ok || m.Payload == "" {
		return value, false
	}
	return value, json.Unmarshal([]byte(m.Payload), &value) == nil
}

func decode[T any](t testing.TB, m Message) T {
	t.Helper()
	v, err := topics.Decode[T](m.Topic, []byte(m.Payload))
	if err != nil {
		t.Errorf("%v: %s", err, m.Payload)
	}
	return v
}
