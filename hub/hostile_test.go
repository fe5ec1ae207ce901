package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Garbage is reported a few times a minute, and then that there was more.
func TestGarbageDoesNotFloodTheEvents(t *testing.T) {
	inHome(t, chain, func(h *home) {
		for range 1000 {
			h.publish("dominion/service/web/set", "PERHAPS", false)
		}
		if n := h.count(topics.MessageRefused); n != 20 {
			h.Errorf("%d events for a thousand times the same", n)
		}
		for n := range 1000 {
			h.publish(fmt.Sprintf("dominion/domain/d%d/status", n), "{", false)
		}
		if n := h.count(topics.MessageRefused); n > 200 {
			h.Errorf("%d events for two thousand messages", n)
		}
		time.Sleep(61 * time.Second)
		if got := h.story(); !strings.Contains(got, "more messages of the last minute") {
			h.Error("nobody says that there was more")
		}
		before := h.count(topics.MessageRefused)
		h.publish("dominion/service/web/set", "PERHAPS", false)
		if h.count(topics.MessageRefused) != before+1 {
			h.Error("silent after the minute")
		}
	})
}

// Whoever may publish cannot make the hub remember without end.
func TestNamesAreBounded(t *testing.T) {
	inHome(t, chain, func(h *home) {
		for n := range 5000 {
			topic := fmt.Sprintf("dominion/domain/d%d/", n)
			h.hub.Deliver(topics.Message{Topic: topic + "availability", Payload: []byte("online")})
			h.hub.Deliver(topics.Message{Topic: topic + "heartbeat", Payload: []byte(fmt.Sprintf(`{"id":"%d","session":"s"}`, n))})
		}
		time.Sleep(5 * time.Second) // so many are counted seldom
		if s := h.status().Domains; s.Online+s.Offline != 4096 {
			h.Errorf("%+v domains", s)
		}
		if r := h.ask(topics.VerbJoin, `{"id":"x","name":"another","session":"s"}`); r.Status != topics.StatusError || !strings.Contains(r.Error, "forget") {
			h.Errorf("%+v", r)
		}
	})
}

// An event says what types say, is no longer than an event, and is of the
// domain at whose topic it was.
func TestEventsOfDomainsAreChecked(t *testing.T) {
	inHome(t, chain, func(h *home) {
		topic := "dominion/domain/kitchen/event"
		h.publish(topic, `{"type":"nonsense","message":"x"}`, false)
		h.publish(topic, `{"type":"service_started","service":"a b","message":"x"}`, false)
		if n := h.count(topics.MessageRefused); n != 2 {
			h.Errorf("%d refused", n)
		}
		h.publish(topic, `{"type":"service_started","domain":"attic","service":"web","message":"`+strings.Repeat("ä", 3000)+`"}`, false)
		e := h.event(topics.ServiceStarted)
		if e.Domain != "kitchen" || len(e.Message) > 1100 || !strings.HasPrefix(e.Message, "ää") {
			h.Errorf("%q is of %s", e.Message, e.Domain)
		}
		for range 1000 {
			h.publish(topic, `{"type":"service_crashed","message":"x"}`, false)
		}
		if n := h.count(topics.ServiceCrashed); n > 300 {
			h.Errorf("%d events of one domain in a moment", n)
		}
	})
}

func TestStatusOfNobodysAgent(t *testing.T) {
	inHome(t, chain, func(h *home) {
		for _, s := range []string{
			`{"id":"1","services":[{"service":"web","state":"dancing"}]}`,
			`{"id":"1","services":[{"service":"web","state":"running","health":"fine"}]}`,
			`{"id":"1","services":[{"service":"../web","state":"running"}]}`,
			`{"id":"1","services":[{"service":"web","state":"running"},{"service":"web","state":"running"}]}`,
			`{"id":"1","services":[{"service":"web","state":"running","port":70000}]}`,
			`{"services":[]}`,
		} {
			h.publish("dominion/domain/x/status", s, false)
		}
		if n := h.count(topics.MessageRefused); n != 6 {
			h.Errorf("%d refused: %s", n, h.story())
		}
		if s := h.status().Domains; s != (topics.DomainCount{}) {
			h.Errorf("taken all the same: %+v", s)
		}
	})
}

// A forged heartbeat with a generation that no agent would take does not carry
// the hub's commands beyond what its agents take.
func TestForgedGenerationIsIgnored(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(5500 * time.Millisecond) // between two of its own
		beat := topics.Heartbeat{ID: kitchen.id, Session: "s", Epoch: 1, Generation: ^uint64(0)}
		h.publish("dominion/domain/kitchen/heartbeat", string(topics.Encode(beat)), false)
		h.publish("dominion/service/lamp/set", "OFF", false)
		c := get[topics.StartCommand](h, "dominion/domain/kitchen/services/set")
		if c.Generation == 0 || c.Generation > 1000 || h.where("lamp") != "[]" {
			h.Errorf("generation %d, lamp %s", c.Generation, h.where("lamp"))
		}
	})
}

// A card that was copied with all that is on it: the second machine of one id
// is refused while the first is there, and taken when that has gone.
func TestTwoMachinesOfOneID(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		ask := func(session string) topics.Reply {
			return h.ask(topics.VerbJoin, fmt.Sprintf(`{"id":%q,"name":"kitchen","session":%q}`, kitchen.id, session))
		}
		if r := ask("another"); r.Status != topics.StatusError || !strings.Contains(r.Error, "copied") {
			h.Errorf("the copy: %+v", r)
		}
		if r := ask("s"); r.Status != topics.StatusOK {
			h.Errorf("the same agent, on a new connection: %+v", r)
		}
		kitchen.kill()
		if r := ask("another"); r.Status != topics.StatusOK {
			h.Errorf("after the first has gone: %+v", r)
		}
	})
}

// Nobody says of a domain that never came back that it is offline, but the hub.
func TestOnlineOfAnEarlierRunIsCorrected(t *testing.T) {
	inHome(t, chain, func(h *home) {
		h.hub.Deliver(topics.Message{Topic: "dominion/domain/ghost/availability", Payload: []byte("online"), Retain: true})
		h.hub.Deliver(topics.Message{Topic: "dominion/domain/other/availability", Payload: []byte("online")})
		time.Sleep(20 * time.Second)
		if got := h.last("dominion/domain/ghost/availability"); got != topics.Offline {
			h.Errorf("ghost is %q", got)
		}
		if got := h.last("dominion/domain/other/availability"); got != "" {
			h.Errorf("the hub spoke for one that lives: %q", got)
		}
	})
}

// Who asks waits for an answer, also where the question cannot be read.
func TestUnreadableRequestIsAnswered(t *testing.T) {
	inHome(t, "", func(h *home) {
		for payload, transaction := range map[string]string{
			`{"transaction":"t1","service":5}`:    "t1",
			`{"transaction":"t2","replicas":"x"}`: "t2",
			`{"transaction":3}`:                   "",
			`{"transaction":"t4"`:                 "",
			`[]`:                                  "",
		} {
			if r := h.ask(topics.VerbStart, payload); r.Status != topics.StatusError || r.Transaction != transaction {
				t.Errorf("%s: %+v", payload, r)
			}
		}
	})
}

// An order for what no service can be called is answered by an event, and
// counts as one cause, whatever the names.
func TestOrderForNoName(t *testing.T) {
	inHome(t, chain, func(h *home) {
		for _, topic := range []string{"dominion/service/Lamp/set", "dominion/service/a b/set", "dominion/request/Status", "dominion/service//set"} {
			n := h.count(topics.MessageRefused)
			h.publish(topic, "ON", false)
			if got := h.event(topics.MessageRefused).Message; h.count(topics.MessageRefused) != n+1 || !strings.Contains(got, "cannot obey "+topic) {
				h.Errorf("%s: %q", topic, got)
			}
		}
		n := h.count(topics.MessageRefused)
		for _, topic := range []string{"dominion/service/lamp/set/x", "dominion/service/Lamp/status", "dominion/other", "other/service/Lamp/set"} {
			h.publish(topic, "ON", false)
		}
		for i := range 100 {
			h.publish(fmt.Sprintf("dominion/service/Lamp%d/set", i), "ON", false)
		}
		if got := h.count(topics.MessageRefused) - n; got > 20 {
			h.Errorf("%d events", got)
		}
	})
}

// One that tells its status before its first heartbeat is not lost in between.
func TestStatusBeforeTheFirstHeartbeat(t *testing.T) {
	inHome(t, chain, func(h *home) {
		time.Sleep(15 * time.Second)
		h.publish("dominion/domain/attic/availability", "online", true)
		h.publish("dominion/domain/attic/status", `{"id":"a1","name":"attic","protocol":"1.0","traits":[],"services":[],"catalog":[]}`, false)
		time.Sleep(time.Second)
		h.publish("dominion/domain/attic/heartbeat", `{"id":"a1","session":"s1","seq":1}`, false)
		if h.saw(topics.DomainLost) || !h.saw(topics.DomainJoined) {
			h.Errorf("lost before it could beat:\n%s", h.story())
		}
		time.Sleep(4 * time.Second)
		if !h.saw(topics.DomainLost) {
			h.Error("it beats no more and is not lost")
		}
	})
}
