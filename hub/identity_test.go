package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// transcript are the events so far, without times, a line each.
func (h *home) transcript(types ...topics.EventType) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all strings.Builder
	for _, e := range h.events {
		for _, t := range types {
			if e.Type == t {
				fmt.Fprintf(&all, "%s %s: %s\n", e.Type, e.Domain, e.Message)
			}
		}
	}
	return all.String()
}

func (h *home) wantTranscript(want string, types ...topics.EventType) {
	h.Helper()
	if got := h.transcript(types...); got != want {
		h.Errorf("the events are\n%s\nnot\n%s", got, want)
	}
}

// askJoin asks to join as a machine does.
func (h *home) askJoin(name, id, session string) error {
	h.Helper()
	r := h.ask(topics.VerbJoin, fmt.Sprintf(`{"transaction":"t","id":%q,"name":%q,"session":%q,"address":"192.0.2.66"}`, id, name, session))
	if r.Status != topics.StatusOK {
		return fmt.Errorf("%s", r.Error)
	}
	return nil
}

const lock = `
[services.lock]
priority = "required"
exclusive = true
stop_timeout = "2s"
`

// A machine that says of itself that it has another's id takes nothing from
// that one, in whatever it says it.
func TestAnIDBelongsToOneName(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(5 * time.Second)
		before := h.where("lamp") + h.where("web")
		commands := kitchen.commands
		if err := h.askJoin("mallory", kitchen.id, "m"); err == nil || !strings.Contains(err.Error(), "kitchen") || !strings.Contains(err.Error(), "domain reset") {
			h.Errorf("the join: %v", err)
		}
		status := topics.Domain{ID: kitchen.id, Name: "mallory", Session: "m", Protocol: topics.Protocol, Services: []topics.Instance{}}
		h.publish("dominion/domain/mallory/availability", "online", false)
		h.publish("dominion/domain/mallory/status", string(topics.Encode(status)), false)
		h.publish("dominion/domain/mallory/heartbeat", string(topics.Encode(topics.Heartbeat{ID: kitchen.id, Session: "m", Seq: 1})), false)
		// the same of a machine that has a record, and an id, of its own
		attic := h.agent("attic", nil)
		if err := attic.join(); err != nil {
			h.Fatal(err)
		}
		defer attic.leave()
		status.Name = "attic"
		h.publish("dominion/domain/attic/status", string(topics.Encode(status)), false)
		h.publish("dominion/domain/attic/heartbeat", string(topics.Encode(topics.Heartbeat{ID: kitchen.id, Session: "m", Seq: 1})), false)
		status.Name, status.ID = "kitchen", attic.id
		h.publish("dominion/domain/attic/status", string(topics.Encode(status)), false)
		time.Sleep(5 * time.Second)
		h.wantTranscript(`domain_joined kitchen: kitchen joined
domain_refused mallory: a second machine (id id-of-kitchen at 192.0.2.66) was refused: a machine of this very id runs as kitchen already at 10.0.0.7: if the disk was copied, stop the agent of the copy and run `+"`domain reset`"+` on it, which gives it an id of its own; if this machine just restarted or was renamed, it is taken in a moment
message_refused mallory: cannot take what is published as mallory with id id-of-kitchen: a machine of this very id runs as kitchen already at 10.0.0.7: if the disk was copied, stop the agent of the copy and run `+"`domain reset`"+` on it, which gives it an id of its own; if this machine just restarted or was renamed, it is taken in a moment
message_refused mallory: cannot take what is published as mallory with id id-of-kitchen: a machine of this very id runs as kitchen already at 10.0.0.7: if the disk was copied, stop the agent of the copy and run `+"`domain reset`"+` on it, which gives it an id of its own; if this machine just restarted or was renamed, it is taken in a moment
domain_joined attic: attic joined
message_refused attic: cannot take dominion/domain/attic/status: field id: id-of-kitchen is the id of kitchen
message_refused attic: cannot take what is published as attic with id id-of-kitchen: the name attic belongs to another machine (id id-of-attic at 10.0.0.5): choose another name in domain.toml, or stop that one
message_refused attic: cannot take dominion/domain/attic/status: field name: it says that it is "kitchen"
`, topics.DomainJoined, topics.DomainRefused, topics.MessageRefused, topics.DomainLost, topics.DomainOffline)
		if got := h.where("lamp") + h.where("web"); got != before || kitchen.commands != commands {
			h.Errorf("%s became %s, %d commands", before, got, kitchen.commands-commands)
		}
		if s := h.status().Domains; s.Online != 2 || s.Offline != 0 {
			h.Errorf("%+v", s)
		}
	})
}

// One card in two machines: the first is not disturbed, the copy is refused
// whatever it is called, also when the first is away for a moment.
func TestACopyIsRefusedWhateverItsName(t *testing.T) {
	for _, name := range []string{"kitchen", "attic"} {
		t.Run(name, func(t *testing.T) {
			inHome(t, chain, func(h *home) {
				kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
				if err := kitchen.join(); err != nil {
					h.Fatal(err)
				}
				for range 5 {
					if err := h.askJoin(name, kitchen.id, "copy"); err == nil {
						h.Fatal("the copy is let in")
					}
					time.Sleep(2 * time.Second)
				}
				if n := h.count(topics.DomainRefused); n != 1 {
					h.Errorf("%d events for one copy: %s", n, h.story())
				}
				overview, err := topics.Decode[topics.Overview]("", h.ask(topics.VerbStatus, `{}`).Data)
				if all := strings.Join(overview.Problems, "\n"); err != nil || !strings.Contains(all, name+": a machine of this very id runs as kitchen") || !strings.Contains(all, "domain reset") {
					h.Errorf("the problems: %v %s", err, all)
				}
				// The first begins again: the copy does not take its place meanwhile.
				kitchen.kill()
				if err := h.askJoin(name, kitchen.id, "copy"); err == nil {
					h.Error("the copy takes the place of the first while that is away")
				}
				if err := kitchen.join(); err != nil {
					h.Fatal(err)
				}
				defer kitchen.leave()
				// A machine of its own id is one of its own.
				if err := h.askJoin("attic", "another-id", "copy"); err != nil {
					h.Errorf("after its reset: %v", err)
				}
				if h.saw(topics.DomainLost) {
					h.Error(h.story())
				}
			})
		})
	}
}

// A machine of one id that comes back by another name is one machine.
func TestARenamedMachineIsOneMachine(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen, attic := both(h)
		defer attic.leave()
		time.Sleep(5 * time.Second)
		before := h.where("orchestrator")
		kitchen.leave()
		kitchen.name = "pantry"
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		h.wantTranscript(`domain_joined kitchen: kitchen joined
domain_joined attic: attic joined
domain_offline kitchen: kitchen is offline: its agent stopped or its connection broke; its services stay
domain_renamed pantry: pantry is the machine that was kitchen (id id-of-kitchen): its services and leases follow
domain_returned pantry: pantry is online again
`, topics.DomainJoined, topics.DomainOffline, topics.DomainRenamed, topics.DomainReturned, topics.DomainLost, topics.DomainForgotten, topics.ServiceMoved)
		if got := h.where("lamp") + h.where("web") + h.where("orchestrator"); got != "[pantry:running][pantry:running]"+before {
			h.Errorf("now %s", got)
		}
		if kitchen.started("lamp") != 1 || attic.started("web") != 0 {
			h.Error("something was started again, or elsewhere")
		}
		for _, topic := range h.tree.DomainTopics("kitchen") {
			if got := h.last(topic); got != "" {
				h.Errorf("%s still holds %s", topic, got)
			}
		}
		if s := h.status().Domains; s.Online != 2 || s.Offline != 0 {
			h.Errorf("%+v", s)
		}

		// So it is after a restart of the hub, and a copy of the former name is one.
		kitchen.quit()
		attic.quit()
		h.stop()
		<-kitchen.connection().Done()
		<-attic.connection().Done()
		h.start()
		if err := h.askJoin("kitchen", kitchen.id, "copy"); err == nil {
			h.Error("a copy takes the id of a machine that is waited for")
		}
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		if err := attic.join(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if s := h.status().Domains; s.Online != 2 || s.Offline != 0 {
			h.Errorf("after the restart %+v", s)
		}
	})
}
