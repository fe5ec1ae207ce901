package agent

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/agent/orders"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// message handles a message of the broker.
func (l *loop) message(m incoming, now time.Time) {
	if !l.connection.Open(m.connID) {
		return // of a connection that is over
	}
	l.topicMessage(m.Message, now)
	a := m.address
	if a.Kind == topics.Unknown {
		return
	}
	if a.Kind.Imperative() && m.Retain {
		l.log.Warn("ignored an order that was retained: it is old", "topic", m.Topic)
		return
	}
	if !m.Retain && (a.Kind != topics.HubStatus || !l.signatures.Required()) { // a signed one counts once it is verified
		l.hubActive(a.Kind, now)
	}
	switch a.Kind {
	case topics.HubAvailability:
		l.orders.SetAvailability(string(m.Payload))
		l.reconsiderPending(now)
	case topics.HubStatus:
		if l.signatures.Required() && len(m.Payload) > 0 {
			l.signedHubStatus(m, now)
		} else {
			l.hubStatus(m.Message, now)
		}
	case topics.DomainAvailability:
		// A will that came late, of a connection of ours that is over, or a
		// hub that lost us for a moment. What was stored is older than our
		// birth, which follows the subscription.
		if string(m.Payload) != topics.Online && l.connection.Joined() && !m.Retain {
			l.reports.Online()
		}
	case topics.HubKeys:
		l.keyList(m, now)
	case topics.HubCertificate:
		l.hubCertificate(m.Message, now)
	case topics.DomainServicesSet:
		if l.signatures.Required() && len(m.Payload) > 0 {
			l.signedOrder(m, now)
		} else {
			l.startCommand(m.Message, now)
		}
	case topics.DomainLease:
		l.invalidLease(m.Message, now)
	case topics.DomainCommand:
		if l.signatures.Required() {
			l.signedOrder(m, now)
		} else {
			l.command(m.Message, now)
		}
	case topics.DomainDrainSet:
		if !l.signatures.Required() { // else the hub orders it
			l.drain(m.Message, now)
		}
	}
}

// hubActive notes that the hub is there if it published a message just now.
func (l *loop) hubActive(k topics.Kind, now time.Time) {
	switch k {
	case topics.HubAvailability, topics.HubStatus, topics.DomainServicesSet, topics.DomainLease:
		l.connection.HubActive(now)
	}
}

// topicMessage passes a message to the traits and health checks of its topic.
func (l *loop) topicMessage(m topics.Message, now time.Time) {
	if requested, ok := l.connection.RequestedAt(m.Topic); ok {
		if err := l.traits.Message(m.Topic, m.Payload, m.Retain, now); err != nil {
			l.reports.Invalid(err, now)
		}
		l.supervisor.TopicMessage(m.Topic, m.Payload, m.Retain, requested, now)
	}
}

// subscribed handles the broker's answer to a subscription of a health check or trait.
func (l *loop) subscribed(e link.Subscribed, now time.Time) {
	if !l.connection.Counts(e) {
		return
	}
	problem := ""
	l.traits.Subscribed(e.Topic, e.Err == nil, now)
	if errors.Is(e.Err, client.ErrRefused) {
		problem = fmt.Sprintf("its health cannot be known: the broker does not let this domain read %s", e.Topic)
		l.log.Warn(problem)
	} else if e.Err != nil {
		return // the connection is over, and the link sends Down
	}
	l.supervisor.TopicSubscribed(e.Topic, e.Err == nil, problem, now)
}

// hubStatus notes the status of the hub, and reports a hub that speaks another protocol.
func (l *loop) hubStatus(m topics.Message, now time.Time) {
	if len(m.Payload) == 0 {
		return
	}
	h, err := topics.Decode[topics.Hub](m.Topic, m.Payload)
	if err != nil {
		l.reports.Invalid(err, now)
		return
	}
	if l.member != nil && !l.signatures.Required() && topics.HasKeys(h.Protocol) && h.Epoch > max(l.orders.Granted(), l.rejoinedAt) {
		l.rejoinedAt = h.Epoch
		l.link.Reconnect() // the hub began after it granted the join, and may have keys now
	}
	l.deployed.registry = h.Registry
	if problem := l.orders.SetStatus(h); problem != "" {
		l.log.Error(problem)
		l.reports.Event(topics.DomainProblem, "", problem)
	}
	l.reconsiderPending(now)
}

// startCommand handles a start command, the whole set of services that should run.
func (l *loop) startCommand(m topics.Message, now time.Time) {
	if !l.stopBy.IsZero() {
		return // for the agent after this one
	}
	if len(m.Payload) == 0 {
		l.orders.DropPending()
		l.signatures.DropHeld()
		return // cleared: what runs, runs
	}
	c, err := topics.Decode[topics.StartCommand](m.Topic, m.Payload)
	if err != nil {
		l.reports.Invalid(err, now)
		return
	}
	l.judgeCommand(c, m.Retain, now)
}

// reconsiderPending judges a start command again that waited for the hub.
func (l *loop) reconsiderPending(now time.Time) {
	if c := l.orders.Pending(); c != nil {
		l.judgeCommand(*c, true, now)
	}
}

// judgeCommand judges a start command and acts on the verdict: it is stored and
// applied, postponed, ignored or refused.
func (l *loop) judgeCommand(c topics.StartCommand, retained bool, now time.Time) {
	above := l.ratchetFor(topics.SignedHead{Dominion: c.Dominion, Domain: c.Domain, Epoch: c.Epoch, Generation: c.Generation, Run: c.Run, Key: c.Key})
	verdict, reason := l.orders.Judge(c, retained, l.store.accepted())
	switch verdict {
	case orders.Same, orders.Postpone:
	case orders.Stale:
		l.log.Info("stale start command skipped", "reason", reason)
	case orders.Refuse:
		l.reports.Refused(fmt.Sprintf("start command of epoch %d generation %d refused: %s", c.Epoch, c.Generation, reason), now)
	case orders.Apply:
		ratchet, err := l.acceptSigned(c, above)
		if err != nil {
			l.reports.Refused(fmt.Sprintf("start command of epoch %d generation %d refused: %v", c.Epoch, c.Generation, err), now)
			return
		}
		l.log.Info("start command", "epoch", c.Epoch, "generation", c.Generation, "services", len(c.Services))
		message := l.messageOf(c)
		l.reports.WriteError(l.store.setCommand(c, ratchet, message, now)) // before it is obeyed
		l.member.setLast(c.Dominion, message)
		l.applyTiming(c.Timing)
		l.supervisor.Apply(l.programs.Order(c.Services, now), now)
	}
}

// acceptSigned returns the ratchet after a start command that must be above another one, or why a
// signed one is not obeyed.
func (l *loop) acceptSigned(c topics.StartCommand, above signed.Ratchet) (signed.Ratchet, error) {
	if !l.signatures.Required() {
		return l.store.ratchet, nil
	}
	if !l.signatures.Counts(c.Key) { // it waited while another key list came, or this domain was adopted
		return l.store.ratchet, fmt.Errorf("the key %.12q that signed it is not a hub's any more", c.Key)
	}
	return above.Accept(c.Key, markOf(c.Epoch, c.Generation))
}

// applyTiming takes over the timing of a start command. What that leaves out stays.
func (l *loop) applyTiming(t topics.Timing) {
	if t.Heartbeat > 0 {
		l.timing.Heartbeat = t.Heartbeat
		l.reports.HeartbeatAtOnce() // with what was accepted
	}
	if t.Isolation > 0 {
		l.timing.Isolation = t.Isolation
		l.isolation.SetTimeout(t.Isolation.Duration())
	}
}

// drain takes what was published at drain/set.
func (l *loop) drain(m topics.Message, now time.Time) {
	var on bool
	switch strings.TrimSpace(string(m.Payload)) { // a hand's "ON" often ends its line
	case topics.On:
		on = true
	case topics.Off:
	default:
		l.reports.Invalid(fmt.Errorf("cannot read %s: want ON or OFF, not %.40q", m.Topic, m.Payload), now)
		return
	}
	l.setDraining(on, now)
}

// setDraining sets the flag that keeps services away from this domain, and reports it.
func (l *loop) setDraining(on bool, now time.Time) {
	memory := l.store.memory
	if memory.Draining == on {
		return
	}
	memory.Draining = on
	l.reports.WriteError(l.store.setMemory(memory, now))
	kind, text := topics.DomainUndrained, "the domain takes services again"
	if on {
		kind, text = topics.DomainDraining, "the domain is drained: it is given nothing, and what may run elsewhere leaves"
	}
	l.log.Info(text)
	l.reports.Event(kind, "", text)
}
