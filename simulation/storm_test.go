package simulation

import (
	"math/rand/v2"
	"os"
	"time"

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
