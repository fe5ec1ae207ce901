package simulation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// storm is a time in which things break. pace is the longest time between two
// mishaps.
type storm struct {
	*home
	r    *rand.Rand
	pace time.Duration
	done map[string]int // mishaps, by kind
}

func newStorm(h *home, pace time.Duration) *storm {
	return &storm{home: h, r: rand.New(rand.NewPCG(h.seed, 7)), pace: pace, done: make(map[string]int)}
}

// fault is something that may happen. It reports whether it could.
type fault struct {
	name   string
	weight int
	happen func(*storm, *machine) bool
}

var faults = []fault{
	// links
	{"the cable is out", 6, func(s *storm, m *machine) bool { s.net.cut(m, true, true); return true }},
	{"nothing gets in", 3, func(s *storm, m *machine) bool { s.net.cut(m, true, false); return true }},
	{"nothing gets out", 3, func(s *storm, m *machine) bool { s.net.cut(m, false, true); return true }},
	{"the cable is back", 12, func(s *storm, m *machine) bool { s.net.restore(m); return true }},

	// machines and agents
	{"power cut", 6, func(s *storm, m *machine) bool {
		if m.stopAgent == nil {
			return false
		}
		m.cut()
		return true
	}},
	{"agent killed", 6, func(s *storm, m *machine) bool {
		if m.stopAgent == nil {
			return false
		}
		m.kill()
		return true
	}},
	{"agent stopped", 4, func(s *storm, m *machine) bool {
		if m.stopAgent == nil {
			return false
		}
		m.stop()
		return true
	}},
	{"agent started", 24, func(s *storm, m *machine) bool {
		if m.stopAgent != nil {
			return false
		}
		m.power()
		return true
	}},
	{"disk kept aside", 2, func(s *storm, m *machine) bool {
		if m.stopAgent != nil || s.exists(m.dir+".backup") {
			return false
		}
		m.dying.Wait()
		s.copyDir(m.data(), m.dir+".backup")
		return true
	}},
	{"old disk restored", 4, func(s *storm, m *machine) bool {
		if m.stopAgent != nil || !s.exists(m.dir+".backup") {
			return false
		}
		m.dying.Wait()
		s.copyDir(m.dir+".backup", m.data())
		_ = os.RemoveAll(m.dir + ".backup")
		s.laws.restored(m)
		return true
	}},
	{"the clock jumps", 4, func(s *storm, m *machine) bool {
		const years = 10 * 365 * 24 * time.Hour
		jump := time.Duration(s.r.Int64N(int64(2*years))) - years
		m.clock.Store(int64(jump))
		if m.stopAgent == nil { // it jumped while nobody looked
			m.dying.Wait()
			m.shiftRecords(jump)
		}
		return true
	}},

	{"other traits", 3, func(s *storm, m *machine) bool {
		m.becomes([][]string{{"lamp"}, {"eye"}, {"lamp", "eye"}, nil}[s.r.IntN(4)]...)
		return true
	}},

	// services
	{"a crash", 8, func(s *storm, m *machine) bool { m.crash(s.service()); return true }},
	{"an illness", 6, func(s *storm, m *machine) bool {
		m.setIllness(s.service(), []illness{
			{crash: 50 * time.Millisecond},
			{crash: time.Duration(s.r.IntN(30_000)) * time.Millisecond},
			{sick: true},
			{stubborn: true},
			{lazy: time.Duration(s.r.IntN(9_000)) * time.Millisecond},
		}[s.r.IntN(5)])
		return true
	}},
	{"it is well again", 6, func(s *storm, m *machine) bool { m.heal(); return true }},
	{"a service is removed", 1, func(s *storm, m *machine) bool { m.remove(s.service()); return true }},
	{"a service is installed", 4, func(s *storm, m *machine) bool {
		m.install(s.service(), []string{"1.0.0", "1.1.0", "1.2.0"}[s.r.IntN(3)])
		return true
	}},

	{"a guard is killed", 2, func(s *storm, m *machine) bool { return m.stopAgent != nil && m.guards.kill() }},

	// the hub
	{"the hub stops", 2, func(s *storm, _ *machine) bool { return s.hubEnds(stopped) }},
	{"the hub is killed", 2, func(s *storm, _ *machine) bool { return s.hubEnds(killed) }},
	{"the hub loses its power", 2, func(s *storm, _ *machine) bool { return s.hubEnds(unplugged) }},
	{"the hub starts", 16, func(s *storm, _ *machine) bool {
		if s.endHub != nil {
			return false
		}
		s.start()
		return true
	}},
	{"the hub's disk is kept aside", 2, func(s *storm, _ *machine) bool {
		if s.endHub != nil || s.exists(filepath.Join(s.dir, "hub.backup")) {
			return false
		}
		s.copyDir(s.cfg.DataDir, filepath.Join(s.dir, "hub.backup"))
		return true
	}},
	{"the hub is restored", 4, func(s *storm, _ *machine) bool {
		backup := filepath.Join(s.dir, "hub.backup")
		if s.endHub != nil || !s.exists(backup) {
			return false
		}
		s.copyDir(backup, s.cfg.DataDir)
		_ = os.RemoveAll(backup)
		s.laws.restoredHub()
		return true
	}},

	{"the broker fails", 3, func(s *storm, _ *machine) bool {
		p, ok := s.net.(*post)
		if !ok || !p.fail() {
			return false
		}
		s.reconnect(25 * time.Second)
		return true
	}},

	// microcontrollers
	{"a gadget is unplugged", 4, func(s *storm, _ *machine) bool { s.gadget().unplug(); return true }},
	{"a gadget is plugged in", 6, func(s *storm, _ *machine) bool { s.gadget().plug(); return true }},

	// the configuration
	{"another paint", 4, func(s *storm, _ *machine) bool {
		return s.change(func(r *room) { r.paint = 1 + s.r.IntN(5) })
	}},
	{"another number", 2, func(s *storm, _ *machine) bool {
		return s.change(func(r *room) {
			if r.replicas = s.r.IntN(4); slices.Contains(r.lines, "exclusive = true") {
				r.replicas = 1 // more are refused
			}
		})
	}},
	{"a pin", 2, func(s *storm, m *machine) bool {
		return s.change(func(r *room) { r.pins = []string{m.name} })
	}},
	{"pins and numbers as before", 2, func(s *storm, _ *machine) bool { s.house.restore(); s.configure(); return true }},
	{"gone from the configuration", 2, func(s *storm, _ *machine) bool {
		r := s.house.services["extra"]
		if r == nil {
			return false
		}
		r.gone = !r.gone
		s.configure()
		return true
	}},
	{"a fault in the configuration", 1, func(s *storm, _ *machine) bool {
		if s.hub == nil {
			return false
		}
		s.hub.Reload(config.Dominion{}, errors.New("dominion.toml:1: nonsense"))
		return true
	}},

	// users, and what comes late
	{"switched", 6, func(s *storm, _ *machine) bool {
		s.publish(s.service(), []string{topics.On, topics.Off, topics.On}[s.r.IntN(3)])
		return true
	}},
	{"restarted", 3, func(s *storm, _ *machine) bool { s.publish(s.service(), topics.Restart); return true }},
	{"scaled", 3, func(s *storm, _ *machine) bool {
		s.publish(s.service(), fmt.Sprintf(`{"replicas": %d}`, s.r.IntN(4)))
		return true
	}},
	{"drained or not", 6, func(s *storm, m *machine) bool {
		s.net.publish(topics.Message{Topic: s.tree.Domain(topics.DomainDrainSet, m.name), Payload: []byte([]string{topics.On, topics.Off}[s.r.IntN(2)]), QoS: 1})
		return true
	}},
	{"forgotten", 3, func(s *storm, m *machine) bool { // what is online is not
		forget, _ := s.tree.Request(topics.VerbForget)
		s.net.publish(topics.Message{Topic: forget, Payload: topics.Encode(topics.HubRequest{Transaction: "1", Domain: m.name}), QoS: 1})
		return true
	}},
	{"a will comes late", 3, func(s *storm, m *machine) bool {
		s.net.publish(s.tree.Message(topics.Address{Kind: topics.DomainAvailability, Domain: m.name}, []byte(topics.Offline)))
		return true
	}},
	{"an order comes once more", 10, func(s *storm, m *machine) bool {
		topic := s.tree.Domain(topics.DomainServicesSet, m.name)
		c, err := topics.Decode[topics.StartCommand](topic, []byte(s.net.last(topic)))
		if err != nil {
			return false
		}
		switch s.r.IntN(3) { // of before
		case 0:
			c.Generation, c.Services = c.Generation-1, nil
		case 1:
			c.Epoch, c.Generation, c.Services = c.Epoch-1, c.Generation+100, nil
		}
		s.net.publish(topics.Message{Topic: topic, Payload: topics.Encode(c), QoS: 1})
		return true
	}},
}

var weights = func() (n int) {
	for _, m := range faults {
		n += m.weight
	}
	return n
}()

// nextFault makes one thing happen, and some time pass.
func (s *storm) nextFault() {
	all := s.all()
	m := all[s.r.IntN(len(all))]
	at := s.r.IntN(weights)
	for _, what := range faults {
		if at -= what.weight; at < 0 {
			s.logf("MISHAP %s: %s", m.name, what.name)
			if what.happen(s, m) {
				s.done[what.name]++
			}
			break
		}
	}
	time.Sleep(time.Duration(s.r.Int64N(int64(s.pace))))
	synctest.Wait()
	if s.Failed() {
		s.FailNow() // the story ends where it went wrong
	}
}

func (s *storm) service() string {
	names := make([]string, 0, len(s.house.services))
	for name := range large {
		names = append(names, name)
	}
	return sorted(names)[s.r.IntN(len(names))]
}

func (s *storm) gadget() *gadget { return s.gadgets[s.r.IntN(len(s.gadgets))] }

func (s *storm) exists(dir string) bool { _, err := os.Stat(dir); return err == nil }

func (s *storm) hubEnds(how ending) bool {
	if s.endHub == nil {
		return false
	}
	s.home.stop(how)
	return true
}

// change changes the definition of a service.
func (s *storm) change(f func(*room)) bool {
	r := s.house.services[s.service()]
	if r == nil {
		return false
	}
	f(r)
	s.configure()
	return true
}

func (s *storm) publish(service, word string) {
	s.net.publish(topics.Message{Topic: s.tree.Service(topics.ServiceSet, service), Payload: []byte(word), QoS: 1})
}

// settle ends the storm: all that is broken is repaired, what users have set is taken
// back. Then within some time all must be as it should be, and stay so, also
// while agents and hub are restarted.
func (s *storm) settle(within time.Duration) {
	s.logf("CALM")
	s.house.restore()
	s.configure()
	if s.endHub == nil {
		s.start()
	}
	for _, m := range s.all() {
		s.net.restore(m)
		m.heal()
		m.becomes(traitsOf(m.name)...)
		for service := range s.house.services {
			m.install(service, "1.2.0")
		}
		if m.stopAgent == nil {
			m.power()
		}
	}
	for _, g := range s.gadgets {
		g.plug()
	}
	s.within(within, "every domain is online", func() bool {
		status, err := topics.Decode[topics.Hub]("", []byte(s.last(s.tree.Hub(topics.HubStatus))))
		return err == nil && status.Ready && status.Domains.Online == s.online()
	})
	for service := range s.house.services {
		s.publish(service, topics.On)
		s.publish(service, `{"replicas": 0}`)
	}
	for _, m := range s.all() {
		s.net.publish(topics.Message{Topic: s.tree.Domain(topics.DomainDrainSet, m.name), Payload: []byte(topics.Off), QoS: 1})
	}
	time.Sleep(15 * time.Second) // what was published has been received
	var asked time.Time
	s.within(within, "all is well", func() bool {
		if s.healthy() {
			return true
		}
		if time.Since(asked) > within/8 { // of what did not get healthy in the storm, or was given up for it since
			asked = time.Now()
			for service := range s.house.services {
				s.publish(service, topics.Update)
			}
		}
		return false
	})
	s.logf("ALL IS WELL")
	s.gadgetsComeAndGo(within)
	before := s.processes()
	time.Sleep(s.pace)
	for _, how := range []ending{stopped, killed, unplugged} {
		s.home.stop(how)
		m := s.all()[s.r.IntN(len(s.machines))]
		switch how {
		case stopped:
			m.stop()
		case killed:
			m.kill()
		}
		time.Sleep(time.Duration(s.r.Int64N(int64(s.pace))))
		s.start()
		if m.stopAgent == nil {
			m.power()
		}
		s.within(within, "all is well after a restart of hub and agent", s.healthy)
	}
	if after := s.processes(); after != before {
		s.Fatalf("the restart of a hub or an agent moved or restarted something:\nbefore %s\nafter  %s", before, after)
	}
}
