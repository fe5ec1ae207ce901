package simulation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

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
