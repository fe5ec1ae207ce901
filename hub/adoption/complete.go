package adoption

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/identity"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// proof takes the proof of a machine. One that comes again is answered by the same completion.
func (a *Adoption) proof(p protocol.Proof, transaction string, now time.Time) {
	o := a.byTranscript(p.Transcript)
	if o == nil {
		return
	}
	a.transactions[o.key] = transaction
	if o.completion != nil {
		a.send(o.key, protocol.ToDomain{Completion: o.completion})
		return
	}
	o.busy = true
	a.work(func() func(time.Time) {
		err := o.Prove(p, now)
		return func(now time.Time) {
			o.busy = false
			if a.offers[o.key] == o && !errors.Is(err, protocol.ErrSender) {
				a.proved(o, err, now)
			}
		}
	})
}

// proved makes a machine that has proved itself a member. It is stored before it is told so.
func (a *Adoption) proved(o *offer, err error, now time.Time) {
	if err == nil {
		err = a.mayAdopt(o, now)
	}
	if err != nil {
		a.refused(o, err, now)
		return
	}
	q := o.Question
	m := protocol.Member{ID: q.ID, Name: q.Name, Key: q.Key, KeyHash: o.key, Recipient: q.Recipient, Method: o.Method, At: now.UTC().Round(0)}
	if before, is := a.state.Members[q.ID]; is && before.KeyHash == o.key {
		m.Words = before.Words
	}
	o.word = a.firstWord(o, m, now)
	m.Words = m.Words.Give(o.word)
	if other, is := a.named(q.Name); is && other.KeyHash != o.key {
		if other.Words.Established() {
			a.revoke(other, now, "another machine has its name")
		} else {
			delete(a.state.Members, other.ID) // it may be waiting, with the same key
		}
	}
	if o.Method == protocol.ByToken {
		r, _ := a.state.Tokens.Check(q.Token, protocol.ForDomain, q.Name, o.key, a.unconfirmed(q), now)
		m.Token = r.ID
		a.state.Tokens = a.state.Tokens.Use(q.Token, q.Name, o.key, now)
		if r.Local {
			a.renewLocalToken(now)
		}
	}
	a.put(m)
	o.busy = true
	a.storing, a.out.Urgent = append(a.storing, o), true
}

// mayAdopt returns why a machine that has proved itself is not adopted all the same: name, token or
// window have gone meanwhile.
func (a *Adoption) mayAdopt(o *offer, now time.Time) error {
	q := o.Question
	if err := a.mayHave(q, o.order != nil && o.order.replace, now); err != nil {
		return err
	}
	switch o.Method {
	case protocol.ByUpgrade:
		return a.mayUpgrade(q, o.from, now)
	case protocol.ByToken:
		_, err := a.state.Tokens.Check(q.Token, protocol.ForDomain, q.Name, o.key, a.unconfirmed(q), now)
		return err
	case protocol.ByWindow:
		if err := a.window.Take(now); err != nil {
			return err
		}
		a.viewChanged = true
		if !a.window.IsOpen(now) {
			a.event(topics.WindowClosed, "", "no further domain is adopted without a code")
		}
	}
	return nil
}

// Stored takes that State is on disk, or why it is not: nothing is completed then.
func (a *Adoption) Stored(err error, now time.Time) {
	all := a.storing
	a.storing = nil
	for _, o := range all {
		if err != nil {
			o.busy = false
			a.failed(o, fmt.Errorf("it cannot be stored: %w", err))
			continue
		}
		a.complete(o, now)
	}
}

// complete issues the certificate of a machine, and sends it beside the key list.
func (a *Adoption) complete(o *offer, now time.Time) {
	word := o.word
	a.work(func() func(time.Time) {
		completion, err := a.makeCompletion(o.Offer, word, now)
		return func(now time.Time) {
			o.busy = false
			if a.offers[o.key] != o {
				return
			}
			if err != nil {
				a.failed(o, err)
				return
			}
			o.completion = &completion
			a.send(o.key, protocol.ToDomain{Completion: &completion})
		}
	})
}

// makeCompletion runs beside the loop.
func (a *Adoption) makeCompletion(o *protocol.Offer, word string, now time.Time) (protocol.Completion, error) {
	chain, err := a.o.Keys.Certify(o.Question.ID, o.Domain(), now)
	if err != nil {
		return protocol.Completion{}, err
	}
	return o.Complete(chain, a.o.Keys.SignedKeyList(), word)
}

// confirmation takes that a machine has stored its completion.
func (a *Adoption) confirmation(c protocol.Confirmation, _ time.Time) {
	o := a.byTranscript(c.Transcript)
	if o == nil || o.completion == nil {
		return
	}
	o.busy = true
	a.work(func() func(time.Time) {
		err := o.Confirm(c)
		return func(now time.Time) {
			o.busy = false
			if err == nil {
				a.confirm(o.Question.ID, c.Word, now)
			}
		}
	})
}

// confirm takes that a domain has stored a word, and reports whether it is one of its.
func (a *Adoption) confirm(id, word string, now time.Time) bool {
	m, is := a.state.Members[id]
	if !is {
		return false
	}
	if a.o.WordKey.Newer(id, word, m.Words) { // this hub was restored from a backup
		m.Words = protocol.Words{Confirmed: m.Words.Confirmed, Pending: []string{word}}
		if !m.WordsLost {
			a.restored(now)
		}
	}
	m.WordsLost = false
	words, valid := m.Words.Confirm(word)
	if !valid {
		return false
	}
	first := !m.Words.Established()
	if words.Confirmed != m.Words.Confirmed || len(words.Pending) != len(m.Words.Pending) {
		m.Words = words
		a.put(m)
	}
	o := a.offers[m.KeyHash]
	if first || o != nil {
		a.adopted(m, o)
	}
	return true
}

// adopted reports that a domain is adopted: both sides have stored it.
func (a *Adoption) adopted(m protocol.Member, o *offer) {
	a.signs(m.ID)
	a.endWaiting(m)
	by := string(m.Method)
	if m.Token != "" {
		by += " " + m.Token
	}
	undo := ""
	if m.Method == protocol.ByUpgrade {
		undo = ", as it joined before it had a key: from now on everything between it and this hub is signed"
	}
	if m.Method == protocol.ByWindow {
		undo = fmt.Sprintf("; `%s forget %s` undoes it", a.o.dominionctl(), m.Name)
	}
	a.event(topics.DomainAdopted, m.Name, "%s (%s) was adopted by %s%s", m.Name, identity.Label(m.KeyHash), by, undo)
	if o != nil {
		a.drop(o)
		if o.order != nil {
			a.answer(o.order, nil, nil)
		}
	}
}

// Confirm takes that a domain has stored the word of its last join.
func (a *Adoption) Confirm(ask topics.HubRequest, now time.Time) { a.confirm(ask.ID, ask.Confirm, now) }

// revoke ends the adoption of a domain.
func (a *Adoption) revoke(m protocol.Member, now time.Time, why string) {
	delete(a.state.Members, m.ID)
	delete(a.copies, m.ID)
	delete(a.joins, m.ID)
	for id := range a.state.Forgotten {
		if len(a.state.Forgotten) < maxForgotten {
			break
		}
		delete(a.state.Forgotten, id)
	}
	a.state.Forgotten[m.ID] = m.KeyHash
	a.out.Store, a.out.Members, a.out.Domains = true, true, true
	a.out.Revoked = append(a.out.Revoked, m)
	a.event(topics.DomainRevoked, m.Name, "the key %s of %s is not accepted any more: %s", identity.Label(m.KeyHash), m.Name, why)
}

// Revoke ends the adoption of each domain whose key was revoked, and reports whether there
// is one: a machine may have been adopted again by another id.
func (a *Adoption) Revoke(key string, now time.Time) (was bool) {
	for _, m := range a.state.Members {
		if m.KeyHash == key {
			a.revoke(m, now, "it was revoked")
			was = true
		}
	}
	return was
}

// Forget ends the adoption of the domain of a name, and reports whether there was one.
func (a *Adoption) Forget(name string, now time.Time) bool {
	m, is := a.named(name)
	if is {
		a.revoke(m, now, "it was forgotten")
	}
	return is
}

// Has reports whether the domain of a name was adopted.
func (a *Adoption) Has(name string) bool {
	_, is := a.named(name)
	return is
}

// Forgotten reports whether the domain of an id was forgotten after its adoption: nothing is
// taken from it.
func (a *Adoption) Forgotten(id string) bool {
	_, is := a.state.Forgotten[id]
	return is
}

// Renewal returns the key that a domain's certificate is renewed for. user is the broker's user
// who asks, admin whether he is an admin.
func (a *Adoption) Renewal(ask topics.HubRequest, user string, admin bool) (protocol.Member, error) {
	m, is := a.state.Members[ask.ID]
	if !is || a.o.Keys == nil {
		return m, errors.New("there is no such domain with a certificate")
	}
	return m, a.mayAct(m, user, admin)
}

// RevokedKey returns the label of the key of a domain that was adopted and is not any more; "": there is
// none of that id.
func (a *Adoption) RevokedKey(id string) string {
	if key := a.state.Forgotten[id]; key != "" {
		return identity.Label(key)
	}
	return ""
}

// SetAuthority takes that the dominion has another authority: tokens that name the former one
// and were not used are removed, and the token of the hub's own machine is made anew. It
// returns the number of those that were removed.
func (a *Adoption) SetAuthority(hash [32]byte, now time.Time) (removed int) {
	a.o.Authority = hash
	left := slices.DeleteFunc(slices.Clone(a.state.Tokens.Records), func(r protocol.TokenRecord) bool { return !r.Local && r.UsesLeft > 0 })
	removed = len(a.state.Tokens.Records) - len(left)
	a.state.Tokens.Records = left
	a.out.Store = true
	a.renewLocalToken(now)
	return removed
}
