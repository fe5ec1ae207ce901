package rollout_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// world is a home of one service whose domains obey, after their fashion.
type world struct {
	r        *rand.Rand
	stable   string
	next     string
	good     map[string]bool // definitions and versions that get healthy
	refused  string
	versions map[string]string
	domains  []*machine
	last     rollout.Output
	story    strings.Builder
}

// machine is a domain with one instance at the most. Time is counted in ticks.
type machine struct {
	name                      string
	online, draining, holds   bool
	away                      bool // it was not online in the tick before
	broken                    bool // nothing gets healthy here
	catalog                   string
	stocked                   int
	ordered, given            string // "": nothing was ordered
	tried, excused, hurt      bool   // hurt: the rollout took a healthy one down here
	took                      string // what runs, as ordered
	state                     topics.State
	health                    topics.Health
	version                   string
	age, crashes, waited, was int
}

const worlds = 2000

// TestProperties: whatever happens during a rollout, never is more than one
// healthy instance down because of it; and when things calm down, all run the
// new definition or all the old one, and nothing is on its way any more.
func TestProperties(t *testing.T) {
	n := worlds
	if testing.Short() {
		n = 500
	}
	for seed := range uint64(n) {
		w := newWorld(seed)
		for tick := range 300 {
			if tick < 200 {
				w.disturb(tick)
			} else {
				w.calm()
			}
			w.live()
			w.decide(t, seed, tick)
		}
		w.check(t, seed)
		if t.Failed() {
			t.Log(w.story.String())
			return
		}
	}
}

func newWorld(seed uint64) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 2)), good: map[string]bool{"A": true, "1": true}, versions: map[string]string{}, stable: "A", next: "A"}
	for i := range 1 + w.r.IntN(4) {
		w.domains = append(w.domains, &machine{
			name: fmt.Sprintf("d%d", i), online: true, holds: true, catalog: "1", ordered: "A", took: "A",
			state: topics.Running, health: topics.Healthy, version: "1",
		})
	}
	return w
}

func (w *world) tell(format string, args ...any) { fmt.Fprintf(&w.story, format+"\n", args...) }

func (w *world) disturb(tick int) {
	if w.r.IntN(12) > 0 {
		return
	}
	m := w.domains[w.r.IntN(len(w.domains))]
	switch w.r.IntN(12) {
	case 0, 1, 2:
		w.next = string(rune('B' + w.r.IntN(4)))
		if _, known := w.good[w.next]; !known {
			w.good[w.next] = w.r.IntN(2) == 0
		}
		if w.next != w.refused {
			w.refused = ""
		}
		w.tell("%d: the definition is %s, good %v", tick, w.next, w.good[w.next])
	case 3, 4, 5:
		m.catalog, m.stocked = fmt.Sprint(1+w.r.IntN(4)), 0
		if _, known := w.good[m.catalog]; !known {
			w.good[m.catalog] = w.r.IntN(2) == 0
		}
		w.tell("%d: %s has version %s, good %v", tick, m.name, m.catalog, w.good[m.catalog])
	case 6:
		m.online = !m.online
		w.tell("%d: %s online %v", tick, m.name, m.online)
	case 7:
		m.draining = !m.draining
		w.tell("%d: %s draining %v", tick, m.name, m.draining)
	case 8:
		if m.holds = !m.holds; !m.holds {
			m.ordered, m.took, m.state, m.version = "", "", "", ""
		}
		w.tell("%d: %s holds %v", tick, m.name, m.holds)
	case 9:
		m.broken = !m.broken
		w.tell("%d: %s broken %v", tick, m.name, m.broken)
	case 10:
		w.refused, w.versions = "", map[string]string{}
		w.tell("%d: update", tick)
	case 11:
		if m.online && m.took != "" { // somebody restarts it
			m.state, m.health, m.version, m.age, m.hurt = topics.Starting, topics.UnknownHealth, m.catalog, 0, false
		}
		w.tell("%d: %s is restarted", tick, m.name)
	}
}

func (w *world) calm() {
	for _, m := range w.domains {
		m.online, m.draining, m.broken = true, false, false
	}
}

// live lets a tick go by.
func (w *world) live() {
	for _, m := range w.domains {
		m.stocked++
		m.waited++
		m.was++
		if !m.online {
			m.hurt, m.away = false, true
			continue
		}
		if m.away {
			m.away, m.waited = false, 0
		}
		if !m.holds || m.ordered == "" {
			continue
		}
		if m.took != m.ordered {
			m.took, m.version, m.age = m.ordered, m.catalog, 0
			m.become(topics.Starting, topics.UnknownHealth)
			continue
		}
		definition, _, _ := strings.Cut(m.took, "-")
		fine := !m.broken && w.good[definition] && w.good[m.version]
		if m.broken || m.draining {
			m.hurt = false
		}
		if w.good[definition] && !w.good[m.version] && m.given != m.version {
			m.hurt = false // the definition was blamed for bad files
		}
		m.age++
		switch m.state {
		case topics.Starting:
			switch {
			case m.age < 2:
			case fine:
				m.become(topics.Running, topics.Healthy)
				m.hurt = false
			case w.r.IntN(3) > 0:
				m.crashes++
				m.become(topics.Backoff, topics.UnknownHealth)
			}
		case topics.Running:
			switch {
			case fine:
				m.become(topics.Running, topics.Healthy)
			case w.r.IntN(2) == 0:
				m.become(topics.Running, topics.Unhealthy)
			default:
				m.crashes++
				m.become(topics.Backoff, topics.UnknownHealth)
			}
		case topics.Backoff:
			m.version, m.age = m.catalog, 0
			m.become(topics.Starting, topics.UnknownHealth)
		}
	}
}

func (m *machine) well() bool {
	return m.state == topics.Running && m.health == topics.Healthy && m.took == m.ordered
}

func (m *machine) become(s topics.State, h topics.Health) {
	before := m.well()
	if m.state, m.health = s, h; m.well() != before {
		m.was, m.waited = 0, 0
	}
}

func (w *world) decide(t *testing.T, seed uint64, tick int) {
	for range 10 {
		in := w.input()
		w.last = rollout.Decide(in)
		if f := w.last.Failure; f != nil {
			w.tell("%d: %+v", tick, *f)
			if f.Version != "" {
				w.versions[f.Version] = f.Why
			} else {
				w.refused = w.next
			}
			continue
		}
		break
	}
	if w.last.Failure != nil {
		t.Errorf("seed %d tick %d: the same failure again and again: %+v", seed, tick, w.last.Failure)
		return
	}
	if w.last.Done {
		w.stable = w.next
		w.tell("%d: %s is stable", tick, w.stable)
	}
	for _, o := range w.last.Orders {
		for _, m := range w.domains {
			if m.name == o.Domain {
				w.order(m, o, tick)
			}
		}
	}
	down := 0
	for _, m := range w.domains {
		if w.versions[m.version] != "" {
			m.hurt = false // its files are bad, and the rollout has seen it: there is nothing it can do
		}
		if m.hurt && m.online && !m.broken && !m.draining && m.holds {
			down++
		}
	}
	if down > 1 {
		t.Errorf("seed %d tick %d: %d healthy instances are down because of the rollout", seed, tick, down)
	}
}

func (w *world) order(m *machine, o rollout.Order, tick int) {
	ordered := m.ordered
	switch {
	case o.Runs == rollout.Next:
		ordered = w.next
	case o.Runs == rollout.Stable:
		ordered = w.stable
	case o.Restart != "":
		definition, _, _ := strings.Cut(m.ordered, "-")
		ordered, m.given = definition+"-"+o.Restart+fmt.Sprint(tick), o.Restart
	}
	if ordered == m.ordered {
		return
	}
	w.tell("%d: %s gets %s (%s), it was %s %s", tick, m.name, ordered, o.Reason, m.state, m.health)
	if m.ordered != "" {
		m.excused = (m.excused || !m.tried) && (m.state == topics.Backoff || m.state == topics.Failed || m.state == topics.Running && m.health == topics.Unhealthy)
	}
	m.tried = m.ordered != ""
	m.hurt = m.well() || m.hurt && m.tried
	m.ordered, m.crashes, m.waited, m.was = ordered, 0, 0, 0
	if o.Restart == "" {
		m.given = ""
	}
}

func (w *world) input() rollout.Input {
	in := rollout.Input{Same: w.stable == w.next, HasStable: true, RefusedVersions: w.versions}
	if w.refused != "" && w.refused == w.next {
		in.Refused = "for a reason"
	}
	for _, m := range w.domains {
		if !m.holds {
			continue
		}
		definition, _, _ := strings.Cut(m.ordered, "-")
		i := rollout.Instance{
			Domain: m.name, Online: m.online, Draining: m.draining, State: m.state, Health: m.health, Version: m.version,
			Catalog: m.catalog, CatalogSettled: m.stocked > 3, RestartedFor: m.given, Applied: m.took != "" && m.took == m.ordered,
		}
		i.Proved = m.well() && m.online && m.was > 2
		i.Overdue = !(m.well() && m.online) && m.waited > 30
		if i.Proved {
			m.tried, m.excused, m.crashes = false, false, 0
		}
		i.Changed, i.Excused, i.Crashes = m.tried, m.excused, m.crashes
		switch {
		case m.ordered == "":
			i.Runs = rollout.None
		case definition == w.next:
			i.Runs = rollout.Next
		case definition == w.stable:
			i.Runs = rollout.Stable
		default:
			i.Runs = rollout.Other
		}
		in.Instances = append(in.Instances, i)
	}
	w.r.Shuffle(len(in.Instances), func(a, b int) {
		in.Instances[a], in.Instances[b] = in.Instances[b], in.Instances[a]
	})
	return in
}

func (w *world) check(t *testing.T, seed uint64) {
	want := w.next
	if w.refused == w.next && w.stable != w.next {
		want = w.stable
	}
	for _, m := range w.domains {
		definition, _, _ := strings.Cut(m.took, "-")
		if m.holds && (definition != want || m.took != m.ordered) {
			t.Errorf("seed %d: at the end %s runs %s, wanted is %s", seed, m.name, m.took, want)
		}
		if m.holds && w.good[definition] && w.good[m.catalog] && (!m.well() || m.version != m.catalog && w.versions[m.catalog] == "") {
			t.Errorf("seed %d: at the end %s runs version %s of %s and is %s %s", seed, m.name, m.version, m.catalog, m.state, m.health)
		}
	}
	if w.last.Active {
		t.Errorf("seed %d: at the end something is on its way: %+v", seed, w.last)
	}
	if want == w.next && w.stable != w.next && w.last.Updated > 0 {
		t.Errorf("seed %d: %s was rolled out and is not stable", seed, w.next)
	}
}
