package broker_test

import (
	"slices"
	"sync/atomic"
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

// What the agent of a domain has ends by its client identifiers, whatever its user is: its
// connections and sessions, what is retained, and no will is published, which would be retained
// after the topics of the domain were cleared. What others have stays.
func TestEndDomain(t *testing.T) {
	b := start(t, broker.Config{AllowAnonymous: true})
	connect := func(id string) *client.Conn {
		t.Helper()
		c, err := client.Connect(t.Context(), client.Options{
			URL: "mqtt://pipe", ClientID: id, Persistent: true, Dial: pipeTo(b),
			Will: &topics.Message{Topic: id + "/will", Payload: []byte("offline"), QoS: 1, Retain: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		c.Publish(topics.Message{Topic: id + "/status", Payload: []byte("1"), QoS: 1, Retain: true})
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c
	}
	agent := connect("domain-7")
	connect("domain-7-join").Close()
	connect("domain-70")

	var wills atomic.Int32
	unwatch, err := b.Watch("+/will", func(m topics.Message, _ bool) {
		if len(m.Payload) > 0 {
			wills.Add(1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unwatch()

	b.EndDomain("7")

	<-agent.Done()
	if wills.Load() > 0 {
		t.Error("its will is published")
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
	for _, s := range b.Sessions() {
		left = append(left, s.ID)
	}
	if want := []string{"domain-70/status", "domain-70"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
}
