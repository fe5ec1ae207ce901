package broker_test

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// privateHome is a broker with a control socket, a TLS listener and users, and a handler
// of private requests that answers each with a secret.
type privateHome struct {
	*testing.T
	broker  *broker.Broker
	at      map[string]string
	control string
	caFile  string

	mu       sync.Mutex
	requests []topics.Message
	refusals []broker.PrivateRefusal
}

func newPrivateHome(t *testing.T) *privateHome {
	hash := hashOf(t, "x")
	certFile, keyFile := certificate(t)
	h := &privateHome{T: t, control: filepath.Join(t.TempDir(), "control"), caFile: certFile}
	h.broker, h.at = listen(t, broker.Config{
		Listen: "127.0.0.1:0", ListenTLS: "127.0.0.1:0", CertFile: certFile, KeyFile: keyFile, DataDir: t.TempDir(),
		Users: []broker.User{{Name: "ada", PasswordHash: hash, Role: broker.RoleAdmin}, {Name: "pi", PasswordHash: hash, Role: broker.RoleDomain}},
	})
	if err := h.broker.ListenControl(h.control); err != nil {
		t.Fatal(err)
	}
	h.broker.HandlePrivate(func(m topics.Message, answer func(topics.Message)) {
		h.mu.Lock()
		h.requests = append(h.requests, m)
		h.mu.Unlock()
		go answer(topics.Message{Topic: "dominion/response/user", Payload: topics.Encode(topics.Accept(topics.TransactionOf(m.Payload), "secret answer")), QoS: 1, Retain: true})
	})
	h.broker.HandlePrivateRefusals(func(r broker.PrivateRefusal) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.refusals = append(h.refusals, r)
	})
	return h
}

// connect connects a client by a listener: mqtt, mqtts or control.
func (h *privateHome) connect(by string, o client.Options) *client.Conn {
	h.Helper()
	switch by {
	case "control":
		o.URL, o.Dial = "mqtt://localhost", h.dialControl
	case "mqtts":
		o.URL, o.CAFile = h.at["mqtts"], h.caFile
	default:
		o.URL = h.at["mqtt"]
	}
	if o.User != "" {
		o.Password = "x"
	}
	c, err := client.Connect(h.Context(), o)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(c.Close)
	return c
}

// dialControl connects to the control socket.
func (h *privateHome) dialControl(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", h.control)
}

// ask sends the request user and returns its answer.
func (h *privateHome) ask(by, user string) topics.Reply {
	h.Helper()
	replies := make(chan topics.Reply, 8)
	c := h.connect(by, client.Options{ClientID: by + user, User: user, OnMessage: func(m topics.Message) {
		var r topics.Reply
		if json.Unmarshal(m.Payload, &r) == nil {
			replies <- r
		}
	}})
	if err := c.Subscribe(h.Context(), "dominion/response/user"); err != nil {
		h.Fatal(err)
	}
	c.Publish(topics.Message{Topic: "dominion/request/user", Payload: []byte(`{"transaction":"t1","action":"list","password_hash":"secret question"}`), QoS: 1, Retain: true})
	select {
	case r := <-replies:
		return r
	case <-time.After(10 * time.Second):
		h.Fatalf("%s as %q: no answer", by, user)
		return topics.Reply{}
	}
}

// A private request is taken from the control socket, and from an admin who is known
// and encrypted; the refusal names the remedy.
func TestPrivateRequest(t *testing.T) {
	h := newPrivateHome(t)
	for _, tt := range []struct{ by, user, refused string }{
		{"control", "", ""},
		{"mqtts", "ada", ""},
		{"mqtt", "", "dominionctl on the hub's machine"},
		{"mqtt", "ada", "dominionctl on the hub's machine"},
	} {
		r := h.ask(tt.by, tt.user)
		if tt.refused == "" && string(r.Data) != `"secret answer"` {
			t.Errorf("%s as %q: %+v", tt.by, tt.user, r)
		}
		if tt.refused != "" && (r.Status != topics.StatusError || !strings.Contains(r.Error, tt.refused)) {
			t.Errorf("%s as %q: %+v, want an error with %q", tt.by, tt.user, r, tt.refused)
		}
	}
	// A refusal for the connection is reported, once a second at most: the program that sent
	// it may read no answers.
	if len(h.refusals) < 1 || len(h.refusals) > 2 || h.refusals[0] != (broker.PrivateRefusal{Verb: "user", Client: "mqtt"}) {
		t.Errorf("reported are %+v", h.refusals)
	}
	h.refusals = nil
	for _, by := range []string{"mqtts", "control"} {
		pi := h.connect(by, client.Options{ClientID: "pi-" + by, User: "pi"})
		pi.Publish(topics.Message{Topic: "dominion/request/user", Payload: []byte(`{"action":"list"}`), QoS: 1})
		if err := pi.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := len(h.requests); n != 2 {
		t.Errorf("the hub got %d requests, want 2", n)
	}
	if len(h.refusals) > 0 {
		t.Errorf("a refusal for the role is reported as one for the connection: %+v", h.refusals)
	}
}

// Nobody else sees a private request or its answer: no subscriber, trace, program of
// the broker's process, retained message or will.
func TestPrivateRequestReachesNobodyElse(t *testing.T) {
	h := newPrivateHome(t)
	var mu sync.Mutex
	var others []string
	keep := func(m topics.Message) {
		mu.Lock()
		defer mu.Unlock()
		others = append(others, m.Topic+" "+string(m.Payload))
	}
	spy := h.connect("mqtts", client.Options{ClientID: "spy", User: "ada", OnMessage: keep})
	if err := spy.Subscribe(t.Context(), "#", "dominion/request/user", "dominion/response/user"); err != nil {
		t.Fatal(err)
	}
	if err := h.broker.Subscribe("dominion/#", keep); err != nil {
		t.Fatal(err)
	}
	if err := h.broker.Trace("dominion/#", "dominion/response/trace/all"); err != nil {
		t.Fatal(err)
	}
	if r := h.ask("control", ""); string(r.Data) != `"secret answer"` {
		t.Fatalf("%+v", r)
	}
	dying := h.connect("mqtts", client.Options{ClientID: "dying", User: "ada", Will: &topics.Message{Topic: "dominion/request/user", Payload: []byte("secret will")}})
	h.broker.Kick("dying")
	<-dying.Done()
	last := make(chan struct{})
	if err := h.broker.Subscribe("last", func(topics.Message) { close(last) }); err != nil {
		t.Fatal(err)
	}
	spy.Publish(topics.Message{Topic: "last", QoS: 1})
	<-last
	if err := h.broker.Subscribe("dominion/#", keep); err != nil { // what is retained
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	traced := false
	for _, m := range others {
		if strings.Contains(m, "secret") {
			t.Errorf("it was seen: %.200s", m)
		}
		traced = traced || strings.HasPrefix(m, "dominion/response/trace/all") && strings.Contains(m, "dominion/request/user")
	}
	if !traced {
		t.Error("the trace does not name the request")
	}
	if len(h.requests) != 1 {
		t.Errorf("the hub got %d requests, want 1", len(h.requests))
	}
}
