package agent

import (
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A hub of several addresses is found at whichever answers, and at the next one
// when that is gone.
func TestSeveralAddresses(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		h.hub("192.0.2.2:1883", "d1", 5)
		nodes := []*hub{h.hub("192.0.2.4:1883", "d1", 5), h.hub("192.0.2.5:1883", "d1", 5)}
		h.agent(t.TempDir(), func(o *Options) {
			o.Config.Hub = "192.0.2.1:1883,mqtt://192.0.2.2:1883,192.0.2.3:1883,192.0.2.4:1883,192.0.2.5:1883"
		})
		time.Sleep(10 * time.Second)
		h.mu.Lock()
		second := h.brokers["192.0.2.2:1883"]
		h.mu.Unlock()
		if len(second.of(topics.DomainHeartbeat)) == 0 {
			t.Fatal("not joined at the second address")
		}
		for _, n := range nodes {
			if len(n.of(topics.DomainHeartbeat)) != 0 {
				t.Errorf("it also joined at %s", n.addr)
			}
			n.gone()
		}
		third := h.hub("192.0.2.3:1883", "d1", 6)
		time.Sleep(time.Minute)
		if len(third.of(topics.DomainHeartbeat)) != 0 {
			t.Error("it left a hub that is there")
		}
		second.gone()
		time.Sleep(15 * time.Second)
		if len(third.of(topics.DomainHeartbeat)) == 0 {
			t.Error("not joined at the third address")
		}
		first := h.hub("192.0.2.1:1883", "d1", 7)
		third.gone()
		time.Sleep(15 * time.Second)
		if len(first.of(topics.DomainHeartbeat)) == 0 {
			t.Error("not joined at the first address")
		}
	})
}

// A hub whose will was never published is taken for gone by its silence, and the
// agent looks for it at its other addresses; one whose broker is its own says
// nothing, and is not.
func TestHubThatIsSilent(t *testing.T) {
	for _, alive := range []time.Duration{0, 5 * time.Second} {
		inTestNetwork(t, func(h *testNetwork) {
			u := h.hub(hubAddr, "d1", 5)
			u.answer = func(a topics.HubRequest) (topics.Reply, bool) {
				return topics.Accept(a.Transaction, topics.Grant{Dominion: "d1", Name: "home", Epoch: 5, Alive: topics.Seconds(alive)}), true
			}
			h.agent(t.TempDir(), func(o *Options) { o.Config.Hub = hubAddr + ",192.0.2.2:1883" })
			time.Sleep(10 * time.Second)
			for range 20 { // it is there
				u.send(u.tree.Hub(topics.HubAvailability), topics.Online, false)
				time.Sleep(5 * time.Second)
			}
			if n := h.log.count("lonely"); n != 0 {
				t.Errorf("alive %v: lonely while the hub is there", alive)
			}
			u.answer = func(topics.HubRequest) (topics.Reply, bool) { return topics.Reply{}, false } // it died, and its node with its will
			v := h.hub("192.0.2.2:1883", "d1", 6)
			time.Sleep(time.Minute)
			if moved := len(v.of(topics.DomainHeartbeat)) > 0; moved != (alive > 0) {
				t.Errorf("alive %v: it moved to the other address: %v", alive, moved)
			}
		})
	}
}
