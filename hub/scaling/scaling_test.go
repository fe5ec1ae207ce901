package scaling_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/scaling"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

const (
	topic    = "shop/queue"
	cooldown = time.Minute
)

var start = time.Unix(1_000_000, 0)

// home is a Scaling with what it needs of the rest of the hub, in its own time.
type home struct {
	t   *testing.T
	now time.Time
	scaling.Home
	*scaling.Scaling
}

// newHome returns a home that scales these services, by name.
func newHome(t *testing.T, scales map[string]services.Scale) *home {
	h := &home{t: t, now: start, Scaling: scaling.New()}
	h.Home = scaling.Home{
		Started: start, Connected: true,
		Follows: func(string) bool { return true },
		Ours:    func(topic string) bool { return strings.HasPrefix(topic, "dominion/") },
	}
	h.Configure(definitions(scales))
	return h
}

func definitions(scales map[string]services.Scale) map[string]services.Definition {
	defs := map[string]services.Definition{"unscaled": {Name: "unscaled"}}
	for name, s := range scales {
		s.Cooldown = cooldown
		defs[name] = services.Definition{Name: name, Scale: &s}
	}
	return defs
}

// byTopic is a scale of one instance for each ten of what a topic counts.
func byTopic(topic string) services.Scale {
	return services.Scale{Min: 1, Max: 5, Metric: services.ScaleByMQTT + topic, Target: 10, MaxAge: time.Hour}
}

// run has these domains run an instance of shop each.
func (h *home) run(domains ...string) {
	h.Instances = nil
	for _, d := range domains {
		h.Instances = append(h.Instances, scaling.Instance{Domain: d, Instance: topics.Instance{Service: "shop", State: topics.Running, PID: 1}})
	}
	h.Touch()
}

// receive delivers a payload at a topic.
func (h *home) receive(topic, payload string, retain bool) {
	h.Receive(topics.Message{Topic: topic, Payload: []byte(payload), Retain: retain}, h.now)
}

// pass lets time pass, as the hub's loop does, and returns what changed for shop.
func (h *home) pass(d time.Duration) (changes []scaling.Change) {
	for end := h.now.Add(d); ; {
		if h.Pending(h.now) {
			for _, c := range h.Step(h.Home, h.now) {
				if c.Service == "shop" {
					changes = append(changes, c)
				}
			}
		}
		next := h.Next()
		if !next.IsZero() && !next.After(h.now) {
			h.t.Fatalf("next is %v, which is over", next.Sub(h.now))
		}
		if next.IsZero() || next.After(end) {
			h.now = end
			return changes
		}
		h.now = next
	}
}

func (h *home) want(what string, number int, reason string) {
	h.t.Helper()
	got, is := h.Planned("shop")
	if !is || got.Number != number || !strings.Contains(got.Reason, reason) {
		h.t.Errorf("%s: %+v (%v), want %d: %q", what, got, is, number, reason)
	}
}

// Configure reports whether other topics are followed: each once, and in order.
func TestConfigure(t *testing.T) {
	s := scaling.New()
	for _, c := range []struct {
		name   string
		scales map[string]services.Scale
		other  bool
		topics []string
	}{
		{"none", nil, false, nil},
		{"two", map[string]services.Scale{"a": byTopic("z"), "b": byTopic("y")}, true, []string{"y", "z"}},
		{"the same", map[string]services.Scale{"a": byTopic("z"), "b": byTopic("y")}, false, []string{"y", "z"}},
		{"swapped", map[string]services.Scale{"a": byTopic("y"), "b": byTopic("z")}, false, []string{"y", "z"}},
		{"one for both", map[string]services.Scale{"a": byTopic("z"), "b": byTopic("z")}, true, []string{"z"}},
		{"by cpu", map[string]services.Scale{"a": {Min: 1, Max: 2, Metric: services.ScaleByCPU, Target: 1}}, true, nil},
	} {
		if other := s.Configure(definitions(c.scales)); other != c.other || !slices.Equal(s.Topics(), c.topics) {
			t.Errorf("%s: other topics %v: %q, want %v: %q", c.name, other, s.Topics(), c.other, c.topics)
		}
	}
	if _, is := s.Planned("b"); is {
		t.Error("a service that is not scaled any more has a number")
	}
	if all := s.AllPlanned(); len(all) != 1 {
		t.Errorf("numbers of %v", all)
	}
}

// The number begins with what runs, follows the figure, and is reported once.
func TestFollowsATopic(t *testing.T) {
	h := newHome(t, map[string]services.Scale{"shop": byTopic(topic)})
	h.run("a", "b")
	h.pass(0)
	h.want("at the start", 2, "stays at 2")
	h.receive(topic, "35", false)
	changes := h.pass(0)
	h.want("more", 4, "scaled to 4")
	if len(changes) != 1 || !changes[0].Planned || !strings.Contains(changes[0].Reason, "scaled to 4") {
		t.Errorf("changes %+v", changes)
	}
	h.receive(topic, "36", false)
	for _, c := range h.pass(0) {
		t.Errorf("the same number: %+v", c)
	}
	h.receive("another/topic", "100", false)
	if h.Pending(h.now) {
		t.Error("another topic makes a step necessary")
	}
	h.receive(topic, "5", false)
	h.pass(10 * time.Minute)
	h.want("fewer", 1, "scaled to 1")
}

// A figure that nobody follows decides nothing, and what runs then counts when it
// does again.
func TestDoesNotFollow(t *testing.T) {
	h := newHome(t, map[string]services.Scale{"shop": byTopic(topic)})
	follows := false
	h.Follows = func(service string) bool { return service == "shop" && follows }
	h.receive(topic, "50", false)
	h.run("a")
	for _, c := range h.pass(10 * time.Minute) {
		if c.Reason != "" {
			t.Errorf("changed: %+v", c)
		}
	}
	if now := h.FigureNow("shop"); now != "" {
		t.Errorf("the figure says %q", now)
	}
	h.run("a", "b", "c")
	h.receive(topic, "30", false)
	follows = true
	h.pass(0)
	h.want("begins to follow", 3, "")
}

// What cannot be used is a reason, and the number stays.
func TestUnusableFigures(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h *home)
		want   string
	}{
		{"nothing was published", func(*home) {}, "stays at 2"},
		{"no number", func(h *home) { h.receive(topic, "many", false) }, "cannot be used"},
		{"too long", func(h *home) { h.receive(topic, "["+strings.Repeat(" ", 1<<20)+"35]", false) }, "cannot be used"},
		{"it was cleared", func(h *home) { h.receive(topic, "35", true); h.receive(topic, "", true) }, "stays at 2"},
		{"the broker refuses it", func(h *home) { h.Refused(topic, errors.New("not authorized")) }, "not authorized"},
		{"the broker refuses another", func(h *home) { h.Refused("another", errors.New("not authorized")) }, "stays at 2"},
		{"the broker is away", func(h *home) { h.receive(topic, "35", false); h.Connected = false }, "the broker is away"},
	} {
		h := newHome(t, map[string]services.Scale{"shop": byTopic(topic)})
		h.run("a", "b")
		c.change(h)
		h.pass(0)
		got, _ := h.Planned("shop")
		if got.Number != 2 || !strings.Contains(got.Reason, c.want) {
			t.Errorf("%s: %+v, want %q", c.name, got, c.want)
		}
	}
}

// A number of others is too old after max_age; one of the dominion itself holds. What a
// broker repeats is no younger.
func TestAge(t *testing.T) {
	for _, c := range []struct {
		name, topic string
		repeated    string // what the broker repeats after half of the time; "": nothing
		old         bool
	}{
		{"of others", topic, "", true},
		{"of the dominion", "dominion/service/queue/metrics", "", false},
		{"repeated", topic, "25", true},
		{"another one is retained", topic, "26", false},
	} {
		h := newHome(t, map[string]services.Scale{"shop": byTopic(c.topic)})
		h.run("a", "b", "c")
		h.receive(c.topic, "25", true)
		h.pass(45 * time.Minute)
		if c.repeated != "" {
			h.receive(c.topic, c.repeated, true)
		}
		h.pass(30 * time.Minute)
		got, _ := h.Planned("shop")
		if old := strings.Contains(got.Reason, "has said nothing for 1h"); old != c.old || got.Number != 3 {
			t.Errorf("%s: %+v, want too old: %v", c.name, got, c.old)
		}
	}
}

// Use of a machine counts for the run of an instance that it was reported of.
func TestUse(t *testing.T) {
	use := func(h *home, pid int, cpu float64) {
		h.run("a", "b")
		for i := range h.Instances {
			h.Instances[i].PID = pid
			h.Instances[i].Usage, h.Instances[i].HasUse, h.Instances[i].UsageAt = topics.Usage{CPU: cpu, Memory: uint64(cpu * 1e9)}, true, h.now
		}
	}
	for _, metric := range []string{services.ScaleByCPU, services.ScaleByMemory} {
		target := 1.0
		if metric == services.ScaleByMemory {
			target = 1e9
		}
		h := newHome(t, map[string]services.Scale{"shop": {Min: 1, Max: 5, Metric: metric, Target: target}})
		use(h, 1, 0)
		h.pass(2 * time.Minute)
		use(h, 1, 1.4) // 2.8 in all
		h.pass(0)
		h.want(metric, 3, "scaled to 3")
		use(h, 1, 1.4)
		h.pass(2 * cooldown)
		use(h, 2, 2) // both were started again, and what they use at their start says nothing
		h.pass(time.Second)
		h.want(metric+" of another run", 3, "")
		use(h, 2, 2)
		h.pass(2 * cooldown)
		use(h, 2, 2)
		h.pass(time.Second)
		h.want(metric+" of that run", 4, "scaled to 4")
	}
}

// Instances that stop are none; those that only start are counted.
func TestWhatRunsAtTheStart(t *testing.T) {
	h := newHome(t, map[string]services.Scale{"shop": byTopic(topic)})
	h.run("a", "b", "c", "d")
	h.Instances[0].State, h.Instances[1].State = topics.Stopping, topics.Starting
	h.Instances = append(h.Instances, scaling.Instance{Domain: "e", Instance: topics.Instance{Service: "unscaled", State: topics.Running}})
	h.pass(0)
	h.want("at the start", 3, "stays at 3")
}

// The planner does not get each reason of a number that stays.
func TestReasonsAreRateLimited(t *testing.T) {
	h := newHome(t, map[string]services.Scale{"shop": byTopic(topic)})
	h.run("a", "b")
	planned := 0
	const seconds = 60
	for i := range seconds {
		if i%2 == 0 {
			h.receive(topic, "20", false)
		} else {
			h.receive(topic, "many", false)
		}
		for _, c := range h.pass(time.Second) {
			if c.Planned {
				planned++
			}
			if c.Reason != "" {
				t.Fatalf("the number changed: %+v", c)
			}
		}
	}
	if planned < 2 || planned > seconds/5+1 {
		t.Errorf("the planner was told %d times in %d seconds", planned, seconds)
	}
}

// Several fields of one payload are figures of their own.
func TestFields(t *testing.T) {
	a, b := byTopic(topic), byTopic(topic)
	a.Field, b.Field = "queue.length", "workers"
	h := newHome(t, map[string]services.Scale{"shop": a, "other": b})
	h.run("a", "b")
	h.receive(topic, fmt.Sprintf(`{"queue":{"length":%d},"workers":%d}`, 40, 5), false)
	h.pass(0)
	h.want("one field", 4, "scaled to 4")
	if other, _ := h.Planned("other"); other.Number != 1 {
		t.Errorf("the other field: %+v", other)
	}
}
