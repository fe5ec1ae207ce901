package agent

import (
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// message handles a message of the broker.
func (l *loop) message(m incoming, now time.Time) {
	if m.connID != l.connID || l.conn == nil {
		return // of a connection that is over
	}
	l.subscribedMessage(m.Message, now)
	a := m.address
	if a.Kind == topics.Unknown {
		return
	}
	if a.Kind.Imperative() && m.Retain {
		l.log.Warn("ignored an order that was retained: it is old", "topic", m.Topic)
		return
	}
	if !m.Retain {
		l.recordHubActivity(a.Kind, now)
	}
	switch a.Kind {
	case topics.HubAvailability:
		l.hub.availability = string(m.Payload)
		l.reconsiderPending(now)
	case topics.HubStatus:
		l.hubStatus(m.Message)
		l.reconsiderPending(now)
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
		l.invalidLease(m.Message)
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
		l.reportInvalid(err)
		return
	}
	if !topics.SameMajor(h.Protocol) && (!l.hub.statusReceived || l.hub.protocol != h.Protocol) {
		problem := fmt.Sprintf("the hub speaks protocol %.20q, this agent %s: it is not obeyed; bring both to the same version", h.Protocol, topics.Protocol)
		l.log.Error(problem)
		l.event(topics.DomainProblem, "", problem)
	}
	l.hub.statusReceived, l.hub.epoch, l.hub.protocol = true, h.Epoch, h.Protocol
}

// reportInvalid logs and publishes what is wrong with a payload, rate limited.
func (l *loop) reportInvalid(err error) {
	if l.mayReport(err.Error(), time.Now()) {
		l.log.Warn("ignored a message", "error", err)
		l.event(topics.MessageRefused, "", err.Error())
	}
}

// startCommand handles a start command, the whole set of services that should run.
func (l *loop) startCommand(m topics.Message, now time.Time) {
	if !l.stopBy.IsZero() {
		return // for the agent after this one
	}
	if len(m.Payload) == 0 {
		l.pendingCommand = nil
		return // cleared: what runs, runs
	}
	c, err := topics.Decode[topics.StartCommand](m.Topic, m.Payload)
	if err != nil {
		l.reportInvalid(err)
		return
	}
	l.pendingCommand = nil // by what came after it
	l.judgeCommand(c, m.Retain, now)
}

// reconsiderPending judges a start command again that waited for the hub.
func (l *loop) reconsiderPending(now time.Time) {
	if c := l.pendingCommand; c != nil {
		l.pendingCommand = nil
		l.judgeCommand(*c, true, now)
	}
}

// judgeCommand judges a start command and acts on the verdict: it is stored and
// applied, kept for later, ignored or refused.
func (l *loop) judgeCommand(c topics.StartCommand, retained bool, now time.Time) {
	s := commandContext{domain: l.id, dominion: l.store.memory.Dominion.ID, granted: l.grant.Epoch, rejoined: l.rejoined, hub: l.hub}
	s.epoch, s.generation, s.taken = l.store.position()
	verdict, reason := judge(c, retained, s)
	switch verdict {
	case same:
	case postpone:
		l.pendingCommand = &c
	case stale:
		l.log.Info("stale start command skipped", "reason", reason)
	case refuse:
		l.refuseCommand(c, reason)
	case apply:
		l.log.Info("start command", "epoch", c.Epoch, "generation", c.Generation, "services", len(c.Services))
		l.rejoined = false
		l.reportWriteError(l.store.setCommand(c, now))
		l.applyTiming(c.Timing)
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

// applyTiming takes over the timing of a start command. What that leaves out stays.
func (l *loop) applyTiming(t topics.Timing) {
	if t.Heartbeat > 0 {
		l.timing.Heartbeat = t.Heartbeat
		l.heartbeatDue = true // with what was taken
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
		l.reportInvalid(fmt.Errorf("cannot read %s: want ON or OFF, not %.40q", m.Topic, m.Payload))
		return
	}
	memory := l.store.memory
	if memory.Draining == on {
		return
	}
	memory.Draining = on
	l.reportWriteError(l.store.setMemory(memory, time.Now()))
	kind, text := topics.DomainUndrained, "the domain takes services again"
	if on {
		kind, text = topics.DomainDraining, "the domain is drained: it is given nothing, and what may run elsewhere leaves"
	}
	l.log.Info(text)
	l.event(kind, "", text)
}

// environment returns the variables that describe the dominion and this domain to
// a service.
func (l *loop) environment(service string) map[string]string {
	e := map[string]string{
		"DOMINION_TOPIC_PREFIX": l.tree.Prefix(),
		"DOMAIN_NAME":           l.config.Name,
		"DOMAIN_IP":             l.address(),
	}
	maps.Copy(e, l.traits.Environment())
	if l.store.command.Services[service].Exclusive {
		e["DOMINION_FENCE"] = l.fenceToken()
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
	if port == "" && u.Scheme == "mqtts" {
		port = "8883"
	} else if port == "" {
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
