package hub

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/hub/events"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/topics"
)

// serviceKeys are the requests of domains for the certificates of their services. Those that come
// together are answered by one write: a home that starts is one, and not one a domain.
type serviceKeys struct {
	waiting []serviceRequest
	// busy reports that certificates are being made beside the loop.
	busy bool
	at   time.Time
}

// serviceRequest is the request of one domain.
type serviceRequest struct {
	keys.ServiceKeys
	to later
}

// certifyInterval is the least time between two writes of certificates of services.
const certifyInterval = 250 * time.Millisecond

// maxBatch bounds the certificates of one write: meanwhile the loop may wait for the keys.
const maxBatch = 1024

// askServiceKeys takes the request of a domain for the certificates of its services, which its key
// has signed. It must come by the connection that has its certificate or its user, too.
func (h *Hub) askServiceKeys(ask topics.HubRequest, user string, to later) {
	m, err := h.adoption.Renewal(ask, user, user != "" && h.isAdmin(user))
	switch {
	case h.broker == nil:
		err = errors.New("services get no certificates: the broker is not the dominion's own, and its users are that broker's matter")
	case err != nil:
	case len(h.pending.services.waiting) >= maxWork:
		err = errors.New("too much is being signed: ask again in a moment")
	}
	if err == nil {
		err = h.mayIssue("services", m, maxServiceAsks)
	}
	for service := range ask.ServiceKeys {
		if err == nil && !topics.ValidName(service) {
			err = fmt.Errorf("field service_keys: %.80q is not a name", service)
		}
	}
	if err != nil {
		to.reply(nil, err)
		return
	}
	h.adoption.AcceptJoin(ask)
	h.pending.services.waiting = append(h.pending.services.waiting, serviceRequest{keys.ServiceKeys{ID: m.ID, Domain: m.Name, Keys: ask.ServiceKeys}, to})
}

// stepServiceKeys has the certificates made that were asked for, beside the loop.
func (h *Hub) stepServiceKeys(now time.Time) {
	s := &h.pending.services
	if s.busy || len(s.waiting) == 0 {
		return
	}
	n, keysOfThem := 0, 0
	for n < len(s.waiting) && (n == 0 || keysOfThem+len(s.waiting[n].Keys) <= maxBatch) {
		keysOfThem += len(s.waiting[n].Keys)
		n++
	}
	if at := s.at.Add(certifyInterval); now.Before(at) && n == len(s.waiting) {
		h.due(at) // more may come
		return
	}
	requests := s.waiting[:n]
	s.waiting, s.busy, s.at = s.waiting[n:], true, now
	asked := make([]keys.ServiceKeys, 0, len(requests))
	for _, r := range requests {
		asked = append(asked, r.ServiceKeys)
	}
	h.work.Put(func() func(time.Time) {
		all, err := h.keys.CertifyServices(asked, time.Now())
		return func(now time.Time) {
			s.busy = false
			for n, r := range requests {
				if err != nil {
					r.to.reply(nil, err)
					continue
				}
				h.certifiedServices(r, all[n], now)
			}
		}
	})
}

// certifiedServices answers a domain with the certificates of its services.
func (h *Hub) certifiedServices(r serviceRequest, c keys.ServiceCertificates, now time.Time) {
	for _, why := range c.Refused {
		if h.events.MayReport("certificates of services of "+r.Domain, events.MaxRefusals, now) {
			h.log.Warn(why.Error())
		}
	}
	if len(c.Chains) == 0 && len(c.Refused) > 0 {
		r.to.reply(nil, c.Refused[0])
		return
	}
	if len(c.Renewed) > 0 {
		h.events.Add(topics.Event{
			Type: topics.CertificateRenewed, Domain: r.Domain,
			Message: fmt.Sprintf("the certificates of services of %s were renewed: %s", r.Domain, strings.Join(c.Renewed, ", ")),
		})
	}
	g := h.grant()
	g.ServiceCertificates = c.Chains
	h.grantTo(r.to, g, now)
}

// endServices ends all that services have whose keys are revoked. A user who has the name of one
// in the configuration is another one.
func (h *Hub) endServices(names []string) {
	if h.broker == nil || len(names) == 0 {
		return
	}
	users, err := h.broker.EditUsers(topics.HubRequest{Action: "list"})
	if err != nil {
		h.log.Error("cannot end the connections of services", "services", names, "error", err)
		return
	}
	for _, name := range names {
		if !slices.ContainsFunc(users, func(u topics.UserView) bool { return u.Name == name }) {
			h.broker.EndUser(name, false)
		}
	}
}
