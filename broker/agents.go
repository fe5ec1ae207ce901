package broker

import (
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
)

// agentIDPrefix begins the client identifiers of agents: it is followed by the id of
// the domain, and by "-join" while the domain asks for admission. Another client with
// such an identifier would disconnect the agent.
const agentIDPrefix = "domain-"

// Agent is the domain, and the user, that a domain id belongs to.
type Agent struct {
	// Domain is its name, which is also that of its user if that has the role domain.
	Domain string
	// User is the one with which it last joined; "": none.
	User string
}

// SetAgents sets the known agents, by the id of their domain. The client identifiers
// of a domain are reserved for its user, whoever used them first. Without a call the
// broker knows no agents.
func (b *Broker) SetAgents(byID map[string]Agent) { b.agents.Store(&byID) }

// admitAgent decides whether a user of the role domain may use an agent's client
// identifier. decided is false if the general rule applies, that it belongs to its
// first user: if no agents are known, or an admin uses it.
func (b *Broker) admitAgent(c engine.Client, user string) (decided bool, err error) {
	agents := b.agents.Load()
	if agents == nil {
		return false, nil
	}
	agent, exists := (*agents)[strings.TrimSuffix(strings.TrimPrefix(c.ID, agentIDPrefix), "-join")]
	if exists && agent.Domain != user && agent.User != user && agent.User != "" && b.userExists(agent.User) {
		return true, refusedError{engine.ErrClientIDTaken, "the client id belongs to the agent of " + agent.Domain + " (dominionctl forget frees it when that machine is gone)"}
	}
	if owner := b.clientIDs.owner(c.ID, b.engine.UserOf); !exists && owner != "" && b.access.Load().byName[owner].role == RoleAdmin {
		return false, nil
	}
	// An id that no domain has belongs to the last user who shows it: a user that
	// takes it without joining as that machine cannot block the machine.
	b.clientIDs.assign(c.ID, user, time.Now(), b.engine.UserOf)
	return true, nil
}
