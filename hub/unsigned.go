package hub

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/hub/adoption"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// joinedBefore returns the names of the domains that have joined, by id.
func (h *Hub) joinedBefore() map[string]string {
	all := make(map[string]string)
	for name, d := range h.store.Domains() {
		if d.ID != "" {
			all[d.ID] = name
		}
	}
	return all
}

// takesFrom reports whether anything is taken from a domain, and reports one that must be
// adopted first.
func (h *Hub) takesFrom(name, id string, now time.Time) bool {
	if h.adoption.Admits(id) {
		return true
	}
	if !h.adoption.Forgotten(id) {
		h.events.Refuse("identity of "+name, topics.Event{Domain: name, Message: fmt.Sprintf("cannot take what is published as %s with id %.64s: %s", name, id, h.adoption.MustBeAdopted(name))}, now)
	}
	return false
}

// mayUpgrade returns why a question does not come from the one machine that is a domain. On the
// embedded broker the user of the domain's name says so. Where everybody is let in, and beside an
// external broker, it is the one that joined and whose heartbeats come, and nobody else's.
func (h *Hub) mayUpgrade(q protocol.Question, user string, now time.Time) error {
	d := h.fleet.Get(q.Name)
	if !h.fleet.Ready() || d == nil || d.ID != q.ID || d.Session() != q.Session {
		return adoption.ErrNotYet // it has not joined in this run of the hub
	}
	if user != "" && user != q.Name && !h.isAdmin(user) {
		return fmt.Errorf("the user %.80q does not speak for %s", user, q.Name)
	}
	if h.fleet.OthersBeat(d, now) {
		return fmt.Errorf("another machine beats by the id of %s: stop its agent, and run `domain reset` on the copy", q.Name)
	}
	return nil
}

// identity answers the verb identity.
func (h *Hub) identity(ask topics.HubRequest) error {
	if ask.Action != "require" {
		return fmt.Errorf(`"action" is require, not %.40q`, ask.Action)
	}
	return h.adoption.Require()
}

// endUnsigned ends the connections of domains from which nothing is taken any more.
func (h *Hub) endUnsigned(ids []string) {
	for _, id := range ids {
		if h.broker != nil {
			h.broker.Forget("domain-" + id)
			h.broker.Forget("domain-" + id + "-join")
		}
	}
	if len(ids) > 0 {
		h.changed.TouchAll()
	}
}

// viewUnsigned adds to the view of a domain that it joined before it had a key.
func (h *Hub) viewUnsigned(v *topics.DomainView) {
	if v.Micro || !h.adoption.Unsigned(v.ID) || v.State == topics.DomainIsRefused {
		return
	}
	v.Unsigned = true
	if v.Problem == "" {
		v.Problem = h.adoption.UnsignedProblem(v.ID, v.Name)
	}
}
