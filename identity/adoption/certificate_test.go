package adoption

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/topics"
)

// home is the dominion of h as a domain that it has adopted has pinned it, with a key list.
func (h *hub) home(key *ecdsa.PrivateKey, id string, list []byte) *Home {
	h.t.Helper()
	cert := must[*x509.Certificate](h.t)(h.authority.Issue(identity.Request{Subject: identity.Subject{Dominion: h.options.Dominion, Use: identity.DomainUse, Name: id}, Key: &key.PublicKey, At: now}))
	trust := identity.Trust{Dominion: h.options.Dominion, Authority: h.authority.Root.Raw, Keys: list, Word: "of-before"}
	return &Home{Trust: trust, Verifier: must[identity.Verifier](h.t)(trust.Verifier(nil)), Chain: []*x509.Certificate{cert}}
}

func (h *hub) hash() string {
	return must[string](h.t)(identity.HashKey(&h.options.Key.PublicKey))
}

// A domain is adopted again by its certificate: by a hub of the dominion that it belongs to, and
// whose key counts by what the domain has pinned. It does not take back its newer key list.
func TestByCertificate(t *testing.T) {
	h := newHub(t, "home")
	key := must[*ecdsa.PrivateKey](t)(identity.NewKey())
	newer := identity.KeyList{Dominion: "home", Number: 7}.WithHub(identity.HubKey{Key: h.hash()})
	signed := must[[]byte](t)(newer.Sign(h.authority))
	apply := func(home *Home) (*Applicant, Question) {
		a := must[*Applicant](t)(NewApplicant(ApplicantOptions{Key: key, Protocol: topics.Protocol, ID: "id-pi", Name: "pi", Recipient: recipient, Stranger: "home", Home: home}))
		q := wire(t, ask(t, a))
		if err := q.Verify(); err != nil {
			t.Fatal(err)
		}
		return a, q
	}
	a, q := apply(h.home(key, "id-pi", signed))
	changed := q
	changed.Certificate = nil
	if changed.Verify() == nil {
		t.Error("somebody else may take the certificate out of a question")
	}
	o := must[*Offer](t)(h.options.OfferByCertificate(q, []byte(grant), now))
	p, err := a.Answer(wire(t, o.Answer()), "hub", now)
	if err != nil || p == nil {
		t.Fatal(err)
	}
	got := finish(t, h, o, a, p)
	if got.Method != ByCertificate || string(got.Trust.Keys) != string(signed) || got.Trust.Word == "of-before" || got.Trust.Word == "" {
		t.Errorf("stored: method %s, word %s, key list of before %v", got.Method, got.Trust.Word, string(got.Trust.Keys) == string(signed))
	}

	impostor := newHub(t, "home")
	villa := newHub(t, "villa")
	revoked := newer.Revoke(identity.RevokedKey{Key: h.hash()}, now)
	for name, c := range map[string]struct {
		home *Home
		hub  *hub
		want error
	}{
		"another authority":  {h.home(key, "id-pi", signed), impostor, ErrOtherAuthority},
		"another dominion":   {h.home(key, "id-pi", signed), villa, ErrMethod},
		"belongs to nobody":  {nil, h, ErrMethod},
		"the hub is revoked": {h.home(key, "id-pi", must[[]byte](t)(revoked.Sign(h.authority))), h, identity.ErrRevoked},
	} {
		a, q := apply(c.home)
		if q.Certificate == nil {
			q.Certificate = [][]byte{{1}} // a hub can pretend
		}
		offer := must[*Offer](t)(c.hub.options.OfferByCertificate(q, []byte(grant), now))
		if p, err := a.Answer(wire(t, offer.Answer()), "hub", now); p != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := h.options.OfferByCertificate(Question{}, nil, now); !errors.Is(err, ErrMethod) {
		t.Error("offered without a certificate:", err)
	}
}

// The words of a domain whose former words are not known are newer than those.
func TestWordsFromANumber(t *testing.T) {
	k := WordKey("secret")
	old := k.New("id", Words{Confirmed: k.NewFrom("id", Words{}, 40)})
	word := k.NewFrom("id", Words{}, 1000)
	w := Words{}.Give(word)
	if k.Newer("id", old, w) || !k.Newer("id", k.New("id", w), w) || !w.Valid(word) {
		t.Error("a word of before counts as newer, or a later one does not")
	}
}
