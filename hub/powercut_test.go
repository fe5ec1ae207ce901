package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// spread is a home of three with four services that may run on each.
func spread() (toml string, names []string) {
	names = []string{"bell", "clock", "desk", "fan"}
	for _, n := range names {
		toml += fmt.Sprintf("[services.%s]\npriority = \"required\"\nreplicas = 1\n", n)
	}
	return toml, names
}

// most returns how many of the services the domain has that has most of them.
func (h *home) most(names []string) (most int, where string) {
	n := make(map[string]int)
	for _, service := range names {
		on := h.where(service)
		domain, _, _ := strings.Cut(strings.Trim(on, "[]"), ":")
		n[domain]++
		most = max(most, n[domain])
		where += service + " " + on + " "
	}
	return most, where
}

// After a power cut of everything the machine that comes first is not given all,
// whether the hub had noticed the loss of the others before its own end or not.
func TestPowerCutOfEverything(t *testing.T) {
	for _, noticed := range []time.Duration{0, 20 * time.Second} {
		toml, names := spread()
		inHome(t, toml, func(h *home) {
			var all []*agent
			for _, n := range []string{"attic", "barn", "cellar"} {
				a := h.agent(n, nil, names...)
				all = append(all, a)
				if err := a.join(); err != nil {
					h.Fatal(err)
				}
			}
			time.Sleep(20 * time.Second)
			for _, a := range all {
				a.cut()
			}
			time.Sleep(noticed)
			h.stop()
			for _, a := range all {
				a.quit()
				clear(a.running)
			}
			h.start()
			for _, a := range all {
				if err := a.join(); err != nil {
					h.Fatal(err)
				}
				time.Sleep(3 * time.Second)
			}
			time.Sleep(20 * time.Second)
			if most, where := h.most(names); most > 2 {
				h.Errorf("noticed %v: %s", noticed, where)
			}
			for _, a := range all {
				a.leave()
			}
		})
	}
}

// What has landed on one machine is spread again when somebody asks for it: what was
// announced to move does, and its old copy serves until the new one does.
func TestRebalance(t *testing.T) {
	toml, names := spread()
	inHome(t, toml, func(h *home) {
		var all []*agent
		for _, n := range []string{"attic", "barn", "cellar"} {
			a := h.agent(n, nil, names...)
			all = append(all, a)
			if err := a.join(); err != nil {
				h.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if most, where := h.most(names); most != len(names) {
			h.Fatalf("they are spread already: %s", where)
		}
		lines, _ := h.plan(`{"transaction":"t","rebalance":true}`)
		moves := 0
		for _, l := range lines {
			if strings.HasPrefix(l, "moves ") {
				moves++
			}
		}
		if moves != 2 {
			h.Errorf("would do %q, want two moves", lines)
		}
		hints := func() (n int) { // of why, that a copy would be placed elsewhere now
			for _, service := range names {
				if r := h.ask(topics.VerbWhy, `{"transaction":"t","service":"`+service+`"}`); strings.Contains(string(r.Data), "less to do (no service") && strings.Contains(string(r.Data), "`dominionctl rebalance` moves it") {
					n++
				}
			}
			return n
		}
		if n := hints(); n == 0 {
			h.Error("why hints at no better place")
		}
		if r := h.ask(topics.VerbRebalance, `{"transaction":"t"}`); r.Status != topics.StatusOK {
			h.Fatal(r.Error)
		}
		for range 50 {
			time.Sleep(100 * time.Millisecond)
			for _, service := range names {
				if v := h.service(service); v.Healthy < 1 {
					h.Errorf("%s is down: %+v", service, v)
				}
			}
		}
		if most, where := h.most(names); most != 2 {
			h.Errorf("spread: %s", where)
		}
		if lines, _ := h.plan(`{"transaction":"t","rebalance":true}`); strings.Contains(strings.Join(lines, "\n"), "moves ") {
			h.Errorf("once more: %q", lines)
		}
		if lines, _ := h.plan(`{"transaction":"t"}`); len(changes(lines)) > 0 {
			h.Errorf("not at rest: %q", lines)
		}
		if n := hints(); n > 0 {
			h.Errorf("why hints at a better place for %d of them", n)
		}
		for _, a := range all {
			a.leave()
		}
	})
}
