package broker

import (
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
)

// Stats are the statistics of the broker since its start, and its current figures.
type Stats = engine.Stats

// Session is a client that is connected, or has a session.
type Session = engine.Session

// Stats returns the current figures.
func (b *Broker) Stats() Stats { return b.engine.Stats() }

// Sessions returns all clients, ordered by identifier.
func (b *Broker) Sessions() []Session { return b.engine.Sessions() }

// CountDropped counts a message that a client within the program could not pass on.
func (b *Broker) CountDropped(client, topic, reason string) {
	b.engine.CountDropped(client, topic, reason)
}

// DroppedFor returns how many messages a client did not get since the start.
func (b *Broker) DroppedFor(client string) uint64 { return b.engine.DroppedFor(client) }

// StartedAt returns when the broker was started.
func (b *Broker) StartedAt() time.Time { return b.startedAt }

// Kick ends a client's connection, and reports whether there was one.
func (b *Broker) Kick(client string) bool {
	return b.engine.Kick("an administrator disconnected it", func(c engine.Client, _ time.Time) bool { return c.ID == client }) > 0
}

// disconnectDelay is how long the connections of a changed user live. The change may
// be the user's own, with the answer still in transit. What it may do is decided by
// the new rules at once.
const disconnectDelay = time.Second

// connectTimeout returns how long a connection may take to log in.
func (b *Broker) connectTimeout() time.Duration {
	if t := b.config.Limits.ConnectTimeout; t > 0 {
		return t
	}
	return engine.DefaultLimits().ConnectTimeout
}

// disconnectChanged ends the connections of users who were removed or changed, except
// those made later. The second pass, after connectTimeout, ends those that were
// logging in during the first.
func (b *Broker) disconnectChanged(before, after *userTable) {
	changed := make(map[string]bool)
	for name, old := range before.byName {
		if now, exists := after.byName[name]; !exists || !old.equals(now) {
			changed[name] = true
		}
	}
	closed := before.anonymous && !after.anonymous
	if len(changed) == 0 && !closed {
		return
	}
	at := time.Now()
	b.background.Go(func() {
		for _, wait := range []time.Duration{disconnectDelay, b.connectTimeout()} {
			if !b.sleep(wait) {
				return
			}
			b.engine.Kick("its user was changed or removed", func(c engine.Client, since time.Time) bool {
				return changed[c.User] && since.Before(at)
			})
			if closed {
				b.engine.Kick("clients without a user are no longer admitted", func(c engine.Client, since time.Time) bool {
					return c.User == "" && since.Before(at) && b.role(c.Listener, "") == ""
				})
			}
		}
	})
}

// StoreFull reports whether the store refused something and does not accept everything
// again yet.
func (b *Broker) StoreFull() bool { return b.engine.StoreFull() }
