package hub_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/topics"
)

// A machine that is lost and announces itself, as its password is wrong, is one
// domain with one problem, and so are the services that wait for the same.
func TestOneCauseIsOneProblem(t *testing.T) {
	inHome(t, `
[services.web]
priority = "required"
domains = ["kitchen"]
[services.cam]
priority = "required"
domains = ["kitchen"]
[services.tv]
priority = "required"
replicas = 1
traits = ["atic"]
`, func(h *home) {
		kitchen := h.agent("kitchen", []string{"attic"}, "web", "cam")
		if err := kitchen.join(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		id := h.domain("kitchen").ID
		if h.domain("kitchen").Stale {
			h.Error("what kitchen reports is taken for stale while it is online")
		}
		kitchen.cut()
		time.Sleep(10 * time.Second)
		h.hub.LonelyFound([]hub.Lonely{{Name: "kitchen", ID: id, Address: "10.0.0.2"}})
		time.Sleep(6 * time.Second)
		var o topics.Overview
		if err := json.Unmarshal(h.ask(topics.VerbStatus, "").Data, &o); err != nil {
			h.Fatal(err)
		}
		if d := o.Domains[0]; !d.Stale || len(d.Services) == 0 {
			h.Errorf("what kitchen reported last is shown as if it were so now: %+v", d)
		}
		if len(o.Domains) != 1 || o.Hub.Domains.Lonely != 0 {
			h.Errorf("%d domains, %d lonely", len(o.Domains), o.Hub.Domains.Lonely)
		}
		var ofKitchen []string
		for _, p := range o.Problems {
			if strings.HasPrefix(p, "kitchen") {
				ofKitchen = append(ofKitchen, p)
			}
		}
		if len(ofKitchen) != 1 || !strings.Contains(ofKitchen[0], "is lost, and announces itself and has not joined") {
			h.Errorf("problems of kitchen: %q", ofKitchen)
		}
		if all := strings.Join(o.Problems, "\n"); !strings.Contains(all, "no domain offers the trait `atic` (did you mean `attic`?)") {
			h.Errorf("problems:\n%s", all)
		}
		if len(o.Problems) > 3 {
			h.Errorf("%d problems:\n%s", len(o.Problems), strings.Join(o.Problems, "\n"))
		}
		h.hub.LonelyFound(nil)
	})
}
