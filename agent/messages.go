package agent

import (
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// message takes a message of the broker.
func (l *loop) message(m incoming, now time.Time) {
	if m.n != l.n || l.conn == nil {
		return // of a connection that is over
	}
	l.hear(m.Message, now)
	a, ok := l.tree.Parse(m.Topic)
	if !ok {
		return
	}
	if a.Kind.Imperative() && m.Retain {
		l.log.Warn("ignored an order that was retained: it is old", "topic", m.Topic)
		return
	}
	if !m.Retain {
		l.sawHub(a.Kind, now)
	}
	switch a.Kind {
	case topics.HubAvailability:
		l.hub.availability = string(m.Payload)
		l.release(now)
	case topics.HubStatus:
		l.hubStatus(m.Message)
		l.release(now)
	case topics.DomainAvailability:
		// A will that came late, of a connection of ours that is over, or a
		// hub that lost us for a moment. What was stored is older than our
		// birth, which follows the subscription.
		if string(m.Payload) != topics.Online && l.ready && !m.Retain {
			l.publish(topics.DomainAvailability, []byte(topics.Online))
		}
	case topics.DomainServicesSet:
		l.startCommand(m.Message, now)
	case topics.DomainLease:
		l.lease(m.Message)
	case topics.DomainCommand:
		l.command(m.Message, now)
	case topics.DomainDrainSet:
		l.drain(m.Message)
	}
}

func (l *loop) hubStatus(m topics.Message) {
	if len(m.Payload) == 0 {
		return
	}
	h, err := topics.Decode[topics.Hub](m.Topic, m.Payload)
	if err != nil {
		l.misunderstood(err)
		return
	}
	if !topics.SameMajor(h.Protocol) && (!l.hub.known || l.hub.protocol != h.Protocol) {
		problem := fmt.Sprintf("the hub speaks protocol %.20q, this agent %s: it is not obeyed; bring both to the same version", h.Protocol, topics.Protocol)
		l.log.Error(problem)
		l.event(topics.DomainProblem, "", problem)
	}
	l.hub.known, l.hub.epoch, l.hub.protocol = true, h.Epoch, h.Protocol
}

// misunderstood says what is wrong with a payload, once in a while.
func (l *loop) misunderstood(err error) {
	if l.mayReport(err.Error(), time.Now()) {
		l.log.Warn("ignored a message", "error", err)
		l.event(topics.MessageRefused, "", err.Error())
	}
}

// startCommand takes the whole set of services that should run, or refuses it.
func (l *loop) startCommand(m topics.Message, now time.Time) {
	if !l.stopBy.IsZero() {
		return // for the agent after this one
	}
	if len(m.Payload) == 0 {
		l.held = nil
		return // cleared: what runs, runs
	}
	c, err := topics.Decode[topics.StartCommand](m.Topic, m.Payload)
	if err != nil {
		l.misunderstood(err)
		return
	}
	l.held = nil // by what came after it
	l.consider(c, m.Retain, now)
}

// release looks at a held start command again.
func (l *loop) release(now time.Time) {
	if c := l.held; c != nil {
		l.held = nil
		l.consider(*c, true, now)
	}
}

func (l *loop) consider(c topics.StartCommand, retained bool, now time.Time) {
	s := standing{domain: l.id, dominion: l.store.memory.Dominion.ID, granted: l.grant.Epoch, rejoined: l.rejoined, hub: l.hub}
	s.epoch, s.generation, s.taken = l.store.position()
	verdict, reason := judge(c, retained, s)
	switch verdict {
	case same:
	case hold:
		l.held = &c
	case stale:
		l.log.Info("left out a start command", "reason", reason)
	case refuse:
		l.refuseCommand(c, reason)
	case apply:
		l.log.Info("start command", "epoch", c.Epoch, "generation", c.Generation, "services", len(c.Services))
		l.rejoined = false
		l.wrote(l.store.take(c, now))
		l.obeyTiming(c.Timing)
		l.supervisor.Apply(c.Services, now)
	}
}

func (l *loop) refuseCommand(c topics.StartCommand, reason string) {
	text := fmt.Sprintf("start command of epoch %d generation %d refused: %s", c.Epoch, c.Generation, reason)
	if l.mayReport(text, time.Now()) {
		l.log.Warn(text)
		l.event(topics.CommandRefused, "", text)
	}
}

// obeyTiming takes over a dominion's timing; what it leaves out stays.
func (l *loop) obeyTiming(t topics.Timing) {
	if t.Heartbeat > 0 {
		l.timing.Heartbeat = t.Heartbeat
		l.beatNow = true // with what was taken
	}
	if t.Isolation > 0 {
		l.timing.Isolation = t.Isolation
	}
}

// drain sets the flag that keeps services away from this domain.
func (l *loop) drain(m topics.Message) {
	var on bool
	switch strings.TrimSpace(string(m.Payload)) { // a hand's "ON" often ends its line
	case topics.On:
		on = true
	case topics.Off:
	default:
		l.misunderstood(fmt.Errorf("cannot read %s: want ON or OFF, not %.40q", m.Topic, m.Payload))
		return
	}
	memory := l.store.memory
	if memory.Draining == on {
		return
	}
	memory.Draining = on
	l.wrote(l.store.remember(memory, time.Now()))
	kind, text := topics.DomainUndrained, "the domain takes services again"
	if on {
		kind, text = topics.DomainDraining, "the domain is drained: it is given nothing, and what may run elsewhere leaves"
	}
	l.log.Info(text)
	l.event(kind, "", text)
}

// environment is what services are told of the dominion and this domain.
func (l *loop) environment(service string) map[string]string {
	e := map[string]string{
		"DOMINION_TOPIC_PREFIX": l.tree.Prefix(),
		"DOMAIN_NAME":           l.config.Name,
		"DOMAIN_IP":             l.address(),
	}
	maps.Copy(e, l.traits.Environment())
	if l.store.command.Services[service].Exclusive {
		e["DOMINION_FENCE"] = l.fence()
	}
	broker := l.store.memory.Hub
	if all := staticURLs(l.config.Hub); broker == "" && len(all) > 0 {
		broker = all[0]
	}
	u, err := url.Parse(broker)
	if err != nil || u.Scheme != "mqtt" && u.Scheme != "mqtts" || !topics.ValidAddress(u.Hostname()) {
		return e
	}
	u = &url.URL{Scheme: u.Scheme, Host: u.Host} // no user, and nothing that an announcement may have added
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "mqtts":
		port = "8883"
	default:
		port = "1883"
	}
	e["DOMINION_URL"], e["DOMINION_IP"], e["DOMINION_PORT"] = u.String(), u.Hostname(), port
	return e
}

func (l *loop) address() string { return *l.reachedAt.Load() }

func (l *loop) serviceVersion(service string) string {
	for _, row := range l.catalog {
		if row.Service == service {
			return row.Version
		}
	}
	return ""
}

// maxRefusals is how many different refusals are reported in a minute, each once.
const maxRefusals = 20

// mayReport reports whether a refusal may be logged and published now: a peer that
// repeats a mistake must not fill log and network.
func (l *loop) mayReport(text string, now time.Time) bool {
	l.refusals.Expire(now)
	return l.refusals.Allow(text, 1, now)
}
