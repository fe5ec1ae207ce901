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
	home     *Home
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
	// the last filter: what is retained for it comes after all the rest, which
	// a message that is sent meanwhile may overtake
	marker := fmt.Sprintf("e2e/marker/%d", markers.Add(1))
	args := append(h.clientArgs(), "-q", "2", "-F", observerFormat)
	last := 1 // of so many: a filter that holds the marker has it sent, too
	for _, f := range append(filters, marker) {
		args = append(args, "-t", f)
		if f == "#" {
			last++
		}
	}
	o := &Observer{t: h.t, messages: newFeed[Message]()}
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.t.Logf("observed of %q at the end:\n%s\nthe last messages:\n%s", filters, o.Latest(), o.tail())
		}
	})
	eventually(h.t, "the broker takes messages", func() bool { return h.tryPublish(marker, "subscribed", "-r") == nil })
	eventually(h.t, "mosquitto_sub subscribes", func() bool {
		// it gives up when the first connection fails; once connected it
		// connects again by itself
		if o.ended() {
			o.start(h, args)
		}
		came := 0
		_, all := o.messages.await(time.Second, 0, func(m Message) bool {
			if m.Topic == marker && m.Retain {
				came++
			}
			return came == last
		})
		return all
	})
	h.Publish(marker, "", "-r")
	return o
}

func (o *Observer) start(h *Home, args []string) {
	h.t.Helper()
	o.home = h
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
			if len(part) != 4 || len(part[0]) != 1 {
				return // of a payload with several lines
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

// Mark is a moment, and a position among the messages: what follows was printed
// after it, though it may have been on its way before. Where that counts, the
// time that the message itself tells is compared. The zero Mark is the beginning.
type Mark struct {
	position int
	at       time.Time
}

// Now marks this moment.
func (o *Observer) Now() Mark { return Mark{o.messages.len(), time.Now()} }

// isBefore reports whether a time that a payload tells is later, by its milliseconds.
func (m Mark) isBefore(at topics.Time) bool { return at.After(m.at.Truncate(time.Millisecond)) }

// Since returns the messages since a mark.
func (o *Observer) Since(mark Mark) []Message {
	all, _ := o.messages.from(mark.position)
	return all
}

// note puts a message into a view, unless it is of a run of the hub before the
// last start: the word of the former hub is no word of this one.
func (o *Observer) note(v View, m Message) {
	if m.Topic == "dominion/hub/status" && o.home != nil {
		if hub, err := topics.Decode[topics.Hub](m.Topic, []byte(m.Payload)); err == nil && o.home.began.Load() > hub.StartedAt.UnixMilli() {
			return
		}
	}
	v[m.Topic] = m
}

// Await waits for a message since a mark.
func (o *Observer) Await(what string, since Mark, match func(Message) bool) Message {
	o.t.Helper()
	m, ok := o.messages.await(patience, since.position, match)
	if !ok {
		o.t.Fatalf("not observed within %v: %s", patience, what)
	}
	return m
}

// AwaitTopic waits for a message on a topic since a mark.
func (o *Observer) AwaitTopic(since Mark, topic, payload string) Message {
	o.t.Helper()
	return o.Await(fmt.Sprintf("%s %q", topic, payload), since, func(m Message) bool {
		return m.Topic == topic && m.Payload == payload
	})
}

// AwaitEvent waits for an event of the hub or of a domain since a mark.
// An empty domain or service stands for any.
func (o *Observer) AwaitEvent(since Mark, topic string, kind topics.EventType, domain, service string) topics.Event {
	o.t.Helper()
	var found topics.Event
	o.Await(fmt.Sprintf("event %s of domain %q, service %q on %s", kind, domain, service, topic), since, func(m Message) bool {
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

// Events returns the hub's events since a mark.
func (o *Observer) Events(since Mark) []topics.Event {
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
func (o *Observer) Until(what string, so func(View) bool) Message {
	o.t.Helper()
	latest, seen := make(View), o.Since(Mark{})
	for _, m := range seen {
		o.note(latest, m)
	}
	if so(latest) {
		return seen[len(seen)-1]
	}
	m, ok := o.messages.await(patience, len(seen), func(m Message) bool {
		o.note(latest, m)
		return so(latest)
	})
	if !ok {
		o.t.Fatalf("not observed within %v: %s", patience, what)
	}
	return m
}

// Latest returns the last message of each topic.
func (o *Observer) Latest() View {
	latest := make(View)
	for _, m := range o.Since(Mark{}) {
		o.note(latest, m)
	}
	return latest
}

// Retained returns what the broker had retained when the observer subscribed.
func (o *Observer) Retained() View {
	retained := make(View)
	for _, m := range o.Since(Mark{}) {
		if _, there := retained[m.Topic]; m.Retain && !there && !strings.HasPrefix(m.Topic, "e2e/marker/") {
			retained[m.Topic] = m
		}
	}
	return retained
}

// Undrain has a domain that may have been drained know that it is not: an agent
// that is not there hears no order.
func (o *Observer) Undrain(domain string) {
	o.t.Helper()
	awaitLiveHeartbeat(o, o.Now(), domain)
	eventually(o.t, domain+" is not drained", func() bool {
		mark := o.Now()
		o.home.Publish("dominion/domain/"+domain+"/drain/set", "OFF")
		awaitLiveHeartbeat(o, mark, domain)
		return !o.Latest().Domain(domain).Draining
	})
}

// CatchUp returns when the observer has printed whatever the broker had taken
// before, by a message that comes after it.
func (o *Observer) CatchUp() {
	o.t.Helper()
	mark, topic := o.Now(), fmt.Sprintf("e2e/marker/%d", markers.Add(1))
	o.home.Publish(topic, "caught up")
	o.AwaitTopic(mark, topic, "caught up")
}

func (o *Observer) tail() string {
	var lines []string
	for _, m := range slices.Backward(o.Since(Mark{})) {
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

// Online reports whether a domain is available.
func (v View) Online(domain string) bool {
	return v["dominion/domain/"+domain+"/availability"].Payload == topics.Online
}

// Ready reports whether the hub is online and has settled.
func (v View) Ready() bool {
	hub, ok := look[topics.Hub](v, "dominion/hub/status")
	return ok && hub.Ready && v["dominion/hub/availability"].Payload == topics.Online
}

// Service returns the hub's status of a service.
func (v View) Service(name string) topics.Service {
	s, _ := look[topics.Service](v, "dominion/service/"+name+"/status")
	return s
}

// Healthy reports whether a service has n instances, all wanted, healthy and
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
