package hub

import (
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Whoever may write to a topic of ours can also do so by mistake: a tool that
// clears all retained messages, a late will of a connection of ours that was
// replaced, a hand. Agents would take the hub for gone, Home Assistant show
// nothing any more, until something changes by chance. So the hub hears what it
// retains for others to rely on, and says it again.
//
// A broker keeps the order of a topic: what comes before our own last word has
// come back is older than that, and what comes after it is somebody else's.

// spoiled is a topic of ours at which somebody else wrote.
type spoiled struct {
	address topics.Address
	owed    bool // it has to be said again
	times   int  // that it was
	last    time.Time
}

const (
	spoiledFirst = time.Second      // between saying it again, doubled each time
	spoiledMost  = time.Minute      // so that two who disagree do not keep the broker busy
	spoiledQuiet = 10 * time.Minute // after which it begins anew
)

// overhear takes what was said at a topic of ours, by us or by another one.
func (h *Hub) overhear(a topics.Address, m topics.Message, now time.Time) {
	last, ours := h.published[m.Topic]
	switch {
	case !ours:
	case maphash.Bytes(h.seed, m.Payload) == last:
		h.heard[m.Topic] = true
	case h.heard[m.Topic]:
		delete(h.heard, m.Topic)
		s := h.spoiled[m.Topic]
		if s == nil || now.Sub(s.last) > spoiledQuiet {
			s = &spoiled{address: a}
			h.spoiled[m.Topic] = s
		}
		s.owed = true
	}
}

// expireSpoiled says again what is owed.
func (h *Hub) expireSpoiled(now time.Time) {
	for _, topic := range slices.Sorted(maps.Keys(h.spoiled)) {
		s := h.spoiled[topic]
		if !s.owed {
			if now.Sub(s.last) > spoiledQuiet {
				delete(h.spoiled, topic)
			}
			continue
		}
		if s.times > 0 {
			if at := s.last.Add(min(spoiledMost, spoiledFirst<<min(s.times-1, 10))); now.Before(at) {
				h.due(at)
				continue
			}
		}
		s.owed, s.last = false, now
		s.times++
		h.log.Warn("somebody else wrote to a topic of the hub: it is said again", "topic", topic)
		h.sayAgain(topic, s.address, now)
	}
}

func (h *Hub) sayAgain(topic string, a topics.Address, now time.Time) {
	delete(h.published, topic)
	switch a.Kind {
	case topics.HubAvailability:
		h.retain(topic, []byte(topics.Online))
	case topics.HubStatus:
		h.tally = tally{}
		h.publishHub(now)
	case topics.ServiceStatus:
		if v, known := h.views[a.Service]; known {
			h.retain(topic, topics.Encode(v))
		}
	case topics.ServiceEndpoints:
		if h.defined(a.Service) {
			h.retain(topic, h.encodedEndpoints(a.Service))
		}
	case topics.ServiceEndpoint:
		if h.defined(a.Service) {
			h.retain(topic, h.encodedEndpoint(a.Service))
		}
	}
}

// statusCleared asks a domain to say its status again that somebody took out of
// the broker: the next run of the hub would miss it.
func (h *Hub) statusCleared(name string, now time.Time) {
	const most = 3 // a minute
	d := h.domains[name]
	if d == nil || d.micro || d.status == nil || d.state != topics.DomainIsOnline || !h.limits.allow("status of "+name, most, now) {
		return
	}
	h.bus.Publish(h.tree.Message(topics.Address{Kind: topics.DomainCommand, Domain: name}, topics.Encode(topics.Command{Action: topics.ActionReport})))
}
