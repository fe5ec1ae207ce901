package hub

import (
	"testing"
	"time"

	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// An exclusive service that waits for its lease is not blamed for it: after a
// start of the hub that may be longer than any change may take.
func TestWaitingForALeaseIsNoTrouble(t *testing.T) {
	now := time.Unix(0, 0)
	d := &domain{name: "kitchen", state: topics.DomainIsOnline}
	g := &given{sent: true, online: true, tried: true, since: now, spec: topics.Spec{Revision: "r", Exclusive: true}}
	late := func(state topics.State, after time.Duration) bool {
		seen := &topics.Instance{Service: "boiler", State: state, Revision: "r"}
		i := rollout.Instance{Domain: "kitchen", Online: true, State: state}
		g.observe(d, seen, 1, &i, now.Add(after))
		return i.Late
	}
	patience := rollout.Patience(g.spec)
	if late(topics.Pending, 2*patience) {
		t.Error("it is late while it waits for a lease")
	}
	if late(topics.Starting, 3*patience-time.Second) {
		t.Error("it is late before its time is over")
	}
	if !late(topics.Starting, 3*patience+time.Second) {
		t.Error("it is never late")
	}
}
