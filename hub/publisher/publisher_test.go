package publisher_test

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/publisher"
	"github.com/jmbarzee/dominion/topics"
)

var (
	tree   = topics.NewTree("dominion")
	status = topics.Address{Kind: topics.HubStatus}
	lamp   = topics.Address{Kind: topics.ServiceStatus, Service: "lamp"}
	start  = time.Unix(1_000_000, 0)
)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// bus is what was published, as "topic payload".
type bus []string

func (b *bus) Publish(m topics.Message) { *b = append(*b, m.Topic+" "+string(m.Payload)) }

func newPublisher() (*publisher.Publisher, *bus) {
	b := new(bus)
	return publisher.New(b, slog.New(slog.DiscardHandler)), b
}

func (b *bus) want(t *testing.T, what string, want ...string) {
	t.Helper()
	if !slices.Equal(*b, want) {
		t.Errorf("%s: published %q, want %q", what, *b, want)
	}
	*b = nil
}

// received has the broker deliver a payload at an address.
func received(p *publisher.Publisher, a topics.Address, payload string, now time.Time) {
	p.Received(a, topics.Message{Topic: tree.Topic(a), Payload: []byte(payload)}, now)
}

// A payload is published when it differs from the last one.
func TestRetain(t *testing.T) {
	p, b := newPublisher()
	if !p.Retain("a", []byte("1")) || p.Retain("a", []byte("1")) || !p.Retain("b", []byte("1")) || !p.Retain("a", []byte("2")) || !p.Retain("a", nil) {
		t.Error("what is published is not reported")
	}
	b.want(t, "retain", "a 1", "b 1", "a 2", "a ")
}

// What the broker may have is forgotten in several ways; after each the same payload is
// published again.
func TestForgotten(t *testing.T) {
	for _, c := range []struct {
		name   string
		forget func(p *publisher.Publisher)
		want   []string
	}{
		{"nothing", func(*publisher.Publisher) {}, nil},
		{"forget", func(p *publisher.Publisher) { p.Forget("a") }, []string{"a 1"}},
		{"forget another", func(p *publisher.Publisher) { p.Forget("b") }, nil},
		{"reset", func(p *publisher.Publisher) { p.Reset() }, []string{"a 1"}},
		{"clear", func(p *publisher.Publisher) { p.Clear("a") }, []string{"a ", "a 1"}},
		{"publish another by the way", func(p *publisher.Publisher) { p.Publish(topics.Message{Topic: "a", Payload: []byte("x")}) }, []string{"a x"}},
	} {
		p, b := newPublisher()
		p.Retain("a", []byte("1"))
		*b = nil
		c.forget(p)
		p.Retain("a", []byte("1"))
		b.want(t, c.name, c.want...)
	}
}

// What an earlier run retained is not published again, and does not count once this run
// has published.
func TestFound(t *testing.T) {
	p, b := newPublisher()
	p.Found("a", []byte("1"))
	p.Retain("a", []byte("1"))
	b.want(t, "the same")
	p.Retain("a", []byte("2"))
	p.Found("a", []byte("3"))
	p.Retain("a", []byte("2"))
	b.want(t, "another", "a 2")
}

// Retained and cleared messages are so for the broker, too.
func TestFlags(t *testing.T) {
	var last topics.Message
	p := publisher.New(publish(func(m topics.Message) { last = m }), slog.New(slog.DiscardHandler))
	p.Retain("a", []byte("1"))
	if !last.Retain || last.QoS != 1 {
		t.Errorf("retained: %+v", last)
	}
	p.Clear("a")
	if !last.Retain || last.QoS != 1 || len(last.Payload) > 0 {
		t.Errorf("cleared: %+v", last)
	}
}

type publish func(topics.Message)

func (p publish) Publish(m topics.Message) { p(m) }

// Only what comes after our own payload is another client's: what comes before it is
// older, and what we did not publish is not ours.
func TestOverwritten(t *testing.T) {
	for _, c := range []struct {
		name     string
		retain   bool
		received []string
		again    bool
	}{
		{"ours came back", true, []string{"1"}, false},
		{"an older one, then ours", true, []string{"0", "1"}, false},
		{"ours, then another", true, []string{"1", "x"}, true},
		{"ours, then none", true, []string{"1", ""}, true},
		{"ours, another, ours", true, []string{"1", "x", "1"}, true},
		{"another alone", true, []string{"x"}, false},
		{"not ours", false, []string{"1", "x"}, false},
	} {
		p, _ := newPublisher()
		if c.retain {
			p.Retain(tree.Topic(lamp), []byte("1"))
		}
		for _, payload := range c.received {
			received(p, lamp, payload, at(0))
		}
		if again := len(p.Expire(at(0))) > 0; again != c.again {
			t.Errorf("%s: published again %v", c.name, again)
		}
	}
}

// All that is overwritten comes in the order of the topics, and the same payload is
// published again.
func TestAgain(t *testing.T) {
	p, b := newPublisher()
	for _, a := range []topics.Address{lamp, status} {
		p.Retain(tree.Topic(a), []byte("1"))
		received(p, a, "1", at(0))
		received(p, a, "x", at(0))
	}
	*b = nil
	again := p.Expire(at(0))
	if !slices.Equal(again, []topics.Address{status, lamp}) {
		t.Errorf("again: %v", again)
	}
	for _, a := range again {
		p.Retain(tree.Topic(a), []byte("1"))
	}
	b.want(t, "again", "dominion/hub/status 1", "dominion/service/lamp/status 1")
	if again := p.Expire(at(0)); len(again) > 0 {
		t.Errorf("once more: %v", again)
	}
}

// A client that overwrites again and again is answered ever more rarely, and from the
// beginning once it was quiet for a while.
func TestDelays(t *testing.T) {
	p, _ := newPublisher()
	topic := tree.Topic(lamp)
	overwrite := func(now time.Time) {
		p.Retain(topic, []byte("1"))
		received(p, lamp, "1", now)
		received(p, lamp, "x", now)
	}
	now := at(0)
	overwrite(now)
	if next := p.Next(); next.After(now) {
		t.Errorf("the first is due at %v", next.Sub(start))
	}
	p.Expire(now)
	var delays []time.Duration
	for range 9 {
		overwrite(now)
		next := p.Next()
		if again := p.Expire(next.Add(-time.Millisecond)); len(again) > 0 {
			t.Fatal("before it is due")
		}
		if again := p.Expire(next); len(again) != 1 {
			t.Fatal("not when it is due")
		}
		delays = append(delays, next.Sub(now))
		now = next
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60}
	for i := range want {
		want[i] *= time.Second
	}
	if !slices.Equal(delays, want) {
		t.Errorf("delays %v, want %v", delays, want)
	}
	if next := p.Next(); !next.IsZero() {
		t.Errorf("nothing is due, and next is %v", next)
	}
	now = now.Add(10*time.Minute + time.Second)
	overwrite(now)
	if again := p.Expire(now); len(again) != 1 {
		t.Error("after a long while it is not published at once")
	}
	overwrite(now)
	if delay := p.Next().Sub(now); delay != time.Second {
		t.Errorf("after a long while the first delay is %v", delay)
	}
}
