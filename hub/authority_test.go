package hub_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// An admin who comes by the network may have the authority replaced, and never gets its key: that
// leaves the machine by the control socket alone. Nobody gets it who subscribes to everything.
func TestAuthorityKeyStaysOnTheMachine(t *testing.T) {
	h := startAdoptingHub(t)
	spied := make(chan topics.Message, 1000)
	spy, err := client.Connect(t.Context(), client.Options{ClientID: "spy", URL: "mqtt://" + h.plain, OnMessage: func(m topics.Message) { spied <- m }})
	if err != nil {
		t.Fatal(err)
	}
	defer spy.Close()
	if err := spy.Subscribe(t.Context(), "#"); err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if r := h.control(topics.VerbUser, topics.HubRequest{Transaction: "u", Action: "add", User: "ada", Role: "admin", Hash: string(hash)}); r.Status != topics.StatusOK {
		t.Fatal(r.Error)
	}
	answers := make(chan topics.Reply, 10)
	admin, err := client.Connect(t.Context(), client.Options{
		ClientID: "ada", User: "ada", Password: "secret",
		OnMessage: func(m topics.Message) {
			if r, err := topics.Decode[topics.Reply](m.Topic, m.Payload); err == nil {
				answers <- r
			}
		},
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", h.tls)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.Subscribe(t.Context(), "dominion/response/authority/ada"); err != nil {
		t.Fatal(err)
	}
	ask := func(r topics.HubRequest) topics.Reply {
		t.Helper()
		r.Transaction, r.Response = topics.NewID(), "dominion/response/authority/ada"
		admin.Publish(topics.Message{Topic: "dominion/request/authority", Payload: topics.Encode(r), QoS: 1})
		for {
			select {
			case a := <-answers:
				if a.Transaction == r.Transaction {
					return a
				}
			case <-t.Context().Done():
				t.Fatal("no answer")
			}
		}
	}
	view := func(r topics.Reply) (v topics.AuthorityView) {
		t.Helper()
		if r.Status != topics.StatusOK {
			t.Fatal(r.Error)
		}
		if err := json.Unmarshal(r.Data, &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	before := view(ask(topics.HubRequest{}))
	for _, r := range []topics.HubRequest{{Action: "export"}, {Action: "offline", Key: before.Key}} {
		if a := ask(r); a.Status == topics.StatusOK || !strings.Contains(a.Error, "control socket") {
			t.Errorf("%s by the network: %+v", r.Action, a)
		}
	}
	if v := view(h.control(topics.VerbAuthority, topics.HubRequest{Transaction: "a"})); v.PrivateKey != "" || v.Key != before.Key {
		t.Errorf("%+v", v)
	}
	exported := view(h.control(topics.VerbAuthority, topics.HubRequest{Transaction: "b", Action: "export"}))
	if !strings.Contains(exported.PrivateKey, "PRIVATE KEY") {
		t.Fatalf("%+v", exported)
	}
	if r := h.askControl(topics.VerbAuthority, topics.HubRequest{Transaction: "c", Action: "offline", Key: "of another one"}); r.Status == topics.StatusOK {
		t.Error("the key of an authority was removed that nobody has stored")
	}

	h.plainClient("watch", "dominion/hub/event")
	if v := view(ask(topics.HubRequest{Action: "rotate"})); v.Next == "" || v.Key != before.Key {
		t.Errorf("%+v", v)
	}
	h.event(topics.KeyRotated, "the authority was replaced") // nobody is adopted who must store it
	if v := view(ask(topics.HubRequest{})); v.Key == before.Key || v.Next != "" {
		t.Errorf("%+v", v)
	}
	if r := h.askControl(topics.VerbAuthority, topics.HubRequest{Transaction: "d", Action: "offline", Key: before.Key}); r.Status == topics.StatusOK {
		t.Error("the key of the next authority was removed by the former one's name")
	}
	key := strings.Split(exported.PrivateKey, "\n")[1]
	for range len(spied) {
		if m := <-spied; strings.Contains(string(m.Payload), key) || strings.HasPrefix(m.Topic, "dominion/request/authority") {
			t.Errorf("seen at %s: %s", m.Topic, m.Payload)
		}
	}
}

// A user's certificate goes on to count after the authority was replaced, and so does its connection. One that is
// compromised ends both at once.
func TestUsersAfterRotation(t *testing.T) {
	h := startAdoptingHub(t)
	h.control(topics.VerbUser, topics.HubRequest{Transaction: "u", Action: "add", User: "tv", Role: "device", Certificate: true})
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := identity.NewRequest(key, "tv")
	if err != nil {
		t.Fatal(err)
	}
	r := h.control(topics.VerbCertificates, topics.HubRequest{Transaction: "i", Action: "issue", User: "tv", Request: string(request)})
	var issued []topics.CertificateView
	if err := json.Unmarshal(r.Data, &issued); err != nil || len(issued) != 1 {
		t.Fatalf("%v: %s", err, r.Data)
	}
	chain, err := identity.ParseCertificates([]byte(issued[0].Certificate))
	if err != nil {
		t.Fatal(err)
	}
	connect := func() (*client.Conn, error) {
		return client.Connect(t.Context(), client.Options{
			ClientID: "tv", User: "tv",
			Dial: func(ctx context.Context) (net.Conn, error) {
				c := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{identity.TLSCertificate(key, chain)}}
				return (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", h.tls)
			},
		})
	}
	h.plainClient("watch", "dominion/hub/event")
	rotate := func(compromised bool) {
		t.Helper()
		h.control(topics.VerbAuthority, topics.HubRequest{Transaction: "r", Action: "rotate", Compromised: compromised})
		h.event(topics.KeyRotated, "the authority was replaced")
	}
	tv, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	rotate(false)
	select {
	case <-tv.Done():
		t.Fatalf("its connection ended: %v", tv.Err())
	default:
	}
	tv.Close()
	if tv, err = connect(); err != nil {
		t.Fatalf("its certificate does not count any more: %v", err)
	}
	defer tv.Close()
	rotate(true)
	<-tv.Done()
	if again, err := connect(); err == nil {
		again.Close()
		t.Error("its certificate still counts")
	}
}

// A change of the authority waits for what each domain has signed itself, over a restart of the hub. After it
// all orders are given again, signed by the hub's new key, in the same epoch.
func TestRotationWaitsForSignedAcknowledgements(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		k := o.kitchen
		view := func(payload string) (v topics.AuthorityView) {
			t.Helper()
			r := o.ask(topics.VerbAuthority, payload)
			if err := json.Unmarshal(r.Data, &v); err != nil {
				t.Fatalf("%v: %+v", err, r)
			}
			return v
		}
		before, key := view("{}"), o.keys.KeyHash()
		next := view(`{"action":"rotate"}`).Next
		if next == "" || next == before.Key {
			t.Fatalf("the next authority is %q", next)
		}
		ask := topics.HubRequest{ID: k.id, Name: "kitchen", Session: "s", Authority: next}
		former := ask
		former.Authority = before.Key
		other := newSigningDomain(t, k.id)
		other.dominion = k.key.dominion
		wait := func(name string) {
			t.Helper()
			time.Sleep(2 * time.Minute)
			if v := view("{}"); len(v.Has) != 0 || len(v.Missing) != 1 || v.Missing[0] != "kitchen" || v.Key != before.Key {
				t.Fatalf("%s: %+v", name, v)
			}
		}
		for name, forged := range map[string][]byte{
			"unsigned":              topics.Encode(ask),
			"by another key":        other.sign(topics.Request, topics.Encode(ask)),
			"signed as a status":    k.key.sign(topics.DomainStatus, topics.Encode(ask)),
			"of the present one":    k.key.sign(topics.Request, topics.Encode(former)),
			"of a domain with none": topics.Encode(topics.HubRequest{ID: o.attic.id, Name: "attic", Session: "s", Authority: next}),
		} {
			if message, answered := o.joinAs(forged); answered && name == "of the present one" {
				t.Errorf("an acknowledgement is answered: %s", message)
			}
			wait(name)
		}
		o.stop()
		o.start()
		wait("a restart")
		epoch := o.status().Epoch
		if err := k.join(); err != nil {
			t.Fatal(err)
		}
		wait("a join that does not say it")
		elsewhere := ask
		elsewhere.Session = "former"
		if _, answered := o.joinAs(k.key.sign(topics.Request, topics.Encode(elsewhere))); answered {
			t.Error("an acknowledgement of a former session is answered")
		}
		wait("one of a former session")
		orders := len(o.orders(topics.DomainServicesSet, "kitchen"))
		if message, answered := o.joinAs(k.key.sign(topics.Request, topics.Encode(ask))); answered {
			t.Errorf("an acknowledgement is answered: %s", message)
		}
		time.Sleep(5 * time.Second)
		if v := view("{}"); v.Key != next || v.Next != "" || !o.saw(topics.KeyRotated) {
			t.Fatalf("not replaced: %+v", v)
		}
		sent := o.orders(topics.DomainServicesSet, "kitchen")
		if len(sent) == orders {
			t.Fatal("nothing was ordered again")
		}
		body, err := signed.Unverified([]byte(sent[len(sent)-1]))
		if err != nil {
			t.Fatal(err)
		}
		c, err := topics.Decode[topics.StartCommand]("", body)
		if err != nil || c.Key == key || c.Key != o.keys.KeyHash() || c.Epoch != epoch || o.status().Epoch != epoch {
			t.Errorf("ordered in epoch %d (before %d) by %.8s: %v", c.Epoch, epoch, c.Key, err)
		}
	})
}
