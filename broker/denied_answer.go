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
	if !ours || len(payload) > maxDeniedPayload {
		return topics.Message{}, false
	}
	var to topics.Address
	switch at.Kind {
	case topics.Request:
		to = topics.Address{Kind: topics.Response, Verb: at.Verb}
		if ask, err := topics.Decode[topics.HubRequest](topic, payload); err == nil && ask.Response != "" {
			if address, ours := b.tree.Parse(ask.Response); ours && address.Kind == topics.ResponseTo && address.Verb == at.Verb {
				to = address
			}
		}
	case topics.DomainCommand:
		to = topics.Address{Kind: topics.DomainResponse, Domain: at.Domain}
	default:
		return topics.Message{}, false
	}
	transaction := topics.TransactionOf(payload)
	if transaction == "" {
		return topics.Message{}, false
	}
	denial := topics.Denied(topic, c.User)
	if topics.IsPrivate(at.Verb) && !b.maySendPrivate(c) {
		denial = errors.New(topics.PrivateRefusal(at.Verb))
	}
	return b.tree.Message(to, topics.Encode(topics.Refuse(transaction, denial))), true
}
