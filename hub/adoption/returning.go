package adoption

import (
	"fmt"
	"time"

	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// notInList is why a machine waits that shows a domain's certificate of this dominion.
const notInList = "certificate of ours, not in the list"

// restoredNotice is how long it is a problem that the hub was restored from a backup.
const restoredNotice = 7 * 24 * time.Hour

// noteCertificate notes whether a machine has shown a certificate of the dominion, and whether this
// hub remembers that it has issued it. One that it does not remember was issued after the
// backup that it was restored from.
func (a *Adoption) noteCertificate(q protocol.Question, issued, listed bool, now time.Time) {
	m, is := a.state.Members[q.ID]
	if !issued || is && m.KeyHash == q.KeyHash() { // one that it has adopted
		delete(a.certified, q.KeyHash())
		return
	}
	a.certified[q.KeyHash()] = true
	if !listed {
		a.restored(now)
	}
}

// restored notes that the hub was restored from a backup.
func (a *Adoption) restored(now time.Time) {
	if a.noticed(now) {
		return
	}
	a.state.Restored, a.state.ListFound, a.out.Store = now.UTC().Round(0), false, true
	a.event(topics.HubProblem, "", "%s", a.Restored(now))
}

// noticed reports whether it was noticed before that the hub was restored.
func (a *Adoption) noticed(now time.Time) bool {
	return !a.state.Restored.IsZero() && now.Sub(a.state.Restored) < restoredNotice
}

// KeyListFound notes that a key list was taken over that is newer than the hub's own: what was
// revoked after the backup is revoked.
func (a *Adoption) KeyListFound(now time.Time) {
	if !a.noticed(now) {
		a.state.Restored = now.UTC().Round(0)
	}
	a.state.ListFound, a.out.Store = true, true
}

// Restored returns what to do after the hub was restored from a backup; "": nothing.
func (a *Adoption) Restored(now time.Time) string {
	if !a.noticed(now) {
		return ""
	}
	text := "this hub was restored from a backup: users, secrets and definitions are those of the backup, and services get the values of then, so what was changed after it must be changed again (`dominionctl user`, `dominionctl secret set NAME`)"
	if !a.state.ListFound {
		text += "; nobody has shown a newer key list: what was revoked or forgotten after the backup must be revoked again (`dominionctl certificates revoke KEY`, `dominionctl forget NAME`)"
	}
	return text + "; this is shown until " + a.state.Restored.Add(restoredNotice).UTC().Format("2006-01-02 15:04 MST")
}

// distrusts reports whether a machine that this hub has adopted asks for adoption as one of this dominion
// that does not hear its hub: it does not trust this one, or has not found it yet.
func (a *Adoption) distrusts(q protocol.Question) bool {
	m, is := a.state.Members[q.ID]
	return is && m.KeyHash == q.KeyHash() && q.Stranger != "" && q.Stranger == a.o.Name
}

// adoptCertified carries out a request to adopt without a code: of machines that have shown a
// certificate of the dominion.
func (a *Adoption) adoptCertified(ask topics.HubRequest, user string, all []protocol.Applying, to any, now time.Time) error {
	var found []protocol.Question
	for _, w := range all {
		if a.certified[w.Question.KeyHash()] {
			found = append(found, w.Question)
		}
	}
	if len(found) == 0 {
		return fmt.Errorf("the code of %s is missing: `domain code` on it shows it", ask.Domain)
	}
	q := found[0]
	if len(found) > 1 {
		return fmt.Errorf("%d machines %s wait: name one by the first characters of its key, %s or %s", len(found), ask.Domain, q.Label(), found[1].Label())
	}
	if err := a.mayHave(q, ask.Replace, now); err != nil {
		return err
	}
	if o := a.offers[q.KeyHash()]; o != nil && (o.busy || o.Proved()) {
		return fmt.Errorf("%s is being adopted", ask.Domain)
	}
	if err := a.mayOrder(); err != nil {
		return err
	}
	by := &order{name: ask.Domain, user: user, to: to, replace: ask.Replace, until: now.Add(orderTimeout), open: map[string]bool{q.KeyHash(): true}}
	a.orders = append(a.orders, by)
	a.offer(q, by, nil, now)
	return nil
}

// firstWord returns the word of a machine that has proved itself. The words of one that comes back by its
// certificate are not known any more: by the time, this one is newer than all of them.
func (a *Adoption) firstWord(o *offer, m protocol.Member, now time.Time) string {
	if o.Method == protocol.ByCertificate {
		return a.o.WordKey.NewFrom(m.ID, m.Words, uint64(max(0, now.Unix())))
	}
	return a.o.WordKey.New(m.ID, m.Words)
}
