package ctl

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/topics"
)

// What is secret is not sent on a connection that others can read, to a broker that is not
// the dominion's own and passes it on to every subscriber: the refusal of the hub comes too
// late.
func TestSecretsAreNotSentInTheClear(t *testing.T) {
	b, err := broker.New(broker.Config{Listen: "127.0.0.1:0", Prefix: "another"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []string
	if err := b.Subscribe("#", func(m topics.Message) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, m.Topic+" "+string(m.Payload))
	}); err != nil {
		t.Fatal(err)
	}
	s, err := new(app).open(t.Context(), "mqtt://"+b.Listeners()[0].Addr.String(), target{}, topics.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for verb, ask := range map[string]topics.HubRequest{
		topics.VerbSecret: {Action: "set", Secret: "mqtt", Value: "hunter2"},
		topics.VerbAdopt:  {Domain: "pi", Code: "hunter2"},
		topics.VerbUser:   {Action: "add", User: "ann", Role: "admin", Hash: "hunter2"},
	} {
		if _, err := s.ask(t.Context(), verb, ask, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), "is private") {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if err := s.conn.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if all := strings.Join(seen, "\n"); strings.Contains(all, "hunter2") {
		t.Errorf("others have read %s", all)
	}
}
