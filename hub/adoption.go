package hub

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/adoption"
	"github.com/jmbarzee/dominion/hub/events"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/rotation"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/internal/ratelimit"
	"github.com/jmbarzee/dominion/topics"
)

// applied is a message of a machine that has no user and no certificate, from the broker's
// role applicant.
type applied struct {
	message topics.Message
	address string
}

// workDone is the result of work beside the loop.
type workDone func(now time.Time)

// newAdoption returns the part that adopts domains.
func (h *Hub) newAdoption(o Options) *adoption.Adoption {
	a := adoption.Options{
		State: h.store.Adoption(), Dominion: h.ID(), Name: o.Config.Name, Open: o.Config.Identity.Adoption == config.AdoptionOpen,
		Sudo:     runtimeDirectory(o.Environ) != "", // the unit's control socket is for root and a group
		Embedded: o.Broker != nil, Taken: h.nameTaken, Joined: h.joinedBefore, Upgrade: h.mayUpgrade,
		Grant: func() []byte { return topics.Encode(h.grant()) },
	}
	if o.Keys != nil {
		a.Keys, a.Authority, a.WordKey = o.Keys, o.Keys.RootHash(), o.Keys.WordKey()
	}
	return adoption.New(a)
}

// nameTaken returns why a machine may not have a name: another one without a key has it, or
// a user of the broker who is not a domain.
func (h *Hub) nameTaken(name, id string, now time.Time) error {
	if h.isOtherUser(name) {
		return fmt.Errorf("the name %s belongs to a user of the broker with the role %s: choose another name in domain.toml", name, h.userRole(name))
	}
	d := h.fleet.Get(name)
	if d == nil || d.ID == id {
		return nil
	}
	// One that is away keeps its name if it has a user: a certificate of that name would be
	// that user.
	if !d.Micro && !h.fleet.Beats(d, now) && h.userRole(name) == "" {
		return nil
	}
	return fmt.Errorf("the name %s belongs to another machine (id %s): choose another name in domain.toml, or stop that one and `dominionctl forget %s`", name, d.ID, name)
}

// DeliverApplicant hands the hub a message of a machine that has no user and no
// certificate.
func (h *Hub) DeliverApplicant(m topics.Message, address string) { h.box.Put(applied{m, address}) }

// receiveApplied takes such a message. Nothing but an adoption is taken from it: it may join
// in nobody's name.
func (h *Hub) receiveApplied(in applied, now time.Time) {
	err := fmt.Errorf("cannot take %s: a connection without user and certificate may ask for adoption alone; update the agent there, or give it a user", in.message.Topic)
	if protocol.IsAdoption(in.message.Payload) {
		var v protocol.ToHub
		if v, err = protocol.DecodeToHub(in.message.Topic, in.message.Payload); err == nil {
			h.adoption.Receive(v, in.address, now)
		}
	}
	if err != nil {
		h.events.Refuse("applicants", topics.Event{Message: err.Error()}, now)
	}
}

// receiveAdoption takes a message of a machine that is not adopted, and whose connection may
// have a user.
func (h *Hub) receiveAdoption(m topics.Message, now time.Time) error {
	v, err := protocol.DecodeToHub(m.Topic, m.Payload)
	if err != nil {
		return err
	}
	h.adoption.ReceiveOf(v, m.User, now)
	return nil
}

// later is where the answer to a request goes that is answered later.
type later struct {
	answer      topics.Message
	transaction string
	publish     func(topics.Message)
	// domain is the id of the domain whose join is answered, if that has a key: a grant is
	// signed for it; else "".
	domain string
	// session is that of the agent whose join is answered, ephemeral its key for the exchange
	// of this join; "": the answer grants no join.
	session   string
	ephemeral []byte
	// certified are the keys of services of the domain that have a certificate.
	certified []string
}

// reply answers.
func (l later) reply(data any, err error) {
	r := topics.Accept(l.transaction, data)
	if err != nil {
		r = topics.Refuse(l.transaction, err)
	}
	l.answer.Payload = topics.Encode(r)
	l.publish(l.answer)
}

// granted is the grant of a domain that is given a word, which must be on disk first.
type granted struct {
	later
	grant topics.Grant
}

// stepAdoption carries out what follows from what came of adoptions.
func (h *Hub) stepAdoption(now time.Time) {
	for h.adoption.Pending() {
		h.carryOut(h.adoption.Take(), now)
	}
	h.grantJoins(now)
	h.publishAdoption(now)
}

// publishAdoption publishes who waits and whether the window is open, once that has changed.
func (h *Hub) publishAdoption(now time.Time) {
	if !h.bus.connected {
		return
	}
	if v, due := h.adoption.PublishView(now); due {
		h.pub.Retain(h.tree.Hub(topics.HubAdoption), topics.Encode(v))
	}
	h.dueUnlessZero(h.adoption.ViewNext())
}

// carryOut carries out what the part returned: what must be on disk first.
func (h *Hub) carryOut(out adoption.Effects, now time.Time) {
	change := func(s *store.State) { s.Adoption = h.adoption.State() }
	switch {
	case out.Members:
		h.store.ChangeMembers(change)
	case out.Store:
		h.store.Change(change)
	case out.Minor:
		h.store.ChangeMinor(change)
	}
	if out.Urgent {
		h.saveNow()
	}
	if out.Domains {
		h.revokeDomains(out.Revoked, now)
		h.setDomains(out.Revoked)
		h.adoption.rotation.Retain(func(id string) bool { _, is := h.adoption.Members()[id]; return is })
		h.storeRotation()
		h.stepRotation(now)
	}
	h.endUnsigned(out.Ended)
	for _, e := range out.Events {
		if !causedByStrangers(e.Type) || h.events.MayReport(string(e.Type), events.MaxRefusals, now) {
			h.events.Add(e)
		}
	}
	if out.Urgent {
		h.adoption.Stored(h.store.Err(), now)
	}
	for _, m := range out.Messages {
		h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.ResponseTo, Verb: topics.VerbJoin, Domain: m.KeyHash}, topics.Encode(m.Payload)))
	}
	for _, a := range out.Answers {
		if l, is := a.To.(later); is {
			l.reply(a.Data, a.Err)
		}
	}
	if t := out.LocalToken; t != nil {
		h.work.Put(func() func(time.Time) { return h.writeLocalToken(*t) })
	}
	for _, w := range out.Work {
		h.work.Put(w)
	}
	h.dueUnlessZero(h.adoption.Next())
}

// adopting is the part about who is adopted, with what the hub does for it.
type adopting struct {
	*adoption.Adoption
	// grants wait until their words are on disk; grantedAt is when words were last written.
	grants    []granted
	grantedAt time.Time
	// tokenFiles get the token of the hub's own machine.
	tokenFiles []string
	// reach returns the addresses that tokens name: of this machine, and of others; nil:
	// unknown.
	reach func() (local string, others []string)
	// rotation is how far a change of the authority has come.
	rotation *rotation.Rotation
	// byName are the ids of the adopted domains, by name.
	byName map[string]string
	// answers are the grants that were signed last, by the id of the domain.
	answers map[string]givenGrant
	// issues bounds the certificates that each domain asks for: each is written to the disk.
	issues *ratelimit.Window
}

// How often a domain may ask for certificates in a minute: of its own key, and of its services, of
// which each may be due at another time.
const (
	maxRenewals    = 10
	maxServiceAsks = 120
)

// mayIssue returns why a domain gets no certificate now, of which it may ask for most in a minute.
func (h *Hub) mayIssue(what string, m protocol.Member, most int) error {
	now := time.Now()
	h.adoption.issues.Expire(now)
	if !h.adoption.issues.Allow(what+" "+m.ID, most, now) {
		return fmt.Errorf("%s asks for too many certificates: ask again in a minute", m.Name)
	}
	return nil
}

// grantInterval is the time between two writes of words: a home that joins as a whole, after a
// start of the hub, is a few writes, and not one a domain.
const grantInterval = 250 * time.Millisecond

// grantJoins sends the grants that have a word, once the words are on disk.
func (h *Hub) grantJoins(now time.Time) {
	if len(h.adoption.grants) == 0 {
		return
	}
	if at := h.adoption.grantedAt.Add(grantInterval); now.Before(at) {
		h.due(at)
		return
	}
	h.adoption.grantedAt = now
	h.saveNow()
	for _, g := range h.adoption.grants {
		if h.store.Err() != nil {
			g.grant.Word = "" // it keeps the one that it has
		}
		h.grantTo(g.later, g.grant, now)
	}
	h.adoption.grants = nil
}

// grantTo answers a join: a domain that has a key gets a signed answer.
func (h *Hub) grantTo(to later, g topics.Grant, now time.Time) {
	if to.domain == "" {
		to.reply(g, nil)
	} else {
		h.signGrant(to, g, now)
	}
}

// writeLocalToken writes the token of the hub's own machine. It runs beside the loop.
func (h *Hub) writeLocalToken(t protocol.Token) func(time.Time) {
	var failed error
	for _, file := range h.adoption.tokenFiles {
		if err := protocol.WriteTokenFile(file, t); err != nil {
			failed = err
		}
	}
	return func(time.Time) {
		if failed != nil {
			h.log.Error("a domain of the hub's own machine needs its code or a token", "error", failed)
		}
	}
}

// causedByStrangers reports whether anybody who reaches the broker can cause events of a type.
func causedByStrangers(t topics.EventType) bool {
	return t == topics.DomainWaiting || t == topics.AdoptionRefused || t == topics.DomainCopied
}

// setDomains passes on to broker and keys which domains have a certificate. The connections
// and sessions of revoked ones end, also where another one has the name.
func (h *Hub) setDomains(revoked []protocol.Member) {
	names, byID := make(map[string]bool), make(map[string]keys.Domain)
	h.adoption.byName = make(map[string]string)
	for id, m := range h.adoption.Members() {
		names[m.Name] = true
		unfinished := adoption.Unfinished(m)
		byID[id] = keys.Domain{Name: m.Name, Key: m.KeyHash, Unfinished: unfinished}
		if !unfinished {
			h.adoption.byName[m.Name] = id
		}
	}
	for _, m := range revoked {
		delete(h.adoption.answers, m.ID)
	}
	if h.keys != nil {
		for _, d := range h.fleet.Sorted() {
			if own, adopted := byID[d.ID]; adopted && !own.Unfinished && !h.keys.Adopted(d.ID) {
				h.touch(d.Name) // its start command is signed from now on
			}
		}
		h.keys.SetDomains(byID)
	}
	for _, m := range revoked {
		h.macs.Remove(m.ID)
		h.withdrawRevoked(m)
	}
	if h.broker != nil {
		if len(revoked) > 0 {
			others := maps.Clone(names)
			for _, m := range revoked {
				delete(others, m.Name)
			}
			h.broker.SetDomains(others)
		}
		for _, m := range revoked {
			if !h.isOtherUser(m.Name) {
				h.broker.EndUser(m.Name, false)
			}
			h.broker.EndDomain(m.ID)
		}
		h.broker.SetDomains(names)
	}
}

// withdrawRevoked publishes "offline" for a domain whose key was revoked: its will is not sent, and
// nothing that it publishes is taken.
func (h *Hub) withdrawRevoked(m protocol.Member) {
	if d := h.fleet.Get(m.Name); d != nil && d.ID == m.ID {
		h.withdraw(d)
		h.update(d, time.Now())
		h.touch(d.Name)
	}
}

// expireAdoption does what is due of adoptions.
func (h *Hub) expireAdoption(now time.Time) {
	h.adoption.Expire(now)
	h.dueUnlessZero(h.adoption.Next())
	h.stepRotation(now)
}

// actsForAll reports whether a user of the broker may act in the name of any domain: an admin,
// or a client without a user where these are let in. On the listener for TLS such a client
// is an applicant, whose messages come another way.
func (h *Hub) actsForAll(user string) bool { return user == "" || h.isAdmin(user) }

// renew answers a domain that asks for a new certificate of its key: the one that is stored.
func (h *Hub) renew(ask topics.HubRequest, user string, to later) {
	m, err := h.adoption.Renewal(ask, user, h.actsForAll(user))
	if err == nil && h.work.Len() >= maxWork {
		err = errors.New("too much is being signed: ask again in a moment")
	}
	if err == nil {
		err = h.mayIssue("renewals", m, maxRenewals)
	}
	if err != nil {
		to.reply(nil, err)
		return
	}
	h.adoption.AcceptJoin(ask)
	grant := h.grant()
	h.work.Put(func() func(time.Time) {
		key, err := identity.ParsePublicKey(m.Key)
		if err == nil {
			var chain []*x509.Certificate
			chain, err = h.keys.Certify(m.ID, key, time.Now())
			grant.Certificate = identity.EncodeChain(chain)
		}
		return func(now time.Time) {
			if err != nil {
				to.reply(nil, err)
				return
			}
			h.events.Add(topics.Event{Type: topics.CertificateRenewed, Domain: m.Name, Message: "the certificate of " + m.Name + " was renewed"})
			h.grantTo(to, grant, now)
		}
	})
}

// maxWork bounds what domains can have wait to be signed.
const maxWork = 1024

// domainViews returns every domain, and the machines that wait for adoption.
func (h *Hub) domainViews() []topics.DomainView {
	waiting := h.adoption.Waiting()
	ids := make(map[string]bool, len(waiting))
	for _, w := range waiting {
		ids[w.ID] = true
	}
	all := []topics.DomainView{}
	for _, d := range h.fleet.Views() {
		h.viewUnsigned(&d)
		if d.State != topics.DomainIsLonely || !ids[d.ID] { // it announces itself too
			all = append(all, d)
		}
	}
	return append(all, waiting...)
}

// whereReached returns where domains reach the broker: those of the hub's own machine, and
// others.
func (h *Hub) whereReached() (local string, others []string) {
	if h.adoption.reach == nil {
		return "", nil
	}
	return h.adoption.reach()
}

// localAddress returns where domains of the hub's own machine reach the broker.
func (h *Hub) localAddress() string {
	local, _ := h.whereReached()
	return local
}
