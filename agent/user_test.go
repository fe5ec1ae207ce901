package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// A user with the right password that may not be this domain gets that reason.
func TestUserThatMayNotSpeakForTheDomain(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]string{
		"other":  `this user may not speak for domain pi: a user of the role domain must have the domain's name (here \"other\"`,
		"guest":  `may not ask: it needs the role domain)`,
		"nobody": `the broker refused user or password"`,
	} {
		t.Run(user, func(t *testing.T) {
			b, err := broker.New(broker.Config{Listen: "127.0.0.1:0", Users: []broker.User{
				{Name: "other", PasswordFile: password, Role: broker.RoleDomain},
				{Name: "guest", PasswordFile: password, Role: broker.RoleReader},
			}}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			tree := topics.NewTree("")
			request, response := tree.Request(topics.VerbJoin)
			if err := b.Subscribe(request, func(m topics.Message) {
				ask, _ := topics.Decode[topics.HubRequest](m.Topic, m.Payload)
				go b.Publish(topics.Message{Topic: response, QoS: 1, Payload: topics.Encode(topics.Accept(ask.Transaction, topics.Grant{Dominion: "d1", Name: "home", Epoch: 1}))})
			}); err != nil {
				t.Fatal(err)
			}
			if err := b.Listen(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				_ = b.Stop(ctx)
			}()
			log := &logBuffer{}
			a := New(Options{
				Keyless: true,
				Config: config.Domain{
					Name: "pi", DataDir: t.TempDir(), ServicesDir: t.TempDir(), Hub: b.Listeners()[0].Addr.String(),
					User: user, PasswordFile: password,
				},
				Runner: &runner{}, Facts: &machineFacts{}, Log: slog.New(slog.NewTextHandler(log, nil)),
				Announce: (&testNetwork{}).announce,
			})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- a.Run(ctx) }()
			look := time.NewTicker(5 * time.Millisecond)
			defer look.Stop()
			for deadline := time.Now().Add(2 * time.Minute); log.count(want) == 0; <-look.C {
				if time.Now().After(deadline) {
					t.Errorf("the log does not say %q:\n%s", want, log)
					break
				}
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
