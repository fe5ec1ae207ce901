package hub_test

import (
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// The endpoint that was first before a restart of the hub is first after it,
// whichever domain comes back first: who uses it is not sent elsewhere, and of
// two copies where one is too many the one that was offered stays.
func TestHubRestartLeavesTheEndpointsInOrder(t *testing.T) {
	inHome(t, "[services.web]\npriority = \"required\"\nreplicas = 2\n", func(h *home) {
		a, b := h.agent("a", nil, "web"), h.agent("b", nil, "web")
		for _, x := range []*agent{b, a} {
			if err := x.join(); err != nil {
				h.Fatal(err)
			}
			time.Sleep(3 * time.Second)
		}
		first := func() string {
			all := get[[]topics.Endpoint](h, "dominion/service/web/endpoints")
			if len(all) != 2 {
				h.Fatalf("endpoints %v", all)
			}
			return all[0].Domain
		}
		if got := first(); got != "b" {
			h.Fatalf("%s is first", got)
		}
		const status = "dominion/service/web/status"
		h.before = []topics.Message{{Topic: status, Payload: []byte(h.last(status)), Retain: true}}
		a.quit()
		b.quit()
		h.stop()
		<-a.connection().Done()
		<-b.connection().Done()
		h.start()
		for _, x := range []*agent{a, b} {
			if err := x.join(); err != nil {
				h.Fatal(err)
			}
			defer x.leave()
			time.Sleep(2 * time.Second)
		}
		if !h.status().Ready {
			h.Fatal("not settled")
		}
		if got := first(); got != "b" {
			h.Errorf("%s is first after the restart", got)
		}
		h.publish("dominion/service/web/set", `{"replicas":1}`, false)
		time.Sleep(3 * time.Second)
		if got := h.where("web"); got != "[b:running]" {
			h.Errorf("of two the one that was offered must stay: %s", got)
		}
	})
}
