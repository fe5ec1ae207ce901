package hub

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/hub/events"
	"github.com/jmbarzee/dominion/hub/macs"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/hub/workqueue"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// receiveJoin takes a request to join: of a domain that has a key, once its signature is
// verified.
func (h *Hub) receiveJoin(m topics.Message, now time.Time) error {
	head, err := topics.Decode[topics.SenderHead](m.Topic, orEmpty(m.Payload))
	by, adopted := h.adoption.Members()[head.ID]
	if err != nil || !adopted || !signed.IsSigned(m.Payload) {
		h.request(topics.VerbJoin, m, h.pub.Publish, now) // which refuses one that must be signed
		return nil
	}
	r := received{kind: topics.Request, message: m, by: by}
	if head.Number > 0 { // a key list and an acknowledgement have none
		again, err := h.adoption.CompareJoin(head.ID, head.Session, head.Transaction, head.Number)
		if err != nil {
			return fmt.Errorf("cannot take %s of %s: %w", m.Topic, by.Name, err)
		}
		if again {
			h.answerAgain(head.ID, head.Transaction)
			return nil
		}
	}
	if head.Transaction != "" { // it is repeated until it is answered
		r.key, r.until = head.Transaction, now.Add(joinPatience)
	}
	own, epoch := h.keys, h.epoch
	return verify(h, r, func(ask topics.HubRequest) func(time.Time) error {
		var last *topics.SignedHead
		if own != nil && ask.Last != "" {
			last = own.LastOrder(by.ID, ask.Last, epoch)
		}
		return func(now time.Time) error { return h.signedJoin(ask, last, r, now) }
	}, now)
}

// mustSign returns why a request to join is not taken: it is not signed by the key of the
// domain that it names.
func (h *Hub) mustSign(ask asked, now time.Time) error {
	by, adopted := h.adoption.Members()[ask.ID]
	switch {
	case !adopted:
		return nil
	case h.keys == nil:
		return errNoKeys // it could not verify the grant
	case ask.signed, h.adoption.JoinsUnfinished(ask.HubRequest):
		return nil
	}
	if ask.Name != "" && ask.Name != by.Name { // a copy under another name, or who claims its id
		err := fmt.Errorf("its id is that of %s, which has a key, and this join is not signed by it: if the disk was copied, run `domain reset` on the copy", by.Name)
		if h.fleet.NoteRefusal(ask.HubRequest, err, now) && h.events.MayReport("join as "+ask.Name, events.MaxRefusals, now) {
			h.reportRefused(ask.HubRequest, err)
		}
		return err
	}
	err := fmt.Errorf("%s has a key, and this join is not signed by it", by.Name)
	h.events.Refuse("joins", topics.Event{Domain: by.Name, Message: "cannot take a join: " + err.Error()}, now)
	return err
}

// signedJoin takes a request to join that was verified. One that comes again is answered by
// the same grant. last is the order that the domain obeyed last, if the hub's key signed it
// and its epoch may be above the hub's; else nil.
func (h *Hub) signedJoin(ask topics.HubRequest, last *topics.SignedHead, r received, now time.Time) error {
	m := r.message
	if ask.KeyList == "" && !acknowledges(ask) {
		again, err := h.adoption.CompareJoin(ask.ID, ask.Session, ask.Transaction, ask.Number)
		if err != nil {
			return fmt.Errorf("cannot take %s of %s: %w", m.Topic, ask.Name, err)
		}
		if again {
			h.answerAgain(ask.ID, ask.Transaction)
			return nil
		}
	}
	if ask.Confirm != "" || ask.Renew || ask.ServiceKeys != nil || acknowledges(ask) {
		if err := h.adoption.CompareSession(ask.ID, ask.Session); err != nil {
			return fmt.Errorf("cannot take %s of %s: %w", m.Topic, ask.Name, err)
		}
	}
	if last != nil {
		h.overtake(ask.Name, *last)
	}
	h.requested(topics.VerbJoin, asked{ask, m.User, true, r.source()}, nil, m, h.pub.Publish, now)
	return nil
}

// joinPatience is how long a domain asks for a join before it begins another one: after that
// nobody takes the answer. Without this bound a hub that a thousand domains join at once would
// be busy with what was asked long ago.
const joinPatience = 3 * time.Second

// answerAgain answers the last join of a domain as before, at the topic where that was; nobody
// needs to verify the request for it. One that is being answered is not answered twice.
func (h *Hub) answerAgain(id, transaction string) {
	if given := h.adoption.answers[id]; transaction != "" && given.transaction == transaction {
		h.pub.Publish(given.answer)
	}
}

// acceptJoin notes a request to join that is taken, so that it is not taken again.
func (h *Hub) acceptJoin(ask asked) {
	if ask.signed {
		h.adoption.AcceptJoin(ask.HubRequest)
	}
}

// overtake raises the epoch above that of an order which a domain has obeyed, and which this run
// of the hub has not given: the hub was restored from a backup.
func (h *Hub) overtake(name string, last topics.SignedHead) {
	if last.Epoch < h.epoch || last.Epoch == h.epoch && last.Run == h.leases.Run() {
		return
	}
	h.epoch = last.Epoch + 1
	h.store.Change(func(s *store.State) { s.Epoch = h.epoch })
	h.fleet.OrderAllAgain()
	h.changed.TouchAll()
	h.events.Add(topics.Event{Type: topics.EpochRaised, Domain: name, Message: fmt.Sprintf("%s has obeyed an order of this hub's key of epoch %d: ours is %d now; was the hub restored from a backup?", name, last.Epoch, h.epoch)})
}

// givenGrant is the answer to the last join of a domain, as it was signed.
type givenGrant struct {
	transaction string
	answer      topics.Message
}

// signGrant answers the join of a domain that has a key: beside the loop the keys of its MACs
// are made and the grant is signed. The keys count from then on.
func (h *Hub) signGrant(to later, g topics.Grant, now time.Time) {
	e := signed.Exchange{Dominion: h.ID(), Domain: to.domain, Session: to.session, Run: g.Run}
	_ = h.beside(workqueue.Work{ // the hub's own work is always added
		Domain: to.domain,
		Run: func() (func(time.Time), error) {
			var keys *macs.Session
			if to.session != "" {
				var err error
				if keys, err = macs.Exchange(e, to.ephemeral); err != nil {
					return nil, err
				}
				g.Ephemeral = keys.Answer()
			}
			published := h.keys.Published()
			g.Hub = &published
			g.Renew = g.Certificate == nil && (h.keys.RenewalDue(to.domain, now) || g.CertifiesServices && h.keys.Unrecorded(to.domain, to.certified))
			payload, err := h.keys.SignOrder(topics.ResponseTo.SignedKind(), to.domain, topics.Encode(topics.Accept(to.transaction, g)))
			return func(time.Time) {
				if keys != nil {
					h.macs.Put(to.domain, keys)
				}
				to.answer.Payload = payload
				h.adoption.answers[to.domain] = givenGrant{to.transaction, to.answer}
				to.publish(to.answer)
			}, err
		},
		Failed: func(err error, _ time.Time) { to.reply(nil, err) },
	}, now)
}
