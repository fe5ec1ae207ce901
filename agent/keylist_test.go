package agent

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/topics"
)

// signKeys returns a key list as its hub's authority signs it.
func (u *hub) signKeys(l identity.KeyList) string {
	u.h.t.Helper()
	message, err := l.Sign(u.adopts.own.Authority)
	if err != nil {
		u.h.t.Fatal(err)
	}
	return string(message)
}

// A domain stores the newest key list of its dominion. An older one, and another one of
// the same number, are reported, and the hub is shown the newest. Nothing else counts.
func TestNewestKeyList(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u, a := h.adoptedPi(true)
		topic, s := u.tree.Hub(topics.HubKeys), u.signer()
		own := identity.HubKey{Key: u.adopts.own.KeyHash()}
		revoked := identity.RevokedKey{Key: strings.Repeat("ab", 32), Use: identity.UserUse}
		first := identity.KeyList{Dominion: "d1"}.WithHub(own)
		second := first.Revoke(revoked, time.Now())
		third := second.Revoke(identity.RevokedKey{Key: strings.Repeat("cd", 32)}, time.Now())
		other := second.WithHub(identity.HubKey{Key: strings.Repeat("ef", 32)})
		stored := func(want identity.KeyList, when string) {
			t.Helper()
			time.Sleep(time.Second)
			if got := a.trust().Trust.Keys; string(got) != u.signKeys(want) {
				t.Errorf("%s: stored is %s", when, got)
			}
		}
		shown := func() (n int, list string) {
			for _, m := range u.received {
				if r, err := topics.Decode[topics.HubRequest](m.Topic, m.Payload); err == nil && r.KeyList != "" {
					n, list = n+1, r.KeyList
				}
			}
			return n, list
		}
		stored(first, "adopted")
		u.send(topic, u.signKeys(third), true)
		stored(third, "a newer list")

		forged := identity.KeyList{Dominion: "d1", Number: 99}
		message, err := forged.Sign(stranger(t).Authority)
		if err != nil {
			t.Fatal(err)
		}
		for _, payload := range []string{string(message), "{}", strings.Replace(u.signKeys(third), `"number":3`, `"number":9`, 1), ""} {
			u.send(topic, payload, false)
			stored(third, "a forged list")
		}
		u.forget()
		u.send(topic, u.signKeys(second), true)
		stored(third, "an older list")
		if !u.receivedEvent(topics.MessageRefused, "older than the one that is stored") {
			t.Errorf("an older list is not reported: %v", u.events())
		}
		if n, list := shown(); n != 1 || list != u.signKeys(third) {
			t.Errorf("the hub is shown %d lists: %s", n, list)
		}
		u.send(topic, u.signKeys(other), true)
		stored(third, "another list of that number")
		if !u.receivedEvent(topics.MessageRefused, "other content") {
			t.Errorf("another list is not reported: %v", u.events())
		}
		u.domain(topics.DomainServicesSet, string(s.start(5, 1)))
		time.Sleep(time.Second)
		if got := last[topics.Domain](u, topics.DomainStatus).Generation; got != 1 {
			t.Errorf("the hub of the list is obeyed up to generation %d", got)
		}
		a.stop()
		if !bytes.Equal(a.trust().Trust.Keys, []byte(u.signKeys(third))) {
			t.Error("it is gone after the end")
		}
	})
}

// A hub whose key has left the list, or was revoked, is neither joined nor obeyed, with or
// without TLS.
func TestHubThatWasRevoked(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		inTestNetwork(t, func(h *testNetwork) {
			u, a := h.adoptedPi(true)
			own := u.adopts.own.KeyHash()
			l := identity.KeyList{Dominion: "d1"}.WithHub(identity.HubKey{Key: own}).Revoke(identity.RevokedKey{Key: own, Use: identity.HubUse}, time.Now())
			s := u.signer()
			if encrypted {
				u.mu.Lock()
				u.encrypt()
				u.mu.Unlock()
			}
			u.send(u.tree.Hub(topics.HubKeys), u.signKeys(l), true)
			time.Sleep(5 * time.Second)
			u.forget()
			u.domain(topics.DomainServicesSet, string(s.start(5, 1)))
			time.Sleep(20 * time.Second)
			if n := len(u.of(topics.DomainHeartbeat)); n > 0 {
				t.Errorf("%d heartbeats at a hub that is revoked", n)
			}
			if !encrypted && !strings.Contains(h.log.String(), "is not believed: cannot verify the certificate of hub d1: the key is revoked") {
				t.Error("nothing is logged of its grant")
			}
			if string(a.trust().Trust.Keys) != u.signKeys(l) {
				t.Error("the list is not stored")
			}
		})
	}
}
