package simulation

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// gadget is a microcontroller, a domain that is its own one service: it publishes
// online and what it runs when it connects, and its will is offline. It obeys
// nobody, and nobody may order it anything, also where it claims to be fit for
// all that there is.
type gadget struct {
	home          *home
	name, service string
	on            atomic.Bool
}

// gadgets are the microcontrollers of a large house, and what is built into
// them.
var gadgets = map[string]string{"button-1": "bell", "button-2": "bell"}

// builtIn reports whether a service is, so that no machine has it.
func builtIn(service string) bool {
	for _, s := range gadgets {
		if s == service {
			return true
		}
	}
	return false
}

// plug gives it current.
func (g *gadget) plug() {
	g.on.Store(true)
	g.publishStatus()
}

// publishStatus publishes what it publishes at each connection.
func (g *gadget) publishStatus() {
	if !g.on.Load() {
		return
	}
	say := func(k topics.Kind, payload string) {
		g.home.net.publish(g.home.tree.Message(topics.Address{Kind: k, Domain: g.name}, []byte(payload)))
	}
	say(topics.DomainStatus, `{"name":"`+g.name+`","micro":true,"protocol":"1.0","traits":["lamp","eye"],"catalog":[{"service":"monitor","version":"1.0.0"},{"service":"lamp","version":"1.0.0"}],"address":"192.0.2.9","services":[{"service":"`+g.service+`","state":"running","port":80}]}`)
	say(topics.DomainAvailability, topics.Online)
}

// unplug removes it again: its will is published.
func (g *gadget) unplug() {
	g.on.Store(false)
	g.home.net.publish(g.home.tree.Message(topics.Address{Kind: topics.DomainAvailability, Domain: g.name}, []byte(topics.Offline)))
}

// reconnect has all that have current connect to the broker again, which restarted.
func (h *home) reconnect(after time.Duration) {
	for _, g := range h.gadgets {
		time.AfterFunc(after+time.Duration(h.random(0, g.name)%uint64(time.Second)), g.publishStatus)
	}
}

// lit names the gadgets that have current, and a service built in, sorted.
func (h *home) lit(service string) []string {
	var all []string
	for _, g := range h.gadgets {
		if g.on.Load() && g.service == service {
			all = append(all, g.name)
		}
	}
	return sorted(all)
}

// online is how many domains there are when all machines are up.
func (h *home) online() int {
	n := len(h.machines)
	for _, g := range h.gadgets {
		if g.on.Load() {
			n++
		}
	}
	return n
}

// micro reports whether a domain is a gadget.
func (h *home) micro(name string) bool {
	return slices.ContainsFunc(h.gadgets, func(g *gadget) bool { return g.name == name })
}

// gadgetsComeAndGo: what is built in follows its current, and what depends on it
// runs on.
func (s *storm) gadgetsComeAndGo(within time.Duration) {
	before := s.processes()
	for _, g := range s.gadgets {
		g.unplug()
	}
	s.within(within, "the microcontrollers are missed", s.healthy)
	for _, g := range s.gadgets {
		g.plug()
	}
	s.within(within, "the microcontrollers are there", s.healthy)
	if after := s.processes(); after != before {
		s.Fatalf("a microcontroller that came and went moved or restarted something:\nbefore %s\nafter  %s", before, after)
	}
}
