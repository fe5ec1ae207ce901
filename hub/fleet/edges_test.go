package fleet

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A machine that is waited for is not renamed; one that was is given its start command at
// its new name.
func TestRenamedMachine(t *testing.T) {
	h := newHome(t)
	h.Restore(Domain{Name: "kitchen", ID: "k"}, true)
	if why := h.join("attic", "k", "s"); why == "" {
		t.Error("it is renamed while the hub waits for it")
	}
	h.settle()
	h.Get("kitchen").Ordered = Order{Encoded: "x", Generation: 4}
	if why := h.join("attic", "k", "s"); why != "" {
		t.Fatal(why)
	}
	if o := h.Get("attic").Ordered; o.Encoded != "" || o.Generation != 4 {
		t.Errorf("ordered is %+v", o)
	}
}

// What joined while a machine of before was away stays a copy when that one is silent.
func TestCopyOfAFormerSession(t *testing.T) {
	h := newHome(t)
	h.settle()
	h.Restore(Domain{Name: "kitchen", ID: "k"}, true)
	h.RetainedHeartbeat("kitchen", topics.Heartbeat{ID: "k", Session: "first"})
	h.online("kitchen", "k", "copy")
	if why := h.join("kitchen", "k", "first"); why != "" {
		t.Fatal(why)
	}
	h.pass(lostAfter + time.Second)
	if why := h.join("kitchen", "k", "copy"); why == "" {
		t.Error("the copy may have the name")
	}
}

// A machine that joins is not listed as refused or lonely any more, and has its time to send
// a heartbeat; so has one whose status an external broker delivers.
func TestJoinedMachine(t *testing.T) {
	h := newHome(t)
	h.settle()
	h.online("kitchen", "k", "s")
	h.join("kitchen", "x", "sx")
	h.Announced([]Announcement{{Name: "kitchen", ID: "x"}}, h.now)
	h.pass(lonelyAfter)
	if v := h.Views(); len(v) != 2 || v[1].State != topics.DomainIsRefused {
		t.Errorf("one machine is listed as %+v", v)
	}
	if why := h.join("kitchen", "x", "sx"); why != "" {
		t.Fatal(why)
	}
	if v := h.Views(); len(v) != 1 || !h.Beats(h.Get("kitchen"), h.now) {
		t.Errorf("it sends heartbeats %v, %+v", h.Beats(h.Get("kitchen"), h.now), v)
	}
	if err := h.status("attic", topics.Domain{ID: "a"}); err != nil || !h.Beats(h.Get("attic"), h.now) {
		t.Errorf("one that published its status is silent: %v", err)
	}
}

// A domain that came online is not lonely, whoever says so.
func TestOnlineIsNotLonely(t *testing.T) {
	h := newHome(t)
	h.Announced([]Announcement{{Name: "kitchen", ID: "k"}}, h.now)
	h.pass(lonelyAfter)
	h.SetAvailability("kitchen", true, false, h.now)
	h.beat("kitchen", "k", "s", 1)
	if err := h.status("kitchen", topics.Domain{ID: "k", Session: "s", Protocol: topics.Protocol}); err != nil {
		t.Fatal(err)
	}
	d := h.Get("kitchen")
	h.Update(d, h.now)
	h.SetAvailability("kitchen", false, false, h.now)
	if h.Update(d, h.now); d.State != topics.DomainIsOffline || h.Condition(d) != "" {
		t.Errorf("it is %s: %s", d.State, h.Condition(d))
	}
}

// The announcement of a former name may outlive it: multicast loses what ends it.
func TestRenamedMachineIsNotLonely(t *testing.T) {
	h := newHome(t)
	h.settle()
	h.online("kitchen", "k", "s")
	h.SetAvailability("kitchen", false, false, h.now)
	h.Announced([]Announcement{{Name: "kitchen", ID: "k"}, {Name: "attic", ID: "a"}}, h.now)
	h.online("pantry", "k", "s2")
	h.now = h.now.Add(lonelyAfter)
	h.beat("pantry", "k", "s2", 2)
	if e := h.Expire(h.now); len(e.Lonely) != 1 || e.Lonely[0].Name != "attic" || h.Count().Lonely != 1 {
		t.Errorf("%+v", e.Lonely)
	}
}

// A status that is on its way makes no domain offline. What runs on one that was lost is the
// younger copy, and what it reported is stale meanwhile.
func TestStatusOfALostDomain(t *testing.T) {
	h := newHome(t)
	h.settle()
	runs := func(name, id string, seq uint64) *Domain {
		d := h.online(name, id, "s")
		s := topics.Domain{ID: id, Session: "s", Seq: seq, Protocol: topics.Protocol, Services: []topics.Instance{{Service: "web", State: topics.Running}}}
		if err := h.status(name, s); err != nil {
			t.Fatal(err)
		}
		return d
	}
	kitchen, attic := runs("kitchen", "k", 1), runs("attic", "a", 1)
	kitchen.Heartbeat.Status = 2
	if _, changed := h.Update(kitchen, h.now); changed {
		t.Errorf("it is %s", kitchen.State)
	}
	kitchen.Heartbeat.Status = 0
	if kitchen.RunningOrder["web"] >= attic.RunningOrder["web"] {
		t.Errorf("kitchen %v, attic %v", kitchen.RunningOrder, attic.RunningOrder)
	}
	for range 2 * int(lostAfter/time.Second) {
		h.beat("attic", "a", "s", 2)
		h.pass(time.Second)
	}
	if v := h.View(kitchen); v.State != topics.DomainIsLost || !v.Stale || h.View(attic).Stale {
		t.Errorf("%+v", v)
	}
	h.beat("kitchen", "k", "s", 9)
	h.Update(kitchen, h.now)
	if kitchen.RunningOrder["web"] <= attic.RunningOrder["web"] {
		t.Errorf("kitchen %v, attic %v", kitchen.RunningOrder, attic.RunningOrder)
	}
}

// A domain flaps for some time after its last loss, and that it ends is due.
func TestFlappingEnds(t *testing.T) {
	h := newHome(t)
	d := h.Restore(Domain{Name: "kitchen", ID: "k"}, false)
	for range flapLosses + 1 {
		h.now = h.now.Add(time.Minute)
		h.CountLoss(d, h.now)
	}
	if h.Next().IsZero() {
		t.Error("its end is not due")
	}
	h.Expire(h.now.Add(flapLifetime - time.Second))
	if !d.Flaps() {
		t.Error("it ends after the first time")
	}
}

// Only what the broker had stored is of an earlier run.
func TestGuestsOfThisRun(t *testing.T) {
	h := newHome(t)
	h.SetAvailability("attic", true, false, h.now)
	if h.waiting() {
		t.Error("the hub waits for one that came now")
	}
	h.SetAvailability("lamp", true, true, h.now)
	h.SetUnreadable("lamp", fmt.Errorf("x"), h.now)
	h.now = h.now.Add(guestLifetime)
	if e := h.Expire(h.now); len(e.Offline) != 0 {
		t.Errorf("offline are %v", e.Offline)
	}
	h.SetUnreadable("lamp", nil, h.now)
	h.now = h.now.Add(guestLifetime)
	if e := h.Expire(h.now); !slices.Equal(e.Offline, []string{"lamp"}) {
		t.Errorf("offline are %v", e.Offline)
	}
}

// Another thing that is missing is another problem; what was missing once begins again.
func TestAwaitedAvailability(t *testing.T) {
	h := newHome(t)
	d := h.online("kitchen", "k", "s")
	d.Heartbeat.Status = 9
	d.AwaitStatus(false, h.now)
	h.now = h.now.Add(statusPatience)
	d.AwaitStatus(false, h.now)
	d.Status.Seq, d.Available = 9, false
	h.now = h.now.Add(statusAgain)
	if q := d.AwaitStatus(false, h.now); !q.Changed {
		t.Errorf("%+v", q)
	}
	d.Available = true
	d.AwaitStatus(false, h.now)
	d.Available = false
	h.now = h.now.Add(time.Minute)
	if q := d.AwaitStatus(false, h.now); q.Ask {
		t.Errorf("it is asked at once: %+v", q)
	}
}

// An epoch that no hub ever reaches is not believed, and each epoch begins its generations
// again.
func TestPositionsBeyondReach(t *testing.T) {
	h := newHome(t)
	d := h.online("kitchen", "k", "s")
	is := Epoch{Number: 7, Raised: 7}
	d.Heartbeat.Epoch = math.MaxUint64
	if next, _ := h.RaiseEpoch(d, is, h.now); next != is {
		t.Errorf("%+v", next)
	}
	d.Heartbeat = topics.Heartbeat{Epoch: 7, Generation: maxRaise}
	h.ClaimGeneration(d, 7, h.now)
	d.Heartbeat.Epoch = 8
	next, _ := h.RaiseEpoch(d, is, h.now)
	d.Heartbeat = topics.Heartbeat{Epoch: next.Number, Generation: 5}
	if h.ClaimGeneration(d, next.Number, h.now); d.ObeyedGeneration(next.Number) != 5 {
		t.Errorf("seen is %d", d.ObeyedGeneration(next.Number))
	}
}

// While domains send heartbeats the hub looks often enough to notice when it stood still.
func TestLookInterval(t *testing.T) {
	h := newHome(t)
	h.settle()
	h.online("kitchen", "k", "s")
	if h.Expire(h.now); h.Next() != h.now.Add(h.LookInterval()) {
		t.Errorf("next is in %v", h.Next().Sub(h.now))
	}
}
