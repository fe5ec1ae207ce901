package lease

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Keeper is an agent's side: which of its heartbeats were sent when, and until
// when its lease holds. All its times are since the boot of the machine, of a
// clock that goes on while the machine is suspended.
type Keeper struct {
	session string
	sent    [remembered]sending // by seq
	until   time.Duration
}

// remembered is how many heartbeats a lease may be behind.
const remembered = 64

// sending is a heartbeat that was sent.
type sending struct {
	seq     uint64
	at      time.Duration
	claimed bool // it said that a lease was there
}

// NewKeeper returns the Keeper of one run of an agent, which has no lease yet.
func NewKeeper(session string) *Keeper { return &Keeper{session: session} }

// Sending notes a heartbeat before it is sent, and returns what is left of the
// lease, which it says.
func (k *Keeper) Sending(seq uint64, now time.Duration) (left time.Duration) {
	left = max(k.until-now, 0)
	k.sent[seq%remembered] = sending{seq, now, left > 0}
	return left
}

// Longest bounds a lease: what says more is a mistake.
const Longest = 24 * time.Hour

// Take takes a lease. false: it says nothing, as it is not for this run, too
// old, of a hub before the one that is obeyed (at), or renews a lease that has
// ended meanwhile. The last is why a hub that knows nothing may renew: who has
// a lease without a gap cannot have been followed by anybody.
func (k *Keeper) Take(l topics.Lease, at Position, now time.Duration) bool {
	s := k.sent[l.Seq%remembered]
	length := time.Duration(min(l.Seconds, Longest.Seconds()) * float64(time.Second))
	switch {
	case l.Session != k.session, s.seq != l.Seq, s.seq == 0, l.Epoch < at.Epoch:
		return false
	case !(l.Seconds > 0), l.Seconds > Longest.Seconds(), s.at+length <= now:
		return false
	case s.claimed && k.until <= now:
		return false
	}
	k.until = max(k.until, s.at+length)
	return true
}

// Adopt takes over the lease that the guard of a service has from a former run
// of the agent.
func (k *Keeper) Adopt(until time.Duration) { k.until = max(k.until, until) }

// Until is when the lease ends; 0: there was none.
func (k *Keeper) Until() time.Duration { return k.until }
