package hub_test

import (
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/topics"
)

// A machine that announces itself and joins a moment later was never lonely; one
// that does not join is, once.
func TestLonelyIsWhoDoesNotJoin(t *testing.T) {
	inHome(t, "", func(h *home) {
		kitchen := h.agent("kitchen", nil)
		both := []hub.Lonely{{Name: "kitchen", ID: kitchen.id}, {Name: "shed", ID: topics.NewID()}}
		h.hub.LonelyFound(both)
		time.Sleep(time.Second)
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		h.hub.LonelyFound(both) // its goodbye is on its way
		time.Sleep(time.Second)
		h.hub.LonelyFound(both[1:])
		time.Sleep(time.Minute)
		lonely := map[string]int{}
		h.mu.Lock()
		for _, e := range h.events {
			if e.Type == topics.DomainLonely {
				lonely[e.Domain]++
			}
		}
		h.mu.Unlock()
		if len(lonely) != 1 || lonely["shed"] != 1 {
			h.Errorf("lonely: %v, want shed once", lonely)
		}
		kitchen.leave()
	})
}
