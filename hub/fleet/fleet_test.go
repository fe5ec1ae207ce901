package fleet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const (
	lostAfter     = 3 * time.Second
	failoverAfter = 30 * time.Second
)

// home is a fleet whose time the tests set, and what it had refused.
type home struct {
	*testing.T
	*Fleet
	now     time.Time
	admins  []string
	users   []string
	refused []string // causes
}

func newHome(t *testing.T) *home {
	h := &home{T: t, now: time.Now()}
	h.Fleet = New(Options{
		Embedded: true,
		Dominion: "d1", LostAfter: lostAfter, FailoverAfter: failoverAfter,
		IsAdmin: func(user string) bool { return slices.Contains(h.admins, user) },
		IsUser:  func(user string) bool { return slices.Contains(h.users, user) },
		Refuse:  func(cause string, _ topics.Event, _ time.Time) { h.refused = append(h.refused, cause) },
	})
	return h
}

// settle ends the wait for the domains.
func (h *home) settle() {
	h.Settle(0, h.now)
	h.Expire(h.now)
}

// join has a machine ask for a name, and returns why it may not have it.
func (h *home) join(name, id, session string) string {
	_, _, err := h.Join(topics.HubRequest{Name: name, ID: id, Session: session}, "", h.now)
	if err != nil {
		return err.Error()
	}
	return ""
}

// beat has a machine send a heartbeat, and reports whether it was taken.
func (h *home) beat(name, id, session string, seq uint64) bool {
	d := h.Sender(Claim{Name: name, ID: id, Session: session}, h.now).Domain
	if d == nil {
		return false
	}
	h.Beat(d, topics.Heartbeat{ID: id, Session: session, Seq: seq}, h.now)
	return true
}

func (h *home) status(name string, s topics.Domain) error {
	_, _, err := h.TakeStatus(name, Report{Topic: "status", Status: s}, h.now)
	return err
}

// online has a machine join and be online.
func (h *home) online(name, id, session string) *Domain {
	h.Helper()
	if why := h.join(name, id, session); why != "" {
		h.Fatal(why)
	}
	h.SetAvailability(name, true, false, h.now)
	if !h.beat(name, id, session, 1) {
		h.Fatal("its heartbeat is not taken")
	}
	if err := h.status(name, topics.Domain{ID: id, Name: name, Session: session, Protocol: topics.Protocol, Address: "192.0.2.7"}); err != nil {
		h.Fatal(err)
	}
	d := h.Get(name)
	h.Update(d, h.now)
	if d.State != topics.DomainIsOnline {
		h.Fatalf("%s is %s", name, d.State)
	}
	return d
}

// pass lets time pass without a message, as the hub's loop does, and returns the names of
// the domains that became something else, with their states.
func (h *home) pass(long time.Duration) (all []string) {
	h.Helper()
	end := h.now.Add(long)
	for {
		e := h.Expire(h.now)
		for _, t := range e.Transitions {
			if t.Domain.State == topics.DomainIsLost {
				h.CountLoss(t.Domain, h.now)
			}
			all = append(all, t.Domain.Name+" "+string(t.Domain.State))
		}
		next := h.Next()
		if !next.IsZero() && !next.After(h.now) {
			h.Fatalf("something is due %v before it was done", h.now.Sub(next))
		}
		if next.IsZero() || next.After(end) {
			h.now = end
			return all
		}
		h.now = next
	}
}

// A will makes a domain offline, silence makes it lost, and failover_after later it is gone.
func TestStateOfADomain(t *testing.T) {
	h := newHome(t)
	d := h.online("kitchen", "k", "s")
	if d.WasOnline == false || d.Since != h.now {
		t.Errorf("it was online %v since %v", d.WasOnline, d.Since)
	}
	h.SetAvailability("kitchen", false, false, h.now)
	if got, _ := h.Update(d, h.now); got.Was != topics.DomainIsOnline || d.State != topics.DomainIsOffline {
		t.Errorf("after its will it is %s, and was %s", d.State, got.Was)
	}
	if got := h.pass(time.Minute); len(got) != 0 {
		t.Errorf("before all domains are there: %v", got)
	}
	h.Settle(0, h.now)
	if got := h.pass(time.Second); !slices.Equal(got, []string{"kitchen lost"}) || d.Gone {
		t.Errorf("after the hub settled: %v, gone %v", got, d.Gone)
	}
	h.pass(failoverAfter)
	if !d.Gone {
		t.Error("it is not gone")
	}
	h.beat("kitchen", "k", "s", 2)
	h.SetAvailability("kitchen", true, false, h.now)
	if got, changed := h.Update(d, h.now); !changed || got.First || d.State != topics.DomainIsOnline || d.Gone {
		t.Errorf("when it is back: %+v, %s, gone %v", got, d.State, d.Gone)
	}
	if got := h.pass(lostAfter + time.Second); !slices.Equal(got, []string{"kitchen lost"}) {
		t.Errorf("after silence: %v", got)
	}
}

// A microdomain sends no heartbeats: its availability alone makes it online, nothing lost.
// What the broker had stored of it is corrected once the hub has waited.
func TestMicrodomain(t *testing.T) {
	h := newHome(t)
	h.SetAvailability("lamp", true, true, h.now)
	if err := h.status("lamp", topics.Domain{Micro: true}); err != nil {
		t.Fatal(err)
	}
	d := h.Get("lamp")
	if h.Update(d, h.now); d.State != topics.DomainIsOnline {
		t.Errorf("it is %s", d.State)
	}
	if h.beat("lamp", "l", "s", 1) {
		t.Error("a heartbeat is taken for one of it")
	}
	if why := h.join("lamp", "l", "s"); !strings.Contains(why, "belongs to a microdomain") {
		t.Errorf("a machine may have its name: %s", why)
	}
	h.Settle(time.Minute, h.now)
	if e := h.Expire(h.now); !e.Ready || len(e.Offline) != 0 || h.Next() != h.now.Add(guestLifetime) && h.Next() != h.now.Add(time.Minute) {
		t.Errorf("%+v, next %v", e, h.Next().Sub(h.now))
	}
	h.now = h.now.Add(time.Minute)
	if e := h.Expire(h.now); !slices.Equal(e.Offline, []string{"lamp"}) || d.State != topics.DomainIsOffline {
		t.Errorf("%+v, it is %s", e, d.State)
	}
	h.SetAvailability("lamp", true, false, h.now)
	h.Update(d, h.now)
	if got := h.pass(time.Hour); len(got) != 0 || d.State != topics.DomainIsOnline {
		t.Errorf("%v, it is %s", got, d.State)
	}
	if !d.Withdraw() || d.Withdraw() {
		t.Error("offline is to be published once")
	}
}

// The time in which the hub did nothing is no silence.
func TestStoodStill(t *testing.T) {
	h := newHome(t)
	h.settle()
	d := h.online("kitchen", "k", "s")
	since := h.now
	h.now = h.now.Add(time.Minute)
	if !h.StoodStill(since, time.Minute) {
		t.Error("no domain would be lost")
	}
	if h.Update(d, h.now); d.State != topics.DomainIsOnline {
		t.Errorf("it is %s", d.State)
	}
	h.now = h.now.Add(time.Minute)
	if h.Connected(h.now); !h.Beats(d, h.now) {
		t.Error("a connection gives it no time")
	}
	h.pass(lostAfter + time.Second)
	if h.Connected(h.now); d.State != topics.DomainIsLost || h.Beats(d, h.now) {
		t.Errorf("it is %s, and a connection makes it send heartbeats", d.State)
	}
}

// Until the hub is ready, those that were there before are waited for, and those that the
// broker calls online.
func TestWaiting(t *testing.T) {
	h := newHome(t)
	h.Restore(Domain{Name: "gone", ID: "g"}, false)
	if h.waiting() {
		t.Error("it waits for one that was lost")
	}
	h.Restore(Domain{Name: "kitchen", ID: "k"}, true)
	if !h.waiting() {
		t.Error("it does not wait")
	}
	if why := h.join("kitchen", "other", "x"); !strings.Contains(why, "belongs to another machine (id k)") {
		t.Errorf("another machine may have its name: %s", why)
	}
	h.online("kitchen", "k", "s")
	if h.waiting() {
		t.Error("it waits for nobody")
	}
	h.SetAvailability("attic", true, true, h.now)
	if !h.waiting() {
		t.Error("it does not wait for one that the broker calls online")
	}
	h.now = h.now.Add(guestLifetime)
	if e := h.Expire(h.now); !slices.Equal(e.Offline, []string{"attic"}) || h.waiting() {
		t.Errorf("offline are %v", e.Offline)
	}
}

// Once all that were there are there again the hub is ready, at the latest when its time is
// over. Those that were lost before may be back until then.
func TestSettling(t *testing.T) {
	for what, back := range map[string]bool{"all are back": true, "one is not": false} {
		h := newHome(t)
		lost := h.Restore(Domain{Name: "gone", ID: "g", State: topics.DomainIsLost}, false)
		h.Restore(Domain{Name: "kitchen", ID: "k"}, true)
		if e := h.Expire(h.now.Add(time.Hour)); e.Ready || h.Ready() {
			t.Errorf("%s: it is ready without a connection", what)
		}
		if !h.Settle(10*time.Second, h.now) || h.Settle(time.Hour, h.now) {
			t.Errorf("%s: the wait does not begin once", what)
		}
		if e := h.Expire(h.now); e.Ready || h.Next().After(h.now.Add(10*time.Second)) {
			t.Errorf("%s: it does not wait: %+v", what, e)
		}
		if back {
			h.online("kitchen", "k", "s")
			if e := h.Expire(h.now); !e.Ready || !h.Ready() || !h.Awaits(lost) {
				t.Errorf("%s: %+v, awaits %v", what, e, h.Awaits(lost))
			}
		}
		e := h.Expire(h.now.Add(10 * time.Second))
		if e.Ready == back || !h.Ready() || e.Whole != back || h.Awaits(lost) {
			t.Errorf("%s: when its time is over: %+v, awaits %v", what, e, h.Awaits(lost))
		}
		if h.Stop(); h.Ready() {
			t.Errorf("%s: it is ready while it stops", what)
		}
	}
}

// What is stored of a domain waits for its first sign of life, and is its own then.
func TestStoredStatusWaits(t *testing.T) {
	h := newHome(t)
	h.SetAvailability("kitchen", true, true, h.now)
	stored := topics.Domain{ID: "k", Name: "kitchen", Session: "s", Protocol: topics.Protocol}
	if a, taken, err := h.TakeStatus("kitchen", Report{Retained: true, Status: stored}, h.now); taken || a.Domain != nil || err != nil {
		t.Errorf("it is taken: %v %v %v", a, taken, err)
	}
	for id, want := range map[string]bool{"k": true, "other": false} {
		f := *h.Fleet
		f.domains = make(map[string]*Domain)
		f.guests = newGuests()
		f.guests.availability["kitchen"] = h.guests.availability["kitchen"]
		f.guests.status["kitchen"] = h.guests.status["kitchen"]
		d := f.Sender(Claim{Name: "kitchen", ID: id, Session: "s"}, h.now).Domain
		if d == nil || !d.Available || (d.Status != nil) != want {
			t.Errorf("of id %s: %+v", id, d)
		}
	}
}

// What cannot be taken is refused with the field.
func TestRefusedStatuses(t *testing.T) {
	h := newHome(t)
	h.online("kitchen", "k", "s")
	h.online("attic", "a", "s")
	instance := topics.Instance{Service: "web", State: topics.Running}
	for what, s := range map[string]topics.Domain{
		"services.service is missing":  {ID: "k", Services: []topics.Instance{{State: topics.Running}}},
		"web is there twice":           {ID: "k", Services: []topics.Instance{instance, instance}},
		"is not a valid state":         {ID: "k", Services: []topics.Instance{{Service: "web", State: "merry"}}},
		"is not a valid health":        {ID: "k", Services: []topics.Instance{{Service: "web", State: topics.Running, Health: "merry"}}},
		"\"id\" must have 1 to 64":     {},
		"is the id of attic":           {ID: "a"},
		"field name":                   {ID: "k", Name: "attic"},
		"a microdomain uses the name":  {Micro: true},
		"must have 1 to 64 characters": {ID: strings.Repeat("x", 65)},
	} {
		if err := h.status("kitchen", s); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	old := topics.Domain{ID: "k", Session: "s", Seq: 4, Address: "192.0.2.1"}
	if err := h.status("kitchen", old); err != nil {
		t.Fatal(err)
	}
	old.Seq, old.Address = 3, "192.0.2.2"
	if _, taken, err := h.TakeStatus("kitchen", Report{Status: old}, h.now); taken || err != nil || h.Get("kitchen").address() != "192.0.2.1" {
		t.Errorf("an older one: taken %v, %v", taken, err)
	}
}

// A status that cannot be read is shown until another one is, also of a name that never
// became a domain, and forgotten with it.
func TestUnreadableStatus(t *testing.T) {
	h := newHome(t)
	bad := fmt.Errorf("field x")
	h.SetAvailability("lamp", true, true, h.now)
	if !h.SetUnreadable("lamp", bad, h.now) || h.SetUnreadable("lamp", bad, h.now) || h.SetUnreadable("other", nil, h.now) {
		t.Error("it is not reported as changed once")
	}
	if e := h.Expire(h.now.Add(guestLifetime)); len(e.Offline) != 0 {
		t.Errorf("offline are %v", e.Offline)
	}
	v := h.Views()
	if len(v) != 1 || v[0].State != topics.DomainIsRefused || !strings.Contains(v[0].Problem, "was not taken: field x; correct it") {
		t.Errorf("%+v", v)
	}
	if d, err := h.Forget("lamp", false, h.now); d != nil || err != nil || len(h.Views()) != 0 {
		t.Errorf("%v %v %v", d, err, h.Views())
	}
	if _, err := h.Forget("lamp", false, h.now); err == nil {
		t.Error("it is forgotten twice")
	}
	d := h.online("kitchen", "k", "s")
	h.SetUnreadable("kitchen", bad, h.now)
	if !strings.Contains(h.Condition(d), "was not taken") {
		t.Error(h.Condition(d))
	}
	if !h.SetUnreadable("kitchen", nil, h.now) || h.Condition(d) != "" {
		t.Error(h.Condition(d))
	}
}

// What strangers can make the fleet remember is bounded.
func TestBounds(t *testing.T) {
	h := newHome(t)
	h.online("kitchen", "k", "s")
	for n := range 5000 {
		name := fmt.Sprintf("g%d", n)
		h.SetAvailability(name, true, false, h.now)
		h.SetUnreadable(name, fmt.Errorf("x"), h.now)
		h.join("kitchen", name, name)
		h.join(name, "k", name)
		h.Announced([]Announcement{{Name: name}}, h.now)
	}
	var all []Announcement
	for n := range 5000 {
		all = append(all, Announcement{Name: fmt.Sprintf("g%d", n), ID: "x"})
	}
	h.Announced(all, h.now)
	for what, n := range map[string][2]int{
		"guests":     {len(h.guests.availability), maxGuests},
		"unreadable": {len(h.unreadable), maxUnreadable},
		"refused":    {len(h.Fleet.refused), maxRefused},
		"copies":     {len(h.copies), maxRefused},
		"announced":  {len(h.announced), maxAnnounced},
	} {
		if n[0] > n[1] || n[0] == 0 {
			t.Errorf("%s: %d, at most %d", what, n[0], n[1])
		}
	}
	for n := range maxDomains + 2 {
		h.beat(fmt.Sprintf("d%d", n), fmt.Sprint(n), "s", 1)
	}
	if h.Len() != maxDomains || !slices.Contains(h.refused, "full") {
		t.Errorf("%d domains, refused are %d causes", h.Len(), len(h.refused))
	}
	if err := h.status("lamp", topics.Domain{Micro: true}); err != nil || h.Get("lamp") != nil {
		t.Errorf("a microdomain is taken: %v", err)
	}
	h.pass(time.Hour)
	if len(h.Fleet.refused)+len(h.copies) != 0 {
		t.Errorf("after an hour: %d refused, %d copies", len(h.Fleet.refused), len(h.copies))
	}
}

// The join of a domain that has a key may be a recorded one: it gives time once, and is no sign
// of life after that.
func TestRecordedJoins(t *testing.T) {
	for name, keyed := range map[string]bool{"with a key": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			h.o.HasKey = func(string) bool { return keyed }
			h.settle()
			d := h.online("kitchen", "id", "s")
			for range 4 {
				h.now = h.now.Add(time.Second)
				if why := h.join("kitchen", "id", "s"); why != "" {
					t.Fatal(why)
				}
			}
			h.Expire(h.now)
			if lost := d.State == topics.DomainIsLost; lost != keyed {
				t.Errorf("it is %s", d.State)
			}
			h.beat("kitchen", "id", "s", 2)
			if h.Update(d, h.now); d.State != topics.DomainIsOnline {
				t.Errorf("after a heartbeat it is %s", d.State)
			}
		})
	}
}
