package hub_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// restarter obeys the command restart as an agent does: the copy begins again and
// is ready a second later, or fails.
func (a *agent) restarter(log func(string), fails bool) {
	h := a.home
	if err := a.connection().Subscribe(h.Context(), h.tree.Domain(topics.DomainCommand, a.name)); err != nil {
		h.Fatal(err)
	}
	a.mu.Lock()
	a.command = func(c topics.Command) {
		if c.Action != topics.ActionRestart {
			return
		}
		log(a.name)
		set := func(state topics.State, health topics.Health, restarts int) {
			a.change(c.Service, func(i *topics.Instance) {
				i.State, i.Health, i.Restarts, i.Since = state, health, i.Restarts+restarts, topics.At(time.Now())
			})
		}
		set(topics.Stopping, topics.UnknownHealth, 0)
		time.Sleep(100 * time.Millisecond)
		set(topics.Starting, topics.UnknownHealth, 1)
		time.Sleep(time.Second)
		if fails {
			set(topics.Failed, topics.UnknownHealth, 0)
			return
		}
		set(topics.Running, topics.Healthy, 0)
	}
	a.mu.Unlock()
}

const copies = `
[services.db]
[services.web]
priority = "required"
dependencies = ["db"]
`

// The copies of a service are restarted one after the other, the next when the
// last is healthy; one that does not get so ends it.
func TestRestartOneByOne(t *testing.T) {
	for _, fails := range []string{"", "barn"} {
		inHome(t, copies, func(h *home) {
			var all []*agent
			var log []string
			for _, name := range []string{"attic", "barn", "cellar"} {
				a := h.agent(name, nil, "web", "db")
				if err := a.join(); err != nil {
					h.Fatal(err)
				}
				a.restarter(func(name string) {
					h.mu.Lock()
					defer h.mu.Unlock()
					log = append(log, fmt.Sprintf("%s %d", name, time.Now().Unix()))
				}, name == fails)
				all = append(all, a)
			}
			time.Sleep(20 * time.Second)
			if r := h.ask(topics.VerbRestart, `{"transaction":"t","service":"web"}`); r.Status != topics.StatusOK {
				h.Fatal(r.Error)
			}
			for range 40 {
				time.Sleep(100 * time.Millisecond)
				down := 0
				for _, i := range h.service("web").Instances {
					if i.State != topics.Running {
						down++
					}
				}
				if down > 1 {
					h.Errorf("%d copies are down at once", down)
				}
			}
			h.mu.Lock()
			order := slices.Clone(log)
			h.mu.Unlock()
			var names []string
			for _, l := range order {
				names = append(names, strings.Fields(l)[0])
			}
			want := []string{"attic", "barn", "cellar"}
			if fails != "" {
				want = want[:2]
				if e := h.event(topics.ServiceReverted); !strings.Contains(e.Message, "cellar was not restarted") {
					h.Errorf("what went wrong is not said: %+v", e)
				}
			}
			if !slices.Equal(names, want) {
				h.Errorf("restarted %q, want %q", order, want)
			}
			for _, a := range all {
				a.leave()
			}
		})
	}
}

// What its dependencies do not let start is not restarted: it would be ended.
func TestRestartPastADependency(t *testing.T) {
	inHome(t, copies, func(h *home) {
		a := h.agent("attic", nil, "web", "db")
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		restarted := false
		a.restarter(func(string) { restarted = true }, false)
		time.Sleep(20 * time.Second)
		h.ask(topics.VerbStop, `{"transaction":"t","service":"db"}`)
		for _, wait := range []time.Duration{0, 10 * time.Second} { // while it stops, and after it
			time.Sleep(wait)
			if r := h.ask(topics.VerbRestart, `{"transaction":"t","service":"web"}`); r.Status != topics.StatusError || !strings.Contains(r.Error, "waits for db, which is switched off; what runs goes on") {
				h.Errorf("after %v: %+v", wait, r)
			}
		}
		if s := h.service("web"); restarted || s.Running != 1 {
			h.Errorf("restarted: %v, %+v", restarted, s)
		}
		a.leave()
	})
}
