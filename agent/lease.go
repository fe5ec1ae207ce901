package agent

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/services/lease"
	"github.com/jmbarzee/dominion/topics"
)

// position is that of the start command that is obeyed, the zero one where that
// is none of the dominion joined.
func (l *loop) position() lease.Position {
	epoch, generation, taken := l.store.position()
	if !taken {
		return lease.Position{}
	}
	return lease.Position{Epoch: epoch, Generation: generation, Run: l.store.command.Run}
}

// lease takes a lease, which lets the exclusive services run for a while.
func (l *loop) lease(m topics.Message, now time.Time) {
	if m.Retain {
		return // nobody sends it so, and it is old
	}
	given, err := topics.Decode[topics.Lease](m.Topic, m.Payload)
	if err != nil {
		l.misunderstood(err)
		return
	}
	if l.leases.Take(given, l.position(), l.supervisor.Clock()) {
		l.supervisor.Lease(l.leases.Until(), now)
	}
}

// fence is DOMINION_FENCE of an exclusive service that starts now: it only ever
// grows, whichever domain has the service, so that what the service writes to
// can refuse whoever had it before.
func (l *loop) fence() string {
	at := l.position()
	return fmt.Sprintf("%d.%d", at.Epoch, at.Generation)
}

// RunGuard is the whole program where args, its name first, say that it was
// started as the guard of an exclusive service. It does not return then.
func RunGuard(args []string) { supervisor.RunGuard(args) }
