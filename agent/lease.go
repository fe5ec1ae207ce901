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
	a := l.store.accepted()
	if !a.Present {
		return lease.Position{}
	}
	return lease.Position{Epoch: a.Epoch, Generation: a.Generation, Run: l.store.command.Run}
}

// leaseRenewed is the event that exclusive services may run until a time.
type leaseRenewed struct{ until time.Duration }

// invalidLease reports a lease that cannot be read. A valid one was accepted
// before. A retained one is ignored: hubs do not send leases retained.
func (l *loop) invalidLease(m topics.Message, now time.Time) {
	if m.Retain {
		return
	}
	if err := l.heartbeats.CheckLease(m); err != nil {
		l.reports.Invalid(err, now)
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
