package hub

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/internal/nearest"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// scaleTo carries out the verb scale.
func (h *Hub) scaleTo(ask topics.HubRequest) error {
	if ask.Replicas == nil {
		return errors.New(`scale needs "replicas": a number`)
	}
	return h.scale(ask.Service, *ask.Replicas)
}

// serviceSet takes ON, OFF, RESTART, UPDATE, RESET or {"replicas": N}.
func (h *Hub) serviceSet(name string, payload []byte, now time.Time) error {
	switch word := string(bytes.TrimSpace(payload)); word {
	case topics.On, topics.Off:
		return h.switchService(name, word)
	case topics.Restart:
		return h.restart(name, "", now)
	case topics.Update:
		return h.updateService(name)
	case topics.Reset:
		return h.reset(name)
	default:
		topic := h.tree.Service(topics.ServiceSet, name)
		if len(payload) == 0 || payload[0] != '{' {
			return fmt.Errorf(`cannot obey %s: %.40q is none of ON, OFF, RESTART, UPDATE, RESET and {"replicas": N}`, topic, word)
		}
		s, err := topics.Decode[topics.Scale](topic, payload)
		if err != nil {
			return err
		}
		if s.Replicas == nil {
			return fmt.Errorf(`cannot obey %s: "replicas" is missing`, topic)
		}
		return h.scale(name, *s.Replicas)
	}
}

// checkService returns why a request cannot be carried out for a service: it names none, or
// one that is not configured.
func (h *Hub) checkService(service string) error {
	if service == "" {
		return errors.New(`the request needs "service"`)
	}
	if _, ok := h.defs.Configured()[service]; ok {
		return nil
	}
	if !topics.ValidName(service) {
		return fmt.Errorf("%.80q is not a valid service name: use a-z, 0-9 and \"-\", 63 characters at most", service)
	}
	if best := nearest.Find(service, slices.Collect(maps.Keys(h.defs.Configured())), 3); best != "" {
		return fmt.Errorf("there is no service %q; did you mean %q?", service, best)
	}
	return fmt.Errorf("there is no service %q: define it as [services.%s] in dominion.toml", service, service)
}

// switchService switches a service on or off and persists that over restarts of the hub.
func (h *Hub) switchService(name, to string) error {
	if err := h.checkService(name); err != nil {
		return err
	}
	override := to
	if to == topics.On && h.defs.Configured()[name].Priority == services.Required {
		override = "" // as the configuration says
	}
	h.setOverride(name, func(o *planner.Override) { o.Switch = override }, "switched "+to)
	return nil
}

// maxReplicas is far beyond the domains of a home.
const maxReplicas = 10_000

func (h *Hub) scale(name string, n int) error {
	if err := h.checkService(name); err != nil {
		return err
	}
	if n < 0 || n > maxReplicas {
		return fmt.Errorf("cannot run %s on %d domains: use 1 to %d, or 0 for what the configuration says", name, n, maxReplicas)
	}
	if n > 1 && h.defs.Configured()[name].Exclusive {
		return fmt.Errorf("cannot run %s on %d domains: it is exclusive, never two at once", name, n)
	}
	h.setOverride(name, func(o *planner.Override) { o.Replicas = n }, fmt.Sprintf("replicas set to %d", n))
	return nil
}

// reset ends what was switched or scaled by hand.
func (h *Hub) reset(name string) error {
	if err := h.checkService(name); err != nil {
		return err
	}
	h.setOverride(name, func(o *planner.Override) { *o = planner.Override{} }, "as the configuration says again")
	return nil
}

// setOverride changes what users have set for a service, over restarts of the hub, and
// has it planned again. Nothing happens where it is the same as before.
func (h *Hub) setOverride(name string, change func(*planner.Override), what string) {
	before := h.store.Override(name)
	o := before
	change(&o)
	if o == before {
		return
	}
	h.store.Change(func(s *store.State) {
		if o == (planner.Override{}) {
			delete(s.Overrides, name)
		} else {
			s.Overrides[name] = o
		}
	})
	h.save() // before it is answered, unless such changes come too fast
	h.touchService(name)
	h.events.Add(topics.Event{Type: topics.ServiceWanted, Service: name, Message: name + ": " + what})
}

// forgetOverride drops what users have set for a service that is gone.
func (h *Hub) forgetOverride(name string) {
	if h.store.Override(name) == (planner.Override{}) {
		return
	}
	h.store.Change(func(s *store.State) { delete(s.Overrides, name) })
}
