package broker

import (
	"sync"

	"github.com/jmbarzee/dominion/broker/engine"
)

// ignoreUser reports whether the user name of a client is ignored: no user is
// configured, and the listener admits anonymous clients. Some programs always send
// one.
func (b *Broker) ignoreUser(c engine.Client) bool {
	if c.User == "" || len(b.access.Load().byName) > 0 || !b.anonymousAt(c.Listener) {
		return false
	}
	if b.ignoredUsers.add(c.User) {
		b.log.Info("a user name is ignored: no user is configured, and this listener admits clients without one", "user", truncate(c.User), "client", truncate(c.ID), "remote", c.Remote)
	}
	return true
}

// reportedNames are the user names that were reported as ignored.
type reportedNames struct {
	mu  sync.Mutex
	all map[string]bool
}

// maxReportedNames bounds what is remembered and logged: a client may send any number
// of names.
const maxReportedNames = 64

// add reports whether a name is to be reported.
func (i *reportedNames) add(name string) bool {
	name = truncate(name)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.all[name] || len(i.all) >= maxReportedNames {
		return false
	}
	if i.all == nil {
		i.all = make(map[string]bool)
	}
	i.all[name] = true
	return true
}
