package broker

import (
	"errors"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/topics"
)

// maxDeniedPayload bounds the payload of a denied request that is decoded for its
// transaction.
const maxDeniedPayload = 16 << 10

// deniedAnswer returns the answer to a request or command that its publisher may not
// make, if MQTT cannot report that: an error at the topic of the answer.
func (b *Broker) deniedAnswer(c engine.Client, topic string, payload []byte) (answer topics.Message, ok bool) {
	at, ours := b.tree.Parse(topic)
	unfit := ours && topics.IsPrivate(at.Verb) && !b.maySendPrivate(c)
	if unfit {
		b.reportPrivateRefusal(c, at.Verb)
	}
	if len(payload) > maxDeniedPayload {
		return topics.Message{}, false
	}
	denial := topics.Denied(topic, c.User)
	if unfit {
		denial = errors.New(topics.PrivateRefusal(at.Verb))
	}
	return b.tree.RefusedAnswer(topic, payload, denial)
}
