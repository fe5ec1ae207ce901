package broker_test

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// A client that comes back at once, after it left or while its old connection
// is still open, hears what is published from then on.
func TestSuccession(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			b, err := broker.New(broker.Config{}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer b.Stop(context.Background())
			var heard atomic.Int64
			connect := func() *client.Conn {
				c, err := client.Connect(t.Context(), client.Options{
					ClientID:  "domain-1",
					OnMessage: func(topics.Message) { heard.Add(1) },
					Dial: func(context.Context) (net.Conn, error) {
						ours, theirs := net.Pipe()
						b.Serve(theirs)
						return ours, nil
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Subscribe(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				return c
			}
			connect().Close()
			left := connect() // stays open: its successor ends it
			last := connect()
			synctest.Wait()
			b.Publish(topics.Message{Topic: "a", QoS: 1})
			synctest.Wait()
			if n := heard.Load(); n != 1 {
				t.Fatalf("heard %d of 1", n)
			}
			<-left.Done()
			last.Close()
		})
	}
}
