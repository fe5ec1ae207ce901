package hub

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/topics"
)

// mayDo says what the broker would answer a user, and which rule decides.
func (h *Hub) mayDo(ask topics.Ask) (topics.Access, error) {
	switch {
	case h.access == nil:
		return topics.Access{}, errNotOurBroker
	case ask.User == "":
		return topics.Access{}, errors.New(`the request needs "user"`)
	case ask.Topic == "":
		return topics.Access{}, errors.New(`the request needs "topic"`)
	}
	return h.access(ask)
}

// mayAnswerAt reports whether an asker may choose a topic for the answer. The hub
// would speak there with its own rights: so it must be an answer to this very
// verb, or a topic at which the asker could speak itself; and never an order.
func (h *Hub) mayAnswerAt(verb string, m topics.Message) bool {
	topic := m.ResponseTopic
	if topic == "" || strings.ContainsAny(topic, "+#$") {
		return false
	}
	if topic == h.tree.Prefix() || strings.HasPrefix(topic, h.tree.Prefix()+"/") {
		a, _ := h.tree.Parse(topic)
		switch {
		case a.Kind != topics.Response && a.Kind != topics.ResponseTo:
			return false
		case a.Verb == verb:
			return true
		}
	} else if strings.HasPrefix(topic, h.cfg.HomeAssistant.DiscoveryPrefix+"/") {
		return false
	}
	return m.User == "" || h.access != nil && h.allows(m, access.Publish, topic)
}

// allows reports whether who published a message may do something at a topic.
func (h *Hub) allows(m topics.Message, a access.Action, topic string) bool {
	d, err := h.access(topics.Ask{User: m.User, Client: m.Client, Action: a.String(), Topic: topic})
	return err == nil && d.Allowed
}

// mayAsk refuses what a user asks in the name of another: an agent joins as its
// own domain alone.
func (h *Hub) mayAsk(verb string, ask topics.Ask, m topics.Message) error {
	if verb != topics.VerbJoin || m.User == "" || h.access == nil || ask.Name == m.User {
		return nil
	}
	d, err := h.access(topics.Ask{User: m.User, Client: m.Client, Action: access.Publish.String(), Topic: m.Topic})
	if err != nil || d.Role != access.RoleAdmin {
		return fmt.Errorf("the user %.80q does not join as %.80q: a user of the role domain has the name of its domain", m.User, ask.Name)
	}
	return nil
}

// errNotOurBroker is the answer where the broker is not the dominion's own.
var errNotOurBroker = errors.New("the broker is not the dominion's own: it alone knows its users")

// editUsers lists or changes the users of the broker, and returns them.
func (h *Hub) editUsers(ask topics.Ask) ([]topics.UserView, error) {
	if h.users == nil {
		return nil, errNotOurBroker
	}
	return h.users(ask)
}

// userEditor carries out the verb user.
func userEditor(b *broker.Broker) func(topics.Ask) ([]topics.UserView, error) {
	return func(ask topics.Ask) ([]topics.UserView, error) {
		if ask.Action != "list" && ask.User == "" {
			return nil, errors.New(`the request needs "user"`)
		}
		var err error
		switch ask.Action {
		case "list":
		case "add":
			err = b.AddUser(broker.User{Name: ask.User, Role: ask.Role, PasswordHash: ask.Hash, Certificate: ask.Certificate})
		case "remove":
			err = b.RemoveUser(ask.User)
		case "role":
			err = b.ChangeUser(ask.User, cmp.Or(ask.Role, "none"), "")
		case "password":
			if ask.Hash == "" {
				return nil, errors.New(`the request needs "password_hash"`)
			}
			err = b.ChangeUser(ask.User, "", ask.Hash)
		default:
			err = fmt.Errorf(`"action" is list, add, remove, role or password, not %.40q`, ask.Action)
		}
		if err != nil {
			return nil, err
		}
		all := []topics.UserView{}
		for _, u := range b.Users() {
			all = append(all, topics.UserView{
				Name: u.Name, Role: u.Role, Certificate: u.Certificate, Configured: u.Configured,
				Password: u.PasswordHash != "" || u.PasswordFile != "",
			})
		}
		return all, nil
	}
}

// decider returns the broker's answer to the verb access.
func decider(b *broker.Broker) func(topics.Ask) (topics.Access, error) {
	return func(ask topics.Ask) (topics.Access, error) {
		a, ok := access.ParseAction(ask.Action)
		if !ok {
			return topics.Access{}, fmt.Errorf(`"action" is publish, subscribe or deliver, not %.40q`, ask.Action)
		}
		role, d, err := b.Decide(ask.User, ask.Client, a, ask.Topic)
		if err != nil {
			return topics.Access{}, err
		}
		return topics.Access{User: ask.User, Role: role, Action: ask.Action, Topic: ask.Topic, Allowed: d.Allowed, By: d.By}, nil
	}
}
