package hub_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// The hub answers with its own rights, which are all: whoever asks must not
// speak through it where it could not speak itself, nor as another domain.
func TestNobodySpeaksThroughTheHub(t *testing.T) {
	cfg := load(t, chain)
	cfg.DataDir = t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		policy, err := access.New("dominion", "homeassistant", []access.Rule{{
			Users: []string{"ada"}, Actions: []access.Action{access.Publish}, Topics: []string{"panel/%u/%c"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		roles := map[string]string{"ada": access.RoleReader, "pi": access.RoleDomain, "root": access.RoleAdmin}
		log := slog.New(slog.DiscardHandler)
		state, err := store.Open(cfg.DataDir, log)
		if err != nil {
			t.Fatal(err)
		}
		var bus recorder
		h := hub.New(hub.Options{Config: cfg, Version: "test", Store: state, Bus: &bus, Log: log, Broker: ownBroker{access: func(ask topics.HubRequest) (topics.Access, error) {
			role, there := roles[ask.User]
			if !there {
				return topics.Access{}, fmt.Errorf("there is no user %q", ask.User)
			}
			d := policy.Decide(access.Client{User: ask.User, ID: ask.Client, Role: role}, access.Publish, ask.Topic)
			return topics.Access{Role: role, Allowed: d.Allowed, By: d.By}, nil
		}}})
		h.Connected()
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { h.Run(ctx); close(done) }()
		defer func() { stop(); <-done }()
		for _, tt := range []struct {
			user, client, verb, at string
			there                  bool
		}{
			{"ada", "c", "plan", "panel/ada/c", true},
			{"ada", "c", "plan", "panel/ada/d", false}, // another client's
			{"ada", "c", "plan", "zigbee2mqtt/door/set", false},
			{"ada", "c", "plan", "dominion/response/plan/mine", true},
			{"ada", "c", "plan", "dominion/response/join/pi", false}, // would be an answer to another's question
			{"ada", "c", "plan", "dominion/domain/pi/services/set", false},
			{"ada", "c", "plan", "homeassistant/button/x/config", false},
			{"ada", "c", "plan", "$SYS/broker/uptime", false},
			{"pi", "c", "plan", "lamp/set", false},
			{"gone", "c", "plan", "panel/ada/c", false}, // removed meanwhile
			{"root", "c", "plan", "answers/root", true},
			{"root", "c", "plan", "dominion/domain/pi/services/set", false},
			{"", "c", "plan", "answers/here", true}, // nobody's is an admin
		} {
			synctest.Wait()
			bus.all = nil
			h.Deliver(topics.Message{
				Topic: "dominion/request/" + tt.verb, Payload: []byte(`{"transaction":"t"}`), QoS: 1,
				ResponseTopic: tt.at, User: tt.user, Client: tt.client,
			})
			synctest.Wait()
			if got := bus.answer(tt.at) != ""; got != tt.there {
				t.Errorf("%q asks for an answer at %s: given there is %v", tt.user, tt.at, got)
			}
			if !tt.there && bus.answer("dominion/response/"+tt.verb) == "" {
				t.Errorf("%q, %s: no answer at the usual topic", tt.user, tt.at)
			}
		}
		for user, in := range map[string]bool{"kitchen": false, "pi": false, "root": true, "": true} {
			synctest.Wait()
			bus.all = nil
			h.Deliver(topics.Message{Topic: "dominion/request/join", Payload: []byte(`{"transaction":"t","name":"attic","id":"x"}`), QoS: 1, User: user})
			synctest.Wait()
			if got := bus.answer("dominion/response/join"); strings.Contains(got, `"status":"ok"`) != in {
				t.Errorf("%q joins as attic: %s", user, got)
			}
		}
	})
}

// recorder is a bus that remembers.
type recorder struct{ all []topics.Message }

func (s *recorder) Publish(m topics.Message) { s.all = append(s.all, m) }

func (s *recorder) answer(topic string) string {
	for _, m := range s.all {
		if m.Topic == topic && strings.Contains(string(m.Payload), `"transaction":"t"`) {
			return string(m.Payload)
		}
	}
	return ""
}
