// Package orders decides which orders of the hub an agent obeys: start commands, by an
// ordered table of rules (rules.go), and requests to join again.
//
// It holds what that depends on: the grant of the last join, the state of the hub, and
// a start command that waits until the hub is online. It carries nothing out, does no
// I/O, and reads no clock. Only package agent imports it.
package orders

import (
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Orders judges the orders to one domain. Make it with New.
type Orders struct {
	// domain is the id of this domain, session that of this run of its agent.
	domain, session string
	// dominion is the id of the dominion that was joined.
	dominion string
	// granted is the epoch of the hub that granted the last join.
	granted uint64
	// run is that of the hub which granted the last join; "": it has none.
	run string
	// rejoined reports that no start command was accepted since that join.
	rejoined bool
	hub      hubView
	// pending is a retained start command that waits until the hub is online; nil: none.
	pending *topics.StartCommand
	// numbers are those of the last signed command that was accepted, by hub key.
	numbers map[string]uint64
	// lastResync is when a resync was accepted last.
	lastResync time.Time
}

// New returns the judge of the orders to a domain, by its id and that of the run of
// its agent.
func New(domain, session string) *Orders {
	return &Orders{domain: domain, session: session, numbers: make(map[string]uint64)}
}

// Join notes the grant of a new join. What was received of the hub before is void.
func (o *Orders) Join(g topics.Grant) {
	o.dominion, o.granted, o.run, o.rejoined = g.Dominion, g.Epoch, g.Run, true
	o.hub, o.pending = hubView{}, nil
}

// Rejoin notes the grant of another join over the same connection: what was received of the
// hub by it counts.
func (o *Orders) Rejoin(g topics.Grant) {
	o.dominion, o.granted, o.run, o.rejoined = g.Dominion, g.Epoch, g.Run, true
}

// Granted returns the epoch of the hub that granted the last join.
func (o *Orders) Granted() uint64 { return o.granted }

// SetAvailability notes the availability of the hub.
func (o *Orders) SetAvailability(availability string) { o.hub.availability = availability }

// SetStatus notes the status of the hub. problem is why the hub is not obeyed, once
// for each connection and protocol; "" if it is.
func (o *Orders) SetStatus(h topics.Hub) (problem string) {
	if !topics.SameMajor(h.Protocol) && (!o.hub.statusReceived || o.hub.protocol != h.Protocol) {
		problem = fmt.Sprintf("the hub speaks protocol %.20q, this agent %s: it is not obeyed; bring both to the same version", h.Protocol, topics.Protocol)
	}
	o.hub.statusReceived, o.hub.epoch, o.hub.run, o.hub.protocol = true, h.Epoch, h.Run, h.Protocol
	return problem
}

// HubOffline reports whether the hub of this connection is offline.
func (o *Orders) HubOffline() bool { return o.hub.availability == topics.Offline }

// Judge decides on a start command, which replaces one that waits. retained means that
// the broker had stored it. last is the start command in force. One to postpone is held
// until Pending returns it.
func (o *Orders) Judge(c topics.StartCommand, retained bool, last Accepted) (Verdict, string) {
	o.pending = nil
	v, reason := judge(c, retained, o.context(last))
	switch v {
	case Apply:
		o.rejoined = false
	case Postpone:
		o.pending = &c
	}
	return v, reason
}

// context returns what a start command is judged by.
func (o *Orders) context(last Accepted) commandContext {
	return commandContext{domain: o.domain, dominion: o.dominion, last: last, granted: o.granted, run: o.run, rejoined: o.rejoined, hub: o.hub}
}

// Compare decides on a signed start command by what can be compared before its signature is
// verified. One to apply or to postpone is worth a verification, and is judged after
// it; nothing is changed by one that was not verified.
func (o *Orders) Compare(h topics.SignedHead, retained bool, last Accepted) (Verdict, string) {
	return judge(commandOf(h), retained, o.context(last))
}

// Begins reports whether a signed start command is the first one of the run of the hub that granted
// the last join. The hub has signed that grant for this join: the command is none of before it, and
// what was obeyed before it, such as of a hub that was restored or replaced since, does not count.
func (o *Orders) Begins(h topics.SignedHead, last Accepted) bool {
	return o.context(last).begins(commandOf(h))
}

// commandOf returns what is judged of a start command by its head.
func commandOf(h topics.SignedHead) topics.StartCommand {
	return topics.StartCommand{Dominion: h.Dominion, Domain: h.Domain, Epoch: h.Epoch, Generation: h.Generation, Run: h.Run, Key: h.Key}
}

// CompareCommand returns why a signed command is not obeyed, by what can be compared before
// its signature is verified: it is of another run of the agent, or was sent before one
// that was obeyed.
func (o *Orders) CompareCommand(h topics.SignedHead) error {
	if h.Session != o.session {
		return errors.New("it is for another run of this agent")
	}
	if last, is := o.numbers[h.Key]; is && h.Number <= last {
		return fmt.Errorf("it is number %d, and %d was obeyed: it is replayed, or came late", h.Number, last)
	}
	return nil
}

// AcceptCommand notes that a signed command was verified, or returns why it is not obeyed.
func (o *Orders) AcceptCommand(h topics.SignedHead) error {
	if err := o.CompareCommand(h); err != nil {
		return err
	}
	o.numbers[h.Key] = h.Number
	return nil
}

// Pending returns the start command that waits, which was retained, to be judged again
// as the state of the hub has changed; nil: none waits.
func (o *Orders) Pending() *topics.StartCommand { return o.pending }

// DropPending drops the start command that waits, because it was cleared.
func (o *Orders) DropPending() { o.pending = nil }

// resyncPause is the least time between two resyncs: one that is sent again and
// again does not keep the agent from its hub.
const resyncPause = 5 * time.Second

// AllowResync returns why a resync is refused; nil if it is not. A resync names the
// session that is meant, and only has the agent join its hub again, so an old one
// that is replayed does not change which start command is in force.
func (o *Orders) AllowResync(session string, now time.Time) error {
	if session != o.session {
		return errors.New("resync is for another run of this agent")
	}
	if !o.lastResync.IsZero() && now.Sub(o.lastResync) < resyncPause {
		return fmt.Errorf("resync was obeyed less than %v ago", resyncPause)
	}
	o.lastResync = now
	return nil
}
