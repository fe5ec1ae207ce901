package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/hub/adoption"
	"github.com/jmbarzee/dominion/hub/macs"
	"github.com/jmbarzee/dominion/topics"
)

// withMACs returns the id of the domain whose MAC heartbeats and metrics at the topics of a name
// must have; false: that of none. The name of a domain that has a key is its own also while
// another machine, or nobody, is recorded by it.
func (h *Hub) withMACs(name string) (id string, is bool) {
	if m, is := h.memberOf(name); is {
		return m.ID, true
	}
	if d := h.fleet.Get(name); d != nil && h.signsFor(d) {
		return d.ID, true
	}
	return "", false
}

// takeHeartbeat takes a message at the heartbeat topic of a domain. Of one that has a key,
// only a heartbeat with the MAC of its last join counts. What the broker had stored is of a
// former run: it is no sign of life, and needs no MAC.
func (h *Hub) takeHeartbeat(name string, m topics.Message, now time.Time) error {
	id, is := h.withMACs(name)
	if !is || m.Retain || len(m.Payload) == 0 {
		return h.withoutKey(name, m, now)
	}
	b, err := h.macs.Heartbeat(id, m.Topic, m.Payload)
	if err != nil {
		return h.withoutMAC(m, err)
	}
	h.heartbeat(name, b, m, now)
	return nil
}

// withoutKey takes a heartbeat at a name that no domain with a key has. The id of one that has
// a key is not taken there: it would give that another name.
func (h *Hub) withoutKey(name string, m topics.Message, now time.Time) error {
	b, err := decode[topics.Heartbeat](m)
	if err != nil || b == nil {
		return err
	}
	if by, adopted := h.adoption.Members()[b.ID]; adopted && !adoption.Unfinished(by) && !m.Retain {
		if by.Name == name {
			return nil // it has not joined in this run of the hub
		}
		return fmt.Errorf("cannot take %s: field id: it is the id of %s, which has a key", m.Topic, by.Name)
	}
	h.heartbeat(name, *b, m, now)
	return nil
}

// takeMetrics takes a message at the metrics topic of a domain. Of one that has a key, what the
// broker had stored does not count: it publishes them again when it joins.
func (h *Hub) takeMetrics(name string, m topics.Message, now time.Time) error {
	id, is := h.withMACs(name)
	if !is {
		return decoded(m, func(v topics.Metrics) { h.metrics(name, v, m.Retain, now) })
	}
	if m.Retain || len(m.Payload) == 0 {
		return nil
	}
	v, err := h.macs.Metrics(id, m.Topic, m.Payload)
	if err != nil {
		return h.withoutMAC(m, err)
	}
	h.metrics(name, v, false, now)
	return nil
}

// withoutMAC returns why a message of a domain that has a key is not taken; nil: nobody needs
// to know, since it may be of before the domain's join, which is on its way.
func (h *Hub) withoutMAC(m topics.Message, why error) error {
	if errors.Is(why, macs.ErrNoExchange) || errors.Is(why, macs.ErrFormer) {
		return nil
	}
	return fmt.Errorf("cannot take %s: %w", m.Topic, why)
}

// metrics takes the metrics of a domain: they rank the domains, and contain what services use,
// which numbers follow. Home Assistant reads them at their topic: for it the hub only notes
// whether there is a temperature to be shown.
func (h *Hub) metrics(name string, m topics.Metrics, retained bool, now time.Time) {
	d := h.fleet.Get(name)
	if d == nil {
		return
	}
	if d.Measure(m) {
		h.touch(name)
	}
	if h.cfg.Metrics != "" {
		d.Metrics = &m
	}
	h.takeUsage(d, m, retained, now)
	if !d.Hot && m.Temperature != nil {
		d.Hot = true
		h.touch(name)
		h.remember(d)
	}
}
