package ctl

import (
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// TestWaitersLeaveEachOtherAlone: all answers to a verb come on one topic. One
// that waits is not woken by what another one is answered, or two would keep
// the hub busy for as long as they wait.
func TestWaitersLeaveEachOtherAlone(t *testing.T) {
	hub := newHome(t, nil)
	defer closing(t, hub)
	const waiters, seconds = 3, 2
	var all []*following
	for range waiters {
		all = append(all, follow(t, hub, 0, "start", "backup", "--wait", "--timeout", "2s"))
	}
	for _, f := range all {
		f.ends(ExitFailed)
	}
	hub.mu.Lock()
	defer hub.mu.Unlock()
	looks := 0
	for _, a := range hub.asked {
		if a.what == topics.VerbStatus {
			looks++
		}
	}
	if most := waiters * (seconds + 2); looks > most {
		t.Errorf("the hub was asked how it stands %d times, at most %d are needed", looks, most)
	}
}
