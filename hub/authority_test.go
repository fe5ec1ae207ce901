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
