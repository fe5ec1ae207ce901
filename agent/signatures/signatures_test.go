package signatures

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

const (
	dominion = "7d0f6d0e-7a51-4a5c-9d4f-0f4f6b1c2d3e"
	domain   = "3f2b8c1e-0000-4000-8000-000000000001"
)

func openHub(t testing.TB) *identity.Hub {
	t.Helper()
	h, err := identity.OpenHub(t.TempDir(), identity.HubOptions{Dominion: dominion, Name: "home", Names: identity.MakeNames("hub", nil), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// pinned returns the signatures of a domain that has pinned the authority of a hub.
func pinned(h *identity.Hub) *Signatures {
	s := New(domain)
	list := identity.KeyList{Dominion: dominion}.WithHub(identity.HubKey{Key: h.KeyHash()})
	v := identity.Verifier{Dominion: dominion, Keys: &list}
	v.Roots = append(v.Roots, h.Authority.Root)
	s.Pin(&v)
	return s
}

// order returns a signed start command with services.
func order(t testing.TB, h *identity.Hub, generation uint64, services int) Order {
	t.Helper()
	c := topics.StartCommand{Dominion: dominion, Domain: domain, Epoch: 1, Generation: generation, Key: h.KeyHash(), Services: make(map[string]topics.Spec)}
	for n := range services {
		c.Services[fmt.Sprint("service-", n)] = topics.Spec{
			Revision: "5c0b29f1a4d3", Port: 8080 + n, Environment: map[string]string{"COLOUR": "blue", "DATABASE": "http://192.168.1.20:5432/home"},
			Restart: topics.RestartPolicy{Policy: topics.RestartAlways, Delay: topics.Seconds(time.Second)}, Health: &topics.HealthCheck{HTTP: "/health"},
		}
	}
	message, err := signed.Sign(h.Key, signed.Context{Kind: topics.DomainServicesSet.SignedKind(), Dominion: dominion, Domain: domain}, topics.Encode(c))
	if err != nil {
		t.Fatal(err)
	}
	m := topics.Message{Topic: "dominion/domain/pi/services/set", Payload: message}
	head, err := Head(m)
	if err != nil {
		t.Fatal(err)
	}
	return Order{Kind: topics.DomainServicesSet, Message: m, Head: head}
}

func certificate(h *identity.Hub) topics.Message {
	return topics.Message{Topic: "dominion/hub/certificate", Payload: topics.Encode(h.Published())}
}

// run runs what waits, and returns the generations of the orders that were verified, and the
// errors of the others.
func run(t *testing.T, s *Signatures, now time.Time) (verified []uint64, failed []error) {
	t.Helper()
	for next := s.Take(now); next != nil; next = s.Take(now) {
		if s.Take(now) != nil {
			t.Fatal("two at once")
		}
		switch o, err := s.Done(next(), now); {
		case err != nil:
			failed = append(failed, err)
		case o != nil:
			if signed.IsSigned(o.Payload) || len(o.Payload) == 0 {
				t.Errorf("what was signed is %s", o.Payload)
			}
			verified = append(verified, o.Head.Generation)
		}
	}
	return verified, failed
}

// Orders are verified one after the other, in their order; those of a hub that is not verified
// yet are held until its certificate, or a handshake, has shown its key.
func TestHeldUntilVerified(t *testing.T) {
	now := time.Now()
	h := openHub(t)
	for _, by := range []string{"certificate", "handshake"} {
		s := pinned(h)
		for g := range uint64(3) {
			if err := s.Add(order(t, h, g, 1), now); err != nil {
				t.Fatal(err)
			}
		}
		if verified, failed := run(t, s, now); verified != nil || failed != nil {
			t.Fatalf("verified %v, %v without a key", verified, failed)
		}
		if by == "certificate" {
			if err := s.Certificate(certificate(h), now); err != nil {
				t.Fatal(err)
			}
		} else {
			s.AddHub(identity.Peer{Subject: identity.Subject{Use: identity.HubUse, Dominion: dominion}, Key: &h.Key.PublicKey, KeyHash: h.KeyHash()})
		}
		if verified, failed := run(t, s, now); fmt.Sprint(verified) != "[0 1 2]" || failed != nil {
			t.Errorf("%s: verified %v, %v", by, verified, failed)
		}
		// The same certificate again is not verified again.
		if err := s.Certificate(certificate(h), now); err != nil || by == "certificate" && s.Take(now) != nil {
			t.Errorf("%s: %v, or it is verified again", by, err)
		}
	}
}

// The certificate of another authority, or of a key that is in no list, lets nothing be verified.
func TestCertificateOfAnother(t *testing.T) {
	now := time.Now()
	h, other := openHub(t), openHub(t)
	s := pinned(h)
	if err := s.Add(order(t, h, 1, 1), now); err != nil {
		t.Fatal(err)
	}
	for _, m := range []topics.Message{certificate(other), {Topic: "dominion/hub/certificate", Payload: []byte("{")}} {
		if err := s.Certificate(m, now); err != nil {
			t.Fatal(err)
		}
		if verified, failed := run(t, s, now); verified != nil || len(failed) != 1 {
			t.Errorf("verified %v, %v", verified, failed)
		}
	}
	if err := s.Add(order(t, other, 2, 1), now); err == nil || !strings.Contains(err.Error(), "not a hub's of this dominion") {
		t.Errorf("a key that is in no list: %v", err)
	}
	list := s.verifier.Keys.Revoke(identity.RevokedKey{Key: h.KeyHash(), Use: identity.HubUse, Name: "home"}, now)
	v := *s.verifier
	v.Keys = &list
	s.Pin(&v)
	if err := s.Add(order(t, h, 3, 1), now); err == nil || s.Counts(h.KeyHash()) {
		t.Errorf("a revoked key: %v", err)
	}
}

// A newer key list comes while the hub's certificate is verified: that is verified again, by the
// newer list, and orders do not wait for ever.
func TestKeyListWhileCertificateIsVerified(t *testing.T) {
	now := time.Now()
	h := openHub(t)
	for _, revoked := range []bool{false, true} {
		s := pinned(h)
		if err := errors.Join(s.Certificate(certificate(h), now), s.Add(order(t, h, 1, 1), now)); err != nil {
			t.Fatal(err)
		}
		running := s.Take(now)
		key := identity.RevokedKey{Key: strings.Repeat("ab", 32), Use: identity.HubUse, Name: "former"}
		if revoked {
			key = identity.RevokedKey{Key: h.KeyHash(), Use: identity.HubUse, Name: "home"}
		}
		list := s.verifier.Keys.Revoke(key, now)
		v := *s.verifier
		v.Keys = &list
		s.SetVerifier(&v)
		if o, err := s.Done(running(), now); o != nil || err != nil {
			t.Errorf("%+v, %v", o, err)
		}
		verified, failed := run(t, s, now)
		if revoked && (verified != nil || len(failed) != 1) || !revoked && (len(verified) != 1 || failed != nil) {
			t.Errorf("revoked %v: verified %v, %v", revoked, verified, failed)
		}
	}
}

// A hub that shows its key again, by another handshake or a renewed certificate, makes no order
// void that is being verified or waits for it.
func TestHubIsVerifiedAgain(t *testing.T) {
	now := time.Now()
	h := openHub(t)
	s := pinned(h)
	again := func() {
		key := h.Key.PublicKey // another pointer
		s.AddHub(identity.Peer{Subject: identity.Subject{Use: identity.HubUse, Dominion: dominion}, Key: &key, KeyHash: h.KeyHash()})
	}
	again()
	if err := errors.Join(s.Add(order(t, h, 1, 1), now), s.Add(order(t, h, 2, 1), now)); err != nil {
		t.Fatal(err)
	}
	running := s.Take(now)
	again()
	if o, err := s.Done(running(), now); o == nil || err != nil {
		t.Errorf("%+v, %v", o, err)
	}
	if verified, failed := run(t, s, now); len(verified) != 1 || failed != nil {
		t.Errorf("verified %v, %v", verified, failed)
	}
}

// What was verified by what was pinned before does not count any more.
func TestPinAgain(t *testing.T) {
	now := time.Now()
	h := openHub(t)
	s := pinned(h)
	if err := errors.Join(s.Certificate(certificate(h), now), s.Add(order(t, h, 1, 1), now)); err != nil {
		t.Fatal(err)
	}
	running := s.Take(now)
	s.Pin(s.verifier)
	if o, err := s.Done(running(), now); o != nil || err != nil || len(s.hubs) > 0 && s.verifier == nil {
		t.Errorf("%+v, %v", o, err)
	}
	s.Pin(nil)
	if s.Required() || s.Counts(h.KeyHash()) || s.Certificate(certificate(h), now) != nil || s.Take(now) != nil {
		t.Error("nothing is pinned, and something is verified")
	}
}

// Whoever floods a domain with orders takes neither its memory nor its processor: what waits is
// bounded, and so are the verifications of what was wrong before.
func TestFlood(t *testing.T) {
	now := time.Now()
	h, other := openHub(t), openHub(t)
	s := pinned(h)
	forged := order(t, h, 1, 1)
	forged.Message.Payload = order(t, other, 1, 1).Message.Payload
	for range 1000 {
		_ = s.Add(forged, now) // held
	}
	if len(s.held) != maxWaiting {
		t.Errorf("%d are held", len(s.held))
	}
	s.Drop()
	large := order(t, h, 1, 1)
	large.Message.Payload = append(make([]byte, 1<<20), large.Message.Payload...)
	for range maxWaiting {
		_ = s.Add(large, now)
	}
	if len(s.held) >= maxWaitingBytes>>20 {
		t.Errorf("%d MB are held", len(s.held))
	}
	s.Drop()
	if err := s.Certificate(certificate(h), now); err != nil {
		t.Fatal(err)
	}
	run(t, s, now)
	verifications := 0
	for n := range 10_000 {
		at := now.Add(time.Duration(n) * time.Millisecond) // 10 s
		if s.Add(forged, at) == nil {
			if _, failed := run(t, s, at); len(failed) == 1 {
				verifications++
			}
		}
	}
	if verifications < 400 || verifications > 600 {
		t.Errorf("%d verifications of forged orders in 10 s, want 50 a second", verifications)
	}
	if verified, _ := run(t, s, now); verified != nil {
		t.Error("a forged one was verified")
	}
	later := now.Add(5 * time.Minute)
	if err := s.Add(order(t, h, 2, 1), later); err != nil {
		t.Fatal(err)
	}
	if verified, failed := run(t, s, later); len(verified) != 1 || failed != nil {
		t.Errorf("after it: %v, %v", verified, failed)
	}
}

// What is valid and can be repeated without end, statuses of the hub and its certificate in other
// bytes, is rate limited as what is wrong: it keeps no order waiting.
func TestFloodOfReplays(t *testing.T) {
	now := time.Now()
	h := openHub(t)
	s := pinned(h)
	if err := s.Certificate(certificate(h), now); err != nil {
		t.Fatal(err)
	}
	run(t, s, now)
	certificates, statuses := 0, 0
	for n := range 200 {
		view := h.Published()
		view.Certificate += strings.Repeat("\n", n+1)
		if s.Certificate(topics.Message{Topic: "dominion/hub/certificate", Payload: topics.Encode(view)}, now) == nil {
			certificates++
		}
		payload := topics.Encode(topics.Hub{Run: fmt.Sprint(n), Key: h.KeyHash(), Protocol: topics.Protocol})
		message, err := signed.Sign(h.Key, signed.Context{Kind: topics.HubStatus.SignedKind(), Dominion: dominion}, payload)
		if err != nil {
			t.Fatal(err)
		}
		m := topics.Message{Topic: "dominion/hub/status", Payload: message}
		head, err := Head(m)
		if err != nil {
			t.Fatal(err)
		}
		if s.Add(Order{Kind: topics.HubStatus, Message: m, Head: head}, now) == nil {
			statuses++
		}
		if _, failed := run(t, s, now); failed != nil {
			t.Fatal(failed)
		}
	}
	if all := certificates + statuses; all > 60 || statuses == 0 {
		t.Errorf("of 400 in one moment, %d certificates and %d statuses were verified", certificates, statuses)
	}
	if err := s.Add(order(t, h, 1, 1), now); err != nil {
		t.Errorf("an order meanwhile: %v", err)
	}
}

// What is cleared is not held any more; commands are.
func TestDropHeld(t *testing.T) {
	now := time.Now()
	h := openHub(t)
	s := pinned(h)
	command := order(t, h, 2, 1)
	command.Kind = topics.DomainCommand
	if err := errors.Join(s.Add(order(t, h, 1, 1), now), s.Add(command, now)); err != nil {
		t.Fatal(err)
	}
	s.DropHeld()
	if len(s.held) != 1 || s.held[0].Kind != topics.DomainCommand {
		t.Errorf("held %+v", s.held)
	}
}

func BenchmarkSign(b *testing.B) {
	h := openHub(b)
	c := signed.Context{Kind: topics.DomainServicesSet.SignedKind(), Dominion: dominion, Domain: domain}
	payload, err := signed.Unverified(order(b, h, 1, 10).Message.Payload)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := signed.Sign(h.Key, c, payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	now := time.Now()
	h := openHub(b)
	s := pinned(h)
	if err := s.Certificate(certificate(h), now); err != nil {
		b.Fatal(err)
	}
	if _, err := s.Done(s.Take(now)(), now); err != nil {
		b.Fatal(err)
	}
	o := order(b, h, 1, 10)
	b.SetBytes(int64(len(o.Message.Payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Head(o.Message); err != nil {
			b.Fatal(err)
		}
		if err := s.Add(o, now); err != nil {
			b.Fatal(err)
		}
		if got, err := s.Done(s.Take(now)(), now); got == nil || err != nil {
			b.Fatal(err)
		}
	}
}
