package adoption

import (
	"bytes"
	"maps"
	"reflect"
	"time"

	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// Receive takes a message of a machine that has no user and no certificate. address is where
// it came from, "" where that is not known.
func (a *Adoption) Receive(m protocol.ToHub, address string, now time.Time) {
	a.receive(m, sender{address: address, applicant: true}, now)
}

// ReceiveOf takes a message of a user of the broker; "": of anybody who is let in.
func (a *Adoption) ReceiveOf(m protocol.ToHub, user string, now time.Time) {
	a.receive(m, sender{user: user}, now)
}

// receive takes a message of a machine that is not adopted.
func (a *Adoption) receive(m protocol.ToHub, from sender, now time.Time) {
	switch {
	case a.o.Keys == nil:
	case m.Question != nil:
		a.question(*m.Question, m.Transaction, from, now)
	case m.Proof != nil:
		a.proof(*m.Proof, m.Transaction, now)
	case m.Confirmation != nil:
		a.confirmation(*m.Confirmation, now)
	}
}

// question takes a question, once its signature is verified.
func (a *Adoption) question(q protocol.Question, transaction string, from sender, now time.Time) {
	if from.address == "" {
		from.address = q.Address
	}
	if w, is := a.waiting.Get(q.KeyHash()); is && reflect.DeepEqual(w.Question, q) {
		a.verified(q, transaction, from, now)
		return
	}
	if a.verifying >= maxVerifying {
		return // it asks again
	}
	a.verifying++
	a.work(func() func(time.Time) {
		err := q.Verify()
		var issued, listed bool
		if err == nil && len(q.Certificate) > 0 {
			issued, listed = a.o.Keys.IssuedTo(q.ID, q.KeyHash(), q.Certificate, now)
		}
		return func(now time.Time) {
			if a.verifying--; err == nil {
				a.noteCertificate(q, issued, listed, now)
				a.verified(q, transaction, from, now)
			}
		}
	})
}

// verified takes a question of whoever has its key.
func (a *Adoption) verified(q protocol.Question, transaction string, from sender, now time.Time) {
	key := q.KeyHash()
	if err := a.revoked(q); err != nil { // nobody can adopt it, so it is not shown as waiting
		if _, is := a.waiting.Get(key); is {
			a.waiting.Remove(key)
			a.viewChanged = true
		}
		a.noteRevoked(q, now)
		a.refuse(q, err)
		return
	}
	if a.hasJoined(q, now) {
		return
	}
	before, _ := a.waiting.Get(key)
	added, err := a.waiting.Put(q, from.address, now)
	if err != nil {
		return
	}
	if before.Address != from.address || before.Question.Name != q.Name || before.Question.Model != q.Model {
		a.viewChanged = true
	}
	if added {
		a.prune()
	}
	a.transactions[key] = transaction
	if o := a.offers[key]; o != nil {
		if o.busy {
			return
		}
		if bytes.Equal(o.Question.Nonce, q.Nonce) {
			if err := o.Refused(q); err != nil {
				a.refused(o, err, now)
				return
			}
			answer := o.Answer()
			a.send(key, protocol.ToDomain{Answer: &answer})
			return
		}
		a.drop(o)
	}
	if begun := a.begin(q, from, now); added && !begun {
		w, _ := a.waiting.Get(key)
		a.event(topics.DomainWaiting, q.Name, "%s waits for adoption: %s", w, a.remedy(q))
	}
}

// noteRevoked remembers a machine that asks with a key that was revoked, for who wants to adopt it.
func (a *Adoption) noteRevoked(q protocol.Question, now time.Time) {
	if _, is := a.revokedNames[q.Name]; !is && len(a.revokedNames) >= maxRevokedNames {
		maps.DeleteFunc(a.revokedNames, func(_ string, r revokedAsker) bool { return now.Sub(r.at) >= revokedAsks })
		if len(a.revokedNames) >= maxRevokedNames {
			return
		}
	}
	a.revokedNames[q.Name] = revokedAsker{q.Label(), now}
}

// prune drops what is remembered of machines that do not wait any more: another one has
// their place, and anybody can ask with any number of keys. What was proved goes on.
func (a *Adoption) prune() {
	waits := func(key string) bool {
		_, is := a.waiting.Get(key)
		return is
	}
	for key, o := range a.offers {
		if !o.busy && !o.Proved() && !waits(key) {
			a.drop(o)
		}
	}
	gone := func(key, _ string) bool { return !waits(key) && a.offers[key] == nil }
	maps.DeleteFunc(a.transactions, gone)
	maps.DeleteFunc(a.refusals, gone)
	maps.DeleteFunc(a.certified, func(key string, _ bool) bool { return gone(key, "") })
}
