package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// adopter is the half of a hub that adopts, with what the hub would store.
type adopter struct {
	t    testing.TB
	own  *identity.Hub
	keys []byte
	// send publishes to the domain whose key has a hash.
	send func(keyHash string, m adoption.ToDomain)

	// window is whether any domain that is open is adopted, token the one by which domains
	// are, and code the one that a person has typed; each is used as long as it is set.
	window bool
	// upgrades is whether domains without a key join and are taken over, requires whether they
	// are refused until they are adopted.
	upgrades, requires bool
	token              *adoption.Token
	code               adoption.Code
	// restored is set while the hub does not know whom it has adopted, and certificate once a person
	// takes back whoever shows a certificate.
	restored, certificate bool
	// refuse is the error that questions are answered with; "": none.
	refuse string
	// lose drops this message; "": none.
	lose string

	questions []adoption.Question
	offers    map[string]*adoption.Offer
	words     map[string]adoption.Words // by id of the domain
	// joined are the domains' keys by id.
	joined map[string]*ecdsa.PublicKey
	// signs is set for the domains that have signed a join since: what an upgraded one sends by the
	// connection of before is not signed.
	signs     map[string]bool
	confirmed int

	// run is this run of the hub, mac what it has of the last join of a domain.
	run string
	mac signed.Keys
	// joins counts the joins that were granted.
	joins int
}

// newAdopter makes the identity of a hub.
func newAdopter(t testing.TB, dominion string, lifetime time.Duration) *adopter {
	t.Helper()
	own, err := identity.OpenHub(t.TempDir(), identity.HubOptions{Dominion: dominion, Name: "home", Names: identity.MakeNames("pi", nil), Lifetime: lifetime, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := identity.KeyList{Dominion: dominion}.WithHub(identity.HubKey{Key: own.KeyHash()}).Sign(own.Authority)
	if err != nil {
		t.Fatal(err)
	}
	return &adopter{t: t, own: own, keys: keys, offers: make(map[string]*adoption.Offer), words: make(map[string]adoption.Words), joined: make(map[string]*ecdsa.PublicKey), run: "run1"}
}

// makeToken returns a token by which the hub adopts.
func (a *adopter) makeToken(addresses ...string) adoption.Token {
	a.t.Helper()
	token, err := adoption.NewToken(a.own.Authority.RootHash(), adoption.ForDomain, addresses...)
	if err != nil {
		a.t.Fatal(err)
	}
	a.token = &token
	return token
}

// dominion returns the id of the hub's dominion.
func (a *adopter) dominion() string {
	s, err := identity.SubjectOf(a.own.Chain[0])
	if err != nil {
		a.t.Fatal(err)
	}
	return s.Dominion
}

// receive handles a message of a domain that asks.
func (a *adopter) receive(m topics.Message) {
	if a == nil {
		return
	}
	v, err := adoption.DecodeToHub(m.Topic, m.Payload)
	if err != nil {
		a.t.Error(err)
		return
	}
	now := time.Now()
	switch {
	case v.Question != nil:
		if err := v.Question.Verify(); err != nil {
			a.t.Error(err)
		}
		a.questions = append(a.questions, *v.Question)
		a.answer(*v.Question, now)
	case v.Proof != nil && a.lose != "completion":
		a.prove(*v.Proof, now)
	case v.Confirmation != nil && a.lose != "confirmation":
		for _, o := range a.offers {
			if o.Confirm(*v.Confirmation) == nil {
				a.confirm(o.Question.ID, v.Confirmation.Word)
			}
		}
	}
}

// answer answers a question.
func (a *adopter) answer(q adoption.Question, now time.Time) {
	hash := q.KeyHash()
	if a.refuse != "" {
		a.send(hash, adoption.ToDomain{Error: a.refuse})
		return
	}
	o := a.offers[hash]
	if o == nil || !bytes.Equal(o.Question.Nonce, q.Nonce) || o.Refused(q) != nil || o.Expired(now) ||
		o.Method == adoption.ByWindow && !a.window && !o.Completed() {
		o = a.offer(q, now)
	}
	if o == nil {
		delete(a.offers, hash)
		return
	}
	a.offers[hash] = o
	answer := o.Answer()
	a.send(hash, adoption.ToDomain{Answer: &answer})
}

// offer makes an offer to a domain by what the hub has; nil: it has nothing.
func (a *adopter) offer(q adoption.Question, now time.Time) *adoption.Offer {
	h := adoption.HubOptions{Dominion: a.dominion(), Name: "home", Root: a.own.Authority.Root, Key: a.own.Key, Chain: a.own.Chain}
	grant := topics.Encode(topics.Grant{Dominion: a.dominion(), Name: "home"})
	var o *adoption.Offer
	var err error
	switch {
	case a.token != nil && bytes.Equal(q.Token, a.token.PublicKey()):
		o, err = h.OfferByToken(q, a.token.PublicKey(), grant, now)
	case a.code != "":
		o, err = h.OfferByCode(q, a.code.Key(q.Key), grant, now)
	case q.Upgrade == a.dominion():
		o, err = h.OfferByUpgrade(q, grant, now)
	case a.certificate && len(q.Certificate) > 0:
		a.restored = false
		o, err = h.OfferByCertificate(q, grant, now)
	case a.window && q.Open:
		o, err = h.OfferByWindow(q, grant, now)
	}
	if err != nil {
		a.t.Error(err)
	}
	return o
}

// prove completes the adoption of a domain that has proved itself.
func (a *adopter) prove(p adoption.Proof, now time.Time) {
	for hash, o := range a.offers {
		if o.Prove(p, now) != nil {
			continue
		}
		id := o.Question.ID
		a.joined[id] = o.Domain()
		word := adoption.WordKey(nil).New("", adoption.Words{})
		if !o.Completed() {
			a.words[id] = a.words[id].Give(word)
		}
		cert, err := a.own.Issue(identity.Subject{Use: identity.DomainUse, Name: id}, o.Domain(), 0, now)
		if err != nil {
			a.t.Error(err)
			return
		}
		c, err := o.Complete(cert, a.keys, word)
		if err != nil {
			a.t.Error(err)
			return
		}
		a.send(hash, adoption.ToDomain{Completion: &c})
	}
}

// confirm takes a word that a domain has stored.
func (a *adopter) confirm(id, word string) {
	words, ok := a.words[id].Confirm(word)
	if !ok {
		a.t.Errorf("word %q is not one of %+v", word, a.words[id])
		return
	}
	a.words[id] = words
	a.confirmed++
}

// join answers the join of a domain as a hub with keys does.
func (a *adopter) join(r topics.HubRequest) (topics.Reply, bool) {
	g := topics.Grant{Dominion: a.dominion(), Name: "home", Epoch: 5}
	switch {
	case r.Confirm != "":
		a.confirm(r.ID, r.Confirm)
		return topics.Reply{}, false
	case r.Renew:
		for _, o := range a.offers {
			cert, err := a.own.Issue(identity.Subject{Use: identity.DomainUse, Name: r.ID}, o.Domain(), 0, time.Now())
			if err != nil {
				a.t.Error(err)
			}
			g.Certificate = identity.EncodeChain(cert)
		}
		return topics.Accept(r.Transaction, g), true
	case a.restored:
		return topics.Reply{Transaction: r.Transaction, Status: topics.StatusError, Error: topics.NotAdoptedPrefix + "pi is not in the list"}, true
	case a.upgrades && r.Word == "" && a.words[r.ID].Confirmed == "":
		g.Upgrade = true
		return topics.Accept(r.Transaction, g), true
	case a.requires:
		return topics.Refuse(r.Transaction, errors.New(topics.AdoptionRequired+": domain code")), true
	case !a.words[r.ID].Valid(r.Word):
		return topics.Reply{Transaction: r.Transaction, Status: topics.StatusError, Error: "it is a copy: domain reset"}, true
	}
	a.confirm(r.ID, r.Word)
	g.Word = adoption.WordKey(nil).New("", adoption.Words{})
	a.words[r.ID] = a.words[r.ID].Give(g.Word)
	a.joins++
	g.Run, g.Ephemeral = a.run, a.exchange(r)
	return topics.Accept(r.Transaction, g), true
}

// verify checks that a domain has signed its request to join.
func (a *adopter) verify(m topics.Message, ask topics.HubRequest) {
	c := signed.Context{Kind: topics.Request.SignedKind(), Dominion: a.dominion(), Domain: ask.ID}
	if _, err := signed.Verify(a.joined[ask.ID], c, m.Payload); err != nil {
		a.t.Errorf("a request to join is not signed: %v: %s", err, m.Payload)
	}
	if a.signs == nil {
		a.signs = make(map[string]bool)
	}
	a.signs[ask.ID] = true
}

// sign returns an answer to a join as a message that the hub has signed.
func (a *adopter) sign(id string, r topics.Reply) []byte {
	if r.Status != topics.StatusOK {
		return topics.Encode(r)
	}
	g, err := topics.Decode[topics.Grant]("", r.Data)
	if err != nil {
		a.t.Error(err)
	}
	published := a.own.Published()
	g.Hub = &published
	c := signed.Context{Kind: topics.ResponseTo.SignedKind(), Dominion: a.dominion(), Domain: id}
	message, err := signed.Sign(a.own.Key, c, topics.Encode(topics.Accept(r.Transaction, g)))
	if err != nil {
		a.t.Error(err)
	}
	return message
}

// exchange answers the ephemeral key of a join, and takes the keys of its MACs over.
func (a *adopter) exchange(r topics.HubRequest) []byte {
	own, err := signed.NewEphemeral()
	if err != nil {
		a.t.Error(err)
		return nil
	}
	other, err := signed.ParseEphemeral(r.Ephemeral)
	if err == nil {
		a.mac, err = signed.Exchange{Dominion: a.dominion(), Domain: r.ID, Session: r.Session, Run: a.run}.Derive(own, other)
	}
	if err != nil {
		a.t.Error(err)
	}
	return own.PublicKey().Bytes()
}

// status returns hub/status as the hub signs it.
func (a *adopter) status(epoch uint64) string {
	h := topics.Hub{ID: a.dominion(), Name: "home", Protocol: topics.Protocol, Epoch: epoch, Run: a.run, Key: a.own.KeyHash()}
	m, err := signed.Sign(a.own.Key, signed.Context{Kind: topics.HubStatus.SignedKind(), Dominion: a.dominion()}, topics.Encode(h))
	if err != nil {
		a.t.Error(err)
	}
	return string(m)
}

// adopting brings up a hub that adopts, with a broker.
func (h *testNetwork) adopting(addr, id string, lifetime time.Duration) *hub {
	u := h.hub(addr, id, 5)
	a := newAdopter(h.t, id, lifetime)
	a.send = func(hash string, m adoption.ToDomain) {
		_, topic := adoption.Topics(u.tree, hash)
		u.Publish(topics.Message{Topic: topic, Payload: topics.Encode(m), QoS: 1})
	}
	u.mu.Lock()
	u.adopts, u.answer = a, a.join
	u.mu.Unlock()
	u.send(u.tree.Hub(topics.HubStatus), a.status(u.epoch), true)
	return u
}

// encrypt makes the hub's broker one that speaks TLS alone.
func (u *hub) encrypt(configure ...func(*tls.Config)) {
	secure := &tls.Config{Certificates: []tls.Certificate{u.adopts.own.TLS()}, ClientAuth: tls.RequestClientCert}
	for _, c := range configure {
		c(secure)
	}
	u.h.mu.Lock()
	defer u.h.mu.Unlock()
	u.secure = secure
}

// state returns what the test reads of the adopter while the hub runs.
func (u *hub) state(f func(a *adopter)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(u.adopts)
}

func withKey(o *Options) { o.Keyless = false }

func open(o *Options) {
	o.Keyless = false
	o.Config.Adoption = config.AdoptionOpen
}

// trust returns what a domain has pinned on its disk.
func (r *running) trust() *identity.Domain {
	d, err := identity.OpenDomain(filepath.Join(r.dir, "data"), false)
	if err != nil {
		r.h.t.Fatal(err)
	}
	return d
}

// storedCode returns the code that a domain has on its disk.
func (r *running) storedCode() adoption.Code {
	code, err := adoption.OpenCode(filepath.Join(r.dir, "data", identity.Directory, adoption.CodeFile))
	if err != nil {
		r.h.t.Fatal(err)
	}
	return code
}
