package hub

import (
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// Long messages that come faster than they are handled do not fill the memory.
func TestWhatWaitsIsBounded(t *testing.T) {
	h := town(t, 0, 0)
	long := make([]byte, 1<<20)
	for range 1000 {
		h.Deliver(topics.Message{Topic: "dominion/domain/x/status", Payload: long})
	}
	for range 2 * maxEvents {
		h.Deliver(topics.Message{Topic: "dominion/domain/x/availability"})
	}
	events, dropped := h.box.Take()
	bytes := 0
	for _, e := range events {
		bytes += len(e.(arrived).Payload)
	}
	if bytes > maxWaiting || len(events) > maxEvents || dropped == 0 {
		t.Errorf("%d messages of %d bytes wait", len(events), bytes)
	}
}
