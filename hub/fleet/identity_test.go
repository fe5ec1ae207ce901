package fleet

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A name belongs to one machine, and a machine has one name.
func TestOneMachineOneName(t *testing.T) {
	for _, c := range []struct {
		what           string
		away           time.Duration // since the last heartbeat of kitchen, of id k
		name, id, user string
		want           string // in the refusal; "": it is admitted
		renamed        string
	}{
		{what: "itself", name: "kitchen", id: "k", want: "a machine of this very id runs as kitchen already at 192.0.2.7"}, // another session
		{what: "itself, after it was away", away: time.Minute, name: "kitchen", id: "k"},
		{what: "another machine", name: "kitchen", id: "x", want: "the name kitchen belongs to another machine (id k at 192.0.2.7)"},
		{what: "another machine, after it was away", away: time.Minute, name: "kitchen", id: "x"},
		{what: "a copy of the disk with another name", name: "attic", id: "k", want: "a machine of this very id runs as kitchen already"},
		{what: "it was renamed", away: time.Minute, name: "attic", id: "k", renamed: "kitchen"},
		{what: "by its user", away: time.Minute, name: "attic", id: "k", user: "kitchen", renamed: "kitchen"},
		{what: "by an admin", away: time.Minute, name: "attic", id: "k", user: "admin", renamed: "kitchen"},
		{what: "by another user", away: time.Minute, name: "attic", id: "k", user: "mallory", want: "`dominionctl forget kitchen`"},
		{what: "a new one", name: "attic", id: "a", user: "mallory"},
		{what: "no name", name: "At Tic", id: "a", want: "is not a valid domain name"},
		{what: "no id", name: "attic", want: "must have 1 to 64 characters"},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := newHome(t)
			h.users, h.admins = []string{"kitchen", "admin"}, []string{"admin"}
			h.settle()
			kitchen := h.online("kitchen", "k", "s")
			kitchen.User = "kitchen"
			h.pass(c.away)
			h.IdentitiesChanged()
			a, news, err := h.Join(topics.HubRequest{Name: c.name, ID: c.id, Session: "s2"}, c.user, h.now)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || h.Get("kitchen") != kitchen {
					t.Fatalf("%v, want %s", err, c.want)
				}
				if valid := topics.ValidName(c.name) && c.id != ""; news != valid {
					t.Errorf("it is news: %v", news)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			d := a.Domain
			if a.Renamed != c.renamed || a.New != (c.renamed == "" && c.id != "k") || h.Get(c.name) != d || d.Name != c.name || d.ID != c.id || d.User != c.user {
				t.Errorf("%+v of %+v", d, a)
			}
			if (d == kitchen) != (c.id == "k") || c.renamed != "" && h.Get(c.renamed) != nil {
				t.Error("what was known of the machine did not stay with it")
			}
			if !h.IdentitiesChanged() || h.IdentitiesChanged() {
				t.Error("that is not reported once")
			}
			for _, d := range h.Sorted() {
				if h.Get(d.Name) != d || h.WithID(d.ID) != d {
					t.Errorf("%s is not found", d.Name)
				}
			}
		})
	}
}

// A user of a domain that does not exist any more does not keep its machine from being
// renamed.
func TestRenamedByAnotherUser(t *testing.T) {
	h := newHome(t)
	h.settle()
	h.online("kitchen", "k", "s").User = "old"
	h.pass(time.Minute)
	if a, _, err := h.Join(topics.HubRequest{Name: "attic", ID: "k", Session: "s2"}, "new", h.now); err != nil || a.Renamed != "kitchen" {
		t.Errorf("%+v, %v", a, err)
	}
}

// One that asked while the other went on sending heartbeats is a copy for good; one that
// asked while the other had just gone is not.
func TestCopyIsProved(t *testing.T) {
	for _, c := range []struct {
		what  string
		beats uint64 // of the first machine, after the other one asked
		want  bool   // the other one may have the name, once the first one is silent
	}{
		{"the first one was just gone", 0, true},
		{"one heartbeat was on its way", 1, true},
		{"there are two", 2, false},
	} {
		h := newHome(t)
		h.settle()
		h.online("kitchen", "k", "s")
		if h.join("kitchen", "k", "other") == "" {
			t.Errorf("%s: it may have the name at once", c.what)
		}
		for n := range c.beats {
			h.beat("kitchen", "k", "s", 2+n)
		}
		h.pass(lostAfter)
		if got := h.join("kitchen", "k", "other") == ""; got != c.want {
			t.Errorf("%s: it may have the name: %v", c.what, got)
		}
	}
}

// Of two machines of one id the one that was there before the hub started is no copy.
func TestFormerSessionIsNoCopy(t *testing.T) {
	h := newHome(t)
	h.Restore(Domain{Name: "kitchen", ID: "k"}, true)
	h.RetainedHeartbeat("kitchen", topics.Heartbeat{ID: "k", Session: "first"})
	h.online("kitchen", "k", "copy")
	if why := h.join("kitchen", "k", "first"); why != "" {
		t.Error(why)
	}
	if why := h.join("kitchen", "k", "copy"); why == "" {
		t.Error("the copy may have the name")
	}
}

// A heartbeat counts for the machine that has name and id; others are refused.
func TestSenderOfAHeartbeat(t *testing.T) {
	h := newHome(t)
	d := h.online("kitchen", "k", "s")
	if a := h.Sender(Claim{Name: "kitchen", ID: "k", Session: "s"}, h.now); a.Domain != d || a.New {
		t.Errorf("%+v", a)
	}
	for _, c := range []Claim{{Name: "kitchen", ID: ""}, {Name: "attic", ID: strings.Repeat("x", maxID+1)}} {
		if a := h.Sender(c, h.now); a.Domain != nil || len(h.refused) != 0 {
			t.Errorf("%+v is %+v, refused %v", c, a, h.refused)
		}
	}
	if h.beat("attic", "k", "copy", 1) || !slices.Equal(h.refused, []string{"identity of attic"}) {
		t.Errorf("a copy under another name: refused %v", h.refused)
	}
	h.refused = nil
	if h.beat("kitchen", "x", "s", 1) || len(h.refused) != 0 {
		t.Errorf("a machine that was refused the name is reported: %v", h.refused)
	}
	if a := h.Sender(Claim{Name: "attic", ID: "a", Session: "s", User: "u"}, h.now); !a.New || a.Domain.User != "u" || h.Get("attic") != a.Domain {
		t.Errorf("one of an external broker: %+v", a)
	}
}

// A refused machine is listed while it asks, and is news once for each reason.
func TestRefusals(t *testing.T) {
	h := newHome(t)
	h.online("kitchen", "k", "s")
	ask := topics.HubRequest{Name: "kitchen", ID: "x", Session: "x", Address: "192.0.2.9"}
	for n, want := range []bool{true, false, false} {
		if _, news, err := h.Join(ask, "", h.now); news != want || err == nil {
			t.Errorf("%d: news %v, %v", n, news, err)
		}
	}
	ask.Protocol = "9.0"
	if _, news, err := h.Join(ask, "", h.now); !news || err == nil || !strings.Contains(err.Error(), "speaks protocol 9.0") {
		t.Errorf("for another reason: news %v, %v", news, err)
	}
	v := h.Views()
	if len(v) != 2 || v[1].State != topics.DomainIsRefused || v[1].Address != ask.Address || v[1].ID != "x" {
		t.Errorf("%+v", v)
	}
	if e := h.Expire(h.now.Add(refusalLifetime)); !e.Whole || len(h.Views()) != 1 {
		t.Errorf("it is listed for good: %v", h.Views())
	}
}

// A domain that is there is not forgotten.
func TestForget(t *testing.T) {
	h := newHome(t)
	h.settle()
	d := h.online("kitchen", "k", "s")
	if _, err := h.Forget("kitchen", false, h.now); err == nil || !strings.Contains(err.Error(), "stop its agent first") {
		t.Errorf("%v", err)
	}
	h.pass(time.Minute)
	if got, err := h.Forget("kitchen", false, h.now); got != d || err != nil || h.Len() != 0 || len(h.Sorted()) != 0 {
		t.Errorf("%v %v, %d are left", got, err, h.Len())
	}
}

// A heartbeat of another run of an agent than the one that joined shows that there are two.
func TestOthersBeat(t *testing.T) {
	h := newHome(t)
	h.settle()
	d := h.online("kitchen", "k", "s")
	h.pass(time.Minute)
	join := func(session string) {
		t.Helper()
		if _, _, err := h.Join(topics.HubRequest{Name: "kitchen", ID: "k", Session: session}, "", h.now); err != nil {
			t.Fatal(err)
		}
	}
	join("s2")
	if h.OthersBeat(d, h.now) {
		t.Error("the run before the join counts")
	}
	h.Beat(d, topics.Heartbeat{ID: "k", Session: "s2"}, h.now)
	if h.OthersBeat(d, h.now) {
		t.Error("its own heartbeat counts")
	}
	h.Beat(d, topics.Heartbeat{ID: "k", Session: "s"}, h.now)
	if !h.OthersBeat(d, h.now) {
		t.Error("the heartbeat of another run does not count")
	}
	h.pass(time.Minute)
	if h.OthersBeat(d, h.now) {
		t.Error("it counts for ever")
	}
}
