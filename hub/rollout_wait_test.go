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
	d := &domain{Name: "kitchen", State: topics.DomainIsOnline}
	g := &assignment{sent: true, online: true, tried: true, since: now, spec: topics.Spec{Revision: "r", Exclusive: true}}
	late := func(state topics.State, after time.Duration) bool {
		seen := &topics.Instance{Service: "boiler", State: state, Revision: "r"}
		i := rollout.Instance{Domain: "kitchen", Online: true, State: state}
		g.observe(d, seen, 1, &i, now.Add(after))
		return i.Overdue
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

// A domain that was away while a change was given and taken back finds its
// instance as it runs: one that was restarted for a version is not restarted
// again for nothing.
func TestTakenBackBeforeItWasTaken(t *testing.T) {
	now := time.Unix(0, 0)
	stable := topics.Spec{Revision: "stable"}
	runs := rollout.Revise("stable", "1.2.0", 0)
	d := &domain{Name: "kitchen", State: topics.DomainIsOffline, Status: &topics.Domain{
		Services: []topics.Instance{{Service: "web", State: topics.Running, Health: topics.Healthy, Version: "1.2.0", Revision: runs}},
		Catalog:  []topics.CatalogRow{{Service: "web", Version: "1.2.0"}},
	}}
	d.Assigned = map[string]*assignment{"web": {spec: topics.Spec{Revision: "next"}, identity: "next", tried: true}}
	w := &rolloutStep{service: "web", next: topics.Spec{Revision: "next"}, nextID: "next", stable: &stable, stableID: "stable"}
	new(Hub).assignDefinition(w, d, rollout.Stable, now)
	if g := assignmentsOf(d)["web"]; g.spec.Revision != runs || g.version != "1.2.0" || g.identity != "stable" {
		t.Errorf("it is ordered as %s of %s for version %q, it runs as %s", g.spec.Revision, g.identity, g.version, runs)
	}
}
