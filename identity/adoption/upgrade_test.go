package adoption

import (
	"crypto/ecdsa"
	"errors"
	"testing"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/topics"
)

// A domain that joined before it had a key is adopted without a proof, by that dominion alone.
func TestByUpgrade(t *testing.T) {
	home, shed := newHub(t, "home"), newHub(t, "shed")
	key := must[*ecdsa.PrivateKey](t)(identity.NewKey())
	a := must[*Applicant](t)(NewApplicant(ApplicantOptions{Key: key, Protocol: topics.Protocol, ID: "id-pi", Name: "pi", Recipient: recipient, Upgrade: "home"}))
	q := wire(t, ask(t, a))
	if _, err := shed.options.OfferByUpgrade(q, []byte(grant), now); !errors.Is(err, ErrMethod) {
		t.Errorf("another dominion offers it: %v", err)
	}
	lying := q
	lying.Upgrade = "shed"
	if lying.Verify() == nil {
		t.Error("the question can be changed")
	}
	o := must[*Offer](t)(shed.options.OfferByUpgrade(lying, []byte(grant), now))
	if p, err := a.Answer(wire(t, o.Answer()), "hub", now); !errors.Is(err, ErrMethod) || p != nil {
		t.Errorf("it takes the answer of another dominion: %v", err)
	}
	o = must[*Offer](t)(home.options.OfferByUpgrade(q, []byte(grant), now))
	p, err := a.Answer(wire(t, o.Answer()), "hub", now)
	if err != nil || p == nil {
		t.Fatal(err)
	}
	if adopted := finish(t, home, o, a, p); adopted.Method != ByUpgrade || adopted.Trust.Dominion != "home" {
		t.Errorf("%+v", adopted)
	}

	_, other := newDomain(t, "tv") // which does not ask for that
	q = wire(t, ask(t, other))
	q.Upgrade = "home"
	o = must[*Offer](t)(home.options.OfferByUpgrade(q, []byte(grant), now))
	other.SetMeans(Means{Open: true})
	if p, err := other.Answer(wire(t, o.Answer()), "hub", now); !errors.Is(err, ErrMethod) || p != nil {
		t.Errorf("one that is open is taken over: %v", err)
	}
}
