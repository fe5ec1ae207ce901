package broker

import (
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/topics"
)

// refused logs a client that the engine did not let in, as often as refusals
// allows.
func (b *Broker) refused(c engine.Client, why string) {
	if b.refusals.tell(c.Remote, why, time.Now()) {
		b.log.Warn("connection refused: "+why, "client", short(c.ID), "remote", c.Remote, "listener", c.Listener)
	}
}

// nameless reports whether the user name of a client is ignored: no user is
// configured, and the listener is open to everybody. Programs exist that always
// send one.
func (b *Broker) nameless(c engine.Client) bool {
	if c.User == "" || len(b.access.Load().byName) > 0 || !b.anonymousAt(c.Listener) {
		return false
	}
	if b.ignored.add(c.User) {
		b.log.Info("a user name is ignored: no user is configured, and here everybody is let in without one", "user", short(c.User), "client", short(c.ID), "remote", c.Remote)
	}
	return true
}

// ignoredNames are the user names that were reported as ignored.
type ignoredNames struct {
	mu  sync.Mutex
	all map[string]bool
}

// ignoredMost bounds what is remembered and logged: whoever is let in may send
// any number of names.
const ignoredMost = 64

// add reports whether a name is to be reported.
func (i *ignoredNames) add(name string) bool {
	name = short(name)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.all[name] || len(i.all) >= ignoredMost {
		return false
	}
	if i.all == nil {
		i.all = make(map[string]bool)
	}
	i.all[name] = true
	return true
}

// longestDenied bounds the payload of a denied request that is read for its
// transaction.
const longestDenied = 16 << 10

// denied returns the answer to a request or a command whose publisher may not
// make it, and is not told so by MQTT: an error where the answer would be.
func (b *Broker) denied(c engine.Client, topic string, payload []byte) (answer topics.Message, ok bool) {
	at, ours := b.tree.Parse(topic)
	if !ours || len(payload) > longestDenied {
		return topics.Message{}, false
	}
	var to topics.Address
	switch at.Kind {
	case topics.Request:
		to = topics.Address{Kind: topics.Response, Verb: at.Verb}
		if ask, err := topics.Decode[topics.Ask](topic, payload); err == nil && ask.Response != "" {
			if own, ours := b.tree.Parse(ask.Response); ours && own.Kind == topics.ResponseTo && own.Verb == at.Verb {
				to = own
			}
		}
	case topics.DomainCommand:
		to = topics.Address{Kind: topics.DomainResponse, Domain: at.Domain}
	default:
		return topics.Message{}, false
	}
	transaction := topics.TransactionOf(payload)
	if transaction == "" {
		return topics.Message{}, false
	}
	return b.tree.Message(to, topics.Encode(topics.Refuse(transaction, topics.Denied(topic, c.User)))), true
}
