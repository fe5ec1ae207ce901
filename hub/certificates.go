package hub

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/identity"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// errNoKeys refuses what needs the keys of the dominion.
var errNoKeys = errors.New("the hub has no keys: see dominionctl status")

// certificates lists the certificates that were issued, issues one for a user, or revokes
// a key.
func (h *Hub) certificates(ask asked, now time.Time) (any, error) {
	if h.keys == nil {
		return nil, errNoKeys
	}
	switch ask.Action {
	case "", "list":
		return h.keys.Issued(), nil
	case "issue":
		return h.issueForUser(ask.HubRequest, now)
	case "revoke":
		return h.revoke(ask, now)
	}
	return nil, fmt.Errorf(`"action" is list, issue or revoke, not %.40q`, ask.Action)
}

// issueForUser issues a certificate for a user of the broker.
func (h *Hub) issueForUser(ask topics.HubRequest, now time.Time) (any, error) {
	switch {
	case h.broker == nil:
		return nil, errNotOurBroker
	case ask.User == "":
		return nil, errors.New(`the request needs "user"`)
	case ask.Request == "":
		return nil, errors.New(`the request needs "certificate_request"`)
	case ask.Days < 0 || ask.Days > maxUserDays:
		return nil, fmt.Errorf("a certificate of %d days cannot be issued: use 1 to %d", ask.Days, maxUserDays)
	}
	users, err := h.broker.EditUsers(topics.HubRequest{Action: "list"})
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(users, func(u topics.UserView) bool { return u.Name == ask.User }) {
		return nil, fmt.Errorf("there is no user %.80q: dominionctl user add %.80s ROLE --certificate makes one", ask.User, ask.User)
	}
	return h.keys.IssueForUser(ask.User, []byte(ask.Request), time.Duration(ask.Days)*24*time.Hour, now)
}

// maxUserDays bounds the lifetime of a user's certificate.
const maxUserDays = int(identity.MaxUserLifetime / (24 * time.Hour))

// revoke revokes a key: its certificates are not accepted any more, and all that its user
// has ends. The key list is stored before that.
func (h *Hub) revoke(ask asked, now time.Time) (any, error) {
	if ask.Key == "" {
		return nil, errors.New(`the request needs "key"`)
	}
	r, again, err := h.keys.Revoke(ask.Key, now)
	if err != nil {
		return nil, err
	}
	if !again {
		h.revoked(r, ask.user, now)
	}
	return h.keys.Row(r.Key), nil
}

// revoked carries out that a key was revoked, as a user has asked for ("": nobody did).
func (h *Hub) revoked(r identity.RevokedKey, by string, now time.Time) {
	h.publishCertificate()
	switch {
	case r.Use == identity.HubUse:
		h.log.Warn("a hub's key is not accepted any more", "key", identity.Label(r.Key))
	case r.Use == identity.DomainUse || r.Use == "":
		// Its sessions end with its adoption.
		if !h.adoption.Revoke(r.Key, now) {
			h.events.Add(topics.Event{Type: topics.DomainRevoked, Message: fmt.Sprintf("the key %s is not accepted any more", identity.Label(r.Key))})
		}
	default:
		h.log.Warn("a key is not accepted any more", "key", identity.Label(r.Key), "use", string(r.Use), "name", r.Name)
		if r.Use == identity.ServiceUse {
			h.endServices([]string{r.Name})
		} else if h.broker != nil {
			h.broker.EndUser(r.Name, r.Name == by)
		}
	}
}

// revokeDomains revokes the keys of domains that were forgotten or replaced.
func (h *Hub) revokeDomains(all []protocol.Member, now time.Time) {
	if h.keys == nil || len(all) == 0 {
		return
	}
	for _, m := range all {
		services, err := h.keys.RevokeDomain(m.ID, m.Name, m.KeyHash, now)
		h.endServices(services)
		if err != nil {
			h.log.Error("a domain is not adopted any more, but its key is not in the key list", "domain", m.Name, "error", err)
		}
	}
	h.publishCertificate()
}

// editUsers lists or changes the users of the broker, and returns them. A user who is
// removed has no certificate any more either, also where the name is used again.
func (h *Hub) editUsers(ask asked, now time.Time) ([]topics.UserView, error) {
	if h.broker == nil {
		return nil, errNotOurBroker
	}
	all, err := h.broker.EditUsers(ask.HubRequest)
	if err != nil || ask.Action != "remove" {
		return all, err
	}
	h.broker.EndUser(ask.User, ask.User == ask.user)
	if h.keys == nil {
		return all, nil
	}
	n, err := h.keys.RevokeUser(ask.User, now)
	if err != nil {
		return nil, fmt.Errorf("the user %.80q was removed, but its certificates could not be revoked: %w", ask.User, err)
	}
	if n > 0 {
		h.publishCertificate()
	}
	return all, nil
}

// receiveKeyList takes a message at hub/keys: the hub's own, one that it published before
// it was restored from a backup, or something that another client put there.
func (h *Hub) receiveKeyList(a topics.Address, m topics.Message, now time.Time) {
	if h.keys == nil {
		return
	}
	if len(m.Payload) > 0 {
		h.takeKeyList(m.Payload, m.Topic, now)
	}
	h.pub.Received(a, m, now)
}

// showsKeyList takes a key list that a domain shows because it is newer than the hub's.
func (h *Hub) showsKeyList(ask asked, now time.Time) {
	if h.keys != nil {
		h.takeKeyList([]byte(ask.KeyList), "of "+ask.user, now)
	}
}

// takeKeyList takes over a key list that somebody shows, if it has what the hub has not. from is what
// senders are told apart by: one who shows others keeps nobody from showing a newer one.
func (h *Hub) takeKeyList(message []byte, from string, now time.Time) {
	if bytes.Equal(message, h.keys.SignedKeyList()) || !h.events.MayReport("key lists "+from, maxKeyLists, now) {
		return
	}
	before := h.keys.KeyList()
	changed, err := h.keys.TakeKeyList(message, now)
	if err != nil {
		h.log.Warn("a key list was not taken over", "error", err)
		return
	}
	if !changed {
		return
	}
	h.adoption.KeyListFound(now)
	after := h.keys.KeyList()
	h.events.Add(topics.Event{Type: topics.HubProblem, Message: fmt.Sprintf("a key list that is newer than the hub's own was taken over: number %d, with %d revoked keys: was the hub restored from a backup?", after.Number, len(after.Revoked))})
	for _, r := range after.Revoked {
		if !before.IsRevoked(r.Key) {
			h.revoked(r, "", now)
		}
	}
	h.publishCertificate()
}

// maxKeyLists is how many key lists of a sender are verified in a minute.
const maxKeyLists = 10
