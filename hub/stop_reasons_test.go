package hub_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const twoCopies = `
[services.web]
replicas = 2
port = 8080
`

// service_stopped has the reason for which the hub had ordered the stop, whatever
// it was; the agent only sees that the service is not in its start command.
func TestServiceStoppedHasAReason(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(h *home, kitchen, attic *agent)
		want string // of attic's event
	}{
		{"switched off", func(h *home, _, _ *agent) { h.publish("dominion/service/web/set", "OFF", false) }, "stopped: switched off"},
		{"drained", func(h *home, _, _ *agent) { h.ask(topics.VerbDrain, `{"domain":"attic"}`) }, "stopped: attic is draining"},
		{"scaled", func(h *home, _, _ *agent) { h.ask(topics.VerbScale, `{"service":"web","replicas":1}`) }, "stopped: one copy too many: kitchen keeps it, "},
		{"gone", func(h *home, _, _ *agent) { h.hub.Reload(load(h.T, ""), nil) }, "stopped: gone from the configuration"},
		{"over a restart of the hub", func(h *home, kitchen, attic *agent) {
			h.stop()
			h.cfg = load(h.T, strings.Replace(twoCopies, "2", "1", 1))
			h.cfg.DataDir = h.dataDir
			h.start()
			for _, a := range []*agent{kitchen, attic} {
				if err := a.rejoin(); err != nil {
					h.Fatal(err)
				}
			}
		}, "stopped: one copy too many: kitchen keeps it, "},
		{"lost and back", func(h *home, kitchen, attic *agent) {
			attic.cut()
			time.Sleep(3 * time.Minute)
			h.ask(topics.VerbScale, `{"service":"web","replicas":1}`)
			time.Sleep(time.Minute)
			if err := attic.rejoin(); err != nil {
				h.Fatal(err)
			}
		}, "stopped: moved away: attic is lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inHome(t, twoCopies, func(h *home) {
				kitchen := h.agent("kitchen", nil, "web")
				attic := h.agent("attic", nil, "web")
				for _, a := range []*agent{kitchen, attic} {
					if err := a.join(); err != nil {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Second)
				}
				c.do(h, kitchen, attic)
				time.Sleep(30 * time.Second)
				attic.mu.Lock()
				running := len(attic.running)
				attic.mu.Unlock()
				if running > 0 {
					t.Fatalf("it still runs: %s", h.where("web"))
				}
				stopped := func(suffix string) string {
					attic.say(topics.DomainEvent, string(topics.Encode(topics.Event{
						At: topics.At(time.Now()), Type: topics.ServiceStopped, Service: "web", Message: "stopped: it is no longer wanted" + suffix,
					})))
					all := h.lastEvents()
					return all[len(all)-1].Message
				}
				const killed = "; killed, because it did not end within 5 s"
				if got := stopped(killed); !strings.HasPrefix(got, c.want) || !strings.HasSuffix(got, killed) {
					t.Errorf("%q, want %q", got, c.want)
				}
				if got := stopped(""); got != "stopped: it is no longer wanted" {
					t.Errorf("a stop that this hub did not order: %q", got)
				}
			})
		})
	}
}
