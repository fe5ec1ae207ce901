package agent

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/services/lease"
	"github.com/jmbarzee/dominion/topics"
)

// position returns the position of the start command in force; zero if there is
// none of the dominion that the domain has joined.
func (l *loop) position() lease.Position {
	epoch, generation, taken := l.store.position()
	if !taken {
		return lease.Position{}
	}
	return lease.Position{Epoch: epoch, Generation: generation, Run: l.store.command.Run}
}

// leaseRenewed is the event that exclusive services may run until a time.
type leaseRenewed struct{ until time.Duration }

// acceptLease accepts the lease that a message holds, without the loop, which may be
// waiting for a disk. It reports false if the message is no lease, or cannot be read:
// then the loop handles it.
func acceptLease(h *heartbeater, m incoming) bool {
	if m.address.Kind != topics.DomainLease || m.Retain {
		return false
	}
	given, err := topics.Decode[topics.Lease](m.Topic, m.Payload)
	if err != nil {
		return false
	}
	h.acceptLease(m.connID, given)
	return true
}

// invalidLease reports a lease that cannot be read. A valid one was accepted
// before. A retained one is ignored: hubs do not send leases retained.
func (l *loop) invalidLease(m topics.Message) {
	if m.Retain {
		return
	}
	if _, err := topics.Decode[topics.Lease](m.Topic, m.Payload); err != nil {
		l.reportInvalid(err)
	}
}

// fenceToken returns the DOMINION_FENCE of an exclusive service that starts now. It
// only ever grows, whichever domain runs the service, so that a store which the
// service writes to can refuse a former instance.
func (l *loop) fenceToken() string {
	at := l.position()
	return fmt.Sprintf("%d.%d", at.Epoch, at.Generation)
}

// RunGuard runs the guard of an exclusive service, and does not return, if args,
// the program's name first, request that. Otherwise it does nothing.
func RunGuard(args []string) { supervisor.RunGuard(args) }
