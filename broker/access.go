package broker

import (
	"fmt"

	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/wire"
)

// The roles of a user.
const (
	RoleAdmin  = access.RoleAdmin
	RoleReader = access.RoleReader
	RoleDevice = access.RoleDevice
	RoleDomain = access.RoleDomain
)

var actions = map[engine.Action]access.Action{
	engine.ActionPublish:   access.Publish,
	engine.ActionSubscribe: access.Subscribe,
	engine.ActionDeliver:   access.Deliver,
}

// decide is the one decision about access: for each publish, subscription and
// delivery, for wills, replays and sessions that are resumed.
func (b *Broker) decide(c engine.Client, a engine.Action, topic string) access.Decision {
	now := b.access.Load()
	return now.policy.Decide(access.Client{User: c.User, ID: c.ID, Role: b.role(c.Listener, c.User)}, actions[a], topic)
}

// Decide says what the broker would answer a user, and which rule decides.
func (b *Broker) Decide(user, clientID string, a access.Action, topic string) (role string, d access.Decision, err error) {
	now := b.access.Load()
	known, ok := now.byName[user]
	if !ok {
		return "", d, fmt.Errorf("there is no user %.80q", user)
	}
	switch {
	case a == access.Subscribe && !wire.ValidFilter(topic):
		return "", d, fmt.Errorf("%.80q is no topic filter: + stands for one whole level, # for all that follows", topic)
	case a != access.Subscribe && !wire.ValidTopic(topic):
		return "", d, fmt.Errorf("%.80q is no topic: + and # are for subscriptions", topic)
	}
	return known.role, now.policy.Decide(access.Client{User: user, ID: clientID, Role: known.role}, a, topic), nil
}
