package hub_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

const ageRecipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// adoptingHub is a hub that serves TLS with its own certificate.
type adoptingHub struct {
	t        *testing.T
	dir      string
	tls      string
	plain    string
	messages chan topics.Message
}

func startAdoptingHub(t *testing.T) *adoptingHub {
	cfg := load(t, "[broker]\nlisten = \"127.0.0.1:0\"\nlisten_tls = \"0.0.0.0:0\"\n[zeroconf]\nenabled = false\n[http]\nlisten = \"\"\nlisten_tls = \"\"\n[timing]\nsettle = \"0s\"\n")
	cfg.DataDir = t.TempDir()
	started := make(chan []broker.Listener, 1)
	s := hub.Service{Config: cfg, Log: slog.New(slog.DiscardHandler), Started: func(l []broker.Listener) { started <- l }}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	h := &adoptingHub{t: t, dir: cfg.DataDir, messages: make(chan topics.Message, 100)}
	select {
	case all := <-started:
		for _, l := range all {
			if l.Scheme == "mqtt" {
				h.plain = l.Addr.String()
			}
			if l.Scheme == "mqtts" {
				_, port, err := net.SplitHostPort(l.Addr.String())
				if err != nil {
					t.Fatal(err)
				}
				h.tls = net.JoinHostPort("127.0.0.1", port)
			}
		}
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return h
}

// connect connects by TLS; the zero configuration verifies nothing, as a machine does that is
// not adopted.
func (h *adoptingHub) connect(config *tls.Config, id string, will *topics.Message) (*client.Conn, error) {
	if config == nil {
		config = &tls.Config{InsecureSkipVerify: true}
	}
	return client.Connect(h.t.Context(), client.Options{
		ClientID: id, Will: will, OnMessage: func(m topics.Message) { h.messages <- m },
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", h.tls)
		},
	})
}

// receive returns the next message at a topic.
func (h *adoptingHub) receive(topic string) []byte {
	h.t.Helper()
	for timeout := time.After(30 * time.Second); ; {
		select {
		case m := <-h.messages:
			if m.Topic == topic {
				return m.Payload
			}
		case <-timeout:
			h.t.Fatal("nothing came at", topic)
		}
	}
}

// A machine of the hub's own is adopted over TLS by the token that the hub wrote for it, and
// joins with its certificate; without it nobody joins in its name; forgotten it is out.
func TestAdoptionOverTLS(t *testing.T) {
	h := startAdoptingHub(t)
	applicant, err := h.connect(nil, "join-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer applicant.Close()
	if err := applicant.Subscribe(t.Context(), "dominion/#"); err == nil {
		t.Error("an applicant may read everything")
	}
	if _, err := h.connect(nil, "join-2", &topics.Message{Topic: "dominion/request/join", Payload: []byte("x")}); err == nil {
		t.Error("an applicant may have a will")
	}

	d, err := identity.OpenDomain(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := d.KeyHash()
	if err != nil {
		t.Fatal(err)
	}
	a, err := adoption.NewApplicant(adoption.ApplicantOptions{Key: d.Key, Protocol: topics.Protocol, ID: "6f1c1a52-0000-4000-8000-000000000001", Name: "pi", Recipient: ageRecipient})
	if err != nil {
		t.Fatal(err)
	}
	var token adoption.Token
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if token, err = adoption.ReadTokenFile(filepath.Join(h.dir, "identity", "local-token")); err == nil {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal(err)
		}
	}
	if len(token.Addresses) != 1 || !strings.HasPrefix(token.Addresses[0], "127.0.0.1:") {
		t.Errorf("the token of this machine leads to %v", token.Addresses)
	}
	a.SetMeans(adoption.Means{Token: &token})
	answers := "dominion/response/join/" + hash
	if err := applicant.Subscribe(t.Context(), answers); err != nil {
		t.Fatal(err)
	}
	send := func(m adoption.ToHub) {
		applicant.Publish(topics.Message{Topic: "dominion/request/join", Payload: topics.Encode(m), QoS: 1})
	}
	question, err := a.Question()
	if err != nil {
		t.Fatal(err)
	}
	send(adoption.ToHub{Question: &question})
	answer, err := adoption.DecodeToDomain(answers, h.receive(answers))
	if err != nil || answer.Answer == nil {
		t.Fatalf("%+v, %v", answer, err)
	}
	proof, err := a.Answer(*answer.Answer, "hub", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	send(adoption.ToHub{Proof: proof})
	completion, err := adoption.DecodeToDomain(answers, h.receive(answers))
	if err != nil || completion.Completion == nil {
		t.Fatalf("%+v, %v", completion, err)
	}
	adopted, err := a.Complete(*completion.Completion, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	confirmation, err := a.Confirmation()
	if err != nil {
		t.Fatal(err)
	}
	send(adoption.ToHub{Confirmation: &confirmation})

	// An applicant joins in nobody's name.
	join := topics.HubRequest{Transaction: "t", ID: question.ID, Name: "pi", Session: "s", Word: adopted.Trust.Word, Protocol: topics.Protocol, Response: answers}
	applicant.Publish(topics.Message{Topic: "dominion/request/join", Payload: topics.Encode(join), QoS: 1})

	verifier, err := adopted.Trust.Verifier(nil)
	if err != nil {
		t.Fatal(err)
	}
	verified := verifier.VerifyHub(identity.TLSCertificate(d.Key, adopted.Chain), time.Now, nil)
	domain, err := h.connect(verified, "dominion-domain-"+question.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer domain.Close()
	reply := "dominion/response/join/pi"
	if err := domain.Subscribe(t.Context(), reply); err != nil {
		t.Fatal(err)
	}
	own := &signingDomain{t: t, key: d.Key, id: question.ID, dominion: adopted.Trust.Dominion}
	ask := func(r topics.HubRequest) (topics.Reply, topics.Grant) {
		t.Helper()
		r.Response, r.Session = reply, "s"
		domain.Publish(topics.Message{Topic: "dominion/request/join", Payload: own.join(r), QoS: 1})
		got, err := topics.Decode[topics.Reply](reply, h.receive(reply))
		if err != nil {
			t.Fatal(err)
		}
		var g topics.Grant
		if len(got.Data) > 0 {
			if err := json.Unmarshal(got.Data, &g); err != nil {
				t.Fatal(err)
			}
		}
		return got, g
	}
	r, grant := ask(join)
	if r.Status != topics.StatusOK || grant.Word == "" || grant.Word == join.Word {
		t.Fatalf("%+v %+v", r, grant)
	}
	domain.Publish(topics.Message{Topic: "dominion/request/join", Payload: own.join(topics.HubRequest{ID: question.ID, Name: "pi", Session: "s", Confirm: grant.Word}), QoS: 1})
	if r, _ := ask(join); r.Status == topics.StatusOK {
		t.Error("an older word joins")
	}
	h.intrude(question.ID, grant.Word, own)
	again := join
	again.Transaction, again.Word = "t2", grant.Word
	again.Certified = []string{strings.Repeat("ab", 32)}
	r, grant = ask(again)
	if r.Status != topics.StatusOK || grant.Word == "" {
		t.Errorf("after the attempts of an intruder: %+v", r)
	}
	if !grant.Renew {
		t.Error("the hub has no record of the certificate of a service, and the domain is not asked to renew it")
	}
	r, renewed := ask(topics.HubRequest{Transaction: "r", ID: question.ID, Name: "pi", Renew: true})
	chain, err := identity.ParseChain(renewed.Certificate)
	if err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := verifier.Verify(chain, time.Now(), identity.DomainUse); err != nil || !d.Key.PublicKey.Equal(chain[0].PublicKey) {
		t.Error("the renewed certificate:", err)
	}

	service, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := identity.EncodePublicKey(&service.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if !grant.CertifiesServices {
		t.Error("the grant does not say that services get certificates")
	}
	// Whatever name is asked for, it is of this domain.
	r, certified := ask(topics.HubRequest{Transaction: "c", ID: question.ID, Name: "attic", ServiceKeys: topics.KeySet{"web": public}})
	if r.Status == topics.StatusOK {
		if chain, err := identity.ParseChain(certified.ServiceCertificates["web"]); err != nil || chain[0].Subject.CommonName != "web.pi" {
			t.Errorf("%+v, %v", r, err)
		}
	}
	r, certified = ask(topics.HubRequest{Transaction: "c", ID: question.ID, Name: "pi", ServiceKeys: topics.KeySet{"web": public, "bell": []byte("x")}})
	if len(certified.ServiceCertificates) != 1 {
		t.Fatalf("%+v", r)
	}
	chain, err = identity.ParseChain(certified.ServiceCertificates["web"])
	if err != nil {
		t.Fatal(err)
	}
	if p, err := verifier.Verify(chain, time.Now(), identity.ServiceUse); err != nil || p.Subject.Name != "web.pi" {
		t.Errorf("the certificate of a service: %+v, %v", p, err)
	}
	if r, _ := ask(topics.HubRequest{Transaction: "c", ID: "0b8f1f0e-7a51-4a5c-9d4f-0f4f6b1c2d3e", Name: "pi", ServiceKeys: topics.KeySet{"web": public}}); r.Status == topics.StatusOK {
		t.Error("a domain that is not adopted gets certificates")
	}
	plain, err := client.Connect(t.Context(), client.Options{URL: "mqtt://" + h.plain, ClientID: "plain", OnMessage: func(m topics.Message) { h.messages <- m }})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := plain.Subscribe(t.Context(), "dominion/response/join/stranger"); err != nil {
		t.Fatal(err)
	}
	plain.Publish(topics.Message{Topic: "dominion/request/join", QoS: 1, Payload: topics.Encode(topics.HubRequest{
		Transaction: "p", Response: "dominion/response/join/stranger", ID: question.ID, Name: "pi", ServiceKeys: topics.KeySet{"lamp": public},
	})})
	if r, err := topics.Decode[topics.Reply]("t", h.receive("dominion/response/join/stranger")); err != nil || r.Status == topics.StatusOK {
		t.Errorf("a client without a certificate gets those of a domain: %+v, %v", r, err)
	}
	again.Transaction, again.Word, again.Certified = "t3", grant.Word, []string{identity.HashEncodedKey(public)}
	if r, g := ask(again); r.Status != topics.StatusOK || g.Renew {
		t.Errorf("the domain is asked to renew a certificate that is recorded: %+v, %+v", r, g)
	}
	ofService := identity.TLSCertificate(service, chain)
	web, err := h.connect(verifier.VerifyHub(ofService, time.Now, nil), "web", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()

	h.control(topics.VerbForget, topics.HubRequest{Transaction: "f", Domain: "pi"})
	select {
	case <-domain.Done():
	case <-time.After(30 * time.Second):
		t.Error("a forgotten domain stays connected")
	}
	if c, err := h.connect(verified, "dominion-domain-"+question.ID, nil); err == nil {
		c.Close()
		t.Error("the certificate of a forgotten domain is accepted")
	}
	select {
	case <-web.Done():
	case <-time.After(30 * time.Second):
		t.Error("a service of a forgotten domain stays connected")
	}
	if c, err := h.connect(verifier.VerifyHub(ofService, time.Now, nil), "web", nil); err == nil {
		c.Close()
		t.Error("the certificate of a service of a forgotten domain is accepted")
	}
}

// intrude is what a program of the hub's machine can try in the name of an adopted domain: it is an
// admin at the plain listener, and reads there what the domain and the hub say to each other.
func (h *adoptingHub) intrude(id, word string, domain *signingDomain) {
	h.t.Helper()
	const reply = "dominion/response/join/intruder"
	c := h.plainClient("intruder", reply)
	other := newSigningDomain(h.t, id)
	other.dominion = domain.dominion
	former := *domain
	former.number = 0
	for name, ask := range map[string][]byte{
		"unsigned":            topics.Encode(topics.HubRequest{Transaction: "i", ID: id, Name: "pi", Session: "mine", Word: word, Response: reply}),
		"confirmed":           topics.Encode(topics.HubRequest{Transaction: "i", ID: id, Name: "pi", Session: "mine", Confirm: word, Response: reply}),
		"by a key of its own": other.join(topics.HubRequest{Transaction: "i", ID: id, Name: "pi", Session: "mine", Word: word, Response: reply}),
		"replayed":            former.join(topics.HubRequest{Transaction: "t", ID: id, Name: "pi", Session: "s", Word: word, Response: reply}),
	} {
		c.Publish(topics.Message{Topic: "dominion/request/join", Payload: ask, QoS: 1})
		if err := c.Flush(h.t.Context()); err != nil {
			h.t.Fatal(name, err)
		}
	}
	// The last answer: nothing was granted before it.
	c.Publish(topics.Message{Topic: "dominion/request/join", Payload: topics.Encode(topics.HubRequest{Transaction: "last", ID: id, Name: "pi", Session: "mine", Word: word, Response: reply}), QoS: 1})
	for {
		r, err := topics.Decode[topics.Reply](reply, h.receive(reply))
		if err != nil || r.Status == topics.StatusOK {
			h.t.Fatalf("an intruder is answered %+v, %v", r, err)
		}
		if r.Transaction == "last" {
			return
		}
	}
}

// control sends a private request through the control socket.
func (h *adoptingHub) control(verb string, ask topics.HubRequest) topics.Reply {
	h.t.Helper()
	r := h.askControl(verb, ask)
	if r.Status != topics.StatusOK {
		h.t.Errorf("%s: %+v", verb, r)
	}
	return r
}

// askControl makes a request at the control socket, which may be refused.
func (h *adoptingHub) askControl(verb string, ask topics.HubRequest) topics.Reply {
	h.t.Helper()
	answers := make(chan topics.Message, 10)
	c, err := client.Connect(h.t.Context(), client.Options{
		ClientID: "ctl", OnMessage: func(m topics.Message) { answers <- m },
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(h.dir, "control"))
		},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Subscribe(h.t.Context(), "dominion/response/"+verb); err != nil {
		h.t.Fatal(err)
	}
	c.Publish(topics.Message{Topic: "dominion/request/" + verb, Payload: topics.Encode(ask), QoS: 1})
	select {
	case m := <-answers:
		r, err := topics.Decode[topics.Reply](m.Topic, m.Payload)
		if err != nil {
			h.t.Errorf("%s: %v", verb, err)
		}
		return r
	case <-time.After(30 * time.Second):
		h.t.Fatal("no answer to", verb)
	}
	return topics.Reply{}
}
