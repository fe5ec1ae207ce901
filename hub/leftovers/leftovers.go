// Package leftovers decides what is cleared of what this dominion retained in the broker
// with an earlier configuration: services that the present one does not have, and
// everything below a topic_prefix that it had before.
//
// The former prefixes are persisted until nothing is left below them. Where the status
// of the hub of another dominion is retained below one, it is that dominion's now, and
// nothing is cleared there.
//
// It does no I/O and knows no other part of the hub: messages in, topics to be cleared
// out. Package hub alone imports it, and calls it from its loop.
package leftovers

import (
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const (
	// homeAssistantTime is how long after the hub is ready, or after the last look, Home
	// Assistant has received the topics that it is to use from now on.
	homeAssistantTime = 3 * time.Second
	// patience is how long another broker may take to replay what it retains, and how
	// long Home Assistant is waited for.
	patience = 30 * time.Second
	// maxTopics bounds the topics below one former prefix.
	maxTopics = 1 << 16
	// maxServices bounds the services.
	maxServices = 10_000
)

// Leftovers holds what earlier configurations left. Make it with New.
type Leftovers struct {
	// id is that of the dominion.
	id string
	// services are those of which the broker retains something, and which the
	// configuration does not have.
	services map[string]bool

	prefixes map[string]*prefix
	// filters match what is retained below the prefixes, sorted.
	filters []string
	// at is when to look at the prefixes; zero: not before something happens.
	at time.Time
	// until is how long Home Assistant is waited for.
	until time.Time
}

// prefix is what is retained below one former prefix.
type prefix struct {
	tree topics.Tree
	// ours is set where the status there has our id.
	ours bool
	// late is set where nothing came in time, and it was waited for.
	late bool
	// retained are the topics.
	retained map[string]topics.Address
	// live are the domains of which something came that was not retained.
	live map[string]bool
}

// Home is what the part needs of the rest of the hub.
type Home interface {
	// Announced reports whether Home Assistant has received everything.
	Announced() bool
	// Domain returns whether a domain has joined below the present prefix, and whether it
	// has reported its status there.
	Domain(name string) (joined, reported bool)
}

// New returns the leftovers of the dominion with an id, which had these prefixes before
// the present one. The present one may be among them.
func New(id string, former []string, present string) *Leftovers {
	l := &Leftovers{id: id, services: make(map[string]bool), prefixes: make(map[string]*prefix)}
	for _, name := range former {
		if name == "" || name == present || l.prefixes[name] != nil {
			continue
		}
		l.prefixes[name] = &prefix{
			tree: topics.NewTree(name), retained: make(map[string]topics.Address), live: make(map[string]bool),
		}
	}
	l.follow()
	return l
}

// Prefixes returns the prefixes below which something may be left, sorted.
func (l *Leftovers) Prefixes() []string { return slices.Sorted(maps.Keys(l.prefixes)) }

// Filters match what is retained below the prefixes, sorted. It must not be changed.
func (l *Leftovers) Filters() []string { return l.filters }

// follow finds the filters.
func (l *Leftovers) follow() {
	l.filters = nil
	for _, p := range l.prefixes {
		for _, e := range topics.Catalog() {
			if e.Retain {
				l.filters = append(l.filters, p.tree.Filter(e.Kind))
			}
		}
	}
	slices.Sort(l.filters)
}

// AddService notes a service that the configuration does not have. It reports whether
// that is to be cleared.
func (l *Leftovers) AddService(name string) bool {
	if len(l.services) >= maxServices {
		return false
	}
	l.services[name] = true
	return true
}

// TakeServices returns the services that were added since the last call, sorted.
func (l *Leftovers) TakeServices() []string {
	if len(l.services) == 0 {
		return nil
	}
	all := slices.Sorted(maps.Keys(l.services))
	clear(l.services)
	return all
}

// Receive takes a message below a former prefix; former is false for other topics.
func (l *Leftovers) Receive(m topics.Message) (former bool) {
	for _, p := range l.prefixes {
		if a, is := p.tree.Parse(m.Topic); is {
			p.receive(a, m, l.id)
			return true
		}
	}
	return false
}

func (p *prefix) receive(a topics.Address, m topics.Message, id string) {
	if len(m.Payload) == 0 {
		delete(p.retained, m.Topic)
		return
	}
	if !m.Retain {
		p.live[a.Domain] = true
	} else if len(p.retained) < maxTopics {
		p.retained[m.Topic] = a
	}
	if a.Kind == topics.HubStatus {
		s, err := topics.Decode[topics.Hub](m.Topic, m.Payload)
		p.ours = err == nil && s.ID == id
	}
}

// Schedule has the prefixes looked at in a moment: the hub is ready, was connected again,
// or a domain came or went.
func (l *Leftovers) Schedule(now time.Time) {
	if len(l.prefixes) > 0 {
		l.at, l.until = now.Add(homeAssistantTime), now.Add(patience)
	}
}

// Disconnected forgets what comes again with the next connection.
func (l *Leftovers) Disconnected() {
	l.at = time.Time{}
	for _, p := range l.prefixes {
		p.ours = false
		clear(p.retained)
		clear(p.live)
	}
}

// Next returns when Expire has something to do; zero: not by itself.
func (l *Leftovers) Next() time.Time { return l.at }

// Expire returns the topics that are to be cleared now, in order, and the prefixes below
// which nothing is left. What a domain published, and the hub of it, stays while the
// domain has not reported below the present prefix: its agent may still have the former
// one, and Home Assistant reads it there.
func (l *Leftovers) Expire(home Home, now time.Time) (cleared, finished []string) {
	if l.at.IsZero() || now.Before(l.at) {
		return nil, nil
	}
	if now.Before(l.until) && !home.Announced() {
		l.at = now.Add(homeAssistantTime)
		return nil, nil
	}
	l.at = time.Time{}
	for _, name := range l.Prefixes() {
		p := l.prefixes[name]
		if len(p.retained) == 0 && !p.ours && !p.late {
			p.late, l.at = true, now.Add(patience)
			continue
		}
		some, all := p.clear(home)
		cleared = append(cleared, some...)
		if all {
			delete(l.prefixes, name)
			finished = append(finished, name)
		}
	}
	if len(finished) > 0 {
		l.follow()
	}
	return cleared, finished
}

// clear returns what may be cleared, and whether that is all. The hub's availability and
// status are the last: what Home Assistant has of a domain that has not come reads
// them, and after a restart the id in the status shows whose the rest is.
func (p *prefix) clear(home Home) (cleared []string, all bool) {
	if !p.ours {
		return nil, true
	}
	last := func(a topics.Address) bool { return a.Kind == topics.HubStatus || a.Kind == topics.HubAvailability }
	for _, end := range []bool{false, true} {
		left := 0
		for _, topic := range slices.Sorted(maps.Keys(p.retained)) {
			a := p.retained[topic]
			if last(a) != end {
				continue
			}
			if !p.unused(a, home) {
				left++
				continue
			}
			delete(p.retained, topic)
			cleared = append(cleared, topic)
		}
		if left > 0 {
			return cleared, false
		}
	}
	return cleared, true
}

// unused reports whether a topic is read by nobody who has the present prefix.
func (p *prefix) unused(a topics.Address, home Home) bool {
	if a.Domain == "" || a.Kind == topics.DomainServicesSet {
		return true
	}
	joined, reported := home.Domain(a.Domain)
	if joined {
		return reported
	}
	return !p.live[a.Domain]
}
