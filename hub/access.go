package hub

import (
	"errors"
	"fmt"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/topics"
)

// mayDo says what the broker would answer a user, and which rule decides.
func (h *Hub) mayDo(ask topics.Ask) (topics.Access, error) {
	switch {
	case h.access == nil:
		return topics.Access{}, errors.New("the broker is not the dominion's own: it alone knows its users")
	case ask.User == "":
		return topics.Access{}, errors.New(`the request needs "user"`)
	case ask.Topic == "":
		return topics.Access{}, errors.New(`the request needs "topic"`)
	}
	return h.access(ask)
}

// decider returns the broker's answer to the verb access.
func decider(b *broker.Broker) func(topics.Ask) (topics.Access, error) {
	return func(ask topics.Ask) (topics.Access, error) {
		var a access.Action
		switch ask.Action {
		case access.Publish.String():
			a = access.Publish
		case access.Subscribe.String():
			a = access.Subscribe
		case access.Deliver.String():
			a = access.Deliver
		default:
			return topics.Access{}, fmt.Errorf(`"action" is publish, subscribe or deliver, not %.40q`, ask.Action)
		}
		role, d, err := b.Decide(ask.User, ask.Client, a, ask.Topic)
		if err != nil {
			return topics.Access{}, err
		}
		return topics.Access{User: ask.User, Role: role, Action: ask.Action, Topic: ask.Topic, Allowed: d.Allowed, By: d.By}, nil
	}
}
