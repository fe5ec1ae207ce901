package ctl

import (
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// A code is asked for, unless the hub takes the machine back that waits under the name, or by the
// label of its key.
func TestNeedsCode(t *testing.T) {
	const reason = "certificate of ours, not in the list"
	all := []topics.DomainView{
		{Name: "pi", State: topics.DomainIsOffline},
		{Name: "pi", State: topics.DomainIsWaiting, Key: "9f3a 11c0 77d2 5e0b", Reason: reason},
		{Name: "tv", State: topics.DomainIsWaiting, Key: "0a3a 11c0 77d2 5e0b"},
	}
	for name, want := range map[string]bool{
		"pi": false, "9f3a 11c0": false, "9F3A11C077D2": false, "9f3a": true,
		"tv": true, "0a3a 11c0": true, "nobody": true,
	} {
		if got := needsCode(all, name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
