package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// bubble starts a broker inside a synctest bubble.
func bubble(t *testing.T) *broker.Broker {
	t.Helper()
	b, err := broker.New(broker.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// pipe connects a client to a broker without a socket.
func pipe(t *testing.T, b *broker.Broker, o client.Options) *client.Conn {
	t.Helper()
	o.Dial = func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		b.Serve(theirs)
		return ours, nil
	}
	c, err := client.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Broker and client run whole in a bubble: an hour of keep alives takes no
// time, and nothing is left when both are stopped, or the bubble would not end.
func TestAnHourInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bubble(t)
		var got []string
		if err := b.Subscribe("dominion/#", func(m topics.Message) {
			got = append(got, fmt.Sprintf("%s %s %v", m.Topic, m.Payload, m.Retain))
		}); err != nil {
			t.Fatal(err)
		}
		will := topics.Message{Topic: "dominion/domain/pi/availability", Payload: []byte("offline"), QoS: 1, Retain: true}
		c := pipe(t, b, client.Options{ClientID: "domain-1", Will: &will})
		c.Publish(topics.Message{Topic: will.Topic, Payload: []byte("online"), QoS: 1, Retain: true})
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		select {
		case <-c.Done():
			t.Fatalf("the connection ended: %v", c.Err())
		default:
		}
		c.Close()
		if err := c.Err(); err != nil {
			t.Errorf("Err after Close is %v", err)
		}
		synctest.Wait()
		want := []string{"dominion/domain/pi/availability online false"}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
