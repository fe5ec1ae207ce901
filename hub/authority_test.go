package hub_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/identity"
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
