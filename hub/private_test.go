package hub_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// plainClient connects without encryption and without a user, as any program of the hub's
// machine can.
func (h *adoptingHub) plainClient(id string, filters ...string) *client.Conn {
	h.t.Helper()
	c, err := client.Connect(h.t.Context(), client.Options{ClientID: id, URL: "mqtt://" + h.plain, OnMessage: func(m topics.Message) { h.messages <- m }})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	if err := c.Subscribe(h.t.Context(), filters...); err != nil {
		h.t.Fatal(err)
	}
	return c
}

// event waits for an event whose message contains a text.
func (h *adoptingHub) event(of topics.EventType, text string) topics.Event {
	h.t.Helper()
	for {
		e, err := topics.Decode[topics.Event]("dominion/hub/event", h.receive("dominion/hub/event"))
		if err != nil {
			h.t.Fatal(err)
		}
		if e.Type == of && strings.Contains(e.Message, text) {
			return e
		}
	}
}

// A program of the hub's machine, such as a deployed service, is an admin at the plain listener,
// and can carry out none of the private verbs all the same.
func TestNoPrivateVerbFromPlainLoopback(t *testing.T) {
	h := startAdoptingHub(t)
	c := h.plainClient("service", "dominion/response/#")
	h.plainClient("reader", "dominion/hub/event")
	c.Publish(topics.Message{Topic: "dominion/request/" + topics.VerbToken, QoS: 1}) // for those who read no answers
	h.event(topics.MessageRefused, "is private")                                     // the first one: later ones are rate limited
	asks := map[string]topics.HubRequest{
		topics.VerbAdopt:        {Code: "K7QF-2M9X-4T1R"},
		topics.VerbPermitJoin:   {},
		topics.VerbToken:        {Action: "create"},
		topics.VerbSecret:       {Action: "set", Secret: "mqtt", Value: "x"},
		topics.VerbUser:         {Action: "add", User: "mallory", Role: "admin", Hash: "x"},
		topics.VerbCertificates: {Action: "list"},
		topics.VerbForget:       {Domain: "pi"},
	}
	private := 0
	for _, v := range topics.Verbs() {
		if !v.Private {
			continue
		}
		private++
		ask := asks[v.Name]
		ask.Transaction = "t-" + v.Name
		c.Publish(topics.Message{Topic: "dominion/request/" + v.Name, Payload: topics.Encode(ask), QoS: 1})
		topic := "dominion/response/" + v.Name
		r, err := topics.Decode[topics.Reply](topic, h.receive(topic))
		if err != nil || r.Status != topics.StatusError || !strings.Contains(r.Error, "is private") {
			t.Errorf("%s: %+v, %v", v.Name, r, err)
		}
	}
	if private < len(asks) {
		t.Errorf("%d verbs are private", private)
	}
	for verb, want := range map[string]string{topics.VerbToken: "[]", topics.VerbSecret: "[]"} {
		if r := h.control(verb, topics.HubRequest{Transaction: "c", Action: "list"}); string(r.Data) != want {
			t.Errorf("%s afterwards: %s", verb, r.Data)
		}
	}
}

// What Home Assistant does: a machine that waits is shown at hub/adoption, its code alone adopts
// it, and nobody reads the code. The switch opens the window and closes it.
func TestAdoptionByCodeAlone(t *testing.T) {
	h := startAdoptingHub(t)
	h.plainClient("home", "dominion/hub/adoption")
	spied := make(chan topics.Message, 1000)
	spy, err := client.Connect(t.Context(), client.Options{ClientID: "spy", URL: "mqtt://" + h.plain, OnMessage: func(m topics.Message) { spied <- m }})
	if err != nil {
		t.Fatal(err)
	}
	defer spy.Close()
	if err := spy.Subscribe(t.Context(), "#"); err != nil {
		t.Fatal(err)
	}
	applicant, err := h.connect(nil, "join-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer applicant.Close()
	d, err := identity.OpenDomain(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	a, err := adoption.NewApplicant(adoption.ApplicantOptions{Key: d.Key, Protocol: topics.Protocol, ID: "6f1c1a52-0000-4000-8000-000000000001", Name: "pi", Recipient: ageRecipient, Model: "Raspberry Pi 4"})
	if err != nil {
		t.Fatal(err)
	}
	code := adoption.NewCode()
	question, err := a.Question()
	if err != nil {
		t.Fatal(err)
	}
	a.SetMeans(adoption.Means{Code: code.Key(question.Key)})
	answers := "dominion/response/join/" + question.KeyHash()
	if err := applicant.Subscribe(t.Context(), answers); err != nil {
		t.Fatal(err)
	}
	send := func(m adoption.ToHub) {
		applicant.Publish(topics.Message{Topic: "dominion/request/join", Payload: topics.Encode(m), QoS: 1})
	}
	view := func(what string, reached func(topics.Adoption) bool) {
		t.Helper()
		for {
			v, err := topics.Decode[topics.Adoption]("dominion/hub/adoption", h.receive("dominion/hub/adoption"))
			if err != nil {
				t.Fatal(what, err)
			}
			if reached(v) {
				return
			}
		}
	}
	send(adoption.ToHub{Question: &question})
	view("the machine waits", func(v topics.Adoption) bool {
		return slices.ContainsFunc(v.Waiting, func(w topics.WaitingMachine) bool {
			return w.Name == "pi" && w.Address == "127.0.0.1" && w.Model == "Raspberry Pi 4" && w.Key == question.Label()
		})
	})

	opened := h.control(topics.VerbPermitJoin, topics.HubRequest{Transaction: "w", Action: "open"})
	var window topics.JoinWindow
	if err := json.Unmarshal(opened.Data, &window); err != nil || !window.Open || window.Left != 1 || time.Until(window.Until.Time) < time.Minute {
		t.Errorf("%s, %v", opened.Data, err)
	}
	view("the window is open", func(v topics.Adoption) bool { return v.Window.Open && !v.Window.Until.IsZero() })
	if r := h.control(topics.VerbPermitJoin, topics.HubRequest{Transaction: "w", Action: "close"}); !strings.Contains(string(r.Data), `"open":false`) {
		t.Errorf("%s", r.Data)
	}
	view("it is closed", func(v topics.Adoption) bool { return !v.Window.Open })

	asked := make(chan topics.Reply, 1)
	go func() {
		asked <- h.control(topics.VerbAdopt, topics.HubRequest{Transaction: "a", Code: code.String()})
	}()
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
	if _, err := a.Complete(*completion.Completion, time.Now()); err != nil {
		t.Fatal(err)
	}
	confirmation, err := a.Confirmation()
	if err != nil {
		t.Fatal(err)
	}
	send(adoption.ToHub{Confirmation: &confirmation})
	if r := <-asked; r.Status != topics.StatusOK {
		t.Errorf("%+v", r)
	}
	view("nobody waits", func(v topics.Adoption) bool { return len(v.Waiting) == 0 })
	if len(spied) < 5 {
		t.Errorf("the spy has read %d messages", len(spied))
	}
	for len(spied) > 0 {
		if m := <-spied; strings.Contains(string(m.Payload), code.String()) || m.Topic == "dominion/request/adopt" {
			t.Errorf("others read %s %s", m.Topic, m.Payload)
		}
	}
}
