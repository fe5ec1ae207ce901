package e2e

import (
	"slices"
	"strings"
	"testing"
)

// A home gets another topic_prefix and another discovery_prefix: nothing of what it
// had retained below the former ones is left, and its service runs on.
func TestAnotherPrefix(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		kitchen.Install("web")
		services := service("web", `replicas = 1`, healthHTTP)
		home.Configure(services)
		hub, agents, o := home.Up(kitchen)
		o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
		before, starts := home.Journal.AwaitRunning(t, "web@kitchen"), home.Journal.Starts(t)
		below := func(prefix string) (all []string) {
			for topic, m := range home.Observe(prefix + "/#").Retained() {
				if m.Payload != "" {
					all = append(all, topic)
				}
			}
			slices.Sort(all)
			return all
		}
		eventually(t, "Home Assistant is told of it", func() bool { return len(below("homeassistant")) == 3 })
		agents[0].Stop()
		hub.Stop()

		home.WriteHubConfig("topic_prefix = \"house\"\n" + home.hubConfig("\n[homeassistant]\ndiscovery_prefix = \"find/here\"\n"+services))
		kitchen.Configure(nil, "topic_prefix = \"house\"\n")
		home.StartHub()
		kitchen.Start()
		eventually(t, "all is below the new prefixes, and nothing below the former ones", func() bool {
			there := below("house")
			return slices.Contains(there, "house/service/web/endpoint") && slices.Contains(there, "house/domain/kitchen/status") &&
				len(below("find/here")) == 3 && len(below("dominion")) == 0 && len(below("homeassistant")) == 0
		})
		for _, topic := range below("find/here") {
			if !strings.HasPrefix(topic, "find/here/device/dominion_") {
				t.Errorf("%s is no config of ours", topic)
			}
		}
		home.Journal.Undisturbed(t, "with other prefixes", before, starts)
	})
}
