package agent

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/topics"
)

// authorityTest is a domain whose dominion replaces its authority.
type authorityTest struct {
	*testing.T
	m   *membership
	hub *identity.Hub
	dir string
}

// take has the domain take a key list that an authority signed.
func (d *authorityTest) take(l identity.KeyList, by *identity.Authority) keyListTaken {
	d.Helper()
	message, err := l.Sign(by)
	if err != nil {
		d.Fatal(err)
	}
	return d.m.takeKeyList(incoming{Message: topics.Message{Topic: "dominion/hub/keys", Payload: message}})
}

// powerCut takes a step while a file cannot be written: nothing has changed then, in memory and on
// disk. Then it takes the step.
func (d *authorityTest) powerCut(file string, step func() error) {
	d.Helper()
	path := filepath.Join(d.dir, identity.Directory, file)
	before := d.state(d.m)
	if err := os.MkdirAll(filepath.Join(path+".tmp", "x"), 0o700); err != nil {
		d.Fatal(err)
	}
	if err := step(); err == nil {
		d.Fatal("nothing failed")
	}
	if err := os.RemoveAll(path + ".tmp"); err != nil {
		d.Fatal(err)
	}
	if now, stored := d.state(d.m), d.state(mustOpen(d, d.m.o)); now != before || stored != before {
		d.Errorf("a step that was cut short left %+v, stored is %+v, before it was %+v", now, stored, before)
	}
	if err := step(); err != nil {
		d.Fatal(err)
	}
	if now, stored := d.state(d.m), d.state(mustOpen(d, d.m.o)); now == before || stored != now {
		d.Errorf("stored is %+v, in use %+v", stored, now)
	}
}

// domainState is what a domain has pinned and its certificate.
type domainState struct{ authority, next, keys, certificate, newest string }

func (d *authorityTest) state(m *membership) domainState {
	t := m.domain.Trust
	return domainState{string(t.Authority), string(t.Next), string(t.Keys), string(m.domain.Chain[0].Raw), m.Authority()}
}

// A domain takes another authority from a list that its own has signed, and from nothing else. Each
// step is stored before it counts, and whole after a power cut. Once the next authority has signed, the
// former one is over, and the domain renews its certificate at once.
func TestNextAuthority(t *testing.T) {
	u := newAdopter(t, "d1", 0)
	c := config.Domain{Name: "pi", DataDir: t.TempDir()}
	o := membershipOptions{Config: c, ID: "3f2b8c1e-0000-4000-8000-000000000001", Session: "s", Log: discard(), Address: func() string { return "" }}
	d := &authorityTest{t, mustOpen(t, o), u.own, c.DataDir}
	adoptBy(t, d.m, u, "mqtts://192.0.2.1:8883")
	now := time.Now()
	old := u.own.Authority
	next, err := u.own.NextAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	first := identity.KeyList{Dominion: "d1"}.WithHub(identity.HubKey{Key: u.own.KeyHash()})
	nextKey, err := u.own.NextKey()
	if err != nil {
		t.Fatal(err)
	}

	begins := first.WithHub(identity.HubKey{Key: nextKey})
	begins.Next = next.Root.Raw
	before := d.state(d.m)
	for what, by := range map[string]*identity.Authority{"a stranger": stranger(t).Authority, "the next one itself": next} {
		if taken := d.take(begins, by); taken.err == nil || taken.authority != "" || d.state(d.m) != before {
			t.Errorf("a list by %s was taken: %v", what, taken.err)
		}
	}
	intermediate, err := old.Intermediate("7d0f6d0e-7a51-4a5c-9d4f-0f4f6b1c2d3e", now)
	if err != nil {
		t.Fatal(err)
	}
	if taken := d.take(begins, intermediate); taken.err == nil || d.state(d.m) != before {
		t.Error("an intermediate named another authority")
	}
	var taken keyListTaken
	d.powerCut("trust.json", func() error { taken = d.take(begins, old); return taken.err })
	if hash, _ := identity.HashKey(&next.Key.PublicKey); taken.authority != hash || d.m.Authority() != hash || taken.reconnect {
		t.Errorf("the next authority is not acknowledged, or the connection ends: %+v", taken)
	}
	if due := d.m.RenewAt(); due.Before(now) || due.Equal(now) {
		t.Error("the certificate is renewed before the next authority is used")
	}

	ends := begins.WithoutHub(u.own.KeyHash())
	ends.Next = nil
	d.powerCut("trust.json", func() error { taken = d.take(ends, next); return taken.err })
	if taken.authority != "" || !taken.reconnect || d.m.RenewAt().After(time.Now()) {
		t.Errorf("the certificate is not renewed at once: %+v", taken)
	}
	after := d.state(d.m)
	if taken := d.take(ends.Revoke(identity.RevokedKey{Key: nextKey}, now), old); taken.err == nil || d.state(d.m) != after {
		t.Error("a list by the former authority was taken")
	}

	issue := func(by *identity.Authority) [][]byte {
		cert, err := by.Issue(identity.Request{Subject: identity.Subject{Dominion: "d1", Use: identity.DomainUse, Name: o.ID}, Key: &d.m.domain.Key.PublicKey, At: now, Lifetime: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return identity.EncodeChain([]*x509.Certificate{cert})
	}
	if err := d.m.StoreCertificate(issue(old)); err == nil {
		t.Error("a certificate by the former authority was stored")
	}
	certificate := issue(next)
	d.powerCut("domain.crt", func() error { return d.m.StoreCertificate(certificate) })
	if !d.m.RenewAt().After(time.Now()) {
		t.Error("the certificate is renewed again")
	}
	if d.m.RenewNow(); d.m.RenewAt().After(time.Now()) {
		t.Error("the hub finds that the certificate has ended, and it is not renewed")
	}
}
