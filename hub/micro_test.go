package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// esp lets a microcontroller connect and say what it is.
func (h *home) esp(name, service string, more ...string) {
	h.publish("dominion/domain/"+name+"/availability", "online", true)
	h.publish("dominion/domain/"+name+"/status", fmt.Sprintf(`{"name":%q,"micro":true,"services":[{"service":%q,"state":"running"%s}]}`, name, service, strings.Join(more, "")), true)
}

func (h *home) unplug(name string) {
	h.publish("dominion/domain/"+name+"/availability", "offline", true)
}

// A service that microcontrollers alone have runs like any other: it is what
// another one waits for, it is no problem, and its loss is one, which disturbs
// nothing that runs.
func TestServiceOfAMicrocontroller(t *testing.T) {
	inHome(t, "[services.lamp]\npriority = \"required\"\ndependencies = [\"button\"]\n[services.button]\n", func(h *home) {
		a := h.agent("kitchen", nil, "lamp")
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		defer a.leave()
		time.Sleep(12 * time.Second)
		if s := h.service("lamp"); s.State != topics.Pending || !strings.Contains(s.Reason, "button") {
			h.Errorf("without the button: %+v", s)
		}
		h.esp("esp", "button")
		time.Sleep(5 * time.Second)
		if s := h.service("button"); s.State != topics.Running || s.Reason != "needed by lamp" || s.Wanted != 1 || s.Running != 1 {
			h.Errorf("button: %+v", s)
		}
		if got := h.where("lamp"); got != "[kitchen:running]" {
			h.Errorf("lamp %s", got)
		}

		h.unplug("esp")
		time.Sleep(time.Minute)
		if s := h.service("button"); s.State != topics.Pending || s.Reason != "it is built into esp, which is offline" {
			h.Errorf("the button is away: %+v", s)
		}
		if got := h.where("lamp"); got != "[kitchen:running]" || a.started("lamp") != 1 {
			h.Errorf("lamp %s, started %d times", got, a.started("lamp"))
		}
		h.esp("esp", "button")
		time.Sleep(5 * time.Second)
		if s := h.service("button"); s.State != topics.Running || a.started("lamp") != 1 {
			h.Errorf("back: %+v; lamp started %d times", s, a.started("lamp"))
		}
	})
}

// What a microcontroller runs does not stop because nobody wants it, and is
// not reported as something that is about to.
func TestMicrocontrollerRunsOn(t *testing.T) {
	inHome(t, "[services.button]\n", func(h *home) {
		h.esp("esp", "button")
		time.Sleep(15 * time.Second)
		want := "nothing depends on it; it is built into esp and runs there all the same"
		if s := h.service("button"); s.State != topics.Running || s.Switch != topics.Off || s.Reason != want {
			h.Errorf("%+v", s)
		}
		if r := h.ask(topics.VerbRestart, `{"service":"button"}`); !strings.Contains(r.Error, "built into esp") {
			h.Errorf("restart: %+v", r)
		}
		h.ask(topics.VerbStop, `{"service":"button"}`)
		time.Sleep(time.Second)
		if s := h.service("button"); s.State != topics.Running || !strings.HasPrefix(s.Reason, "switched off; ") {
			h.Errorf("switched off: %+v", s)
		}
		h.unplug("esp")
		time.Sleep(time.Second)
		if s := h.service("button"); s.State != topics.Stopped {
			h.Errorf("away: %+v", s)
		}
		if why := string(h.ask(topics.VerbWhy, `{"service":"button"}`).Data); strings.Contains(why, "running") {
			h.Errorf("away, and said to run: %s", why)
		}
	})
}

// A microdomain that is there cannot be forgotten, one that is away leaves
// nothing behind, and one that was given another name is two until the old
// one is forgotten.
func TestForgetAMicrocontroller(t *testing.T) {
	inHome(t, "[services.button]\n", func(h *home) {
		h.esp("esp", "button")
		time.Sleep(12 * time.Second)
		if r := h.ask(topics.VerbForget, `{"domain":"esp"}`); r.Status == topics.StatusOK {
			h.Error("forgotten while it is there")
		}
		h.unplug("esp")
		h.esp("porch", "button")
		if got := h.where("button"); got != "[porch:running]" {
			h.Errorf("renamed: %s", got)
		}
		if r := h.ask(topics.VerbForget, `{"domain":"esp"}`); r.Status != topics.StatusOK {
			h.Errorf("%+v", r)
		}
		time.Sleep(time.Second)
		h.mu.Lock()
		defer h.mu.Unlock()
		for topic, payload := range h.retained {
			if strings.Contains(topic, "/esp") && payload != "" {
				h.Errorf("left behind: %s %s", topic, payload)
			}
		}
	})
}

// One that reports what cannot be is not believed, and what it reported before stands.
func TestMicrocontrollerThatLies(t *testing.T) {
	inHome(t, "[services.button]\n", func(h *home) {
		h.esp("esp", "button")
		time.Sleep(12 * time.Second)
		for _, status := range []string{
			`{"micro":true,"services":[{"service":"button","state":"on"}]}`,
			`{"micro":true,"services":[{"service":"button","state":"running","port":123456}]}`,
			`{"micro":true,"services":[{"service":"button","state":"running"},{"service":"button","state":"failed"}]}`,
			`{"micro":true,"services":[{"service":"button"`,
			`{"micro":"yes"}`,
		} {
			h.publish("dominion/domain/esp/status", status, true)
			if got := h.where("button"); got != "[esp:running]" {
				h.Errorf("after %s: %s", status, got)
			}
		}
	})
}

// A status that cannot be read is a problem that stands until there is one that
// can be, of a microdomain that is new and of one that is known.
func TestUnreadableStatusOfAMicrodomain(t *testing.T) {
	inHome(t, "[services.button]\n", func(h *home) {
		time.Sleep(15 * time.Second)
		shown := func() (problem string, d topics.DomainView) {
			o, err := topics.Decode[topics.Overview]("", h.ask(topics.VerbStatus, `{}`).Data)
			if err != nil {
				h.Fatal(err)
			}
			for _, p := range o.Problems {
				if strings.HasPrefix(p, "esp: ") {
					problem = p
				}
			}
			for _, v := range o.Domains {
				if v.Name == "esp" {
					d = v
				}
			}
			return problem, d
		}
		const topic = "dominion/domain/esp/status"
		const right = `{"name":"esp","micro":true,"services":[{"service":"button","state":"running"}]}`
		for what, c := range map[string]struct{ status, want string }{
			"no JSON":      {`{"name":`, "dominion/domain/esp/status"},
			"a wrong type": {`{"name":"esp","micro":"yes"}`, "micro"},
			"a wrong word": {`{"name":"esp","micro":true,"services":[{"service":"button","state":"on"}]}`, `field services.state: "on" is not a valid state`},
			"no micro":     {`{"name":"esp"}`, `says "micro": true`},
		} {
			h.publish("dominion/domain/esp/availability", "online", true)
			h.publish(topic, c.status, false)
			time.Sleep(time.Hour)
			problem, d := shown()
			if !strings.Contains(problem, c.want) || !strings.Contains(d.Problem, c.want) || d.State != topics.DomainIsRefused {
				h.Errorf("%s: %q, %+v", what, problem, d)
			}
			h.publish(topic, right, true)
			time.Sleep(time.Second)
			if problem, d := shown(); problem != "" || d.State != topics.DomainIsOnline {
				h.Errorf("%s, corrected: %q, %+v", what, problem, d)
			}
			h.publish(topic, c.status, true)
			time.Sleep(time.Hour)
			if problem, d := shown(); !strings.Contains(problem, c.want) || d.State != topics.DomainIsOnline {
				h.Errorf("%s, of one that is known: %q, %+v", what, problem, d)
			}
			h.publish(topic, "", true)
			if problem, _ := shown(); problem != "" {
				h.Errorf("%s, cleared: %q", what, problem)
			}
			h.unplug("esp")
			if r := h.ask(topics.VerbForget, `{"domain":"esp"}`); r.Error != "" {
				h.Fatal(r.Error)
			}
		}
		h.publish(topic, "{", true)
		if r := h.ask(topics.VerbForget, `{"domain":"esp"}`); r.Error != "" || h.last(topic) != "" {
			h.Errorf("%+v, and there is still %q", r, h.last(topic))
		}
		if problem, d := shown(); problem != "" || d.Name != "" {
			h.Errorf("forgotten: %q, %+v", problem, d)
		}
	})
}
