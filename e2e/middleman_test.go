package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// middleman is somebody between applicants and the hub, with a certificate of his own and a
// dominion of his own, of the same id and name.
type middleman struct {
	*relay
	home *Home
	// forger are his own keys.
	forger adoption.HubOptions
	caFile string
}

// middleman adds him. Beside mosquitto he is whoever runs the broker, whose certificate
// domains verify.
func (h *Home) middleman(t *testing.T) *middleman {
	t.Helper()
	dir := t.TempDir()
	ca := newAuthority(t, dir, "mallory")
	upstream := h.Hub.Address() + ":8883"
	if h.external != nil {
		upstream = h.external.host.Address() + ":8883"
	}
	config := new(tls.Config)
	m := &middleman{home: h, relay: h.newRelay("mallory", upstream, config), caFile: ca.file}
	certFile, keyFile := ca.sign(dir, "server", m.Address())
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	h.must(err)
	config.Certificates = []tls.Certificate{cert}
	keys := h.openIdentity(dir, h.dominionID())
	m.forger = adoption.HubOptions{Dominion: h.dominionID(), Name: "home", Root: keys.Authority.Root, Key: keys.Key, Chain: keys.Chain}
	return m
}

// dominionID returns the id of the home's dominion.
func (h *Home) dominionID() string {
	h.t.Helper()
	var stored struct {
		ID string `json:"id"`
	}
	text, err := os.ReadFile(filepath.Join(h.Hub.Dir, "data", "hub.json"))
	h.must(err)
	h.must(json.Unmarshal(text, &stored))
	if stored.ID == "" {
		h.t.Fatalf("hub.json has no id: %s", text)
	}
	return stored.ID
}

// machine starts a machine that reaches the hub through him alone.
func (m *middleman) machine(name, rest string) (*Domain, *Process) {
	m.t.Helper()
	d := m.newMachine(name, rest)
	return d, d.startAsking()
}

// newMachine adds such a machine.
func (m *middleman) newMachine(name, rest string) *Domain {
	m.t.Helper()
	d := m.home.Domain(name)
	d.must(command("ip", "-n", d.netns, "route", "add", "blackhole", m.home.Hub.Address()+"/32"))
	if e := m.home.external; e != nil {
		d.must(command("ip", "-n", d.netns, "route", "add", "blackhole", e.host.Address()+"/32"))
	}
	d.Configure(nil, m.hubLine()+rest)
	if e := m.home.external; e != nil {
		text, err := os.ReadFile(d.file())
		d.must(err)
		d.must(os.WriteFile(d.file(), bytes.ReplaceAll(text, []byte(e.caFile), []byte(m.caFile)), 0o644))
	}
	return d
}

// traffic returns all that he was given.
func (m *middleman) traffic() []byte {
	all, _ := m.messages.from(0)
	var b bytes.Buffer
	for _, r := range all {
		b.WriteString(r.topic)
		b.Write(r.payload)
	}
	return b.Bytes()
}

// learned fails if something secret was given to him, as text or bytes in an encoding of JSON.
func (m *middleman) learned(what string, secrets ...[]byte) {
	m.t.Helper()
	all := m.traffic()
	for _, s := range secrets {
		for _, form := range []string{
			string(s), hex.EncodeToString(s), base64.StdEncoding.EncodeToString(s), base64.RawURLEncoding.EncodeToString(s),
			strings.ReplaceAll(string(s), "-", ""), strings.ToLower(string(s)),
		} {
			if bytes.Contains(all, []byte(form)) {
				m.t.Errorf("the man in the middle was shown %s", what)
			}
		}
	}
}

// question returns the question of a nonce.
func (m *middleman) question(nonce []byte) adoption.Question {
	all, _ := m.messages.from(0)
	for _, r := range all {
		if r.kind() == "question" && bytes.Equal(r.toHub.Question.Nonce, nonce) {
			return *r.toHub.Question
		}
	}
	m.t.Errorf("%s: an answer to no question", m.Name)
	return adoption.Question{}
}

// questionOf returns the last question of a machine.
func (m *middleman) questionOf(name string) (last adoption.Question) {
	all, _ := m.messages.from(0)
	for _, r := range all {
		if r.kind() == "question" && r.toHub.Question.Name == name {
			last = *r.toHub.Question
		}
	}
	return last
}

// forged returns the hub's answer with the man's own authority, hub and exchange, and the hub's
// own proof of the code.
func (m *middleman) forged(q adoption.Question, a adoption.Answer) adoption.Answer {
	m.t.Helper()
	var o *adoption.Offer
	var err error
	if a.Method == adoption.ByToken {
		o, err = m.forger.OfferByToken(q, q.Token, a.Grant, time.Now())
	} else {
		o, err = m.forger.OfferByCode(q, adoption.CodeKey(bytes.Repeat([]byte{1}, 32)), a.Grant, time.Now())
	}
	if err != nil {
		m.t.Error(err)
		return a
	}
	mine := o.Answer()
	mine.Proof = a.Proof
	return mine
}

// A man in the middle of an adoption by code, with a certificate of his own at the broker's
// address, may pass on what he gets, and nothing else: with anything of his own in the answer
// the domain proves nothing and pins nobody, and the person sees that the code did not fit.
// He sees neither the code nor its key.
func TestManInTheMiddleOfACode(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		home.adoptionHub("")
		home.startAskingHub()
		home.awaitHub()
		middle := home.middleman(t)
		middle.set(func(r *relayed) bool {
			if r.kind() != "answer" {
				return true
			}
			a := r.toDomain.Answer
			q := middle.question(a.Question)
			switch q.Name {
			case "authority":
				*a = middle.forged(q, *a)
			case "exchange":
				a.Ephemeral = middle.forged(q, *a).Ephemeral
			}
			return true
		})
		var wait sync.WaitGroup
		for _, name := range []string{"authority", "exchange"} {
			d, agent := middle.machine(name, "")
			home.awaitState(name, topics.DomainIsWaiting)
			code := d.code()
			wait.Go(func() {
				if r := home.control("adopt", name, code, "--timeout", "1m"); r.Code != 1 {
					t.Errorf("%s was replaced: adopt: %+v", name, r)
				}
				if state := home.domains()[name].State; state != topics.DomainIsWaiting {
					t.Errorf("%s was replaced: the domain is %s", name, state)
				}
			})
			agent.AwaitLog("the code is wrong")
			if d.pinned() {
				t.Errorf("%s was replaced: the domain has pinned an authority", name)
			}
		}
		middle.await(0, "answer")

		t.Log("what he passes on")
		pi, agent := middle.machine("pi", "")
		home.awaitState("pi", topics.DomainIsWaiting)
		code := pi.code()
		home.control("adopt", "pi", code, "--timeout", "5s")
		home.event(topics.DomainAdopted, "pi")
		middle.onlyTheHubIsTrusted(pi, agent)
		question := middle.questionOf("pi")
		key, err := adoption.ParseCode(code)
		home.must(err)
		middle.learned("the code or its key", []byte(code), key.Key(question.Key))
		wait.Wait()
		proved := make(map[string]bool) // a proof may be repeated
		all, _ := middle.messages.from(0)
		for _, m := range all {
			if m.kind() == "proof" {
				proved[string(m.toHub.Proof.Transcript)] = true
			}
		}
		if len(proved) != 1 {
			t.Errorf("%d answers were proved to have the code, want the one of the adoption", len(proved))
		}
	})
}

// onlyTheHubIsTrusted fails unless a domain that was adopted through him has pinned the hub's
// authority. On the embedded broker it does not talk to him any more; beside mosquitto, which
// is his, it does, and he sees what the broker's operator sees.
func (m *middleman) onlyTheHubIsTrusted(d *Domain, agent *Process) {
	m.t.Helper()
	trust, err := identity.OpenDomain(d.DataDir(), true)
	d.must(err)
	root := trust.Trust.Authority
	if !trust.Adopted() || bytes.Equal(root, m.forger.Root.Raw) {
		m.t.Fatalf("%s has pinned %x", d.Name, root)
	}
	if m.home.external != nil {
		m.home.awaitState(d.Name, topics.DomainIsOnline)
		return
	}
	before := m.messages.len()
	agent.AwaitLog("cannot verify", "certificate")
	if all, _ := m.messages.from(before); len(all) > 0 {
		m.t.Errorf("%s talks to the man in the middle: %v", d.Name, all)
	}
	d.must(command("ip", "-n", d.netns, "route", "del", "blackhole", m.home.Hub.Address()+"/32"))
	agent.Stop()
	d.Configure(nil, m.home.hubAt())
	d.startAsking()
	m.home.awaitState(d.Name, topics.DomainIsOnline)
}

// pinned reports whether a domain has pinned an authority.
func (d *Domain) pinned() bool {
	d.t.Helper()
	own, err := identity.OpenDomain(d.DataDir(), true)
	d.must(err)
	return own.Adopted()
}

// The same by a token: the domain proves nothing to a hub of another authority than the token
// names, the token stays unused, and nobody sees what is in it.
func TestManInTheMiddleOfAToken(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		home.adoptionHub("")
		home.startAskingHub()
		home.awaitHub()
		middle := home.middleman(t)
		middle.set(func(r *relayed) bool {
			if r.kind() == "answer" {
				*r.toDomain.Answer = middle.forged(middle.question(r.toDomain.Answer.Question), *r.toDomain.Answer)
			}
			return true
		})
		token := strings.TrimSpace(home.control("token", "create").Stdout)
		file := filepath.Join(t.TempDir(), "token")
		home.must(os.WriteFile(file, []byte(token+"\n"), 0o600))
		tv, agent := middle.machine("tv", fmt.Sprintf("token_file = %q\n", file))
		agent.AwaitLog("the hub is not of the authority that the token names")
		if n := middle.count(0, "proof"); n != 0 || tv.pinned() {
			t.Errorf("the domain sent %d proofs, has pinned: %v", n, tv.pinned())
		}
		if r := home.control("token", "list", "--json"); !strings.Contains(r.Stdout, `"uses_left": 1`) && !strings.Contains(r.Stdout, `"uses_left":1`) {
			t.Errorf("the token was used: %s", r.Stdout)
		}

		t.Log("he passes everything on")
		middle.set(nil)
		home.event(topics.DomainAdopted, "by token")
		middle.onlyTheHubIsTrusted(tv, agent)
		_, encoded, _ := strings.Cut(token, "_")
		content, err := base64.RawURLEncoding.DecodeString(encoded)
		home.must(err)
		const seed = 2 + 32 // behind version, use and authority
		middle.learned("the token", []byte(token), content[seed:seed+16])
	})
}
