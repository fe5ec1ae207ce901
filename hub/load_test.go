package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// What a machine says of its load and memory decides where a service is
// started. What runs is not moved for it, and a load that flickers makes the
// hub say nothing at all.
func TestLoadDecidesWhereAndMovesNothing(t *testing.T) {
	inHome(t, "[services.web]\npriority = \"required\"\nreplicas = 1\n[services.big]\nneeds = { memory = \"3GB\" }\n", func(h *home) {
		for _, name := range []string{"attic", "kitchen"} {
			a := h.agent(name, nil, "web", "big")
			if err := a.join(); err != nil {
				h.Fatal(err)
			}
			defer a.leave()
		}
		says := func(name string, load float64, used int) {
			h.publish("dominion/domain/"+name+"/metrics", fmt.Sprintf(`{"cores":4,"load1":%v,"memory_used":%d000000,"memory_total":2000000000}`, load, used), true)
		}
		says("attic", 3.2, 300)
		says("kitchen", 0.2, 300)
		h.stopAndStart("web")
		if got := h.where("web"); got != "[kitchen:running]" {
			h.Fatalf("web is %s", got)
		}
		const why = "required; it is on kitchen already, which was chosen then: kitchen had less to do (no service, load about 0 on 4 cores) than attic (no service, load about 3 on 4 cores)"
		if got := h.why("web", "kitchen"); got != why {
			h.Errorf("why: %s", got)
		}

		plan, before := string(h.ask(topics.VerbPlan, "").Data), h.others()
		for i := range 100 {
			says("attic", 3.2-float64(i%5)*0.4, 300+i)
			says("kitchen", 4*float64(i%7), 1500+i) // up to overloaded, and moves nothing
			time.Sleep(time.Second)
		}
		if now := h.others(); len(now) != len(before) {
			h.Errorf("a load that changes made the hub say %v", now[len(before):])
		}
		if got := string(h.ask(topics.VerbPlan, "").Data); got != plan {
			h.Errorf("the plan is now %s", got)
		}

		says("attic", 0, 1900)
		says("kitchen", 8, 300)
		h.stopAndStart("web")
		if got := h.where("web"); got != "[kitchen:running]" {
			h.Errorf("attic's memory is nearly full, and web is %s", got)
		}
		if got := h.why("web", "kitchen"); !strings.Contains(got, "kitchen had memory left, that of attic was nearly full") {
			h.Errorf("why: %s", got)
		}
		h.publish("dominion/service/big/set", topics.On, false)
		if got := h.service("big").Reason; !strings.Contains(got, "attic has 2 GB of memory, big needs 3 GB") {
			h.Errorf("big: %s", got)
		}
	})
}

// others are the topics at which something was published, but for heartbeats,
// metrics, questions and answers.
func (h *home) others() (all []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, topic := range h.published {
		if !strings.HasSuffix(topic, "/heartbeat") && !strings.HasSuffix(topic, "/metrics") && !strings.Contains(topic, "/re") {
			all = append(all, topic)
		}
	}
	return all
}
