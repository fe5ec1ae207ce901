package agent

import (
	"fmt"

	"github.com/jmbarzee/dominion/topics"
)

// maxJump is how far a start command's epoch, or its generation within the
// same epoch, may be ahead of the last one taken. A mistake or a joke beyond
// it would lock the real hub out for good.
const maxJump = 1_000_000

// standing is what a start command is judged by.
type standing struct {
	domain   string // our id
	dominion string // id of the dominion we joined

	taken             bool // a start command of this dominion was taken before:
	epoch, generation uint64
	granted           uint64 // epoch of the hub that let us join
	rejoined          bool   // no start command was taken since that join

	hub hubView
}

// hubView is what the retained topics of the hub say.
type hubView struct {
	availability string // "" before it is known
	known        bool   // hub/status arrived since we connected
	epoch        uint64
	protocol     string
}

// verdict is what to do with a start command.
type verdict int

const (
	apply  verdict = iota // take it
	same                  // taken before: nothing to do
	hold                  // not before more is known of the hub
	stale                 // a retained one that an earlier run of the hub left: no news
	refuse                // not to be obeyed, and people should know
)

// judge decides on a start command; the first rule that matches wins. retained
// tells that the broker had it stored when we connected. What is wrong with
// one entry concerns that service alone: the supervisor refuses it.
func judge(c topics.StartCommand, retained bool, s standing) (verdict, string) {
	switch {
	// It must be meant for us, by those we joined. One that was stored for a
	// former machine of our name, or by a former hub, is no offence.
	case retained && (c.Dominion != s.dominion || c.Domain != s.domain):
		return stale, fmt.Sprintf("it was retained, for domain %q of dominion %q", c.Domain, c.Dominion)
	case c.Dominion != s.dominion:
		return refuse, fmt.Sprintf("it is of dominion %q, joined is %q", c.Dominion, s.dominion)
	case c.Domain != s.domain:
		return refuse, fmt.Sprintf("it is for domain %q, this one is %q", c.Domain, s.domain)
	case s.hub.known && !topics.SameMajor(s.hub.protocol):
		return refuse, fmt.Sprintf("the hub speaks protocol %q, this agent %s: bring both to the same version", s.hub.protocol, topics.Protocol)

	// Nothing old is obeyed, whoever sends it; what was taken is no news.
	case s.taken && c.Epoch == s.epoch && c.Generation == s.generation:
		return same, ""
	// An old one that was stored is of a broker that came back with less than
	// it had: nobody sent it now.
	case s.olderThanTaken(c) && retained:
		return stale, fmt.Sprintf("it was retained, of epoch %d generation %d, taken was %d generation %d", c.Epoch, c.Generation, s.epoch, s.generation)
	case s.olderThanTaken(c):
		return refuse, fmt.Sprintf("it is of epoch %d generation %d, taken was %d generation %d", c.Epoch, c.Generation, s.epoch, s.generation)
	case c.Epoch > s.lastEpoch() && c.Epoch-s.lastEpoch() > maxJump:
		return refuse, fmt.Sprintf("its epoch %d is far above the last known, %d: ignored", c.Epoch, s.lastEpoch())
	case s.taken && c.Epoch == s.epoch && c.Generation-s.generation > maxJump:
		return refuse, fmt.Sprintf("its generation %d is far above the last taken, %d: ignored", c.Generation, s.generation)

	// What was stored counts only with the hub that stored it.
	case retained && (!s.hub.known || s.hub.availability != topics.Online):
		return hold, "it was retained, and the hub is not known to be online"
	case retained && c.Epoch != max(s.hub.epoch, s.granted):
		return stale, fmt.Sprintf("it was retained, of epoch %d, and the hub runs epoch %d", c.Epoch, max(s.hub.epoch, s.granted))
	}
	return apply, ""
}

// olderThanTaken reports whether a start command is of before the one that is
// obeyed. The hub that granted the last join decides where counting goes on: the
// first command after it may be of the epoch that the grant named, whatever was
// taken before.
func (s standing) olderThanTaken(c topics.StartCommand) bool {
	if s.rejoined && c.Epoch == s.granted && c.Epoch < s.epoch {
		return false
	}
	return s.taken && (c.Epoch < s.epoch || c.Epoch == s.epoch && c.Generation < s.generation)
}

// lastEpoch is what a new epoch is compared with: an agent follows its hub to
// any epoch that the grant of its own join named.
func (s standing) lastEpoch() uint64 {
	if s.taken {
		return max(s.epoch, s.granted)
	}
	return s.granted
}
