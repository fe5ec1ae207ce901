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

// admitAgent decides whether a user of the role domain, or an admin, may use an agent's
// client identifier. decided is false if the general rule applies, that it belongs to its
// first user: if no agents are known, or the identifier is an admin's and no domain's.
//
// An admin may be the agent itself, which reaches the hub of its own machine over loopback
// without a user, also where it had the identifier by its certificate before.
func (b *Broker) admitAgent(c engine.Client, user, role string) (decided bool, err error) {
	agents := b.agents.Load()
	if agents == nil {
		return false, nil
	}
	agent, exists := (*agents)[agentID(c.ID)]
	if exists && role != RoleAdmin && agent.Domain != user && agent.User != user && (b.userExists(agent.User) || b.userExists(agent.Domain)) {
		return true, refusedError{engine.ErrClientIDTaken, "the client id belongs to the agent of " + agent.Domain + " (dominionctl forget frees it when that machine is gone)"}
	}
	if owner := b.clientIDs.owner(c.ID, b.engine.UserOf); !exists && owner != "" && b.access.Load().byName[owner].role == RoleAdmin {
		return false, nil
	}
	if user == "" {
		b.clientIDs.release(c.ID) // as with all identifiers, nobody owns what has no user
		return true, nil
	}
	// An id that no domain has belongs to the last user who shows it: a user that
	// takes it without joining as that machine cannot block the machine.
	b.clientIDs.assign(c.ID, user, time.Now(), b.engine.UserOf)
	return true, nil
}

// isOwnAgent reports whether a client is the agent of an adopted domain, which shows its
// certificate.
func (b *Broker) isOwnAgent(c engine.Client, user string) bool {
	agents := b.agents.Load()
	return agents != nil && c.CertificateUse == UseDomain && strings.HasPrefix(c.ID, agentIDPrefix) && (*agents)[agentID(c.ID)].Domain == user
}

// agentID returns the id of the domain in an agent's client identifier.
func agentID(client string) string {
	return strings.TrimSuffix(strings.TrimPrefix(client, agentIDPrefix), "-join")
}
