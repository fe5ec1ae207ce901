package hub

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// moves are the copies that are to run elsewhere, since somebody had the services
// spread anew: by domain and service, until when. A restart of the hub ends them.
type moves map[string]map[string]time.Time

// moveTime bounds how long a copy waits for its replacement. After that it stays.
const moveTime = 5 * time.Minute

// leaving returns what is to leave a domain, as the planner takes it.
func (m moves) leaving(domain string) map[string]bool {
	if len(m[domain]) == 0 {
		return nil
	}
	all := make(map[string]bool, len(m[domain]))
	for service := range m[domain] {
		all[service] = true
	}
	return all
}

// mayRebalance refuses to spread what the hub does not know yet.
func (h *Hub) mayRebalance() error {
	if !h.fleet.Ready() {
		return errors.New("cannot rebalance: the hub has just started and waits for the known domains; ask again in a moment")
	}
	return nil
}

// orderMoves has copies leave their domains: by service, which.
func (h *Hub) orderMoves(leaving map[string][]string, now time.Time) {
	if len(leaving) == 0 {
		return
	}
	if h.moves == nil {
		h.moves = make(moves)
	}
	for service, domains := range leaving {
		for _, domain := range domains {
			if h.moves[domain] == nil {
				h.moves[domain] = make(map[string]time.Time)
			}
			h.moves[domain][service] = now.Add(moveTime)
			h.touch(domain)
		}
	}
	h.events.Add(topics.Event{Type: topics.ServiceWanted, Message: "the services are spread anew: " + strings.Join(slices.Sorted(maps.Keys(leaving)), ", ") + " move"})
}

// expireMoves ends what has moved, and what could not in time.
func (h *Hub) expireMoves(now time.Time) {
	for domain, services := range h.moves {
		d := h.fleet.Get(domain)
		for service, until := range services {
			there := d != nil && d.State != topics.DomainIsLost && (d.Ordered.Services[service] || d.Instance(service) != nil)
			if there && now.Before(until) {
				h.due(until)
				continue
			}
			delete(services, service)
			h.touch(domain)
		}
		if len(services) == 0 {
			delete(h.moves, domain)
		}
	}
}
