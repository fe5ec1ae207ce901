package restarts_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/restarts"
	"github.com/jmbarzee/dominion/topics"
)

const patience = time.Minute

var began = time.Unix(1_000_000, 0)

// home has one service, "web", and by domain what is known of it.
type home map[string]*restarts.Instance

func newHome(domains ...string) (home, *restarts.Restarts) {
	h := make(home)
	for n, domain := range domains {
		h[domain] = &restarts.Instance{
			Reported: &topics.Instance{Service: "web", State: topics.Running, PID: 100 + n, Restarts: 1},
			Health:   topics.Healthy, Online: true, Expected: true,
		}
	}
	return h, restarts.New(restarts.Home{
		Instance: func(_, domain string) restarts.Instance { return *h[domain] },
		Patience: func(string) time.Duration { return patience },
	})
}

// run has an instance be another run than before, in a state.
func (h home) run(domain string, state topics.State, health topics.Health) {
	before := h[domain].Reported
	h[domain].Reported = &topics.Instance{Service: "web", State: state, PID: before.PID + 1000, Restarts: before.Restarts + 1}
	h[domain].Health = health
}

// expire returns what is ordered and what is reported.
func expire(r *restarts.Restarts, now time.Time) string {
	commands, events := r.Expire(now)
	var all []string
	for _, c := range commands {
		all = append(all, c.Service+"@"+c.Domain)
	}
	for _, e := range events {
		all = append(all, fmt.Sprintf("%s@%s: %s", e.Service, e.Domain, e.Message))
	}
	return strings.Join(all, ", ")
}

func TestOneAfterTheOther(t *testing.T) {
	h, r := newHome("attic", "cellar", "loft")
	want := func(what, want string) {
		t.Helper()
		if got := expire(r, began); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	r.Add("web", []string{"loft", "attic"})
	want("it begins", "web@attic")
	r.Add("web", []string{"cellar", "loft"}) // which waits already
	want("attic is not restarted yet", "")
	h.run("attic", topics.Starting, "")
	want("attic starts", "")
	if next := r.Next(); !next.Equal(began.Add(patience)) {
		t.Errorf("due at %v", next)
	}
	h.run("attic", topics.Running, topics.Healthy)
	want("attic is healthy", "web@cellar")
	h.run("cellar", topics.Finished, "")
	want("cellar has finished", "web@loft")
	h.run("loft", topics.Running, topics.Healthy)
	want("loft is healthy", "")
	if next := r.Next(); !next.IsZero() {
		t.Errorf("all are restarted, and something is due at %v", next)
	}
}

// What does not get healthy ends the restart, so that not all instances go down.
func TestItGoesNoFurther(t *testing.T) {
	for _, tt := range []struct {
		what  string
		do    func(h home)
		after time.Duration
		want  string
	}{
		{"nothing happens", func(home) {}, patience - 1, ""},
		{"nothing happens for too long", func(home) {}, patience, "web@attic: web: the restart goes no further: on attic it was not restarted in time; cellar, loft were not restarted"},
		{"the old one stops", func(h home) { h["attic"].Reported.State, h["attic"].Reported.PID = topics.Stopping, 0 }, 0, ""},
		{"it fails", func(h home) { h.run("attic", topics.Failed, "") }, 0, "web@attic: web: the restart goes no further: on attic it failed; cellar, loft were not restarted"},
		{"it is unhealthy", func(h home) { h.run("attic", topics.Running, topics.Unhealthy) }, patience - 1, ""},
		{"it is unhealthy for too long", func(h home) { h.run("attic", topics.Running, topics.Unhealthy) }, patience, "web@attic: web: the restart goes no further: on attic it was not healthy in time; cellar, loft were not restarted"},
		{"it reports nothing for too long", func(h home) { h["attic"].Reported = nil }, patience, "web@attic: web: the restart goes no further: on attic it was not restarted in time; cellar, loft were not restarted"},
		{"it is not to run there any more", func(h home) { h["attic"].Expected = false }, 0, "web@cellar"},
		{"the next one is away", func(h home) { h.run("attic", topics.Running, topics.Healthy); h["cellar"].Online = false }, 0, "web@loft"},
		{"the next one has stopped", func(h home) {
			h.run("attic", topics.Running, topics.Healthy)
			h["cellar"].Reported.State = topics.Stopped
		}, 0, "web@loft"},
	} {
		h, r := newHome("attic", "cellar", "loft")
		r.Add("web", []string{"attic", "cellar", "loft"})
		expire(r, began)
		tt.do(h)
		if got := expire(r, began.Add(tt.after)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
		if ends := strings.Contains(tt.want, "no further"); ends != r.Next().IsZero() {
			t.Errorf("%s: due at %v", tt.what, r.Next())
		}
	}
}

// A restart of the last instance that fails is reported by the instance itself.
func TestTheLastOneFails(t *testing.T) {
	h, r := newHome("attic")
	r.Add("web", []string{"attic"})
	expire(r, began)
	h.run("attic", topics.Failed, "")
	if got := expire(r, began); got != "" || !r.Next().IsZero() {
		t.Errorf("%q, due at %v", got, r.Next())
	}
}

// Agents without PID and count of restarts show a new run by its time.
func TestAnotherRun(t *testing.T) {
	h, r := newHome("attic")
	h["attic"].Reported = &topics.Instance{Service: "web", State: topics.Running, Since: topics.At(began)}
	r.Add("web", []string{"attic"})
	expire(r, began)
	if expire(r, began); r.Next().IsZero() {
		t.Error("the run of before counts as restarted")
	}
	h["attic"].Reported = &topics.Instance{Service: "web", State: topics.Running, Since: topics.At(began.Add(time.Second))}
	if expire(r, began); !r.Next().IsZero() {
		t.Error("another run does not count as restarted")
	}
}
