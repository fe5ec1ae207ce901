package broker

import (
	"maps"
	"slices"
	"time"
)

// EndUser ends all that a user has: its connections, its sessions with what is queued for
// them, what it has retained, and its right to client identifiers. Connections that are
// made later stay. delayed leaves the connections that there are for a moment: the user
// itself may wait for an answer.
func (b *Broker) EndUser(user string, delayed bool) {
	at := time.Now()
	if !delayed {
		b.endUser(user, at)
	}
	b.background.Go(func() {
		if delayed {
			if !b.sleep(disconnectDelay) {
				return
			}
			b.endUser(user, at)
		}
		// Those that were logging in meanwhile.
		if !b.sleep(b.connectTimeout()) {
			return
		}
		late := make(map[string]bool)
		for _, id := range b.engine.ForgetUser(user, userEnded, at) {
			late[id] = true
		}
		if len(late) > 0 {
			b.engine.ClearRetained("", late)
		}
	})
}

// userEnded is why the connections of a user end.
const userEnded = "its user, or its certificate, is not accepted any more"

// endUser ends what a user has, but for connections that were made after a time.
func (b *Broker) endUser(user string, at time.Time) {
	ended := b.engine.ForgetUser(user, userEnded, at)
	ids := b.clientIDs.releaseUser(user)
	for _, id := range ended {
		if ids == nil {
			ids = make(map[string]bool)
		}
		ids[id] = true
	}
	b.engine.ClearRetained(user, ids)
	b.log.Info("all that a user has was ended", "user", truncate(user), "sessions", len(ended))
}

// EndDomain ends all that the agent of a domain has by its client identifiers, whatever its
// user is: connections, sessions with what is queued for them, what was retained, and the
// right to the identifiers. No will is published.
func (b *Broker) EndDomain(id string) {
	ids := map[string]bool{agentIDPrefix + id: true, agentIDPrefix + id + "-join": true}
	b.engine.ForgetClients("its domain is not accepted any more", slices.Collect(maps.Keys(ids))...)
	for client := range ids {
		b.clientIDs.release(client)
	}
	b.engine.ClearRetained("", ids)
}

// sleep waits, and reports whether the broker has not stopped meanwhile.
func (b *Broker) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-b.quit:
		return false
	case <-timer.C:
		return true
	}
}
