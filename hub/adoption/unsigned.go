package adoption

import (
	"errors"
	"fmt"
	"slices"
	"time"

	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

const (
	// unsignedTime is for how long of the hub's running time domains that joined before they
	// had a key may go on without signatures. No clock is asked: one that jumps cuts nobody off.
	unsignedTime = 30 * 24 * time.Hour
	// chargeInterval is how often the running time is charged to them.
	chargeInterval = time.Hour
)

// ErrNotYet means that a question is to be asked again.
var ErrNotYet = errors.New("it is to be asked again")

// recordUnsigned records, once, the domains that joined before the hub had keys.
func (a *Adoption) recordUnsigned(now time.Time) {
	a.chargedAt = now
	if a.o.Keys == nil || a.state.Unsigned != nil {
		return
	}
	u := &protocol.Unsigned{Left: unsignedTime}
	if a.o.Joined != nil {
		u.Names = a.o.Joined()
	}
	for id := range a.state.Members {
		delete(u.Names, id)
	}
	a.state.Unsigned, a.out.Store = u, true
}

// Unsigned reports whether a domain joined before it had a key, and has none yet.
func (a *Adoption) Unsigned(id string) bool {
	if a.state.Unsigned == nil {
		return false
	}
	_, is := a.state.Unsigned.Names[id]
	return is
}

// MayBeUnsigned reports whether a domain may join and report without a key: it did before the
// hub had keys, and is not required to have one yet; or everybody who asks is adopted; or the
// hub has no keys.
func (a *Adoption) MayBeUnsigned(id string) bool {
	u := a.state.Unsigned
	switch {
	case a.Forgotten(id) || u != nil && u.Required:
		return false
	case u == nil || a.o.Keys == nil:
		return true
	}
	return a.Unsigned(id) || a.o.Open
}

// Admits reports whether anything is taken from a domain.
func (a *Adoption) Admits(id string) bool {
	_, adopted := a.state.Members[id]
	return adopted || a.MayBeUnsigned(id)
}

// Upgrades reports whether a domain that joins without a key is adopted when it asks for that.
func (a *Adoption) Upgrades(id string) bool {
	return a.o.Keys != nil && a.Unsigned(id) && !a.state.Unsigned.Required
}

// mayJoinUnsigned returns why a domain that is not adopted may not join.
func (a *Adoption) mayJoinUnsigned(ask topics.HubRequest) error {
	if a.Forgotten(ask.ID) {
		return fmt.Errorf("%s was forgotten: run `domain reset` on it", ask.Name)
	}
	if ask.Word != "" {
		return fmt.Errorf("%s%s has a key, and is not in the list: it asks for adoption by its certificate; if that is not of this dominion any more, run `domain reset` on it", topics.NotAdoptedPrefix, ask.Name)
	}
	if a.MayBeUnsigned(ask.ID) {
		return nil
	}
	return errors.New(a.MustBeAdopted(ask.Name))
}

// MustBeAdopted says what to do about a domain that may not go on without a key.
func (a *Adoption) MustBeAdopted(name string) string {
	return fmt.Sprintf("%s: update the agent there if it shows none; `domain code` there shows it, `%s adopt %s` takes it", topics.AdoptionRequired, a.o.dominionctl(), name)
}

// JoinsUnfinished reports whether a join is of a domain that joined before it had a key, and may
// not have stored that it was adopted: it joins as before.
func (a *Adoption) JoinsUnfinished(ask topics.HubRequest) bool {
	m, adopted := a.state.Members[ask.ID]
	return adopted && Unfinished(m) && ask.Word == ""
}

// Unfinished reports whether a domain that joined before it had a key was adopted, and may not
// have stored that: nothing between it and the hub is signed until it has confirmed it.
func Unfinished(m protocol.Member) bool {
	return m.Method == protocol.ByUpgrade && !m.Words.Established()
}

// isUpgrade reports whether a domain asks that joined this dominion before it had a key.
func (a *Adoption) isUpgrade(q protocol.Question) bool {
	return q.Upgrade != "" && q.Upgrade == a.o.Dominion && len(q.Token) == 0
}

// mayUpgrade returns why the machine of a question is not adopted for being a domain that joined
// before it had a key.
func (a *Adoption) mayUpgrade(q protocol.Question, from sender, now time.Time) error {
	if m, adopted := a.state.Members[q.ID]; adopted && !Unfinished(m) {
		return fmt.Errorf("%s has a key already", m.Name)
	}
	if !a.Upgrades(q.ID) {
		return errors.New(a.MustBeAdopted(q.Name))
	}
	if from.applicant {
		return errors.New("a connection without user and certificate does not say which domain it is")
	}
	if a.o.Upgrade == nil {
		return nil
	}
	return a.o.Upgrade(q, from.user, now)
}

// beginUpgrade offers to adopt a domain that joined before it had a key.
func (a *Adoption) beginUpgrade(q protocol.Question, from sender, now time.Time) {
	err := a.mayUpgrade(q, from, now)
	if err == nil {
		err = a.mayHave(q, false, now)
	}
	switch {
	case errors.Is(err, ErrNotYet):
	case err != nil:
		a.refuse(q, err)
	default:
		a.offer(q, nil, nil, now)
		a.offers[q.KeyHash()].from = from
	}
}

// signs takes that a domain has a key from now on.
func (a *Adoption) signs(id string) {
	if a.Unsigned(id) {
		delete(a.state.Unsigned.Names, id)
		a.out.Store = true
	}
}

// ForgetUnsigned takes that a domain was forgotten that may have joined before it had a key.
func (a *Adoption) ForgetUnsigned(id string) { a.signs(id) }

// Require ends that domains without a key join and report.
func (a *Adoption) Require() error {
	u := a.state.Unsigned
	if a.o.Keys == nil || u == nil {
		return errNoKeys
	}
	if u.Required {
		return nil
	}
	u.Required, a.out.Store = true, true
	for id, name := range u.Names {
		a.out.Ended = append(a.out.Ended, id)
		a.event(topics.DomainRefused, name, "nothing is taken from %s any more: %s", name, a.MustBeAdopted(name))
	}
	slices.Sort(a.out.Ended)
	return nil
}

// expireUnsigned charges the running time to the domains that have no key, and requires one when
// their time is over.
func (a *Adoption) expireUnsigned(now time.Time) {
	if !a.charges() {
		return
	}
	ran := now.Sub(a.chargedAt)
	if ran < chargeInterval {
		return
	}
	a.chargedAt = now
	u := a.state.Unsigned
	u.Left, a.out.Minor = max(0, u.Left-ran), true
	if u.Left == 0 {
		_ = a.Require() // there are keys
	}
}

// charges reports whether running time is charged to domains without a key.
func (a *Adoption) charges() bool {
	u := a.state.Unsigned
	return a.o.Keys != nil && u != nil && !u.Required && len(u.Names) > 0
}

// UnsignedProblem returns what to do about a domain that joined before it had a key; "": it
// has one, or needs none.
func (a *Adoption) UnsignedProblem(id, name string) string {
	if a.o.Keys == nil || !a.Unsigned(id) {
		return ""
	}
	if a.state.Unsigned.Required {
		return a.MustBeAdopted(name)
	}
	return fmt.Sprintf("nothing between it and this hub is signed, as its agent is of before there were keys: update the agent within %s, or it must be adopted by code", remaining(a.state.Unsigned.Left))
}

// remaining returns for how long of its running time the hub goes on.
func remaining(left time.Duration) string {
	const day = 24 * time.Hour
	if days := int((left + day - 1) / day); days > 1 {
		return fmt.Sprintf("%d days", days)
	}
	return "a day"
}
