package orders

import (
	"fmt"

	"github.com/jmbarzee/dominion/topics"
)

// maxJump is how far a start command's epoch, or its generation within the
// same epoch, may be ahead of the last one accepted. A greater one, sent by mistake
// or by an attacker, would lock the real hub out for good.
const maxJump = 1_000_000

// commandContext is what a start command is judged by.
type commandContext struct {
	// domain is the id of this domain.
	domain string
	// dominion is the id of the dominion that it joined.
	dominion string
	// last is the last start command that was accepted of this dominion.
	last Accepted
	// granted is the epoch of the hub that granted the last join.
	granted uint64
	// run is that of the hub which granted the last join; "": it has none.
	run string
	// rejoined reports that no start command was accepted since that join.
	rejoined bool
	hub      hubView
}

// Accepted is the position of the start command in force.
type Accepted struct {
	// Present reports that there is one of the dominion that was joined.
	Present           bool
	Epoch, Generation uint64
	// Run is the run of the hub that gave it; "": it has none.
	Run string
}

// hubView is the state of the hub according to its retained topics.
type hubView struct {
	// availability is "" before it is received.
	availability string
	// statusReceived reports that hub/status arrived on this connection.
	statusReceived bool
	epoch          uint64
	run            string
	protocol       string
}

// Verdict is what to do with a start command.
type Verdict int

const (
	// Apply: it is accepted.
	Apply Verdict = iota
	// Same: it was accepted before, nothing is to be done.
	Same
	// Postpone: it is judged again when the hub is online.
	Postpone
	// Stale: it was retained and left by an earlier run of the hub.
	Stale
	// Refuse: it is not obeyed, and that is reported.
	Refuse
)

// judge decides on a start command; the first rule that matches wins. retained
// means that the broker had stored it when the agent connected. What is wrong with
// one entry concerns that service alone: the supervisor refuses it.
func judge(c topics.StartCommand, retained bool, s commandContext) (Verdict, string) {
	if s.begins(c) {
		s.last = Accepted{}
	}
	switch {
	// It must be for this domain and of the dominion that it joined. One that was
	// retained for a former machine of this name, or by a former hub, is stale.
	case retained && (c.Dominion != s.dominion || c.Domain != s.domain):
		return Stale, fmt.Sprintf("it was retained, for domain %q of dominion %q", c.Domain, c.Dominion)
	case c.Dominion != s.dominion:
		return Refuse, fmt.Sprintf("it is of dominion %q, joined is %q", c.Dominion, s.dominion)
	case c.Domain != s.domain:
		return Refuse, fmt.Sprintf("it is for domain %q, this one is %q", c.Domain, s.domain)
	case s.hub.statusReceived && !topics.SameMajor(s.hub.protocol):
		return Refuse, fmt.Sprintf("the hub speaks protocol %q, this agent %s: bring both to the same version", s.hub.protocol, topics.Protocol)

	// An old one is never applied, whoever sends it.
	case s.last.Present && c.Epoch == s.last.Epoch && c.Generation == s.last.Generation:
		return Same, ""
	// An old one that was retained is of a broker that was restored from an older
	// state: it was not sent now.
	case s.olderThanLast(c) && retained:
		return Stale, fmt.Sprintf("it was retained, of epoch %d generation %d, taken was %d generation %d", c.Epoch, c.Generation, s.last.Epoch, s.last.Generation)
	case s.olderThanLast(c):
		return Refuse, fmt.Sprintf("it is of epoch %d generation %d, taken was %d generation %d", c.Epoch, c.Generation, s.last.Epoch, s.last.Generation)
	case c.Epoch > s.lastEpoch() && c.Epoch-s.lastEpoch() > maxJump:
		return Refuse, fmt.Sprintf("its epoch %d is far above the last known, %d: ignored", c.Epoch, s.lastEpoch())
	case s.last.Present && c.Epoch == s.last.Epoch && c.Generation-s.last.Generation > maxJump:
		return Refuse, fmt.Sprintf("its generation %d is far above the last taken, %d: ignored", c.Generation, s.last.Generation)

	// A signed one counts only with the run of the hub that granted the join. One of a former
	// run is replayed; for one of the next run the domain joins again first.
	case s.ofAnotherRun(c) && c.Run != "" && c.Run == s.hub.run:
		return Postpone, "it is of the next run of the hub, which has not granted a join yet"
	case s.ofAnotherRun(c) && retained:
		return Stale, "it was retained, and is of another run of the hub than the one that granted the join"
	case s.ofAnotherRun(c):
		return Refuse, "it is of another run of the hub than the one that granted the join: it is replayed, or came late"

	// A retained one that is signed counts only with the epoch that the grant named, which
	// the hub has signed for this join: hub/status may be anybody's.
	case retained && c.Key != "" && c.Epoch != s.granted:
		return Stale, fmt.Sprintf("it was retained, of epoch %d, and the join was granted in epoch %d", c.Epoch, s.granted)
	// A retained one counts only with the hub that published it.
	case retained && (!s.hub.statusReceived || s.hub.availability != topics.Online):
		return Postpone, "it was retained, and the hub is not known to be online"
	case retained && c.Key == "" && c.Epoch != max(s.hub.epoch, s.granted):
		return Stale, fmt.Sprintf("it was retained, of epoch %d, and the hub runs epoch %d", c.Epoch, max(s.hub.epoch, s.granted))
	}
	return Apply, ""
}

// begins reports whether a signed start command is the first one that is taken of the run and
// epoch that the grant of a join named.
func (s commandContext) begins(c topics.StartCommand) bool {
	return s.rejoined && c.Key != "" && s.run != "" && c.Run == s.run && c.Epoch == s.granted && s.last.Run != s.run
}

// ofAnotherRun reports whether a signed start command is of another run of the hub than the one that
// granted the join.
func (s commandContext) ofAnotherRun(c topics.StartCommand) bool {
	return c.Key != "" && s.run != "" && c.Run != s.run
}

// olderThanLast reports whether a start command is older than the one in force.
// The hub that granted the last join decides where counting goes on: the first
// command after it may be of the epoch that the grant named, whatever was accepted
// before.
func (s commandContext) olderThanLast(c topics.StartCommand) bool {
	if s.rejoined && c.Epoch == s.granted && c.Epoch < s.last.Epoch {
		return false
	}
	return s.last.Present && (c.Epoch < s.last.Epoch || c.Epoch == s.last.Epoch && c.Generation < s.last.Generation)
}

// lastEpoch returns what a new epoch is compared with: an agent follows its hub to
// any epoch that the grant of its own join named.
func (s commandContext) lastEpoch() uint64 {
	if s.last.Present {
		return max(s.last.Epoch, s.granted)
	}
	return s.granted
}
