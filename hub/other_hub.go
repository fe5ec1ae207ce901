package hub

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// rivalPatience is how long another hub that was online has to be offline before this
// one takes its topics over: a restart of its machine must not give the home away.
const rivalPatience = time.Minute

// rival is a hub of another dominion that is online at our topics. Two would clear each
// other's services and report each other's domains as lost.
type rival struct {
	topics.Hub
	prefix string
}

func (r rival) Error() string {
	return fmt.Sprintf("another hub, %s (id %s), is online at %s/…: stop that one, or give this one a topic_prefix of its own; this one waits until that one has been offline for %v", r.Name, r.ID, r.prefix, rivalPatience)
}

// findRival returns an error where another hub is online at our topics of a broker that
// is not ours, or the broker does not answer. Its connection has no will, so that it
// publishes nothing when it ends.
func findRival(ctx context.Context, o client.Options, tree topics.Tree, id string) error {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, echo := tree.Request("look")
	marker := topics.Encode(topics.Accept(rand.Text(), nil))
	var status, availability topics.Message
	replayed := make(chan struct{}, 1)
	o.Will, o.ClientID = nil, o.ClientID+"-look"
	o.OnMessage = func(m topics.Message) {
		switch {
		case m.Topic == tree.Hub(topics.HubStatus):
			status = m
		case m.Topic == tree.Hub(topics.HubAvailability):
			availability = m
		case m.Topic == echo && bytes.Equal(m.Payload, marker):
			select {
			case replayed <- struct{}{}:
			default:
			}
		}
	}
	conn, err := client.Connect(ctx, o)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Subscribe(ctx, tree.Hub(topics.HubStatus), tree.Hub(topics.HubAvailability), echo); err != nil {
		return err
	}
	// What is retained comes before what is published after the subscription.
	conn.Publish(topics.Message{Topic: echo, Payload: marker, QoS: 1})
	select {
	case <-replayed:
	case <-conn.Done():
		return conn.Err()
	case <-ctx.Done():
		return fmt.Errorf("%s does not answer: %w", o.URL, ctx.Err())
	}
	other, err := topics.Decode[topics.Hub](status.Topic, orEmpty(status.Payload))
	if err != nil || other.ID == "" || other.ID == id || string(availability.Payload) != topics.Online {
		return nil // a status that cannot be decoded is not a hub's
	}
	return rival{other, tree.Prefix()}
}
