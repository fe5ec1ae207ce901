package hub_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Somebody else's start command was obeyed: the hub puts it right, above it.
func TestForeignCommandIsPutRight(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(4 * time.Second)
		kitchen.mu.Lock()
		foreign := topics.StartCommand{Domain: kitchen.id, Epoch: kitchen.epoch, Generation: kitchen.gen + 50}
		kitchen.mu.Unlock()
		kitchen.obey(foreign)
		time.Sleep(6 * time.Second)
		if got := h.where("lamp"); got != "[kitchen:running]" || kitchen.started("lamp") != 2 || !h.saw(topics.EpochRaised) {
			h.Errorf("lamp %s, started %d times", got, kitchen.started("lamp"))
		}
	})
}

// A hub whose data_dir is older than its domains disturbs nothing of what
// runs: no domain is ordered to stop what it has not reported yet.
func TestFirstCommandStopsNothing(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		for _, s := range []string{"lamp", "web", "orchestrator"} {
			kitchen.running[s] = topics.Instance{Service: s, State: topics.Running, Health: topics.Healthy, Version: "1.0.0", Revision: revision(t, s)}
		}
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(5 * time.Second)
		if n := kitchen.started("lamp") + kitchen.started("web") + kitchen.started("orchestrator"); n != 0 || h.where("web") != "[kitchen:running]" {
			h.Errorf("%d services were started again; web %s", n, h.where("web"))
		}
	})
}

// revision is that of a service of chain, as the hub orders it.
func revision(t *testing.T, service string) string {
	for _, d := range load(t, chain).Services {
		if d.Name == service {
			return d.Spec(nil).Revision
		}
	}
	t.Fatal("no service " + service)
	return ""
}

// Status and availability of a domain came retained before its record was
// made: a live heartbeat is enough to take it as it is.
func TestRetainedStatusOfAnUnknownDomainCounts(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		status := `{"id":"id-of-kitchen","name":"kitchen","protocol":"1.0","traits":["lamp"],"services":[],"catalog":[{"service":"web"}]}`
		h.hub.Deliver(topics.Message{Topic: "dominion/domain/kitchen/availability", Payload: []byte("online"), Retain: true})
		h.hub.Deliver(topics.Message{Topic: "dominion/domain/kitchen/status", Payload: []byte(status), Retain: true})
		h.hub.Deliver(topics.Message{Topic: "dominion/domain/kitchen/heartbeat", Payload: topics.Encode(topics.Heartbeat{ID: kitchen.id, Session: "s", Seq: 9})})
		if s := h.status(); s.Domains.Online != 1 {
			h.Errorf("%+v", s)
		}
	})
}

// A full card: orders are obeyed all the same, reported as not persisted, and
// written as soon as that works.
func TestDiskThatTakesNothing(t *testing.T) {
	inHome(t, chain, func(h *home) {
		file := filepath.Join(h.cfg.DataDir, "hub.json")
		if err := os.Remove(file); err != nil {
			h.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(file, "in the way"), 0o700); err != nil {
			h.Fatal(err)
		}
		h.publish("dominion/service/lamp/set", "OFF", false)
		if s := h.service("lamp"); s.Switch != topics.Off || !h.saw(topics.HubProblem) {
			h.Errorf("not obeyed, or not said: %+v", s)
		}
		if r := h.ask(topics.VerbStatus, `{}`); !strings.Contains(string(r.Data), "not kept over a restart") {
			h.Errorf("status shows no problem: %s", r.Data)
		}
		if err := os.RemoveAll(file); err != nil {
			h.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), `"OFF"`) {
			h.Errorf("not written later: %s %v", b, err)
		}
	})
}

// This home was announced to Home Assistant until it was switched off in the
// configuration: what is left of that in the broker is cleared.
func TestHomeAssistantSwitchedOff(t *testing.T) {
	inHome(t, chain+"[homeassistant]\nenabled = false\n", func(h *home) {
		topic := "homeassistant/device/dominion_" + h.hub.ID()[:8] + "_service_lamp/config"
		h.stop()
		h.before = []topics.Message{{Topic: topic, Payload: []byte("{}"), QoS: 1, Retain: true}}
		h.start()
		time.Sleep(15 * time.Second)
		if got := h.last(topic); got != "" {
			h.Errorf("%s is still %s", topic, got)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for topic, payload := range h.retained {
			if strings.HasPrefix(topic, "homeassistant/") && payload != "" {
				h.Errorf("%s is told of", topic)
			}
		}
	})
}

// A hub that has lost its memory finds by what the broker has retained that there
// is more to come: it starts nothing before that is there.
func TestHubWithoutStateWaitsForRetainedMessages(t *testing.T) {
	inHome(t, "[services.web]\npriority = \"required\"\nreplicas = 1\n", func(h *home) {
		h.stop()
		if err := os.Remove(filepath.Join(h.cfg.DataDir, "hub.json")); err != nil {
			h.Fatal(err)
		}
		h.before = []topics.Message{{Topic: "dominion/domain/kitchen/availability", Payload: []byte("online"), QoS: 1, Retain: true}}
		h.start()
		attic := h.agent("attic", nil, "web")
		if err := attic.join(); err != nil {
			h.Fatal(err)
		}
		defer attic.leave()
		time.Sleep(2500 * time.Millisecond)
		kitchen := h.agent("kitchen", nil, "web")
		kitchen.running["web"] = topics.Instance{Service: "web", State: topics.Running, Health: topics.Healthy}
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(2 * time.Second)
		if !h.status().Ready || attic.started("web") != 0 {
			h.Errorf("ready %v, web was started %d times in the attic", h.status().Ready, attic.started("web"))
		}
	})
}

// One that never comes is waited for no longer than it takes to settle, and a
// domain that was lost before is not lost again at each start.
func TestWhatNeverComesIsNotWaitedForLong(t *testing.T) {
	inHome(t, chain, func(h *home) {
		attic := h.agent("attic", nil, "web")
		if err := attic.join(); err != nil {
			h.Fatal(err)
		}
		attic.leave()
		time.Sleep(5 * time.Second)
		if n := h.count(topics.DomainLost); n != 1 {
			h.Errorf("lost %d times", n)
		}
		h.stop()
		h.before = []topics.Message{{Topic: "dominion/domain/ghost/availability", Payload: []byte("online"), QoS: 1, Retain: true}}
		h.start()
		if h.status().Ready {
			h.Error("did not wait")
		}
		time.Sleep(10*time.Second + time.Millisecond)
		if n := h.count(topics.DomainLost); !h.status().Ready || n != 1 {
			h.Errorf("ready %v, lost %d times", h.status().Ready, n)
		}
	})
}
