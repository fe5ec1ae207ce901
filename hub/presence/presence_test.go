package presence

import (
	"reflect"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

var start = time.Unix(1000, 0)

func status(name string, online int) topics.Hub {
	s := topics.Hub{Name: name}
	s.Domains.Online = online
	return s
}

// That the hub is there is due at once, and then in each interval.
func TestAlive(t *testing.T) {
	p := New(Options{Interval: 2 * time.Second})
	for _, step := range []struct {
		after time.Duration
		want  bool
		next  time.Duration
	}{
		{0, true, 2 * time.Second},
		{time.Second, false, 2 * time.Second},
		{2 * time.Second, true, 4 * time.Second},
		{time.Minute, true, time.Minute + 2*time.Second},
	} {
		if got := p.AliveDue(start.Add(step.after)); got != step.want || !p.Next().Equal(start.Add(step.next)) {
			t.Errorf("after %v: %v, next %v, want %v, %v", step.after, got, p.Next().Sub(start), step.want, step.next)
		}
	}
	if never := New(Options{}); never.AliveDue(start) || !never.Next().IsZero() {
		t.Error("it is due without an interval")
	}
}

// In a home counts are published at once; with many domains they wait, and anything else
// does not.
func TestCountsWait(t *testing.T) {
	for _, c := range []struct {
		domains int
		wait    time.Duration
	}{{3, 0}, {immediateDomains, 0}, {1000, 900 * time.Millisecond}} {
		p := New(Options{})
		if !p.Accepts(status("home", 1), start) {
			t.Fatalf("%d domains: the first status waits", c.domains)
		}
		p.Published(status("home", 1), c.domains, start)
		if got := p.Accepts(status("home", 2), start); got != (c.wait == 0) || p.StatusDue(start) {
			t.Errorf("%d domains: new counts are accepted at once: %v", c.domains, got)
		}
		if c.wait == 0 {
			continue
		}
		over := start.Add(c.wait)
		if !p.Next().Equal(over) || p.StatusDue(over.Add(-1)) || !p.StatusDue(over) || !p.Accepts(status("home", 2), over) {
			t.Errorf("%d domains: new counts wait until %v, want %v", c.domains, p.Next(), over)
		}
		p.Accepts(status("home", 2), start)
		if !p.Accepts(status("other", 2), start) {
			t.Errorf("%d domains: another name waits", c.domains)
		}
		if p.Published(status("other", 2), c.domains, start); p.StatusDue(over) || !p.Next().IsZero() {
			t.Errorf("%d domains: something waits after all is published", c.domains)
		}
		p.Accepts(status("other", 3), start)
		if p.Reset(); !p.Accepts(status("other", 3), start) || p.StatusDue(over) {
			t.Errorf("%d domains: counts wait although the broker has none", c.domains)
		}
	}
}

// What is due sooner counts.
func TestNext(t *testing.T) {
	p := New(Options{Interval: time.Second})
	p.AliveDue(start)
	p.Published(status("home", 1), 200, start)
	p.Accepts(status("home", 2), start)
	if want := start.Add(100 * time.Millisecond); !p.Next().Equal(want) {
		t.Errorf("the counts: %v, want %v", p.Next(), want)
	}
	p.Published(status("home", 2), 3000, start)
	p.Accepts(status("home", 3), start)
	if want := start.Add(time.Second); !p.Next().Equal(want) {
		t.Errorf("that it is there: %v, want %v", p.Next(), want)
	}
}

// What the hub is stands in its status; when it started is one time, however often it is
// published.
func TestStatus(t *testing.T) {
	p := New(Options{ID: "id", Version: "1.2.0", Control: "/run/dominion/control"})
	began := time.Now()
	p.Begin(began)
	first := p.Status(began.Add(time.Second))
	if want := (topics.Hub{ID: "id", Version: "1.2.0", Protocol: topics.Protocol, Control: "/run/dominion/control", StartedAt: first.StartedAt}); !reflect.DeepEqual(first, want) {
		t.Errorf("%+v, want %+v", first, want)
	}
	if d := first.StartedAt.Sub(began).Abs(); d > time.Second {
		t.Errorf("it started %v from when it did", d)
	}
	if got := p.Status(began.Add(time.Minute)); !reflect.DeepEqual(got, first) {
		t.Errorf("%+v, before %+v", got, first)
	}
	if !p.Started().Equal(began) || p.Version() != "1.2.0" {
		t.Errorf("started %v, version %s", p.Started(), p.Version())
	}
}
