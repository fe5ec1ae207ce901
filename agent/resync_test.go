package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A domain that obeys an epoch far above its hub's is brought back by resync: it
// joins again, and takes the first command of the epoch that it is granted. What
// runs goes on. The order is obeyed by the run of the agent alone that it names.
func TestResyncBringsALockedOutDomainBack(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web"))
		u.domain(topics.DomainServicesSet, a.command("d1", 900_000, 1, "web"))
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 2, "web", "lamp"))
		time.Sleep(time.Second)
		if got := a.runner.starts(); got != "web" {
			t.Fatalf("it is not locked out: started %q", got)
		}
		session := last[topics.Heartbeat](u, topics.DomainHeartbeat).Session
		joins := func() (n int) {
			u.mu.Lock()
			defer u.mu.Unlock()
			for _, m := range u.received {
				if strings.HasSuffix(m.Topic, "request/join") {
					n++
				}
			}
			return n
		}
		before := joins()
		u.domain(topics.DomainCommand, topics.Command{Transaction: "old", Action: topics.ActionResync, Session: "another"})
		u.domain(topics.DomainCommand, topics.Command{Transaction: "none", Action: topics.ActionResync})
		time.Sleep(3 * time.Second)
		if r := last[topics.Reply](u, topics.DomainResponse); r.Status != topics.StatusError || joins() != before {
			t.Errorf("obeyed for another run: %+v", r)
		}
		for range 20 { // sent again and again
			u.domain(topics.DomainCommand, topics.Command{Transaction: "t", Action: topics.ActionResync, Session: session})
		}
		time.Sleep(3 * time.Second)
		if n := joins() - before; n != 1 {
			t.Errorf("it joined %d times for one resync", n)
		}
		u.domain(topics.DomainServicesSet, a.command("d1", 4, 9))
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 3, "web", "lamp"))
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 2))
		time.Sleep(time.Second)
		if got := a.runner.starts(); got != "web lamp" || a.runner.living() != 2 {
			t.Errorf("started %q, %d live", got, a.runner.living())
		}
		if b := last[topics.Heartbeat](u, topics.DomainHeartbeat); b.Epoch != 5 || b.Generation != 3 {
			t.Errorf("%+v", b)
		}
	})
}
