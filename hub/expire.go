package hub

import (
	"time"

	"github.com/jmbarzee/dominion/hub/stall"
	"github.com/jmbarzee/dominion/topics"
)

// stillness is by what the loop notices that it stood still, and why.
type stillness struct {
	waited  time.Duration // for its disk, when the loop last looked at its domains
	read    func() stall.Figures
	figures stall.Figures // as read last
	readAt  time.Time     // at most so long ago as the loop may rest
}

// stoodStill does not take our own standing still (a machine out of memory, or
// one that was paused) for silence of the domains: their heartbeats wait in
// the network until we read them.
func (h *Hub) stoodStill(now time.Time) {
	was := h.looked
	disk := h.store.Waited() - h.still.waited
	h.looked, h.still.waited = now, h.store.Waited()
	still := now.Sub(was)
	before := h.still.figures
	if h.still.read != nil && now.Sub(h.still.readAt) >= h.fleet.LookInterval() {
		h.still.readAt, h.still.figures = now, h.still.read()
	}
	if !h.connected {
		return // it waits for its broker, and heard nobody
	}
	if was.IsZero() || still < 2*h.fleet.LookInterval() {
		return
	}
	if h.fleet.StoodStill(was, still) {
		h.log.Warn("the hub stood still: "+stall.Cause(before, h.still.figures, still, disk), "for", still.Round(time.Millisecond), "disk", disk.Round(time.Millisecond))
	}
}

// expirePresence publishes that the hub is there. It is not retained: an agent knows
// by it that the hub is there now.
func (h *Hub) expirePresence(now time.Time) {
	if h.presence.AliveDue(now) {
		h.pub.Publish(topics.Message{Topic: h.tree.Hub(topics.HubAvailability), Payload: []byte(topics.Online)})
	}
	h.dueUnlessZero(h.presence.Next())
}

// expire does what is due, and says when something is due next.
func (h *Hub) expire(now time.Time) {
	const idle = time.Hour
	h.schedule.wake = now.Add(idle)
	if !h.connected {
		return // silence says nothing while we hear nobody
	}
	h.expirePresence(now)
	h.expireFleet(now)
	h.events.Expire(now)
	h.dueUnlessZero(h.events.Next())
	h.expireLeases(now)
	h.expireRollouts(now)
	h.stepRestarts(now)
	h.expireMoves(now)
	h.expireDevices(now)
	h.expireOverwritten(now)
	h.expireStatuses(now)
	h.expireUsage(now)
	h.expireLeftovers(now)
	h.expireFirmware(now)
	h.expireOwnProblems(now)
}
