package hub_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// commandsTo are the commands that were sent to a domain, by action and session.
func (h *home) commandsTo(domain string) func() string {
	var all []string
	topic := h.tree.Domain(topics.DomainCommand, domain)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answered = func(m topics.Message) {
		if m.Topic == topic {
			if c, err := topics.Decode[topics.Command](m.Topic, m.Payload); err == nil {
				all = append(all, strings.TrimSpace(c.Action+" "+c.Session))
			}
		}
	}
	return func() string {
		h.last("") // waits
		h.mu.Lock()
		defer h.mu.Unlock()
		return strings.Join(all, ", ")
	}
}

// A domain whose status was lost is asked for it, and people are shown it; nothing
// waits in silence.
func TestAMissingStatusIsAskedFor(t *testing.T) {
	inHome(t, lock, func(h *home) {
		commands := h.commandsTo("attic")
		if err := h.askJoin("attic", "id-of-attic", "a"); err != nil {
			h.Fatal(err)
		}
		h.publish("dominion/domain/attic/availability", "online", true)
		for i := range uint64(9) {
			h.publish("dominion/domain/attic/heartbeat", string(topics.Encode(topics.Heartbeat{ID: "id-of-attic", Session: "a", Seq: i, Status: 1})), false)
			time.Sleep(time.Second)
		}
		if got := commands(); got != "report, report" {
			h.Errorf("asked %q", got)
		}
		views, err := topics.Decode[[]topics.DomainView]("", h.ask(topics.VerbDomains, `{}`).Data)
		if err != nil || views[0].Name != "attic" || !strings.Contains(views[0].Problem, "has not reported what runs") {
			h.Errorf("%v %+v", err, views)
		}
		h.publish("dominion/domain/attic/status", `{"id":"id-of-attic","name":"attic","session":"a","seq":1,"protocol":"1.0","services":[],"catalog":[]}`, true)
		for i := range uint64(9) {
			h.publish("dominion/domain/attic/heartbeat", string(topics.Encode(topics.Heartbeat{ID: "id-of-attic", Session: "a", Seq: 9 + i, Status: 1})), false)
			time.Sleep(time.Second)
		}
		if got := commands(); got != "report, report" {
			h.Errorf("asked %q", got)
		}
		if got := h.transcript(topics.DomainJoined); !strings.Contains(got, "attic joined") {
			h.Error(h.story())
		}
	})
}

// A domain whose availability was lost, as by a broker that does not replay it, is asked
// for it as long as it beats.
func TestAMissingAvailabilityIsAskedFor(t *testing.T) {
	inHome(t, lock, func(h *home) {
		sent := h.commandsTo("attic")
		if err := h.askJoin("attic", "id-of-attic", "a"); err != nil {
			h.Fatal(err)
		}
		h.publish("dominion/domain/attic/status", `{"id":"id-of-attic","name":"attic","session":"a","seq":1,"protocol":"1.0","services":[],"catalog":[]}`, true)
		beat := func(from uint64) {
			for i := range uint64(9) {
				h.publish("dominion/domain/attic/heartbeat", string(topics.Encode(topics.Heartbeat{ID: "id-of-attic", Session: "a", Seq: from + i, Status: 1})), false)
				time.Sleep(time.Second)
			}
		}
		beat(0)
		if got := sent(); got != "report, report" {
			h.Errorf("asked %q", got)
		}
		views, err := topics.Decode[[]topics.DomainView]("", h.ask(topics.VerbDomains, `{}`).Data)
		if err != nil || views[0].Name != "attic" || !strings.Contains(views[0].Problem, "its availability is not online") {
			h.Errorf("%v %+v", err, views)
		}
		h.publish("dominion/domain/attic/availability", "online", true)
		views, err = topics.Decode[[]topics.DomainView]("", h.ask(topics.VerbDomains, `{}`).Data)
		if err != nil || views[0].State != topics.DomainIsOnline || views[0].Problem != "" {
			h.Errorf("it is online before the next heartbeat: %v %+v", err, views)
		}
		beat(9)
		if got := sent(); got != "report, report" {
			h.Errorf("asked %q", got)
		}
		if got := h.transcript(topics.DomainJoined); !strings.Contains(got, "attic joined") {
			h.Error(h.story())
		}
	})
}

// resync drops what the hub holds of a domain's command, and has the session that
// beats join again.
func TestResync(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		for domain, want := range map[string]string{"": "needs", "kitchen": "there is no domain"} {
			if r := h.ask(topics.VerbResync, `{"domain":"`+domain+`"}`); r.Status != topics.StatusError || !strings.Contains(r.Error, want) {
				h.Errorf("%q: %+v", domain, r)
			}
		}
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		// A hand that may do everything has it obey what no hub of this home gave.
		kitchen.mu.Lock()
		kitchen.epoch, kitchen.gen = 5_000_000, 1
		kitchen.mu.Unlock()
		h.publish("dominion/service/lamp/set", "OFF", false)
		time.Sleep(7 * time.Second)
		if got := h.where("lamp"); got != "[kitchen:running]" || h.status().Epoch != 1 {
			h.Fatalf("it is not locked out: lamp %s, epoch %d", got, h.status().Epoch)
		}
		if n := strings.Count(h.transcript(topics.MessageRefused), "reports epoch 5000000"); n != 1 {
			h.Errorf("reported %d times", n)
		}
		problems := func() string {
			o, err := topics.Decode[topics.Overview]("", h.ask(topics.VerbStatus, `{}`).Data)
			if err != nil {
				h.Fatal(err)
			}
			return strings.Join(o.Problems, "\n")
		}
		if got := problems(); !strings.Contains(got, "kitchen: reports epoch 5000000") || !strings.Contains(got, "dominionctl resync kitchen") {
			h.Errorf("the problems: %s", got)
		}
		commands := h.commandsTo("kitchen")
		if r := h.ask(topics.VerbResync, `{"domain":"kitchen"}`); r.Status != topics.StatusOK {
			h.Fatalf("%+v", r)
		}
		if got := commands(); got != "resync s" {
			h.Errorf("told %q", got)
		}
		// The agent obeys from the epoch that it is granted.
		kitchen.mu.Lock()
		kitchen.epoch, kitchen.gen = 0, 0
		kitchen.mu.Unlock()
		if err := h.askJoin("kitchen", kitchen.id, "s"); err != nil {
			h.Fatal(err)
		}
		time.Sleep(7 * time.Second)
		if got := h.where("lamp"); got != "[]" || !strings.Contains(h.transcript(topics.DomainResynced), "obeyed epoch 5000000 generation 1, ours is epoch 1") {
			h.Errorf("lamp %s: %s", got, h.story())
		}
		if got := problems(); strings.Contains(got, "epoch") {
			h.Errorf("still a problem: %s", got)
		}
		kitchen.leave()
		time.Sleep(4 * time.Second)
		if r := h.ask(topics.VerbResync, `{"domain":"kitchen"}`); r.Status != topics.StatusError || !strings.Contains(r.Error, "when it joins") {
			h.Errorf("%+v", r)
		}
	})
}
