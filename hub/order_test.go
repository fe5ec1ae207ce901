package hub_test

import (
	"testing"
	"testing/synctest"

	"github.com/jmbarzee/dominion/topics"
)

// Brokers keep the order of a topic, not of two: a heartbeat may come before
// the status that was published before it. A domain is ordered nothing by the
// status of yesterday, and one that comes late changes nothing.
func TestStatusIsTheOneTheHeartbeatSpeaksOf(t *testing.T) {
	inHome(t, chain, func(h *home) {
		if reply := h.ask(topics.VerbJoin, `{"id":"id-of-kitchen","name":"kitchen","session":"s"}`); reply.Status != topics.StatusOK {
			h.Fatal(reply.Error)
		}
		say := func(k topics.Kind, v any) {
			payload, bare := v.(string)
			if !bare {
				payload = string(topics.Encode(v))
			}
			h.publish(h.tree.Domain(k, "kitchen"), payload, true)
			synctest.Wait()
		}
		status := func(seq uint64, services ...string) topics.Domain {
			d := topics.Domain{ID: "id-of-kitchen", Name: "kitchen", Protocol: topics.Protocol, Session: "s", Seq: seq, Traits: []string{"lamp"}}
			for _, s := range []string{"lamp", "web", "orchestrator"} {
				d.Catalog = append(d.Catalog, topics.CatalogRow{Service: s, Version: "1.0.0"})
			}
			for _, s := range services {
				d.Services = append(d.Services, topics.Instance{Service: s, State: topics.Running, Health: topics.Healthy, Revision: revision(t, s)})
			}
			return d
		}
		say(topics.DomainStatus, status(1))
		say(topics.DomainHeartbeat, topics.Heartbeat{ID: "id-of-kitchen", Session: "s", Seq: 1, Status: 2})
		say(topics.DomainAvailability, topics.Online)
		if n := h.status().Domains.Online; n != 0 || h.last(h.tree.Domain(topics.DomainServicesSet, "kitchen")) != "" {
			h.Errorf("%d domains are online by an old status, the order is %s", n, h.last(h.tree.Domain(topics.DomainServicesSet, "kitchen")))
		}
		say(topics.DomainStatus, status(2, "web", "orchestrator", "lamp"))
		if n := h.status().Domains.Online; n != 1 || h.where("lamp") != "[kitchen:running]" {
			h.Errorf("%d domains are online, lamp is on %s", n, h.where("lamp"))
		}
		say(topics.DomainStatus, status(1))
		if got := h.where("lamp"); got != "[kitchen:running]" {
			h.Errorf("lamp is on %s after a status came late", got)
		}
	})
}
