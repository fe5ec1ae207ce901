package adoption

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/identity"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// MayJoin returns why a machine may not join in a name: name and id belong to the key that was
// adopted with them, and a machine that shows an older word is a copy. user is the broker's user
// who asks, admin whether he is an admin.
func (a *Adoption) MayJoin(ask topics.HubRequest, user string, admin bool, now time.Time) error {
	m, adopted := a.state.Members[ask.ID]
	if other, is := a.named(ask.Name); is && other.ID != ask.ID {
		return fmt.Errorf("the name %s belongs to the key %s: choose another name in domain.toml, or `%s forget %s`", ask.Name, identity.Label(other.KeyHash), a.o.dominionctl(), ask.Name)
	}
	if !adopted || a.JoinsUnfinished(ask) {
		return a.mayJoinUnsigned(ask)
	}
	if err := a.mayAct(m, user, admin); err != nil {
		return err
	}
	if m.Words.Valid(ask.Word) || a.o.WordKey.Newer(m.ID, ask.Word, m.Words) {
		if m.Name == ask.Name || a.o.Taken == nil {
			return nil
		}
		return a.o.Taken(ask.Name, ask.ID, now)
	}
	a.copied(m, ask, now)
	return fmt.Errorf("%s shows an older word than this hub has given it: its disk is a copy or was restored; run `domain reset` on the copy, or `%s adopt %s --replace` if it is the one that counts", ask.Name, a.o.dominionctl(), m.Name)
}

// mayAct returns why a user of the broker may not act in the name of a domain: it needs its
// certificate, or the password of a user of its name.
func (a *Adoption) mayAct(m protocol.Member, user string, admin bool) error {
	if !a.o.Embedded || admin || user == m.Name {
		return nil
	}
	return fmt.Errorf("%s has a key: its connection must show its certificate", m.Name)
}

// copied remembers and reports a machine with the key of a domain and an older word.
func (a *Adoption) copied(m protocol.Member, ask topics.HubRequest, now time.Time) {
	before, was := a.copies[m.ID]
	if !was && len(a.copies) >= maxCopies {
		return
	}
	a.copies[m.ID] = copied{ask.Word, ask.Address, now}
	if was && before.word == ask.Word && before.address == ask.Address {
		return
	}
	at := ""
	if ask.Address != "" {
		at = " at " + ask.Address
	}
	a.event(topics.DomainCopied, m.Name, "a copy of %s%s was refused: it has its key and an older word; %s", m.Name, at, a.copyRemedy(m))
}

// copyRemedy says what a person does about a refused copy of a domain.
func (a *Adoption) copyRemedy(m protocol.Member) string {
	return fmt.Sprintf("run `domain reset` on it, or `%s adopt %s --replace` if it is the one that counts", a.o.dominionctl(), m.Name)
}

// copyOf returns the domain whose key a machine that waits has, if it was refused as a copy of it.
func (a *Adoption) copyOf(q protocol.Question) (m protocol.Member, refused bool) {
	m, is := a.state.Members[q.ID]
	_, refused = a.copies[q.ID]
	return m, refused && is && m.KeyHash == q.KeyHash()
}

// Joined takes that a machine was granted a name, and returns the word to give it, once State is
// stored; "": it has no key, or keeps the one that it has, as it joins too often. One that was adopted
// under another name is renamed.
func (a *Adoption) Joined(ask topics.HubRequest, now time.Time) (word string) {
	if !a.confirm(ask.ID, ask.Word, now) {
		return ""
	}
	m := a.state.Members[ask.ID]
	delete(a.copies, m.ID)
	last := a.joins[m.ID]
	last.at = now
	a.joins[m.ID] = last
	if a.offers[m.KeyHash] == nil {
		a.endWaiting(m)
	}
	a.wordsGiven.Expire(now)
	if m.Name == ask.Name && !a.wordsGiven.Allow(m.ID, maxWords, now) {
		return "" // it keeps the one that it has
	}
	word = a.o.WordKey.New(m.ID, m.Words)
	m.Name, m.Words = ask.Name, m.Words.Give(word)
	a.put(m)
	return word
}

// endWaiting ends that a domain is shown as waiting that has joined or was adopted: it asked while it
// could not reach its hub, or by a key that it has not any more.
func (a *Adoption) endWaiting(m protocol.Member) {
	delete(a.revokedNames, m.Name) // it was reset
	for _, w := range a.waiting.List() {
		key := w.Question.KeyHash()
		if key != m.KeyHash && (w.Question.ID != m.ID || a.offers[key] != nil) {
			continue
		}
		a.waiting.Remove(key)
		a.viewChanged = true
		delete(a.refusals, key)
		delete(a.certified, key)
		delete(a.transactions, key)
	}
}

// hasJoined reports whether a question is of a domain that has just joined by the same key.
func (a *Adoption) hasJoined(q protocol.Question, now time.Time) bool {
	m, is := a.state.Members[q.ID]
	at := a.joins[q.ID].at
	return is && m.KeyHash == q.KeyHash() && !at.IsZero() && now.Sub(at) < joinSettles
}

// replaceByCopy makes the machine that was refused as a copy the domain.
func (a *Adoption) replaceByCopy(name string) bool {
	m, is := a.named(name)
	c, refused := a.copies[m.ID]
	if !is || !refused || c.word == "" {
		return false
	}
	m.Words = protocol.Words{Confirmed: c.word}
	delete(a.copies, m.ID)
	a.put(m)
	a.event(topics.DomainAdopted, m.Name, "%s is the machine that was refused as a copy from now on", m.Name)
	return true
}
