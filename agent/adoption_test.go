package agent

import (
	"crypto/ecdsa"
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// A domain that is open is adopted by the one dominion that is, joins with the word that
// it was given, and is the same after a restart, where nobody adopts any more.
func TestAdoptedByWindow(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting(hubAddr, "d1", 0)
		u.adopts.window = true
		a := h.agent(t.TempDir(), open)
		before := ""
		time.AfterFunc(time.Second, func() { before = a.storedCode().String() })
		time.Sleep(8 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Fatal("not joined")
		}
		d := a.trust()
		if d.Trust.Dominion != "d1" || d.Trust.Word == "" || d.Chain == nil {
			t.Errorf("pinned %+v", d.Trust)
		}
		if before == "" || a.storedCode().String() == before {
			t.Error("the code is the same after the adoption")
		}
		u.state(func(u *adopter) {
			if u.confirmed != 3 || u.words[a.id()].Confirmed != d.Trust.Word || len(u.words[a.id()].Pending) > 0 {
				t.Errorf("confirmed %d times, words %+v, the domain has %q", u.confirmed, u.words, d.Trust.Word)
			}
			u.window, u.questions = false, nil
		})
		a.stop()
		u.forget()
		a = h.agent(a.dir, withKey)
		time.Sleep(2 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("not joined after a restart")
		}
		u.state(func(u *adopter) {
			if len(u.questions) > 0 {
				t.Error("it asks again")
			}
		})
	})
}

// A hub that is not open, or a domain that is not, adopts nobody: it waits, is announced,
// and never requests a join.
func TestWaitsForAdoption(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting(hubAddr, "d1", 0)
		u.adopts.window = true
		u.answer = func(topics.HubRequest) (topics.Reply, bool) {
			t.Error("it requests a join before it was adopted")
			return topics.Reply{}, false
		}
		a := h.agent(t.TempDir(), withKey)
		time.Sleep(time.Minute)
		if len(h.announces()) != 1 {
			t.Error("it is not announced")
		}
		u.state(func(u *adopter) {
			if n := len(u.questions); n < 10 || n > 14 {
				t.Errorf("asked %d times in a minute", n)
			}
			if q := u.questions[0]; q.ID != a.id() || q.Name != "pi" || q.Open || q.Token != nil || q.Address != "192.0.2.7" || q.Stranger != "" {
				t.Errorf("asked %+v", q)
			}
		})
		if h.log.count(a.storedCode().String()) != 1 {
			t.Error("the code is not in the log, once")
		}
	})
}

// The person has typed a wrong code, and then the right one.
func TestAdoptedByCode(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting(hubAddr, "d1", 0)
		screen := filepath.Join(t.TempDir(), "issue.d", "dominion.issue")
		a := h.agent(t.TempDir(), withKey, func(o *Options) { o.IssueFile = screen })
		time.Sleep(10 * time.Second)
		code := a.storedCode()
		if text, err := os.ReadFile(screen); err != nil || !strings.Contains(string(text), "dominionctl adopt pi "+code.String()) {
			t.Errorf("the login screen shows %q, %v", text, err)
		}
		u.state(func(u *adopter) { u.code = adoption.NewCode() })
		time.Sleep(30 * time.Second)
		u.state(func(u *adopter) {
			if u.questions[len(u.questions)-1].Refused == nil {
				t.Error("the hub does not learn that the code was wrong")
			}
			u.code = code
		})
		if len(u.of(topics.DomainHeartbeat)) != 0 || a.trust().Adopted() {
			t.Fatal("adopted by a wrong code")
		}
		time.Sleep(2 * time.Minute)
		if len(u.of(topics.DomainHeartbeat)) == 0 || a.trust().Trust.Dominion != "d1" {
			t.Error("not adopted by the code")
		}
		if _, err := os.Stat(screen); !os.IsNotExist(err) {
			t.Errorf("the login screen after the adoption: %v", err)
		}
	})
}

// A token in a file lets the domain join, wherever the file is; one of those for the
// first start is removed, the one of the configuration stays.
func TestAdoptedByTokenFile(t *testing.T) {
	for _, once := range []bool{false, true} {
		inTestNetwork(t, func(h *testNetwork) {
			u := h.adopting("192.0.2.5:1883", "d1", 0)
			file := filepath.Join(t.TempDir(), "dominion-token")
			a := h.agent(t.TempDir(), byZeroconf, withKey, func(o *Options) {
				if once {
					o.TokenFiles, o.OnceFiles = []string{file}, []string{file}
				} else {
					o.Config.TokenFile = file
				}
			})
			time.Sleep(10 * time.Second)
			if err := adoption.WriteTokenFile(file, u.adopts.makeToken("192.0.2.5:1883")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			if len(u.of(topics.DomainHeartbeat)) == 0 {
				t.Fatal("not joined by the address of the token")
			}
			if _, err := os.Stat(file); os.IsNotExist(err) != once {
				t.Errorf("once %v: the token after its use: %v", once, err)
			}
			a.stop()
		})
	}
}

// Two dominions are open: the domain waits and names both. When one closes it joins the
// other.
func TestTwoOpenDominions(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u, v := h.adopting(hubAddr, "d1", 0), h.adopting("192.0.2.2:1883", "d2", 0)
		u.adopts.window, v.adopts.window = true, true
		h.finds(found("d1", "home", "192.0.2.1"), found("d2", "villa", "192.0.2.2"))
		a := h.agent(t.TempDir(), byZeroconf, open)
		time.Sleep(time.Minute)
		if a.trust().Adopted() {
			t.Fatal("one of two was chosen")
		}
		if text := h.log.String(); !strings.Contains(text, "(d1)") || !strings.Contains(text, "(d2)") {
			t.Error("the log does not name both")
		}
		v.state(func(v *adopter) { v.window = false })
		time.Sleep(time.Minute)
		if len(u.of(topics.DomainHeartbeat)) == 0 || a.trust().Trust.Dominion != "d1" {
			t.Error("the only one that is open was not joined")
		}
	})
}

// What configuration says where to look is not whom to obey, and not to be adopted by
// another name.
func TestAdoptedByTheNamedDominionAlone(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting(hubAddr, "d1", 0)
		u.adopts.window = true
		a := h.agent(t.TempDir(), open, func(o *Options) { o.Config.Dominion = "villa" })
		time.Sleep(time.Minute)
		if a.trust().Adopted() || h.log.count(`wants \"villa\"`) != 1 {
			t.Error("adopted by a dominion of another name, or the log does not say why not")
		}
	})
}

// Messages are lost, and the agent is killed, at each step: then both know each other, or
// the domain waits again.
func TestLostMessagesOfAnAdoption(t *testing.T) {
	for _, lost := range []string{"completion", "confirmation"} {
		inTestNetwork(t, func(h *testNetwork) {
			u := h.adopting(hubAddr, "d1", 0)
			u.adopts.window, u.adopts.lose = true, lost
			u.answer = func(topics.HubRequest) (topics.Reply, bool) { return topics.Reply{}, false }
			a := h.agent(t.TempDir(), open)
			time.Sleep(10 * time.Second)
			a.stop()
			if adopted := a.trust().Adopted(); adopted != (lost == "confirmation") {
				t.Errorf("%s is lost: adopted %v", lost, adopted)
			}
			u.state(func(v *adopter) { v.lose, u.answer = "", v.join })
			h.agent(a.dir, open)
			time.Sleep(time.Minute)
			if len(u.of(topics.DomainHeartbeat)) == 0 {
				t.Errorf("%s was lost: not joined after a restart", lost)
			}
		})
	}
}

// An adopted domain that does not hear its hub asks others as a stranger, and an open one
// does not get it: a code does. What runs runs on.
func TestStranger(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting(hubAddr, "d1", 0)
		u.adopts.window = true
		a := h.agent(t.TempDir(), byZeroconf, open)
		h.finds(found("d1", "home", "192.0.2.1"))
		time.Sleep(20 * time.Second)
		u.publishCertificate()
		u.domain(topics.DomainServicesSet, string(u.signer().start(5, 1, "web")))
		v := h.adopting("192.0.2.2:1883", "d2", 0)
		v.adopts.window = true
		h.finds(found("d1", "home", "192.0.2.1"), found("d2", "villa", "192.0.2.2"))
		time.Sleep(30 * time.Second)
		v.state(func(v *adopter) {
			if len(v.questions) > 0 {
				t.Error("it asks another dominion while it hears its own")
			}
		})
		u.gone()
		time.Sleep(time.Minute)
		v.state(func(v *adopter) {
			if len(v.questions) == 0 || v.questions[0].Stranger != "home" || v.questions[0].Open {
				t.Fatalf("asked %+v", v.questions)
			}
			v.code = a.storedCode()
		})
		if a.trust().Trust.Dominion != "d1" {
			t.Error("an open dominion got it")
		}
		time.Sleep(30 * time.Second)
		if len(v.of(topics.DomainHeartbeat)) == 0 || a.trust().Trust.Dominion != "d2" || a.runner.living() != 1 {
			t.Errorf("not moved by the code: %s, %d services run", a.trust().Trust.Dominion, a.runner.living())
		}
	})
}

// A hub that was restored from a backup does not know a domain that it adopted later: that asks it, and
// no other dominion, by its certificate, and goes on running what it runs. Once a person takes it
// back it joins.
func TestAsksItsRestoredHub(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting(hubAddr, "d1", 0)
		u.adopts.window = true
		a := h.agent(t.TempDir(), byZeroconf, open)
		h.finds(found("d1", "home", "192.0.2.1"))
		time.Sleep(20 * time.Second)
		u.publishCertificate()
		u.domain(topics.DomainServicesSet, string(u.signer().start(5, 1, "web")))
		time.Sleep(5 * time.Second)
		v := h.adopting("192.0.2.2:1883", "d2", 0)
		v.adopts.window = true
		h.finds(found("d1", "home", "192.0.2.1"), found("d2", "villa", "192.0.2.2"))
		u.state(func(a *adopter) {
			a.questions, a.restored, a.window = nil, true, false
			clear(a.offers)
		})
		known := u.adopts
		u.gone()
		u = h.hub(hubAddr, "d1", 6)
		known.send = func(hash string, m adoption.ToDomain) {
			_, topic := adoption.Topics(u.tree, hash)
			u.Publish(topics.Message{Topic: topic, Payload: topics.Encode(m), QoS: 1})
		}
		u.mu.Lock()
		u.adopts, u.answer = known, known.join
		u.mu.Unlock()
		time.Sleep(10 * time.Second)
		u.state(func(k *adopter) {
			if len(k.questions) == 0 || len(k.questions[0].Certificate) != 1 || k.questions[0].Open {
				t.Errorf("asked %d times: %+v", len(k.questions), k.questions)
			}
			k.certificate = true
		})
		v.state(func(v *adopter) {
			if len(v.questions) > 0 {
				t.Error("it asks another dominion, although its own answers")
			}
		})
		u.forget()
		time.Sleep(20 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 || a.trust().Trust.Dominion != "d1" || a.runner.starts() != "web" || a.runner.living() != 1 {
			t.Errorf("not taken back, or disturbed: %q", a.runner.starts())
		}
	})
}

// The hub of home comes back while its domain asks others: it joins it, and asks no more.
func TestNoStrangerAnyMore(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting(hubAddr, "d1", 0)
		u.adopts.window = true
		a := h.agent(t.TempDir(), open)
		time.Sleep(20 * time.Second)
		known := u.adopts
		u.gone()
		time.Sleep(time.Minute)
		u = h.hub(hubAddr, "d1", 6)
		u.mu.Lock()
		u.adopts, u.answer = known, known.join
		known.window, known.questions = false, nil
		u.mu.Unlock()
		time.Sleep(time.Minute)
		u.state(func(v *adopter) {
			if n := len(v.questions); n > 1 || len(u.received) == 0 {
				t.Errorf("it asks %d times although it has joined", n)
			}
		})
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("not joined again")
		}
		a.stop()
	})
}

// A data_dir of before there were keys: the domain gets a key, and joins as it did.
func TestJoinsAsBefore(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		a.stop()
		u.forget()
		a = h.agent(a.dir, withKey)
		time.Sleep(time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 || a.trust().Adopted() {
			t.Error("not joined as before")
		}
	})
}

// Another dominion at the address of home, with its id: it is not obeyed by a domain that
// was adopted with TLS, nor is home without TLS.
func TestVerifiesItsHub(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting("192.0.2.1:8883", "d1", 0)
		u.encrypt()
		u.adopts.window = true
		a := h.agent(t.TempDir(), open, func(o *Options) { o.Config.Hub = "192.0.2.1" })
		time.Sleep(20 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Fatal("not joined with TLS")
		}
		known := u.adopts
		u.gone()
		time.Sleep(time.Second)

		impostor := h.adopting("192.0.2.1:8883", "d1", 0)
		impostor.encrypt()
		var joins atomic.Int32
		impostor.mu.Lock()
		impostor.answer = func(r topics.HubRequest) (topics.Reply, bool) { joins.Add(1); return topics.Reply{}, false }
		impostor.mu.Unlock()
		time.Sleep(time.Minute)
		if joins.Load() > 0 {
			t.Error("it requests the join of a hub of another authority")
		}
		impostor.gone()

		u = h.hub("192.0.2.1:8883", "d1", 6)
		u.mu.Lock()
		u.adopts, u.answer = known, known.join
		u.mu.Unlock()
		var mu sync.Mutex
		var certificates []string
		u.encrypt(func(c *tls.Config) {
			c.VerifyConnection = func(s tls.ConnectionState) error {
				name := ""
				if len(s.PeerCertificates) > 0 {
					name = s.PeerCertificates[0].URIs[0].Opaque
				}
				mu.Lock()
				defer mu.Unlock()
				certificates = append(certificates, name)
				return nil
			}
		})
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(u.of(topics.DomainHeartbeat)) == 0 || !slices.Contains(certificates, "d1:domain:"+a.id()) {
			t.Errorf("not joined with its certificate: %q", certificates)
		}
	})
}

// Whoever announces home without TLS does not get a domain that was adopted with TLS.
func TestNoDowngrade(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting("192.0.2.1:8883", "d1", 0)
		u.encrypt()
		u.adopts.window = true
		secure := found("d1", "home", "192.0.2.1")
		secure.Port, secure.Text["tls"] = 8883, "1"
		h.finds(secure)
		h.agent(t.TempDir(), byZeroconf, open)
		time.Sleep(30 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Fatal("not joined with TLS")
		}
		known := u.adopts
		u.gone()
		h.finds(found("d1", "home", "192.0.2.1"))
		plain := h.hub(hubAddr, "d1", 6)
		joins := 0
		plain.answer = func(r topics.HubRequest) (topics.Reply, bool) { joins++; return known.join(r) }
		loopback := h.hub("127.0.0.1:1883", "d1", 6)
		loopback.answer = plain.answer
		time.Sleep(time.Minute)
		if joins > 0 {
			t.Error("it joins without TLS")
		}
	})
}

// A certificate is renewed after two thirds of its lifetime, while the connection stays.
func TestRenewsItsCertificate(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting(hubAddr, "d1", time.Minute)
		u.adopts.window = true
		a := h.agent(t.TempDir(), open)
		time.Sleep(20 * time.Second)
		first := a.trust().Chain[0]
		u.forget()
		time.Sleep(10 * time.Minute)
		last := a.trust().Chain[0]
		if time.Until(last.NotAfter) < 20*time.Second || !last.PublicKey.(*ecdsa.PublicKey).Equal(first.PublicKey) {
			t.Errorf("the certificate ends at %v, it is %v", last.NotAfter, time.Now())
		}
		if got := u.of(topics.DomainAvailability); len(got) > 0 {
			t.Errorf("the connection did not stay: %q", got)
		}
	})
}

// A domain whose key is lost or broken runs what runs, and joins nobody.
func TestBrokenKey(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting(hubAddr, "d1", 0)
		u.adopts.window = true
		a := h.agent(t.TempDir(), open)
		time.Sleep(20 * time.Second)
		u.publishCertificate()
		u.domain(topics.DomainServicesSet, string(u.signer().start(5, 1, "web")))
		time.Sleep(5 * time.Second)
		a.stop()
		keys := filepath.Join(a.dir, "data", identity.Directory)
		for _, whole := range []bool{false, true} {
			lost := filepath.Join(keys, "domain.key")
			if whole {
				lost = keys
			}
			if err := os.RemoveAll(lost); err != nil {
				t.Fatal(err)
			}
			u.forget()
			b := h.agent(a.dir, open)
			time.Sleep(30 * time.Second)
			if len(u.of(topics.DomainHeartbeat)) > 0 || b.runner.living() != 1 || h.log.count("restore identity/ from a backup") == 0 {
				t.Errorf("whole %v: joined %d times, %d services run", whole, len(u.of(topics.DomainHeartbeat)), b.runner.living())
			}
			b.stop()
		}
	})
}

// A copied disk shows an older word and is refused; the original stays.
func TestCopyIsRefused(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.adopting(hubAddr, "d1", 0)
		u.adopts.window = true
		a := h.agent(t.TempDir(), open)
		time.Sleep(20 * time.Second)
		a.stop()
		copied := t.TempDir()
		if err := os.CopyFS(filepath.Join(copied, "data"), os.DirFS(filepath.Join(a.dir, "data"))); err != nil {
			t.Fatal(err)
		}
		a = h.agent(a.dir, open)
		time.Sleep(5 * time.Second)
		a.stop()
		u.forget()
		h.agent(copied, open)
		time.Sleep(20 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) > 0 || h.log.count("it is a copy: domain reset") == 0 {
			t.Error("a copy was let in, or does not say why it is not")
		}
	})
}

// Whatever of an adoption a power cut leaves on disk, the domain belongs to whom it
// belonged before, or to the new dominion with all that is needed to join it.
func TestPowerCutsOfAnAdoption(t *testing.T) {
	for _, before := range []string{"", "d0"} { // adopted for the first time; a stranger
		dir := t.TempDir()
		o := membershipOptions{
			Config: config.Domain{Name: "pi", DataDir: dir, Adoption: config.AdoptionOpen},
			ID:     "3f2b8c1e-0000-4000-8000-000000000001", Session: "s", Log: discard(), Address: func() string { return "" },
		}
		m := mustOpen(t, o)
		if before != "" {
			adoptBy(t, m, newAdopter(t, before, 0), "mqtts://192.0.2.9:8883")
		}
		snapshot := t.TempDir()
		if err := os.CopyFS(snapshot, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		u := newAdopter(t, "d1", 0)
		word := adoptBy(t, m, u, "mqtt://192.0.2.1:1883")
		// The files in the order in which they are written.
		for i, file := range []string{homesFile, "domain.crt", "trust.json", adoption.CodeFile} {
			b, err := os.ReadFile(filepath.Join(dir, identity.Directory, file))
			if err != nil {
				t.Fatal(err)
			}
			if err := atomicfile.Write(filepath.Join(snapshot, identity.Directory, file), b, 0o600); err != nil {
				t.Fatal(err)
			}
			o.Config.DataDir = snapshot
			after := mustOpen(t, o)
			home, adopted := after.Home()
			if i < 2 { // nothing is pinned yet
				want := link.Home{}
				if before != "" {
					want = link.Home{Dominion: link.Dominion{ID: before, Name: "home"}, URL: "mqtts://192.0.2.9:8883", Encrypted: true}
				}
				if adopted != (before != "") || home != want {
					t.Errorf("before %q, after %s: %+v, %v", before, file, home, adopted)
				}
				continue
			}
			if !adopted || home.ID != "d1" || home.URL != "mqtt://192.0.2.1:1883" || home.Encrypted || after.Word() != word || !u.words[o.ID].Valid(word) {
				t.Errorf("before %q, after %s: %+v, %v", before, file, home, adopted)
			}
		}
	}
}
