package orders

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A retained start command waits until the hub that published it is online.
func TestPending(t *testing.T) {
	status := topics.Hub{Protocol: topics.Protocol, Epoch: 7}
	command := topics.StartCommand{Dominion: "d1", Domain: "me", Epoch: 7, Generation: 1}
	for _, c := range []struct {
		name string
		then func(o *Orders)
		want Verdict
		// gone is that the command no longer waits.
		gone bool
	}{
		{"nothing", func(*Orders) {}, Postpone, false},
		{"the hub is online", func(o *Orders) { o.SetAvailability(topics.Online); o.SetStatus(status) }, Apply, false},
		{"its status is unknown", func(o *Orders) { o.SetAvailability(topics.Online) }, Postpone, false},
		{"it is offline", func(o *Orders) { o.SetStatus(status); o.SetAvailability(topics.Offline) }, Postpone, false},
		{"it runs a later epoch", func(o *Orders) {
			o.SetAvailability(topics.Online)
			o.SetStatus(topics.Hub{Protocol: topics.Protocol, Epoch: 8})
		}, Stale, false},
		{"the command is cleared", func(o *Orders) { o.DropPending() }, 0, true},
		{"another one came", func(o *Orders) { o.Judge(command, false, Accepted{}) }, 0, true},
		{"another join", func(o *Orders) { o.Join(topics.Grant{Dominion: "d1", Epoch: 7}) }, 0, true},
	} {
		o := New("me", "s1")
		o.Join(topics.Grant{Dominion: "d1", Epoch: 7})
		if v, _ := o.Judge(command, true, Accepted{}); v != Postpone {
			t.Fatalf("%v before the state of the hub is known", v)
		}
		c.then(o)
		pending := o.Pending()
		if (pending == nil) != c.gone {
			t.Errorf("%s: pending %v", c.name, pending)
		}
		if pending == nil {
			continue
		}
		if v, reason := o.Judge(*pending, true, Accepted{}); v != c.want || (o.Pending() != nil) != (c.want == Postpone) {
			t.Errorf("%s: %v %q, want %v; pending %v", c.name, v, reason, c.want, o.Pending())
		}
	}
}

// After a join the first start command may be of a lower epoch, if the grant named it;
// those after it may not.
func TestFirstCommandAfterAJoin(t *testing.T) {
	o := New("me", "s1")
	o.Join(topics.Grant{Dominion: "d1", Epoch: 7})
	if o.Granted() != 7 {
		t.Errorf("granted %d", o.Granted())
	}
	command := topics.StartCommand{Dominion: "d1", Domain: "me", Epoch: 7, Generation: 1}
	last := Accepted{Present: true, Epoch: 900, Generation: 3}
	if v, reason := o.Judge(command, false, last); v != Apply {
		t.Errorf("the first: %v %s", v, reason)
	}
	if v, _ := o.Judge(command, false, last); v != Refuse {
		t.Errorf("the second: %v", v)
	}
	o.Join(topics.Grant{Dominion: "d2", Epoch: 7})
	if v, _ := o.Judge(command, false, last); v != Refuse {
		t.Errorf("of the dominion before: %v", v)
	}
}

// A hub of another protocol is reported once for each connection.
func TestStatusOfAnotherProtocol(t *testing.T) {
	o := New("me", "s1")
	for range 2 {
		o.Join(topics.Grant{})
		if p := o.SetStatus(topics.Hub{Protocol: "9.1"}); !strings.Contains(p, `the hub speaks protocol "9.1"`) {
			t.Errorf("problem %q", p)
		}
		if p := o.SetStatus(topics.Hub{Protocol: "9.1"}); p != "" {
			t.Errorf("reported again: %q", p)
		}
	}
	if p := o.SetStatus(topics.Hub{Protocol: topics.Protocol}); p != "" {
		t.Errorf("problem of the same protocol: %q", p)
	}
}

func TestHubOffline(t *testing.T) {
	o := New("me", "s1")
	for _, c := range []struct {
		availability string
		offline      bool
	}{{topics.Online, false}, {topics.Offline, true}, {"", false}} {
		if o.SetAvailability(c.availability); o.HubOffline() != c.offline {
			t.Errorf("%q: offline %v", c.availability, o.HubOffline())
		}
	}
	o.SetAvailability(topics.Offline)
	if o.Join(topics.Grant{}); o.HubOffline() {
		t.Error("the hub of the connection before counts")
	}
}

// A resync is for one run of the agent, and obeyed at most once in five seconds.
func TestAllowResync(t *testing.T) {
	o, now := New("me", "s1"), time.Now()
	for _, c := range []struct {
		session string
		after   time.Duration
		want    string
	}{
		{"", 0, "another run"},
		{"s2", 0, "another run"},
		{"s1", 0, ""},
		{"s1", 4 * time.Second, "less than 5s ago"},
		{"s1", 5 * time.Second, ""},
	} {
		err := o.AllowResync(c.session, now.Add(c.after))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("session %q after %v: %v", c.session, c.after, err)
		}
	}
}
