package engine

import (
	"cmp"
	"slices"

	"github.com/jmbarzee/dominion/broker/store"
)

// restoredMemory estimates the memory of a session when it is restored. A message that
// several sessions have queued is counted for each.
func restoredMemory(stored *store.SessionState) int {
	n := sessionMemory(clientOf(stored)) + costIdentifier*len(stored.Received)
	for i := range stored.Subscriptions {
		n += filterMemory(stored.Subscriptions[i].Filter)
	}
	for i := range stored.Queue {
		n += costDelivery + storedMemory(stored.Queue[i].Message)
	}
	if stored.Will != nil && stored.Will.Message != nil {
		n += storedMemory(stored.Will.Message)
	}
	return n
}

// storedMemory estimates the memory of a message that is not restored yet.
func storedMemory(m *store.Message) int {
	return costMessage + len(m.Topic) + len(m.Payload) + 2*costUserProperty*len(m.Properties.User)
}

// selectUnrestored chooses, before anything is built, the sessions that are not
// restored because memory does not suffice for all: repeatedly the largest session of
// the user who holds most, until the rest fits.
func (e *Engine) selectUnrestored(sessions []store.SessionState) (unrestored map[int]bool) {
	type one struct{ index, memory int }
	type owner struct {
		name   string
		u      *usage
		memory int64
		all    []one
	}
	users := make(map[*usage]*owner)
	total := e.memory.total()
	for i := range sessions {
		u := e.usageOf(clientOf(&sessions[i]))
		o := users[u]
		if o == nil {
			o = &owner{name: sessions[i].User, u: u, memory: u.memory.Load()}
			users[u] = o
		}
		n := restoredMemory(&sessions[i])
		o.all = append(o.all, one{i, n})
		o.memory += int64(n)
		total += int64(n)
	}
	for _, o := range users {
		slices.SortFunc(o.all, func(a, b one) int { return cmp.Compare(a.memory, b.memory) })
	}
	unrestored = make(map[int]bool)
	ended := make(map[*owner]int)
	for {
		var largest *owner
		for _, o := range users {
			if len(o.all) > 0 && (largest == nil || o.memory > largest.memory) {
				largest = o
			}
		}
		if largest == nil || total <= e.memory.limit && largest.memory <= e.memoryPerUser() {
			break
		}
		last := largest.all[len(largest.all)-1]
		largest.all = largest.all[:len(largest.all)-1]
		largest.memory -= int64(last.memory)
		total -= int64(last.memory)
		unrestored[last.index] = true
		ended[largest]++
	}
	for o, n := range ended {
		e.memory.evicted.Add(uint64(n))
		e.log.Warn("sessions are not restored: the largest of the user are ended, as all would exceed the memory limits (broker.limits.memory, memory_per_user)",
			"user", o.name, "ended", n, "kept", len(o.all), "memory", o.memory, "limit", e.memory.limit)
	}
	return unrestored
}
