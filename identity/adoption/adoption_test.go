package adoption

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// hub is a hub with what it has on disk.
type hub struct {
	t         testing.TB
	authority *identity.Authority
	options   HubOptions
	keys      []byte
	// disk
	members map[string]member
	tokens  Tokens
}

// member is a domain that a hub has stored.
type member struct {
	words Words
}

func newHub(t testing.TB, dominion string) *hub {
	a := must[*identity.Authority](t)(identity.NewAuthority(dominion, now))
	key := must[*ecdsa.PrivateKey](t)(identity.NewKey())
	cert := must[*x509.Certificate](t)(a.Issue(identity.Request{Subject: identity.Subject{Dominion: dominion, Use: identity.HubUse, Name: dominion}, Key: &key.PublicKey, At: now}))
	hash := must[string](t)(identity.HashKey(&key.PublicKey))
	l := identity.KeyList{Dominion: dominion}.WithHub(identity.HubKey{Key: hash})
	return &hub{
		t: t, authority: a, keys: must[[]byte](t)(l.Sign(a)), members: make(map[string]member),
		options: HubOptions{Dominion: dominion, Name: dominion, Root: a.Root, Key: key, Chain: []*x509.Certificate{cert}},
	}
}

// store is what the hub does between Prove and Complete.
func (h *hub) store(o *Offer) (certificate []*x509.Certificate, word string) {
	h.t.Helper()
	hash := o.Question.KeyHash()
	word = WordKey(nil).New("", Words{})
	h.members[hash] = member{h.members[hash].words.Give(word)}
	if o.Method == ByToken {
		h.tokens = h.tokens.Use(o.Question.Token, o.Question.Name, hash, now)
	}
	cert := must[*x509.Certificate](h.t)(h.authority.Issue(identity.Request{Subject: identity.Subject{Dominion: h.options.Dominion, Use: identity.DomainUse, Name: o.Question.ID}, Key: o.Domain(), At: now}))
	return []*x509.Certificate{cert}, word
}

// confirm is what the hub does with a confirmation, or with a word at a join.
func (h *hub) confirm(keyHash, word string) bool {
	m := h.members[keyHash]
	words, ok := m.words.Confirm(word)
	if ok {
		h.members[keyHash] = member{words}
	}
	return ok
}

func newDomain(t testing.TB, name string) (*ecdsa.PrivateKey, *Applicant) {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(identity.NewKey())
	return key, apply(t, key, name)
}

func apply(t testing.TB, key *ecdsa.PrivateKey, name string) *Applicant {
	t.Helper()
	return must[*Applicant](t)(NewApplicant(ApplicantOptions{Key: key, Protocol: topics.Protocol, ID: "id-" + name, Name: name, Recipient: recipient}))
}

// ask returns the question of a domain.
func ask(t testing.TB, a *Applicant) Question {
	t.Helper()
	return must[Question](t)(a.Question())
}

// wire sends a message as JSON.
func wire[T Question | Answer | Proof | Completion | Confirmation](t testing.TB, v T) T {
	t.Helper()
	var up ToHub
	var down ToDomain
	switch v := any(v).(type) {
	case Question:
		up.Question = &v
	case Proof:
		up.Proof = &v
	case Confirmation:
		up.Confirmation = &v
	case Answer:
		down.Answer = &v
	case Completion:
		down.Completion = &v
	}
	var got any
	if up != (ToHub{}) {
		payload := topics.Encode(up)
		if !IsAdoption(payload) {
			t.Error("not recognized as a message of an adoption")
		}
		up = must[ToHub](t)(DecodeToHub("request/join", payload))
		switch any(v).(type) {
		case Question:
			got = *up.Question
		case Proof:
			got = *up.Proof
		case Confirmation:
			got = *up.Confirmation
		}
	} else {
		down = must[ToDomain](t)(DecodeToDomain("response/join", topics.Encode(down)))
		if down.Answer != nil {
			got = *down.Answer
		} else {
			got = *down.Completion
		}
	}
	if q, is := got.(Question); is {
		if err := q.Verify(); err != nil {
			t.Fatal(err)
		}
	}
	return got.(T)
}

// finish carries an adoption from an offer to its end.
func finish(t testing.TB, h *hub, o *Offer, a *Applicant, p *Proof) Adopted {
	t.Helper()
	if err := o.Prove(wire(t, *p), now); err != nil {
		t.Fatal(err)
	}
	cert, word := h.store(o)
	c := must[Completion](t)(o.Complete(cert, h.keys, word))
	adopted := must[Adopted](t)(a.Complete(wire(t, c), now))
	confirmation := must[Confirmation](t)(a.Confirmation())
	if err := o.Confirm(wire(t, confirmation)); err != nil {
		t.Fatal(err)
	}
	if !h.confirm(o.Question.KeyHash(), confirmation.Word) {
		t.Fatal("the word is not valid")
	}
	// Both sides have the same keys for the session, and the domain trusts the hub.
	own, domain, err := o.Exchange()
	if err != nil {
		t.Fatal(err)
	}
	e := signed.Exchange{Dominion: h.options.Dominion, Domain: o.Question.ID, Session: "s", Run: "r"}
	one, two := must[signed.Keys](t)(e.Derive(own, domain)), must[signed.Keys](t)(e.Derive(adopted.Ephemeral, adopted.HubEphemeral))
	if !bytes.Equal(one.FromHub, two.FromHub) {
		t.Error("the sides have other session keys")
	}
	v := must[identity.Verifier](t)(adopted.Trust.Verifier(nil))
	if _, err := v.Verify(h.options.Chain, now, identity.HubUse); err != nil {
		t.Error(err)
	}
	if _, err := v.Verify(adopted.Chain, now, identity.DomainUse); err != nil {
		t.Error(err)
	}
	if string(adopted.Grant) != grant {
		t.Errorf("grant %s", adopted.Grant)
	}
	return adopted
}

const grant = `{"dominion":"home"}`

func TestByCode(t *testing.T) {
	h := newHub(t, "home")
	_, a := newDomain(t, "pi")
	code := NewCode()
	q := wire(t, ask(t, a))
	a.SetMeans(Means{Code: code.Key(q.Key)})
	typed := must[Code](t)(ParseCode(strings.ToLower(code.String())))
	o := must[*Offer](t)(h.options.OfferByCode(q, typed.Key(q.Key), []byte(grant), now))
	p, err := a.Answer(wire(t, o.Answer()), "hub", now)
	if err != nil || p == nil {
		t.Fatal(err)
	}
	finish(t, h, o, a, p)
}

func TestByToken(t *testing.T) {
	h := newHub(t, "home")
	_, a := newDomain(t, "pi")
	token := must[Token](t)(NewToken(h.authority.RootHash(), ForDomain, "192.168.1.2"))
	h.tokens, _, _ = h.tokens.Add(token, "", 1, time.Hour, now)
	given := must[Token](t)(ParseToken(token.String()))
	a.SetMeans(Means{Token: &given})
	q := wire(t, ask(t, a))
	if _, err := h.tokens.Check(q.Token, ForDomain, q.Name, q.KeyHash(), false, now); err != nil {
		t.Fatal(err)
	}
	o := must[*Offer](t)(h.options.OfferByToken(q, q.Token, []byte(grant), now))
	p, err := a.Answer(wire(t, o.Answer()), "hub", now)
	if err != nil || p == nil {
		t.Fatal(err)
	}
	finish(t, h, o, a, p)
	// A second machine with the token.
	if _, err := h.tokens.Check(q.Token, ForDomain, "thief", strings.Repeat("a", 64), false, now); !errors.Is(err, ErrTokenUsed) || !strings.Contains(err.Error(), "pi") {
		t.Errorf("used twice: %v", err)
	}
}

func TestByWindow(t *testing.T) {
	h := newHub(t, "home")
	_, a := newDomain(t, "pi")
	a.SetMeans(Means{Open: true})
	q := wire(t, ask(t, a))
	o := must[*Offer](t)(h.options.OfferByWindow(q, []byte(grant), now))
	if p, err := a.Answer(wire(t, o.Answer()), "hub", now); err != nil || p != nil {
		t.Fatalf("%v, %v before others could answer", p, err)
	}
	if p, err := a.Choose(now.Add(openSettle - 1)); p != nil || err != nil {
		t.Errorf("%v, %v", p, err)
	}
	if next := a.Next(); !next.Equal(now.Add(openSettle)) {
		t.Errorf("next at %v", next)
	}
	p, err := a.Choose(now.Add(openSettle))
	if err != nil || p == nil {
		t.Fatal(err)
	}
	finish(t, h, o, a, p)
}

func TestTwoOpenDominions(t *testing.T) {
	home, other := newHub(t, "home"), newHub(t, "neighbour")
	_, a := newDomain(t, "pi")
	a.SetMeans(Means{Open: true})
	q := ask(t, a)
	answer := func(h *hub, at time.Time) {
		t.Helper()
		o := must[*Offer](t)(h.options.OfferByWindow(q, nil, at))
		if p, err := a.Answer(o.Answer(), h.options.Name, at); p != nil || err != nil {
			t.Fatal(p, err)
		}
	}
	answer(home, now)
	answer(other, now.Add(time.Second))
	answer(home, now.Add(2*time.Second))
	p, err := a.Choose(now.Add(openSettle))
	if p != nil || !errors.Is(err, ErrTwoOpen) || !strings.Contains(err.Error(), "home") || !strings.Contains(err.Error(), "neighbour") {
		t.Errorf("%v, %v", p, err)
	}
	// The one that answers goes on counting; the one that is silent does not.
	answer(home, now.Add(openExpiry))
	if err := a.Expire(now.Add(openExpiry + time.Second - 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Choose(now.Add(openExpiry + time.Second - 1)); !errors.Is(err, ErrTwoOpen) {
		t.Errorf("%v", err)
	}
	if next := a.Next(); !next.Equal(now.Add(openExpiry + time.Second)) {
		t.Errorf("next at %v", next.Sub(now))
	}
	if err := a.Expire(now.Add(openExpiry + time.Second)); err != nil {
		t.Fatal(err)
	}
	if p, err := a.Choose(now.Add(openExpiry + time.Second)); p == nil || err != nil {
		t.Errorf("%v, %v", p, err)
	}
}

// What a domain must not answer: nothing is sent to a hub that has not proved itself.
func TestDomainRefuses(t *testing.T) {
	h, neighbour := newHub(t, "home"), newHub(t, "neighbour")
	key, a := newDomain(t, "pi")
	code := NewCode()
	q := ask(t, a)
	k := code.Key(q.Key)
	token := must[Token](t)(NewToken(h.authority.RootHash(), ForDomain))
	hubToken := must[Token](t)(NewToken(h.authority.RootHash(), ForHub))
	q.Token, q.Open = token.PublicKey(), true
	byCode := must[*Offer](t)(h.options.OfferByCode(q, k, nil, now)).Answer()
	wrong := must[*Offer](t)(h.options.OfferByCode(q, NewCode().Key(q.Key), nil, now)).Answer()
	byToken := must[*Offer](t)(h.options.OfferByToken(q, token.PublicKey(), nil, now)).Answer()
	foreign := must[*Offer](t)(neighbour.options.OfferByToken(q, token.PublicKey(), nil, now)).Answer()
	byWindow := must[*Offer](t)(h.options.OfferByWindow(q, nil, now)).Answer()
	change := func(a Answer, f func(*Answer)) Answer { f(&a); return a }

	for name, tt := range map[string]struct {
		means Means
		m     Answer
		want  error
	}{
		"a wrong code":             {Means{Code: k}, wrong, ErrWrongCode},
		"no code yet":              {Means{}, byCode, ErrMethod},
		"no proof":                 {Means{Code: k}, change(byCode, func(a *Answer) { a.Proof = nil }), ErrWrongCode},
		"the proof of a domain":    {Means{Code: k}, change(byCode, func(a *Answer) { a.Proof = k.prove(domainLabel, transcript(q, byCode)) }), ErrWrongCode},
		"another grant":            {Means{Code: k}, change(byCode, func(a *Answer) { a.Grant = []byte("{}") }), ErrWrongCode},
		"another authority":        {Means{Code: k}, change(byCode, func(a *Answer) { a.Authority = neighbour.options.Root.Raw }), ErrWrongCode},
		"another ephemeral key":    {Means{Code: k}, change(byCode, func(a *Answer) { a.Ephemeral = foreign.Ephemeral }), ErrWrongCode},
		"another signature":        {Means{Code: k}, change(byCode, func(a *Answer) { a.Signature = byToken.Signature }), ErrProof},
		"another question's":       {Means{Code: k}, change(byCode, func(a *Answer) { a.Question = make([]byte, nonceSize) }), ErrNotAsked},
		"no token":                 {Means{Code: k}, byToken, ErrMethod},
		"a token for hubs":         {Means{Token: &hubToken}, byToken, ErrMethod},
		"a hub of another one":     {Means{Token: &token}, foreign, ErrOtherAuthority},
		"with the right authority": {Means{Token: &token}, change(foreign, func(a *Answer) { a.Authority = h.options.Root.Raw }), identity.ErrChain},
		"a forged token answer":    {Means{Token: &token}, change(byToken, func(a *Answer) { a.Grant = []byte("{}") }), ErrProof},
		"a window":                 {Means{Code: k, Token: &token}, byWindow, ErrMethod},
		"a code that is a window":  {Means{Code: k}, change(byCode, func(a *Answer) { a.Method = ByWindow }), ErrMethod},
		"no method":                {Means{Code: k, Open: true}, change(byCode, func(a *Answer) { a.Method = "" }), ErrMethod},
	} {
		fresh := apply(t, key, "pi")
		fresh.question, fresh.ephemeral = a.question, a.ephemeral
		fresh.SetMeans(tt.means)
		p, err := fresh.Answer(tt.m, "hub", now)
		if p != nil || !errors.Is(err, tt.want) || fresh.Proved() {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}

	// One that belongs to a dominion is moved by code or token alone.
	stranger := must[*Applicant](t)(NewApplicant(ApplicantOptions{Key: key, Protocol: topics.Protocol, ID: "id-pi", Name: "pi", Recipient: recipient, Stranger: "home"}))
	stranger.SetMeans(Means{Open: true})
	if ask(t, stranger).Open {
		t.Error("an adopted domain asks open dominions")
	}
	forged := ask(t, stranger)
	forged.Open = true
	if _, err := stranger.Answer(must[*Offer](t)(h.options.OfferByWindow(forged, nil, now)).Answer(), "hub", now); !errors.Is(err, ErrMethod) {
		t.Errorf("an adopted domain joined an open dominion: %v", err)
	}
}

// Wrong codes are slowed for each asker, and the right one still counts for another.
func TestWrongCodes(t *testing.T) {
	h := newHub(t, "home")
	_, a := newDomain(t, "pi")
	code := NewCode()
	q := ask(t, a)
	a.SetMeans(Means{Code: code.Key(q.Key)})
	guess := must[*Offer](t)(h.options.OfferByCode(q, NewCode().Key(q.Key), nil, now))
	right := must[*Offer](t)(h.options.OfferByCode(q, code.Key(q.Key), nil, now))
	if _, err := a.Answer(guess.Answer(), "attacker", now); !errors.Is(err, ErrWrongCode) {
		t.Fatal(err)
	}
	if err := guess.Refused(ask(t, a)); !errors.Is(err, ErrWrongCode) {
		t.Errorf("the hub does not learn that the code was wrong: %v", err)
	}
	if err := right.Refused(ask(t, a)); err != nil {
		t.Error(err)
	}
	// Even the right one is not looked at before the time is over.
	if _, err := a.Answer(right.Answer(), "attacker", now.Add(firstWait-1)); !errors.Is(err, ErrTooSoon) {
		t.Errorf("%v", err)
	}
	if p, err := a.Answer(right.Answer(), "hub", now.Add(firstWait-1)); err != nil || p == nil {
		t.Errorf("another asker: %v", err)
	}
}

// What a hub must not take.
func TestHubRefuses(t *testing.T) {
	h := newHub(t, "home")
	key, a := newDomain(t, "pi")
	code := NewCode()
	k := code.Key(ask(t, a).Key)
	token := must[Token](t)(NewToken(h.authority.RootHash(), ForDomain))
	hubToken := must[Token](t)(NewToken(h.authority.RootHash(), ForHub))
	a.SetMeans(Means{Code: k, Token: &token})
	q := ask(t, a)
	o := must[*Offer](t)(h.options.OfferByCode(q, k, nil, now))
	good := must[*Proof](t)(a.Answer(o.Answer(), "hub", now))
	thief := must[*ecdsa.PrivateKey](t)(identity.NewKey())
	by := func(key *ecdsa.PrivateKey, label string) []byte {
		return must[[]byte](t)(signed.SignBytes(key, labelled(label, o.transcript)))
	}
	change := func(f func(*Proof)) Proof { p := *good; f(&p); return p }
	for name, p := range map[string]Proof{
		"nothing":                change(func(p *Proof) { *p = Proof{} }),
		"no proof":               change(func(p *Proof) { p.Proof = nil }),
		"the reflected proof":    change(func(p *Proof) { p.Proof = o.Answer().Proof }),
		"the reflected one, all": {Transcript: o.transcript, Proof: o.Answer().Proof, Signature: o.Answer().Signature},
		"no signature":           change(func(p *Proof) { p.Signature = nil }),
		"another key":            change(func(p *Proof) { p.Signature = by(thief, domainLabel) }),
		"another label":          change(func(p *Proof) { p.Signature = by(key, hubLabel) }),
		"another transcript":     change(func(p *Proof) { p.Transcript = make([]byte, 32) }),
		"a token for a code":     change(func(p *Proof) { p.Proof, p.Token = nil, token.sign(o.transcript) }),
	} {
		if err := o.Prove(p, now); err == nil {
			t.Errorf("%s was accepted", name)
		}
		if _, err := o.Complete(nil, nil, "w"); err == nil {
			t.Fatalf("%s: completed", name)
		}
	}
	if err := o.Prove(*good, now.Add(replyTimeout)); err == nil {
		t.Error("a late proof was accepted")
	}
	if err := o.Prove(*good, now); err != nil {
		t.Error(err)
	}
	// The proof of another adoption.
	second := must[*Offer](t)(h.options.OfferByCode(q, k, nil, now))
	if err := second.Prove(*good, now); !errors.Is(err, ErrNotAsked) {
		t.Errorf("a replayed proof: %v", err)
	}
	// Tokens.
	byToken := must[*Offer](t)(h.options.OfferByToken(q, token.PublicKey(), nil, now))
	for name, t2 := range map[string][]byte{"none": nil, "one for hubs": hubToken.sign(byToken.transcript), "another transcript": token.sign(o.transcript)} {
		p := Proof{Transcript: byToken.transcript, Token: t2, Signature: must[[]byte](t)(signed.SignBytes(key, labelled(domainLabel, byToken.transcript)))}
		if err := byToken.Prove(p, now); err == nil {
			t.Errorf("a token that is %s", name)
		}
	}
	if _, err := h.options.OfferByToken(q, hubToken.PublicKey(), nil, now); !errors.Is(err, ErrMethod) {
		t.Errorf("%v", err)
	}
	q.Open = false
	if _, err := h.options.OfferByWindow(q, nil, now); !errors.Is(err, ErrMethod) {
		t.Errorf("a domain that is not open: %v", err)
	}
	if _, err := h.options.OfferByCode(q, nil, nil, now); err == nil {
		t.Error("no code")
	}
	if bytes.Equal(token.PublicKey(), hubToken.PublicKey()) {
		t.Error("one key")
	}
	asHub := token
	asHub.Use = ForHub
	if bytes.Equal(asHub.PublicKey(), token.PublicKey()) {
		t.Error("a domain's token is one for a hub")
	}
}

// A man in the middle changes any byte of the question or the answer: neither side goes on.
func TestManInTheMiddle(t *testing.T) {
	h := newHub(t, "home")
	_, a := newDomain(t, "pi")
	code := NewCode()
	k := code.Key(ask(t, a).Key)
	a.SetMeans(Means{Code: k})
	other := newHub(t, "home") // of the same id
	_, b := newDomain(t, "pi")
	for name, change := range map[string]func(*Question){
		"protocol":  func(q *Question) { q.Protocol += "1" },
		"id":        func(q *Question) { q.ID = "id-other" },
		"name":      func(q *Question) { q.Name = "other" },
		"recipient": func(q *Question) { q.Recipient = "age1" + strings.Repeat("q", 58) },
		"ephemeral": func(q *Question) { q.Ephemeral = ask(t, b).Ephemeral },
		"key":       func(q *Question) { q.Key = ask(t, b).Key },
	} {
		q := ask(t, a)
		change(&q)
		o := must[*Offer](t)(h.options.OfferByCode(q, code.Key(q.Key), nil, now))
		if p, err := a.Answer(o.Answer(), name, now); p != nil || !errors.Is(err, ErrWrongCode) {
			t.Errorf("%s was changed: %v", name, err)
		}
	}
	// He puts his own keys into the answer.
	o := must[*Offer](t)(h.options.OfferByCode(ask(t, a), k, nil, now))
	m := o.Answer()
	m.Authority, m.Certificate = other.options.Root.Raw, identity.EncodeChain(other.options.Chain)
	m.Signature = must[[]byte](t)(signed.SignBytes(other.options.Key, labelled(hubLabel, transcript(ask(t, a), m))))
	if p, err := a.Answer(m, "middle", now); p != nil || !errors.Is(err, ErrWrongCode) {
		t.Errorf("his own keys: %v", err)
	}
	p := must[*Proof](t)(a.Answer(o.Answer(), "hub", now))
	if err := o.Prove(*p, now); err != nil {
		t.Fatal(err)
	}
	// He changes the completion.
	cert, word := h.store(o)
	c := must[Completion](t)(o.Complete(cert, h.keys, word))
	_, otherWord := other.store(o)
	for name, bad := range map[string]Completion{
		"word": {c.Transcript, c.Certificate, c.Keys, otherWord, c.Signature},
		"keys": {c.Transcript, c.Certificate, other.keys, c.Word, c.Signature},
		"cert": {c.Transcript, identity.EncodeChain(other.options.Chain), c.Keys, c.Word, c.Signature},
		"none": {},
	} {
		if _, err := a.Complete(bad, now); err == nil {
			t.Errorf("%s of the completion was changed", name)
		}
	}
	if _, err := a.Confirmation(); !errors.Is(err, ErrNotAsked) {
		t.Errorf("confirmed before it was completed: %v", err)
	}
	if _, err := a.Complete(c, now); err != nil {
		t.Fatal(err)
	}
	confirmation := must[Confirmation](t)(a.Confirmation())
	bad := confirmation
	bad.Word = otherWord
	if err := o.Confirm(bad); err == nil {
		t.Error("another word was confirmed")
	}
	bad = confirmation
	bad.Signature = c.Signature
	if err := o.Confirm(bad); err == nil {
		t.Error("confirmed by the hub's own signature")
	}
}

// The hub's completion must be whole: a certificate of this key, a list that has the hub.
func TestCompletionIsChecked(t *testing.T) {
	h := newHub(t, "home")
	empty := must[[]byte](t)(identity.KeyList{Dominion: "home", Number: 1}.Sign(h.authority))
	for name, f := range map[string]func(o *Offer) (Completion, error){
		"the hub is not in the list": func(o *Offer) (Completion, error) { c, w := h.store(o); return o.Complete(c, empty, w) },
		"the hub's certificate":      func(o *Offer) (Completion, error) { return o.Complete(h.options.Chain, h.keys, "w") },
		"another id": func(o *Offer) (Completion, error) {
			o.Question.ID = "id-other"
			c, w := h.store(o)
			return o.Complete(c, h.keys, w)
		},
		"another key": func(o *Offer) (Completion, error) {
			o.domain = &must[*ecdsa.PrivateKey](t)(identity.NewKey()).PublicKey
			c, w := h.store(o)
			return o.Complete(c, h.keys, w)
		},
		"no certificate": func(o *Offer) (Completion, error) { return o.Complete(nil, h.keys, "w") },
		"no word":        func(o *Offer) (Completion, error) { c, _ := h.store(o); return o.Complete(c, h.keys, "") },
		"no keys":        func(o *Offer) (Completion, error) { c, w := h.store(o); return o.Complete(c, nil, w) },
	} {
		_, a := newDomain(t, "pi")
		token := must[Token](t)(NewToken(h.authority.RootHash(), ForDomain))
		a.SetMeans(Means{Token: &token})
		o := must[*Offer](t)(h.options.OfferByToken(ask(t, a), token.PublicKey(), nil, now))
		p := must[*Proof](t)(a.Answer(o.Answer(), "hub", now))
		if err := o.Prove(*p, now); err != nil {
			t.Fatal(err)
		}
		c := must[Completion](t)(f(o))
		if _, err := a.Complete(c, now); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Each message may be lost and is sent again; each step may be the last before a power cut of either
// side. Afterwards both know each other, or the domain is waiting and can be adopted.
func TestPowerCuts(t *testing.T) {
	const steps = 7
	for cut := range steps {
		for _, whose := range []string{"domain", "hub", "both"} {
			h := newHub(t, "home")
			key, a := newDomain(t, "pi")
			token := must[Token](t)(NewToken(h.authority.RootHash(), ForDomain))
			h.tokens, _, _ = h.tokens.Add(token, "", 1, time.Hour, now)
			a.SetMeans(Means{Token: &token})
			hash := ask(t, a).KeyHash()
			var pinned *Adopted // on the domain's disk
			adopt := func(upTo int) {
				q := ask(t, a)
				if upTo == 0 { // the question is lost
					return
				}
				pending := len(h.members[hash].words.Pending) > 0 && !h.members[hash].words.Established()
				if _, err := h.tokens.Check(q.Token, ForDomain, q.Name, hash, pending, now); err != nil {
					t.Fatalf("cut of %s after step %d: %v", whose, cut, err)
				}
				o := must[*Offer](t)(h.options.OfferByToken(q, q.Token, nil, now))
				if upTo == 1 { // the answer is lost
					return
				}
				p := must[*Proof](t)(a.Answer(o.Answer(), "hub", now))
				if upTo == 2 { // the proof is lost
					return
				}
				if err := o.Prove(*p, now); err != nil {
					t.Fatal(err)
				}
				if upTo == 3 { // the hub has stored nothing
					return
				}
				cert, word := h.store(o)
				c := must[Completion](t)(o.Complete(cert, h.keys, word))
				if upTo == 4 { // the hub has stored the domain, the completion is lost
					return
				}
				adopted := must[Adopted](t)(a.Complete(c, now))
				if upTo == 5 { // the domain has stored nothing
					return
				}
				pinned = &adopted
				confirmation := must[Confirmation](t)(a.Confirmation())
				if upTo == 6 { // the confirmation is lost
					return
				}
				if err := o.Confirm(confirmation); err != nil || !h.confirm(hash, confirmation.Word) {
					t.Fatal(err)
				}
			}
			adopt(cut)
			// Whoever lost power has what is on its disk; the other side goes on after its timeout.
			if whose != "hub" {
				a = apply(t, key, "pi")
				a.SetMeans(Means{Token: &token})
			} else if err := a.Expire(now.Add(replyTimeout)); err != nil {
				t.Fatal(err)
			}
			if pinned == nil {
				if h.members[hash].words.Established() {
					t.Errorf("cut of %s after step %d: the hub has a member that waits", whose, cut)
				}
				a = apply(t, key, "pi")
				a.SetMeans(Means{Token: &token})
				adopt(steps)
			} else if !h.confirm(hash, pinned.Trust.Word) { // it joins with its word
				t.Errorf("cut of %s after step %d: the hub does not know a domain that was adopted", whose, cut)
			}
			if !h.members[hash].words.Established() || pinned == nil {
				t.Errorf("cut of %s after step %d: not adopted in the end", whose, cut)
			}
			if h.tokens.Records[0].UsesLeft != 0 || len(h.tokens.Records[0].UsedBy) != 1 {
				t.Errorf("cut of %s after step %d: %+v", whose, cut, h.tokens.Records[0])
			}
		}
	}
}

// Messages that are lost on the way are sent again, and give the same.
func TestLostMessages(t *testing.T) {
	h := newHub(t, "home")
	_, a := newDomain(t, "pi")
	token := must[Token](t)(NewToken(h.authority.RootHash(), ForDomain))
	a.SetMeans(Means{Token: &token})
	o := must[*Offer](t)(h.options.OfferByToken(ask(t, a), token.PublicKey(), nil, now))
	p1 := must[*Proof](t)(a.Answer(o.Answer(), "hub", now))
	p2 := must[*Proof](t)(a.Answer(o.Answer(), "hub", now))
	other := must[*Offer](t)(h.options.OfferByToken(ask(t, a), token.PublicKey(), nil, now))
	if _, err := a.Answer(other.Answer(), "hub", now); err == nil {
		t.Error("a second hub was chosen")
	}
	for _, p := range []*Proof{p1, p2} {
		if err := o.Prove(*p, now); err != nil {
			t.Fatal(err)
		}
	}
	cert, word := h.store(o)
	c := must[Completion](t)(o.Complete(cert, h.keys, word))
	again := must[Completion](t)(o.Complete(cert, h.keys, WordKey(nil).New("", Words{})))
	if again.Word != c.Word || !o.Completed() {
		t.Error("another completion for the same proof")
	}
	if err := o.Prove(*p2, now.Add(time.Hour)); err != nil {
		t.Errorf("a proof that comes again after the completion: %v", err)
	}
	for range 2 {
		if _, err := a.Complete(c, now); err != nil {
			t.Fatal(err)
		}
		if err := o.Confirm(must[Confirmation](t)(a.Confirmation())); err != nil {
			t.Error(err)
		}
	}
	// A hub that proved itself and did not go on is given up: the question is a new one.
	_, b := newDomain(t, "pi")
	b.SetMeans(Means{Token: &token})
	first := ask(t, b)
	o = must[*Offer](t)(h.options.OfferByToken(first, token.PublicKey(), nil, now))
	must[*Proof](t)(b.Answer(o.Answer(), "hub", now))
	if err := b.Expire(b.Next()); err != nil || b.Proved() || bytes.Equal(ask(t, b).Nonce, first.Nonce) || !bytes.Equal(ask(t, b).Token, first.Token) {
		t.Errorf("%v, %+v", err, ask(t, b))
	}
}

func FuzzDecode(f *testing.F) {
	h := newHub(f, "home")
	key := must[*ecdsa.PrivateKey](f)(identity.NewKey())
	a := apply(f, key, "pi")
	token := must[Token](f)(NewToken(h.authority.RootHash(), ForDomain))
	a.SetMeans(Means{Token: &token, Open: true})
	q := ask(f, a)
	o := must[*Offer](f)(h.options.OfferByWindow(q, []byte(grant), now))
	answer, completion := o.Answer(), Completion{Word: "w"}
	for _, v := range []any{ToHub{Question: &q}, ToHub{Proof: &Proof{Transcript: o.transcript}}, ToHub{Confirmation: &Confirmation{}}, ToDomain{Answer: &answer}, ToDomain{Completion: &completion}, ToDomain{Error: "x"}} {
		f.Add(topics.Encode(v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if up, err := DecodeToHub("request/join", b); err == nil {
			if !IsAdoption(b) {
				t.Fatal("not recognized")
			}
			if q := up.Question; q != nil {
				if _, err := h.options.OfferByWindow(*q, nil, now); err != nil && q.Open {
					t.Fatalf("a question that was checked cannot be answered: %v", err)
				}
				if len(q.KeyHash()) != 64 {
					t.Fatal("no topic to answer at")
				}
			}
			if up.Proof != nil && o.Prove(*up.Proof, now) == nil {
				t.Fatal("proved")
			}
			if up.Confirmation != nil && o.Confirm(*up.Confirmation) == nil {
				t.Fatal("confirmed")
			}
		}
		if down, err := DecodeToDomain("response/join", b); err == nil {
			if down.Answer != nil {
				if p, err := a.Answer(*down.Answer, "fuzz", now); err == nil && p != nil {
					t.Fatal("a proof for an answer that proves nothing")
				}
			}
			if down.Completion != nil {
				if _, err := a.Complete(*down.Completion, now); err == nil {
					t.Fatal("completed")
				}
			}
		}
	})
}

func TestDecode(t *testing.T) {
	_, a := newDomain(t, "pi")
	q := ask(t, a)
	good := topics.Encode(ToHub{Transaction: "1", Question: &q})
	if n := len(good); n > 2048 {
		t.Errorf("a question has %d bytes", n)
	}
	if got := must[ToHub](t)(DecodeToHub("request/join", good)); got.Question.KeyHash() != q.KeyHash() || len(got.Question.Label()) != 19 || got.Question.Verify() != nil {
		t.Errorf("%+v", got)
	}
	var all struct {
		Question map[string]any `json:"question"`
	}
	if err := json.Unmarshal(good, &all); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]any{
		"protocol": "9.0", "id": "a b", "name": "A", "key": "AAAA", "recipient": "x", "ephemeral": "AAAA", "nonce": "AAAA",
		"session": "a b", "model": strings.Repeat("x", MaxMessage), "address": "$(x)", "stranger": "A B",
	} {
		bad := maps.Clone(all.Question)
		bad[name] = change
		b, err := json.Marshal(map[string]any{"question": bad})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeToHub("request/join", b); err == nil || !strings.Contains(err.Error(), "request/join") {
			t.Errorf("%s: %v", name, err)
		}
	}
	twice := append(good[:len(good)-2:len(good)-2], `,"Name":"other"}}`...)
	if _, err := DecodeToHub("request/join", twice); err == nil {
		t.Error("a name that is in it twice")
	}
	for _, bad := range []string{`{}`, `{"transaction":"1"}`, `{"proof":{},"confirmation":{}}`, `[]`, `x`} {
		if _, err := DecodeToHub("request/join", []byte(bad)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
	for _, bad := range []string{`{}`, `{"answer":{},"error":"x"}`, `{"answer":{"certificate":"x"}}`} {
		if _, err := DecodeToDomain("response/join", []byte(bad)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
	if IsAdoption([]byte(`{"id":"x","name":"pi","session":"y"}`)) {
		t.Error("the join of a domain that is adopted")
	}
}

// Nobody but the domain can change its question.
func TestQuestionIsSigned(t *testing.T) {
	_, a := newDomain(t, "pi")
	a.SetProblems("no hub", "other VLAN")
	base := ask(t, a)
	if err := base.Verify(); err != nil {
		t.Fatal(err)
	}
	_, b := newDomain(t, "pi")
	other := ask(t, b)
	for name, change := range map[string]func(*Question){
		"protocol": func(q *Question) { q.Protocol += "1" }, "id": func(q *Question) { q.ID = "x" }, "name": func(q *Question) { q.Name = "x" },
		"key": func(q *Question) { q.Key = other.Key }, "recipient": func(q *Question) { q.Recipient += "x" }, "ephemeral": func(q *Question) { q.Ephemeral = other.Ephemeral },
		"nonce": func(q *Question) { q.Nonce = other.Nonce }, "session": func(q *Question) { q.Session = "x" }, "token": func(q *Question) { q.Token = []byte("x") },
		"open": func(q *Question) { q.Open = true }, "stranger": func(q *Question) { q.Stranger = "x" }, "refused": func(q *Question) { q.Refused = []byte("x") },
		"address": func(q *Question) { q.Address = "x" }, "model": func(q *Question) { q.Model = "x" }, "problems": func(q *Question) { q.Problems = q.Problems[:1] },
		"signature": func(q *Question) { q.Signature = other.Signature },
	} {
		q := base
		change(&q)
		if err := q.Verify(); err == nil {
			t.Errorf("%s was changed", name)
		}
	}
}
