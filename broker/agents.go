package broker

import (
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
)

// agentID begins the client identifiers of agents: "domain-" and the id of the
// domain, and the same with "-join" while it asks for admission. A stranger with
// one of them would push an agent out.
const agentID = "domain-"

// Agent is who a domain's id belongs to.
type Agent struct {
	Domain string // its name, which is that of its user where it has the role domain
	User   string // by which it joined last; "": without one
}

// SetAgents tells the broker which agents there are, by the id of their domain,
// and whose client identifiers therefore are whose: those of a domain are for its
// user alone, whoever used them first. Without it the broker knows no agents.
func (b *Broker) SetAgents(byID map[string]Agent) { b.agents.Store(&byID) }

// admitAgent decides about a client identifier of an agent that a user of the
// role domain shows. decided is false where it is whose who used it first: the
// broker knows no agents, or an admin uses it.
func (b *Broker) admitAgent(c engine.Client, user string) (decided bool, err error) {
	agents := b.agents.Load()
	if agents == nil {
		return false, nil
	}
	of, known := (*agents)[strings.TrimSuffix(strings.TrimPrefix(c.ID, agentID), "-join")]
	if known && of.Domain != user && of.User != user && of.User != "" && b.isUser(of.User) {
		return true, turnedAway{engine.ErrClientIDTaken, "the client id is that of the agent of " + of.Domain + " (dominionctl forget frees it when that machine is gone)"}
	}
	if holder := b.owners.holder(c.ID, b.engine.UserOf); !known && holder != "" && b.access.Load().byName[holder].role == RoleAdmin {
		return false, nil
	}
	// Of an id that no domain has yet the last who shows it is right: whoever
	// occupies it without joining as that machine keeps nobody off.
	b.owners.give(c.ID, user, time.Now(), b.engine.UserOf)
	return true, nil
}
