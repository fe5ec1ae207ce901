package hub_test

import (
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// What the hub retains for others to rely on is published again when another client
// overwrote it: a tool that clears everything, a late will, a person.
func TestOverwrittenTopicsArePublishedAgain(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(5 * time.Second)
		all := []string{
			h.tree.Hub(topics.HubAvailability), h.tree.Hub(topics.HubStatus),
			h.tree.Service(topics.ServiceStatus, "web"), h.tree.Service(topics.ServiceEndpoints, "web"),
		}
		for _, foreign := range []string{"offline", "", "{}", "[]"} {
			for _, topic := range all {
				was := h.last(topic)
				h.publish(topic, foreign, true)
				time.Sleep(time.Second)
				if got := h.last(topic); got != was {
					h.Errorf("%s stays %q, not %q", topic, got, was)
				}
				time.Sleep(20 * time.Second)
			}
		}
		// What is published the usual way still is, and once.
		h.publish(h.tree.Service(topics.ServiceSet, "lamp"), "OFF", false)
		time.Sleep(5 * time.Second)
		n := h.timesPublished(all[0]) + h.timesPublished(all[1])
		time.Sleep(5 * time.Second)
		if got := h.timesPublished(all[0]) + h.timesPublished(all[1]); got != n || get[topics.Service](h, h.tree.Service(topics.ServiceStatus, "lamp")).Switch != topics.Off {
			h.Errorf("%d messages without a need", got-n)
		}
	})
}

// Two that disagree do not keep the broker busy.
func TestWhoWritesAgainAndAgain(t *testing.T) {
	inHome(t, "", func(h *home) {
		topic := h.tree.Hub(topics.HubAvailability)
		n := h.timesPublished(topic)
		const minutes = 5
		for range minutes * 60 {
			h.publish(topic, topics.Offline, true)
			time.Sleep(time.Second)
		}
		if ours := h.timesPublished(topic) - n - minutes*60; ours < minutes || ours > 20 {
			h.Errorf("it was said again %d times", ours)
		}
		time.Sleep(time.Minute)
		if got := h.last(topic); got != topics.Online {
			h.Errorf("it stays %q", got)
		}
	})
}

// A status that somebody took out of the broker is asked for.
func TestClearedStatusOfADomain(t *testing.T) {
	inHome(t, chain, func(h *home) {
		kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		defer kitchen.leave()
		time.Sleep(5 * time.Second)
		command := h.tree.Domain(topics.DomainCommand, "kitchen")
		for _, foreign := range []string{"", "nonsense"} {
			n := h.timesPublished(command)
			h.publish(h.tree.Domain(topics.DomainStatus, "kitchen"), foreign, true)
			if c := get[topics.Command](h, command); h.timesPublished(command) != n+1 || c.Action != topics.ActionReport {
				h.Errorf("asked %d times, last %+v", h.timesPublished(command)-n, c)
			}
		}
	})
}
