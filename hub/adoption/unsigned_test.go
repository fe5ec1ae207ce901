package adoption

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// oldHome is a hub that has had the domains pi and tv before it had keys.
func oldHome(t *testing.T, o Options) *home {
	o.Joined = func() map[string]string { return map[string]string{"id-pi": "pi", "id-tv": "tv"} }
	return newHome(t, o)
}

// upgraded returns a domain that has a key now, and asks.
func (h *home) upgraded(name string) *machine {
	h.t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		h.t.Fatal(err)
	}
	return h.upgradedWith(name, key)
}

// upgradedWith is upgraded with a key. It asks.
func (h *home) upgradedWith(name string, key *ecdsa.PrivateKey) *machine {
	h.t.Helper()
	m := h.newMachine(protocol.ApplicantOptions{Key: key, ID: "id-" + name, Name: name, Upgrade: "home"}, protocol.Means{})
	m.askAs(name)
	return m
}

// askAs publishes its question as a user of the broker.
func (m *machine) askAs(user string) {
	m.home.t.Helper()
	q, err := m.a.Question()
	if err != nil {
		m.home.t.Fatal(err)
	}
	m.home.ReceiveOf(protocol.ToHub{Transaction: "t", Question: &q}, user, m.home.now)
	m.home.settle()
}

func (h *home) join(name string) topics.HubRequest {
	return topics.HubRequest{ID: "id-" + name, Name: name, Session: "s"}
}

// A domain of before there were keys joins and reports without one; its key is taken once, by
// its own question, with one event. Then nothing is taken from it that has no key.
func TestUnsigned(t *testing.T) {
	h := oldHome(t, Options{})
	for id, want := range map[string]bool{"id-pi": true, "id-tv": true, "id-x": false} {
		if h.Unsigned(id) != want || h.Admits(id) != want || h.Upgrades(id) != want {
			t.Errorf("%s: %v %v %v", id, h.Unsigned(id), h.Admits(id), h.Upgrades(id))
		}
	}
	if err := h.MayJoin(h.join("pi"), "", true, h.now); err != nil {
		t.Fatal(err)
	}
	contains(t, h.MayJoin(h.join("x"), "x", false, h.now), topics.AdoptionRequired)
	contains(t, errors.New(h.UnsignedProblem("id-pi", "pi")), "within 30 days")
	pi := h.upgraded("pi")
	if len(h.Waiting()) > 0 {
		t.Errorf("it is said to wait: %+v", h.Waiting())
	}
	if pi.adopted == nil || pi.adopted.Method != protocol.ByUpgrade || pi.adopted.Trust.Dominion != "home" {
		t.Fatalf("%+v: %s", pi.adopted, pi.refusal)
	}
	if len(h.events) != 1 {
		t.Errorf("events: %v", h.events)
	}
	h.reported(topics.DomainAdopted, "by upgrade")
	if h.Unsigned("id-pi") || h.Upgrades("id-pi") || h.UnsignedProblem("id-pi", "pi") != "" || !h.Admits("id-pi") || !h.Unsigned("id-tv") {
		t.Error("pi is not signed, or tv is")
	}
	contains(t, h.MayJoin(h.join("pi"), "pi", false, h.now), "older word")
	other := h.upgraded("pi")
	if other.adopted != nil || h.Members()["id-pi"].KeyHash != pi.hash {
		t.Error("another key was taken")
	}
	contains(t, errors.New(other.refusal), "has a key already")
}

// A hub that has had keys records nobody again.
func TestUnsignedIsRecordedOnce(t *testing.T) {
	h := oldHome(t, Options{})
	b, err := json.Marshal(h.State())
	if err != nil {
		t.Fatal(err)
	}
	var state protocol.HubState
	if err := json.Unmarshal(b, &state); err != nil {
		t.Fatal(err)
	}
	state.Unsigned.Names = nil // all have a key
	if b, err = json.Marshal(state); err != nil {
		t.Fatal(err)
	}
	state = protocol.HubState{}
	if err := json.Unmarshal(b, &state); err != nil {
		t.Fatal(err)
	}
	if again := oldHome(t, Options{State: state}); again.Admits("id-pi") {
		t.Errorf("%s: pi may join without a key again", b)
	}
	fresh := newHome(t, Options{})
	if fresh.Admits("id-pi") || !newHome(t, Options{Open: true}).Admits("id-pi") {
		t.Error("a machine without a key may join a hub that asks, or not one that is open")
	}
}

// Only the machine that is the domain is taken over: the hub says who that is.
func TestUpgradeIsOfTheDomain(t *testing.T) {
	var why error
	var users []string
	h := oldHome(t, Options{Upgrade: func(q protocol.Question, user string, _ time.Time) error {
		users = append(users, q.Name+" "+user)
		return why
	}})
	why = ErrNotYet
	pi := h.upgraded("pi")
	if pi.adopted != nil || pi.refusal != "" || len(h.events) > 0 || len(h.Waiting()) > 0 {
		t.Fatalf("%+v %s %v %v", pi.adopted, pi.refusal, h.events, h.Waiting())
	}
	why = errors.New("another machine beats by its id")
	pi.askAs("pi")
	contains(t, errors.New(pi.refusal), why.Error())
	h.reported(topics.AdoptionRefused, why.Error())
	pi.ask() // a connection without user and certificate
	contains(t, errors.New(pi.refusal), "does not say which domain")
	why, pi.refusal = nil, ""
	pi.askAs("pi")
	if pi.adopted == nil || len(h.Waiting()) > 0 {
		t.Errorf("it was not adopted: %s %v", pi.refusal, h.Waiting())
	}
	if got := fmt.Sprint(users); got != "[pi pi pi pi pi pi pi pi]" {
		t.Errorf("asked for %v", got)
	}
}

// After a power cut the domain may not have stored what the hub has: it joins as before, and is
// taken over by the same key.
func TestUpgradeIsInterrupted(t *testing.T) {
	h := oldHome(t, Options{})
	h.lose = true
	pi := h.upgraded("pi")
	if _, stored := h.Members()["id-pi"]; !stored || pi.adopted != nil {
		t.Fatal("nothing was interrupted")
	}
	if err := h.MayJoin(h.join("pi"), "pi", false, h.now); err != nil {
		t.Fatal(err)
	}
	if word := h.Joined(h.join("pi"), h.now); word != "" || !h.Upgrades("id-pi") {
		t.Errorf("it gets the word %q", word)
	}
	h.lose = false
	h.now = h.now.Add(time.Hour) // its offer is over
	h.Expire(h.now)
	again := h.upgradedWith("pi", pi.key)
	if again.adopted == nil || h.Members()["id-pi"].KeyHash != pi.hash {
		t.Fatalf("it is not taken over: %s", again.refusal)
	}
	h.reported(topics.DomainAdopted, "by upgrade")
}

// The time of the domains without a key is running time of the hub: 30 days. No clock that jumps
// ends it, and the rest survives a restart.
func TestKeysAreRequiredAfterAWhile(t *testing.T) {
	h := oldHome(t, Options{})
	h.upgraded("pi")
	h.events = nil
	for range 29 * 24 {
		h.now = h.now.Add(time.Hour)
		h.Expire(h.now)
	}
	contains(t, errors.New(h.UnsignedProblem("id-tv", "tv")), "within a day")
	state := h.State()
	h = oldHome(t, Options{State: state})
	h.now = h.now.Round(0).Add(100 * 24 * time.Hour) // by its clock, not by its running time
	h.Begin("127.0.0.1:1883", h.now)
	for range 23 {
		h.now = h.now.Add(time.Hour)
		h.Expire(h.now)
	}
	h.settle()
	if err := h.MayJoin(h.join("tv"), "tv", false, h.now); err != nil || len(h.events) > 0 {
		t.Fatal(err, h.events)
	}
	if next := h.Next(); next.After(h.now.Add(time.Hour)) {
		t.Errorf("it wakes at %v", next.Sub(h.now))
	}
	h.now = h.now.Add(time.Hour)
	h.Expire(h.now)
	ended := h.Take()
	if len(ended.Ended) != 1 || ended.Ended[0] != "id-tv" || !ended.Store {
		t.Errorf("%+v", ended)
	}
	contains(t, h.MayJoin(h.join("tv"), "tv", false, h.now), "dominionctl adopt tv")
	if h.Admits("id-tv") || !h.Admits("id-pi") || h.Upgrades("id-tv") {
		t.Error("tv goes on, or pi does not")
	}
	tv := h.upgraded("tv")
	contains(t, errors.New(tv.refusal), topics.AdoptionRequired)
	if err := h.adopt("tv", tv.code, false); err != nil {
		t.Fatal(err)
	}
	if h.UnsignedProblem("id-tv", "tv") != "" || !h.Admits("id-tv") {
		t.Error("tv is adopted and still unsigned")
	}
}

// Whoever is forgotten does not come back without a key.
func TestForgetUnsigned(t *testing.T) {
	h := oldHome(t, Options{})
	h.ForgetUnsigned("id-pi")
	contains(t, h.MayJoin(h.join("pi"), "pi", false, h.now), topics.AdoptionRequired)
	if err := h.Require(); err != nil {
		t.Fatal(err)
	}
	if got := h.Take(); len(got.Ended) != 1 || got.Ended[0] != "id-tv" || len(got.Events) != 1 {
		t.Errorf("%+v", got)
	}
	if err := h.Require(); err != nil || h.Pending() {
		t.Errorf("required twice: %v", err)
	}
	contains(t, New(Options{}).Require(), "no keys")
}
