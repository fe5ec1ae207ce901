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

// leaseRenewed says until when the exclusive services may run.
type leaseRenewed struct{ until time.Duration }

// takeLease takes the lease that a message of connection n brings, beside the
// loop, which may be waiting for a disk. false: the message is none, or cannot
// be read, and is the loop's.
func (a *Agent) takeLease(tree topics.Tree, h *heartbeater, n int, m topics.Message) bool {
	if at, ok := tree.Parse(m.Topic); !ok || at.Kind != topics.DomainLease || m.Retain {
		return false
	}
	given, err := topics.Decode[topics.Lease](m.Topic, m.Payload)
	if err != nil {
		return false
	}
	h.lease(n, given)
	return true
}

// lease is told what is wrong with a lease. One that can be read was taken
// before; a retained one is old, and nobody sends it so.
func (l *loop) lease(m topics.Message) {
	if m.Retain {
		return
	}
	if _, err := topics.Decode[topics.Lease](m.Topic, m.Payload); err != nil {
		l.misunderstood(err)
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
