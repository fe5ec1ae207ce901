package hub

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// stoodStill does not take our own standing still (a machine out of memory, or
// one that was paused) for silence of the domains: their heartbeats wait in
// the network until we read them.
func (h *Hub) stoodStill(now time.Time) {
	p := h.schedule.stall.Observe(now, h.store.Waited(), h.fleet.LookInterval())
	// Without a connection it waits for its broker, and receives nothing.
	if !h.bus.connected || p.Began.IsZero() || p.Length < 2*h.fleet.LookInterval() {
		return
	}
	if h.fleet.StoodStill(p.Began, p.Length) {
		h.log.Warn("the hub stood still: "+p.Cause(), "for", p.Length.Round(time.Millisecond), "disk", p.Disk.Round(time.Millisecond))
	}
}

// expirePresence publishes that the hub is there. It is not retained: an agent knows
// by it that the hub is there now.
func (h *Hub) expirePresence(now time.Time) {
	if h.views.presence.AliveDue(now) {
		h.pub.Publish(topics.Message{Topic: h.tree.Hub(topics.HubAvailability), Payload: []byte(topics.Online)})
	}
	h.dueUnlessZero(h.views.presence.Next())
}

// expire does what is due, and schedules what is due next.
func (h *Hub) expire(now time.Time) {
	const idle = time.Hour
	h.schedule.wake = now.Add(idle)
	if !h.bus.connected {
		return // silence means nothing while the hub receives nothing
	}
	h.expirePresence(now)
	h.expireFleet(now)
	h.expireAdoption(now)
	h.events.Expire(now)
	h.dueUnlessZero(h.events.Next())
	h.expireLeases(now)
	h.expireRollouts(now)
	h.expireRestarts(now)
	h.expireMoves(now)
	h.expireDevices(now)
	h.expireOverwritten(now)
	h.expireStatuses(now)
	h.expireUsage(now)
	h.expireLeftovers(now)
	h.expireFirmware(now)
	h.expireOwnProblems(now)
}
