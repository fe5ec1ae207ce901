package agent

import (
	"bytes"
	"crypto/ecdsa"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/agent/signatures"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// signer signs orders for the domain "pi" as its hub does; tests change what it signs with.
type signer struct {
	u                    *hub
	key                  *ecdsa.PrivateKey
	hash                 string
	dominion, domain     string
	session, run         string
	startKind, orderKind topics.Kind
}

// signer returns the signer of the hub of u, once its domain has joined.
func (u *hub) signer() signer {
	s, run := last[topics.Domain](u, topics.DomainStatus), ""
	u.state(func(a *adopter) { run = a.run })
	return signer{u, u.adopts.own.Key, u.adopts.own.KeyHash(), u.id, s.ID, s.Session, run, topics.DomainServicesSet, topics.DomainCommand}
}

// sign returns a payload as a signed message.
func (s signer) sign(k topics.Kind, payload []byte) []byte {
	m, err := signed.Sign(s.key, signed.Context{Kind: k.SignedKind(), Dominion: s.dominion, Domain: s.domain}, payload)
	if err != nil {
		s.u.h.t.Fatal(err)
	}
	return m
}

// start returns a signed start command.
func (s signer) start(epoch, generation uint64, names ...string) []byte {
	c := topics.StartCommand{Dominion: s.dominion, Domain: s.domain, Epoch: epoch, Generation: generation, Run: s.run, Key: s.hash, Services: map[string]topics.Spec{}}
	for _, name := range names {
		c.Services[name] = topics.Spec{Revision: "1", Restart: topics.RestartPolicy{Policy: topics.RestartNever}}
	}
	return s.sign(s.startKind, topics.Encode(c))
}

// command returns a signed command.
func (s signer) command(number uint64, action, service string) []byte {
	return s.sign(s.orderKind, topics.Encode(topics.Command{
		Transaction: action, Action: action, Service: service, Session: s.session, Number: number, Key: s.hash,
	}))
}

// publishCertificate publishes hub/certificate.
func (u *hub) publishCertificate() {
	u.send(u.tree.Hub(topics.HubCertificate), u.adopts.own.Published(), true)
}

// adoptedPi brings up a hub and a domain that it has adopted.
func (h *testNetwork) adoptedPi(certificate bool) (*hub, *running) {
	u := h.adopting(hubAddr, "d1", 0)
	u.adopts.window = true
	if certificate {
		u.publishCertificate()
	}
	a := h.agent(h.t.TempDir(), open)
	time.Sleep(8 * time.Second)
	if len(u.of(topics.DomainHeartbeat)) == 0 {
		h.t.Fatal("not joined")
	}
	return u, a
}

// stranger is another hub's identity of the same dominion id, with its own authority.
func stranger(t *testing.T) *identity.Hub { return newAdopter(t, "d1", 0).own }

// Each attack of whoever controls the broker, with what it is refused by. The first order of
// the hub was obeyed before it, and another one is obeyed after it.
func TestForgedStartCommands(t *testing.T) {
	for _, c := range []struct {
		name  string
		forge func(s signer) []byte
		want  string // in the report; "": nobody is told
	}{
		{"not signed", func(s signer) []byte {
			return topics.Encode(topics.StartCommand{Dominion: "d1", Domain: s.domain, Epoch: 5, Generation: 2, Run: s.run, Key: s.hash, Services: map[string]topics.Spec{"lamp": {Revision: "1"}}})
		}, "it is not signed by the hub"},
		{"replayed", func(s signer) []byte { return s.start(5, 1, "web") }, ""},
		{"of before the one in force", func(s signer) []byte { return s.start(5, 0, "lamp") }, "taken was 5 generation 1"},
		{"of a former epoch", func(s signer) []byte { return s.start(4, 9, "lamp") }, "epoch 4"},
		{"altered", func(s signer) []byte {
			return bytes.Replace(s.start(5, 2, "lamp"), []byte(`"revision":"1"`), []byte(`"revision":"2"`), 1)
		}, signed.ErrSignature.Error()},
		{"altered generation", func(s signer) []byte {
			return bytes.Replace(s.start(5, 1, "lamp"), []byte(`"generation":1`), []byte(`"generation":2`), 1)
		}, signed.ErrSignature.Error()},
		{"signature of another order", func(s signer) []byte {
			a, b := s.start(5, 2, "lamp"), s.start(5, 3, "web")
			return append(a[:len(a)-103:len(a)-103], b[len(b)-103:]...)
		}, signed.ErrSignature.Error()},
		{"names twice", func(s signer) []byte {
			first := topics.Encode(topics.StartCommand{Dominion: "d1", Domain: s.domain, Epoch: 5, Generation: 2, Run: s.run, Key: s.hash})
			return s.sign(topics.DomainServicesSet, append(first[:len(first)-1], `,"SERVICES":{"lamp":{"revision":"1"}}}`...))
		}, "twice"},
		{"bytes after the signature", func(s signer) []byte { return append(s.start(5, 2, "lamp"), ' ') }, "it is not signed"},
		{"of another dominion", func(s signer) []byte { s.dominion = "d2"; return s.start(5, 2, "lamp") }, `of dominion "d2"`},
		{"signed for another dominion", func(s signer) []byte {
			payload := s.start(5, 2, "lamp")
			s.dominion = "d2"
			body, _ := signed.Unverified(payload)
			return s.sign(topics.DomainServicesSet, body)
		}, signed.ErrSignature.Error()},
		{"for another domain", func(s signer) []byte { s.domain = "3f2b8c1e-0000-4000-8000-000000000009"; return s.start(5, 2, "lamp") }, "it is for domain"},
		{"signed for another domain", func(s signer) []byte {
			body, _ := signed.Unverified(s.start(5, 2, "lamp"))
			s.domain = "3f2b8c1e-0000-4000-8000-000000000009"
			return s.sign(topics.DomainServicesSet, body)
		}, signed.ErrSignature.Error()},
		{"signed as a command", func(s signer) []byte { s.startKind = topics.DomainCommand; return s.start(5, 2, "lamp") }, signed.ErrSignature.Error()},
		{"by a key that is in no list", func(s signer) []byte {
			other := stranger(s.u.h.t)
			s.key, s.hash = other.Key, other.KeyHash()
			return s.start(5, 2, "lamp")
		}, "is not a hub's of this dominion"},
		{"by another key in the hub's name", func(s signer) []byte {
			s.key = stranger(s.u.h.t).Key
			return s.start(5, 2, "lamp")
		}, signed.ErrSignature.Error()},
		{"by no key", func(s signer) []byte { s.hash = ""; return s.start(5, 2, "lamp") }, "does not name the key"},
		{"far ahead, not the hub's", func(s signer) []byte {
			s.key = stranger(s.u.h.t).Key
			return s.start(900, 1, "lamp")
		}, signed.ErrSignature.Error()},
		{"cleared", func(signer) []byte { return nil }, ""},
	} {
		for _, retained := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				inTestNetwork(t, func(h *testNetwork) {
					u, a := h.adoptedPi(true)
					s := u.signer()
					topic := u.tree.Domain(topics.DomainServicesSet, "pi")
					u.send(topic, string(s.start(5, 1, "web")), false)
					time.Sleep(5 * time.Second)
					if got := a.runner.starts(); got != "web" {
						t.Fatalf("started %q by the hub's order; events %q", got, u.events())
					}
					before := len(u.events())
					u.send(topic, string(c.forge(s)), retained)
					time.Sleep(5 * time.Second)
					if got := a.runner.starts(); got != "web" || a.runner.living() != 1 {
						t.Errorf("started %q, %d live", got, a.runner.living())
					}
					told := strings.Join(u.events()[before:], "\n")
					if c.want == "" && told != "" || !strings.Contains(told, c.want) {
						t.Errorf("reported %q, want %q", told, c.want)
					}
					u.send(topic, string(s.start(5, 4, "web", "lamp")), true)
					time.Sleep(5 * time.Second)
					if got := a.runner.starts(); got != "web lamp" {
						t.Errorf("started %q by the hub's next order; events %q", got, u.events())
					}
				})
			})
		}
	}
}

// secondHub returns another hub of the dominion of u, which its key list names from now on: its
// key, and what it publishes at hub/certificate.
func (u *hub) secondHub() (*ecdsa.PrivateKey, topics.HubCertificateView) {
	t := u.h.t
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.HashKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := u.adopts.own.Issue(identity.Subject{Use: identity.HubUse, Name: "second"}, &key.PublicKey, 0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	list := identity.KeyList{Dominion: u.id}.WithHub(identity.HubKey{Key: u.adopts.own.KeyHash()}).WithHub(identity.HubKey{Key: hash})
	u.send(u.tree.Hub(topics.HubKeys), u.signKeys(list), true)
	return key, topics.HubCertificateView{Key: hash, Certificate: string(identity.EncodeCertificates(chain...)), Authority: u.adopts.own.Published().Authority}
}

// The grant of the join tells which key orders are signed with. A start command of another hub
// of the dominion is held until hub/certificate has come; one of another authority verifies
// nothing.
func TestStartCommandIsHeldForItsCertificate(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u, a := h.adoptedPi(false)
		key, published := u.secondHub()
		time.Sleep(10 * time.Second) // it joins again with the new list
		s := u.signer()
		topic := u.tree.Domain(topics.DomainServicesSet, "pi")
		u.send(topic, string(s.start(5, 1)), true)
		time.Sleep(5 * time.Second)
		if got := last[topics.Domain](u, topics.DomainStatus).Generation; got != 1 {
			t.Errorf("the hub that granted the join is obeyed up to generation %d", got)
		}
		s.key, s.hash = key, published.Key
		u.send(topic, string(s.start(6, 1, "web")), false)
		time.Sleep(5 * time.Second)
		u.send(u.tree.Hub(topics.HubCertificate), stranger(t).Published(), true)
		time.Sleep(5 * time.Second)
		if got := a.runner.starts(); got != "" {
			t.Fatalf("started %q before the hub was verified", got)
		}
		u.send(u.tree.Hub(topics.HubCertificate), published, true)
		time.Sleep(5 * time.Second)
		if got := a.runner.starts(); got != "web" {
			t.Errorf("started %q once it was; events %q", got, u.events())
		}
	})
}

// A join tells the hub's certificate: a domain that finds another hub's retained at
// hub/certificate, or nothing, obeys its hub at once. What forges the grant's verifies nothing.
func TestOrdersAreObeyedByTheCertificateOfTheGrant(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u, a := h.adoptedPi(false)
		a.stop()
		order := u.signer().start(5, 1, "web")
		u.send(u.tree.Domain(topics.DomainServicesSet, "pi"), string(order), true)
		u.send(u.tree.Hub(topics.HubCertificate), stranger(t).Published(), true)
		b := h.agent(a.dir, open)
		time.Sleep(8 * time.Second)
		if got := b.runner.starts(); got != "web" {
			t.Errorf("started %q; events %q", got, u.events())
		}
	})
}

// After a restart of the agent an older order is not obeyed: how far each key has counted is
// stored with the start command.
func TestReplayAfterRestart(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u, a := h.adoptedPi(true)
		s := u.signer()
		topic := u.tree.Domain(topics.DomainServicesSet, "pi")
		old := s.start(5, 1, "web", "lamp")
		u.send(topic, string(old), true)
		u.send(topic, string(s.start(6, 1, "web")), true)
		time.Sleep(5 * time.Second)
		stored, err := os.ReadFile(filepath.Join(a.dir, "data", commandFile))
		if err != nil || !strings.Contains(strings.Join(strings.Fields(string(stored)), ""), s.hash+`":{"epoch":6,"number":1}`) {
			t.Errorf("stored %s, %v", stored, err)
		}
		a.stop()
		u.send(topic, string(old), true)
		b := h.agent(a.dir, open)
		time.Sleep(8 * time.Second)
		u.send(topic, string(old), false)
		time.Sleep(5 * time.Second)
		if strings.Contains(b.runner.starts(), "lamp") {
			t.Errorf("started %q by a replayed order", b.runner.starts())
		}
	})
}

// Commands of the hub alone are obeyed, each once, by the run of the agent that they name.
func TestForgedCommands(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u, a := h.adoptedPi(true)
		s := u.signer()
		u.send(u.tree.Domain(topics.DomainServicesSet, "pi"), string(s.start(5, 1, "web")), true)
		time.Sleep(5 * time.Second)
		command := u.tree.Domain(topics.DomainCommand, "pi")
		want := "web"
		check := func(what string) {
			t.Helper()
			time.Sleep(5 * time.Second)
			if got := a.runner.starts(); got != want {
				t.Fatalf("%s: started %q, want %q; events %q", what, got, want, u.events())
			}
		}
		restart := s.command(7, topics.ActionRestart, "web")
		u.send(command, string(restart), false)
		want += " web"
		check("the hub's order")
		refused := func(what string, payload []byte, part string) {
			t.Helper()
			time.Sleep(2 * time.Minute) // the same refusal is reported once a minute
			before := len(u.events())
			u.send(command, string(payload), false)
			check(what)
			if told := strings.Join(u.events()[before:], "\n"); !strings.Contains(told, part) {
				t.Errorf("%s: reported %q, want %q", what, told, part)
			}
		}
		refused("not signed", topics.Encode(topics.Command{Transaction: "mine", Action: topics.ActionRestart, Service: "web", Session: s.session, Number: 9}), "ask the hub")
		if r := last[topics.Reply](u, topics.DomainResponse); r.Transaction != "mine" || r.Status != topics.StatusError {
			t.Errorf("answered %+v", r)
		}
		refused("replayed", restart, "number 7")
		refused("an older number", s.command(6, topics.ActionRestart, "web"), "number 6")
		other := s
		other.session = "of-before"
		refused("of another run", other.command(9, topics.ActionRestart, "web"), "another run")
		other = s
		other.key = stranger(t).Key
		refused("by another key", other.command(10, topics.ActionRestart, "web"), signed.ErrSignature.Error())
		refused("altered", bytes.Replace(s.command(10, topics.ActionRestart, "web"), []byte(`"number":10`), []byte(`"number":11`), 1), signed.ErrSignature.Error())
		other = s
		other.orderKind = topics.DomainServicesSet
		refused("signed as a start command", other.command(12, topics.ActionRestart, "web"), signed.ErrSignature.Error())
		// What was refused has not moved the number.
		u.send(command, string(s.command(8, topics.ActionRestart, "web")), false)
		want += " web"
		check("the hub's next order")
	})
}

// A domain that has a key is drained by the hub's command alone.
func TestDrainByCommand(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u, _ := h.adoptedPi(true)
		s := u.signer()
		draining := func() bool {
			time.Sleep(time.Second)
			return last[topics.Domain](u, topics.DomainStatus).Draining
		}
		u.domain(topics.DomainDrainSet, "ON")
		if draining() {
			t.Error("drained by drain/set")
		}
		u.domain(topics.DomainCommand, string(s.command(1, topics.ActionDrain, "")))
		if !draining() {
			t.Errorf("not drained; events %q", u.events())
		}
		u.domain(topics.DomainDrainSet, "OFF")
		if !draining() {
			t.Error("undrained by drain/set")
		}
		u.domain(topics.DomainCommand, string(s.command(2, topics.ActionUndrain, "")))
		if draining() {
			t.Errorf("not undrained; events %q", u.events())
		}
	})
}

// A start command that waited for the hub is not obeyed if its key left the key list meanwhile, nor
// one without a key once the domain has pinned an authority.
func TestStartCommandThatWaitedForAnotherKeyList(t *testing.T) {
	key, former := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	list := identity.KeyList{Dominion: "home"}.WithHub(identity.HubKey{Key: key}).WithHub(identity.HubKey{Key: former})
	l := &loop{signatures: signatures.New("me"), store: &store{}}
	l.signatures.Pin(&identity.Verifier{Dominion: "home", Keys: &list})
	for _, by := range []string{key, former} {
		if _, err := l.acceptSigned(topics.StartCommand{Key: by, Epoch: 1, Generation: 1}, l.store.ratchet); err != nil {
			t.Fatal(err)
		}
	}
	list = list.Revoke(identity.RevokedKey{Key: former}, time.Now())
	l.signatures.SetVerifier(&identity.Verifier{Dominion: "home", Keys: &list})
	for by, obeyed := range map[string]bool{key: true, former: false, "": false} {
		if _, err := l.acceptSigned(topics.StartCommand{Key: by, Epoch: 1, Generation: 2}, l.store.ratchet); (err == nil) != obeyed {
			t.Errorf("by %.4q: %v", by, err)
		}
	}
}
