package lease

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Holder is the agent's side: when its heartbeats were sent, and when its lease ends. All
// times are since the boot of the machine, of a clock that goes on while the machine is
// suspended.
type Holder struct {
	session string
	sent    [window]sentBeat // by seq
	until   time.Duration
}

// window is how many heartbeats a lease may be behind.
const window = 64

// sentBeat is a heartbeat that was sent.
type sentBeat struct {
	seq uint64
	at  time.Duration
	// held reports that there was a lease then.
	held bool
}

// NewHolder returns the holder of one run of an agent, which has no lease yet.
func NewHolder(session string) *Holder { return &Holder{session: session} }

// Beat notes a heartbeat before it is sent, and returns what is left of the lease, which
// the heartbeat carries.
func (h *Holder) Beat(seq uint64, now time.Duration) (left time.Duration) {
	left = max(h.until-now, 0)
	h.sent[seq%window] = sentBeat{seq, now, left > 0}
	return left
}

// Longest bounds a lease: one that is longer is a mistake.
const Longest = 24 * time.Hour

// Accept takes a lease, and reports whether it is valid. It is not where it is for another
// run, too old, of a hub before the one that is obeyed (at), or the renewal of a lease that
// has ended meanwhile. The last is why a hub that has lost its state may renew: a service
// whose lease was never interrupted cannot have been started elsewhere.
func (h *Holder) Accept(l topics.Lease, at Position, now time.Duration) bool {
	s := h.sent[l.Seq%window]
	length := time.Duration(min(l.Seconds, Longest.Seconds()) * float64(time.Second))
	switch {
	case l.Session != h.session, s.seq != l.Seq, s.seq == 0, l.Epoch < at.Epoch:
		return false
	case !(l.Seconds > 0), l.Seconds > Longest.Seconds(), s.at+length <= now:
		return false
	case s.held && h.until <= now:
		return false
	}
	h.until = max(h.until, s.at+length)
	return true
}

// Adopt takes over the lease that the guard of a service has from an earlier run of the
// agent.
func (h *Holder) Adopt(until time.Duration) { h.until = max(h.until, until) }

// Until is when the lease ends; 0: there was none.
func (h *Holder) Until() time.Duration { return h.until }
