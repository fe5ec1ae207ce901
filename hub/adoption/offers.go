package adoption

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/identity"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// offer is an adoption that has begun.
type offer struct {
	*protocol.Offer
	key string
	// from is who asked.
	from sender
	// order is the request by which it began; nil: none.
	order *order
	// busy reports that work on it is beside the loop.
	busy bool
	// word is what the domain is given.
	word string
	// completion is sent again to a domain that proves itself again.
	completion *protocol.Completion
}

// begin offers to adopt a machine by what its question names, and reports whether it does.
func (a *Adoption) begin(q protocol.Question, from sender, now time.Time) bool {
	if a.isUpgrade(q) {
		a.beginUpgrade(q, from, now)
		return true
	}
	if len(q.Token) > 0 {
		_, err := a.state.Tokens.Check(q.Token, protocol.ForDomain, q.Name, q.KeyHash(), a.unconfirmed(q), now)
		if errors.Is(err, protocol.ErrTokenUnknown) {
			return false // it may be a neighbour's
		}
		if err == nil {
			err = a.mayHave(q, false, now)
		}
		if err != nil {
			a.refuse(q, err)
			return true
		}
		a.offer(q, nil, nil, now)
		return true
	}
	if !q.Open || q.Stranger != "" || !a.window.IsOpen(now) {
		return false
	}
	if err := a.mayHave(q, false, now); err != nil {
		a.refuse(q, err)
		return true
	}
	a.offer(q, nil, nil, now)
	return true
}

// unconfirmed reports whether a machine was adopted and has not confirmed it.
func (a *Adoption) unconfirmed(q protocol.Question) bool {
	m, is := a.state.Members[q.ID]
	return is && m.KeyHash == q.KeyHash() && !m.Words.Established()
}

// revoked returns that the key of a machine is not accepted any more.
func (a *Adoption) revoked(q protocol.Question) error {
	if a.o.Keys != nil && a.o.Keys.IsRevoked(q.KeyHash()) {
		return fmt.Errorf("the key %s was revoked: run `domain reset` on %s", q.Label(), q.Name)
	}
	return nil
}

// mayHave returns why a machine may not be adopted under its name and id. replace has it take
// the name of another one, and the id too where both were one machine's: its data was lost.
func (a *Adoption) mayHave(q protocol.Question, replace bool, now time.Time) error {
	key := q.KeyHash()
	if err := a.revoked(q); err != nil {
		return err
	}
	m, is := a.state.Members[q.ID]
	if !is && len(a.state.Members) >= maxMembers {
		return fmt.Errorf("%d domains are adopted, and no further one is: forget some", len(a.state.Members))
	}
	if is && m.KeyHash != key && m.Words.Established() && m.Name != q.Name {
		return fmt.Errorf("the id %s belongs to the key %s of %s: run `domain reset` on %s, or `%s forget %s` first", q.ID, identity.Label(m.KeyHash), m.Name, q.Name, a.o.dominionctl(), m.Name)
	}
	if m, is := a.named(q.Name); is && m.KeyHash != key && m.Words.Established() && !replace {
		return fmt.Errorf("the name %s belongs to another key, %s: `%s adopt %s CODE --replace` revokes that one and takes this machine in its place, also one that has lost its data (`domain code` on it shows CODE); or choose another name in domain.toml", q.Name, identity.Label(m.KeyHash), a.o.dominionctl(), q.Name)
	}
	if a.o.Taken == nil || replace {
		return nil
	}
	return a.o.Taken(q.Name, q.ID, now)
}

// refuse refuses a machine, and reports that once for a reason.
func (a *Adoption) refuse(q protocol.Question, why error) {
	key := q.KeyHash()
	a.send(key, protocol.ToDomain{Error: why.Error()})
	if a.refusals[key] == why.Error() {
		return
	}
	a.refusals[key] = why.Error()
	a.event(topics.AdoptionRefused, q.Name, "%s (%s) was not adopted: %v", q.Name, q.Label(), why)
}

// offer makes an offer beside the loop: by the key of a code, by the certificate of the machine where a
// request has none, or by what the question names.
func (a *Adoption) offer(q protocol.Question, by *order, code protocol.CodeKey, now time.Time) {
	o := &offer{key: q.KeyHash(), order: by, busy: true}
	o.Offer = &protocol.Offer{Question: q}
	a.offers[o.key] = o
	grant := a.o.Grant()
	a.work(func() func(time.Time) {
		made, err := a.makeOffer(q, code, by != nil && code == nil, grant, now)
		return func(now time.Time) {
			o.busy = false
			if a.offers[o.key] != o {
				return
			}
			if err != nil {
				a.failed(o, err)
				return
			}
			o.Offer = made
			answer := made.Answer()
			a.send(o.key, protocol.ToDomain{Answer: &answer})
		}
	})
}

// makeOffer makes an offer. It runs beside the loop and touches nothing but Options.
func (a *Adoption) makeOffer(q protocol.Question, code protocol.CodeKey, byCertificate bool, grant []byte, now time.Time) (*protocol.Offer, error) {
	hub := a.o.Keys.Offering()
	if code != nil {
		return hub.OfferByCode(q, code, grant, now)
	}
	if byCertificate {
		return hub.OfferByCertificate(q, grant, now)
	}
	if len(q.Token) > 0 {
		return hub.OfferByToken(q, q.Token, grant, now)
	}
	if a.isUpgrade(q) {
		return hub.OfferByUpgrade(q, grant, now)
	}
	return hub.OfferByWindow(q, grant, now)
}

// drop gives an offer up.
func (a *Adoption) drop(o *offer) {
	if a.offers[o.key] == o {
		delete(a.offers, o.key)
	}
}

// byTranscript returns the offer that a message names; nil: none.
func (a *Adoption) byTranscript(transcript []byte) *offer {
	for _, o := range a.offers {
		if !o.busy && len(o.Transcript()) > 0 && bytes.Equal(o.Transcript(), transcript) {
			return o
		}
	}
	return nil
}
