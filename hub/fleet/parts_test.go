package fleet

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Three losses within ten minutes make a domain flap, for ten minutes after the last one.
func TestFlapping(t *testing.T) {
	for _, c := range []struct {
		what  string
		apart time.Duration
		begin []bool
	}{
		{"often", time.Minute, []bool{false, false, true, false, false}},
		{"seldom", 6 * time.Minute, []bool{false, false, false, false}},
	} {
		h := newHome(t)
		d := h.online("kitchen", "k", "s")
		for n, want := range c.begin {
			if got := h.CountLoss(d, h.now) != ""; got != want {
				t.Errorf("%s: loss %d: it begins %v", c.what, n+1, got)
			}
			h.now = h.now.Add(c.apart)
		}
		if flaps := slices.Contains(c.begin, true); d.Flaps() != flaps || strings.Contains(h.Problem(d), "was lost 3 times within 10 minutes") != flaps {
			t.Errorf("%s: it flaps %v: %s", c.what, d.Flaps(), h.Problem(d))
		}
		e := h.Expire(h.now.Add(flapLifetime - c.apart))
		if d.Flaps() || slices.Contains(e.Changed, "kitchen") != slices.Contains(c.begin, true) {
			t.Errorf("%s: it flaps for good", c.what)
		}
	}
}

// Each machine announces itself for a moment before it joins: one that goes on is lonely.
func TestLonely(t *testing.T) {
	h := newHome(t)
	h.SetAlone(true)
	h.online("kitchen", "k", "s")
	all := []Announcement{
		{Name: "kitchen", ID: "k"},
		{Name: "attic", ID: "a", Dominion: "d9", DominionName: "home", Address: "192.0.2.3"},
		{Name: "cellar", ID: "c"},
		{Name: "No Name"},
	}
	if e := h.Announced(all, h.now); len(e.Lonely) != 0 || h.Next() != h.now.Add(lonelyAfter) {
		t.Errorf("at once: %v, next %v", e.Lonely, h.Next().Sub(h.now))
	}
	h.now = h.now.Add(lonelyAfter)
	h.beat("kitchen", "k", "s", 2)
	if e := h.Expire(h.now); len(e.Lonely) != 2 || !e.Whole {
		t.Errorf("%+v", e)
	}
	if n := h.Count(); n != (topics.DomainCount{Online: 1, Lonely: 2}) {
		t.Errorf("%+v", n)
	}
	v := h.Views()
	if len(v) != 3 || v[1].Name != "attic" || v[1].State != topics.DomainIsLonely ||
		!strings.Contains(v[1].Problem, `belongs to another dominion, "home" with id "d9": to move it here set dominion = "d1"`) ||
		!strings.Contains(v[2].Problem, `cannot join: no other machine reaches a listener for MQTT (listen = ":1883"`) {
		t.Errorf("%+v", v)
	}
	h.SetAlone(false)
	if v := h.Views(); !strings.Contains(v[2].Problem, "does it reach the broker?") {
		t.Error(v[2].Problem)
	}
	if e := h.Announced(all, h.now); len(e.Lonely) != 0 {
		t.Errorf("again: %+v", e)
	}
	h.online("cellar", "c", "s")
	if n := h.Count(); n.Lonely != 1 {
		t.Errorf("%+v", n)
	}
	e := h.Announced(nil, h.now)
	if !e.Whole || !slices.Equal(e.Changed, []string{"attic"}) || h.Count().Lonely != 0 {
		t.Errorf("%+v", e)
	}
}

// A domain whose key was revoked is not asked whether it is switched on.
func TestRevokedDomain(t *testing.T) {
	h := newHome(t)
	h.settle()
	d := h.online("kitchen", "k", "s")
	h.o.RevokedKey = func(id string) string { return map[string]string{"k": "ec5e 0001"}[id] }
	h.Update(d, h.now)
	for _, state := range []topics.DomainState{topics.DomainIsOffline, topics.DomainIsLost} {
		if d.State != state || !strings.Contains(h.Condition(d), "its key ec5e 0001 was revoked") || h.View(d).Problem != h.Condition(d) {
			t.Errorf("it is %s: %s", d.State, h.Condition(d))
		}
		h.pass(time.Minute)
	}
}

// A domain that is away and announces itself cannot join: that is its problem.
func TestLonelyDomain(t *testing.T) {
	h := newHome(t)
	h.settle()
	d := h.online("kitchen", "k", "s")
	h.Announced([]Announcement{{Name: "kitchen", ID: "k"}}, h.now)
	h.pass(time.Minute)
	if d.State != topics.DomainIsLost || !strings.Contains(h.Condition(d), "has not joined") || len(h.Views()) != 1 || h.Count().Lonely != 0 {
		t.Errorf("it is %s: %s", d.State, h.Condition(d))
	}
	h.Announced(nil, h.now)
	if got := h.Condition(d); got != "is lost: "+LookAfter {
		t.Error(got)
	}
}

// Reports raise the hub's epoch and generations above what a domain obeys, and all of them
// together by a bounded step.
func TestReportedPositions(t *testing.T) {
	h := newHome(t)
	d, other := h.online("kitchen", "k", "s"), h.online("attic", "a", "s")
	is := Epoch{Number: 7}
	raise := func(to uint64) (Epoch, bool) {
		d.Heartbeat.Epoch = to
		return h.RaiseEpoch(d, is, h.now)
	}
	if next, changed := raise(7); next != is || changed {
		t.Errorf("%+v %v", next, changed)
	}
	other.Ordered = Order{Generation: 3, Encoded: "x"}
	next, changed := raise(100)
	if next != (Epoch{Number: 101, Raised: 94}) || changed || other.Ordered.Encoded != "" || other.Ordered.Generation != 0 {
		t.Errorf("%+v %v, ordered %+v", next, changed, other.Ordered)
	}
	is = Epoch{Number: 101, Raised: maxRaise - 5}
	for n, want := range []bool{true, false} {
		if next, changed := raise(110); next != is || changed != want || !d.Ahead || len(h.refused) != 1 {
			t.Errorf("%d: %+v %v, refused %v", n, next, changed, h.refused)
		}
	}
	if !strings.Contains(h.Problem(d), "`dominionctl resync kitchen`") {
		t.Error(h.Problem(d))
	}
	if next, changed := raise(50); next != is || !changed || d.Ahead {
		t.Errorf("%+v %v", next, changed)
	}
	claim := func(generation uint64) uint64 {
		d.Heartbeat.Epoch, d.Heartbeat.Generation = 101, generation
		h.ClaimGeneration(d, 101, h.now)
		return d.ObeyedGeneration(101)
	}
	for _, c := range [][2]uint64{{60_000, 60_000}, {200_000, 0}, {101_000, 0}, {99_000, 99_000}, {100_001, 0}} {
		if got := claim(c[0]); got != c[1] {
			t.Errorf("generation %d is believed as %d", c[0], got)
		}
	}
	if d.ObeyedGeneration(102) != 0 {
		t.Error("a generation of another epoch is believed")
	}
	d.Ordered = Order{Generation: 100_002, Encoded: "x"}
	if d.OrderAgain(); d.Ordered.Encoded != "" || d.ObeyedGeneration(101) != 100_001 {
		t.Errorf("%+v, seen %d", d.Ordered, d.ObeyedGeneration(101))
	}
}

// A status that is on its way needs no question; one that does not come is asked for again
// and again, and is one problem.
func TestAwaitedStatus(t *testing.T) {
	h := newHome(t)
	d := h.online("kitchen", "k", "s")
	step := func(lease bool) Question { return d.AwaitStatus(lease, h.now) }
	if q := step(false); q != (Question{}) {
		t.Errorf("it is there: %+v", q)
	}
	d.Heartbeat.Status = 9
	if q := step(false); q != (Question{}) {
		t.Errorf("at once: %+v", q)
	}
	h.now = h.now.Add(statusPatience)
	if q := step(false); !q.Ask || !q.Changed || !strings.Contains(q.Problem, "has not reported what runs on it: it was asked to (") {
		t.Errorf("%+v", q)
	}
	if q := step(true); q != (Question{}) {
		t.Errorf("again at once: %+v", q)
	}
	h.now = h.now.Add(statusAgain)
	if q := step(true); !q.Ask || !q.Changed || q.Problem != "" || !strings.Contains(h.Problem(d), "get no lease") {
		t.Errorf("%+v: %s", q, h.Problem(d))
	}
	d.Status.Seq, d.Available = 9, false
	h.now = h.now.Add(statusAgain)
	if q := step(false); !q.Ask || !q.Changed || !strings.Contains(h.Problem(d), "its availability is not online") {
		t.Errorf("%+v: %s", q, h.Problem(d))
	}
	d.Available = true
	if q := step(false); q != (Question{Changed: true}) || h.Problem(d) != "" {
		t.Errorf("%+v: %s", q, h.Problem(d))
	}
}

// Instances are numbered in the order in which the hub saw them run.
func TestRunningOrder(t *testing.T) {
	h := newHome(t)
	kitchen, attic := h.online("kitchen", "k", "s"), h.online("attic", "a", "s")
	seq := map[string]uint64{}
	runs := func(name, id string, state topics.State, services ...string) {
		seq[name]++
		s := topics.Domain{ID: id, Session: "s", Seq: seq[name]}
		for _, service := range services {
			s.Services = append(s.Services, topics.Instance{Service: service, State: state})
		}
		if err := h.status(name, s); err != nil {
			t.Fatal(err)
		}
	}
	runs("kitchen", "k", topics.Starting, "web")
	runs("attic", "a", topics.Running, "web")
	runs("kitchen", "k", topics.Running, "web")
	runs("attic", "a", topics.Running, "web", "cam")
	if k, a := kitchen.RunningOrder, attic.RunningOrder; k["web"] <= a["web"] || a["cam"] <= k["web"] {
		t.Errorf("kitchen %v, attic %v", k, a)
	}
	was := kitchen.RunningOrder["web"]
	runs("kitchen", "k", topics.Backoff, "web")
	runs("kitchen", "k", topics.Running, "web")
	if is := kitchen.RunningOrder["web"]; is <= was {
		t.Errorf("after it ran anew: %d, was %d", is, was)
	}
}

// A version counts as long as the catalog has had it.
func TestCatalogSince(t *testing.T) {
	h := newHome(t)
	d := h.online("kitchen", "k", "s")
	began := h.now
	for n, c := range []struct {
		version string
		want    time.Duration
	}{{"1", 0}, {"1", 0}, {"2", 2 * time.Second}, {"2", 2 * time.Second}, {"1", 4 * time.Second}} {
		h.now = began.Add(time.Duration(n) * time.Second)
		if err := h.status("kitchen", topics.Domain{ID: "k", Session: "s", Seq: uint64(n), Catalog: []topics.CatalogRow{{Service: "web", Version: c.version}}}); err != nil {
			t.Fatal(err)
		}
		if got := d.CatalogSince["web"].Sub(began); got != c.want || d.CatalogVersion("web") != c.version {
			t.Errorf("%d: version %s since %v, want %v", n, d.CatalogVersion("web"), got, c.want)
		}
	}
}
