package hub

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// mayRebalance refuses to rebalance before all domains have reported what runs.
func (h *Hub) mayRebalance() error {
	if !h.fleet.Ready() {
		return errors.New("cannot rebalance: the hub has just started and waits for the known domains; ask again in a moment")
	}
	return nil
}

// orderMoves has instances move: by service, the domains that they leave.
func (h *Hub) orderMoves(moving map[string][]string, now time.Time) {
	if len(moving) == 0 {
		return
	}
	for _, domain := range h.ops.moves.Add(moving, now) {
		h.touch(domain)
	}
	h.events.Add(topics.Event{Type: topics.ServiceWanted, Message: "the services are spread anew: " + strings.Join(slices.Sorted(maps.Keys(moving)), ", ") + " move"})
}

// expireMoves ends what has moved, and what could not in time.
func (h *Hub) expireMoves(now time.Time) {
	for _, domain := range h.ops.moves.Expire(h.isOn, now) {
		h.touch(domain)
	}
	h.dueUnlessZero(h.ops.moves.Next())
}

// isOn reports whether a domain that is not lost was ordered a service, or reports it.
func (h *Hub) isOn(service, domain string) bool {
	d := h.fleet.Get(domain)
	return d != nil && d.State != topics.DomainIsLost && (d.Ordered.Services[service] || d.Instance(service) != nil)
}
