package hub_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

const chain = `
[services.lamp]
priority = "required"
traits = ["lamp"]
dependencies = ["orchestrator"]
[services.orchestrator]
dependencies = ["web"]
[services.web]
port = 8080
`

func both(h *home) (kitchen, attic *agent) {
	kitchen = h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
	attic = h.agent("attic", nil, "web", "orchestrator")
	for _, a := range []*agent{kitchen, attic} {
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
	}
	return kitchen, attic
}

func TestStartsInOrderAndStopsInReverse(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen, attic := both(h)
		defer kitchen.leave()
		defer attic.leave()
		if got := h.where("web") + h.where("orchestrator") + h.where("lamp"); got != "[kitchen:starting][][]" {
			h.Fatalf("at first: %s", got)
		}
		if got := h.service("lamp"); got.State != topics.Pending || !strings.Contains(got.Reason, "waits for orchestrator") {
			h.Errorf("lamp waits, but its status is %+v", got)
		}
		time.Sleep(time.Second)
		if got := h.where("web") + h.where("orchestrator") + h.where("lamp"); got != "[kitchen:running][attic:starting][]" {
			h.Fatalf("after one second: %s", got)
		}
		time.Sleep(2 * time.Second)
		if got := h.where("web") + h.where("orchestrator") + h.where("lamp"); got != "[kitchen:running][attic:running][kitchen:running]" {
			h.Fatalf("after three seconds: %s", got)
		}
		if got := h.last("dominion/service/web/endpoints"); got != `[{"domain":"kitchen","address":"10.0.0.7","port":20000,"version":"1.0.0","healthy":true}]` {
			h.Errorf("endpoints %s", got)
		}
		if s := h.status(); !s.Ready || s.Domains.Online != 2 || s.Services != (topics.ServiceCount{Wanted: 3, Running: 3}) {
			h.Errorf("hub status %+v", s)
		}
		h.publish("dominion/service/lamp/set", "OFF", false)
		if got := h.where("lamp") + h.where("orchestrator") + h.where("web"); got != "[][][]" {
			h.Errorf("still there: %s", got)
		}
		if s := h.service("web"); s.State != topics.Stopped || s.Switch != topics.Off || s.Wanted != 0 {
			h.Errorf("web %+v", s)
		}
		if got := h.last("dominion/service/web/endpoints"); got != `[]` {
			h.Errorf("endpoints %s", got)
		}
	})
}

func TestLostDomainsServicesMoveAndOneCopyStays(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen, attic := both(h)
		defer kitchen.leave()
		time.Sleep(5 * time.Second)
		if h.where("orchestrator") != "[attic:running]" {
			h.Fatal(h.where("orchestrator"))
		}
		attic.cut()
		time.Sleep(2900 * time.Millisecond)
		if h.saw(topics.DomainLost) || kitchen.started("orchestrator") != 0 {
			h.Fatal("moved before it was lost")
		}
		time.Sleep(1600 * time.Millisecond) // 3 s of silence, 0.5 s lost, and one heartbeat's time
		if kitchen.started("orchestrator") != 1 {
			h.Fatal("did not move within 4.5 s")
		}
		if got := h.last("dominion/domain/attic/availability"); got != topics.Offline {
			h.Errorf("availability of the lost domain is %q", got)
		}
		time.Sleep(time.Second)
		if kitchen.started("lamp") != 1 || kitchen.started("web") != 1 {
			h.Error("the loss of a dependency restarted what needs it, or what it needs")
		}
		attic.quit()
		attic.connection().Close()
		if err := attic.join(); err != nil {
			h.Fatal(err)
		}
		defer attic.leave()
		time.Sleep(3 * time.Second)
		if h.where("orchestrator") != "[kitchen:running]" {
			h.Errorf("one copy should stay, the one in the endpoints: %s", h.where("orchestrator"))
		}
	})
}

func TestAgentRestartMovesNothing(t *testing.T) {
	for name, stop := range map[string]func(*agent){"killed": (*agent).kill, "stopped": (*agent).leave} {
		t.Run(name, func(t *testing.T) {
			inHome(t, chain, func(h *home) {
				kitchen, attic := both(h)
				defer kitchen.leave()
				time.Sleep(5 * time.Second)
				stop(attic)
				if got := h.last("dominion/domain/attic/availability"); got != topics.Offline {
					h.Errorf("availability %q", got)
				}
				if !h.saw(topics.DomainOffline) {
					h.Error("nobody was told")
				}
				time.Sleep(1500 * time.Millisecond) // its last heartbeat may be a second old
				if err := attic.join(); err != nil {
					h.Fatal(err)
				}
				defer attic.leave()
				time.Sleep(10 * time.Second)
				if kitchen.started("orchestrator") != 0 || attic.started("orchestrator") != 1 || h.saw(topics.DomainLost) {
					h.Errorf("kitchen started it %d times, attic %d: %v", kitchen.started("orchestrator"), attic.started("orchestrator"), h.story())
				}
			})
		})
	}
}

// The hub is back and its domains come one after another: it waits for those
// it knew, restarts nothing and moves nothing.
func TestHubRestartMovesNothing(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen, attic := both(h)
		time.Sleep(5 * time.Second)
		was := h.status()
		kitchen.quit()
		attic.quit()
		h.stop()
		<-kitchen.connection().Done()
		<-attic.connection().Done()
		h.start()
		if s := h.status(); s.Epoch != was.Epoch+1 || s.ID != was.ID || s.Ready {
			h.Errorf("after the restart %+v", s)
		}
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(6 * time.Second)
		if h.status().Ready {
			h.Error("did not wait for attic")
		}
		if err := attic.join(); err != nil {
			h.Fatal(err)
		}
		defer attic.leave()
		time.Sleep(time.Second)
		if !h.status().Ready {
			h.Error("waits although everybody is there")
		}
		time.Sleep(10 * time.Second)
		for _, a := range []*agent{kitchen, attic} {
			for _, s := range []string{"lamp", "web", "orchestrator"} {
				if a.started(s) > 1 {
					h.Errorf("%s was started again on %s", s, a.name)
				}
			}
		}
		if kitchen.started("orchestrator")+attic.started("web") != 0 {
			h.Error("something moved")
		}
	})
}

func TestLossIsReportedOnce(t *testing.T) {
	inHome(t, chain, func(h *home) {
		a := h.agent("kitchen", nil)
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		a.leave()
		time.Sleep(5 * time.Second)
		if n := h.count(topics.DomainLost); n != 1 {
			h.Fatalf("the loss was told %d times", n)
		}
		h.stop()
		h.start()
		time.Sleep(20 * time.Second)
		if n := h.count(topics.DomainLost); n != 1 || h.status().Domains.Offline != 1 {
			h.Errorf("after a restart of the hub it was told %d times: %s", n, h.story())
		}
	})
}

func TestSettleEndsWithoutADomainThatStaysAway(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen, attic := both(h)
		time.Sleep(5 * time.Second)
		kitchen.quit()
		attic.quit()
		h.stop()
		<-kitchen.connection().Done()
		<-attic.connection().Done()
		h.start()
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(9 * time.Second)
		if kitchen.started("orchestrator") != 0 {
			h.Fatal("moved while the hub settled")
		}
		time.Sleep(2 * time.Second)
		if kitchen.started("orchestrator") != 1 {
			h.Error("attic stayed away, and its service was not moved")
		}
	})
}

func TestWantsSurviveARestartOfTheHub(t *testing.T) {
	inHome(t, chain, func(h *home) {
		h.publish("dominion/service/lamp/set", "OFF", false)
		h.publish("dominion/service/web/set", `{"replicas": 2}`, false)
		h.publish("dominion/service/web/set", `ON`, false)
		h.stop()
		h.start()
		if s := h.service("lamp"); s.Switch != topics.Off || s.Reason != "switched off" {
			h.Errorf("lamp %+v", s)
		}
		if s := h.service("web"); s.Wanted != 2 {
			h.Errorf("web %+v", s)
		}
	})
}

func TestTwoMachinesOfOneName(t *testing.T) {
	inHome(t, chain, func(h *home) {
		first := h.agent("raspberrypi", []string{"lamp"}, "web")
		if err := first.join(); err != nil {
			h.Fatal(err)
		}
		second := h.agent("raspberrypi", nil, "web")
		second.id = "another-id"
		for range 3 {
			if err := second.join(); err == nil || !strings.Contains(err.Error(), first.id) {
				h.Fatalf("the second machine: %v", err)
			}
			time.Sleep(2 * time.Second)
		}
		if n := h.count(topics.DomainRefused); n != 1 {
			h.Errorf("%d events for one refused machine", n)
		}
		if h.saw(topics.DomainOffline) || h.saw(topics.DomainLost) {
			h.Error("the first machine was disturbed")
		}
		first.leave()
		time.Sleep(4 * time.Second)
		if err := second.join(); err != nil {
			h.Fatalf("the name is free, but: %v", err)
		}
		if err := first.join(); err == nil {
			h.Error("the first took its name back from the second")
		}
		second.leave()
	})
}

// A name is not given away while its owner may still be on its way back.
func TestNameIsReservedWhileTheHubSettles(t *testing.T) {
	inHome(t, chain, func(h *home) {
		first := h.agent("raspberrypi", nil, "web")
		if err := first.join(); err != nil {
			h.Fatal(err)
		}
		first.quit()
		h.stop()
		<-first.connection().Done()
		h.start()
		second := h.agent("raspberrypi", nil, "web")
		second.id = "another-id"
		if err := second.join(); err == nil {
			h.Error("the name was given away")
		}
	})
}

func TestReloadStopsWhatIsGoneAndClearsItsTopics(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen, attic := both(h)
		defer kitchen.leave()
		defer attic.leave()
		time.Sleep(5 * time.Second)
		h.hub.Reload(config.Dominion{}, config.Faults{{Message: "broken"}})
		synctest.Wait()
		if !h.saw(topics.ConfigRefused) || h.where("lamp") != "[kitchen:running]" {
			h.Error("a broken configuration was not refused")
		}
		h.hub.Reload(load(t, "[services.web]\npriority = \"required\"\nport = 8080\n"), nil)
		time.Sleep(3 * time.Second)
		for _, topic := range []string{"dominion/service/lamp/status", "dominion/service/lamp/endpoints", "dominion/service/orchestrator/status"} {
			if got := h.last(topic); got != "" {
				h.Errorf("%s still holds %s", topic, got)
			}
		}
		if got := h.where("web"); got != "[attic:running kitchen:running]" {
			h.Errorf("web %s", got)
		}
		if kitchen.started("web") != 1 {
			h.Error("web was restarted although only its priority changed")
		}
	})
}

func TestForget(t *testing.T) {
	inHome(t, chain, func(h *home) {
		attic := h.agent("attic", nil, "web")
		if err := attic.join(); err != nil {
			h.Fatal(err)
		}
		if r := h.ask(topics.VerbForget, `{"transaction":"f","domain":"attic"}`); r.Status != topics.StatusError {
			h.Error("forgot a domain that is online")
		}
		attic.leave()
		time.Sleep(5 * time.Second)
		if r := h.ask(topics.VerbForget, `{"transaction":"g","domain":"attic"}`); r.Status != topics.StatusOK {
			h.Errorf("%+v", r)
		}
		time.Sleep(5 * time.Second) // it was announced to Home Assistant a moment ago
		for _, topic := range h.tree.DomainTopics("attic") {
			if got := h.last(topic); got != "" {
				h.Errorf("%s still holds %s", topic, got)
			}
		}
		if got := h.status().Domains; got != (topics.DomainCount{}) {
			h.Errorf("%+v", got)
		}
	})
}

// A hub that was restored from a backup gets above what its domains have
// seen; a forged epoch does not carry it away.
func TestEpochExceedsThatOfEveryDomain(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		kitchen.epoch = 1_000_100
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(2 * time.Second)
		if e := h.status().Epoch; e != 1 {
			h.Fatalf("epoch %d", e)
		}
		kitchen.mu.Lock()
		kitchen.epoch = 77
		kitchen.mu.Unlock()
		time.Sleep(2 * time.Second)
		if e := h.status().Epoch; e != 78 {
			h.Fatalf("epoch %d", e)
		}
		time.Sleep(time.Second)
		if kitchen.started("web") == 0 {
			h.Error("its commands are still refused")
		}
	})
}

func TestRefusedOrdersAreReported(t *testing.T) {
	inHome(t, chain, func(h *home) {
		for topic, payload := range map[string]string{
			"dominion/service/web/set":          "PERHAPS",
			"dominion/service/nothing/set":      "ON",
			"dominion/service/lamp/set":         `{"replicas": "two"}`,
			"dominion/service/orchestrator/set": `{"replicas": -1}`,
			"dominion/domain/x/availability":    "sure",
			"dominion/domain/x/status":          `{"services": 3}`,
			"dominion/domain/x/heartbeat":       `{"seq": -1}`,
		} {
			before := h.count(topics.MessageRefused)
			h.publish(topic, payload, false)
			if h.count(topics.MessageRefused) != before+1 {
				h.Errorf("%s %s was not refused", topic, payload)
			}
		}
		h.publish("dominion/service/lamp/set", "OFF", true)
		if s := h.service("lamp"); s.Switch != topics.On {
			h.Error("a retained order was obeyed")
		}
		for verb, want := range map[string]string{"juggle": "there is no request", "start": "needs", "why": "needs"} {
			if r := h.ask(verb, `{"transaction":"x"}`); r.Status != topics.StatusError || !strings.Contains(r.Error, want) || r.Transaction != "x" {
				h.Errorf("%s: %+v", verb, r)
			}
		}
		if r := h.ask(topics.VerbStop, `{"service":"wep"}`); !strings.Contains(r.Error, `"web"`) {
			h.Errorf("no hint: %+v", r)
		}
	})
}

func TestMicrodomain(t *testing.T) {
	inHome(t, "[services.lamp]\npriority = \"required\"\ndependencies = [\"button\"]\n[services.button]\n", func(h *home) {
		a := h.agent("kitchen", nil, "lamp")
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		defer a.leave()
		h.publish("dominion/domain/esp/availability", "online", true)
		h.publish("dominion/domain/esp/status", `{"name":"esp","micro":true,"services":[{"service":"button","state":"running"}]}`, true)
		time.Sleep(2 * time.Second)
		if got := h.where("lamp"); got != "[kitchen:running]" {
			h.Errorf("lamp %s, %s", got, h.service("lamp").Reason)
		}
		if got := h.last("dominion/domain/esp/services/set"); got != "" {
			h.Errorf("a microdomain was given a start command: %s", got)
		}
	})
}

func TestDrain(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen, attic := both(h)
		defer kitchen.leave()
		defer attic.leave()
		time.Sleep(5 * time.Second)
		if r := h.ask(topics.VerbDrain, `{"domain":"attic"}`); r.Status != topics.StatusOK {
			h.Fatalf("%+v", r)
		}
		time.Sleep(500 * time.Millisecond)
		if got := h.where("orchestrator"); got != "[attic:running kitchen:starting]" {
			h.Errorf("the replacement is not healthy yet: %s", got)
		}
		time.Sleep(3 * time.Second)
		if got := h.where("orchestrator"); got != "[kitchen:running]" {
			h.Errorf("drained: %s", got)
		}
		h.ask(topics.VerbUndrain, `{"domain":"attic"}`)
		time.Sleep(3 * time.Second)
		if got := h.where("orchestrator"); got != "[kitchen:running]" {
			h.Errorf("moved back without cause: %s", got)
		}
	})
}

// A row of why has what the domain says of the service, which need not be what
// should be.
func TestWhyShowsTheReasonOfTheDomain(t *testing.T) {
	inHome(t, `
		[services.web]
		priority = "required"
		traits = ["compute"]
	`, func(h *home) {
		a := h.agent("a", []string{"compute"}, "web")
		if err := a.join(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		a.change("web", func(i *topics.Instance) {
			i.State, i.Health, i.Message = topics.Backoff, topics.UnknownHealth, "port 80 is taken"
		})
		synctest.Wait()
		why, err := topics.Decode[topics.Why]("why", h.ask(topics.VerbWhy, `{"transaction":"t","service":"web"}`).Data)
		if err != nil || len(why.Domains) != 1 {
			t.Fatalf("why %+v, %v", why, err)
		}
		if d := why.Domains[0]; !d.Runs || d.State != topics.Backoff {
			t.Errorf("row %+v, want state backoff", d)
		}
	})
}
