package hub

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/hub/events"
	"github.com/jmbarzee/dominion/hub/fleet"
	"github.com/jmbarzee/dominion/topics"
)

// join answers a machine that wants to be the domain of a name, as a user of the broker.
func (h *Hub) join(ask topics.HubRequest, user string, now time.Time) (topics.Grant, error) {
	var news bool
	var a fleet.Admission
	err := h.adoption.MayJoin(ask, user, h.actsForAll(user), now)
	if err != nil {
		news = h.fleet.NoteRefusal(ask, err, now)
	} else {
		a, news, err = h.fleet.Join(ask, user, now)
	}
	if err != nil {
		if news && h.events.MayReport("join as "+ask.Name, events.MaxRefusals, now) {
			h.reportRefused(ask, err)
		}
		return topics.Grant{}, err
	}
	h.remember(h.admitted(a, now)) // it may have another user
	h.touch(ask.Name)
	h.hasAuthority(ask, user, now)
	g := h.grant()
	g.Word, g.Upgrade = h.adoption.Joined(ask, now), h.adoption.Upgrades(ask.ID)
	return g, nil
}

// grant returns what every grant has.
func (h *Hub) grant() topics.Grant {
	return topics.Grant{
		Dominion: h.ID(), Name: h.cfg.Name, Epoch: h.epoch, Run: h.leases.Run(), Alive: topics.Seconds(h.views.presence.Interval()),
		CertifiesServices: h.broker != nil && h.keys != nil,
	}
}

// answersJoinLater reports whether an accepted request to join is not answered now: a word is
// confirmed, certificates are being made, or a new word must be on disk first.
func (h *Hub) answersJoinLater(ask topics.HubRequest, data any, m topics.Message, publish func(topics.Message)) bool {
	g, is := data.(topics.Grant)
	to := later{answer: h.replyTo(topics.VerbJoin, ask, m), transaction: ask.Transaction, publish: publish}
	if _, adopted := h.adoption.Members()[ask.ID]; adopted {
		to.domain = ask.ID
	}
	switch {
	case acknowledges(ask) || (ask.Confirm != "" || ask.KeyList != "") && ask.Transaction == "": // nobody waits for an answer
	case ask.Renew:
		h.renew(ask, m.User, to)
	case ask.ServiceKeys != nil:
		h.askServiceKeys(ask, m.User, to)
	case is && to.domain != "":
		to.session, to.ephemeral, to.certified = ask.Session, ask.Ephemeral, ask.Certified
		h.adoption.grants = append(h.adoption.grants, granted{to, g})
	default:
		return false
	}
	return true
}

// acknowledges reports whether a request joins nothing, and says which authority a domain has
// stored.
func acknowledges(ask topics.HubRequest) bool {
	return ask.Authority != "" && ask.Transaction == "" && ask.Response == ""
}

// reportRefused reports that a machine may not be the domain of a name.
func (h *Hub) reportRefused(ask topics.HubRequest, why error) {
	address := ""
	if ask.Address != "" {
		address = " at " + ask.Address
	}
	h.events.Add(topics.Event{Type: topics.DomainRefused, Domain: ask.Name, Message: fmt.Sprintf("a second machine (id %s%s) was refused: %v", ask.ID, address, why)})
	h.changed.TouchAll()
}

// isAdmin reports whether a user of our broker is an admin.
func (h *Hub) isAdmin(user string) bool { return h.userRole(user) == access.RoleAdmin }

// userRole returns the role of a user of our broker; "": there is no such user.
func (h *Hub) userRole(user string) string {
	if h.broker == nil {
		return ""
	}
	a, err := h.broker.Access(topics.HubRequest{User: user, Action: access.Publish.String(), Topic: h.tree.Hub(topics.HubEvent)})
	if err != nil {
		return ""
	}
	return a.Role
}

// isOtherUser reports whether our broker has a user of a name who is not a domain: a
// domain of that name could not connect by its certificate, and what ends the domain must
// not end what that user has.
func (h *Hub) isOtherUser(name string) bool {
	role := h.userRole(name)
	return role != "" && role != access.RoleDomain
}

// isUser reports whether our broker has a user.
func (h *Hub) isUser(user string) bool {
	if h.broker == nil {
		return true
	}
	_, err := h.broker.Access(topics.HubRequest{User: user, Action: access.Publish.String(), Topic: h.tree.Hub(topics.HubEvent)})
	return err == nil
}

// updateAgents passes on to the broker whose ids are whose, where that changed.
func (h *Hub) updateAgents() {
	if h.broker == nil || !h.fleet.IdentitiesChanged() {
		return
	}
	byID := make(map[string]broker.Agent, h.fleet.Len())
	for d := range h.fleet.All() {
		if !d.Micro && d.ID != "" {
			byID[d.ID] = broker.Agent{Domain: d.Name, User: d.User}
		}
	}
	h.broker.SetAgents(byID)
}
