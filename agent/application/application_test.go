package application

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

const dominion = "3f2b8c1e-0000-4000-8000-000000000009"

// newApplication returns the application of a domain, and the hub that it asks.
func newApplication(t *testing.T, o Options) (*Application, adoption.HubOptions) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	o.Applicant = adoption.ApplicantOptions{Key: key, Protocol: topics.Protocol, ID: "id", Name: "pi", Recipient: "age1recipient"}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	h, err := identity.OpenHub(t.TempDir(), identity.HubOptions{Dominion: dominion, Name: "home", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return a, adoption.HubOptions{Dominion: dominion, Name: "home", Root: h.Authority.Root, Key: h.Key, Chain: h.Chain}
}

// question returns what the application asks.
func question(t *testing.T, a *Application) adoption.Question {
	t.Helper()
	b, err := a.Question()
	if err != nil {
		t.Fatal(err)
	}
	m, err := adoption.DecodeToHub("q", b)
	if err != nil {
		t.Fatal(err)
	}
	return *m.Question
}

// receive passes an answer of a hub to the application.
func receive(t *testing.T, a *Application, from string, o *adoption.Offer, err error) ([]Message, error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	answer := o.Answer()
	out, _, err := a.Receive("r", from, topics.Encode(adoption.ToDomain{Answer: &answer}), time.Now())
	return out, err
}

// An answer by code waits for the key of the code, and is then taken.
func TestAnswerWaitsForTheCodeKey(t *testing.T) {
	a, h := newApplication(t, Options{})
	q := question(t, a)
	key := adoption.NewCode().Key(q.Key)
	o, err := h.OfferByCode(q, key, nil, time.Now())
	if out, err := receive(t, a, "mqtt://a:1883", o, err); out != nil || err != nil || !a.WaitsForCodeKey() {
		t.Fatalf("before the key: %v, %v", out, err)
	}
	out, err := a.SetCodeKey(key, time.Now())
	if err != nil || len(out) != 1 || out[0].To != "mqtt://a:1883" || a.WaitsForCodeKey() {
		t.Fatalf("with the key: %v, %v", out, err)
	}
	m, err := adoption.DecodeToHub("p", out[0].Payload)
	if err != nil || o.Prove(*m.Proof, time.Now()) != nil {
		t.Errorf("the hub does not take the proof: %v", err)
	}
}

// The domain's own window opens and closes; while it is closed an open dominion gets
// nothing, and when it is the only one it gets the proof where it answered from.
func TestWindow(t *testing.T) {
	a, h := newApplication(t, Options{})
	now := time.Now()
	if _, err := h.OfferByWindow(question(t, a), nil, now); err == nil {
		t.Error("it asks as if it were open")
	}
	a.SetOpen(now.Add(time.Minute))
	o, err := h.OfferByWindow(question(t, a), nil, now)
	if out, err := receive(t, a, "mqtt://b:1883", o, err); out != nil || err != nil {
		t.Fatalf("at once: %v, %v", out, err)
	}
	out, err := a.Expire(a.Next())
	if err != nil || len(out) != 1 || out[0].To != "mqtt://b:1883" {
		t.Errorf("chosen: %v, %v", out, err)
	}
	if _, err := a.Expire(now.Add(time.Minute)); err != nil || a.IsOpen() {
		t.Errorf("the window is open after its time: %v", err)
	}
}

// Only the dominion that the configuration names is heard, by name or id, and an error of
// a hub is for people.
func TestOtherDominionAndRefusal(t *testing.T) {
	for wants, taken := range map[string]bool{"home": true, dominion: true, "villa": false} {
		a, h := newApplication(t, Options{Dominion: wants, Open: true})
		o, err := h.OfferByWindow(question(t, a), nil, time.Now())
		if _, err := receive(t, a, "mqtt://c:1883", o, err); (err == nil) != taken || (a.Problem() == "") != taken {
			t.Errorf("wants %s: %v, problem %q", wants, err, a.Problem())
		}
	}
	a, _ := newApplication(t, Options{})
	_, _, err := a.Receive("r", "mqtt://c:1883", topics.Encode(adoption.ToDomain{Error: "the token has been used"}), time.Now())
	if err == nil || !strings.Contains(err.Error(), "mqtt://c:1883") || a.Refusal() != "the token has been used" {
		t.Errorf("%v, refusal %q", err, a.Refusal())
	}
	a.SetToken(nil)
	if a.Refusal() != "" {
		t.Error("the refusal outlives the token")
	}
}

// A person has typed a wrong code, and waits: the hub is told so at once, and not by the next
// question some seconds later.
func TestWrongCodeIsReportedAtOnce(t *testing.T) {
	a, h := newApplication(t, Options{})
	q := question(t, a)
	if _, err := a.SetCodeKey(adoption.NewCode().Key(q.Key), time.Now()); err != nil {
		t.Fatal(err)
	}
	o, err := h.OfferByCode(q, adoption.NewCode().Key(q.Key), nil, time.Now())
	out, err := receive(t, a, "mqtt://a:1883", o, err)
	if !errors.Is(err, adoption.ErrWrongCode) || len(out) != 1 || out[0].To != "mqtt://a:1883" {
		t.Fatalf("%v, %v", out, err)
	}
	m, err := adoption.DecodeToHub("q", out[0].Payload)
	if err != nil || m.Question == nil || m.Question.Verify() != nil || !errors.Is(o.Refused(*m.Question), adoption.ErrWrongCode) {
		t.Errorf("the hub does not learn it: %+v, %v", m, err)
	}
}
