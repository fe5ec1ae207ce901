package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// secondHub adds a machine with a hub of its own dominion. Its Home has no further machines.
func (h *Home) secondHub(name string) *Home {
	h.t.Helper()
	n := &Home{Hub: h.Host(name), Journal: h.Journal, Broker: Embedded, t: h.t, dir: h.dir, observer: h.observer}
	n.WriteHubConfig(fmt.Sprintf("name = %q\ndata_dir = %q\n[broker]\nlisten = \"127.0.0.1:1883\"\n", name, filepath.Join(n.Hub.Dir, "data")))
	return n
}

// The neighbour's hub is open and in reach. A machine that asks joins it only if its own
// machine says that it is open and no other dominion is; a code decides; and an adopted machine
// whose hub is away does not go over.
func TestNeighboursOpenHub(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("")
	hub := home.startAskingHub()
	neighbour := home.secondHub("neighbour")
	neighbour.StartHub() // open
	home.awaitHub()
	neighbour.awaitHub()

	t.Log("a machine that is not open")
	pi := home.Domain("pi")
	pi.startAsking()
	home.awaitState("pi", topics.DomainIsWaiting)
	neighbour.awaitState("pi", topics.DomainIsWaiting)
	if r := home.control("adopt", "pi", pi.code()); r.Code != 0 {
		t.Errorf("adopt: %+v", r)
	}
	home.awaitState("pi", topics.DomainIsOnline)

	t.Log("a machine that is open, with two dominions that are")
	if r := home.control("permit-join", "10m"); r.Code != 0 {
		t.Fatalf("permit-join: %+v", r)
	}
	tv := home.Domain("tv")
	agent := tv.Start()
	agent.AwaitLog("more than one dominion in reach is open", "home (", "neighbour (")
	if tv.pinned() {
		t.Error("it has chosen one of two dominions")
	}
	if r := home.control("adopt", "tv", tv.code()); r.Code != 0 {
		t.Errorf("adopt: %+v", r)
	}
	home.awaitState("tv", topics.DomainIsOnline)

	t.Log("the hub is away, the neighbour's is not")
	hub.Stop()
	eventually(t, "tv asks the neighbour as a stranger", func() bool {
		return strings.Contains(neighbour.domains()["tv"].Problem, "it belongs to home")
	})
	if r := neighbour.control("permit-join", "10m"); r.Code != 0 { // though it is open already
		t.Logf("permit-join: %+v", r)
	}
	home.startAskingHub()
	home.awaitState("tv", topics.DomainIsOnline)
	home.awaitState("pi", topics.DomainIsOnline)
	for name, d := range neighbour.domains() {
		if d.State != topics.DomainIsWaiting {
			t.Errorf("the neighbour has %s: %s", name, d.State)
		}
	}
}

// applicant is a machine that applies by hand.
type applicant struct {
	t        *testing.T
	home     *Home
	conn     *client.Conn
	key      *ecdsa.PrivateKey
	question adoption.Question
	messages *feed[adoption.ToDomain]
}

// apply asks the hub under a name, as the holder of a token's public key where there is one.
func (h *Home) apply(t *testing.T, name string, token *adoption.Token) *applicant {
	t.Helper()
	a := &applicant{t: t, home: h, messages: newFeed[adoption.ToDomain]()}
	var err error
	a.key, err = identity.NewKey()
	h.must(err)
	machine, err := adoption.NewApplicant(adoption.ApplicantOptions{
		Key: a.key, Protocol: topics.Protocol, ID: topics.NewID(), Name: name,
		Recipient: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
	})
	h.must(err)
	machine.SetMeans(adoption.Means{Token: token})
	a.question, err = machine.Question()
	h.must(err)
	o := client.Options{
		URL: "mqtts://" + h.Hub.Address() + ":8883", TLS: &tls.Config{InsecureSkipVerify: true}, ClientID: "join-" + topics.NewID(),
		OnMessage: func(m topics.Message) {
			if v, err := adoption.DecodeToDomain(m.Topic, m.Payload); err == nil {
				a.messages.add(v)
			}
		},
	}
	if m := h.external; m != nil {
		o.URL, o.User, o.Password = "mqtts://"+m.host.Address()+":8883", "domain", m.password
	}
	o.Dial = func(context.Context) (net.Conn, error) {
		return h.observer.Dial("tcp", strings.TrimPrefix(o.URL, "mqtts://"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a.conn, err = client.Connect(ctx, o)
	h.must(err)
	t.Cleanup(a.conn.Close)
	_, answers := adoption.Topics(topics.NewTree(""), a.question.KeyHash())
	h.must(a.conn.Subscribe(ctx, answers))
	a.send(adoption.ToHub{Question: &a.question})
	return a
}

// hashed returns SHA-256 of parts, each with its length before it.
func hashed(parts ...[]byte) []byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		h.Write(p)
	}
	return h.Sum(nil)
}

// sign signs as a domain does.
func (a *applicant) sign(label string, content []byte) []byte {
	s, err := signed.SignBytes(a.key, append([]byte("dominion adopt 1 "+label), content...))
	a.home.must(err)
	return s
}

func (a *applicant) send(m adoption.ToHub) {
	m.Transaction = topics.NewID()
	topic, _ := adoption.Topics(topics.NewTree(""), "")
	a.conn.Publish(topics.Message{Topic: topic, QoS: 1, Payload: topics.Encode(m)})
}

// answer waits for the hub's answer, and returns it with the transcript of both sides.
func (a *applicant) answer() (adoption.Answer, []byte) {
	a.t.Helper()
	m, ok := a.messages.await(patience, 0, func(m adoption.ToDomain) bool { return m.Answer != nil })
	if !ok {
		a.t.Fatal("the hub does not answer")
	}
	q, v := a.question, *m.Answer
	return v, hashed([]byte(q.Protocol), []byte(q.ID), []byte(q.Name), q.Key, []byte(q.Recipient), q.Ephemeral, q.Nonce,
		[]byte(v.Dominion), v.Authority, v.Certificate[0], v.Ephemeral, v.Nonce, v.Grant)
}

// completed reports whether the hub has adopted the machine.
func (a *applicant) completed() bool {
	all, _ := a.messages.from(0)
	for _, m := range all {
		if m.Completion != nil {
			return true
		}
	}
	return false
}

// Somebody who waits under a machine's name and sends the hub its own proof back, or the proof
// of another, is not adopted: not by the code that a person typed, and not by a token of which
// he has seen the public key.
func TestReflectedProof(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		home.adoptionHub("")
		home.startAskingHub()
		home.awaitHub()
		mallory := home.apply(t, "pi", nil)
		home.awaitState("pi", topics.DomainIsWaiting)
		done := make(chan Result, 1)
		go func() { done <- home.control("adopt", "pi", "K7QF-2M9X-4T1R", "--timeout", "1m") }()
		answer, transcript := mallory.answer()
		mallory.send(adoption.ToHub{Proof: &adoption.Proof{Transcript: transcript, Proof: answer.Proof, Signature: mallory.sign("domain", transcript)}})
		if r := <-done; r.Code != 1 || !strings.Contains(r.Stderr, "wrong") {
			t.Errorf("adopt: %+v", r)
		}
		home.event(topics.AdoptionRefused, "wrong")
		mallory.send(adoption.ToHub{Proof: &adoption.Proof{Transcript: transcript, Proof: answer.Proof, Signature: answer.Signature}})

		t.Log("by a token")
		text := strings.TrimSpace(home.control("token", "create").Stdout)
		token, err := adoption.ParseToken(text)
		home.must(err)
		thief := home.apply(t, "tv", &token)
		answer, transcript = thief.answer()
		for _, signature := range [][]byte{answer.Signature, thief.sign("token", transcript), bytes.Repeat([]byte{0}, 64), nil} {
			thief.send(adoption.ToHub{Proof: &adoption.Proof{Transcript: transcript, Token: signature, Signature: thief.sign("domain", transcript)}})
		}
		home.event(topics.AdoptionRefused, "tv")
		var tokens []topics.TokenView
		home.must(json.Unmarshal([]byte(home.control("token", "list", "--json").Stdout), &tokens))
		if len(tokens) != 1 || tokens[0].UsesLeft != 1 {
			t.Errorf("the token was used: %+v", tokens)
		}
		if mallory.completed() || thief.completed() {
			t.Error("the hub has adopted one of them")
		}
		for name, d := range home.domains() {
			if d.State != topics.DomainIsWaiting {
				t.Errorf("%s is %s", name, d.State)
			}
		}
	})
}

// impersonate starts a hub with keys of its own and everything else that the dominion's hub has:
// its id, its name, the domains that it adopted and their words. It wants other services. It is
// at the hub's address, or beside it at the external broker.
func (h *Home) impersonate(services string) *Process {
	h.t.Helper()
	at := h.Hub
	if h.external != nil {
		at = h.Host("impostor")
	}
	dir := filepath.Join(at.Dir, "impostor")
	h.must(os.MkdirAll(dir, 0o700))
	var state map[string]any
	stored, err := os.ReadFile(filepath.Join(h.Hub.Dir, "data", "hub.json"))
	h.must(err)
	h.must(json.Unmarshal(stored, &state))
	state["keys"], state["epoch"] = false, 1000
	stored, err = json.Marshal(state)
	h.must(err)
	h.must(os.WriteFile(filepath.Join(dir, "hub.json"), stored, 0o600))
	text := strings.Replace(h.hubConfig(services), filepath.Join(h.Hub.Dir, "data"), dir, 1)
	file := filepath.Join(at.Dir, "impostor.toml")
	h.must(os.WriteFile(file, []byte(text), 0o644))
	return at.Start(programs.dominion, "-config", file)
}

// Another hub has the name, the id and the address of the one that is down, and keys of its
// own. An adopted domain goes on as it was: it starts and stops nothing for that hub, and obeys
// its own when that is back, whatever epochs the other one named.
func TestHubThatImpersonates(t *testing.T) {
	for name, c := range map[string]struct {
		broker Broker
		hub    string
	}{"TLS": {Embedded, "%s"}, "plain": {Embedded, "%s:1883"}, "mosquitto": {External, ""}} {
		t.Run(name, func(t *testing.T) {
			needs(t)
			t.Parallel()
			home := newHome(t, c.broker)
			kitchen := home.Domain("kitchen")
			kitchen.Install("web", "lamp")
			rest := home.hubAt()
			if c.broker == Embedded {
				rest = fmt.Sprintf("hub = %q\n", fmt.Sprintf(c.hub, home.Hub.Address()))
			}
			kitchen.Configure(nil, rest)
			wanted := service("web", `priority = "required"`) + service("lamp")
			home.Configure(wanted)
			hub, agents, o := home.Up(kitchen)
			o.Until("web runs", func(v View) bool { return v.Healthy("web", 1) })
			before, starts := home.Lives(o)
			hub.Kill()

			impostor := home.impersonate(service("lamp", `priority = "required"`) + service("web", "replicas = 0"))
			agents[0].AwaitLog("the dominion's authority")
			time.Sleep(10 * time.Second) // for it to start something, were it obeyed
			home.Journal.Undisturbed(t, "by a hub that impersonates", before, starts)
			impostor.Kill()

			home.StartHub()
			home.awaitState("kitchen", topics.DomainIsOnline)
			home.Journal.Undisturbed(t, "after its hub is back", before, starts)
			if r := home.Ctl("start", "lamp", "--wait"); r.Code != 0 {
				t.Errorf("its hub is not obeyed: %+v", r)
			}
			home.Journal.Await(t, 1, "start", "lamp")
		})
	}
}
