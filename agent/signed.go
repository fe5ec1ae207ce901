package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/agent/orders"
	"github.com/jmbarzee/dominion/agent/signatures"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// pinned is the event that the domain has pinned an authority. It comes before the join that
// follows, so that no order of that is obeyed unsigned and no hub that it verifies is forgotten.
type pinned struct{}

// pin notes what the domain has pinned: from then on it obeys signed orders alone.
func (l *loop) pin() {
	if l.member != nil {
		l.signatures.Pin(l.member.pinned.Load())
	}
}

// signedOrder takes a start command or command to a domain that has pinned an authority. What
// can be compared is compared first; the signature is verified beside the loop.
func (l *loop) signedOrder(m incoming, now time.Time) {
	o := signatures.Order{ConnID: m.connID, Kind: m.address.Kind, Message: m.Message}
	var err error
	if o.Head, err = signatures.Head(m.Message); err == nil {
		err = l.compare(o)
	}
	if err == nil {
		err = l.signatures.Add(o, now)
	}
	l.refuseOrder(o, err, now)
	l.verify(now)
}

// errSkip means that an order is not obeyed, and that nobody needs to know.
var errSkip = errors.New("skipped")

// compare returns why an order is not worth a verification.
func (l *loop) compare(o signatures.Order) error {
	if o.Kind == topics.DomainCommand {
		return l.orders.CompareCommand(o.Head)
	}
	switch verdict, reason := l.orders.Compare(o.Head, o.Message.Retain, l.store.accepted()); verdict {
	case orders.Same:
		return errSkip
	case orders.Postpone:
		return nil // it is compared once it is judged
	case orders.Stale:
		l.log.Info("stale start command skipped", "reason", reason)
		return errSkip
	case orders.Refuse:
		if !o.Message.Retain && o.Head.Epoch < l.store.accepted().Epoch {
			l.rejoining.behind = true
		}
		return fmt.Errorf("of epoch %d generation %d: %s", o.Head.Epoch, o.Head.Generation, reason)
	}
	_, err := l.ratchetFor(o.Head).Accept(o.Head.Key, markOf(o.Head.Epoch, o.Head.Generation))
	return err
}

// ratchetFor returns the ratchet that a signed start command must be above: an empty one for the
// first command of the run of the hub that granted the join. Keys that left the key list take along
// how far they have counted.
func (l *loop) ratchetFor(h topics.SignedHead) signed.Ratchet {
	if l.orders.Begins(h, l.store.accepted()) {
		return signed.Ratchet{}
	}
	return l.store.ratchet.Retain(l.signatures.Counts)
}

// markOf returns the position of a start command as the ratchet has it.
func markOf(epoch, generation uint64) signed.Mark {
	return signed.Mark{Epoch: epoch, Number: generation}
}

// refuseOrder reports why an order is not obeyed, rate limited; whoever sent it is answered
// as often.
func (l *loop) refuseOrder(o signatures.Order, err error, now time.Time) {
	if err == nil || errors.Is(err, errSkip) {
		return
	}
	what := "command"
	if o.Kind == topics.DomainServicesSet {
		what = "start command"
	}
	if errors.Is(err, signed.ErrUnsigned) {
		err = fmt.Errorf("%w by the hub, and this domain obeys the hub of its dominion alone: ask the hub (dominionctl, or request/restart, request/drain, request/logs)", err)
	}
	text := fmt.Sprintf("%s refused: %v", what, err)
	if l.reports.Refused(text, now) && o.Kind == topics.DomainCommand {
		l.respond(topics.Refuse(topics.TransactionOf(o.Message.Payload), errors.New(text)))
	}
}

// verify has the next order verified, beside the loop.
func (l *loop) verify(now time.Time) {
	if next := l.signatures.Take(now); next != nil {
		l.verifying.Go(func() { l.post(next()) })
	}
}

// verified handles the result of a verification: an order that was signed by a hub of the
// dominion is judged and obeyed.
func (l *loop) verified(r signatures.Result, now time.Time) {
	o, err := l.signatures.Done(r, now)
	l.verify(now)
	if o == nil {
		if err != nil {
			l.reports.Invalid(err, now)
		}
		return
	}
	if !l.connection.Open(o.ConnID) {
		return // of a connection that is over
	}
	if o.Kind == topics.HubStatus {
		l.refuseHubStatus(err, now)
		if err == nil {
			l.verifiedHubStatus(*o, now)
		}
		return
	}
	if err == nil {
		err = l.obey(*o, now)
	}
	l.refuseOrder(*o, err, now)
}

// obey obeys an order that was verified, and returns why it does not.
func (l *loop) obey(o signatures.Order, now time.Time) error {
	m := topics.Message{Topic: o.Message.Topic, Payload: o.Payload, Retain: o.Message.Retain}
	if o.Kind == topics.DomainCommand {
		if err := l.orders.AcceptCommand(o.Head); err != nil {
			return err
		}
		l.command(m, now)
		return nil
	}
	if err := l.compare(o); err != nil {
		return err
	}
	l.order = signedStart{o.Head, string(o.Message.Payload)}
	l.startCommand(m, now)
	return nil
}

// signedStart is a start command that was verified, as it was signed.
type signedStart struct {
	head    topics.SignedHead
	message string
}

// messageOf returns the message of a start command that was verified; "": it was not signed,
// or is longer than a join may show.
func (l *loop) messageOf(c topics.StartCommand) string {
	h := l.order.head
	if c.Key == "" || c.Key != h.Key || c.Epoch != h.Epoch || c.Generation != h.Generation || len(l.order.message) > topics.MaxLast {
		return ""
	}
	return l.order.message
}

// hubCertificate takes the certificate of the hub, by which its orders are verified.
func (l *loop) hubCertificate(m topics.Message, now time.Time) {
	if err := l.signatures.Certificate(m, now); err != nil {
		l.reports.Invalid(err, now)
	}
	l.verify(now)
}
