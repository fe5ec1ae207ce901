package agent

import (
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A domain obeys the hub that granted its join, whatever orders of another run, another epoch or another
// hub key it has obeyed before: a hub that was restored, also from before its authority was
// replaced. Orders of before that are recorded are not obeyed, however high their epoch is.
func TestObeysARestoredHub(t *testing.T) {
	for name, restore := range map[string]func(t *testing.T, h *testNetwork, u *hub, a *running) *hub{
		"another run": func(_ *testing.T, _ *testNetwork, u *hub, _ *running) *hub {
			return u // by its status
		},
		"resync": func(_ *testing.T, _ *testNetwork, u *hub, _ *running) *hub {
			u.send(u.tree.Hub(topics.HubStatus), "", true) // it is published later
			u.domain(topics.DomainCommand, string(u.signer().command(1, topics.ActionResync, "")))
			return u
		},
		"another authority, by code": func(t *testing.T, h *testNetwork, u *hub, a *running) *hub {
			u.gone()
			u = h.adopting(hubAddr, "d1", 0)
			u.state(func(u *adopter) { u.run, u.code = "run2", a.storedCode() })
			u.send(u.tree.Hub(topics.HubStatus), u.adopts.status(5), true)
			time.Sleep(10 * time.Minute)
			if string(a.trust().Trust.Authority) != string(u.adopts.own.Authority.Root.Raw) {
				t.Fatal("not adopted by the code")
			}
			return u
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTestNetwork(t, func(h *testNetwork) {
				u, a := h.adoptedPi(true)
				before := u.signer()
				send := func(u *hub, order []byte) {
					u.send(u.tree.Domain(topics.DomainServicesSet, "pi"), string(order), false)
					time.Sleep(5 * time.Second)
				}
				send(u, before.start(900, 7, "web"))
				if got := a.runner.starts(); got != "web" {
					t.Fatalf("started %q; events %q", got, u.events())
				}
				u.state(func(u *adopter) { u.run = "run2" })
				u = restore(t, h, u, a)
				if name == "another run" {
					u.send(u.tree.Hub(topics.HubStatus), u.adopts.status(5), false)
				}
				time.Sleep(10 * time.Second)
				now := u.signer()
				now.run = "run2"
				replayed := now // a former order of the key that counts now
				replayed.run = before.run
				send(u, replayed.start(5, 1, "old"))
				send(u, now.start(5, 1, "web", "lamp"))
				if got := a.runner.starts(); got != "web lamp" {
					t.Errorf("started %q; events %q", got, u.events())
				}
				send(u, replayed.start(5, 9, "old"))
				send(u, replayed.start(901, 1, "old"))
				send(u, before.start(901, 1, "old"))
				send(u, now.start(5, 2, "web", "lamp"))
				send(u, now.start(5, 1, "web", "lamp"))
				if got := a.runner.starts(); got != "web lamp" || a.runner.living() != 2 {
					t.Errorf("started %q, %d live; events %q", got, a.runner.living(), u.events())
				}
				if !u.receivedEvent(topics.CommandRefused, "another run of the hub") {
					t.Errorf("the replay is not reported: %q", u.events())
				}
			})
		})
	}
}
