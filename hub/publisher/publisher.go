// Package publisher publishes the hub's messages. It owns what is retained at the
// hub's topics: a payload is published only when it differs from the last one, and
// again when another client overwrote it.
//
// It does not know what the payloads mean, and refuses nothing. Package hub alone
// imports it, and calls it from its loop.
package publisher

import (
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Bus carries messages away. Publish must not block.
type Bus interface {
	Publish(topics.Message)
}

// Publisher publishes messages. Make it with New.
type Publisher struct {
	bus  Bus
	log  *slog.Logger
	seed maphash.Seed

	// retained is what was published, by topic.
	retained map[string]retained
	// overwritten are the topics that another client has overwritten.
	overwritten map[string]*overwritten
}

// retained is the last payload of a topic. Its hash is as good as the payload, which
// for a thousand domains would be many megabytes.
type retained struct {
	hash uint64
	// returned reports whether the broker has delivered that payload back to the hub.
	// A broker keeps the order of a topic: what comes before is older than it, and what
	// comes after is of another client.
	returned bool
}

// overwritten is a topic at which another client published: a tool that clears all
// retained messages, a late will of a connection that was replaced, a person. Agents
// would take the hub for gone, and Home Assistant would show nothing, until something
// changes by chance.
type overwritten struct {
	address topics.Address
	// due is set where it has to be published again.
	due bool
	// times counts how often it was overwritten.
	times int
	last  time.Time
}

// The delay between two repetitions of a topic doubles each time, so that two clients
// that disagree do not keep the broker busy.
const (
	firstDelay = time.Second
	maxDelay   = time.Minute
	resetAfter = 10 * time.Minute // without an overwrite: the delay is the first again
)

// New returns a publisher that has published nothing.
func New(bus Bus, log *slog.Logger) *Publisher {
	return &Publisher{
		bus: bus, log: log, seed: maphash.MakeSeed(),
		retained: make(map[string]retained), overwritten: make(map[string]*overwritten),
	}
}

// Publish publishes a message as it is.
func (p *Publisher) Publish(m topics.Message) { p.bus.Publish(m) }

// Retain publishes a retained payload of a topic, if it is not the last one, and
// reports whether it did.
func (p *Publisher) Retain(topic string, payload []byte) bool {
	hash := maphash.Bytes(p.seed, payload)
	if last, is := p.retained[topic]; is && last.hash == hash {
		return false
	}
	p.retained[topic] = retained{hash: hash}
	p.bus.Publish(topics.Message{Topic: topic, Payload: payload, QoS: 1, Retain: true})
	return true
}

// Clear removes a retained topic from the broker.
func (p *Publisher) Clear(topic string) {
	delete(p.retained, topic)
	delete(p.overwritten, topic)
	p.bus.Publish(topics.Message{Topic: topic, QoS: 1, Retain: true})
}

// Forget has the next Retain of a topic publish, whatever the broker has.
func (p *Publisher) Forget(topic string) { delete(p.retained, topic) }

// Found notes what an earlier run retained at a topic, unless this one has published
// there.
func (p *Publisher) Found(topic string, payload []byte) {
	if _, is := p.retained[topic]; !is {
		p.retained[topic] = retained{hash: maphash.Bytes(p.seed, payload)}
	}
}

// Reset forgets everything: the broker of the next connection may have none of it.
func (p *Publisher) Reset() {
	clear(p.retained)
	clear(p.overwritten)
}

// Received takes a message at one of the hub's topics, of the hub or of another client.
func (p *Publisher) Received(a topics.Address, m topics.Message, now time.Time) {
	last, ours := p.retained[m.Topic]
	if !ours {
		return
	}
	if maphash.Bytes(p.seed, m.Payload) == last.hash {
		p.retained[m.Topic] = retained{last.hash, true}
		return
	}
	if !last.returned {
		return // it is older than what was published last
	}
	p.retained[m.Topic] = retained{hash: last.hash}
	o := p.overwritten[m.Topic]
	if o == nil || now.Sub(o.last) > resetAfter {
		o = &overwritten{address: a}
		p.overwritten[m.Topic] = o
	}
	o.due = true
}

// Expire returns the topics that have to be published again now, in order. The next
// Retain of each publishes.
func (p *Publisher) Expire(now time.Time) (again []topics.Address) {
	for _, topic := range slices.Sorted(maps.Keys(p.overwritten)) {
		o := p.overwritten[topic]
		if !o.due {
			if now.Sub(o.last) > resetAfter {
				delete(p.overwritten, topic)
			}
			continue
		}
		if now.Before(o.next()) {
			continue
		}
		o.due, o.last = false, now
		o.times++
		p.log.Warn("another client published to a topic of the hub: it is published again", "topic", topic)
		p.Forget(topic)
		again = append(again, o.address)
	}
	return again
}

// Next returns when Expire has something to return; zero: not by itself.
func (p *Publisher) Next() (next time.Time) {
	for _, o := range p.overwritten {
		if at := o.next(); o.due && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// next returns when the topic may be published again; zero: at once.
func (o *overwritten) next() time.Time {
	if o.times == 0 {
		return time.Time{}
	}
	return o.last.Add(min(maxDelay, firstDelay<<min(o.times-1, 10)))
}
