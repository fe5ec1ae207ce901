package hub

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/topics"
)

// mayDo returns what the broker would answer a user, and which rule decides.
func (h *Hub) mayDo(ask topics.HubRequest) (topics.Access, error) {
	switch {
	case h.broker == nil:
		return topics.Access{}, errNotOurBroker
	case ask.User == "":
		return topics.Access{}, errors.New(`the request needs "user"`)
	case ask.Topic == "":
		return topics.Access{}, errors.New(`the request needs "topic"`)
	}
	return h.broker.Access(ask)
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
		if a.Kind != topics.Response && a.Kind != topics.ResponseTo {
			return false
		}
		if a.Verb == verb {
			return true
		}
	} else if strings.HasPrefix(topic, h.cfg.HomeAssistant.DiscoveryPrefix+"/") {
		return false
	}
	return m.User == "" || h.broker != nil && h.allows(m, access.Publish, topic)
}

// allows reports whether who published a message may do something at a topic.
func (h *Hub) allows(m topics.Message, a access.Action, topic string) bool {
	d, err := h.broker.Access(topics.HubRequest{User: m.User, Client: m.Client, Action: a.String(), Topic: topic})
	return err == nil && d.Allowed
}

// mayAsk refuses what a user asks in the name of another: an agent joins as its
// own domain alone.
func (h *Hub) mayAsk(verb string, ask topics.HubRequest, m topics.Message) error {
	if verb != topics.VerbJoin || m.User == "" || h.broker == nil || ask.Name == m.User {
		return nil
	}
	if own, adopted := h.adoption.Members()[ask.ID]; adopted && own.Name == m.User {
		return nil // it was renamed: its certificate has the former name here
	}
	d, err := h.broker.Access(topics.HubRequest{User: m.User, Client: m.Client, Action: access.Publish.String(), Topic: m.Topic})
	if err != nil || d.Role != access.RoleAdmin {
		return fmt.Errorf("the user %.80q does not join as %.80q: a user of the role domain has the name of its domain", m.User, ask.Name)
	}
	return nil
}
