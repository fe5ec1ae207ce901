package agent

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

	// taken reports that there is a start command of this dominion in force, of
	// this epoch and generation.
	taken             bool
	epoch, generation uint64
	// granted is the epoch of the hub that granted the last join.
	granted uint64
	// rejoined reports that no start command was accepted since that join.
	rejoined bool

	hub hubView
}

// hubView is the state of the hub according to its retained topics.
type hubView struct {
	// availability is "" before it is known.
	availability string
	// statusReceived reports that hub/status arrived on this connection.
	statusReceived bool
	epoch          uint64
	protocol       string
}

// verdict is what to do with a start command.
type verdict int

const (
	apply    verdict = iota // take it
	same                    // taken before: nothing to do
	postpone                // judge it again when more is known of the hub
	stale                   // a retained one that an earlier run of the hub left: no news
	refuse                  // not to be obeyed, and people should know
)

// judge decides on a start command; the first rule that matches wins. retained
// means that the broker had stored it when the agent connected. What is wrong with
// one entry concerns that service alone: the supervisor refuses it.
func judge(c topics.StartCommand, retained bool, s commandContext) (verdict, string) {
	switch {
	// It must be for this domain and of the dominion that it joined. One that was
	// retained for a former machine of this name, or by a former hub, is stale.
	case retained && (c.Dominion != s.dominion || c.Domain != s.domain):
		return stale, fmt.Sprintf("it was retained, for domain %q of dominion %q", c.Domain, c.Dominion)
	case c.Dominion != s.dominion:
		return refuse, fmt.Sprintf("it is of dominion %q, joined is %q", c.Dominion, s.dominion)
	case c.Domain != s.domain:
		return refuse, fmt.Sprintf("it is for domain %q, this one is %q", c.Domain, s.domain)
	case s.hub.statusReceived && !topics.SameMajor(s.hub.protocol):
		return refuse, fmt.Sprintf("the hub speaks protocol %q, this agent %s: bring both to the same version", s.hub.protocol, topics.Protocol)

	// An old one is never applied, whoever sends it.
	case s.taken && c.Epoch == s.epoch && c.Generation == s.generation:
		return same, ""
	// An old one that was retained is of a broker that was restored from an older
	// state: it was not sent now.
	case s.olderThanTaken(c) && retained:
		return stale, fmt.Sprintf("it was retained, of epoch %d generation %d, taken was %d generation %d", c.Epoch, c.Generation, s.epoch, s.generation)
	case s.olderThanTaken(c):
		return refuse, fmt.Sprintf("it is of epoch %d generation %d, taken was %d generation %d", c.Epoch, c.Generation, s.epoch, s.generation)
	case c.Epoch > s.lastEpoch() && c.Epoch-s.lastEpoch() > maxJump:
		return refuse, fmt.Sprintf("its epoch %d is far above the last known, %d: ignored", c.Epoch, s.lastEpoch())
	case s.taken && c.Epoch == s.epoch && c.Generation-s.generation > maxJump:
		return refuse, fmt.Sprintf("its generation %d is far above the last taken, %d: ignored", c.Generation, s.generation)

	// A retained one counts only with the hub that published it.
	case retained && (!s.hub.statusReceived || s.hub.availability != topics.Online):
		return postpone, "it was retained, and the hub is not known to be online"
	case retained && c.Epoch != max(s.hub.epoch, s.granted):
		return stale, fmt.Sprintf("it was retained, of epoch %d, and the hub runs epoch %d", c.Epoch, max(s.hub.epoch, s.granted))
	}
	return apply, ""
}

// olderThanTaken reports whether a start command is older than the one in force.
// The hub that granted the last join decides where counting goes on: the first
// command after it may be of the epoch that the grant named, whatever was accepted
// before.
func (s commandContext) olderThanTaken(c topics.StartCommand) bool {
	if s.rejoined && c.Epoch == s.granted && c.Epoch < s.epoch {
		return false
	}
	return s.taken && (c.Epoch < s.epoch || c.Epoch == s.epoch && c.Generation < s.generation)
}

// lastEpoch returns what a new epoch is compared with: an agent follows its hub to
// any epoch that the grant of its own join named.
func (s commandContext) lastEpoch() uint64 {
	if s.taken {
		return max(s.epoch, s.granted)
	}
	return s.granted
}
