package broker_test

import (
	"slices"
	"testing"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// All that a user has ends at once: connections, sessions, what is retained, client
// identifiers, and no will is published. What others have stays. After a restart of the
// broker, retained messages are those of the sessions and client identifiers of the user.
func TestEndUser(t *testing.T) {
	for name, restart := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			config := broker.Config{DataDir: t.TempDir(), Users: []broker.User{
				{Name: "ada", PasswordHash: hashOf(t, "p"), Role: broker.RoleDevice},
				{Name: "bob", PasswordHash: hashOf(t, "p"), Role: broker.RoleDevice},
			}}
			b := start(t, config)
			connect := func(id, user string, more func(*client.Options)) *client.Conn {
				t.Helper()
				o := client.Options{URL: "mqtt://pipe", ClientID: id, User: user, Password: "p", Dial: pipeTo(b)}
				if more != nil {
					more(&o)
				}
				c, err := client.Connect(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.Close)
				return c
			}
			publish := func(c *client.Conn, topic string) {
				t.Helper()
				c.Publish(topics.Message{Topic: topic, Payload: []byte("1"), QoS: 1, Retain: true})
				if err := c.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			persistent := func(o *client.Options) { o.Persistent = true }
			for range 2 { // an identifier that is used twice is stored
				tv := connect("tv", "ada", persistent)
				if err := tv.Subscribe(t.Context(), "bob/#"); err != nil {
					t.Fatal(err)
				}
				publish(tv, "ada/tv")
				lamp := connect("lamp", "ada", nil) // has no session that stays
				publish(lamp, "ada/lamp")
				lamp.Close()
				tv.Close()
			}
			publish(connect("oven", "bob", persistent), "bob/oven")
			if restart {
				stop(t, b)
				b = start(t, config)
			}
			connected := connect("radio", "ada", func(o *client.Options) {
				o.Will = &topics.Message{Topic: "ada/will", Payload: []byte("1"), QoS: 1, Retain: true}
			})

			b.EndUser("ada", false)

			<-connected.Done()
			for _, s := range b.Sessions() {
				if s.User == "ada" {
					t.Errorf("the session %s is left", s.ID)
				}
			}
			var left []string
			unsubscribe, err := b.Watch("#", func(m topics.Message, stored bool) {
				if stored {
					left = append(left, m.Topic)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			unsubscribe()
			if !slices.Equal(left, []string{"bob/oven"}) {
				t.Errorf("retained are %v", left)
			}
			for _, id := range []string{"tv", "lamp", "radio"} {
				connect(id, "bob", nil)
			}
			connect("tv-2", "ada", nil)
		})
	}
}
