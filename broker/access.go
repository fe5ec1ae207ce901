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
	// RoleService is that of services with a certificate alone, RoleApplicant that of applicants.
	RoleService   = access.RoleService
	RoleApplicant = access.RoleApplicant
)

// actions maps the actions of the engine to those of the policy.
var actions = map[engine.Action]access.Action{
	engine.ActionPublish:   access.Publish,
	engine.ActionSubscribe: access.Subscribe,
	engine.ActionDeliver:   access.Deliver,
}

// decide makes every decision about access: for each publish, subscription and
// delivery, for wills, replays and resumed sessions.
func (b *Broker) decide(c engine.Client, a engine.Action, topic string) access.Decision {
	table := b.access.Load()
	if a == engine.ActionPublish && b.isPrivate(topic) && !b.maySendPrivate(c) {
		return access.Decision{By: "private requests need an encrypted connection with a user, or the control socket"}
	}
	role := RoleApplicant
	if !c.Applicant {
		role = b.roleOf(c)
	}
	return table.policy.Decide(access.Client{User: c.User, ID: c.ID, Role: role}, actions[a], topic)
}

// Decide returns what the broker would decide for a user, and by which rule.
func (b *Broker) Decide(user, clientID string, a access.Action, topic string) (role string, d access.Decision, err error) {
	table := b.access.Load()
	record, ok := table.byName[user]
	if !ok && b.issuedRole(user) == RoleService {
		record, ok = userRecord{role: RoleService}, true
	}
	if !ok {
		return "", d, fmt.Errorf("there is no user %.80q", user)
	}
	if a == access.Subscribe && !wire.ValidFilter(topic) {
		return "", d, fmt.Errorf("%.80q is not a valid topic filter: + matches one whole level, # all that follow", topic)
	}
	if a != access.Subscribe && !wire.ValidTopic(topic) {
		return "", d, fmt.Errorf("%.80q is not a valid topic: + and # are for subscriptions only", topic)
	}
	return record.role, table.policy.Decide(access.Client{User: user, ID: clientID, Role: record.role}, a, topic), nil
}
