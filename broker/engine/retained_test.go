package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

func newRetained(topics ...string) *retained {
	var r retained
	r.init()
	limits := Limits{}.WithDefaults()
	for _, topic := range topics {
		r.set(&message{Message: store.Message{Topic: topic, Payload: []byte("x")}}, &limits)
	}
	return &r
}

func (r *retained) all(filter string, step int) (topics []string) {
	for at := newCursor(filter); !at.done; {
		for _, m := range r.next(&at, step, time.Now()) {
			topics = append(topics, m.Topic)
		}
	}
	return topics
}

// A cursor finds what matches, all of it, once, in order, and in whatever
// steps it goes.
func TestCursor(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	// "!" and "0" are the neighbours of "/"
	letters := []string{"a", "b", "/", "/", "/", "!", "0", "$", "a/", "b/"}
	random := func(more ...string) string {
		var s strings.Builder
		for range 1 + r.IntN(6) {
			all := append(letters, more...)
			s.WriteString(all[r.IntN(len(all))])
		}
		return s.String()
	}
	for range 300 {
		var topics []string
		for range r.IntN(80) {
			topics = append(topics, random())
		}
		kept := newRetained(topics...)
		slices.Sort(topics)
		topics = slices.Compact(topics)
		for range 60 {
			filter := random("+", "/+", "/+/", "#", "/#", "+/")
			if !wire.ValidFilter(filter) {
				continue
			}
			want := slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return !wire.Matches(filter, topic) })
			for _, step := range []int{1, 3, 1000} {
				if got := kept.all(filter, step); !slices.Equal(got, want) {
					t.Fatalf("%q of %q in steps of %d:\ngot  %q\nwant %q", filter, topics, step, got, want)
				}
			}
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("a/+/b", "a/x/b a/x/c a/x b")
	f.Add("+/+/#", "a a/ a/b $a/b/c a!/b a0")
	f.Fuzz(func(t *testing.T, filter, topics string) {
		if !wire.ValidFilter(filter) || strings.HasPrefix(filter, "$share/") {
			return
		}
		all := slices.DeleteFunc(strings.Split(topics, " "), func(s string) bool { return !wire.ValidTopic(s) })
		kept := newRetained(all...)
		slices.Sort(all)
		want := slices.DeleteFunc(slices.Compact(all), func(topic string) bool { return !wire.Matches(filter, topic) })
		if got := kept.all(filter, 2); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", filter, got, want)
		}
	})
}

// A cursor goes on where it was, whatever came and went meanwhile.
func TestCursorOverChanges(t *testing.T) {
	limits := Limits{}.WithDefaults()
	var topics []string
	for i := range 1000 {
		topics = append(topics, fmt.Sprintf("t/%04d", i))
	}
	kept := newRetained(topics...)
	at := newCursor("t/#")
	got := kept.next(&at, 500, time.Now())
	for _, topic := range topics[400:600] {
		kept.set(&message{Message: store.Message{Topic: topic}}, &limits)
	}
	got = append(got, kept.next(&at, 5000, time.Now())...)
	if len(got) != 900 || !at.done || got[500].Topic != "t/0600" {
		t.Errorf("got %d, done %v", len(got), at.done)
	}
	for _, topic := range topics {
		kept.set(&message{Message: store.Message{Topic: topic}}, &limits)
	}
	if n, bytes := kept.count(); n != 0 || bytes != 0 {
		t.Errorf("%d messages of %d bytes are left", n, bytes)
	}
}

func TestRetainedLimits(t *testing.T) {
	kept := newRetained("a", "b")
	limits := Limits{MaxRetained: 2, MaxRetainedBytes: 1000}.WithDefaults()
	set := func(topic, payload string) bool {
		return kept.set(&message{Message: store.Message{Topic: topic, Payload: []byte(payload), Publisher: "c"}}, &limits)
	}
	if set("c", "x") || !set("a", "y") || set("a", strings.Repeat("x", 1000)) || !set("b", "") || !set("c", "x") {
		t.Error("the limits do not hold")
	}
	if got := kept.all("#", 10); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("got %q", got)
	}
}

// The tree finds the same as matching each filter by itself.
func TestTreeMatches(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	parts := []string{"a", "b", "", "+", "$x"}
	filterOf := func() string {
		var levels []string
		for range 1 + r.IntN(4) {
			levels = append(levels, parts[r.IntN(len(parts))])
		}
		if r.IntN(3) == 0 {
			levels = append(levels, "#")
		}
		return strings.Join(levels, "/")
	}
	for range 200 {
		var tr tree
		var subs []*subscription
		for range r.IntN(40) {
			if s := (&subscription{filter: filterOf()}); wire.ValidFilter(s.filter) {
				subs = append(subs, s)
				tr.add(s)
			}
		}
		for range r.IntN(20) {
			if len(subs) > 0 {
				i := r.IntN(len(subs))
				tr.remove(subs[i])
				subs = slices.Delete(subs, i, i+1)
			}
		}
		for range 50 {
			topic := strings.ReplaceAll(filterOf(), "+", "c")
			topic = strings.ReplaceAll(topic, "#", "d")
			var got, want []string
			tr.match(topic, func(n *node) {
				for _, s := range n.subs {
					got = append(got, s.filter)
				}
			})
			for _, s := range subs {
				if wire.Matches(s.filter, topic) {
					want = append(want, s.filter)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("%q: got %q, want %q", topic, got, want)
			}
		}
		for _, s := range subs {
			tr.remove(s)
		}
		if !tr.root.empty() {
			t.Fatal("the tree keeps levels that nobody has")
		}
	}
}
