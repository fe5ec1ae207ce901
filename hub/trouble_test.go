package hub_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A service that crashes once a minute has a problem from its first crash until
// it has been well for long enough, and its verdict does not follow each state.
func TestCrashLoopIsOneProblem(t *testing.T) {
	inHome(t, `
		[services.web]
		priority = "required"
		traits = ["compute"]
	`, func(h *home) {
		a := h.agent("a", []string{"compute"}, "web")
		if err := a.join(); err != nil {
			t.Fatal(err)
		}
		defer a.leave()
		time.Sleep(15 * time.Second)
		set := func(state topics.State, health topics.Health, message string) {
			a.change("web", func(i *topics.Instance) {
				i.State, i.Health, i.Message, i.NextTry = state, health, message, topics.Time{}
				if state == topics.Backoff {
					i.NextTry = topics.At(time.Now().Add(4 * time.Second))
				}
			})
			synctest.Wait()
		}
		if v := h.service("web"); v.State != topics.Running || v.Problem != "" {
			t.Fatalf("before: %+v", v)
		}
		ready := h.count(topics.ServiceReady)
		for range 3 {
			set(topics.Backoff, topics.UnknownHealth, "exited with code 3; next try in 4 s\nits last line")
			if v := h.service("web"); !strings.Contains(v.Problem, "exited with code 3") {
				t.Fatalf("in backoff: %+v", v)
			} else if strings.Contains(v.Reason+v.Problem+v.LastError.Message, "4 s") || v.Instances[0].NextTry.IsZero() {
				t.Fatalf("what is retained holds a span of time, or no time of the next try: %+v", v)
			}
			set(topics.Starting, topics.UnknownHealth, "")
			if v := h.service("web"); v.Problem != "crashed on a: exited with code 3" {
				t.Fatalf("starting: %+v", v)
			}
			set(topics.Running, topics.Healthy, "")
			a.say(topics.DomainEvent, `{"type":"service_ready","service":"web","message":"ready after 1 s"}`)
			time.Sleep(time.Minute)
			if v := h.service("web"); v.State != topics.Running || v.Problem != "crashed on a: exited with code 3" {
				t.Fatalf("running: %+v", v)
			}
		}
		if n := h.count(topics.ServiceReady); n != ready {
			t.Errorf("%d events tell that it is ready", n-ready)
		}
		time.Sleep(topics.RestartReset - time.Minute - 2*time.Second)
		if v := h.service("web"); v.Problem == "" {
			t.Error("forgiven too early")
		}
		time.Sleep(4 * time.Second)
		if v := h.service("web"); v.Problem != "" {
			t.Errorf("still: %+v", v)
		}
		a.say(topics.DomainEvent, `{"type":"service_ready","service":"web","message":"ready after 1 s"}`)
		synctest.Wait()
		if n := h.count(topics.ServiceReady); n != ready+1 {
			t.Errorf("%d events tell that it is ready", n-ready)
		}
		// An end that was followed by a start at once was never in backoff.
		a.say(topics.DomainEvent, `{"type":"service_crashed","service":"web","message":"exited with code 4; started again"}`)
		time.Sleep(time.Second)
		if v := h.service("web"); !strings.Contains(v.Problem, "exited with code 4") {
			t.Errorf("after an event: %+v", v)
		}
	})
}

// That a service is pending is a problem after some seconds: at each switching
// on it is for a moment.
func TestPendingIsAProblemAfterSomeSeconds(t *testing.T) {
	inHome(t, `
		[services.web]
		priority = "required"
		traits = ["nowhere"]
	`, func(h *home) {
		time.Sleep(15 * time.Second)
		h.publish("dominion/service/web/set", "OFF", false)
		time.Sleep(time.Second)
		h.publish("dominion/service/web/set", "ON", false)
		time.Sleep(time.Second)
		if v := h.service("web"); v.State != topics.Pending || v.Problem != "" {
			t.Errorf("at once: %+v", v)
		}
		time.Sleep(5 * time.Second)
		if v := h.service("web"); v.Problem == "" || v.Problem != v.Reason {
			t.Errorf("after a while: %+v", v)
		}
		h.publish("dominion/service/web/set", "OFF", false)
		time.Sleep(time.Second)
		if v := h.service("web"); v.Problem != "" {
			t.Errorf("switched off: %+v", v)
		}
	})
}
