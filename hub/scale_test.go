package hub_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const queued = `
[services.worker]
priority = "required"
scale = { min = 1, max = 3, metric = "mqtt:home/queue", target = 10, cooldown = "20s" }
`

// three joins domains that hold services and returns how to end them.
func three(h *home, services ...string) []*agent {
	var all []*agent
	for _, name := range []string{"attic", "cellar", "kitchen"} {
		a := h.agent(name, nil, services...)
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

func leave(all []*agent) {
	for _, a := range all {
		a.leave()
	}
}

// reached fails the test unless a service wants and has so many instances.
func (h *home) reached(service string, n int) topics.Service {
	h.Helper()
	s := h.service(service)
	if s.Wanted != n || s.Running != n {
		h.Fatalf("%d of %s wanted and %d running, not %d: %s%s", s.Wanted, service, s.Running, n, s.Reason, h.story())
	}
	return s
}

func (h *home) whyNow(service string) string {
	h.Helper()
	return string(h.ask(topics.VerbWhy, `{"service": "`+service+`"}`).Data)
}

func TestTheNumberFollowsATopic(t *testing.T) {
	inHome(t, queued, func(h *home) {
		h.publish("home/queue", "4", true) // before anybody knows of it
		defer leave(three(h, "worker"))
		time.Sleep(5 * time.Second)
		if s := h.reached("worker", 1); s.Reason != "required; stays at 1: home/queue says 4, one takes 10" {
			t.Errorf("reason %q", s.Reason)
		}
		h.publish("home/queue", "27", false)
		time.Sleep(2 * time.Second)
		h.reached("worker", 2)
		if e := h.event(topics.ServiceScaled); e.Service != "worker" || e.Message != "worker is scaled to 2: home/queue says 27, one takes 10; at most double at once, it calls for 3" {
			t.Errorf("event %+v", e)
		}
		if why := h.whyNow("worker"); !strings.Contains(why, "scaled to 2: home/queue says 27") {
			t.Errorf("why: %s", why)
		}
		h.publish("home/queue", "26", false)
		if why := h.whyNow("worker"); !strings.Contains(why, "now: home/queue says 26, one takes 10, which calls for 3: the next change is possible in 18s") {
			t.Errorf("why: %s", why)
		}
		time.Sleep(20 * time.Second)
		if s := h.reached("worker", 3); s.Reason != "required; scaled to 3: home/queue says 26, one takes 10" {
			t.Errorf("reason %q", s.Reason)
		}
		for i := range 30 { // noise moves nothing, and is no news
			h.publish("home/queue", fmt.Sprint(26+i%7), false)
			time.Sleep(3 * time.Second)
		}
		h.reached("worker", 3)
		if n := h.count(topics.ServiceScaled); n != 2 {
			t.Errorf("%d changes: %s", n, h.story())
		}
		h.publish("home/queue", "nonsense", false)
		time.Sleep(6 * time.Second)
		if s := h.reached("worker", 3); s.Reason != `required; stays at 3: what home/queue says cannot be used: "nonsense" is not a number` {
			t.Errorf("reason %q", s.Reason)
		}
		h.publish("home/queue", "0", false)
		time.Sleep(19 * time.Second)
		h.reached("worker", 3)
		time.Sleep(3 * time.Second)
		h.reached("worker", 1)
		h.publish("home/queue", strings.Repeat(" ", 1<<17)+"30", false)
		time.Sleep(6 * time.Second)
		if s := h.reached("worker", 1); !strings.Contains(s.Reason, "too many to look for a number in") {
			t.Errorf("reason %q", s.Reason)
		}
	})
}

// A publisher that died leaves its last word. It does not count for ever, and a
// broker that repeats it makes it no younger; what we say ourselves holds.
func TestAFigureThatIsOld(t *testing.T) {
	inHome(t, strings.Replace(queued, "cooldown", `max_age = "10m", cooldown`, 1)+`
[services.follower]
priority = "required"
scale = { max = 3, metric = "mqtt:dominion/service/worker/status", field = "wanted", target = 1, cooldown = "5s", max_age = "10m" }
`, func(h *home) {
		defer leave(three(h, "worker", "follower"))
		h.publish("home/queue", "20", true)
		time.Sleep(9 * time.Minute)
		if s := h.reached("worker", 2); s.Reason != "required; scaled to 2: home/queue says 20, one takes 10" {
			t.Errorf("reason %q", s.Reason)
		}
		h.hub.Deliver(topics.Message{Topic: "home/queue", Payload: []byte("20"), Retain: true})
		time.Sleep(2 * time.Minute)
		if s := h.reached("worker", 2); s.Reason != "required; stays at 2: home/queue has said nothing for 10m, and 20 before that" {
			t.Errorf("reason %q", s.Reason)
		}
		if s := h.reached("follower", 2); s.Reason != "required; scaled to 2: dominion/service/worker/status says 2, one takes 1" {
			t.Errorf("reason %q", s.Reason)
		}
		h.publish("home/queue", "20", false)
		time.Sleep(10 * time.Second)
		if s := h.reached("worker", 2); s.Reason != "required; stays at 2: home/queue says 20, one takes 10" {
			t.Errorf("reason %q", s.Reason)
		}
		h.publish("home/queue", "30", false)
		time.Sleep(30 * time.Second)
		h.reached("worker", 3)
	})
}

func TestAPersonsNumberBeatsTheFigure(t *testing.T) {
	inHome(t, queued, func(h *home) {
		defer leave(three(h, "worker"))
		h.publish("home/queue", "4", true)
		h.ask(topics.VerbScale, `{"service": "worker", "replicas": 2}`)
		time.Sleep(5 * time.Second)
		if s := h.reached("worker", 2); s.Reason != "required; 2 by order, not by its figure (`scale worker 0` gives it back)" {
			t.Errorf("reason %q", s.Reason)
		}
		h.publish("home/queue", "100", true)
		time.Sleep(time.Minute)
		h.reached("worker", 2)
		if h.saw(topics.ServiceScaled) {
			t.Error("scaled against an order")
		}
		h.ask(topics.VerbScale, `{"service": "worker", "replicas": 0}`)
		time.Sleep(5 * time.Second)
		h.reached("worker", 3) // from the 2 that are there
		h.publish("dominion/service/worker/set", "OFF", false)
		time.Sleep(time.Minute)
		if s := h.reached("worker", 0); s.Reason != "switched off" {
			t.Errorf("reason %q", s.Reason)
		}
		h.publish("dominion/service/worker/set", "ON", false)
		time.Sleep(time.Minute)
		h.reached("worker", 3)
	})
}

// A hub that starts again takes what runs for the number, whatever the figure
// says, and stops nothing of it before a whole cooldown.
func TestNumberSurvivesAHubRestart(t *testing.T) {
	inHome(t, queued, func(h *home) {
		all := three(h, "worker")
		h.publish("home/queue", "30", false)
		time.Sleep(30 * time.Second)
		h.reached("worker", 3)
		for _, a := range all {
			a.quit()
		}
		h.stop()
		for _, a := range all {
			<-a.connection().Done()
		}
		h.start()
		for _, a := range all {
			if err := a.join(); err != nil {
				h.Fatal(err)
			}
		}
		defer leave(all)
		time.Sleep(2 * time.Minute)
		if s := h.reached("worker", 3); s.Reason != "required; stays at 3: nothing was published at home/queue yet" {
			t.Errorf("reason %q", s.Reason)
		}
		for _, a := range all {
			if a.started("worker") != 1 {
				t.Errorf("%s started it %d times", a.name, a.started("worker"))
			}
		}
		h.publish("home/queue", "0", false)
		time.Sleep(25 * time.Second)
		h.reached("worker", 1)
	})
}

func TestAReloadFollowsAnotherTopic(t *testing.T) {
	inHome(t, queued, func(h *home) {
		defer leave(three(h, "worker"))
		h.publish("home/other", `{"jobs": {"waiting": "31"}}`, true)
		time.Sleep(3 * time.Second)
		h.reached("worker", 1)
		h.hub.Reload(load(t, strings.NewReplacer("home/queue", "home/other", "target", `field = "jobs.waiting", target`).Replace(queued)), nil)
		time.Sleep(25 * time.Second)
		if s := h.reached("worker", 3); s.Reason != "required; scaled to 3: home/other says 31, one takes 10" {
			t.Errorf("reason %q", s.Reason)
		}
		h.publish("home/queue", "0", true)
		time.Sleep(time.Minute)
		h.reached("worker", 3)
		t.Log("back, and what was retained meanwhile is heard")
		h.hub.Reload(load(t, queued), nil)
		time.Sleep(25 * time.Second)
		h.reached("worker", 1)
		t.Log("no figure: as the priority says")
		h.hub.Reload(load(t, "[services.worker]\npriority = \"required\""), nil)
		time.Sleep(5 * time.Second)
		if s := h.reached("worker", 3); s.Reason != "required" {
			t.Errorf("reason %q", s.Reason)
		}
	})
}

// A topic of our own is a figure as any other: how many clients a service says
// that it has, or how another service is.
func TestTheNumberFollowsAnotherService(t *testing.T) {
	inHome(t, `
[services.worker]
priority = "required"
scale = { max = 3, metric = "mqtt:dominion/service/web/status", field = "healthy", target = 1, cooldown = "5s" }
[services.web]
priority = "required"
replicas = 2
`, func(h *home) {
		defer leave(three(h, "worker", "web"))
		time.Sleep(10 * time.Second)
		h.reached("worker", 2)
		h.ask(topics.VerbScale, `{"service": "web", "replicas": 3}`)
		time.Sleep(10 * time.Second)
		h.reached("worker", 3)
	})
}

func TestTheNumberFollowsTheProcessor(t *testing.T) {
	inHome(t, `
[services.worker]
priority = "required"
scale = { max = 3, metric = "cpu", target = 0.7 }
`, func(h *home) {
		all := three(h, "worker")
		defer leave(all)
		work := 0.3
		measure := func() { // what the work that there is makes of the instances
			time.Sleep(30 * time.Second)
			n := float64(h.service("worker").Running)
			for _, a := range all {
				m := topics.Metrics{Services: map[string]topics.Usage{}}
				a.mu.Lock()
				if _, runs := a.running["worker"]; runs {
					m.Services["worker"] = topics.Usage{CPU: min(work/n, 1), Memory: 1 << 20}
				}
				a.mu.Unlock()
				a.say(topics.DomainMetrics, string(topics.Encode(m)))
			}
		}
		measure()
		measure()
		if s := h.reached("worker", 1); !strings.HasPrefix(s.Reason, "required; stays at 1: 1 instance uses 0.3 cores, one takes 0.7 cores") {
			t.Errorf("reason %q", s.Reason)
		}
		work = 1.9
		for range 6 {
			measure()
		}
		h.reached("worker", 3)
		if n := h.count(topics.ServiceScaled); n != 2 {
			t.Errorf("%d changes: %s", n, h.story())
		}
		t.Log("no metrics any more: the number stays, and it is said why")
		time.Sleep(3 * time.Minute)
		if s := h.reached("worker", 3); s.Reason != "required; stays at 3: it is not known what it uses on attic, cellar, kitchen" {
			t.Errorf("reason %q", s.Reason)
		}
		work = 0.1
		for range 5 {
			measure()
		}
		h.reached("worker", 1)
	})
}

// A broker of others may not let the hub read a topic: that is a reason, and
// keeps the number.
func TestTopicThatCannotBeSubscribed(t *testing.T) {
	inHome(t, queued, func(h *home) {
		defer leave(three(h, "worker"))
		h.hub.CannotSubscribe("home/queue", errors.New("refused by the broker"))
		time.Sleep(6 * time.Second)
		if s := h.reached("worker", 1); s.Reason != "required; stays at 1: refused by the broker" {
			t.Errorf("reason %q", s.Reason)
		}
		h.publish("home/queue", "12", false)
		time.Sleep(3 * time.Second)
		h.reached("worker", 2)
	})
}
