package hub_test

import (
	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/topics"
)

// ownBroker is an embedded broker that answers two questions and does nothing.
type ownBroker struct {
	hub.EmbeddedBroker
	open   func() bool                                    // nil: it is not
	access func(topics.HubRequest) (topics.Access, error) // nil: nothing is allowed
}

func (b ownBroker) OpenToAll() bool { return b.open != nil && b.open() }

func (b ownBroker) Access(ask topics.HubRequest) (topics.Access, error) {
	if b.access == nil {
		return topics.Access{}, nil
	}
	return b.access(ask)
}

func (ownBroker) SetAgents(map[string]broker.Agent) {}
func (ownBroker) Persists(string) bool              { return true }
func (ownBroker) ListenProblems() []string          { return nil }
func (ownBroker) SetDomains(map[string]bool)        {}
func (ownBroker) Bridges() []topics.BridgeView      { return nil }
