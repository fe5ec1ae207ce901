package hub_test

import (
	"crypto/ecdsa"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// orderedHome is a home whose domain kitchen has a key, and whose domain attic has none.
type orderedHome struct {
	*home
	kitchen, attic *agent
	// hub is the key of the hub as a domain verifies it.
	hub  identity.Peer
	keys *keys.Keys
	// hubKey is the key itself.
	hubKey *ecdsa.PrivateKey
	// sent are the payloads at the topics of orders, in their order.
	sent map[string][]string
}

const orderedConfig = `
[services.web]
priority = "required"
replicas = 2
`

func inOrderedHome(t *testing.T, test func(*orderedHome)) {
	inHome(t, orderedConfig, func(h *home) {
		h.stop()
		o := &orderedHome{home: h, kitchen: h.agent("kitchen", nil, "web"), attic: h.agent("attic", nil, "web"), sent: make(map[string][]string)}
		o.kitchen.word, o.kitchen.key = "w1", newSigningDomain(t, o.kitchen.id)
		h.setup = func(state *store.Store, options *hub.Options) {
			o.kitchen.key.dominion = state.ID()
			if len(state.Adoption().Members) == 0 {
				state.Change(func(s *store.State) {
					s.Domains["attic"] = store.Domain{ID: o.attic.id, Lost: true} // of before there were keys
					s.Adoption.Members = map[string]adoption.Member{o.kitchen.id: o.kitchen.key.member("kitchen", "w1")}
				})
			}
			o.keys = openKeys(t, h.dataDir, state)
			options.Keys = o.keys
			_ = options.Keys.With(func(own *identity.Hub) error {
				o.hubKey = own.Key
				return nil
			})
			verifier := identity.Verifier{Dominion: state.ID()}
			verifier.Roots = append(verifier.Roots, options.Keys.Authority())
			var err error
			if o.hub, err = verifier.VerifyPublished(options.Keys.Published(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		h.answered = func(m topics.Message) {
			if a, is := h.tree.Parse(m.Topic); is && (a.Kind == topics.DomainCommand || a.Kind == topics.DomainServicesSet || a.Kind == topics.DomainDrainSet) {
				o.sent[m.Topic] = append(o.sent[m.Topic], string(m.Payload))
			}
		}
		h.start()
		for _, a := range []*agent{o.kitchen, o.attic} {
			if err := a.join(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		test(o)
	})
}

// orders returns what was published for a domain.
func (o *orderedHome) orders(k topics.Kind, domain string) []string {
	o.last("") // waits
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent[o.tree.Domain(k, domain)]
}

// verified returns an order to kitchen as the domain verifies it.
func verified[T any](o *orderedHome, k topics.Kind, message string) (v T) {
	o.Helper()
	payload, err := signed.Verify(o.hub.Key, signed.Context{Kind: k.SignedKind(), Dominion: o.home.hub.ID(), Domain: o.kitchen.id}, []byte(message))
	if err == nil {
		err = signed.CheckNames[T](payload)
	}
	if err == nil {
		v, err = topics.Decode[T]("", payload)
	}
	if err != nil {
		o.Errorf("%v: %s", err, message)
	}
	return v
}

// A domain that has a key is given signed start commands, which name the hub's key; another
// one is given them as before.
func TestStartCommandsAreSigned(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		all := o.orders(topics.DomainServicesSet, "kitchen")
		if len(all) == 0 {
			t.Fatal("nothing was ordered")
		}
		for _, m := range all {
			if c := verified[topics.StartCommand](o, topics.DomainServicesSet, m); c.Key != o.hub.KeyHash || c.Dominion != o.home.hub.ID() || c.Domain != o.kitchen.id {
				t.Errorf("ordered %+v", c)
			}
		}
		for _, m := range o.orders(topics.DomainServicesSet, "attic") {
			if signed.IsSigned([]byte(m)) || strings.Contains(m, `"key"`) {
				t.Errorf("attic has no key: %s", m)
			}
		}
		// A broker that has forgotten all is given the same bytes.
		before := all[len(all)-1]
		o.home.hub.Disconnected()
		o.home.hub.Connected()
		if again := o.orders(topics.DomainServicesSet, "kitchen"); len(again) != len(all)+1 || again[len(again)-1] != before {
			t.Errorf("published again: %q", again[len(all):])
		}
	})
}

// Commands to a domain that has a key are signed, name the run of its agent, and count up.
func TestCommandsAreSigned(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		var last uint64
		expect := func(domain, action string, do func()) {
			t.Helper()
			before := len(o.orders(topics.DomainCommand, domain))
			do()
			all := o.orders(topics.DomainCommand, domain)[before:]
			if len(all) != 1 {
				t.Fatalf("%s: %d commands %q", action, len(all), all)
			}
			var c topics.Command
			if domain == "kitchen" {
				c = verified[topics.Command](o, topics.DomainCommand, all[0])
				if c.Number <= last || c.Session != "s" || c.Key != o.hub.KeyHash {
					t.Errorf("%s: %+v after number %d", action, c, last)
				}
				last = c.Number
			} else if c, _ = topics.Decode[topics.Command]("", []byte(all[0])); signed.IsSigned([]byte(all[0])) || c.Number != 0 || c.Key != "" {
				t.Errorf("%s to a domain without a key: %s", action, all[0])
			}
			if c.Action != action {
				t.Errorf("action %q, want %q", c.Action, action)
			}
		}
		ask := func(verb, domain string) func() {
			return func() {
				t.Helper()
				if r := o.ask(verb, fmt.Sprintf(`{"domain":%q,"service":"web"}`, domain)); r.Status != topics.StatusOK {
					t.Errorf("%s: %s", verb, r.Error)
				}
			}
		}
		set := func(domain, word string) func() {
			return func() { o.publish(o.tree.Domain(topics.DomainDrainSet, domain), word, false) }
		}
		expect("kitchen", topics.ActionRestart, ask(topics.VerbRestart, "kitchen"))
		expect("kitchen", topics.ActionDrain, ask(topics.VerbDrain, "kitchen"))
		expect("kitchen", topics.ActionUndrain, ask(topics.VerbUndrain, "kitchen"))
		expect("kitchen", topics.ActionDrain, set("kitchen", "ON\n"))
		expect("kitchen", topics.ActionUndrain, set("kitchen", "OFF"))
		expect("kitchen", topics.ActionResync, ask(topics.VerbResync, "kitchen"))
		expect("attic", topics.ActionResync, ask(topics.VerbResync, "attic"))
		before := len(o.orders(topics.DomainCommand, "kitchen"))
		set("kitchen", "perhaps")()
		if all := o.orders(topics.DomainCommand, "kitchen"); len(all) != before || !o.saw(topics.MessageRefused) {
			t.Errorf("a word that is neither: %q", all[before:])
		}
		// A domain without a key reads drain/set itself.
		before = len(o.orders(topics.DomainCommand, "attic"))
		set("attic", "ON")()
		ask(topics.VerbDrain, "attic")()
		if all := o.orders(topics.DomainCommand, "attic"); len(all) != before || len(o.orders(topics.DomainDrainSet, "attic")) != 2 {
			t.Errorf("attic was commanded %q", all[before:])
		}
	})
}

// Who asks the hub for a log gets the answer of the domain, and nobody else's.
func TestLogsAreAskedOfTheHub(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		request, response := o.tree.Request(topics.VerbLogs)
		o.publish(request, `{"transaction":"mine","domain":"kitchen","service":"web","lines":7,"follow":60}`, false)
		all := o.orders(topics.DomainCommand, "kitchen")
		c := verified[topics.Command](o, topics.DomainCommand, all[len(all)-1])
		if c.Action != topics.ActionLogs || c.Service != "web" || c.Lines != 7 || c.Follow.Duration() != time.Minute || c.Transaction == "mine" {
			t.Errorf("asked %+v", c)
		}
		answer := func(domain, line string) {
			reply := topics.Accept(c.Transaction, topics.LogLines{Lines: []topics.LogLine{{Stream: "stdout", Line: line}}})
			payload := topics.Encode(reply)
			if domain == "kitchen" {
				o.publish(o.tree.Domain(topics.DomainResponse, domain), string(payload), false) // not signed
				if line != "again" && o.last(response) != "" {
					t.Error("a forged answer is passed on")
				}
				payload = o.kitchen.key.sign(topics.DomainResponse, payload)
			}
			o.publish(o.tree.Domain(topics.DomainResponse, domain), string(payload), false)
		}
		answer("attic", "forged")
		if got := o.last(response); got != "" {
			t.Errorf("another domain answered: %s", got)
		}
		answer("kitchen", "hello")
		answer("kitchen", "again")
		r := get[topics.Reply](o.home, response)
		if lines, err := topics.Decode[topics.LogLines]("", r.Data); err != nil || r.Transaction != "mine" || len(lines.Lines) != 1 || lines.Lines[0].Line != "hello" {
			t.Errorf("%+v, %v", r, err)
		}
		o.refuses(topics.VerbLogs, map[string]string{
			`{"service":"web"}`:                  `needs "domain"`,
			`{"domain":"kitchen"}`:               `needs "service"`,
			`{"domain":"barn","service":"web"}`:  "there is no domain",
			`{"domain":"../x","service":"web"}`:  "domain",
			`{"domain":"kitchen","service":"W"}`: "service",
		})
		// A refusal of the domain is passed on.
		o.publish(request, `{"transaction":"t2","domain":"attic","service":"web"}`, false)
		all = o.orders(topics.DomainCommand, "attic")
		c, _ = topics.Decode[topics.Command]("", []byte(all[len(all)-1]))
		o.publish(o.tree.Domain(topics.DomainResponse, "attic"), string(topics.Encode(topics.Reply{Transaction: c.Transaction, Status: topics.StatusError, Error: "there is no log"})), false)
		if r := get[topics.Reply](o.home, response); r.Transaction != "t2" || r.Error != "there is no log" {
			t.Errorf("%+v", r)
		}
	})
}

// A domain that has a key can verify its hub's orders, whoever writes to the topics that are
// retained for that: its grant has the hub's certificate, and the topics are published
// again. A domain without a key is granted what it was before.
func TestTheHubsCertificateReachesADomain(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		published := topics.Encode(o.keys.Published())
		for a, want := range map[*agent]string{o.kitchen: string(published), o.attic: ""} {
			message, _ := o.joinAs(a.key.join(topics.HubRequest{Transaction: "t", ID: a.id, Name: a.name, Session: "s", Word: a.word}))
			r, _ := topics.Decode[topics.Reply]("", []byte(message))
			g, err := topics.Decode[topics.Grant]("", r.Data)
			got := ""
			if g.Hub != nil {
				got = string(topics.Encode(g.Hub))
			}
			if err != nil || got != want {
				t.Errorf("%s is granted %q, %v; want %q", a.name, got, err, want)
			}
		}
		for _, topic := range []string{o.tree.Hub(topics.HubCertificate), o.tree.Hub(topics.HubKeys)} {
			for _, foreign := range []string{"", "{}"} {
				was := o.last(topic)
				o.publish(topic, foreign, true)
				time.Sleep(20 * time.Second)
				if got := o.last(topic); got != was || was == "" {
					t.Errorf("%s stays %q, not %q", topic, got, was)
				}
			}
		}
	})
}
