package hub

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/topics"
)

// EmbeddedBroker is what the hub asks of a broker of its own, and does to it, besides
// publishing.
type EmbeddedBroker interface {
	// Access returns what the broker would answer a user, and which rule decides.
	Access(topics.HubRequest) (topics.Access, error)
	// EditUsers carries out the verb user, and returns the users.
	EditUsers(topics.HubRequest) ([]topics.UserView, error)
	// OpenToAll reports whether everybody is let in although there are users.
	OpenToAll() bool
	// Sessions, Kick, Forget and Trace administer the broker's clients.
	Sessions() []broker.Session
	Kick(client string) bool
	Forget(client string) bool
	// EndUser ends all that a user has; delayed, its connections a little later.
	EndUser(user string, delayed bool)
	// EndDomain ends all that the agent of a domain has by its client identifiers.
	EndDomain(id string)
	Trace(what, at string) error
	// ListenProblems returns the addresses that are in use by others, in words.
	ListenProblems() []string
	// Persists reports whether the broker has what is retained at a topic after its end.
	Persists(topic string) bool
	// SetAgents passes the broker which user owns the id of each domain. It must not block.
	SetAgents(byID map[string]broker.Agent)
	// SetDomains tells the broker the names of the domains that have a certificate. It must not
	// block.
	SetDomains(names map[string]bool)
	// KickIssued ends the connections of users and services that have a certificate of the dominion.
	KickIssued()
	// Bridges returns the bridges, sorted as they are configured. It must not block.
	Bridges() []topics.BridgeView
}

// errNotOurBroker is the answer where the broker is not the dominion's own.
var errNotOurBroker = errors.New("the broker is not the dominion's own: it alone knows its users")

// embedded is the EmbeddedBroker of package broker.
type embedded struct {
	*broker.Broker
	// openHTTP reports that others reach the broker by HTTP.
	openHTTP bool
	bridges  func() []topics.BridgeView
}

func (b embedded) OpenToAll() bool { return b.Broker.OpenToAll(b.openHTTP) }

func (b embedded) Bridges() []topics.BridgeView {
	if b.bridges == nil {
		return nil
	}
	return b.bridges()
}

// EditUsers carries out the verb user.
func (b embedded) EditUsers(ask topics.HubRequest) ([]topics.UserView, error) {
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

// Access carries out the verb access.
func (b embedded) Access(ask topics.HubRequest) (topics.Access, error) {
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
